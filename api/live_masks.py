"""What of a file may be shown live: the session's stretches less what is masked, in the file's own time.

A list dates a file from where it was first told to begin, and each moment in it by media time alone. Where
its source stood still, or turned out to have begun at another time, a moment lies elsewhere than its date
says. A mask leaves out every place at which what it hides may lie (`evidence.masks`), and a stretch of the
session ends before every place at which what comes after it may lie: a pause, or its end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from evidence.masks import Mask, Span, without
from ingest.recorder.watching import Recorded
from media.fmp4 import FragmentIndex
from transcode.live import Window

NOBODY_KNOWS_US = 86_400_000_000
"""How sure the times of a piece are whose file nobody knows: what is hidden may lie anywhere in it."""

NEVER_US = 1 << 62


@dataclass(frozen=True)
class MayShow:
    """What of a session may be shown under a grant."""

    windows: tuple[Span, ...]
    """Of wall time, in order."""
    masks: tuple[Mask, ...] = ()

    def of(self, file: Recorded | None, index: FragmentIndex, at_us: int) -> list[Window]:
        """What of a file, in order; of what may be shown before and after it nothing is looked at.

        Args:
            file: None: nobody knows how sure its times are.
            at_us: UTC at its first picture, as it was told.
        """
        if not index.fragments or (file is None and self.masks):
            return []
        early_us, late_us = (NOBODY_KNOWS_US, 0) if file is None else _doubts(file, index, at_us)
        first_us, last_us = index.extent_us
        left: Sequence[Span] = _touching(self.windows, at_us + first_us, at_us + last_us, early_us, late_us)
        if self.masks:
            left = without(left, self.masks, early_us=early_us, late_us=late_us)
        return [Window(begins - at_us, None if ends is None else ends - at_us) for begins, ends in left]


def _doubts(file: Recorded, index: FragmentIndex, at_us: int) -> tuple[int, int]:
    """How much earlier and how much later in a file than its date says a moment may lie."""
    moved_us = wall_at_zero(file, index) + file.moved_us - at_us
    return file.slack_us + max(0, moved_us), max(0, -moved_us)


def _touching(
    windows: Sequence[Span], first_us: int, last_us: int, early_us: int, late_us: int
) -> list[Span]:
    """Those of the stretches, in order, that have something of what lies between two moments.

    Each begins as much later, and ends as much earlier, as it has to, to hold nothing from beyond it.
    """
    found: list[Span] = []
    for place in range(bisect_right(windows, first_us + early_us, key=_end_of), len(windows)):
        begins, ends = windows[place][0] + late_us, windows[place][1]
        if begins > last_us:
            break
        if ends is None or begins < ends - early_us:
            found.append((begins, None if ends is None else ends - early_us))
    return found


def _end_of(window: Span) -> int:
    return NEVER_US if window[1] is None else window[1]


def wall_at_zero(file: Recorded, index: FragmentIndex) -> int:
    """UTC at the first picture, as far as is known by now."""
    if file.zero_us is not None:
        return file.zero_us + index.origin_pts * 1_000_000 // index.timescale
    first = index.fragments[0]
    return file.from_us + (first.start_pts - first.first_pts) * 1_000_000 // index.timescale
