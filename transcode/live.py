"""What a list shows of a file that a recorder writes: byte ranges of fragments as they lie, in wall time.

The camera's groups of pictures are what they are, and a viewer waits for each segment to be whole. So a
segment begins with a keyframe where there is one soon enough, and without one where that would take longer
than `FULL_S`: whoever watches already needs none there, and whoever joins begins at one before. A loss ends
a run: what was not recorded is dated, and never shown as footage.

Whether a segment is told depends on nothing that may still change: the last of a stretch waits until a
fragment stands behind it, or the file is whole.

Source: RFC 8216bis, 4.4.3.1 (no segment longer than the target duration), 6.2.1 (a list only grows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.fmp4 import Fragment, FragmentIndex
from transcode.playlist import SKIP_TARGETS, Run, Segment, Stretch, from_keyframe, runs_of

LIMIT_S = 4
"""The target duration. A segment ends `FULL_S` after it began at the latest, with the fragment at work."""
FULL_S = 3
LEAST_S = 1
HOLE_MS = 500
"""What is missing this long ends a run; shorter ones are dropped frames."""


@dataclass(frozen=True)
class Window:
    """A stretch that may be shown, in microseconds of the file's media time; None: it lasts."""

    from_us: int
    to_us: int | None


def live_runs(index: FragmentIndex, windows: Sequence[Window], *, is_whole: bool) -> list[Run]:
    """The segments that can be told of a file by now.

    Args:
        index: Up to the last whole fragment.
        windows: In order, apart from each other. Nothing outside them is shown.
        is_whole: The file gets no more.
    """
    fragments = _holes_told(index)
    found: list[Run] = []
    for window in windows:
        inside = [each for each in fragments if _is_inside(each, window, index.timescale)]
        is_done = is_whole or (
            window.to_us is not None
            and bool(fragments)
            and _micros(fragments[-1].last_pts, index.timescale) > window.to_us
        )
        segments = _segments(index, from_keyframe(index, inside), is_done=is_done)
        found += runs_of(segments)
    return found


def _micros(pts: int, timescale: int) -> int:
    return pts * 1_000_000 // timescale


def _is_inside(fragment: Fragment, window: Window, timescale: int) -> bool:
    begins, ends = _micros(fragment.first_pts, timescale), _micros(fragment.last_pts, timescale)
    return window.from_us <= begins and (window.to_us is None or ends <= window.to_us)


def _holes_told(index: FragmentIndex) -> list[Fragment]:
    """Fragments with pictures (or sound, where that is all), each as long as what is in it.

    Sound that goes on without pictures belongs to the one before.
    """
    found: list[Fragment] = []
    for fragment in index.fragments:
        if not fragment.frame_count:
            if found:
                found[-1] = found[-1]._replace(size_bytes=fragment.end_bytes - found[-1].offset_bytes)
        elif fragment.tail_pts * 1000 < -HOLE_MS * index.timescale:
            # It was stretched to where the next one starts.
            length = fragment.duration_pts + fragment.tail_pts
            found.append(fragment._replace(duration_pts=length, tail_pts=0))
        else:
            found.append(fragment)
    return found


def _segments(index: FragmentIndex, fragments: Sequence[Fragment], *, is_done: bool) -> list[Segment]:
    """Each boundary follows from where fragments start, which is settled; how long the last is, is not."""
    is_sound, timescale = index.main.kind != "video", index.timescale
    groups: list[list[Fragment]] = []
    for fragment in fragments:
        group = groups[-1] if groups else None
        if group is None or _begins(fragment, group, timescale, is_sound=is_sound):
            groups.append([])
        groups[-1].append(fragment)
    told = groups if is_done else groups[:-1]
    return [
        Segment(
            group[0].offset_bytes,
            group[-1].end_bytes - group[0].offset_bytes,
            group[0].start_pts,
            group[-1].end_pts - group[0].start_pts,
            timescale,
            is_sound or group[0].starts_with_keyframe,
        )
        for group in told
    ]


def _begins(fragment: Fragment, group: Sequence[Fragment], timescale: int, *, is_sound: bool) -> bool:
    """Whether a segment begins with a fragment."""
    length = fragment.start_pts - group[0].start_pts
    if length >= FULL_S * timescale or group[-1].end_pts < fragment.start_pts:
        return True
    if is_sound or not fragment.starts_with_keyframe:
        return is_sound and length >= LEAST_S * timescale
    return length >= LEAST_S * timescale or not group[0].starts_with_keyframe


def older_than_updates(stretches: Sequence[Stretch]) -> int:
    """How many segments an update leaves out: those wholly further from the end than is promised."""
    left = Fraction(SKIP_TARGETS * max([LIMIT_S, *(each.run.longest_s for each in stretches)]))
    for number in range(len(stretches) - 1, -1, -1):
        segments = stretches[number].run.segments
        for place in range(len(segments) - 1, -1, -1):
            if left <= 0:
                return sum(len(each.run.segments) for each in stretches[:number]) + place + 1
            left -= Fraction(segments[place].duration_pts, segments[place].timescale)
    return 0
