"""CenterFace in ONNX Runtime, with post-processing of our own in numpy.

The network (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019)
gives, for every 4x4 cell of its input, how likely the cell is the centre of a face, the logarithm of
the face's height and width in cells, and where in the cell the centre lies.

The published file states a fixed input of ten 32x32 pictures although every layer is convolutional.
The stated sizes are opened here, in memory, after the file's digest was checked; no weight changes.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from redaction.detectors.network import Boxes, PictureNetwork, one_of_each, planes_of

STRIDE_PX = 4
# ValueInfoProto.type of a 4-d float tensor with all sizes given:
# tensor_type { elem_type: 1, shape { 4 x dim } }.
_FIXED_SHAPE = re.compile(rb"\x12\x16\n\x14\x08\x01\x12\x10((?:\n\x02\x08[\x00-\x7f]){4})")
_OPEN_DIMENSION = b"\n\x02\x12\x00"


class CenterFace(PictureNetwork):
    """Finds faces, each as a box around eyebrows, ears and chin."""

    family = "centerface"
    usual_score = 0.2
    # Heat, scale and offset; the fourth, landmarks, nobody asks for.
    answer_count = 3

    def _onnx(self, content: bytes) -> bytes:
        return _with_open_sizes(content)

    def _look(self, frames: NDArray[np.uint8]) -> list[Boxes]:
        heat, scale, offset = self._run(planes_of(frames))
        return [
            boxes_of(heat[index, 0], scale[index], offset[index], score_min=self.score_min)
            for index in range(len(frames))
        ]


def boxes_of(
    heat: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    *,
    score_min: float,
) -> NDArray[np.float32]:
    """Boxes from the network's three maps of one picture.

    Args:
        heat: ``(rows, columns)``, 0 to 1.
        scale: ``(2, rows, columns)``, logarithm of height and width in cells.
        offset: ``(2, rows, columns)``, vertical and horizontal place of the centre within the cell.
        score_min: Cells below this are no centres.

    Returns:
        ``(k, 5)``, float32: x0, y0, x1, y1 in input pixels, score; best first, one per face.
    """
    rows, columns = np.nonzero(heat >= score_min)
    scores = heat[rows, columns]
    # A cell can promise a face far larger than the picture; the exponent is bounded before it overflows.
    heights = np.exp(np.minimum(scale[0, rows, columns], 12.0)) * STRIDE_PX
    widths = np.exp(np.minimum(scale[1, rows, columns], 12.0)) * STRIDE_PX
    centre_x = (columns + offset[1, rows, columns] + 0.5) * STRIDE_PX
    centre_y = (rows + offset[0, rows, columns] + 0.5) * STRIDE_PX
    boxes = np.stack(
        [
            centre_x - widths / 2,
            centre_y - heights / 2,
            centre_x + widths / 2,
            centre_y + heights / 2,
            scores,
        ],
        axis=1,
    ).astype(np.float32)
    return one_of_each(boxes)


def _with_open_sizes(model: bytes) -> bytes:
    """The same network with batch, height and width left open.

    Each stated size is a protobuf field of the same length as an empty symbolic one, so the
    bytes are exchanged in place: `Dimension { dim_value: n }` becomes `Dimension { dim_param: "" }`.
    """

    def opened(match: re.Match[bytes]) -> bytes:
        head, sizes = match[0][:8], match[1]
        return head + _OPEN_DIMENSION + sizes[4:8] + _OPEN_DIMENSION * 2

    return _FIXED_SHAPE.sub(opened, model)
