"""When the machine or a file fails a worker: nothing good becomes bad, nothing waits for ever."""

from __future__ import annotations

import errno
import sys
import time
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from evidence.errors import MediaError
from evidence.events import Event
from media import sandbox
from media.run import packaged_ffmpeg
from messaging.jobs import QUEUES
from storage.db import items, jobs
from storage.db.tables import CustodyLeaf, Derivative, Item, Job
from storage.open import Storage
from tests.support import media
from tests.support.clocks import SettableClock
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline, Silence, pipeline_settings
from workers import runner as runner_module
from workers.context import JobContext, Outcome
from workers.runner import Runner, Task
from workers.tasks import TASKS

PLAYABLE = {"probe", "examine", "rendition"}


@pytest.fixture
def pipeline(sqlite_storage: Storage, tmp_path: Path) -> Pipeline:
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}")
    return Pipeline(sqlite_storage, pipeline_settings(settings))


class Heard:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)


def test_progress_is_told_with_the_time_that_is_left(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1, fps=5)
    item_id = pipeline.take(clip).item_id
    with pipeline.storage.database.transaction() as session:
        items.item_by_id(session, pipeline.agency.id, item_id).duration_us = 24 * 3600 * 1_000_000
    cpu_s: list[int] = []

    def half_done(context: JobContext) -> Outcome:
        cpu_s.append(context.limits.cpu_s)
        time.sleep(0.6)
        context.progress(0.5)
        return Outcome(lambda _session, _agency: None)

    heard = Heard()
    tasks = {"probe": half_done, "verify": half_done}
    Runner(pipeline.storage, pipeline.settings, tasks, ("quick",), heard, Silence()).look()  # type: ignore[arg-type]
    (progress,) = [event for event in heard.events if event.what == "progress"]
    assert progress.facts["permille"] == 500
    assert cpu_s == [48 * pipeline.settings.media.child_cpu_s], "a day has more than half an hour has"
    assert progress.facts["remaining_s"] >= 1
    assert jobs.time_left_s(timedelta(seconds=30), 1000) == 0
    assert jobs.time_left_s(timedelta(seconds=30), 10) is None


def with_task(pipeline: Pipeline, kind: str, task: Task) -> Runner:
    """The real runner, one task of which fails as given."""
    tasks = {**TASKS, kind: task}
    return Runner(pipeline.storage, pipeline.settings, tasks, QUEUES, Silence(), Silence())  # type: ignore[arg-type]


def state(pipeline: Pipeline, kind: str) -> Job:
    with pipeline.storage.database.read() as session:
        return session.scalars(select(Job).where(Job.kind == kind).order_by(Job.id.desc())).first()  # type: ignore[return-value]


def run_dry(pipeline: Pipeline, runner: Runner, clock: SettableClock, only: set[str] | None = None) -> None:
    for _ in range(40):
        pipeline.leave_out(only)
        while runner.look():
            pipeline.leave_out(only)
        clock.advance(10)


@pytest.mark.parametrize("number", sorted({errno.ENOSPC, errno.EMFILE, errno.ENOMEM}))
def test_a_full_disk_or_a_poor_machine_is_no_failure_of_the_footage(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock, number: int
) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1, fps=5)
    accepted = pipeline.take(clip)
    times = [0]

    def poor(context: JobContext) -> Outcome:
        times[0] += 1
        if times[0] <= 6:
            raise OSError(number, "no")
        return TASKS["probe"](context)

    run_dry(pipeline, with_task(pipeline, "probe", poor), clock, PLAYABLE)
    assert times[0] > 6
    assert pipeline.item(accepted.item_id).media == "rendered"
    assert state(pipeline, "probe").attempt == 0


def test_a_full_scratch_disk_is_no_failure_of_the_footage(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1, fps=5)
    accepted = pipeline.take(clip)
    real, times = runner_module.scratch_folder, [0]

    def full(root: Path, lease: jobs.Lease) -> Path:
        times[0] += 1
        if times[0] <= 6:
            (root / "blocked").touch()
            return root / "blocked" / "x"
        return real(root, lease)

    monkeypatch.setattr(runner_module, "scratch_folder", full)
    monkeypatch.setattr(runner_module, "SURROUNDINGS", runner_module.SURROUNDINGS | {errno.ENOTDIR})
    run_dry(pipeline, with_task(pipeline, "probe", TASKS["probe"]), clock, PLAYABLE)
    assert times[0] > 6
    assert state(pipeline, "probe").attempt == 0
    assert pipeline.item(accepted.item_id).media == "rendered"


CROWDED_OUT = """#!{python}
import os, sys
for word in sys.argv[1:] if os.path.exists({full!r}) else ():
    if word.endswith("rendition-720p.mp4"):
        os.symlink("/dev/full", word.removeprefix("file:"))
os.execv({ffmpeg!r}, ["ffmpeg", *sys.argv[1:]])
"""


def test_of_rungs_that_found_the_disk_full_none_is_shown(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    """The small rung is whole, the large one finds no place: the job is put back until there is some."""
    full, program = tmp_path / "full", tmp_path / "ffmpeg"
    program.write_text(
        CROWDED_OUT.format(python=sys.executable, full=str(full), ffmpeg=str(packaged_ffmpeg()))
    )
    program.chmod(0o755)
    given = pipeline.settings.media.model_copy(update={"ffmpeg": program})
    pipeline.settings = pipeline.settings.model_copy(update={"media": given})
    clip = tmp_path / "clip.avi"
    media.make_plain(clip, seconds=1, fps=5, codec="mpeg4", width_px=1280, height_px=720)
    accepted = pipeline.take(clip)
    full.touch()
    pipeline.work(only=PLAYABLE)
    job = state(pipeline, "rendition")
    assert (job.state, job.attempt, str(job.last_error).partition(":")[0]) == ("ready", 0, "disk_full")
    assert pipeline.item(accepted.item_id).media == "probed"
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(Derivative)).all() == []
    assert list(pipeline.storage.scratch.iterdir()) == []
    full.unlink()
    clock.advance(10)
    pipeline.work(only=PLAYABLE)
    assert pipeline.item(accepted.item_id).media == "rendered"
    with pipeline.storage.database.read() as session:
        made = session.scalars(select(Derivative)).all()
        assert {row.info["rung"] for row in made} == {"360p", "720p"}


@pytest.mark.parametrize(
    ("entry", "stall_s", "code"),
    [
        ("segfault", 60, "decoder_crashed"),
        ("eat_memory", 60, "decoder_over_memory"),
        ("sleep", 0.5, "decoder_hung"),
    ],
)
def test_footage_that_overcomes_its_decoder_is_unplayable_and_the_worker_lives(
    pipeline: Pipeline, tmp_path: Path, entry: str, stall_s: float, code: str
) -> None:
    given = pipeline.settings.worker.model_copy(update={"max_attempts": 1})
    pipeline.settings = pipeline.settings.model_copy(update={"worker": given})
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    accepted = pipeline.take(tmp_path / "clip.mp4")
    limits = sandbox.Limits(cpu_s=10, memory_bytes=1 << 28, wall_s=120, stall_s=stall_s)

    def hostile(context: JobContext) -> Outcome:
        name = f"tests.unit.media.entries:{entry}"
        request: dict[str, object] = {"pid_file": "pid"}
        sandbox.call(name, request, limits=limits, scratch=context.scratch)
        return TASKS["probe"](context)

    runner = with_task(pipeline, "probe", hostile)
    while runner.look():
        pass
    assert pipeline.item(accepted.item_id).media == "unplayable"
    with pipeline.storage.database.read() as session:
        leaves = session.scalars(select(CustodyLeaf.body).where(CustodyLeaf.action == "item:unplayable"))
        assert code.encode() in leaves.one()
    assert state(pipeline, "verify").state == "done"


def test_a_largest_rung_that_fails_leaves_the_small_one_reviewable(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    clip = tmp_path / "clip.avi"
    media.make_plain(clip, seconds=1, fps=5, codec="mpeg4", width_px=1280, height_px=720)
    accepted = pipeline.take(clip)

    def only_small(context: JobContext) -> Outcome:
        if "720p" in context.lease.params["rungs"]:
            raise MediaError("the decoder crashed", code="decoder_crashed")
        return TASKS["rendition"](context)

    run_dry(pipeline, with_task(pipeline, "rendition", only_small), clock)
    item = pipeline.item(accepted.item_id)
    assert (item.media, item.redaction) == ("rendered", "checked")
    assert "rendition_quarantined" in pipeline.flags(accepted.item_id)
    with pipeline.storage.database.read() as session:
        assert "job:quarantined" in set(session.scalars(select(CustodyLeaf.action)))
        assert len(session.scalars(select(Derivative).where(Derivative.kind == "redacted")).all()) == 1


def test_a_copy_that_differs_is_made_again_as_an_encoding(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    """While the copy is made, the report promises frames that the file has not."""
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1, fps=5)
    accepted = pipeline.take(clip)

    def promise(context: JobContext, frames: int) -> None:
        with context.storage.database.transaction() as session:
            item = session.scalars(select(Item).where(Item.id == accepted.item_id)).one()
            probe = deepcopy(item.probe) or {}
            (video,) = [stream for stream in probe["streams"] if stream["kind"] == "video"]
            for name in ("packet_count", "declared_frame_count"):
                video[name] = video[name] + frames if video[name] is not None else None
            item.probe = probe

    def deceived(context: JobContext) -> Outcome:
        if not context.lease.params["may_copy"]:
            return TASKS["rendition"](context)
        promise(context, 25)
        try:
            return TASKS["rendition"](context)
        finally:
            promise(context, -25)

    run_dry(pipeline, with_task(pipeline, "rendition", deceived), clock, PLAYABLE)
    with pipeline.storage.database.read() as session:
        rows = session.scalars(select(Derivative).where(Derivative.kind == "rendition")).all()
    assert [row.info["rung"] for row in rows] == ["360p"]
    assert pipeline.item(accepted.item_id).media == "rendered"


def test_a_requeued_rendition_makes_an_unplayable_item_playable(
    pipeline: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    clip = tmp_path / "clip.mp4"
    media.make_plain(clip, seconds=1, fps=5)
    accepted = pipeline.take(clip)
    mended = [False]

    def broken(context: JobContext) -> Outcome:
        if not mended[0]:
            raise MediaError("the decoder crashed", code="decoder_crashed")
        return TASKS["rendition"](context)

    runner = with_task(pipeline, "rendition", broken)
    run_dry(pipeline, runner, clock)
    assert pipeline.item(accepted.item_id).media == "unplayable"
    job = state(pipeline, "rendition")
    assert job.state == "quarantined"
    mended[0] = True
    with pipeline.storage.database.transaction() as session:
        jobs.requeue(session, job.agency_id, job.id, clock.now())
    run_dry(pipeline, runner, clock)
    assert (pipeline.item(accepted.item_id).media, pipeline.item(accepted.item_id).redaction) == (
        "rendered",
        "checked",
    )
