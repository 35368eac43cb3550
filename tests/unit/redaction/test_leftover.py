"""What a look at a redacted rendition counts as hidden, with a detector that sees what it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from redaction.findings import Report
from redaction.leftover import Leftovers
from redaction.plan import Key, Masks, RedactionPlan, State
from tests.unit.redaction.plans import face, plan_of

# An L along the upper and the left edge of its box.
CORNERS = ((4000, 4000), (16000, 4000), (16000, 6000), (6000, 6000), (6000, 16000), (4000, 16000))
L = face("l", Key(0, 40, 40, 160, 160, points=CORNERS), shape="polygon")
OVAL = face("o", Key(0, 40, 40, 160, 160), shape="ellipse")


@dataclass
class Seer:
    """Sees one face, in pixels of the 320x180 picture, whatever it is shown."""

    box: tuple[int, int, int, int]
    family: str = "seer"
    finds: str = "face"
    model_digest: str = "0" * 64

    def detect(self, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        scale = frames.shape[2] / 320
        return [np.array([[*(edge * scale for edge in self.box), 0.9]], np.float32)]


def findings(plan: RedactionPlan, box: tuple[int, int, int, int]) -> int:
    report = Report()
    looking = Leftovers(plan, Seer(box), report)
    looking.look_at_photo(np.zeros((180, 320, 3), np.uint8), Masks(plan).at(0))
    return report.finding_count


@pytest.mark.parametrize("state", [State.ACCEPTED, State.REFUSED])
def test_a_face_beside_a_shape_and_inside_its_box_is_left(state: State) -> None:
    """Whether the shape hides or was decided to be shown."""
    plan = plan_of(replace(L, state=state))
    assert findings(plan, (70, 70, 150, 150)) == 1
    assert findings(plan, (42, 42, 60, 158)) == 0
    corner = plan_of(replace(OVAL, state=state))
    assert findings(corner, (40, 40, 56, 56)) == 1
    assert findings(corner, (60, 60, 140, 140)) == 0
