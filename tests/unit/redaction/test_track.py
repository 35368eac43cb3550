from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redaction.geometry import Box, between, outward
from redaction.track import CutFinder, FoundTrack, TrackParameters, join, key_boxes

FRAME_US = 40_000
NOTHING = np.empty((0, 5), dtype=np.float32)


def seen(x: float, y: float, *, size: float = 20.0, score: float = 0.9) -> list[float]:
    return [x, y, x + size, y + size, score]


def one(x: float, y: float, **facts: float) -> NDArray[np.float32]:
    return np.array([seen(x, y, **facts)], dtype=np.float32)


def times(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) * FRAME_US


def mask_at(track: FoundTrack, frame: int) -> Box | None:
    if not track.first_frame <= frame <= track.last_frame:
        return None
    return outward(*track.masks[frame - track.first_frame].tolist())


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[NDArray[np.float32]], list[int], list[int]]:
    """Detections, cuts and the time of every frame of a small recording with uneven times."""
    count = draw(st.integers(1, 40))
    coordinate = st.floats(0, 280, width=32)
    detection = st.tuples(coordinate, coordinate, st.floats(2, 80), st.floats(2, 80), st.floats(0.1, 1.0))
    frames = []
    for _ in range(count):
        found = [[x, y, x + w, y + h, s] for x, y, w, h, s in draw(st.lists(detection, max_size=3))]
        frames.append(np.array(found, dtype=np.float32).reshape(-1, 5))
    cuts = sorted(draw(st.sets(st.integers(1, count), max_size=3)) - {count})
    steps = draw(st.lists(st.integers(1, 1500), min_size=count, max_size=count))
    return frames, cuts, np.cumsum(steps).tolist()


@settings(max_examples=80, deadline=None)
@given(recordings())
def test_a_mask_is_never_less_than_a_detection(
    recording: tuple[list[NDArray[np.float32]], list[int], list[int]],
) -> None:
    detections, cuts, pts = recording
    parameters = TrackParameters()
    found = join(detections, np.array(pts, dtype=np.int64) * 1000, cuts, parameters)
    keyed = [key_boxes(track, pts) for track in found]
    for frame, boxes in enumerate(detections):
        masks = [interpolated_from(keys, pts[frame]) for keys in keyed]
        for box in boxes[boxes[:, 4].astype(np.float64) >= parameters.strong_permille / 1000]:
            hidden = outward(*box[:4].tolist())
            assert any(mask is not None and mask.contains(hidden) for mask in masks), (frame, box)


def interpolated_from(keys: list[tuple[int, Box]], pts: int) -> Box | None:
    if not keys[0][0] <= pts <= keys[-1][0]:
        return None
    for (start, box), (end, following) in pairwise(keys):
        if start <= pts <= end:
            return between(box, following, elapsed=pts - start, whole=end - start)
    return keys[0][1]


@settings(max_examples=50, deadline=None)
@given(recordings())
def test_no_track_crosses_a_cut_and_none_has_a_hole(
    recording: tuple[list[NDArray[np.float32]], list[int], list[int]],
) -> None:
    detections, cuts, pts = recording
    for track in join(detections, np.array(pts, dtype=np.int64) * 1000, cuts):
        assert not any(track.first_frame < cut <= track.last_frame for cut in cuts)
        assert len(track.masks) == len(track.needed) == len(track.sighted)
        assert (track.masks[:, :2] <= track.needed[:, :2]).all()
        assert (track.masks[:, 2:] >= track.needed[:, 2:]).all()
        assert track.sighted.any()


@pytest.mark.parametrize("gap", range(1, 16))
def test_moving_face_is_covered_through_a_drop_out(gap: int) -> None:
    # 4 pixels a frame; the detector is blind for `gap` frames in the middle.
    count, blind = 60, range(25, 25 + gap)
    detections = [NOTHING if frame in blind else one(20 + 4 * frame, 50) for frame in range(count)]
    (track,) = join(detections, times(count), [])
    for frame in range(count):
        mask = mask_at(track, frame)
        assert mask is not None
        assert mask.contains(outward(20 + 4 * frame, 50, 40 + 4 * frame, 70)), frame
    assert track.doubtful == []


@pytest.mark.parametrize("gap", [3, 8, 14])
def test_face_that_turns_round_in_a_drop_out_is_covered(gap: int) -> None:
    # Out by 6 pixels a frame, back again from frame 30 on, unseen around that.
    places = [40 + 6 * frame if frame < 30 else 40 + 6 * (60 - frame) for frame in range(60)]
    blind = range(30 - gap // 2, 30 + gap - gap // 2)
    detections = [NOTHING if frame in blind else one(places[frame], 50) for frame in range(60)]
    found = join(detections, times(60), [])
    for frame, x in enumerate(places):
        masks = [mask for track in found if (mask := mask_at(track, frame))]
        assert any(mask.contains(outward(x, 50, x + 20, 70)) for mask in masks), frame


def test_mask_over_a_long_gap_grows_by_the_size_of_the_face() -> None:
    detections = [NOTHING if 25 <= frame < 100 else one(50 + frame, 50) for frame in range(125)]
    (track,) = join(detections, times(125), [])
    # One way of 75 pixels and the face itself, and at most a face more on each side.
    assert max(box[2] - box[0] for box in track.masks.tolist()) <= 75 + 3 * 20


def test_track_is_extended_before_the_first_and_after_the_last_sighting() -> None:
    detections = [one(50, 50) if 30 <= frame <= 60 else NOTHING for frame in range(100)]
    (track,) = join(detections, times(100), [], TrackParameters(pad_us=400_000))
    assert (track.first_frame, track.last_frame) == (20, 70)
    assert mask_at(track, 20).contains(Box(50, 50, 70, 70))  # type: ignore[union-attr]


def test_pad_ends_at_a_cut() -> None:
    detections = [one(50, 50) if frame < 50 else NOTHING for frame in range(100)]
    (track,) = join(detections, times(100), [52])
    assert track.last_frame == 51


def test_two_crossing_faces_are_both_covered_in_every_frame() -> None:
    detections = []
    for frame in range(60):
        pair = [seen(20 + 4 * frame, 50), seen(260 - 4 * frame, 54)]
        # While one hides the other, the detector sees a single face.
        detections.append(np.array(pair[:1] if 27 <= frame <= 33 else pair, dtype=np.float32))
    found = join(detections, times(60), [])
    for frame in range(60):
        masks = [mask for track in found if (mask := mask_at(track, frame))]
        for x in (20 + 4 * frame, 260 - 4 * frame):
            centre = Box(x + 5, 57, x + 15, 67)
            assert any(mask.contains(centre) for mask in masks), frame


def test_weak_sightings_count_only_where_they_continue_a_strong_one() -> None:
    strong = [one(50, 50) for _ in range(10)]
    weak = [one(50, 50, score=0.12) for _ in range(10)]
    elsewhere = [one(200, 200, score=0.12) for _ in range(10)]
    (track,) = join([*strong, *weak], times(20), [], TrackParameters(pad_us=0))
    assert track.last_frame == 19
    assert join(elsewhere, times(10), []) == []


def test_face_that_comes_back_after_long_to_the_same_place_is_masked_between_and_doubtful() -> None:
    detections = [NOTHING if 25 <= frame < 125 else one(50 if frame < 25 else 58, 50) for frame in range(150)]
    (track,) = join(detections, times(150), [])
    assert track.doubtful == [(25, 124)]
    assert all(mask_at(track, frame).contains(Box(50, 50, 78, 70)) for frame in range(25, 125))  # type: ignore[union-attr]


def test_faces_far_apart_in_time_and_place_are_two_tracks() -> None:
    detections = [
        NOTHING if 25 <= frame < 125 else one(50 if frame < 25 else 250, 50) for frame in range(150)
    ]
    assert len(join(detections, times(150), [])) == 2


def test_faster_objects_get_wider_masks() -> None:
    def width(step: int) -> int:
        (track,) = join([one(20 + step * frame, 50) for frame in range(20)], times(20), [])
        mask = mask_at(track, 10)
        assert mask is not None
        return mask.width_px

    assert width(0) < width(2) < width(8)


def test_few_keys_describe_a_face_that_stays() -> None:
    (track,) = join([one(50, 50) for _ in range(500)], times(500), [])
    pts = list(range(0, 500 * 512, 512))
    assert len(key_boxes(track, pts)) < 15


def test_keys_cover_what_every_frame_needs() -> None:
    generator = np.random.default_rng(7)
    walk = np.cumsum(generator.normal(0, 6, size=(200, 2)), axis=0) + 500
    (track, *_) = join([one(x, y, size=60) for x, y in walk.tolist()], times(200), [])
    pts = list(range(0, 200 * 512, 512))
    keys = key_boxes(track, pts)
    for frame in range(track.first_frame, track.last_frame + 1):
        mask = interpolated_from(keys, pts[frame])
        assert mask is not None
        assert mask.contains(outward(*track.needed[frame - track.first_frame].tolist()))


def test_nothing_seen_is_no_track() -> None:
    assert join([NOTHING] * 5, times(5), []) == []
    assert join([], times(0), []) == []


def picture(level: int, seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 60, (22, 40))
    return (noise + level).astype(np.uint8)


def cuts_of(pictures: list[NDArray[np.uint8]]) -> list[int]:
    finder = CutFinder()
    for luma in pictures:
        finder.add(luma)
    return finder.finish()


def test_lasting_change_of_picture_is_a_cut() -> None:
    assert cuts_of([picture(20, 1)] * 10 + [picture(150, 2)] * 10) == [10]


def test_flash_is_no_cut() -> None:
    assert cuts_of([picture(20, 1)] * 10 + [picture(190, 1)] * 2 + [picture(20, 1)] * 10) == []


def test_cut_in_the_last_frames_is_found() -> None:
    assert cuts_of([picture(20, 1)] * 10 + [picture(150, 2)]) == [10]


def test_slow_change_of_light_is_no_cut() -> None:
    assert cuts_of([picture(20 + 3 * step, 1) for step in range(50)]) == []


def test_person_who_walks_on_turned_away_is_covered_until_seen_again() -> None:
    # Three seconds at one pixel a frame: 75 pixels, near four times the size of the face.
    detections = [NOTHING if 25 <= frame < 100 else one(50 + frame, 50) for frame in range(125)]
    (track,) = join(detections, times(125), [])
    assert track.doubtful == [(25, 99)]
    for frame in range(125):
        mask = mask_at(track, frame)
        assert mask is not None
        assert mask.contains(outward(50 + frame, 50, 70 + frame, 70)), frame


def test_person_who_comes_back_farther_than_anyone_walks_is_another() -> None:
    detections = [NOTHING if 25 <= frame < 50 else one(50 if frame < 25 else 110, 50) for frame in range(75)]
    assert len(join(detections, times(75), [])) == 2


def test_who_is_seen_twice_a_second_is_masked_ahead_of_the_last_sighting() -> None:
    # 2 px a frame; after the last look the face goes on for as long as a mask stands.
    boxes = [(40 + 2 * frame, 60, 60 + 2 * frame, 84) for frame in range(51)]
    detections = [
        np.array([[*box, 0.9]] if frame in (0, 13, 26, 39) else np.empty((0, 5)), dtype=np.float32)
        for frame, box in enumerate(boxes)
    ]
    (track,) = join(detections, np.arange(51, dtype=np.int64) * 40_000, [])
    for frame, box in enumerate(boxes):
        mask = track.masks[frame - track.first_frame]
        assert (mask[:2] <= box[:2]).all(), frame
        assert (mask[2:] >= box[2:]).all(), frame
