"""CenterFace in ONNX Runtime on the CPU, with post-processing of our own in numpy.

The network (Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019)
gives, for every 4x4 cell of its input, how likely the cell is the centre of a face, the logarithm of
the face's height and width in cells, and where in the cell the centre lies.

The published file states a fixed input of ten 32x32 pictures although every layer is convolutional.
The stated sizes are opened here, in memory, after the file's digest was checked; no weight changes.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from evidence.errors import InvalidInput, MediaError
from redaction.models import model_record, verify_model

STRIDE_PX = 4
SIZE_STEP_PX = 32
OVERLAP_OF_ONE_FACE = 0.3
# ValueInfoProto.type of a 4-d float tensor with all sizes given:
# tensor_type { elem_type: 1, shape { 4 x dim } }.
_FIXED_SHAPE = re.compile(rb"\x12\x16\n\x14\x08\x01\x12\x10((?:\n\x02\x08[\x00-\x7f]){4})")
_OPEN_DIMENSION = b"\n\x02\x12\x00"


def input_size(width_px: int, height_px: int, long_side_px: int) -> tuple[int, int]:
    """The size at which the network sees a picture: the longer side near ``long_side_px``.

    Both sides are multiples of 32, at least 32; the ratio is kept as nearly as that allows.
    """
    scale = long_side_px / max(width_px, height_px)
    width = max(1, round(width_px * scale / SIZE_STEP_PX)) * SIZE_STEP_PX
    height = max(1, round(height_px * scale / SIZE_STEP_PX)) * SIZE_STEP_PX
    return width, height


class CenterFace:
    """Finds faces, each as a box around eyebrows, ears and chin.

    Args:
        models_dir: Where `redaction.models.install_model` put the weights.
        score_min: Scores below this are not reported, 0 to 1.
        long_side_px: Pictures are scaled to this size before the network sees them; None leaves theirs.
        intra_op_threads: Threads that one call uses; calls from several threads at once are safe.
    """

    family = "centerface"
    finds = "face"

    def __init__(
        self,
        models_dir: Path,
        *,
        score_min: float = 0.2,
        long_side_px: int | None = 640,
        intra_op_threads: int = 2,
    ) -> None:
        path = verify_model(models_dir, "centerface")
        self.model_digest = model_record("centerface").sha256
        self.score_min = score_min
        self.long_side_px = long_side_px
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        # Waiting threads sleep: on a small machine the decoder needs the core they would burn.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                _with_open_sizes(path.read_bytes()), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own types share no base class
            raise MediaError(
                f"model centerface: expected a network that ONNX Runtime loads, found {error}",
                code="model_unusable",
            ) from error
        self._input_name = self._session.get_inputs()[0].name
        # Heat, scale, offset; the fourth output, landmarks, is not computed.
        self._output_names = [output.name for output in self._session.get_outputs()[:3]]

    def detect(self, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Find faces in pictures of one size.

        Args:
            frames: RGB24, ``(n, height, width, 3)``, uint8.

        Returns:
            For each picture ``(k, 5)``, float32: x0, y0, x1, y1 in pixels of the picture given, and score.

        Raises:
            InvalidInput: ``frames`` has another shape or type.
        """
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape[1:]:
            raise InvalidInput(
                f"frames: expected uint8 of (n, height, width, 3), found {frames.dtype} of {frames.shape}"
            )
        if len(frames) == 0:
            return []
        height, width = frames.shape[1:3]
        seen_width, seen_height = input_size(width, height, self.long_side_px or max(width, height))
        if (seen_width, seen_height) != (width, height):
            shrinks = seen_width < width
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            frames = np.stack(
                [cv2.resize(frame, (seen_width, seen_height), interpolation=how) for frame in frames]
            )
        planes = np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32)
        heat, scale, offset = self._session.run(self._output_names, {self._input_name: planes})
        per_pixel = np.array([width / seen_width, height / seen_height] * 2, dtype=np.float32)
        found = []
        for index in range(len(frames)):
            boxes = boxes_of(heat[index, 0], scale[index], offset[index], score_min=self.score_min)
            boxes[:, :4] *= per_pixel
            boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(0.0, width)
            boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(0.0, height)
            found.append(boxes)
        return found


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
    return boxes[one_of_each(boxes)]


def one_of_each(boxes: NDArray[np.float32], overlap: float = OVERLAP_OF_ONE_FACE) -> NDArray[np.intp]:
    """Indices of the boxes that are left when each keeps down the weaker ones it overlaps (NMS)."""
    order = np.argsort(-boxes[:, 4], kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:4], boxes[rest, 2:4])
        shared = np.prod(np.clip(high - low, 0.0, None), axis=1)
        order = rest[shared < overlap * (areas[best] + areas[rest] - shared)]
    return np.array(kept, dtype=np.intp)


def _with_open_sizes(model: bytes) -> bytes:
    """The same network with batch, height and width left open.

    Each stated size is a protobuf field of the same length as an empty symbolic one, so the
    bytes are exchanged in place: `Dimension { dim_value: n }` becomes `Dimension { dim_param: "" }`.
    """

    def opened(match: re.Match[bytes]) -> bytes:
        head, sizes = match[0][:8], match[1]
        return head + _OPEN_DIMENSION + sizes[4:8] + _OPEN_DIMENSION * 2

    return _FIXED_SHAPE.sub(opened, model)
