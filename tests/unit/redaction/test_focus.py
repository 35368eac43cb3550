"""Where a second look looks, and when it has to look at the whole picture after all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redaction.detectors.network import SIZE_STEP_PX
from redaction.focus import LEAST_PX, MARGIN, WHOLE_SHARE, is_cut, places
from redaction.geometry import Box

PICTURE, SEEN = (1280, 720), (640, 352)
sightings = st.lists(
    st.tuples(st.floats(-40, 1270), st.floats(-40, 710), st.floats(1, 500), st.floats(1, 500)),
    min_size=1,
    max_size=5,
)


def boxes(*sides: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array([[*box, 0.9] for box in sides], dtype=np.float32).reshape(-1, 5)


def test_one_small_sighting_is_looked_for_in_a_small_part() -> None:
    (place,) = places(boxes((600, 300, 640, 350)), PICTURE, SEEN)
    assert place.contains(Box(270, 116, 350, 202))
    assert place.width_px * place.height_px < 0.12 * SEEN[0] * SEEN[1]


def test_what_is_apart_is_looked_for_apart_and_what_is_near_together() -> None:
    assert len(places(boxes((100, 100, 140, 150), (1100, 500, 1140, 550)), PICTURE, SEEN)) == 2
    assert len(places(boxes((100, 100, 140, 150), (200, 120, 240, 170)), PICTURE, SEEN)) == 1


def test_large_sighting_is_looked_for_in_the_whole_picture() -> None:
    assert places(boxes((300, 100, 800, 650)), PICTURE, SEEN) == [Box(0, 0, *SEEN)]


@settings(max_examples=60, deadline=None)
@given(given_boxes=sightings, seen_px=st.sampled_from([SEEN, (32, 32), (64, 640), (288, 512)]))
def test_places_hold_what_was_seen_and_where_it_may_be_by_now(
    given_boxes: list[tuple[float, float, float, float]], seen_px: tuple[int, int]
) -> None:
    near = boxes(*((x, y, x + width, y + height) for x, y, width, height in given_boxes))
    found = places(near, PICTURE, seen_px)
    covered = np.zeros((seen_px[1], seen_px[0]), dtype=int)
    for place in found:
        assert 0 <= place.x0 < place.x1 <= seen_px[0]
        assert 0 <= place.y0 < place.y1 <= seen_px[1]
        assert all(side % SIZE_STEP_PX == 0 for side in place)
        assert place.width_px >= min(LEAST_PX, seen_px[0])
        assert place.height_px >= min(LEAST_PX, seen_px[1])
        covered[place.y0 : place.y1, place.x0 : place.x1] += 1
    assert covered.max() == 1
    assert found == [Box(0, 0, *seen_px)] or covered.mean() <= WHOLE_SHARE
    per_pixel = np.array([seen_px[0] / PICTURE[0], seen_px[1] / PICTURE[1]] * 2)
    for x0, y0, x1, y1 in near[:, :4] * per_pixel:
        reach = MARGIN * max(x1 - x0, y1 - y0)
        columns = slice(max(0, round(x0 - reach)), max(0, round(x1 + reach)))
        rows = slice(max(0, round(y0 - reach)), max(0, round(y1 + reach)))
        assert covered[rows, columns].all()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((40, 40, 60, 60), False),
        ((2, 40, 30, 60), True),
        ((40, 1, 60, 20), True),
        ((100, 40, 127, 60), True),
        ((40, 90, 60, 128), True),
    ],
)
def test_what_reaches_the_edge_of_a_place_is_cut_unless_the_picture_ends_there(
    box: tuple[float, float, float, float], expected: bool
) -> None:
    inner = Box(64, 64, 192, 192)
    assert is_cut(boxes(box), inner, (256, 256)) is expected
    assert not is_cut(boxes(box), Box(0, 0, 128, 128), (128, 128))
    assert not is_cut(boxes(), inner, (256, 256))
