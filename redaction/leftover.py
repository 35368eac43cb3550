"""Look at a redacted rendition for faces that are left, with another family of detector than proposed.

Two networks built alike miss alike. Whoever proposed, the other one looks here, at pictures that are all the
world will see, at least twice a second. What it sees is a finding unless masks, by their shapes, lie over
most of it, or a person decided that it is shown: a track that is *refused* stands in the plan with who
refused it and why, and refusing needs a second person (docs/design/redaction.md, "Who may reveal").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.decode import DecodedFrame
from redaction.detectors.blazeface import BlazeFace
from redaction.detectors.centerface import CenterFace
from redaction.detectors.network import PictureNetwork, input_size, scaled
from redaction.findings import Report
from redaction.geometry import Region, painted
from redaction.look import Detector
from redaction.plan import Masks, RedactionPlan, State

FAMILIES: tuple[type[PictureNetwork], ...] = (BlazeFace, CenterFace)
LONG_SIDE_PX = 640
LOOKS_PER_S = 2
COVERED_SHARE = 0.5
"""A sighting is of the mask itself when it lies under masks to this share."""


def another_family(plan: RedactionPlan, models_dir: Path, score_min: float) -> PictureNetwork:
    """The face detector that looks at what came of a plan: one of a kind that did not propose it.

    Where every kind proposed, the first looks again.
    """
    proposed = {family.partition(":")[0] for family in plan.models}
    kind = next((kind for kind in FAMILIES if kind.family not in proposed), FAMILIES[0])
    return kind(models_dir, score_min=score_min, long_side_px=None, intra_op_threads=1)


class Leftovers:
    """Looks at the frames of a redacted rendition as they are decoded.

    Args:
        plan: What should be hidden, for a picture.
        detector: Of another family than proposed it.
        report: Where findings go.
        time_base: Of the rendition's video stream.
        rotation: Degrees counter-clockwise to turn the picture for showing.
    """

    def __init__(
        self,
        plan: RedactionPlan,
        detector: Detector,
        report: Report,
        *,
        time_base: Fraction = Fraction(1),
        rotation: int = 0,
    ) -> None:
        self._detector = detector
        self._report = report
        self._pause = Fraction(1, LOOKS_PER_S) / time_base
        self._rotation = rotation
        self._next: Fraction | None = None
        self._shown = Masks(_shown_by_decision(plan))
        report.looked = {detector.family: detector.model_digest}

    def look(self, frame: DecodedFrame, hidden: Sequence[Region]) -> None:
        """Look at a frame if it is time for one; ``hidden`` is what the plan hides in it."""
        if frame.corrupt or (self._next is not None and frame.pts < self._next):
            return
        # A grid, so that frames that fall beside it do not make looks rarer; after a gap it begins anew.
        after = frame.pts + self._pause if self._next is None else self._next + self._pause
        self._next = after if after > frame.pts else frame.pts + self._pause
        side = min(LONG_SIDE_PX, 2 * max(frame.width_px, frame.height_px))
        rgb = frame.rgb(*input_size(frame.width_px, frame.height_px, side))
        self._judge(rgb, frame.width_px, frame.height_px, hidden, frame.pts)

    def look_at_photo(self, rgb: NDArray[np.uint8], hidden: Sequence[Region]) -> None:
        """Look at a still, ``(height, width, 3)``, uint8."""
        height, width = rgb.shape[:2]
        size = input_size(width, height, min(2 * LONG_SIDE_PX, 2 * max(width, height)))
        self._judge(scaled(rgb[None], *size)[0], width, height, hidden, 0)

    def _judge(
        self, rgb: NDArray[np.uint8], width_px: int, height_px: int, hidden: Sequence[Region], pts: int
    ) -> None:
        self._report.looked_frame_count += 1
        upright = np.ascontiguousarray(np.rot90(rgb, self._rotation // 90))
        boxes = self._detector.detect(upright[None])[0]
        if not len(boxes):
            return
        # Which pixels of the picture as it was looked at are hidden, or shown by decision.
        decided = painted([*hidden, *self._shown.at(pts)], width_px, height_px)
        decided = np.rot90(decided, self._rotation // 90)
        across, down = decided.shape[1] / upright.shape[1], decided.shape[0] / upright.shape[0]
        for x0, y0, x1, y1, score in boxes.tolist():
            left, top = int(x0 * across), int(y0 * down)
            right, bottom = int(np.ceil(x1 * across)), int(np.ceil(y1 * down))
            part = decided[top:bottom, left:right]
            if part.size and part.mean() < COVERED_SHARE:
                self._report.add(
                    "face_left",
                    pts=pts,
                    box=[left, top, right, bottom],
                    score_permille=round(score * 1000),
                    by=self._detector.family,
                )


def _shown_by_decision(plan: RedactionPlan) -> RedactionPlan:
    """A plan that hides what this one shows because a person refused to hide it."""
    refused = [replace(t, state=State.PROPOSED) for t in plan.tracks if not t.state.hides]
    return replace(plan, tracks=tuple(refused), whole_frame_spans=())
