"""Playlists of several sources on one clock, so that the same position in each is the same instant.

Position 0 of each playlist is an instant of wall time, and from there a position is that much wall time
later: footage stands where its corrected clock puts it, and time without footage is kept as EXT-X-GAP
segments of its length. A player that is sought to ``seek_us`` + t shows t after the window's start, in
every source, so whoever watches several of them compares positions and needs no map. Discontinuities alone
would let each playlist leave its gaps out, and the sources would drift apart by them.

The beginning of a window lies inside a fragment as a rule. The playlist then begins with that fragment, and
``seek_us`` says how far into it the window begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from media.fmp4 import Fragment
from transcode.playlist import (
    MIN_SEGMENT,
    SECOND_US,
    Gap,
    Part,
    Segment,
    Stretch,
    chosen_of,
    from_keyframe,
    joined,
    runs_of,
    stretch_of,
    write,
)

SLACK_US = 20_000
"""What a position may be off: shorter gaps and overlaps are not written. Positions are measured from the
window each time, so that many of them do not add up."""
GAP_PIECE_S = 10
US = timedelta(microseconds=1)


@dataclass(frozen=True)
class Aligned:
    """One source on the clock of a window."""

    listed: tuple[Stretch | Gap, ...]
    seek_us: int
    """The position that is the window's start."""
    shown_us: int
    """Footage in it, without gaps."""
    shown: frozenset[int]
    """Which parts something is shown of, by their numbers."""

    def playlist(self) -> str:
        """As text.

        Raises:
            NotFound: ``span_without_segments``: there is no footage in it.
        """
        return write(self.listed, longest_s=GAP_PIECE_S)


def align(
    parts: Sequence[Part], window: tuple[datetime, datetime], *, min_segment: Fraction = MIN_SEGMENT
) -> Aligned:
    """Put the parts of one source on a window's clock.

    Args:
        parts: Whole renditions or strict spans of them, whose start is known. Where two show one instant, the
            one that began earlier keeps it, and the later is shown from the first keyframe after.
        window: Wall time from and to.
    """
    length_us = (window[1] - window[0]) // US
    listed: list[Stretch | Gap] = []
    shown: set[int] = set()
    # Both in microseconds from the window's start.
    origin_us, reached_us, shown_us = 0, 0, 0
    numbered = [(part.started_at, number, part) for number, part in enumerate(parts) if part.started_at]
    for started_at, number, part in sorted(numbered, key=lambda each: each[:2]):
        at_us = (started_at - window[0]) // US
        least_us = reached_us - SLACK_US if shown else None
        for run in runs_of(joined(part.index, _inside(part, at_us, length_us, least_us), min_segment)):
            start_us = at_us + run[0].start_us
            if not shown:
                origin_us = reached_us = min(0, start_us)
            if start_us - reached_us > SLACK_US:
                listed.append(Gap(start_us - reached_us))
                reached_us = start_us
            listed.append(stretch_of(part, run))
            reached_us += _length_us(run)
            shown_us += _length_us(run)
            shown.add(number)
    return Aligned(tuple(listed), -origin_us, shown_us, frozenset(shown))


def _inside(part: Part, at_us: int, length_us: int, least_us: int | None) -> list[Fragment]:
    """Fragments that show anything of the window and may be shown, from a keyframe on.

    Args:
        at_us: The part's media time 0, from the window's start.
        least_us: Nothing that begins before this is wanted any more.
    """
    scale = part.index.timescale
    fragments = chosen_of(part)
    touched = [
        number
        for number, fragment in enumerate(fragments)
        if at_us + fragment.end_pts * SECOND_US // scale > 0
        and at_us + fragment.start_pts * SECOND_US // scale < length_us
    ]
    if not touched:
        return []
    first = touched[0]
    is_video = part.index.main.kind == "video"
    while first > 0 and is_video and not fragments[first].starts_with_keyframe:
        first -= 1
    found = fragments[first : touched[-1] + 1]
    if least_us is not None:
        found = [each for each in found if at_us + each.start_pts * SECOND_US // scale >= least_us]
    return from_keyframe(part.index, found)


def _length_us(run: Sequence[Segment]) -> int:
    return run[-1].end_us - run[0].start_us
