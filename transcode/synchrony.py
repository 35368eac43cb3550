"""Playlists of several sources for a window of wall time, with the map that keeps their players in step.

Each source is one playlist: its footage of the window, one file after another, a discontinuity between.
Beside it stands its map: each stretch says from when to when it shows, by corrected clocks, and at which
position of the playlist. A page keeps one clock. Within a stretch a player is at ``position + (clock -
from)``; between two it is held at the position where the next begins, which is where the one before ended,
so that what comes next is loaded already and nothing has to be sought.

Time without footage takes no place in the playlist. EXT-X-GAP would give it one, and then one position
would be one instant in all; but hls.js 1.7 neither loads nor passes over a gap it stands in (it reports
``fragGap`` over and over), and a source that begins with a gap never starts. Discontinuities every player
plays.

The beginning of a window lies inside a fragment as a rule. The playlist then begins with that fragment, and
``seek_us`` says how far into it the window begins.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction

from media.fmp4 import Fragment
from transcode.playlist import (
    MIN_SEGMENT,
    SECOND_US,
    Part,
    Stretch,
    chosen_of,
    from_keyframe,
    joined,
    runs_of,
    stretch_of,
    to_its_end,
    write,
)

SLACK_US = 20_000
"""Files may overlap by so much and both be shown: clocks say no more. The later one's start counts."""
US = timedelta(microseconds=1)


@dataclass(frozen=True)
class Shown:
    """A stretch of footage: when it shows, and where in the playlist."""

    from_us: int
    """After the window's start; negative where its first fragment begins before."""
    to_us: int
    position_us: int
    """Of the playlist, where it begins."""


@dataclass(frozen=True)
class Aligned:
    """One source of a window."""

    stretches: tuple[Stretch, ...]
    map: tuple[Shown, ...]
    """Of each stretch, in order; none begins before the one before it ends."""
    part_numbers: frozenset[int]
    """The parts that something is shown of."""
    parts: tuple[Part, ...] = ()
    """What each stretch is of."""

    @property
    def shown(self) -> list[tuple[Part, Stretch]]:
        return list(zip(self.parts, self.stretches, strict=True))

    @property
    def seek_us(self) -> int:
        """The position to be at when the window begins; 0 where footage begins later."""
        return max(0, -self.map[0].from_us) if self.map else 0

    @property
    def shown_us(self) -> int:
        """Footage in the playlist."""
        return sum(each.to_us - each.from_us for each in self.map)

    def playlist(self) -> str:
        """As text.

        Raises:
            NotFound: ``span_without_segments``: there is no footage in it.
        """
        return write(self.stretches)


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
    stretches: list[Stretch] = []
    places: list[Shown] = []
    shown_of: list[int] = []
    position_us = 0
    numbered = [(part.started_at, number, part) for number, part in enumerate(parts) if part.started_at]
    for started_at, number, part in sorted(numbered, key=lambda each: each[:2]):
        at_us = (started_at - window[0]) // US
        least_us = places[-1].to_us - SLACK_US if places else None
        for run in runs_of(joined(part.index, _inside(part, at_us, length_us, least_us), min_segment)):
            start_us, end_us = at_us + run.segments[0].start_us, at_us + run.segments[-1].end_us
            if places and places[-1].to_us > start_us:
                before = places.pop()
                if start_us > 0:
                    places.append(Shown(before.from_us, start_us, before.position_us))
                else:
                    # Its last moments were the window's first, and the later one shows those.
                    stretches.pop()
                    shown_of.pop()
                    position_us = before.position_us
            stretches.append(stretch_of(part, run))
            places.append(Shown(start_us, end_us, position_us))
            position_us += end_us - start_us
            shown_of.append(number)
    if stretches:
        # As any list: else a player finds this one longer than it says, where a camera that left pictures out
        # wrote sound on after its last.
        last, place = to_its_end(stretches[-1], parts[shown_of[-1]].index, None), places[-1]
        tail_us = last.run.segments[-1].end_us - stretches[-1].run.segments[-1].end_us
        stretches[-1], places[-1] = last, replace(place, to_us=place.to_us + tail_us)
    shown = tuple(parts[number] for number in shown_of)
    return Aligned(tuple(stretches), tuple(places), frozenset(shown_of), shown)


def _inside(part: Part, at_us: int, length_us: int, least_us: int | None) -> list[Fragment]:
    """Fragments that show anything of the window and may be shown, from a keyframe on.

    Args:
        at_us: The part's media time 0, from the window's start.
        least_us: Nothing that begins before this is wanted any more.
    """
    scale = part.index.timescale
    fragments = chosen_of(part)
    # Hours of fragments, of which a window touches a few that lie together.
    since = bisect_right(fragments, -at_us, key=lambda each: each.end_pts * SECOND_US // scale)
    until = bisect_left(fragments, length_us - at_us, key=lambda each: each.start_pts * SECOND_US // scale)
    touched = range(since, until)
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
