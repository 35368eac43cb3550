"""Which pictures of a recording detectors are shown, with detectors that find what is white."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from redaction.look import Sightings, Watch, look
from redaction.passes import PassParameters
from redaction.track import join
from tests.integration.redaction_footage import encode

WIDTH, HEIGHT, FPS = 320, 180, 25
FRAMES = 90


@dataclass
class WhiteFinder:
    """Finds the one white block of a picture, in pictures that are as wide as it likes."""

    sees_turned: bool = False
    least_width: int = 0
    family: str = "white"
    finds: str = "face"
    model_digest: str = "0" * 64
    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def detect(self, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        found = []
        for rgb in frames:
            height, width = rgb.shape[:2]
            with self.lock:
                self.shapes[(width, height)] += 1
            rows, columns = np.nonzero(rgb.min(axis=2) > 200)
            if not len(rows) or width < self.least_width or self.sees_turned != (height > width):
                found.append(np.empty((0, 5), np.float32))
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9]
            found.append(np.array([box], dtype=np.float32))
        return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A block that is there in frames 20 to 60, in a picture that stands still."""
    path = tmp_path_factory.mktemp("look") / "a.mp4"
    frames = bytearray()
    for frame in range(FRAMES):
        picture = np.full((HEIGHT, WIDTH, 3), 60, dtype=np.uint8)
        if 20 <= frame <= 60:
            picture[60:84, 100:124] = 235
        frames += picture.tobytes()
    encode(path, bytes(frames), sound=(), seconds=FRAMES / FPS)
    return path


def shown(sightings: Sightings, number: int = 0) -> list[int]:
    """The frames in which a watch found something."""
    return [frame for frame, boxes in enumerate(sightings.detections[number]) if len(boxes)]


def test_detectors_of_one_pass_each_have_their_own_cadence(clip: Path) -> None:
    faces, plates = WhiteFinder(), WhiteFinder()
    sightings = look(
        clip,
        [Watch(faces, 200, 320, passes=PassParameters()), Watch(plates, 500, 160, every=7)],
        threads=2,
    )
    # Every seventh, both sides of where the block comes and goes, and the last frame.
    assert plates.shapes.keys() == {(160, 96)}
    assert shown(sightings, 1) == [20, 27, 34, 41, 48, 55, 60]
    assert plates.shapes.total() == len({0, 7, 14, 19, *shown(sightings, 1), 61, 68, 75, 82, 89})
    assert faces.shapes.total() < 70
    # The first pass at the whole picture, every fifth frame; the second at the part where the block was.
    assert 18 <= faces.shapes[(320, 192)] < 26
    assert max(width * height for width, height in faces.shapes if (width, height) != (320, 192)) <= 128 * 128
    # Every frame around the first and the last sighting.
    assert {*range(20, 31), *range(50, 61)} <= set(shown(sightings)) <= set(range(20, 61))
    assert sightings.picture.frame_count == len(sightings.times_us) == FRAMES
    ((x0, y0, x1, y1, _),) = sightings.detections[0][30]
    assert np.abs(np.array([x0, y0, x1, y1]) - [100, 60, 124, 84]).max() <= 3


@pytest.mark.parametrize(
    ("often_from_px", "looks"), [(321, {0, 13, 26, 39, 52, 65, 78, 89}), (320, {*range(0, 90, 4), 89})]
)
def test_finer_look_comes_as_often_as_asked_and_asks_for_no_other(
    clip: Path, often_from_px: int, looks: set[int]
) -> None:
    fine = WhiteFinder(least_width=640)
    watch = Watch(
        fine, 200, 320, passes=PassParameters(), fine_long_side_px=640, fine_from_px=320,
        fine_often_from_px=often_from_px, fine_every=4,
    )  # fmt: skip
    sightings = look(clip, [watch], threads=2)
    assert fine.shapes[(640, 352)] == len(looks)
    assert shown(sightings) == sorted(looks & set(range(20, 61)))
    # What only a finer look can see is not looked for where the picture is as small as before.
    assert set(fine.shapes) == {(320, 192), (640, 352)}


def test_who_lies_is_found_in_frames_before_the_one_that_told_of_it(clip: Path) -> None:
    lying = WhiteFinder(sees_turned=True)
    watch = Watch(lying, 200, 320, passes=PassParameters(), turned_every=6, turned_long_side_px=160)
    sightings = look(clip, [watch], threads=2)
    # The first probe to the right side is frame 24 or 36, and is heard of later still; frames that were held
    # meanwhile are looked at turned as well, but those of the first pass that had been looked at.
    assert {21, 22, 23, 24, 26, 27, 60} <= set(shown(sightings)) <= set(range(20, 61))
    ((x0, y0, x1, y1, _),) = sightings.detections[0][21]
    assert np.abs(np.array([x0, y0, x1, y1]) - [100, 60, 124, 84]).max() <= 3
    again = look(clip, [watch], threads=2)
    assert all((a == b).all() for a, b in zip(sightings.detections[0], again.detections[0], strict=True))


def test_every_frame_is_looked_at_without_passes(clip: Path) -> None:
    faces = WhiteFinder()
    sightings = look(clip, [Watch(faces, 200, 320)], threads=3)
    assert faces.shapes.total() == FRAMES
    assert shown(sightings) == list(range(20, 61))


@pytest.mark.parametrize("passes", [None, PassParameters()], ids=["cadence", "passes"])
@pytest.mark.parametrize("apart_s", [1, 3])
def test_what_is_there_from_the_second_frame_on_is_masked_at_low_frame_rates(
    tmp_path: Path, passes: PassParameters | None, apart_s: int
) -> None:
    path, count = tmp_path / "slow.mp4", 14
    picture = np.full((HEIGHT, WIDTH, 3), 60, dtype=np.uint8)
    frames = bytearray(picture.tobytes())
    # Small enough that no cell of the picture tells of it.
    picture[60:70, 100:110] = 235
    frames += picture.tobytes() * (count - 1)
    slow = ("-vf", f"setpts=PTS*{FPS * apart_s}", "-r", f"1/{apart_s}")
    encode(path, bytes(frames), sound=(), seconds=count / FPS, options=slow)
    sightings = look(path, [Watch(WhiteFinder(), 500, 160, every=6, passes=passes)], threads=1)
    assert np.diff(sightings.times_us).tolist() == [apart_s * 1_000_000] * (count - 1)
    tracks = join(sightings.detections[0], sightings.times_us, sightings.cuts)
    masked = {frame for track in tracks for frame in range(track.first_frame, track.last_frame + 1)}
    assert masked == set(range(1, count))
