"""Jobs of a worker with a graphics processor: what it makes, and that no rendition fails when it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from config.settings import EncodingSettings, RungSettings
from messaging.jobs import QUEUES
from storage.db.tables import Derivative, Job
from storage.open import Storage
from tests.support import media
from tests.support.graphics import stand_in
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline, Silence, pipeline_settings
from transcode.encoders import ENCODERS, SOFTWARE, Encoder
from workers.runner import Runner
from workers.tasks import TASKS

NVENC = ENCODERS["nvenc"]
MEDIA = {"probe", "examine", "preview", "sound", "chunk", "rendition", "discard"}
LADDER: dict[str, Any] = {"rungs": [RungSettings(height_px=90), RungSettings(height_px=180)]}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("short") / "a.avi"
    media.make_plain(path, seconds=2, fps=5, codec="mpeg4", keyframe_every=5, audio=False)
    return path


def pipeline_of(storage: Storage, folder: Path, ffmpeg: Path | None, **encoding: Any) -> Pipeline:
    settings = pipeline_settings(settings_for(folder, f"sqlite:///{folder / 'test.db'}"))
    chosen = {
        "encoding": EncodingSettings(**LADDER, **encoding),
        "media": settings.media.model_copy(update={"ffmpeg": ffmpeg}),
    }
    return Pipeline(storage, settings.model_copy(update=chosen))


def work(pipeline: Pipeline, encoder: Encoder, only: set[str] = MEDIA) -> None:
    """Do the jobs of these kinds as a worker with this encoder does them; the others wait."""
    runner = Runner(
        pipeline.storage, pipeline.settings, TASKS, QUEUES, Silence(), Silence(), encoder  # type: ignore[arg-type]
    )  # fmt: skip
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.state == "cancelled", Job.kind.in_(only))):
            job.state = "ready"
    pipeline.leave_out(only)
    while runner.look():
        pipeline.leave_out(only)


def encoders_of(pipeline: Pipeline, kind: str) -> list[str]:
    """What the rows of a kind say they were made by, each having all frames where it is whole."""
    with pipeline.storage.database.read() as session:
        rows = list(
            session.scalars(select(Derivative).where(Derivative.kind == kind).order_by(Derivative.id))
        )
    for row in rows:
        assert row.info["encoder"] in row.params["arguments"]
        if kind == "rendition":
            path = pipeline.storage.objects.path(row.store_key)
            assert path is not None
            assert media.frame_numbers(path) == list(range(10))
    return [row.info["encoder"] for row in rows]


def notes_of(pipeline: Pipeline, kind: str) -> list[str | None]:
    with pipeline.storage.database.read() as session:
        done = select(Job).where(Job.kind == kind, Job.state == "done").order_by(Job.id)
        return [job.last_error for job in session.scalars(done)]


def test_a_processor_that_goes_away_costs_time_and_nothing_else(
    sqlite_storage: Storage, tmp_path: Path, footage: Path
) -> None:
    """What was shown of the smallest rung is not promised while it is made anew."""
    ffmpeg, told = stand_in(tmp_path, "lost")
    pipeline = pipeline_of(sqlite_storage, tmp_path, ffmpeg)
    item_id = pipeline.take(footage).item_id
    work(pipeline, NVENC)
    assert encoders_of(pipeline, "rendition") == ["libx264", "libx264"]
    assert notes_of(pipeline, "rendition") == [
        "encoded by software, because nvenc failed: the processor fell off the bus"
    ]
    assert pipeline.flags(item_id) == {"device_missing"}
    asked, lost, again = (line.split() for line in told.read_text().splitlines())
    assert (asked, again[0]) == (["1"], "0")
    assert "growing-90p.json" in lost
    assert "growing-180p.json" not in lost
    assert "growing-90p.json" not in again


def test_a_driver_that_is_not_there_makes_no_rendition_fail(
    sqlite_storage: Storage, tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The FFmpeg of every installation, and no processor it could use."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    pipeline = pipeline_of(sqlite_storage, tmp_path, None)
    pipeline.take(footage)
    work(pipeline, NVENC)
    assert encoders_of(pipeline, "rendition") == ["libx264", "libx264"]
    (note,) = notes_of(pipeline, "rendition")
    assert note is not None
    assert note.startswith("encoded by software, because nvenc failed: ")


def test_chunks_of_one_encoder_are_joined_and_say_which(
    sqlite_storage: Storage, tmp_path: Path, footage: Path
) -> None:
    ffmpeg, told = stand_in(tmp_path)
    pipeline = pipeline_of(sqlite_storage, tmp_path, ffmpeg, chunk_s=1, chunk_above_s=1)
    pipeline.take(footage)
    work(pipeline, NVENC)
    assert encoders_of(pipeline, "rendition") == ["libx264", "h264_nvenc"]
    assert encoders_of(pipeline, "chunk") == ["libx264", "h264_nvenc"] * 2
    # Two chunks, and nothing was encoded whole.
    assert [line[0] for line in told.read_text().splitlines()].count("1") == 2
    assert notes_of(pipeline, "rendition") == [None]


def test_a_recording_whose_encoder_is_gone_is_made_of_chunks_of_software(
    sqlite_storage: Storage, tmp_path: Path, footage: Path
) -> None:
    """One chunk is made by hardware, the other found by a worker that has none: they are not mixed."""
    ffmpeg, _ = stand_in(tmp_path)
    pipeline = pipeline_of(sqlite_storage, tmp_path, ffmpeg, chunk_s=1, chunk_above_s=1)
    pipeline.take(footage)
    work(pipeline, NVENC, {"probe", "examine"})
    runner = Runner(
        pipeline.storage, pipeline.settings, TASKS, QUEUES, Silence(), Silence(), NVENC  # type: ignore[arg-type]
    )  # fmt: skip
    with pipeline.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.kind == "chunk")):
            job.state = "ready"
    assert runner.look()
    work(pipeline, SOFTWARE)
    assert encoders_of(pipeline, "chunk") == ["libx264", "h264_nvenc", *["libx264"] * 4]
    assert encoders_of(pipeline, "rendition") == ["libx264", "libx264"]
    assert sorted(note or "" for note in notes_of(pipeline, "chunk")) == [
        "", "", "", "its recording is encoded by software, because this worker has no nvenc",
    ]  # fmt: skip
    with pipeline.storage.database.read() as session:
        (joined,) = session.scalars(select(Job).where(Job.kind == "rendition"))
        assert "encoder" not in joined.params
