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
from tests.integration.redaction_footage import encode

WIDTH, HEIGHT, FPS = 320, 180, 25
FRAMES = 90


@dataclass
class WhiteFinder:
    """Finds the one white block of a picture, in pictures that are as wide as it likes."""

    sees_turned: bool = False
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
            if not len(rows) or self.sees_turned != (height > width):
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
    assert plates.shapes == {(160, 96): 13}
    assert shown(sightings, 1) == [21, 28, 35, 42, 49, 56]
    assert set(faces.shapes) == {(320, 192)}
    assert faces.shapes.total() < 70
    # Every frame around the first and the last sighting.
    assert {*range(20, 31), *range(50, 61)} <= set(shown(sightings)) <= set(range(20, 61))
    assert sightings.picture.frame_count == len(sightings.times_us) == FRAMES
    ((x0, y0, x1, y1, _),) = sightings.detections[0][30]
    assert np.abs(np.array([x0, y0, x1, y1]) - [100, 60, 124, 84]).max() <= 3


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
