from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redaction.geometry import (
    Box,
    RegionOutsidePicture,
    between,
    clip,
    ellipse_cells,
    even_cover,
    even_sided,
    is_empty,
    outward,
)

WIDTH, HEIGHT = 64, 48
edges = st.integers(-40, 120)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, y0 = draw(edges), draw(edges)
    return Box(x0, y0, x0 + draw(st.integers(1, 80)), y0 + draw(st.integers(1, 80)))


@given(boxes())
def test_even_cover_covers_every_pixel_inside_the_picture_with_even_edges(box: Box) -> None:
    inside = clip(box, width_px=WIDTH, height_px=HEIGHT)
    if is_empty(inside):
        with pytest.raises(RegionOutsidePicture):
            even_cover(box, width_px=WIDTH, height_px=HEIGHT)
        return
    cover = even_cover(box, width_px=WIDTH, height_px=HEIGHT)
    assert cover.contains(inside)
    assert all(edge % 2 == 0 for edge in cover)
    assert Box(0, 0, WIDTH, HEIGHT).contains(cover)
    assert cover.width_px <= inside.width_px + 2
    assert cover.height_px <= inside.height_px + 2


@given(boxes(), boxes(), st.integers(1, 1000), st.data())
def test_interpolated_box_never_lies_inside_the_true_one(
    first: Box, second: Box, whole: int, data: st.DataObject
) -> None:
    elapsed = data.draw(st.integers(0, whole))
    share = elapsed / whole
    true = [a + (b - a) * share for a, b in zip(first, second, strict=True)]
    box = between(first, second, elapsed=elapsed, whole=whole)
    assert box.x0 <= true[0] + 1e-6
    assert box.y0 <= true[1] + 1e-6
    assert box.x1 >= true[2] - 1e-6
    assert box.y1 >= true[3] - 1e-6
    low, high = np.minimum(first, second), np.maximum(first, second)
    assert Box(low[0], low[1], high[2], high[3]).contains(box)
    assert between(first, second, elapsed=0, whole=whole) == first
    assert between(first, second, elapsed=whole, whole=whole) == second


@given(st.integers(1, 30), st.integers(1, 30))
def test_ellipse_cells_hold_every_pixel_whose_centre_is_inside_the_ellipse(columns: int, rows: int) -> None:
    width, height = 2 * columns, 2 * rows
    cells = ellipse_cells(Box(0, 0, width, height))
    painted = np.repeat(np.repeat(cells, 2, axis=0), 2, axis=1)
    x = (np.arange(width) + 0.5) / (width / 2) - 1
    y = (np.arange(height) + 0.5) / (height / 2) - 1
    assert painted[(x[None] ** 2 + y[:, None] ** 2) <= 1].all()


def test_outward_rounds_away_from_the_centre() -> None:
    assert outward(1.2, 2.9, 3.1, 4.0) == Box(1, 2, 4, 4)


def test_odd_still_gets_even_sides_without_losing_a_pixel() -> None:
    picture = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    even = even_sided(picture)
    assert even.shape == (4, 6, 3)
    assert (even[:3, :5] == picture).all()
