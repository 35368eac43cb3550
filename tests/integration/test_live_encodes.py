"""Shared live encodes on a host: what they make of a recorder's file, how many there may be, what is left."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from media.fmp4 import index_fragments
from media.live.journal import NAME, Journal, is_held, read
from media.supervise import Limits
from tests.support.media import ffmpeg, make_plain
from transcode import live_encodes
from transcode.live_encodes import LOCK, RULES, STATE, Bounds, EncodeNow, Kind, LiveEncodes

FPS = 10
BEGAN_US = 1_770_000_000_000_000
SECONDS = 6
FRAGMENTS = "empty_moov+default_base_moof+frag_discont+frag_keyframe"
MAIN = Path("an-agency") / "R-1" / "main"


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 with telephone sound, as a camera sends it and a recorder writes it."""
    folder = tmp_path_factory.mktemp("camera")
    make_plain(folder / "plain.mp4", seconds=SECONDS, fps=FPS, height_px=400, width_px=640)
    ffmpeg(
        "-i", folder / "plain.mp4", "-c:v", "copy", "-c:a", "pcm_alaw", "-ar", "8000",
        "-movflags", FRAGMENTS, folder / "camera.mov",
    )  # fmt: skip
    return folder / "camera.mov"


def recorded(folder: Path, camera: Path, number: int = 0) -> Path:
    """A run of a stream whose file is over."""
    run = folder / MAIN / f"{number:032x}"
    run.mkdir(parents=True)
    (run / "000000.mov").write_bytes(camera.read_bytes())
    journal = Journal(run)
    journal.write("file", file=0, name="000000.mov", container="mov", streams=[])
    journal.write("closed", file=0, from_utc_us=BEGAN_US, to_utc_us=BEGAN_US + SECONDS * 1_000_000)
    journal.close()
    return run


@pytest.fixture
def encodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveEncodes]:
    monkeypatch.setattr(live_encodes, "IDLE_S", 0.5)
    limits = Limits(cpu_s=60, memory_bytes=1 << 30, file_size_bytes=1 << 30)
    found = LiveEncodes(tmp_path, tmp_path / "recorder", Bounds(1, limits, 0, keep_s=60))
    yield found
    until(lambda: all(not is_held(lock) for lock in tmp_path.glob(f"live/*/*/*/{LOCK}")))


def until(is_so: Callable[[], Any], patience_s: float = 20) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_the_picture_of_a_camera_with_telephone_sound_is_copied(
    encodes: LiveEncodes, tmp_path: Path, camera: Path
) -> None:
    recorded(tmp_path / "recorder", camera)
    # However often it died, what told nothing is kept no longer than it counts.
    folder = tmp_path / "live" / MAIN
    for _ in range(9):
        dead = folder / live_encodes._next_name(folder)
        dead.mkdir(parents=True)
        os.utime(dead, (time.time() - 40,) * 2)
    assert encodes.want(MAIN) is EncodeNow.STARTING
    assert len(live_encodes._encodes(folder)) == 6
    # A second who looks meanwhile shares it; another stream has to wait, and is told so.
    assert encodes.want(MAIN) is EncodeNow.RUNNING
    assert encodes.want(MAIN.with_name("room")) is EncodeNow.BUSY
    (piece,) = until(lambda: [each for each in encodes.pieces(MAIN) if each.is_whole])
    path = live_encodes.place_of(tmp_path, MAIN, piece.encode, piece.number)
    index = index_fragments(path)
    assert index is not None and index.codecs.startswith("avc1.") and index.codecs.endswith(",mp4a.40.2")
    # The very packets of the last keyframe before what is newest, at the time at which they were taken.
    with av.open(str(camera)) as source, av.open(str(path)) as made:
        sent = [bytes(each) for each in source.demux(video=0) if each.size]
        shown = [bytes(each) for each in made.demux(video=0) if each.size]
    first = len(sent) - len(shown)
    assert shown == sent[first:] and first == 2 * FPS
    assert (
        piece.zero_us + index.origin_pts * 1_000_000 // index.timescale == BEGAN_US + first * 1_000_000 // FPS
    )
    # Nobody looked any more, so it ended, and is no death that the next one has to wait for.
    encode = path.parent
    assert until(lambda: read(encode)[0][-1]["kind"] == "ended" and read(encode)[0][-1]["why"]) == "unwatched"
    until(lambda: not is_held(encode / LOCK))
    assert encodes.standing(MAIN).now is EncodeNow.IDLE
    # What it made is told for as long as a grant that begins now may name it, and is cleared away after that.
    assert piece.is_new and encodes.clear() == 0
    for name in (NAME, STATE, "."):
        os.utime(encode / name, (time.time() - 70,) * 2)
    assert [each.is_new for each in encodes.pieces(MAIN)] == [False] and encodes.clear() == 0
    for name in (NAME, STATE, "."):
        os.utime(encode / name, (time.time() - 130,) * 2)
    assert encodes.clear() == 1 and encodes.pieces(MAIN) == []


def test_the_lane_of_a_session_goes_once_nobody_can_name_anything_of_it(
    encodes: LiveEncodes, tmp_path: Path
) -> None:
    lane = MAIN.with_name(f"main.{7:032x}")
    masked = LiveEncodes(tmp_path, tmp_path / "recorder", encodes.bounds, Kind.MASKED)
    assert masked.are_rules_old(lane)
    masked.tell_rules(lane, {"read_ns": 1})
    folder = tmp_path / Kind.MASKED / lane
    assert not masked.are_rules_old(lane) and json.loads((folder / RULES).read_text()) == {"read_ns": 1}
    # A clock that was set back keeps nobody from reading the rows.
    os.utime(folder / RULES, (time.time() + 3600,) * 2)
    assert masked.are_rules_old(lane)
    (folder / live_encodes.WANTED).touch()
    assert masked.clear() == 0 and encodes.clear() == 0 and folder.exists()
    os.utime(folder / live_encodes.WANTED, (time.time() - 160,) * 2)
    encode = folder / live_encodes._next_name(folder)
    encode.mkdir()
    assert masked.clear() == 0 and encode.exists()
    os.utime(encode, (time.time() - 190,) * 2)
    assert masked.clear() == 1 and not folder.exists()


def test_an_encode_that_dies_again_and_again_is_begun_ever_later(
    encodes: LiveEncodes, tmp_path: Path
) -> None:
    folder = tmp_path / "live" / MAIN
    for count in range(1, 4):
        dead = folder / live_encodes._next_name(folder)
        dead.mkdir(parents=True)
        for name in (LOCK, live_encodes.WORDS):
            (dead / name).touch()
        (dead / NAME).write_text(json.dumps({"kind": "begun", "pid": 1}) + "\n")
        deaths, since_s = live_encodes._deaths(folder)
        assert deaths == count and since_s < 5
        assert encodes.want(MAIN) is EncodeNow.RESTARTING
        assert encodes.standing(MAIN).now is EncodeNow.RESTARTING
    # One that was cut off while it was made counts as well, and is cleared away as others are.
    half = folder / live_encodes._next_name(folder)
    half.mkdir()
    assert live_encodes._deaths(folder)[0] == 4 and encodes.want(MAIN) is EncodeNow.RESTARTING
    assert encodes.standing(MAIN).now is EncodeNow.RESTARTING and encodes.pieces(MAIN) == []
    (folder / f"gone-{half.name}").mkdir()
    # What told something stays as long as a grant may name it.
    silent, told, _ = found = [folder / f"{number:032x}" for number in range(3)]
    for each in found:
        each.mkdir()
    (told / NAME).write_text(json.dumps({"kind": "piece"}) + "\n")
    for path in (told / NAME, told, half):
        os.utime(path, (time.time() - 190,) * 2)
    live_encodes._shed(folder)
    assert told.exists() and not silent.exists()
    long = LiveEncodes(tmp_path, tmp_path / "recorder", replace(encodes.bounds, keep_s=3600))
    assert long.clear() == 1 and not [*folder.glob(f"*{half.name}")]
    assert told.exists() and encodes.clear() == 1 and not told.exists()
    # A clock that was set back keeps nobody waiting for as long.
    os.utime(dead / NAME, (time.time() + 3600,) * 2)
    assert live_encodes._deaths(folder)[1] == float("inf")
    full = LiveEncodes(tmp_path, tmp_path / "recorder", replace(encodes.bounds, floor_bytes=1 << 60))
    assert full.want(MAIN) is EncodeNow.FULL
    # Nor does it keep what was made: at a clearing it is dated anew, and goes when that is long ago.
    stop = threading.Event()
    stop.set()
    encodes.keep_clear(stop)
    assert time.time() - 60 < live_encodes._ended_at(dead) <= time.time()
    # What cannot be read or begun is told, and ends nothing else: here a file is where a folder should be.
    odd = folder / live_encodes._next_name(folder)
    odd.touch()
    assert encodes.want(MAIN) is EncodeNow.RESTARTING and encodes.pieces(MAIN) == []
    assert encodes.standing(MAIN).now is EncodeNow.RESTARTING and encodes.clear() == 0


def test_what_a_power_cut_left_of_a_piece_does_not_keep_the_next_encode_from_beginning(
    tmp_path: Path,
) -> None:
    piece = live_encodes.Told("0" * 32, 0, 0, 7, None, is_whole=True, is_new=True, file=("r", 0), file_us=0)
    broken = tmp_path / "000000.mp4"
    assert live_encodes._end_of(broken, piece) == 7
    broken.write_bytes(bytes(4096))
    assert live_encodes._end_of(broken, piece) == 7
