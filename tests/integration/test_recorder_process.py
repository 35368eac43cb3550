"""A recorder's process with real footage: what is on the disk after its end, its death, and a power cut."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import pytest

from ingest.recorder.places import nobodys, room_folder, runs_of, take_up_before
from ingest.recorder.process import Ended, Started, ask_to_end, end_all, is_recording, start
from ingest.recorder.salvage import salvage
from ingest.recorder.stream import Finished, Phase, StreamRecorder
from media.live import recording
from media.live.journal import LOCK, NAME, read
from media.live.opening import Address, Source, opened
from media.live.recording import Bounds, Recording, boot_id
from media.run import packaged_ffmpeg
from tests.support.media import frame_numbers, make_plain

FRAME_S = 1 / 25


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("played") / "played.mp4"
    make_plain(path, seconds=6)
    return path


@pytest.fixture
def begun(tmp_path: Path, footage: Path) -> Iterator[Any]:
    started: list[Started] = []

    def begin(url: str = f"file://{footage}", into: str = "stream", **bounds: Any) -> Started:
        kept = Bounds(**{"floor_bytes": 1, **bounds})
        started.append(start(tmp_path / into, Address(url), kept, packaged_ffmpeg()))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in read(folder)[0] if line["kind"] == kind]


def wait_for(folder: Path, kind: str, count: int = 1, patience_s: float = 20) -> list[dict[str, Any]]:
    until = time.monotonic() + patience_s
    while len(found := lines(folder, kind)) < count:
        assert time.monotonic() < until, f"no {kind}: {(folder / NAME).read_text()}"
        time.sleep(0.02)
    return found


def shown(folder: Path, names: list[str]) -> list[int | None]:
    return [number for name in names for number in frame_numbers(folder / name)]


def test_files_follow_each_other_without_a_frame_lost_or_doubled(begun: Any, footage: Path) -> None:
    run = begun(file_s=1.0)
    assert run.process.wait(30) == 0
    closed = lines(run.folder, "closed")
    assert len(closed) >= 3
    assert shown(run.folder, [line["name"] for line in closed]) == frame_numbers(footage)
    assert sum(line["pictures"] for line in closed) == len(frame_numbers(footage))
    for line in closed:
        data = (run.folder / line["name"]).read_bytes()
        assert (len(data), sha256(data).hexdigest()) == (line["size_bytes"], line["sha256"])
        assert line["to_utc_us"] - line["from_utc_us"] == pytest.approx(line["duration_us"], abs=20_000)
    for before, after in pairwise(closed):
        assert after["from_utc_us"] == pytest.approx(before["to_utc_us"], abs=100_000)
    assert lines(run.folder, "ended")[0]["why"] == "source_ended"
    assert abs(closed[0]["from_utc_us"] / 1e6 - time.time()) < 60
    assert not is_recording(run.folder)


def test_a_step_of_the_clock_ends_the_file_and_the_next_goes_by_the_clock(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set back by ten minutes: no frame is lost, and wall times are those of sessions again."""
    at_once, readings = recording._clocks, list[int]()

    def clocks() -> tuple[int, int]:
        utc_us, monotonic_us = at_once()
        readings.append(utc_us)
        if len(lines(tmp_path, "file")) >= 2:
            recorder.stop()
        return utc_us - 600_000_000 * bool(lines(tmp_path, "file")), monotonic_us

    monkeypatch.setattr(recording, "_clocks", clocks)
    source, bounds = Address(f"file://{footage}"), Bounds(floor_bytes=1, sync_every_s=0.1)
    recorder = recording.Recording(tmp_path, lambda tell: opened(source, packaged_ffmpeg(), tell), bounds)
    assert recorder.run() == "stopped"
    (step,) = lines(tmp_path, "turn")
    assert (step["turn"], step["by_us"]) == ("host_step", pytest.approx(-600_000_000, abs=100_000))
    before, after = lines(tmp_path, "closed")
    assert after["from_utc_us"] == pytest.approx(before["to_utc_us"] - 600_000_000, abs=200_000)
    assert before["from_utc_us"] == pytest.approx(readings[0], abs=2_000_000)
    numbers = shown(tmp_path, [before["name"], after["name"]])
    assert numbers == list(range(len(numbers)))


def test_asked_to_end_it_ends_the_file_in_order(begun: Any) -> None:
    run = begun()
    wait_for(run.folder, "mark", 2)
    assert is_recording(run.folder)
    ask_to_end(run.folder)
    assert run.process.wait(10) == 0
    (closed,) = lines(run.folder, "closed")
    assert closed["why"] == "ended"
    assert frame_numbers(run.folder / closed["name"]) == list(range(closed["pictures"]))
    assert salvage(run.folder).salvaged == ()


def test_all_of_a_host_are_ended_and_one_that_hangs_by_force(begun: Any, tmp_path: Path) -> None:
    here, agency, other = tmp_path / "recorder", UUID(int=1), UUID(int=2)
    good, hangs = begun(into=f"recorder/{agency.hex}/R1/main"), begun(into="recorder/R2/main")
    wait_for(good.folder, "mark")
    wait_for(hangs.folder, "mark")
    assert end_all(runs_of(here, other, "R1")) == Ended(0, 0, ())
    assert end_all(runs_of(here, agency, "R1"), 10) == Ended(1, 0, ())
    assert lines(good.folder, "closed")[0]["why"] == "ended"
    os.kill(hangs.process.pid, signal.SIGSTOP)
    assert is_recording(hangs.folder)
    assert end_all(runs_of(here), patience_s=0.3) == Ended(1, 1, ())
    assert not is_recording(hangs.folder)


def test_what_was_recorded_before_agencies_had_folders_is_one_agency_s_or_nobody_s(tmp_path: Path) -> None:
    one, two = UUID(int=1), UUID(int=2)
    take_up_before(tmp_path, one, "R1")
    assert (list(tmp_path.iterdir()), nobodys(tmp_path, "R1")) == ([], [])
    run = tmp_path / "R1" / "main" / "run"
    run.mkdir(parents=True)
    (run / LOCK).touch()
    assert nobodys(tmp_path, "R1") == [run]
    assert list(runs_of(tmp_path, two, "R1")) == [run]
    for _ in range(2):
        take_up_before(tmp_path, one, "R1")
    assert (room_folder(tmp_path, one, "R1") / "main" / "run" / LOCK).exists()
    assert nobodys(tmp_path, "R1") == []
    # Known by two names, it is one run, and of one agency.
    assert [list(runs_of(tmp_path, *of)) for of in ((), (one, "R1"), (two, "R1"))] == [[run], [run], []]


def test_a_number_that_is_somebody_elses_by_now_gets_no_signal(tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / LOCK).touch()
    (dead / NAME).write_text(json.dumps({"kind": "begun", "pid": os.getpid()}) + "\n")
    ask_to_end(dead, signal.SIGKILL)
    assert end_all([dead]) == Ended(0, 0, ())


def test_a_file_that_a_jump_ended_keeps_the_wall_time_of_its_own_run(tmp_path: Path, footage: Path) -> None:
    opened = av.open(str(footage))

    def leaps(*streams: Any) -> Iterator[Any]:
        """Three seconds in, the source's clock is an hour ahead; before its end it stands still."""
        is_still = False
        for packet in opened.demux(*streams):
            if packet.dts is not None and packet.dts * packet.time_base >= 5.9 and not is_still:
                is_still = not time.sleep(0.6)
            if packet.dts is not None and packet.dts * packet.time_base >= 3:
                ahead = int(3600 / packet.time_base)
                packet.dts, packet.pts = packet.dts + ahead, packet.pts + ahead
            yield packet

    assert Recording(tmp_path, lambda _: Source(opened.streams, leaps), Bounds(floor_bytes=1)).run()
    (begun,) = lines(tmp_path, "begun")
    files = lines(tmp_path, "closed")
    assert [line["why"] for line in files][:1] == ["run"] and len(files) > 1
    for line in files:
        assert abs(line["to_utc_us"] - begun["utc_us"]) < 60_000_000
    assert files[0]["open_us"] < 400_000 < files[-1]["open_us"]


def test_killed_it_loses_half_a_second_at_most_and_it_can_be_salvaged_twice(begun: Any) -> None:
    run = begun()
    wait_for(run.folder, "mark", 3)
    began_us = lines(run.folder, "file")[0]["monotonic_us"]
    os.kill(run.process.pid, signal.SIGKILL)
    received_s = (time.monotonic_ns() // 1000 - began_us) / 1e6
    run.process.wait()
    assert not is_recording(run.folder)
    left = salvage(run.folder)
    assert left.salvaged == ("000000.mp4",)
    (closed,) = lines(run.folder, "closed")
    numbers = frame_numbers(run.folder / "000000.mp4")
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == closed["pictures"]
    assert received_s - len(numbers) * FRAME_S <= 0.6
    assert closed["sha256"] == sha256((run.folder / "000000.mp4").read_bytes()).hexdigest()
    assert closed["why"] == "salvaged"
    assert closed["to_utc_us"] - closed["from_utc_us"] == pytest.approx(len(numbers) * FRAME_S * 1e6, abs=2e4)
    assert salvage(run.folder).salvaged == ()
    assert len(lines(run.folder, "closed")) == 1
    # The power went between the name and the line that says so, of which a piece was written.
    journal = run.folder / NAME
    said = journal.read_bytes()
    journal.write_bytes(said[: said.index(b'{"kind":"closed"') + 9])
    assert lines(run.folder, "closed") == []
    assert salvage(run.folder).salvaged == ("000000.mp4",)
    (again,) = lines(run.folder, "closed")
    assert (again["sha256"], again["pictures"]) == (closed["sha256"], closed["pictures"])
    # Footage of which nothing is known is nobody's to remove.
    (run.folder / "000009.mp4.part").write_bytes(b"footage")
    with pytest.raises(OSError, match=r"expected the journal to tell of 000009\.mp4\.part"):
        salvage(run.folder)
    assert (run.folder / "000009.mp4.part").exists()


def test_a_zeroed_tail_after_a_power_cut_is_cut_off(begun: Any, tmp_path: Path) -> None:
    run = begun()
    wait_for(run.folder, "mark", 3)
    part = run.folder / "000000.mp4.part"
    while lines(run.folder, "mark")[-1]["synced_bytes"] == part.stat().st_size:
        time.sleep(0.02)
    run.process.kill()
    run.process.wait()
    synced = lines(run.folder, "mark")[-1]["synced_bytes"]
    # Another boot, and what was not synced came back as zeroes of the right length.
    journal = (run.folder / NAME).read_text()
    boot = lines(run.folder, "begun")[0]["boot"]
    (run.folder / NAME).write_text(journal.replace(boot, "another-boot"))
    size = part.stat().st_size
    with part.open("r+b") as file:
        file.truncate(synced)
        file.truncate(size + 9000)
    assert salvage(run.folder).cut_bytes == size + 9000 - synced
    (closed,) = lines(run.folder, "closed")
    assert closed["size_bytes"] == synced
    numbers = frame_numbers(run.folder / "000000.mp4")
    assert numbers == list(range(len(numbers))) and len(numbers) >= 25


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_what_has_no_fragments_is_as_long_as_its_journal_knows_it_to_be(tmp_path: Path, suffix: str) -> None:
    container = {"mkv": "matroska", "ts": "mpegts"}[suffix]
    name = f"000000.{suffix}"
    said: list[dict[str, Any]] = [
        {"kind": "begun", "boot": boot_id()},
        {"kind": "file", "file": 0, "name": name, "container": container, "run": 0, "arrived_utc_us": 5_000},
        # The source stood still for two seconds.
        {"kind": "mark", "file": 0, "synced_bytes": 100, "end_us": 900_000, "pictures": 22,
         "open_us": 0, "silent_us": 40_000, "from_utc_us": 4_000, "to_utc_us": 2_904_000},
        # What was told last may be in the muxer still: nothing was written behind it.
        {"kind": "mark", "file": 0, "synced_bytes": 200, "end_us": 1_900_000, "pictures": 47,
         "open_us": 300_000, "silent_us": 700_000, "from_utc_us": 4_000, "to_utc_us": 3_904_000},
    ]  # fmt: skip

    def facts(marks: int, size: int) -> list[int]:
        folder = tmp_path / f"{marks}-{size}"
        folder.mkdir()
        (folder / NAME).write_text("".join(json.dumps(line) + "\n" for line in said[: 2 + marks]))
        (folder / f"{name}.part").write_bytes(b"f" * size)
        assert salvage(folder).salvaged == (name,)
        (closed,) = lines(folder, "closed")
        return [closed[each] for each in ("duration_us", "pictures", "from_utc_us", "to_utc_us", "open_us")]

    assert facts(2, 200) == [900_000, 22, 4_000, 2_904_000, 1_000_000]
    assert facts(2, 201) == [1_900_000, 47, 4_000, 3_904_000, 1_000_000]
    assert facts(0, 50) == [0, 0, 5_000, 5_000, 0]


def test_where_nothing_was_written_nothing_is_kept(begun: Any, tmp_path: Path) -> None:
    folder = tmp_path / "dead"
    folder.mkdir()
    (folder / NAME).write_text(
        json.dumps({"kind": "begun", "boot": "x"})
        + "\n"
        + json.dumps({"kind": "file", "file": 0, "name": "000000.mp4", "container": "mp4", "run": 0})
        + "\n"
        + '{"kind": "cut'
    )
    (folder / "000000.mp4.part").write_bytes(b"\0" * 5000)
    (folder / "000009.mp4.part").touch()
    assert salvage(folder).salvaged == ()
    assert [path.name for path in folder.iterdir()] == [NAME]


def test_a_source_that_is_not_there_is_told_without_its_password(begun: Any) -> None:
    run = begun("rtsp://officer:hunter2@127.0.0.1:9/room")
    assert run.process.wait(30) == 0
    (ended,) = lines(run.folder, "ended")
    assert "refused" in ended["why"].lower()
    assert b"hunter2" not in b"".join(path.read_bytes() for path in run.folder.iterdir())
    assert lines(run.folder, "file") == []


def test_a_full_disk_ends_it_with_what_there_is(begun: Any) -> None:
    run = begun(floor_bytes=shutil.disk_usage("/").total * 2)
    assert run.process.wait(30) == 0
    assert lines(run.folder, "ended")[0]["why"] == "disk_floor"


@pytest.fixture
def looked(tmp_path: Path, footage: Path) -> Iterator[Any]:
    made: list[StreamRecorder] = []

    def look_at(**options: Any) -> StreamRecorder:
        folder, address = tmp_path / "stream", Address(f"file://{footage}")
        bounds = Bounds(floor_bytes=1)
        recorder = StreamRecorder("room-1-main", folder, address, bounds, packaged_ffmpeg(), **options)
        made.append(recorder)
        return recorder

    yield look_at
    for path in (tmp_path / "stream").iterdir():
        if is_recording(path):
            ask_to_end(path, signal.SIGKILL)
    for recorder in made:
        for run in recorder._runs.values():
            if run.child is not None:
                run.child.wait()


def look_until(
    recorder: StreamRecorder, is_enough: Callable[[list[Finished]], bool], *, wanted: bool = True
) -> list[Finished]:
    until = time.monotonic() + 20
    while not is_enough(found := recorder.look(wanted=wanted)):
        assert time.monotonic() < until, recorder.state
        time.sleep(0.05)
    return found


def test_killed_it_is_salvaged_and_replaced_and_what_is_settled_is_gone(looked: Any, tmp_path: Path) -> None:
    recorder = looked()
    look_until(recorder, lambda _: recorder.state.phase is Phase.RECORDING)
    (folder,) = (tmp_path / "stream").iterdir()
    # An earlier run's reason is not this one's.
    recorder.state.why = "source_ended"
    ask_to_end(folder, signal.SIGKILL)
    (salvaged,) = look_until(recorder, bool)
    assert (salvaged.why, salvaged.run, salvaged.folder) == ("salvaged", folder.name, folder)
    assert (recorder.state.restarts, recorder.state.why) == (1, "killed")
    look_until(recorder, lambda _: recorder.state.phase is Phase.RECORDING)
    assert recorder.look(wanted=True) == [salvaged]
    recorder.settle(salvaged)
    assert recorder.look(wanted=True) == [] and not folder.exists()
    (ended,) = look_until(recorder, bool, wanted=False)
    assert ended.why == "ended"
    assert look_until(recorder, lambda _: recorder.state.phase is Phase.OFF, wanted=False) == [ended]


def test_the_next_daemon_takes_over_what_the_last_one_started(looked: Any, tmp_path: Path) -> None:
    first = looked()
    look_until(first, lambda _: first.state.phase is Phase.RECORDING)
    first.cut()
    (before,) = look_until(first, bool)
    second = looked()
    look_until(second, lambda _: second.state.phase is Phase.RECORDING)
    assert len(list((tmp_path / "stream").iterdir())) == 1
    # Told of again, under the same key.
    assert [each.key for each in second.look(wanted=True)] == [before.key]
    second.settle(before)
    third = looked()
    assert third.look(wanted=True) == []
    (after,) = look_until(third, bool, wanted=False)
    assert after.number == before.number + 1
    assert frame_numbers(after.path)[0] == before.pictures


def test_what_could_not_be_salvaged_is_tried_again(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "stream" / "dead"
    run.mkdir(parents=True)
    (run / LOCK).touch()
    shutil.copy(footage, run / "000000.ts.part")
    about = {"kind": "file", "file": 0, "name": "000000.ts", "container": "mpegts", "run": 0}
    begun = {"kind": "begun", "boot": "x", "utc_us": 0, "monotonic_us": 0}
    said = [begun, {**about, "arrived_utc_us": 1}]
    (run / NAME).write_text("".join(json.dumps(line) + "\n" for line in said))
    at_s = [100.0]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        recorder = StreamRecorder(
            "main", tmp_path / "stream", Address("file:///x"), Bounds(), "", clock=lambda: at_s[0]
        )
        at_s[0] += 6
        assert recorder.look(wanted=False) == []
    assert "No space left" in recorder.troubles["dead"] and recorder.holds(0, 1)
    at_s[0] += 6
    # The second pause is twice as long.
    assert recorder.look(wanted=False) == []
    at_s[0] += 6
    assert [each.why for each in recorder.look(wanted=False)] == ["salvaged"]
    assert [each.number for each in recorder.look(wanted=False)] == [0]
    assert (recorder.troubles, recorder.holds(0, 1), recorder.holds(-9, 0)) == ({}, False, False)


def test_a_folder_that_makes_no_sense_is_kept_and_told_and_keeps_no_other_back(tmp_path: Path) -> None:
    closed = {"kind": "closed", "file": 0, "name": "000000.mp4", "sha256": "00" * 32, "size_bytes": 3,
              "from_utc_us": 10, "to_utc_us": 20, "duration_us": 10, "pictures": 1, "playable_from_us": 0,
              "open_us": 0, "why": "length"}  # fmt: skip
    journals = {"good": [closed], "lacks": [{"kind": "closed", "file": 0}, {**closed, "file": 1}], "more": []}
    for name, lines in journals.items():
        run = tmp_path / "stream" / name
        run.mkdir(parents=True)
        (run / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "000000.mp4").write_bytes(b"abc")
    (tmp_path / "stream" / "no" / LOCK).mkdir(parents=True)
    recorder = StreamRecorder("main", tmp_path / "stream", Address("file:///x"), Bounds(), "")
    assert set(recorder.troubles) == {"lacks", "more", "no"}
    told = recorder.look(wanted=None)
    assert [(each.run, each.number) for each in told] == [("good", 0), ("lacks", 1)]
    # Nothing of a run that may hold more is ever taken for handed over, or removed.
    for each in told:
        recorder.settle(each)
    assert sorted(path.name for path in (tmp_path / "stream").iterdir()) == ["lacks", "more", "no"]
    assert recorder.holds(0, 1)


def test_a_process_that_says_nothing_is_killed(looked: Any, tmp_path: Path) -> None:
    recorder = looked(silent_s=2.0)
    look_until(recorder, lambda _: recorder.state.phase is Phase.RECORDING)
    (folder,) = (tmp_path / "stream").iterdir()
    ask_to_end(folder, signal.SIGSTOP)
    (salvaged,) = look_until(recorder, bool)
    assert salvaged.why == "salvaged" and not is_recording(folder)


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Processes that hold the lock of a run and say so, as recorders of an earlier daemon do."""
    made: list[subprocess.Popen[bytes]] = []

    def hold(name: str) -> subprocess.Popen[bytes]:
        run = tmp_path / "stream" / name
        run.mkdir(parents=True)
        with (run / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            made.append(subprocess.Popen(["/bin/sleep", "60"], pass_fds=(lock.fileno(),)))
        begun = {"kind": "begun", "pid": made[-1].pid, "boot": "x", "utc_us": 0, "monotonic_us": 0}
        (run / NAME).write_text(json.dumps(begun) + "\n")
        return made[-1]

    yield hold
    for each in made:
        each.kill()
        each.wait()


def test_a_recorder_whose_folder_is_in_trouble_is_watched_and_ended_like_any_other(
    tmp_path: Path, holding: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    live, at_s = holding("live"), [100.0]
    settled = tmp_path / "stream" / "live" / "settled"
    settled.mkdir()
    recorder = StreamRecorder(
        "main", tmp_path / "stream", Address("file:///x"), Bounds(), "", clock=lambda: at_s[0]
    )
    recorder.look(wanted=True)
    # Not replaced: it records.
    assert [path.name for path in (tmp_path / "stream").iterdir()] == ["live"]
    assert set(recorder.troubles) == {"live"} and recorder.holds(10**18, 10**18 + 1)
    settled.rmdir()
    at_s[0] += 6
    recorder.look(wanted=True)
    assert recorder.troubles == {}
    # A line that makes no sense is told as long as it stands there, and what is whole goes on.
    with (tmp_path / "stream" / "live" / NAME).open("a") as journal:
        journal.write('{"kind": "closed", "file": 0}\n')
    for passed_s in (1, 6, 1):
        at_s[0] += passed_s
        recorder.look(wanted=True)
        assert set(recorder.troubles) == {"live"}
    # Read again, it has said nothing new: mute for eight seconds, it is ended.
    at_s[0] += 3
    recorder.look(wanted=True)
    assert live.wait(5) == -signal.SIGKILL
    recorder.look(wanted=False)
    assert recorder.state.restarts == 1 and set(recorder.troubles) == {"live"}


def test_of_two_that_record_one_stream_the_second_is_ended(
    tmp_path: Path, holding: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    first, second = holding("a"), holding("b")
    at_s = [100.0]
    recorder = StreamRecorder(
        "main", tmp_path / "stream", Address("file:///x"), Bounds(), "", clock=lambda: at_s[0]
    )
    assert second.wait(5) == -signal.SIGTERM
    at_s[0] += 6
    recorder.look(wanted=None)
    assert [path.name for path in (tmp_path / "stream").iterdir()] == ["a"]
    assert first.poll() is None
    recorder.look(wanted=False)
    assert first.wait(5) == -signal.SIGTERM


def test_a_run_in_trouble_may_hold_something_of_its_own_time_and_of_no_other(tmp_path: Path) -> None:
    second_us, now_us = 1_000_000, time.time_ns() // 1000
    begun_us, at_s = now_us - 3600 * second_us, [100.0]
    begun = {"kind": "begun", "pid": 1, "boot": "x", "utc_us": begun_us, "monotonic_us": 0}
    span = {"from_utc_us": begun_us - 2 * second_us, "to_utc_us": begun_us + 60 * second_us}
    mark = {"kind": "mark", "file": 0, "monotonic_us": 61 * second_us, "waiting_bytes": 0, **span}
    journals = {"told": [begun, {"kind": "closed", "file": 0}, mark, {**mark, "from_utc_us": begun_us + 30}]}
    for name, lines in {**journals, "untold": [], "unasked": []}.items():
        run = tmp_path / name / "run"
        run.mkdir(parents=True)
        (run / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "000000.mp4.part").write_bytes(b"abc")
        for path in run.iterdir():
            os.utime(path, (begun_us / 1e6,) * 2)
    (tmp_path / "unasked" / "run" / LOCK).mkdir()

    def of(name: str) -> StreamRecorder:
        return StreamRecorder(
            "main", tmp_path / name, Address("file:///x"), Bounds(), "", clock=lambda: at_s[0]
        )

    def holds(recorder: StreamRecorder, from_s: int, to_s: int) -> bool:
        assert set(recorder.troubles) == {"run"}
        return recorder.holds(begun_us + from_s * second_us, begun_us + to_s * second_us)

    told, untold, unasked = of("told"), of("untold"), of("unasked")
    # The file that nothing is known of but its end may be of any moment before what follows it, too.
    spans = [(-90, -60), (-90, 0), (10, 20), (-90, 3000), (65, 66), (70, 3000)]
    assert [holds(told, *span) for span in spans] == [False, True, True, True, True, False]
    assert [holds(untold, *span) for span in ((-90, -60), (5, 6), (9, 3000))] == [True, True, False]
    # A lock that cannot be asked may be held by somebody who writes just now.
    assert holds(unasked, 4000, 5000)
    os.utime(tmp_path / "unasked" / "run" / LOCK, (begun_us / 1e6,) * 2)
    at_s[0] += 6
    unasked.look(wanted=None)
    assert not holds(unasked, 4000, 5000)
    (tmp_path / "unasked" / "run").rename(tmp_path / "away")
    at_s[0] += 11
    unasked.look(wanted=None)
    assert (unasked.troubles, unasked.holds(begun_us, begun_us + 1)) == ({}, False)


def test_a_stream_whose_folder_cannot_be_looked_into_is_told_and_looked_into_again(tmp_path: Path) -> None:
    (tmp_path / "stream").write_bytes(b"")
    recorder = StreamRecorder("main", tmp_path / "stream", Address("file:///x"), Bounds(), "")
    assert recorder.look(wanted=None) == []
    assert set(recorder.troubles) == {"stream"} and recorder.holds(0, 1)
    (tmp_path / "stream").unlink()
    recorder.look(wanted=None)
    assert (recorder.troubles, recorder.holds(0, 1)) == ({}, False)
