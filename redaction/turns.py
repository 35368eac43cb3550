"""Which way a camera lies, told from where faces are found.

Pictures are looked at upright. While that finds nothing for sure, one frame in a few is looked at turned too,
to the left and to the right by turns: a *probe*. Once one finds something, every look is one at the turned
picture too, for as long as that goes on. A turned look adds; it never takes one away.

Pure: what was found goes in, what to look at comes out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Detections = NDArray[np.float32]

TURNS = (90, 270)


class TurnFinder:
    """Follows the turn of one recording.

    Args:
        every: While nothing is seen upright, every how many frames to probe; 0 never.
        strong_permille: Turned sightings from this score on say that the turn goes on.
        sure_permille: A probe counts from this score on; upright sightings of less are doubted.
    """

    LASTS_FRAMES = 50

    def __init__(self, every: int, strong_permille: int, sure_permille: int) -> None:
        self._every = every
        self._strong, self._sure = strong_permille / 1000, sure_permille / 1000
        self._is_bare = True
        self._heard_upright = -1
        self._last_seen = 0
        self._probes = 0
        self.turn = 0
        """Degrees counter-clockwise at which faces are found now; 0 upright alone."""

    def probe(self, index: int) -> int:
        """The turn at which to probe frame ``index``; 0 not at all."""
        if not self._every or self.turn or not self._is_bare or index % self._every:
            return 0
        self._probes += 1
        return TURNS[self._probes % len(TURNS)]

    def sure(self, boxes: Detections) -> Detections:
        """What counts of the sightings of a probe, ``(k, 5)``."""
        return boxes[boxes[:, 4] >= self._sure]

    def hear_probe(self, index: int, turn: int, boxes: Detections) -> bool:
        """Hear what a probe found.

        Returns:
            Whether it is what tells that the camera lies so.
        """
        if self.turn or not len(self.sure(boxes)):
            return False
        self.turn, self._last_seen = turn, index
        return True

    def hear(self, index: int, upright: Detections, turned: tuple[int, Detections] | None) -> None:
        """Hear what a look at a frame found, upright and, with its turn, turned."""
        if index > self._heard_upright:
            self._heard_upright = index
            self._is_bare = not len(self.sure(upright))
        if turned is not None and turned[0] == self.turn and (turned[1][:, 4] >= self._strong).any():
            self._last_seen = max(self._last_seen, index)
        if index - self._last_seen > self.LASTS_FRAMES:
            self.turn = 0
