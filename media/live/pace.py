"""Whether an encode keeps up with the stream that it follows, by a clock that nobody sets.

How far it is behind is measured from the last moment at which it had read all there was: then it was not.
A stream that falls silent is therefore never taken for an encode that is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

BEHIND_US = 2_000_000
"""So far behind, whoever watches is close to the six seconds that live view may be."""
PATIENCE_US = 4_000_000
"""After a change, so that it is not judged by what was left from before."""


class Verdict(StrEnum):
    """What is to be done."""

    KEEP = "keep"
    LOWER = "lower"
    """Encode a smaller picture from here on."""
    SKIP = "skip"
    """Leave out what is left, and go on with what is newest."""


@dataclass
class Pace:
    """Times are of the host's monotonic clock and of the stream, in microseconds."""

    rung: int = 0
    """The larger, the smaller the picture."""
    _offset_us: int | None = None
    _not_before_us: int = 0

    def begin(self, now_us: int, media_us: int) -> None:
        """It has just read everything there is, up to ``media_us``, and begins with it."""
        self._offset_us = now_us - media_us
        self._not_before_us = now_us + PATIENCE_US

    def behind_us(self, now_us: int, media_us: int) -> int:
        """How long ago what is encoded now was there to be read."""
        return 0 if self._offset_us is None else max(0, now_us - media_us - self._offset_us)

    def judge(self, now_us: int, media_us: int, smaller: Sequence[int], *, is_caught_up: bool) -> Verdict:
        """Called for each picture, in order.

        Args:
            now_us: By the host.
            media_us: Of the picture.
            smaller: The rungs on which it would be a smaller one, the largest first.
            is_caught_up: All there is has been read.
        """
        if is_caught_up:
            self._offset_us = now_us - media_us
            return Verdict.KEEP
        if now_us < self._not_before_us or self.behind_us(now_us, media_us) <= BEHIND_US:
            return Verdict.KEEP
        self._not_before_us = now_us + PATIENCE_US
        if smaller:
            self.rung = smaller[0]
            return Verdict.LOWER
        return Verdict.SKIP
