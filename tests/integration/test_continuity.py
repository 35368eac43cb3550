"""What breaks off in a recording is found where it is, to the sample, and nothing is found in a sound one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from sqlalchemy import select, text

from cli.main import main
from config.settings import ContinuitySettings, Settings
from evidence.continuity import Fault, Span
from evidence.errors import InvalidInput, NotFound
from evidence.kinds import GapReason
from ingest.interruption import give_reason, read_report
from media.continuity import _Reading, continuity_entry
from media.measures import PictureWatch, small_luma
from media.timing import StreamClock
from storage.db import agencies, custody, jobs
from storage.db.tables import CustodyLeaf, Derivative
from storage.open import found, open_storage
from tests.support import media as footage
from tests.support.clocks import SettableClock
from tests.support.installations import AGENCY, settings_for
from tests.support.pipeline import Pipeline, pipeline_settings
from workers.context import JobContext
from workers.tasks import TASKS

# Shorter than anybody may set the pauses of sound, so that the footage is.
SHORT = ContinuitySettings(sample_ms=100, gap_ms=500, black_ms=500, covered_ms=500, frozen_ms=500).model_copy(
    update={"silence_ms": 500, "dead_ms": 500}
)
SIZE = "s=160x90:r=10"
MOVING = f"testsrc2={SIZE}"
STILL = f"testsrc2={SIZE}:d=0.1,loop=9:1:0,setpts=N/10/TB"


def read(path: Path, *, lead_us: int = 0, **changes: Any) -> dict[str, Any]:
    """The findings about a file, read here: the footage is our own."""
    limits = SHORT.model_copy(update=changes).model_dump()
    return continuity_entry({"path": str(path), "thresholds": limits, "lead_us": lead_us}, lambda _: None)


def spans(found: dict[str, Any]) -> dict[Fault, list[tuple[int, int, float]]]:
    """By kind: from and to in milliseconds, and what was measured."""
    told: dict[Fault, list[tuple[int, int, float]]] = {}
    for span in map(Span.from_json, found["spans"]):
        times = (round(span.from_us / 1000), round(span.to_us / 1000))
        told.setdefault(span.fault, []).append((*times, span.measured))
    return told


def write_scenes(path: Path) -> None:
    """A second each of moving, black, still, covered and moving picture; sound, silence and a dead line."""
    pictures = [
        f"{MOVING}:d=1",
        f"color=black:{SIZE}:d=1",
        STILL,
        f"color=0x603020:{SIZE}:d=1",
        f"{MOVING}:d=1",
    ]
    sounds = ["sine=440:d=1", "sine=440:d=2,volume=-50dB", "anullsrc=r=44100:cl=mono:d=2"]
    inputs = [part for source in (*pictures, *sounds) for part in ("-f", "lavfi", "-i", source)]
    joined = "[0][1][2][3][4]concat=n=5[v];[5][6][7]concat=n=3:v=0:a=1[a]"
    coding = ("-c:v", "libx264", "-qp", 10, "-g", 10, "-c:a", "pcm_s16le")
    footage.ffmpeg(*inputs, "-filter_complex", joined, "-map", "[v]", "-map", "[a]", *coding, path)


def test_black_still_covered_silent_and_dead_are_told_apart(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes.mkv")
    found = read(tmp_path / "scenes.mkv")
    told = spans(found)
    assert set(told) == {Fault.BLACK, Fault.FROZEN, Fault.COVERED, Fault.SILENCE, Fault.DEAD_MICROPHONE}
    assert told[Fault.BLACK] == [(1000, 2000, 100.0)]
    assert [span[:2] for span in told[Fault.FROZEN]] == [(2000, 3000), (3000, 4000)]
    ((begin, end, contrast),) = told[Fault.COVERED]
    assert (begin, end) == (3000, 4000)
    assert contrast < 5
    ((begin, end, level),) = told[Fault.SILENCE]
    assert (abs(begin - 1000) < 100, end, -90 < level < -60) == (True, 5000, True)
    ((begin, end, level),) = told[Fault.DEAD_MICROPHONE]
    assert (abs(begin - 3000) < 100, abs(end - 5000) < 100, level) == (True, True, -144.0)
    assert [scene["ms"] for scene in found["scenes"]] == [1000, 2000, 3000, 4000]
    assert found["time_base"] == "1/1000"
    assert [scene["pts"] for scene in found["scenes"]] == [1000, 2000, 3000, 4000]


def test_a_sound_recording_has_no_breaks_in_any_container(tmp_path: Path) -> None:
    for name, options in (("a.mp4", {"b_frames": True}), ("b.ts", {}), ("c.avi", {"codec": "mjpeg"})):
        footage.make_plain(tmp_path / name, seconds=2, fps=10, **options)
        found = read(tmp_path / name)
        assert (name, found["spans"], found["frame_count"]) == (name, [], 20)
        assert (found["is_whole"], found["undecodable_count"]) == (True, 0)


def test_noise_of_a_sensor_tells_a_still_scene_from_a_frozen_picture(tmp_path: Path) -> None:
    for name, noise, is_frozen in (
        ("live.mp4", "noise=alls=6:allf=t", False),
        ("frozen.mp4", "noise=alls=6", True),
    ):
        scene = f"testsrc2=s=320x180:r=10:d=0.1,loop=29:1:0,setpts=N/10/TB,{noise}"
        if is_frozen:
            scene = f"testsrc2=s=320x180:r=10:d=0.1,{noise},loop=29:1:0,setpts=N/10/TB"
        footage.ffmpeg("-f", "lavfi", "-i", scene, "-c:v", "libx264", "-crf", 23, "-g", 10, tmp_path / name)
        assert (Fault.FROZEN in spans(read(tmp_path / name))) == is_frozen


def test_dropped_frames_and_gaps_are_told_by_the_streams_own_cadence(tmp_path: Path) -> None:
    left_out = "not(between(n,10,11))*not(between(n,14,14))*not(between(n,30,39))"
    footage.ffmpeg(
        "-f", "lavfi", "-i", f"{MOVING}:d=6", "-vf", f"select='{left_out}'", "-fps_mode", "passthrough",
        "-c:v", "libx264", "-bf", 2, tmp_path / "holes.mkv",
    )  # fmt: skip
    told = spans(read(tmp_path / "holes.mkv"))
    assert told == {
        Fault.DROPPED_FRAMES: [(1000, 1500, 3.0)],
        Fault.PICTURE_GAP: [(3000, 4000, 1000.0)],
    }


def test_sound_that_begins_before_the_picture_is_media_time_zero(tmp_path: Path) -> None:
    footage.ffmpeg(
        "-f", "lavfi", "-i", f"{MOVING}:d=4", "-f", "lavfi", "-i", "sine=440:d=6", "-vf",
        "select='not(between(t,1,2))',setpts=PTS+2/TB", "-fps_mode", "passthrough", "-c:v", "libx264",
        "-c:a", "aac", tmp_path / "late.mkv",
    )  # fmt: skip
    report = footage.probe(tmp_path / "late.mkv", tmp_path)
    found = read(tmp_path / "late.mkv", lead_us=report.lead_us)
    assert (found["duration_us"], report.lead_us > 2_000_000) == (report.duration_us, True)
    # AAC begins a little before.
    gaps = [(round(begin, -2), round(end, -2)) for begin, end, _ in spans(found)[Fault.PICTURE_GAP]]
    assert gaps == [(0, 2000), (3000, 4100)]
    assert abs(found["duration_us"] - 6_000_000) < 50_000


def test_sound_that_ends_before_the_picture_or_stops_between_is_a_gap(tmp_path: Path) -> None:
    footage.ffmpeg(
        "-f", "lavfi", "-i", f"{MOVING}:d=4", "-f", "lavfi", "-i", "sine=440:d=3",
        "-af", "aselect='not(between(t,1,2))'", "-c:v", "libx264", "-c:a", "aac", tmp_path / "torn.mkv",
    )  # fmt: skip
    ((begin, end, measured), last) = spans(read(tmp_path / "torn.mkv"))[Fault.SOUND_GAP]
    assert (abs(begin - 1000) < 60, abs(end - 2000) < 60, abs(measured - 1000) < 80) == (True, True, True)
    assert abs(last[0] - 3000) < 60
    assert last[1] == 3900


@pytest.mark.parametrize(
    ("offset_s", "fault", "leap_ms"), [(0, Fault.CLOCK_RESTART, -1000), (60, Fault.CLOCK_JUMP, 59_000)]
)
def test_a_leap_of_the_clock_is_told_and_takes_no_time(
    tmp_path: Path, offset_s: int, fault: Fault, leap_ms: int
) -> None:
    coding = ("-c:v", "libx264", "-bf", 0, "-f", "mpegts", "-muxdelay", 0)
    for name, offset in (("a.ts", 0), ("b.ts", offset_s)):
        footage.ffmpeg(
            "-f", "lavfi", "-i", f"{MOVING}:d=1", *coding, "-output_ts_offset", offset, tmp_path / name
        )
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    found = read(both)
    assert spans(found) == {fault: [(1000, 1000, leap_ms)]}
    assert (found["duration_us"], found["frame_count"]) == (2_000_000, 20)


@pytest.mark.parametrize("reordered", [0, 2])
def test_one_picture_out_of_all_time_is_told_and_hides_nothing_after_it(
    tmp_path: Path, reordered: int
) -> None:
    plain, wild = tmp_path / "plain.mp4", tmp_path / "wild.mov"
    inputs = ("-f", "lavfi", "-i", f"{MOVING}:d=1", "-f", "lavfi", "-i", f"color=black:{SIZE}:d=2")
    joined = ("-filter_complex", "[0][1]concat", "-c:v", "libx264", "-bf", reordered)
    footage.ffmpeg(*inputs, *joined, plain)
    with av.open(str(plain)) as source, av.open(str(wild), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if packet.dts is not None and packet.pts is not None:
                packet.pts += int(3600 / stream.time_base) if number == 5 else 0
                packet.stream = copied
                target.mux(packet)
    found = read(wild)
    told = spans(found)
    ((at, _, leap_ms),) = told.pop(Fault.CLOCK_JUMP)
    assert abs(at - 500) <= 200
    assert abs(leap_ms - 3_600_000) <= 200, "less what reordering hides"
    assert [span[:2] for span in told.pop(Fault.BLACK)] == [(1000, 3000)]
    assert Fault.PICTURE_GAP not in told
    assert found["duration_us"] == 3_000_000
    report = footage.probe(wild, tmp_path)
    assert report.video is not None
    assert (report.duration_us, report.video.jump_count) == (3_000_000, 1)
    assert report.has_flag("timestamps_jump")


@pytest.mark.parametrize("leap_s", [3600, -3600])
def test_pictures_are_looked_at_again_after_one_whose_time_nothing_bounds(leap_s: int) -> None:
    watch = PictureWatch(SHORT.model_dump(), Fraction(1, 10))
    dark = np.zeros((18, 32), np.uint8)
    for at in (*range(10), 10 + leap_s * 10, *range(11, 31)):
        frame = av.VideoFrame.from_ndarray(dark, format="gray")
        frame.pts = at
        watch.see(frame)
    found = [(one.fault, one.begin, one.end) for one in watch.end(Fraction(36_000 * 10 + 31, 10))]
    assert found == [
        (Fault.BLACK, 0, Fraction(9, 10)),
        (Fault.BLACK, Fraction(11, 10), 3),
    ], "nothing between, and nothing as far as a wild end"


def test_no_more_spans_of_a_kind_are_listed_than_can_be_read_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.continuity.MAX_SPANS", 1)
    write_scenes(tmp_path / "scenes.mkv")
    found = read(tmp_path / "scenes.mkv")
    assert len(spans(found)[Fault.FROZEN]) == 1
    assert found["counts"]["frozen"] == 2


def test_damaged_footage_has_a_report_as_far_as_it_goes(tmp_path: Path) -> None:
    footage.make_plain(tmp_path / "cut.ts", seconds=2, fps=10)
    footage.overwrite_middle(tmp_path / "cut.ts")
    footage.cut_off(tmp_path / "cut.ts", 0.9)
    found = read(tmp_path / "cut.ts")
    assert 0 < found["frame_count"] < 20
    assert 0 < found["duration_us"] <= 2_000_000


def test_a_sound_that_is_promised_and_never_comes_is_missing_from_first_to_last(tmp_path: Path) -> None:
    footage.ffmpeg(
        "-f", "lavfi", "-i", f"{MOVING}:d=2", "-f", "lavfi", "-i", "anullsrc=d=2", "-t", 2,
        "-c:v", "libx264", "-c:a", "aac", "-output_ts_offset", 5, tmp_path / "whole.mkv",
    )  # fmt: skip
    clock = StreamClock(Fraction(1, 1000))
    assert clock.missing(gap=Fraction(1), step_percent=180, by_length=True) == ([], [])
    with av.open(str(tmp_path / "whole.mkv")) as container:
        reading = _Reading(SHORT.model_dump(), container.streams.video[0], container.streams.audio[0])
        for packet in container.demux(video=0):
            if packet.size:
                reading.clocks[0].take(packet)
        found = reading.result()
    assert spans(found) == {Fault.SOUND_GAP: [(0, 1900, 1900.0)]}


def test_one_scaler_serves_pictures_whose_size_and_kind_change_on_the_way() -> None:
    chance = np.random.default_rng(1)
    kinds = [(320, 180, "yuv420p"), (640, 480, "yuv420p"), (320, 180, "yuv444p10le"), (176, 144, "rgb24")]
    pictures = []
    for width, height, kind in kinds * 2:
        drawn = chance.integers(0, 255, (height, width, 3), np.uint8)
        pictures.append(av.VideoFrame.from_ndarray(drawn, "rgb24").reformat(format=kind))
    watch = PictureWatch(SHORT.model_dump(), Fraction(1, 10))
    for number, picture in enumerate(pictures):
        picture.pts = number
        watch.see(picture)
        assert watch._still is not None
        assert np.array_equal(watch._still, small_luma(picture, VideoReformatter()))


# --- the job, the report and the reasons ------------------------------------------------------

READING = {"probe", "examine", "rendition", "continuity"}


def settings_in(folder: Path) -> Settings:
    settings = settings_for(folder, f"sqlite:///{folder / 'test.db'}")
    return pipeline_settings(settings.model_copy(update={"continuity": SHORT}))


@pytest.fixture(scope="module")
def read_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, UUID]:
    """An installation, closed, with an item whose continuity report is made."""
    folder = tmp_path_factory.mktemp("read")
    clock = SettableClock()
    storage = replace(found(settings_in(folder), AGENCY, clock), clock=clock)
    pipeline = Pipeline(storage, settings_in(folder))
    write_scenes(folder / "scenes.mkv")
    accepted = pipeline.take(folder / "scenes.mkv", captured_from="2026-03-01T08:00:00Z")
    pipeline.work(only=READING)
    storage.database.dispose()
    return folder, accepted.item_id


@pytest.fixture
def reported(read_once: tuple[Path, UUID], tmp_path: Path) -> Iterator[tuple[Pipeline, UUID]]:
    """A copy of it for the test alone."""
    shutil.copytree(read_once[0], tmp_path, dirs_exist_ok=True)
    storage = replace(open_storage(settings_in(tmp_path)), clock=SettableClock())
    yield Pipeline(storage, settings_in(tmp_path)), read_once[1]
    storage.database.dispose()


def test_a_reason_stands_beside_its_span_for_ever(reported: tuple[Pipeline, UUID]) -> None:
    pipeline, item_id = reported
    storage = pipeline.storage
    with storage.database.read() as session:
        report = read_report(session, storage.objects, pipeline.agency.id, item_id)
        kinds = {row.kind: row for row in session.scalars(select(Derivative))}
    assert report.facts["schema"] == "liuhen-continuity/1"
    assert report.facts["thresholds"]["black_ms"] == 500
    assert not kinds["continuity"].masked
    assert not kinds["scenes"].masked
    assert kinds["continuity"].info["counts"] == report.facts["counts"]
    black = next(span for span in report.spans if span.fault is Fault.BLACK)

    def explain(key: tuple[Fault, int, int], statement: str) -> None:
        with storage.database.transaction() as session:
            agency = agencies.agency_by_id(session, pipeline.agency.id)
            give_reason(
                session, agency, read_report(session, storage.objects, agency.id, item_id), key,
                GapReason.EMERGENCY, statement, actor="operator:0", now=storage.clock.now(),
            )  # fmt: skip

    explain(black.key, "救人,镜头朝地")
    explain(black.key, "补充:为时一秒")
    with pytest.raises(NotFound) as unknown:
        explain((Fault.BLACK, black.from_us, black.to_us + 1), "别处")
    assert unknown.value.code == "span_unknown"
    with pytest.raises(InvalidInput) as empty:
        explain(black.key, " ")
    assert empty.value.code == "reason_invalid"
    with storage.database.read() as session:
        report = read_report(session, storage.objects, pipeline.agency.id, item_id)
        assert [row.statement for row in report.reasons[black.key]] == ["救人,镜头朝地", "补充:为时一秒"]
        leaves = custody.leaves_about(session, pipeline.agency.id, str(item_id))
        bodies = [json.loads(leaf.body or b"") for leaf in leaves]
    given = [body for body in bodies if body["action"] == "item:interruption_reason"]
    assert [body["facts"]["fault"] for body in given] == ["black", "black"]
    assert "救人" not in json.dumps(given, ensure_ascii=False)


def test_a_report_made_again_takes_nothing_away_from_what_was_said(reported: tuple[Pipeline, UUID]) -> None:
    pipeline, item_id = reported
    sqlite_storage = pipeline.storage
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, pipeline.agency.id)
        report = read_report(session, sqlite_storage.objects, agency.id, item_id)
        for span in report.spans:
            give_reason(
                session, agency, report, span.key, GapReason.OTHER, "说明", actor="operator:0",
                now=sqlite_storage.clock.now(),
            )  # fmt: skip
    lenient = SHORT.model_copy(update={"black_ms": 1500})
    again = Pipeline(sqlite_storage, pipeline.settings.model_copy(update={"continuity": lenient}))
    sqlite_storage.clock.advance(60)  # type: ignore[attr-defined]
    with sqlite_storage.database.transaction() as session:
        session.execute(text("UPDATE job SET state = 'ready' WHERE kind = 'continuity'"))
    again.work(only={"continuity"})
    with sqlite_storage.database.read() as session:
        report = read_report(session, sqlite_storage.objects, pipeline.agency.id, item_id)
        assert Fault.BLACK not in {span.fault for span in report.spans}
        assert [row.fault for row in report.others] == ["black"]
        assert all(len(said) == 1 for said in report.reasons.values())
        assert session.scalars(select(CustodyLeaf.action)).all().count("item:interruption_reason") == 6


def test_commands_list_the_spans_and_take_a_reason(
    reported: tuple[Pipeline, UUID], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, item_id = reported
    data = ("--data", str(tmp_path / "data"), "--set", f"database.url=sqlite:///{tmp_path / 'test.db'}")
    assert main(["item", "continuity", str(item_id), "--json", *data]) == 0
    told = json.loads(capsys.readouterr().out)
    black = next(span for span in told["spans"] if span["kind"] == "black")
    words = ("black", str(black["from_us"]), str(black["to_us"]), "emergency", "救人")
    assert main(["item", "reason", str(item_id), *words, *data]) == 0
    capsys.readouterr()
    assert main(["item", "continuity", str(item_id), *data]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("black")]
    assert "2026-03-01 16:00:01" in line
    assert line.endswith("emergency: 救人")


def test_nothing_is_kept_of_a_rendition_that_was_withdrawn_or_made_anew_meanwhile(
    reported: tuple[Pipeline, UUID], tmp_path: Path
) -> None:
    pipeline, _ = reported
    storage = pipeline.storage
    with storage.database.transaction() as session:
        session.execute(text("UPDATE job SET state = 'ready' WHERE kind = 'waveform'"))
    with storage.database.transaction() as session:
        lease = jobs.take_next_lease(session, ("media",), "test", storage.clock.now(), timedelta(seconds=30))
    assert lease is not None
    context = JobContext(
        lease, pipeline.agency, storage, pipeline.settings, tmp_path, lambda _: None, lambda: False
    )
    outcome = TASKS["waveform"](context)
    rendition = select(Derivative).where(Derivative.kind == "rendition")
    made = select(Derivative).where(Derivative.kind == "waveform")
    for change in (
        {"sha256": bytes(32)},
        {"sha256": lease.input_digest, "withdrawn_at": storage.clock.now()},
    ):
        with storage.database.transaction() as session:
            row = session.scalars(rendition).one()
            for name, value in change.items():
                setattr(row, name, value)
        with storage.database.transaction() as session:
            outcome.commit(session, pipeline.agency)
            assert session.scalars(made).all() == []
    with storage.database.transaction() as session:
        session.scalars(rendition).one().withdrawn_at = None
    with storage.database.transaction() as session:
        outcome.commit(session, pipeline.agency)
        assert not session.scalars(made).one().masked
