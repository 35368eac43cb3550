"""What becomes of a recorder's file while it is shown live: joined at its newest, made smaller and larger."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from media import boxes
from media.fmp4 import index_fragments
from media.live.following import GrowingBytes, StreamFiles
from media.live.journal import Journal, read
from media.live.pace import Pace, Verdict
from media.live.shown_file import LEAD_IN_US, ShownFile
from tests.support.media import ffmpeg, make_plain

FPS = 10
BEGAN_US = 1_770_000_000_000_000
SECONDS = 6
FRAGMENTS = "empty_moov+default_base_moof+frag_discont+frag_keyframe"
BIG_PX = (640, 360)


class Told:
    """An encode, as much of it as a file needs."""

    covering = None

    def __init__(self, folder: Path, pace: Pace) -> None:
        self.stream, self.folder = folder / "stream", folder / "out"
        self.run = self.stream / ("0" * 32)
        for each in (self.run, self.folder):
            each.mkdir(parents=True)
        self.recorder = Journal(self.run)
        self.files, self.journal, self.pace = StreamFiles(self.stream), Journal(self.folder), pace
        self.pieces = 0
        self.has_begun = threading.Event()

    def is_over(self) -> bool:
        return False

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

    def encode(self) -> list[dict[str, Any]]:
        """Make of the file what there is to be shown; what it says of it."""
        file = self.files.following()
        assert file is not None
        descriptor = self.files.open(file)
        assert descriptor is not None
        with closing(GrowingBytes(descriptor, self.files.has_ended, self.is_over)) as reader:
            ShownFile(self, file, reader, 0, joins=True).encode()
        return read(self.folder)[0]

    def shown(self) -> list[Path]:
        """The pieces."""
        return sorted(self.folder.glob("*.mp4"))


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
