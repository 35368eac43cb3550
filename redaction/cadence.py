"""When the next look is due: after so many frames, or after so long, whichever comes first.

Frames say how much has been seen, time says how far a mask reaches: it stands `TrackParameters.pad_us` before
the first sighting and after the last. So every frame that nobody looks at lies within that of the look
before it and of the one after it, however slowly or unevenly frames come; where a look comes too late for
that, the frame before it is looked at as well.

Pure: numbers in, a decision out.
"""

from __future__ import annotations

from typing import NamedTuple


class Due(NamedTuple):
    """What is to be looked at now."""

    previous: bool
    """The frame before, if nobody looked at it."""
    this: bool


class Cadence:
    """Counts frames and time since the last look; the first frame is always due.

    Args:
        apart_us: How long before and after a look what it sees is masked.
    """

    def __init__(self, apart_us: int) -> None:
        self._apart_us = apart_us
        self._last: tuple[int, int] | None = None
        """Number and time of the frame looked at last."""
        self._unseen_us: int | None = None
        """When the first frame since then was shown."""

    def due(self, number: int, time_us: int, every: int, *, insist: bool = False) -> Due:
        """Take the next frame; what is due is taken to be looked at."""
        unseen_us, self._unseen_us = self._unseen_us, time_us if self._unseen_us is None else self._unseen_us
        if self._last is not None and not insist:
            last, last_us = self._last
            if number - last < every and time_us - last_us < self._apart_us:
                return Due(previous=False, this=False)
        self._last, self._unseen_us = (number, time_us), None
        return Due(previous=unseen_us is not None and time_us - unseen_us > self._apart_us, this=True)
