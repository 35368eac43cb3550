"""Whether an encode keeps up with the stream that it follows, by a clock that nobody sets.

How far it is behind is measured from the last moment at which it had read all there was: then it was not.
A stream that falls silent is therefore never taken for an encode that is slow.

What was made smaller because the host did not keep up becomes larger again, a rung at a time, once a minute
of the stream was encoded with time to spare. Whether there is enough for the larger picture only shows by
trying: where that fails, the next attempt waits twice as long, until one has lasted as long as was waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

BEHIND_US = 2_000_000
"""So far behind, whoever watches is close to the six seconds that live view may be."""
PATIENCE_US = 4_000_000
"""After a change, so that it is not judged by what was left from before."""
SPARE_US = 1_000_000
"""An encode with time to spare has read all there was again within so much of the stream, and is no further
behind."""
CLIMB_US = 60_000_000
"""How much of the stream is encoded with time to spare before a larger picture is tried."""
CLIMB_MOST_US = 32 * CLIMB_US


class Verdict(StrEnum):
    """What is to be done."""

    KEEP = "keep"
    LOWER = "lower"
    """Encode a smaller picture from here on."""
    RAISE = "raise"
    """Encode a larger one."""
    SKIP = "skip"
    """Leave out what is left, and go on with what is newest."""


@dataclass
class Pace:
    """Times are of the host's monotonic clock and of the stream, in microseconds."""

    rung: int = 0
    """The larger, the smaller the picture."""
    climb_us: int = CLIMB_US
    """How much has to be encoded with time to spare before the next attempt."""
    _offset_us: int | None = None
    _not_before_us: int = 0
    _last_us: int | None = None
    """The picture judged last."""
    _caught_up_us: int = 0
    """The last one that was all there was."""
    _spare_us: int = 0
    """How much was encoded with time to spare, without a break, since the last change."""
    _is_trying: bool = False
    """The picture is larger than before, and has not lasted yet."""

    def begin(self, now_us: int, media_us: int) -> None:
        """It has just read everything there is, up to ``media_us``, and begins with it."""
        self._offset_us = now_us - media_us
        self._not_before_us = now_us + PATIENCE_US
        self._last_us, self._caught_up_us, self._spare_us = None, media_us, 0

    def follow(self, media_us: int) -> None:
        """Another file goes on where the one before ended, by a clock of its own.

        Args:
            media_us: Of its first picture.
        """
        if self._offset_us is not None and self._last_us is not None:
            by_us = media_us - self._last_us
            self._offset_us -= by_us
            self._caught_up_us += by_us
            self._last_us = media_us

    def behind_us(self, now_us: int, media_us: int) -> int:
        """How long ago what is encoded now was there to be read."""
        return 0 if self._offset_us is None else max(0, now_us - media_us - self._offset_us)

    def judge(
        self,
        now_us: int,
        media_us: int,
        smaller: Sequence[int],
        larger: int | None = None,
        *,
        is_caught_up: bool,
    ) -> Verdict:
        """Called for each picture, in order.

        Args:
            now_us: By the host.
            media_us: Of the picture.
            smaller: The rungs on which it would be a smaller one, the largest first.
            larger: The next rung on which it would be a larger one; None: there is none.
            is_caught_up: All there was had been read since this was asked last.
        """
        if is_caught_up:
            self._offset_us, self._caught_up_us = now_us - media_us, media_us
        behind_us = self.behind_us(now_us, media_us)
        self._note(media_us, behind_us)
        if now_us < self._not_before_us:
            return Verdict.KEEP
        if behind_us > BEHIND_US:
            return self._fall(now_us, smaller)
        if self._spare_us < self.climb_us:
            return Verdict.KEEP
        if self._is_trying:
            self._is_trying, self.climb_us = False, CLIMB_US
        if larger is None:
            return Verdict.KEEP
        self._change(now_us, larger, is_trying=True)
        return Verdict.RAISE

    def _note(self, media_us: int, behind_us: int) -> None:
        """Count what is encoded with time to spare; a stream that was silent says nothing of that."""
        passed_us = 0 if self._last_us is None else media_us - self._last_us
        self._last_us = media_us
        if behind_us > SPARE_US or media_us - self._caught_up_us > SPARE_US:
            self._spare_us = 0
        elif 0 < passed_us <= SPARE_US:
            self._spare_us += passed_us

    def _fall(self, now_us: int, smaller: Sequence[int]) -> Verdict:
        if self._is_trying:
            self.climb_us = min(CLIMB_MOST_US, 2 * self.climb_us)
        self._change(now_us, smaller[0] if smaller else self.rung, is_trying=False)
        return Verdict.LOWER if smaller else Verdict.SKIP

    def _change(self, now_us: int, rung: int, *, is_trying: bool) -> None:
        self.rung, self._is_trying, self._spare_us = rung, is_trying, 0
        self._not_before_us = now_us + PATIENCE_US
