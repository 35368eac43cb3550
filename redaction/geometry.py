"""Boxes, even edges and the pixels of a mask: pure arithmetic that never hides less than it was asked to.

Pixel boxes are half-open: ``x0`` and ``y0`` are inside, ``x1`` and ``y1`` are the first column and row
outside. Detections are floats in the same frame; they become pixels by rounding outward.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evidence.errors import InvalidInput


class RegionOutsidePicture(InvalidInput):
    """A region that has no pixel in common with the picture."""

    default_code = "region_outside_picture"


class Box(NamedTuple):
    """A half-open rectangle of pixels."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width_px(self) -> int:
        return self.x1 - self.x0

    @property
    def height_px(self) -> int:
        return self.y1 - self.y0

    def contains(self, other: Box) -> bool:
        """Whether every pixel of ``other`` is a pixel of this box."""
        return self.x0 <= other.x0 and self.y0 <= other.y0 and self.x1 >= other.x1 and self.y1 >= other.y1


Point = tuple[float, float]
Polygon = tuple[Point, ...]
"""Corners in pixels, each the upper left of its pixel; closed by itself, convex or not."""

# In cells: more than a corner is ever rounded by, less than anybody sees.
CORNER_SLACK = 5e-3


class Region(NamedTuple):
    """What one mask covers in one frame; ``box`` has even edges inside the picture."""

    box: Box
    shape: str | Polygon
    """``rectangle``, ``ellipse`` inscribed in the box, or the corners of what is covered inside the box."""


def outward(x0: float, y0: float, x1: float, y1: float) -> Box:
    """The smallest pixel box that covers a box of floats."""
    return Box(math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1))


def clip(box: Box, *, width_px: int, height_px: int) -> Box:
    """The part of ``box`` inside the picture; empty boxes come out with ``x1 <= x0`` or ``y1 <= y0``."""
    return Box(max(0, box.x0), max(0, box.y0), min(width_px, box.x1), min(height_px, box.y1))


def is_empty(box: Box) -> bool:
    """Whether the box holds no pixel."""
    return box.x1 <= box.x0 or box.y1 <= box.y0


def even_cover(box: Box, *, width_px: int, height_px: int) -> Box:
    """Grow a box outward to even pixels, clipped to the picture.

    In 4:2:0 video one chroma sample belongs to a 2x2 block of luma, so a mask
    with an odd edge would leave the colour of what it hides along that edge.

    Args:
        box: The region to hide, in source pixels, before any scaling.
        width_px: Picture width, even.
        height_px: Picture height, even.

    Returns:
        The smallest box with even corners that covers every pixel of ``box``
        inside the picture.

    Raises:
        RegionOutsidePicture: No pixel of ``box`` is inside the picture.

    Source: ITU-T H.264 clause 6.2, sample positions for 4:2:0.
    """
    inside = clip(box, width_px=width_px, height_px=height_px)
    if is_empty(inside):
        raise RegionOutsidePicture(
            f"region {tuple(box)}: expected a box that meets the {width_px}x{height_px} picture, "
            "found none of it inside; use pixels of the source picture",
            box=list(box),
        )
    return Box(inside.x0 & ~1, inside.y0 & ~1, (inside.x1 + 1) & ~1, (inside.y1 + 1) & ~1)


def between(first: Box, second: Box, *, elapsed: int, whole: int) -> Box:
    """The box ``elapsed`` of ``whole`` time units on the way from one box to another, rounded outward.

    Integer arithmetic only, so that every machine masks the same pixels.

    Args:
        first: The box at 0.
        second: The box at ``whole``.
        elapsed: Time since the first box, 0 to ``whole``.
        whole: Time from the first box to the second, more than 0.
    """
    remaining = whole - elapsed
    return Box(
        (first.x0 * remaining + second.x0 * elapsed) // whole,
        (first.y0 * remaining + second.y0 * elapsed) // whole,
        -((-first.x1 * remaining - second.x1 * elapsed) // whole),
        -((-first.y1 * remaining - second.y1 * elapsed) // whole),
    )


def between_inward(first: Box, second: Box, *, elapsed: int, whole: int) -> Box:
    """As `between`, rounded inward: for a box that stays bare. It may be empty."""
    remaining = whole - elapsed
    return Box(
        -((-first.x0 * remaining - second.x0 * elapsed) // whole),
        -((-first.y0 * remaining - second.y0 * elapsed) // whole),
        (first.x1 * remaining + second.x1 * elapsed) // whole,
        (first.y1 * remaining + second.y1 * elapsed) // whole,
    )


def even_sided(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A still with its last row and column doubled where that makes its sides even."""
    height, width = rgb.shape[:2]
    return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def ellipse_cells(box: Box) -> NDArray[np.bool_]:
    """Which 2x2 cells of an even box its inscribed ellipse touches.

    A cell counts when any point of it is inside the ellipse, so no pixel of the ellipse is left out.

    Returns:
        ``(height / 2, width / 2)``, bool.
    """
    columns, rows = box.width_px // 2, box.height_px // 2
    # The point of each cell that is nearest to the centre, in units of the half axes.
    across = _nearest(columns)
    down = _nearest(rows)
    inside: NDArray[np.bool_] = across[None, :] ** 2 + down[:, None] ** 2 <= 1.0
    return inside


def _nearest(count: int) -> NDArray[np.float64]:
    low = np.arange(count) / (count / 2.0) - 1.0
    high = low + 2.0 / count
    return np.maximum(0.0, np.maximum(low, -high))


def around(points: Iterable[tuple[Fraction | int, Fraction | int]]) -> Box:
    """The smallest pixel box that holds all points."""
    across, down = zip(*points, strict=True)
    return Box(math.floor(min(across)), math.floor(min(down)), math.ceil(max(across)), math.ceil(max(down)))


def even_within(box: Box, *, width_px: int, height_px: int) -> Box:
    """The largest even box inside a box and the picture; it may be empty: what stays bare is never grown."""
    inside = clip(box, width_px=width_px, height_px=height_px)
    return Box((inside.x0 + 1) & ~1, (inside.y0 + 1) & ~1, inside.x1 & ~1, inside.y1 & ~1)


def all_but(box: Box, *, width_px: int, height_px: int) -> list[Box]:
    """The picture without a box, as even boxes that do not overlap; all of it where that one is empty."""
    bare = even_within(box, width_px=width_px, height_px=height_px)
    if is_empty(bare):
        return [Box(0, 0, width_px, height_px)]
    parts = (
        Box(0, 0, width_px, bare.y0),
        Box(0, bare.y1, width_px, height_px),
        Box(0, bare.y0, bare.x0, bare.y1),
        Box(bare.x1, bare.y0, width_px, bare.y1),
    )
    return [part for part in parts if not is_empty(part)]


def region_cells(region: Region, inset_px: int = 0) -> NDArray[np.bool_]:
    """Which 2x2 cells of a region's box, made smaller on all sides, its shape covers.

    Args:
        region: Its box has even edges.
        inset_px: Even. Of an ellipse, that of the smaller box; of a polygon, cells with nothing bare so near.

    Returns:
        ``((height - 2 inset) / 2, (width - 2 inset) / 2)``, bool.
    """
    x0, y0, x1, y1 = region.box
    if region.shape == "ellipse":
        return ellipse_cells(Box(x0 + inset_px, y0 + inset_px, x1 - inset_px, y1 - inset_px))
    rows, columns, steps = (y1 - y0) // 2, (x1 - x0) // 2, inset_px // 2
    if isinstance(region.shape, str):
        return np.ones((max(0, rows - 2 * steps), max(0, columns - 2 * steps)), np.bool_)
    cells = polygon_cells(region.shape, region.box)
    for _ in range(steps):
        cells = cells[1:-1] & cells[:-2] & cells[2:]
        cells = cells[:, 1:-1] & cells[:, :-2] & cells[:, 2:]
    return cells


def painted(regions: Iterable[Region], width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Which pixels of a picture regions cover, each by its shape.

    Returns:
        ``(height_px, width_px)``, bool.
    """
    cells = np.zeros(((height_px + 1) // 2, (width_px + 1) // 2), np.bool_)
    for region in regions:
        x0, y0, x1, y1 = (edge // 2 for edge in region.box)
        cells[y0:y1, x0:x1] |= region_cells(region)
    return cells.repeat(2, axis=0).repeat(2, axis=1)[:height_px, :width_px]


def polygon_cells(points: Polygon, box: Box) -> NDArray[np.bool_]:
    """Which 2x2 cells of an even box a polygon touches: never less than the polygon.

    A cell that no side passes through lies wholly inside or wholly outside, so its centre decides, and a
    cell that a side does pass through counts. Where sides cross each other, what is wound around more than
    not at all is inside.

    Returns:
        ``(height / 2, width / 2)``, bool.
    """
    rows, columns = box.height_px // 2, box.width_px // 2
    touched = np.zeros((rows, columns + 1), np.int32)
    wound = np.zeros((rows, columns + 1), np.int32)
    # In cells of the box.
    corners = [((x - box.x0) / 2, (y - box.y0) / 2) for x, y in points]
    for first, second in zip(corners, (*corners[1:], corners[0]), strict=True):
        _touch(first, second, touched)
        _wind(first, second, wound)
    covered: NDArray[np.bool_] = (touched.cumsum(axis=1) > 0) | (wound.cumsum(axis=1) != 0)
    return covered[:, :columns]


def _touch(first: Point, second: Point, touched: NDArray[np.int32]) -> None:
    """Count +1 and -1 in each row where the cells begin and end that a side passes through."""
    rows, columns = touched.shape[0], touched.shape[1] - 1
    (x0, y0), (x1, y1) = sorted((first, second), key=lambda corner: corner[1])
    low, high = max(0, math.floor(y0 - CORNER_SLACK)), min(rows - 1, math.floor(y1 + CORNER_SLACK))
    if low > high:
        return
    row = np.arange(low, high + 1)
    slope = (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
    top = x0 + slope * (np.clip(row - CORNER_SLACK, y0, y1) - y0)
    bottom = x0 + slope * (np.clip(row + 1 + CORNER_SLACK, y0, y1) - y0) if y1 > y0 else np.full(row.size, x1)
    begins = np.floor(np.minimum(top, bottom) - CORNER_SLACK).astype(np.int64)
    ends = np.floor(np.maximum(top, bottom) + CORNER_SLACK).astype(np.int64) + 1
    meets = (ends > 0) & (begins < columns)
    np.add.at(touched, (row[meets], np.clip(begins[meets], 0, columns)), 1)
    np.add.at(touched, (row[meets], np.clip(ends[meets], 0, columns)), -1)


def _wind(first: Point, second: Point, wound: NDArray[np.int32]) -> None:
    """Count in each row, from the first cell whose centre lies beyond it, a side that passes its height."""
    rows, columns = wound.shape[0], wound.shape[1] - 1
    turn = 1 if second[1] > first[1] else -1
    (x0, y0), (x1, y1) = sorted((first, second), key=lambda corner: corner[1])
    low, high = max(0, math.ceil(y0 - 0.5)), min(rows, math.ceil(y1 - 0.5))
    if low >= high:
        return
    row = np.arange(low, high)
    across = x0 + (x1 - x0) / (y1 - y0) * (row + 0.5 - y0)
    beyond = np.clip(np.ceil(across - 0.5), 0, columns).astype(np.int64)
    np.add.at(wound, (row, beyond), turn)
