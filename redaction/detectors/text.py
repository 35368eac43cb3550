"""Written words of any script: a map of how likely each pixel is text, and a box around each patch of it.

The network (PP-OCRv6 small detection, after Liao et al., "Real-time Scene Text Detection with
Differentiable Binarization", 2020) marks the core of each line, shrunk from its outline; the box is grown
back. Nothing is read.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from redaction.detectors.network import Boxes, PictureNetwork, one_of_each, planes_of

CORE_FROM = 0.3
"""Pixels from this likelihood on belong to a line."""
CORE_LEAST_PX = 3
GROWTH = 1.6
"""A line's outline lies outside its core by area / perimeter times this."""


class Text(PictureNetwork):
    """Finds lines of text, each as an upright box around the line."""

    family = "text"
    usual_score = 0.5

    def _look(self, frames: NDArray[np.uint8]) -> list[Boxes]:
        (likely,) = self._run(planes_of(frames[..., ::-1]) / 127.5 - 1.0)
        return [boxes_of(likely[index, 0], self.score_min) for index in range(len(frames))]


def boxes_of(likely: NDArray[np.float32], score_min: float) -> Boxes:
    """Boxes from the network's map of one picture.

    Args:
        likely: ``(height, width)``, 0 to 1.
        score_min: Lines whose mean is below this are none.

    Returns:
        ``(k, 5)``, float32: x0, y0, x1, y1 in input pixels, score; best first, one per line.
    """
    core = (likely >= CORE_FROM).astype(np.uint8)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(core)
    sums = np.bincount(labels.ravel(), weights=likely.ravel(), minlength=count)
    found = []
    for label in range(1, count):
        left, top, width, height, area = facts[label].tolist()
        score = float(sums[label]) / area
        if min(width, height) < CORE_LEAST_PX or score < score_min:
            continue
        by = GROWTH * width * height / (2 * (width + height))
        found.append([left - by, top - by, left + width + by, top + height + by, score])
    boxes = np.array(found, dtype=np.float32).reshape(-1, 5)
    return one_of_each(boxes)
