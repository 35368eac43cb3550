"""What every network that looks at pictures has in common: sizes, batches, boxes in the picture's pixels.

A detector of ours is three things: weights whose digest was compared, how a picture is prepared for them, and
how their answer is read. The second and third are a subclass, one a module; the first may be an agency's own.
Sessions run on the CPU, and on a CUDA device where this machine's ONNX Runtime has one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from evidence.errors import InvalidInput, MediaError
from redaction.detectors.onnx_file import is_whole, with_constant_weights
from redaction.models import Weights, load_model, model_record

SIZE_STEP_PX = 32
# Two boxes are of one thing from this share of both on; from the second, where the weaker one lies inside.
OVERLAP_OF_ONE = 0.5
OVERLAP_INSIDE, INSIDE = 0.3, 0.95
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")

Boxes = NDArray[np.float32]
Maps = Sequence[NDArray[np.float32]]


class PictureNetwork(ABC):
    """A `redaction.look.Detector` around one network.

    Args:
        weights: A folder where `redaction.models.install_model` put the registered ones, or others of the
            same kind of network.
        finds: What those others find; the register says it of its own.
        score_min: Scores below this are not reported, 0 to 1; None takes the network's own.
        long_side_px: Pictures are scaled to this size before the network sees them; None leaves theirs.
        intra_op_threads: Threads that one call uses; calls from several threads at once are safe.
    """

    family: str
    """Name of the kind of network, and of its weights in the register."""
    usual_score: float
    """From here on a sighting is worth a mask, unless a setting says otherwise."""
    answer_count: int | None = None
    """How many of the network's answers are read, the first ones; the rest is not computed. None: all."""

    def __init__(
        self,
        weights: Path | Weights,
        *,
        finds: str | None = None,
        score_min: float | None = None,
        long_side_px: int | None = 640,
        intra_op_threads: int = 2,
    ) -> None:
        loaded = weights if isinstance(weights, Weights) else load_model(weights, self.family)
        self.model_digest = loaded.sha256
        self.finds = finds or model_record(self.family).finds
        self.score_min = self.usual_score if score_min is None else score_min
        self.long_side_px = long_side_px
        self._session = open_session(
            self._onnx(loaded.content), self.family, intra_op_threads, self.answer_count
        )
        self._input_name = self._session.get_inputs()[0].name

    def detect(self, frames: NDArray[np.uint8]) -> list[Boxes]:
        """Find things in pictures of one size.

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
        found: list[list[Boxes]] = [[] for _ in frames]
        for seen_width, seen_height in self.seen_sizes(width, height):
            seen = scaled(frames, seen_width, seen_height)
            per_pixel = np.array([width / seen_width, height / seen_height] * 2, dtype=np.float32)
            for index, boxes in enumerate(self._look(seen)):
                boxes[:, :4] *= per_pixel
                boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(0.0, width)
                boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(0.0, height)
                found[index].append(boxes)
        return [merged(one) for one in found]

    def seen_sizes(self, width_px: int, height_px: int) -> list[tuple[int, int]]:
        """The sizes at which the network looks at a picture, ``(width, height)``."""
        return [input_size(width_px, height_px, self.long_side_px or max(width_px, height_px))]

    def _onnx(self, content: bytes) -> bytes:
        """The file as ONNX Runtime reads it."""
        return content

    def _run(self, planes: NDArray[np.float32]) -> Maps:
        answers: Maps = self._session.run(None, {self._input_name: planes})
        return answers

    @abstractmethod
    def _look(self, frames: NDArray[np.uint8]) -> list[Boxes]:
        """What the network finds in pictures of the size it sees, in their pixels, one box for each thing."""


def open_session(
    model: bytes, family: str, intra_op_threads: int, answer_count: int | None = None
) -> onnxruntime.InferenceSession:
    """A session for a model, which gives its first ``answer_count`` outputs, or all.

    Raises:
        MediaError: ONNX Runtime does not load it, or parts of it lie in other files (``model_unusable``).
    """
    try:
        whole = is_whole(model)
        model = with_constant_weights(model, answer_count)
    except ValueError as error:
        raise MediaError(
            f"model {family}: expected an ONNX file, found {error}", code="model_unusable"
        ) from error
    if not whole:
        raise MediaError(
            f"model {family}: expected all weights in the file whose digest is named, found tensors "
            "that lie in others; save it as one file",
            code="model_unusable",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # Waiting threads sleep: on a small machine the decoder needs the core they would burn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(
            model, options, providers=[name for name in PROVIDERS if name in available]
        )
    except Exception as error:  # ONNX Runtime's own types share no base class
        raise MediaError(
            f"model {family}: expected a network that ONNX Runtime loads, found {error}",
            code="model_unusable",
        ) from error


def input_size(width_px: int, height_px: int, long_side_px: int) -> tuple[int, int]:
    """The size at which a network sees a picture: the longer side near ``long_side_px``.

    Both sides are multiples of 32, at least 32; the ratio is kept as nearly as that allows.
    """
    scale = long_side_px / max(width_px, height_px)
    width = max(1, round(width_px * scale / SIZE_STEP_PX)) * SIZE_STEP_PX
    height = max(1, round(height_px * scale / SIZE_STEP_PX)) * SIZE_STEP_PX
    return width, height


def scaled(frames: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Pictures ``(n, height, width, 3)`` at another size."""
    if frames.shape[1:3] == (height_px, width_px):
        return frames
    how = cv2.INTER_AREA if width_px < frames.shape[2] else cv2.INTER_LINEAR
    resized = [cv2.resize(frame, (width_px, height_px), interpolation=how) for frame in frames]
    return np.stack(resized).astype(np.uint8, copy=False)


def planes_of(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures ``(n, height, width, 3)`` as ``(n, 3, height, width)``, float32, 0 to 255."""
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32)


def merged(found: Sequence[Boxes]) -> Boxes:
    """Boxes of several looks at one picture, one for each thing; each is inside one that is left."""
    return found[0] if len(found) == 1 else one_of_each(np.concatenate(found), grow=True)


def one_of_each(boxes: Boxes, *, grow: bool = False) -> Boxes:
    """One box for each thing, best first (NMS).

    A weaker box is the same thing as a stronger one where most of both is shared, or nearly all of it lies in
    a stronger one of about its size. Things that only overlap are two.

    Args:
        boxes: ``(k, 5)``, float32: x0, y0, x1, y1, score.
        grow: Make each box that is left hold those that it stands for: for boxes that are answers already,
            not the many cells of one answer.
    """
    order = np.argsort(-boxes[:, 4], kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[Boxes] = []
    while order.size:
        best, rest = order[0], order[1:]
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:4], boxes[rest, 2:4])
        shared = np.prod(np.clip(high - low, 0.0, None), axis=1)
        overlap = shared / np.maximum(areas[best] + areas[rest] - shared, np.finfo(np.float32).tiny)
        is_inside = (shared >= INSIDE * areas[rest]) & (overlap >= OVERLAP_INSIDE)
        is_same = is_inside | (overlap >= OVERLAP_OF_ONE)
        one = boxes[best].copy()
        if grow:
            same = boxes[order[np.append(True, is_same)]]
            one[:2], one[2:4] = same[:, :2].min(axis=0), same[:, 2:4].max(axis=0)
        kept.append(one)
        order = rest[~is_same]
    return np.stack(kept) if kept else boxes
