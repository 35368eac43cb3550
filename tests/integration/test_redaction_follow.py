"""Following through the picture what no detector saw, on footage where the place of the face is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.hazards import HAZARDS, make_hazard
from redaction.follow import follow, followed
from redaction.track import FoundTrack, join
from tests.support.samples import sample

HAZARD = next(hazard for hazard in HAZARDS if hazard.name == "there-and-back")
BOXES = [pose.box() for number in range(HAZARD.frame_count) if (pose := HAZARD.poses(number)[0])]
UNSEEN = range(20, 120)
MOVE = (3.0, -2.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hazard(HAZARD, sample("astronaut.png"), tmp_path_factory.mktemp("follow"))


def found(unseen: range) -> list[FoundTrack]:
    """Tracks of the face, which was seen exactly where it is but in some frames."""
    detections = [
        np.array([[*box, 0.9]] if number not in unseen else np.empty((0, 5)), dtype=np.float32)
        for number, box in enumerate(BOXES)
    ]
    return join(detections, np.arange(len(BOXES), dtype=np.int64) * 40_000, [])


def bare(tracks: list[FoundTrack]) -> list[int]:
    """The frames in which less than 60 % of the face is masked."""
    frames = []
    for number, (x0, y0, x1, y1) in enumerate(BOXES):
        covered = np.zeros((HAZARD.height_px, HAZARD.width_px), dtype=bool)
        for track in tracks:
            if track.first_frame <= number <= track.last_frame:
                left, top, right, bottom = np.clip(track.masks[number - track.first_frame], 0, None).astype(
                    int
                )
                covered[top:bottom, left:right] = True
        if covered[y0:y1, x0:x1].mean() < 0.6:
            frames.append(number)
    return frames


def test_who_goes_and_comes_back_unseen_is_followed_both_ways(clip: Path) -> None:
    tracks = found(UNSEEN)
    before = [track.masks.copy() for track in tracks]
    assert len(bare(tracks)) > 30
    assert follow(clip, tracks, threads=1) == 1
    assert bare(tracks) == []
    for track, was in zip(tracks, before, strict=True):
        # Masks only grow, and only in the gap; what simplification may never uncover lies inside them.
        assert (track.masks[:, :2] <= was[:, :2]).all()
        assert (track.masks[:, 2:] >= was[:, 2:]).all()
        changed = {track.first_frame + int(row) for row in np.nonzero((track.masks != was).any(axis=1))[0]}
        assert changed <= set(UNSEEN)
        assert (track.needed[:, :2] >= track.masks[:, :2]).all()
        assert (track.needed[:, 2:] <= track.masks[:, 2:]).all()


def test_several_that_are_unseen_at_once_are_each_followed(clip: Path) -> None:
    tracks = [*found(UNSEEN), *found(range(30, 110)), *found(range(25, 120))]
    assert follow(clip, tracks, threads=1) == 3
    assert bare(tracks) == []


def test_mask_is_not_widened_over_who_is_covered_anyway(clip: Path) -> None:
    (lost,) = found(UNSEEN)
    (seen,) = found(range(0))
    (alone,) = found(UNSEEN)
    before = lost.masks.copy()
    follow(clip, [alone], threads=1)
    assert follow(clip, [lost, seen], threads=1) == 1
    widened = [(track.masks != before).any(axis=1).sum() for track in (alone, lost)]
    assert widened[1] < widened[0] / 2


def test_nothing_is_decoded_where_no_gap_is_long(tmp_path: Path) -> None:
    assert follow(tmp_path / "none.mp4", found(range(20, 40)), threads=1) == 0


def textured(count: int) -> list[NDArray[np.uint8]]:
    """A patch of noise that moves by `MOVE` a picture, over a flat ground."""
    random = np.random.default_rng(3)
    patch = np.kron(random.integers(0, 256, (10, 10)), np.ones((4, 4))).astype(np.uint8)
    pictures = []
    for number in range(count):
        picture = np.full((180, 320), 128, dtype=np.uint8)
        x, y = int(60 + MOVE[0] * number), int(120 + MOVE[1] * number)
        picture[y : y + 40, x : x + 40] = patch
        pictures.append(picture)
    return pictures


def test_box_goes_with_what_it_holds() -> None:
    boxes = followed(textured(20), np.array([64.0, 124.0, 96.0, 156.0]))
    expected = [
        [64 + MOVE[0] * n, 124 + MOVE[1] * n, 96 + MOVE[0] * n, 156 + MOVE[1] * n] for n in range(1, 20)
    ]
    np.testing.assert_allclose(boxes, expected, atol=1.0)


def test_what_has_left_the_picture_is_followed_no_further() -> None:
    outside = np.array([330.0, 20.0, 350.0, 40.0])
    assert followed(textured(5), outside) == []
    assert followed(textured(1), np.array([64.0, 124.0, 96.0, 156.0])) == []
