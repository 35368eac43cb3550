"""Chinese number plates: a single-shot network with priors at three strides.

The network (zeusees/License-Plate-Detector, built like RetinaFace of Deng et al., 2019) gives, for two prior
squares at every cell of three grids, how the plate's box differs from the prior, how likely it is a plate,
and where its corners are, which nobody asks for. It was trained on plates of China.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from redaction.detectors.network import Boxes, PictureNetwork, one_of_each, planes_of

MEAN_BGR = np.array([104.0, 117.0, 123.0], dtype=np.float32).reshape(3, 1, 1)
GRIDS = ((8, (24, 48)), (16, (96, 192)), (32, (384, 768)))
"""Stride of each grid and the sides of its priors, in input pixels."""
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


class Plates(PictureNetwork):
    """Finds number plates, each as a box around the plate."""

    family = "plates"
    usual_score = 0.5
    # How the box differs, and how likely it is; the third, corners, nobody asks for.
    answer_count = 2

    def _look(self, frames: NDArray[np.uint8]) -> list[Boxes]:
        planes = planes_of(frames[..., ::-1]) - MEAN_BGR
        shifts, scores = self._run(planes)
        priors = priors_of(frames.shape[2], frames.shape[1])
        return [
            boxes_of(shifts[index], scores[index, :, 1], priors, self.score_min)
            for index in range(len(frames))
        ]


def priors_of(width_px: int, height_px: int) -> NDArray[np.float32]:
    """The priors of a picture: ``(k, 3)``, float32: centre x and y, and side, in input pixels."""
    parts = []
    for stride, sides in GRIDS:
        rows, columns = np.mgrid[: ceil(height_px / stride), : ceil(width_px / stride)]
        cells = np.stack([(columns + 0.5) * stride, (rows + 0.5) * stride], axis=-1).reshape(-1, 1, 2)
        squares = np.tile(np.array(sides, dtype=np.float64)[None, :, None], (len(cells), 1, 1))
        parts.append(np.concatenate([np.tile(cells, (1, len(sides), 1)), squares], axis=2).reshape(-1, 3))
    return np.concatenate(parts).astype(np.float32)


def boxes_of(
    shifts: NDArray[np.float32], scores: NDArray[np.float32], priors: NDArray[np.float32], score_min: float
) -> Boxes:
    """Boxes from the network's answer to one picture.

    Args:
        shifts: ``(k, 4)``: centre from the prior's in tenths of its side, logarithm of the size in fifths.
        scores: ``(k,)``, 0 to 1.
        priors: ``(k, 3)`` of `priors_of`.
        score_min: Priors below this are no plates.

    Returns:
        ``(n, 5)``, float32: x0, y0, x1, y1 in input pixels, score; best first, one per plate.
    """
    likely = scores >= score_min
    shifts, scores, priors = shifts[likely], scores[likely], priors[likely]
    sides = priors[:, 2:]
    centres = priors[:, :2] + shifts[:, :2] * (CENTRE_VARIANCE * sides)
    # The exponent is bounded before it overflows.
    halves = sides * np.exp(np.minimum(shifts[:, 2:] * SIZE_VARIANCE, 8.0)) / 2
    boxes = np.concatenate([centres - halves, centres + halves, scores[:, None]], axis=1).astype(np.float32)
    return one_of_each(boxes)
