"""Whether what is left of a picture under a mask follows what was hidden there.

A fill that lets a twentieth of the picture through, or a dark corner that was never painted, differs from the
fill by less than coding does beside a bright edge. But coding knows nothing of what the mask hides, so its
errors do not follow the hidden picture, and a leak does. For each track the difference from the fill is held
against the hidden picture over all its frames: how much of it comes through (slope), and how well the one
tells the other (correlation).

Pure: numbers in, numbers out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from redaction.geometry import Box, Region, region_cells

# Pixels from the edge that are left out: there, what stands beside the mask bleeds in most.
INSET_PX = 2
SIDE_MIN_PX = 4
# From this many frames on chance has no say; below, only what no coding does counts.
FRAMES_ENOUGH = 8
SLOPE_MOST, CORRELATION_MOST = 0.025, 0.3
SLOPE_MOST_OF_FEW, CORRELATION_MOST_OF_FEW = 0.12, 0.6
# Levels of 255: below the first coding rounds anyway, above the second no coding of a constant goes.
RESIDUE_LEAST, RESIDUE_MOST = 0.5, 6.0
# A hidden picture flatter than this tells nothing.
HIDDEN_LEAST = 1.0


@dataclass
class Leak:
    """Sums over the frames of one track."""

    frame_count: int = 0
    sample_count: int = 0
    together: float = 0.0
    left: float = 0.0
    hidden: float = 0.0

    def add(self, left: NDArray[np.float64], hidden: NDArray[np.float64]) -> None:
        """One frame: what is left there, and what is hidden, sample by sample."""
        left, hidden = left - left.mean(), hidden - hidden.mean()
        self.frame_count += 1
        self.sample_count += left.size
        self.together += float((left * hidden).sum())
        self.left += float((left * left).sum())
        self.hidden += float((hidden * hidden).sum())

    @property
    def residue(self) -> float:
        """Standard deviation of what is left, in levels."""
        return sqrt(self.left / self.sample_count)

    @property
    def slope(self) -> float:
        """How much of the hidden picture comes through."""
        return self.together / self.hidden if self._tells() else 0.0

    @property
    def correlation(self) -> float:
        return self.together / sqrt(self.left * self.hidden) if self._tells() and self.left else 0.0

    def _tells(self) -> bool:
        return self.hidden > HIDDEN_LEAST**2 * self.sample_count

    def is_found(self) -> bool:
        """Whether what is left follows what was hidden, or is more than coding leaves."""
        if self.residue < RESIDUE_LEAST:
            return False
        if self.frame_count < FRAMES_ENOUGH:
            return self.slope > SLOPE_MOST_OF_FEW and self.correlation > CORRELATION_MOST_OF_FEW
        follows = self.slope > SLOPE_MOST and self.correlation > CORRELATION_MOST
        return follows or self.residue > RESIDUE_MOST


@dataclass
class Dependence:
    """Every track of one recording.

    Args:
        fill: What the masked plane should hold.
        inset_px: Pixels from the edge that are left out.
    """

    fill: int
    inset_px: int = INSET_PX
    leaks: dict[str, Leak] = field(default_factory=dict)

    def add(self, name: str, region: Region, hidden: NDArray[np.uint8], shown: NDArray[np.uint8]) -> None:
        """One region of one frame; both planes are ``(height, width)``, uint8, one sample a pixel."""
        x0, y0, x1, y1 = region.box
        inset = self.inset_px
        box = Box(x0 + inset, y0 + inset, x1 - inset, y1 - inset)
        if box.width_px < SIDE_MIN_PX or box.height_px < SIDE_MIN_PX:
            return
        rows, columns = slice(box.y0, box.y1), slice(box.x0, box.x1)
        left = shown[rows, columns].astype(np.float64) - self.fill
        under = hidden[rows, columns].astype(np.float64)
        if left.shape != under.shape:
            return
        if region.shape != "rectangle":
            inside = np.repeat(np.repeat(region_cells(region, inset), 2, axis=0), 2, axis=1)
            if not inside.any():
                return
            left, under = left[inside], under[inside]
        self.leaks.setdefault(name, Leak()).add(left, under)

    def found(self) -> dict[str, Leak]:
        """The tracks that leak."""
        return {name: leak for name, leak in self.leaks.items() if leak.is_found()}
