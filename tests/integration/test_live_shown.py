"""What becomes of a recorder's file while it is shown live: joined at its newest, made smaller and larger."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.live_masks import Cover, LiveMask, LiveRules
from media import boxes
from media.fmp4 import index_fragments
from media.footage import read_frame_number
from media.live.boots import boot_id
from media.live.covering import Covering
from media.live.following import GrowingBytes, StreamFiles
from media.live.journal import Journal, read
from media.live.pace import Pace, Verdict
from media.live.shown_file import LEAD_IN_US, ShownFile
from media.painting import FILL
from tests.support.media import ffmpeg, make_plain

FPS = 10
BEGAN_US = 1_770_000_000_000_000
SECONDS = 6
FRAGMENTS = "empty_moov+default_base_moof+frag_discont+frag_keyframe"
BIG_PX = (640, 360)
DAMAGED = 33
"""The number of a picture that others are predicted from."""


class Told:
    """An encode, as much of it as a file needs."""

    def __init__(self, folder: Path, pace: Pace, rules: Path | None = None) -> None:
        self.covering = None if rules is None else Covering(rules)
        self.stream, self.folder = folder / "stream", folder / "out"
        self.run = self.stream / ("0" * 32)
        for each in (self.run, self.folder):
            each.mkdir(parents=True)
        self.recorder = Journal(self.run)
        self.files, self.journal, self.pace = StreamFiles(self.stream), Journal(self.folder), pace
        self.pieces = 0
        self.has_begun = threading.Event()

    is_ended = False

    def is_over(self) -> bool:
        return self.is_ended

    def next_piece(self) -> int:
        self.pieces += 1
        self.has_begun.set()
        return self.pieces - 1

    def say(self, state: dict[str, Any]) -> None:
        """How it stands is of no interest here."""

    def begin(self, name: str, container: str) -> None:
        """The recorder begins a file."""
        self.recorder.write("file", file=0, name=name, container=container, streams=[])
        self.recorder.write("mark", file=0, from_utc_us=BEGAN_US, to_utc_us=BEGAN_US)

    def end(self) -> None:
        """The recorder's file ends."""
        self.recorder.write("closed", file=0, from_utc_us=BEGAN_US, to_utc_us=BEGAN_US + SECONDS * 1_000_000)

    def encode(self, *, joins: bool = True) -> list[dict[str, Any]]:
        """Make of the file what there is to be shown; what it says of it."""
        file = self.files.following()
        assert file is not None
        descriptor = self.files.open(file)
        assert descriptor is not None
        with closing(GrowingBytes(descriptor, self.files.has_ended, self.is_over)) as reader:
            ShownFile(self, file, reader, 0, joins=joins).encode()
        return read(self.folder)[0]

    def shown(self) -> list[Path]:
        """The pieces."""
        return sorted(self.folder.glob("*.mp4"))


@contextmanager
def read_again_and_again(rules: Path, *masks: LiveMask) -> Iterator[None]:
    """Somebody looks: rows are read all the time."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.02):
            known = LiveRules.of(masks, (), "main", boot=boot_id(), read_ns=time.monotonic_ns(), slack_us=0)
            beside = rules.with_name("beside")
            beside.write_text(json.dumps(known.to_json()))
            beside.replace(rules)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        stop.set()
        looking.join()


def bare_numbers(paths: Sequence[Path]) -> tuple[list[int], int]:
    """The numbers of the pictures that are not covered altogether, and how many there are in all."""
    bare, count = [], 0
    for path in paths:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                gray = frame.to_ndarray(format="gray").astype(np.uint8)
                count += 1
                if np.abs(gray.astype(int) - FILL[0]).max() > 12:
                    number = read_frame_number(gray)
                    assert number is not None
                    bare.append(number)
    return bare, count


def test_what_a_decoder_makes_up_is_covered_until_the_next_keyframe(tmp_path: Path) -> None:
    told = Told(tmp_path, Pace(), tmp_path / "rules.json")
    told.begin("000000.mov", "mov")
    plain, whole = tmp_path / "plain.mp4", told.run / "000000.mov"
    make_plain(plain, seconds=SECONDS, fps=FPS, keyframe_every=FPS, b_frames=False, audio=False)
    ffmpeg("-i", plain, "-c", "copy", "-movflags", FRAGMENTS, whole)
    with av.open(str(whole)) as source:
        sent = [bytes(each) for each in source.demux(video=0) if each.size]
    data = bytearray(whole.read_bytes())
    at = data.index(sent[DAMAGED]) + len(sent[DAMAGED]) // 3
    data[at : at + 40] = bytes(byte ^ 0x5A for byte in data[at : at + 40])
    whole.write_bytes(data)
    told.end()
    # Set a second after the file began, so that two of it are not for others to see.
    mask = LiveMask(BEGAN_US + 1_000_000, {"main": Cover(320, 180, ((0, 0, 40, 40),))})
    with read_again_and_again(tmp_path / "rules.json", mask):
        told.encode(joins=False)
    bare, count = bare_numbers(told.shown())
    # And the keyframe itself, which might have been held back by whoever joins fields.
    sure = (DAMAGED // FPS + 1) * FPS + 1
    assert count >= SECONDS * FPS - 2
    assert bare == [number for number in range(2 * FPS, SECONDS * FPS) if not DAMAGED <= number < sure]


def test_nothing_is_made_of_what_nobody_read_the_rules_for(tmp_path: Path) -> None:
    told = Told(tmp_path, Pace(), tmp_path / "rules.json")
    told.begin("000000.mkv", "matroska")
    make_plain(told.run / "000000.mkv", seconds=1, fps=FPS, audio=False)
    told.end()
    mask = LiveMask(BEGAN_US - 2_000_000, {"main": Cover(320, 180, ((0, 0, 40, 40),))})
    with read_again_and_again(tmp_path / "rules.json", mask):
        time.sleep(0.1)
    # What was read before the packets were is too old, and nobody looks any more.
    ends = threading.Timer(0.5, lambda: setattr(told, "is_ended", True))
    ends.start()
    told.encode(joins=False)
    ends.join()
    assert told.is_ended and told.shown() == []


class Uneven(Pace):
    """Too slow at some pictures, and with time to spare at one."""

    def judge(
        self,
        now_us: int,
        media_us: int,
        smaller: Sequence[int],
        larger: int | None = None,
        *,
        is_caught_up: bool,
    ) -> Verdict:
        del now_us
        assert not is_caught_up
        number = round(media_us * FPS / 1e6)
        if number == 45:
            assert ([*smaller], larger) == ([2], None)
            self.rung = 2
            return Verdict.LOWER
        if number == 50:
            assert ([*smaller], larger) == ([], 0)
            self.rung = 0
            return Verdict.RAISE
        return Verdict.SKIP if number == 55 else Verdict.KEEP


def test_an_encode_goes_on_with_a_smaller_picture_and_a_larger_one_and_leaves_out_what_is_too_late(
    tmp_path: Path,
) -> None:
    make_plain(tmp_path / "plain.mp4", seconds=SECONDS, fps=FPS, height_px=400, width_px=640)
    told = Told(tmp_path, Uneven())
    told.begin("000000.mov", "mov")
    ffmpeg(
        "-i", tmp_path / "plain.mp4", "-c:v", "mjpeg", "-an", "-movflags", FRAGMENTS,
        told.run / "000000.mov",
    )  # fmt: skip
    told.end()
    said = told.encode()
    assert [line["height_px"] for line in said if line["kind"] == "piece"] == [400, 360, 400]
    assert [line["verdict"] for line in said if line["kind"] == "pace"] == ["lower", "raise", "skip"]
    indexes = [index_fragments(path) for path in told.shown()]
    found = [index.frame_count for index in indexes if index is not None]
    # From the first picture of the lead to the 45th, five smaller ones, five, and none that was too late.
    first = SECONDS * FPS - 1 - LEAD_IN_US * FPS // 1_000_000
    assert found == [45 - first, 5, 5]


def noise(path: Path, count: int) -> None:
    """Pictures of which each takes several readings."""
    width, height = BIG_PX
    pictures = np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)
    with av.open(str(path), "w", format="mp4", options={"movflags": FRAGMENTS}) as out:
        stream: Any = out.add_stream("mjpeg", rate=FPS, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for each in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24")))
        out.mux(stream.encode(None))


def test_what_takes_many_readings_is_shown_while_it_grows(tmp_path: Path) -> None:
    whole, told = tmp_path / "noise.mp4", Told(tmp_path, Pace())
    noise(whole, count=8)
    data = whole.read_bytes()
    with whole.open("rb") as file:
        ends = [each.end for each in boxes.top_level(file, len(data)) if each.kind in {"moov", "mdat"}]
    assert len(data) > len(ends) * (64 << 10)
    told.begin("000000.mov", "mov")
    part = told.run / "000000.mov.part"
    part.touch()
    was_shown: list[bool] = []

    def record() -> None:
        """A fragment at a time, and the last one only once something is shown."""
        done = 0
        with part.open("ab", buffering=0) as file:
            for end in ends:
                if end == ends[-1]:
                    was_shown.append(told.has_begun.wait(10))
                file.write(data[done:end])
                done = end
                time.sleep(0.05)
        told.end()

    recorder = threading.Thread(target=record)
    recorder.start()
    told.encode()
    recorder.join()
    assert was_shown == [True]


def combed(path: Path) -> float:
    """How much the lines between two others differ from both, where those are alike."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            gray: NDArray[np.int32] = frame.to_ndarray(format="gray").astype(np.int32)
            above, line, below = gray[:-2], gray[1:-1], gray[2:]
            teeth = np.minimum(abs(line - above), abs(line - below)) - abs(above - below)
            found.append(float(np.maximum(teeth, 0).mean()))
    return sum(found) / len(found)


def test_pictures_of_two_fields_are_shown_as_whole_ones(tmp_path: Path) -> None:
    told = Told(tmp_path, Pace())
    told.begin("000000.mkv", "matroska")
    whole = told.run / "000000.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=160x96:r=20:d=1.2", "-vf", "interlace=scan=tff:lowpass=off",
        "-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct", whole,
    )  # fmt: skip
    told.end()
    told.encode()
    (made,) = told.shown()
    with av.open(str(whole)) as source, av.open(str(made)) as piece:
        sent = [each.pts * each.time_base for each in source.decode(video=0)]
        shown = [each.pts * each.time_base for each in piece.decode(video=0)]
    assert len(shown) == len(sent) == 12
    assert [each - shown[0] for each in shown] == pytest.approx([each - sent[0] for each in sent])
    assert combed(made) < combed(whole) / 4
