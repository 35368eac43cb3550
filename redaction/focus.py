"""Where in a picture a second look has to look: around what was seen shortly before and after.

A first look at a frame is one at the whole picture. A second one is asked for because something that was seen
began, ended, moved fast or was unsure (`redaction.passes`); it is about that thing, so it looks at the places
where that may be by now, at the same scale, in whole cells of the network. What stands at the edge of such a
place is cut by it: whoever sees something there looks at the whole picture after all (`is_cut`).

Pure: boxes in, boxes out. Boxes are half-open, in pixels; a picture is as large as a network sees it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redaction.detectors.network import SIZE_STEP_PX
from redaction.geometry import Box

Detections = NDArray[np.float32]

MARGIN = 1.25
"""How far beyond a sighting its thing may be by then, and what stands around it, in sizes of the sighting."""
LEAST_PX = 96
"""No place is narrower or lower: a network judges a thing by what stands around it."""
WHOLE_SHARE = 0.7
"""Places that are more of the picture than this are no saving."""
CUT_PX = 4.0
"""What ends this near to where a place ends, and the picture does not, may go on beyond."""


def places(near: Detections, picture_px: tuple[int, int], seen_px: tuple[int, int]) -> list[Box]:
    """Where to look.

    Args:
        near: What was seen around this frame, ``(k, 5)`` in pixels of the picture as coded.
        picture_px: Width and height of that.
        seen_px: Width and height of the picture that is looked at, in whole steps of a network's input.

    Returns:
        Places of ``seen_px`` that do not overlap, each in whole steps; the whole where that is no more.
    """
    width, height = seen_px
    found: list[Box] = []
    for x0, y0, x1, y1, _ in near.tolist():
        across, down = width / picture_px[0], height / picture_px[1]
        left, top, right, bottom = x0 * across, y0 * down, x1 * across, y1 * down
        reach = MARGIN * max(right - left, bottom - top)
        columns = _steps(left - reach, right + reach, width)
        rows = _steps(top - reach, bottom + reach, height)
        found = _with(found, Box(columns[0], rows[0], columns[1], rows[1]))
    whole = Box(0, 0, width, height)
    return [whole] if sum(map(_area, found)) > WHOLE_SHARE * _area(whole) else found


def is_cut(boxes: Detections, place: Box, seen_px: tuple[int, int]) -> bool:
    """Whether anything seen in a place may go on beyond it; boxes ``(k, 5)`` in pixels of the place."""
    width, height = seen_px
    at_edge = [
        (boxes[:, 0] < CUT_PX) & (place.x0 > 0),
        (boxes[:, 1] < CUT_PX) & (place.y0 > 0),
        (boxes[:, 2] > place.width_px - CUT_PX) & (place.x1 < width),
        (boxes[:, 3] > place.height_px - CUT_PX) & (place.y1 < height),
    ]
    return bool(np.any(at_edge))


def _steps(low: float, high: float, side: int) -> tuple[int, int]:
    """From ``low`` to ``high`` in whole steps, at least `LEAST_PX` as far as there is picture."""
    first = int(np.floor(max(0.0, low) / SIZE_STEP_PX)) * SIZE_STEP_PX
    end = int(np.ceil(min(float(side), high) / SIZE_STEP_PX)) * SIZE_STEP_PX
    first = max(0, min(first, end - LEAST_PX))
    return first, min(side, max(end, first + LEAST_PX))


def _with(found: Sequence[Box], place: Box) -> list[Box]:
    """The places with one more; those that overlap become one."""
    apart = []
    for other in found:
        if other.x0 < place.x1 and place.x0 < other.x1 and other.y0 < place.y1 and place.y0 < other.y1:
            place = Box(
                min(place.x0, other.x0), min(place.y0, other.y0),
                max(place.x1, other.x1), max(place.y1, other.y1),
            )  # fmt: skip
        else:
            apart.append(other)
    # What has grown may reach others now.
    return [*apart, place] if len(apart) == len(found) else _with(apart, place)


def _area(box: Box) -> int:
    return box.width_px * box.height_px
