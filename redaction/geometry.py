"""Boxes, even edges and the pixels of a mask: pure arithmetic that never hides less than it was asked to.

Pixel boxes are half-open: ``x0`` and ``y0`` are inside, ``x1`` and ``y1`` are the first column and row
outside. Detections are floats in the same frame; they become pixels by rounding outward.
"""

from __future__ import annotations

import math
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


class Region(NamedTuple):
    """What one mask covers in one frame; ``box`` has even edges inside the picture."""

    box: Box
    shape: str
    """``rectangle``, or ``ellipse`` inscribed in the box."""


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
