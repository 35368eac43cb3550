"""HLS playlists over the bytes of renditions: of one, of a span of it, or of several one after another.

Nothing is copied or cut: a segment is a byte range of one or more whole fragments. Players take the
numbers here at their word, so each is exact: a wrong range or duration shows up as wrong footage.

Edges of a span. *Strict* means that nothing outside the span may be shown, because those seconds
belong to somebody else: only fragments whose every picture and sound lies inside are listed, so the
edges move inward. Otherwise they move outward to the next keyframe, so that nothing asked for is
missing. To the frame cuts only `transcode.clip`.

Where one file ends and another begins, and where seconds are left out, stands EXT-X-DISCONTINUITY with
the date of what follows: time between is stated and never shown as footage.

What was told while it grew stays as it was told, to the end and after it (an EVENT list, RFC 8216 section
6.2.1): the same segments of the same bytes, the same target duration, which is fixed before anything is
known of what will come; lines are only appended, the last of them EXT-X-ENDLIST.

Source: RFC 8216bis (HLS, version 7): EXT-X-MAP's BYTERANGE is quoted, EXT-X-BYTERANGE stands after EXTINF,
EXT-X-DISCONTINUITY before the EXT-X-MAP of what it separates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cached_property
from itertools import pairwise, zip_longest
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple

from evidence.clock import rfc3339
from evidence.errors import InvalidInput, NotFound
from media.fmp4 import Fragment, FragmentIndex
from transcode.excerpt import covering

if TYPE_CHECKING:
    from transcode.captions import Caption

MIN_SEGMENT = Fraction(2)
SAFE_LIMIT_S = 16
"""No segment of a list that grows is longer: fragments end after 15 s (`transcode.plan`)."""
ADDRESS = "\0"
"""Stands for the address in lines that are kept."""
HLS_VERSION = 7
UPDATE_VERSION = 9
"""Of a list that leaves out what was told before (EXT-X-SKIP)."""
SKIP_TARGETS = 6
"""What is nearer to the end than so many target durations is never left out (RFC 8216bis, 4.4.3.8)."""
SECOND_US = 1_000_000


@dataclass(frozen=True)
class Span:
    """Milliseconds of media time, the end not included; None is the end of the recording."""

    from_ms: int
    to_ms: int | None = None


class Segment(NamedTuple):
    """A byte range served as one: whole fragments, or the keyframe one of them begins with."""

    offset_bytes: int
    size_bytes: int
    start_pts: int
    duration_pts: int
    timescale: int
    is_independent: bool
    """It needs none of those before it: it begins with the keyframe of a closed group, or is sound."""

    @property
    def start(self) -> Fraction:
        return Fraction(self.start_pts, self.timescale)

    @property
    def duration(self) -> Fraction:
        return Fraction(self.duration_pts, self.timescale)

    @property
    def end_pts(self) -> int:
        return self.start_pts + self.duration_pts

    @property
    def start_us(self) -> int:
        return self.start_pts * SECOND_US // self.timescale

    @property
    def end_us(self) -> int:
        return self.end_pts * SECOND_US // self.timescale


@dataclass(frozen=True)
class Part:
    """A rendition, or a span of it, and its place in a playlist."""

    index: FragmentIndex
    url: str
    """Where its bytes are, as it shall stand in the playlist."""
    span: Span | None = None
    """What to show; all of it when omitted."""
    strict: bool = False
    """Nothing outside the span may be shown."""
    started_at: datetime | None = None
    """The wall time at media time 0, where it is known."""
    is_growing: bool = False
    """More will follow; the player asks again. Only the last part may."""
    since: Fraction | None = None
    """Media time before which nothing is shown, because a part before it has shown it."""
    is_copied: bool = False
    """Its groups of pictures are the camera's own: nobody vouches that they are closed."""
    listing: Listing | None = None
    """Of the same index, where it was made already."""
    captions: Sequence[Caption] = ()
    """What is to be read beside it, in media time."""

    @property
    def is_whole(self) -> bool:
        return self.span is None and self.since is None and not self.is_growing


@dataclass(frozen=True)
class Run:
    """Segments of one file that follow each other without a gap; what lists say of them is made once."""

    segments: Sequence[Segment]

    @cached_property
    def lines(self) -> str:
        """All but the last as lists have them, `ADDRESS` in the place of their address."""
        return "".join(map(_lines, self.segments[:-1]))

    @cached_property
    def longest_s(self) -> int:
        """The longest of them, rounded up."""
        return max(-(-each.duration_pts // each.timescale) for each in self.segments)

    @cached_property
    def is_independent(self) -> bool:
        return all(each.is_independent for each in self.segments)

    @cached_property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.segments)

    @cached_property
    def peak_bitrate_bps(self) -> int:
        return max(each.size_bytes * 8 * each.timescale // each.duration_pts for each in self.segments)

    @property
    def duration(self) -> Fraction:
        return Fraction(self.segments[-1].end_pts - self.segments[0].start_pts, self.segments[0].timescale)

    def longer(self, tail_pts: int) -> Run:
        """With so much more at its end."""
        last = self.segments[-1]
        found = Run([*self.segments[:-1], last._replace(duration_pts=last.duration_pts + tail_pts)])
        found.__dict__["lines"] = self.lines
        return found


@dataclass(frozen=True)
class Listing:
    """What lists say of all of a rendition that does not change any more, at whatever address."""

    index: FragmentIndex

    @cached_property
    def runs(self) -> list[Run]:
        return runs_of(segments_of(self.index, None, strict=False))

    @cached_property
    def keyframes(self) -> list[Run]:
        return runs_of(keyframes_of(Part(self.index, "")))


@dataclass(frozen=True)
class Stretch:
    """A run of one file."""

    url: str
    init_size_bytes: int
    run: Run
    shown_at: datetime | None
    """The wall time of its first picture; None: unknown."""
    is_copied: bool = False

    def after(self, count: int) -> Stretch:
        """Without its first segments."""
        if not count:
            return self
        kept = self.run.segments[count:]
        later = timedelta(microseconds=kept[0].start_us - self.run.segments[0].start_us)
        shown_at = self.shown_at + later if self.shown_at is not None else None
        return replace(self, run=Run(kept), shown_at=shown_at)


def media_playlist(
    parts: Sequence[Part],
    *,
    min_segment: Fraction = MIN_SEGMENT,
    limit_s: int | None = None,
    more_follows: bool = False,
    is_known: bool = True,
) -> str:
    """The playlist of one rendition, or of several one after another.

    Args:
        parts: In the order they are shown. A part of which no whole fragment can be shown is left out.
        min_segment: Fragments are joined until a segment is at least so many seconds long.
        limit_s: It is, or was, told while it grew: no segment is longer, now or later.
        more_follows: Another part will come; the player asks again.
        is_known: Nobody was told that another part will come, of which nothing is known yet.

    Raises:
        InvalidInput: ``span_empty``: a span ends before it starts.
        NotFound: ``span_without_segments``: nothing can be shown by whole fragments.
    """
    is_open = more_follows or _is_growing(parts)
    limit_s = limit_s or (SAFE_LIMIT_S if is_open else None)
    stretches = [stretch for _, stretch in shown_of(parts, limit_s, min_segment=min_segment)]
    return write(stretches, limit_s=limit_s, is_open=is_open, is_known=is_known and not more_follows)


def shown_of(
    parts: Sequence[Part], limit_s: int | None, *, min_segment: Fraction = MIN_SEGMENT
) -> list[tuple[Part, Stretch]]:
    """What a list of these parts shows, in order, and what each stretch is of."""
    shown: list[tuple[Part, Stretch]] = []
    for part, after in zip_longest(parts, parts[1:]):
        runs = shown_runs(part, limit_s, min_segment=min_segment)
        shown += [(part, stretch_of(part, run)) for run in runs]
        goes_on = part.is_growing or (after is not None and after.since is not None)
        # In a list that grows, the last part may turn out to be the last of all, or not: each ends alike.
        if runs and not goes_on and (after is None or limit_s is not None):
            shown[-1] = part, to_its_end(shown[-1][1], part.index, limit_s)
    return shown


def shown_runs(part: Part, limit_s: int | None, *, min_segment: Fraction = MIN_SEGMENT) -> Sequence[Run]:
    if part.listing is not None and part.is_whole and min_segment == MIN_SEGMENT:
        runs = part.listing.runs
        if limit_s is None or all(run.longest_s <= limit_s for run in runs):
            return runs
    chosen = chosen_of(part)
    return runs_of(joined(part.index, chosen, min_segment, is_growing=part.is_growing, limit_s=limit_s))


def to_its_end(stretch: Stretch, index: FragmentIndex, limit_s: int | None) -> Stretch:
    """With the sound that goes on after the last picture of all: players find the list as long as it says."""
    last, final = stretch.run.segments[-1], index.fragments[-1]
    is_rounding = final.tail_pts * 1000 < index.timescale
    is_too_long = limit_s is not None and last.duration_pts + final.tail_pts > limit_s * index.timescale
    if last.offset_bytes + last.size_bytes != final.end_bytes or is_rounding or is_too_long:
        return stretch
    return replace(stretch, run=stretch.run.longer(final.tail_pts))


def iframe_playlist(
    parts: Sequence[Part],
    *,
    limit_s: int | None = None,
    more_follows: bool = False,
    is_known: bool = True,
) -> str:
    """The keyframes of the same footage, for scrubbing: each from its fragment's first byte to its own last.

    Raises:
        InvalidInput, NotFound: As `media_playlist`; a rendition of sound has no keyframes.
    """
    is_open = more_follows or _is_growing(parts)
    limit_s = limit_s or (SAFE_LIMIT_S if is_open else None)
    stretches = [stretch_of(part, run) for part in parts for run in keyframe_runs(part)]
    is_known = is_known and not more_follows
    return write(stretches, limit_s=limit_s, is_open=is_open, is_known=is_known, of_keyframes=True)


def keyframe_runs(part: Part) -> Sequence[Run]:
    if part.is_growing and part.is_copied:
        # How far apart a camera's keyframes will be nobody knows, and no target may be broken.
        return ()
    if part.listing is not None and part.is_whole:
        return part.listing.keyframes
    return runs_of(keyframes_of(part))


def _is_growing(parts: Sequence[Part]) -> bool:
    return bool(parts) and parts[-1].is_growing


def write(
    stretches: Sequence[Stretch],
    *,
    limit_s: int | None = None,
    is_open: bool = False,
    is_known: bool = True,
    of_keyframes: bool = False,
    skipped: int | None = None,
) -> str:
    """A media playlist as text.

    Args:
        stretches: What it shows, in order.
        limit_s: The target duration of a list that is, or was, told while it grew.
        is_open: More will follow.
        is_known: What will follow is coded like what is there.
        of_keyframes: Each segment is a keyframe.
        skipped: So many segments are counted instead of listed, and the next says its file and date anew.
            None: no such update may be asked for (RFC 8216bis, 4.4.3.8).

    Raises:
        NotFound: ``span_without_segments``: there is nothing in it.
    """
    if not stretches:
        raise NotFound(
            "span: expected at least one whole fragment in it, found none; ask for a clip to take away",
            code="span_without_segments",
        )
    # A picture may stand longer than any fragment is meant to be; then the truth goes before the plan.
    target_s = max(limit_s or 1, *(stretch.run.longest_s for stretch in stretches))
    version = UPDATE_VERSION if skipped else HLS_VERSION
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{version}", f"#EXT-X-TARGETDURATION:{target_s}"]
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", f"#EXT-X-PLAYLIST-TYPE:{'VOD' if limit_s is None else 'EVENT'}"]
    if skipped is not None:
        lines.append(f"#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL={SKIP_TARGETS * target_s}")
    if of_keyframes:
        lines.append("#EXT-X-I-FRAMES-ONLY")
    if is_known and all(each.run.is_independent and not each.is_copied for each in stretches):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    if skipped:
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")
    left_out = skipped or 0
    for number, stretch in enumerate(stretches):
        count = len(stretch.run.segments)
        if left_out < count:
            begins_anew = number > 0 and not left_out
            if begins_anew:
                lines.append("#EXT-X-DISCONTINUITY")
            lines += _stretch(stretch.after(left_out), with_map=begins_anew and not of_keyframes)
        left_out = max(0, left_out - count)
    if not is_open:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _stretch(stretch: Stretch, *, with_map: bool) -> list[str]:
    """A stretch as lines; its first segment begins with the map where that lies right before it.

    VLC 3 begins anew at a discontinuity, with the segment behind it and without its map.
    """
    url = quotable(stretch.url)
    lines = [f'#EXT-X-MAP:URI="{url}",BYTERANGE="{stretch.init_size_bytes}@0"']
    if stretch.shown_at is not None:
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(stretch.shown_at)}")
    text = stretch.run.lines + _lines(stretch.run.segments[-1])
    first, head = stretch.run.segments[0], stretch.init_size_bytes
    if with_map and first.offset_bytes == head:
        text = text.replace(f":{first.size_bytes}@{head}\n", f":{head + first.size_bytes}@0\n", 1)
    return [*lines, text.replace(ADDRESS, url)[:-1]]


def _lines(segment: Segment) -> str:
    offset, size, start, duration, timescale, _ = segment
    # Between edges in whole microseconds, so that the sum over hours does not drift.
    length_us = (start + duration) * SECOND_US // timescale - start * SECOND_US // timescale
    seconds, micros = divmod(length_us, SECOND_US)
    return f"#EXTINF:{seconds}.{micros:06d},\n#EXT-X-BYTERANGE:{size}@{offset}\n{ADDRESS}\n"


def runs_of(segments: Sequence[Segment]) -> list[Run]:
    """Segments of one file, apart where seconds are left out between them."""
    edges = [
        number
        for number, (one, two) in enumerate(pairwise(segments), 1)
        if one.start_pts + one.duration_pts < two.start_pts
    ]
    return [Run(segments[start:end]) for start, end in pairwise([0, *edges, len(segments)]) if start < end]


def stretch_of(part: Part, run: Run) -> Stretch:
    """A run of a part, with the date of its first segment."""
    start = timedelta(microseconds=run.segments[0].start_us)
    shown_at = part.started_at + start if part.started_at else None
    return Stretch(part.url, part.index.init_size_bytes, run, shown_at, part.is_copied)


def segments_of(
    index: FragmentIndex,
    span: Span | None,
    *,
    strict: bool,
    min_segment: Fraction = MIN_SEGMENT,
    is_growing: bool = False,
) -> list[Segment]:
    """The segments that show a span; none when no whole fragment can.

    While the rendition grows, the last segment is held back: what a player was told once must not change.
    """
    return joined(index, _chosen(index, span, strict=strict), min_segment, is_growing=is_growing)


def joined(
    index: FragmentIndex,
    fragments: Sequence[Fragment],
    min_segment: Fraction,
    *,
    is_growing: bool = False,
    limit_s: int | None = None,
) -> list[Segment]:
    """Fragments as segments of at least a length, and, where there is a limit, none longer than that.

    Whether a segment ends where it does depends on nothing behind the fragment after it.
    """
    if not fragments:
        return []
    segments: list[Segment] = []
    main = index.main
    is_sound, timescale = main.kind != "video", main.timescale
    enough_pts = ceil(min_segment * timescale)
    limit_pts = None if limit_s is None else limit_s * timescale
    first, length_pts, end_bytes, end_pts = fragments[0], 0, fragments[0].offset_bytes, fragments[0].start_pts
    for fragment in fragments:
        # Of eight hours there are fifteen thousand, while somebody waits.
        offset, size, start, duration, _, is_key, *_ = fragment
        if (
            (length_pts >= enough_pts and (is_key or is_sound))
            or end_bytes != offset
            or end_pts < start
            or (limit_pts is not None and length_pts + duration > limit_pts)
        ) and fragment is not first:
            segments.append(_segment(first, end_bytes, length_pts, timescale, is_sound))
            first, length_pts = fragment, 0
        length_pts += duration
        end_bytes, end_pts = offset + size, start + duration
    if not is_growing:
        segments.append(_segment(first, end_bytes, length_pts, timescale, is_sound))
    return segments


def _segment(first: Fragment, end_bytes: int, length_pts: int, timescale: int, is_sound: bool) -> Segment:
    offset, _, start, _, _, is_key, _, _, key_bytes, key_shown = first
    # Pictures that lead their keyframe belong to an open group; without its size nobody looked.
    is_independent = is_sound or (is_key and key_bytes > 0 and not key_shown)
    return Segment(offset, end_bytes - offset, start, length_pts, timescale, is_independent)


def keyframes_of(part: Part) -> list[Segment]:
    """The keyframes of what a part shows, each shown until the next; none where the index knows none.

    While the rendition grows, the last is held back: how long it is shown is not known yet.
    """
    index = part.index
    if index.main.kind != "video":
        return []
    chosen = chosen_of(part)
    keys = [fragment for fragment in chosen if fragment.keyframe_bytes]
    shown_at = [fragment.start_pts + fragment.keyframe_pts for fragment in keys]
    ends = [chosen[-1].end_pts] if chosen and not part.is_growing else []
    return [
        Segment(fragment.offset_bytes, fragment.keyframe_bytes, start, end - start, index.timescale, True)
        for fragment, (start, end) in zip(keys, pairwise([*shown_at, *ends]), strict=False)
        if end > start
    ]


def chosen_of(part: Part) -> list[Fragment]:
    """The fragments that a part may show."""
    found = _chosen(part.index, part.span, strict=part.strict)
    if part.since is None:
        return found
    least = part.since * part.index.timescale
    return from_keyframe(part.index, [fragment for fragment in found if fragment.start_pts >= least])


def _chosen(index: FragmentIndex, span: Span | None, *, strict: bool) -> list[Fragment]:
    fragments = [fragment for fragment in index.fragments if fragment.frame_count]
    if span is None:
        return fragments
    begin, end = _ticks(index, span)
    if strict:
        first, last = ceil(begin), floor(end)
        # What starts outside cannot lie inside; of what starts inside each is looked at whole.
        near = fragments[bisect_left(fragments, first, key=_start) : bisect_left(fragments, last, key=_start)]
        inside = [part for part in near if part.first_pts >= first and part.last_pts <= last]
        return from_keyframe(index, inside)
    return covering(index, begin / index.timescale, end / index.timescale)


def _start(fragment: Fragment) -> int:
    return fragment.start_pts


def seam_of(index: FragmentIndex, ends: Fraction) -> Fraction:
    """From where a rendition shows what comes after its beginning, which is there as a file of its own.

    Nothing is left out: where no fragment begins with the next picture, what is shown twice is dated.
    """
    scale, seen = index.timescale, [fragment for fragment in index.fragments if fragment.frame_count]
    near = index.duration * Fraction(3, 2) / max(1, index.frame_count)
    begun = [fragment for fragment in seen if fragment.start_pts <= (ends + near) * scale]
    if not begun or ends + near >= index.duration:
        return ends
    return Fraction(begun[-1].start_pts, scale)


def from_keyframe(index: FragmentIndex, fragments: list[Fragment]) -> list[Fragment]:
    """Leave out what cannot be decoded without the fragments before."""
    is_sound = index.main.kind != "video"
    starts = (at for at, part in enumerate(fragments) if is_sound or part.starts_with_keyframe)
    return fragments[next(starts, len(fragments)) :]


def _ticks(index: FragmentIndex, span: Span) -> tuple[Fraction, Fraction]:
    begin = Fraction(span.from_ms * index.timescale, 1000)
    if span.to_ms is not None:
        end = Fraction(span.to_ms * index.timescale, 1000)
        if span.to_ms <= span.from_ms:
            raise InvalidInput(
                f"span: expected from_ms < to_ms, found {span.from_ms} and {span.to_ms}", code="span_empty"
            )
    else:
        # Sound may go on a little after the last picture; to the end means to the end.
        end = index.duration * index.timescale
        end += max((fragment.tail_pts for fragment in index.fragments[-1:]), default=0)
    # Sound that begins before the first picture belongs to a span from the start.
    if span.from_ms <= 0:
        begin = min(begin, Fraction(min((part.first_pts for part in index.fragments[:1]), default=0)))
    return begin, end


def quotable(url: str) -> str:
    """A URL that cannot break out of its line or its quotes.

    Raises:
        InvalidInput: It holds a character that no URL holds.
    """
    if any(character in '"\\<> ' or ord(character) < 33 or ord(character) > 126 for character in url):
        raise InvalidInput("url: expected a percent-encoded URL, found characters that need encoding")
    return url
