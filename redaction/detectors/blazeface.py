"""BlazeFace, the second family: anchors and regression where CenterFace has centres in a heat map.

The network (Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019; the
full-range weights of MediaPipe) gives, for every 4x4 cell of its input, how likely a face is around the cell,
and in input pixels where its centre lies from the cell's and how wide and high it is. It was trained on
pictures of 192x192, so a face larger than that is found in a smaller copy of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redaction.detectors.network import Boxes, PictureNetwork, input_size, one_of_each, planes_of
from redaction.detectors.tflite import onnx_from_tflite

STRIDE_PX = 4
TRAINED_PX = 192


class BlazeFace(PictureNetwork):
    """Finds faces, each as a box around eyebrows, cheeks and chin."""

    family = "blazeface"
    usual_score = 0.7

    def _onnx(self, content: bytes) -> bytes:
        return onnx_from_tflite(content)

    def seen_sizes(self, width_px: int, height_px: int) -> list[tuple[int, int]]:
        sizes = super().seen_sizes(width_px, height_px)
        while max(sizes[-1]) > 2 * TRAINED_PX:
            sizes.append(input_size(width_px, height_px, max(sizes[-1]) // 2))
        return sizes

    def _look(self, frames: NDArray[np.uint8]) -> list[Boxes]:
        regressed, raised = self._run(planes_of(frames) / 127.5 - 1.0)
        return [boxes_of(raised[index, 0], regressed[index], self.score_min) for index in range(len(frames))]


def boxes_of(raised: NDArray[np.float32], regressed: NDArray[np.float32], score_min: float) -> Boxes:
    """Boxes from the network's two maps of one picture.

    Args:
        raised: ``(rows, columns)``, the logarithm of the odds that a face is here.
        regressed: ``(16, rows, columns)``: centre from the cell's, x and y, width and height in input pixels,
            then six points of the face that nobody asks for.
        score_min: Cells below this are no faces.

    Returns:
        ``(k, 5)``, float32: x0, y0, x1, y1 in input pixels, score; best first, one per face.
    """
    scores_everywhere = 1.0 / (1.0 + np.exp(-np.clip(raised, -80.0, 80.0)))
    rows, columns = np.nonzero(scores_everywhere >= score_min)
    shift_x, shift_y, widths, heights = regressed[:4, rows, columns]
    centre_x = (columns + 0.5) * STRIDE_PX + shift_x
    centre_y = (rows + 0.5) * STRIDE_PX + shift_y
    boxes = np.stack(
        [
            centre_x - widths / 2,
            centre_y - heights / 2,
            centre_x + widths / 2,
            centre_y + heights / 2,
            scores_everywhere[rows, columns],
        ],
        axis=1,
    ).astype(np.float32)
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    return one_of_each(boxes)
