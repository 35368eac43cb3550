"""An agency's own weights, behind one of our readers: named by digest like those of the register.

What may be brought along is data: a path, a digest, a class, the size pictures are seen at, and which of our
networks the file is built like. Code is never loaded, and ONNX Runtime opens nothing but the bytes whose
digest was compared: a file that names others for its tensors is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.errors import InvalidInput
from redaction.detectors.blazeface import BlazeFace
from redaction.detectors.centerface import CenterFace
from redaction.detectors.network import PictureNetwork
from redaction.detectors.plates import Plates
from redaction.detectors.text import Text
from redaction.models import read_weights

DECODERS: Mapping[str, type[PictureNetwork]] = {
    "centerface": CenterFace,
    "blazeface": BlazeFace,
    "plates": Plates,
    "text": Text,
}


@dataclass(frozen=True)
class OwnModel:
    """What a setting says of a model of an agency's own."""

    path: Path
    sha256: str
    """Of the file, lowercase hex."""
    finds: str
    """A class of `redaction.plan.TRACK_CLASSES`."""
    decoder: str
    """Which of `DECODERS` it is built like."""
    long_side_px: int
    every: int
    """Every how many frames it looks."""
    score_permille: int
    """Sightings from here on are masked."""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> OwnModel:
        return cls(**{**plain, "path": Path(plain["path"])})


def open_own(model: OwnModel, *, score_min: float, intra_op_threads: int) -> PictureNetwork:
    """A detector around an agency's own weights; it is shown pictures at the size it asked for.

    Raises:
        InvalidInput: There is no such decoder.
        Unavailable: The file is not there (``model_missing``).
        FixityError: It has other bytes than the setting says (``model_changed``).
        MediaError: It is no network of that kind, or not all of it (``model_unusable``).
    """
    if model.decoder not in DECODERS:
        raise InvalidInput(
            f"model {model.path.name}: expected a decoder of {sorted(DECODERS)}, found {model.decoder!r}"
        )
    weights = read_weights(model.path, model.sha256, model.path.name, "put the agency's file back")
    detector = DECODERS[model.decoder](
        weights,
        finds=model.finds,
        score_min=score_min,
        long_side_px=None,
        intra_op_threads=intra_op_threads,
    )
    # Of the same kind as ours, and yet not ours: a plan names both.
    detector.family = f"{model.decoder}:{model.sha256[:8]}"
    return detector
