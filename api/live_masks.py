"""What of a file may be shown live: the session's stretches less what is masked, in the file's own time.

A list dates a file from where it was first told to begin, and each moment in it by media time alone. Where
its source stood still, or turned out to have begun at another time, a moment lies elsewhere than its date
says. A mask leaves out every place at which what it hides may lie (`evidence.masks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evidence.masks import Mask, Span, without
from ingest.recorder.watching import Recorded
from media.fmp4 import FragmentIndex
from transcode.live import Window


@dataclass(frozen=True)
class MayShow:
    """What of a session may be shown under a grant."""

    windows: tuple[Span, ...]
    """Of wall time, in order."""
    masks: tuple[Mask, ...] = ()

    def of(self, file: Recorded | None, index: FragmentIndex, at_us: int) -> list[Window]:
        """What of a file.

        Args:
            file: None: any, where nothing is masked.
            at_us: UTC at its first picture, as it was told.
        """
        left: Sequence[Span] = self.windows
        if self.masks:
            if file is None or not index.fragments:
                return []
            moved_us = wall_at_zero(file, index) + file.moved_us - at_us
            early_us, late_us = file.slack_us + max(0, moved_us), max(0, -moved_us)
            left = without(left, self.masks, early_us=early_us, late_us=late_us)
        return [Window(begins - at_us, None if ends is None else ends - at_us) for begins, ends in left]


def wall_at_zero(file: Recorded, index: FragmentIndex) -> int:
    """UTC at the first picture, as far as is known by now."""
    if file.zero_us is not None:
        return file.zero_us + index.origin_pts * 1_000_000 // index.timescale
    first = index.fragments[0]
    return file.from_us + (first.start_pts - first.first_pts) * 1_000_000 // index.timescale
