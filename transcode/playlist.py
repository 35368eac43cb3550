"""HLS playlists over the bytes of renditions: of one, of a span of it, or of several one after another.

Nothing is copied or cut: a segment is a byte range of one or more whole fragments. Players take the
numbers here at their word, so each is exact: a wrong range or duration shows up as wrong footage.

Edges of a span. *Strict* means that nothing outside the span may be shown, because those seconds
belong to somebody else: only fragments whose every picture and sound lies inside are listed, so the
edges move inward. Otherwise they move outward to the next keyframe, so that nothing asked for is
missing. To the frame cuts only `transcode.clip`.

Where one file ends and another begins, and where seconds are left out, stands EXT-X-DISCONTINUITY with
the date of what follows: time between is stated and never shown as footage.

Source: RFC 8216bis (HLS, version 7): EXT-X-MAP's BYTERANGE is quoted, EXT-X-BYTERANGE stands after EXTINF,
EXT-X-DISCONTINUITY before the EXT-X-MAP of what it separates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import NamedTuple

from evidence.clock import rfc3339
from evidence.errors import InvalidInput, NotFound
from media.fmp4 import Fragment, FragmentIndex
from transcode.excerpt import covering

MIN_SEGMENT = Fraction(2)
HLS_VERSION = 7
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
    starts_with_keyframe: bool

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


@dataclass(frozen=True)
class Stretch:
    """Segments of one file without a gap between them."""

    url: str
    init_size_bytes: int
    segments: Sequence[Segment]
    shown_at: datetime | None
    """The wall time of its first picture; None: unknown."""


@dataclass(frozen=True)
class Variant:
    """One rung in a multivariant playlist."""

    url: str
    peak_bitrate_bps: int
    bitrate_bps: int
    codecs: str
    width_px: int = 0
    height_px: int = 0
    is_of_keyframes: bool = False

    @classmethod
    def of(cls, url: str, *parts: Part) -> Variant:
        """Of the parts that its playlist has: the rates of the densest, the codecs of each."""
        indexes = [part.index for part in parts]
        main = max((index.main for index in indexes), key=lambda track: track.height_px)
        return cls(
            url,
            max(index.peak_bitrate_bps for index in indexes),
            max(index.bitrate_bps for index in indexes),
            _together(codec for index in indexes for codec in index.codecs.split(",")),
            main.width_px,
            main.height_px,
        )

    @classmethod
    def of_keyframes(cls, url: str, *parts: Part) -> Variant | None:
        """The same of its I-frame playlist; None where a part has none."""
        listed = [keyframes_of(part) for part in parts]
        if not listed or not all(listed):
            return None
        rates = [s.size_bytes * 8 * s.timescale // s.duration_pts for found in listed for s in found]
        length = sum(segment.duration for found in listed for segment in found)
        size = sum(segment.size_bytes for found in listed for segment in found)
        main = max((part.index.main for part in parts), key=lambda track: track.height_px)
        codecs = _together(part.index.main.codec for part in parts)
        return cls(url, max(rates), int(size * 8 / length), codecs, main.width_px, main.height_px, True)


def media_playlist(
    parts: Sequence[Part], *, min_segment: Fraction = MIN_SEGMENT, more_follows: bool = False
) -> str:
    """The playlist of one rendition, or of several one after another.

    Args:
        parts: In the order they are shown. A part of which no whole fragment can be shown is left out.
        min_segment: Fragments are joined until a segment is at least so many seconds long.
        more_follows: Another part will come; the player asks again.

    Raises:
        InvalidInput: ``span_empty``: a span ends before it starts.
        NotFound: ``span_without_segments``: nothing can be shown by whole fragments.
    """
    stretches = [
        stretch
        for part in parts
        for stretch in _stretches(
            part,
            segments_of(
                part.index, part.span, strict=part.strict, min_segment=min_segment, is_growing=part.is_growing
            ),
        )
    ]
    if stretches and not more_follows and not _is_growing(parts):
        stretches[-1] = _to_its_end(stretches[-1], parts[-1].index)
    return write(stretches, is_growing=more_follows or _is_growing(parts))


def _to_its_end(stretch: Stretch, index: FragmentIndex) -> Stretch:
    """With the sound that goes on after the last picture of all: players find the list as long as it says."""
    last, final = stretch.segments[-1], index.fragments[-1]
    is_rounding = final.tail_pts * 1000 < index.timescale
    if last.offset_bytes + last.size_bytes != final.end_bytes or is_rounding:
        return stretch
    longer = last._replace(duration_pts=last.duration_pts + final.tail_pts)
    return replace(stretch, segments=[*stretch.segments[:-1], longer])


def iframe_playlist(parts: Sequence[Part], *, more_follows: bool = False) -> str:
    """The keyframes of the same footage, for scrubbing: each from its fragment's first byte to its own last.

    Raises:
        InvalidInput, NotFound: As `media_playlist`; a rendition of sound has no keyframes.
    """
    stretches = [stretch for part in parts for stretch in _stretches(part, keyframes_of(part))]
    return write(stretches, is_growing=more_follows or _is_growing(parts), of_keyframes=True)


def _is_growing(parts: Sequence[Part]) -> bool:
    return bool(parts) and parts[-1].is_growing


def multivariant_playlist(variants: Sequence[Variant]) -> str:
    """The playlist that offers every rung, the most modest first.

    Raises:
        NotFound: There is no rendition yet.
    """
    if not variants:
        raise NotFound("renditions: expected at least one, found none yet", code="rendition_missing")
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    ordered = sorted(variants, key=lambda each: (each.is_of_keyframes, each.peak_bitrate_bps))
    for variant in ordered:
        attributes = [
            f"BANDWIDTH={max(1, variant.peak_bitrate_bps)}",
            f"AVERAGE-BANDWIDTH={max(1, variant.bitrate_bps)}",
            f'CODECS="{variant.codecs}"',
        ]
        if variant.width_px:
            attributes.append(f"RESOLUTION={variant.width_px}x{variant.height_px}")
        if variant.is_of_keyframes:
            attributes.append(f'URI="{quotable(variant.url)}"')
            lines.append(f"#EXT-X-I-FRAME-STREAM-INF:{','.join(attributes)}")
        else:
            lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", quotable(variant.url)]
    return "\n".join(lines) + "\n"


def write(stretches: Sequence[Stretch], *, is_growing: bool = False, of_keyframes: bool = False) -> str:
    """A media playlist as text.

    Args:
        stretches: What it shows, in order.
        is_growing: More will follow.
        of_keyframes: Each segment is a keyframe.

    Raises:
        NotFound: ``span_without_segments``: there is nothing in it.
    """
    every = [segment for stretch in stretches for segment in stretch.segments]
    if not every:
        raise NotFound(
            "span: expected at least one whole fragment in it, found none; ask for a clip to take away",
            code="span_without_segments",
        )
    target_s = max(1, *(-(-segment.duration_pts // segment.timescale) for segment in every))
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", f"#EXT-X-TARGETDURATION:{target_s}"]
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", f"#EXT-X-PLAYLIST-TYPE:{'EVENT' if is_growing else 'VOD'}"]
    if of_keyframes:
        lines.append("#EXT-X-I-FRAMES-ONLY")
    if all(segment.starts_with_keyframe for segment in every):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    for number, stretch in enumerate(stretches):
        if number:
            lines.append("#EXT-X-DISCONTINUITY")
        lines += _stretch(stretch)
    if not is_growing:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def _stretch(stretch: Stretch) -> list[str]:
    url = quotable(stretch.url)
    lines = [f'#EXT-X-MAP:URI="{url}",BYTERANGE="{stretch.init_size_bytes}@0"']
    if stretch.shown_at is not None:
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(stretch.shown_at)}")
    for offset, size, start, duration, timescale, _ in stretch.segments:
        # Between edges in whole microseconds, so that the sum over hours does not drift.
        length_us = (start + duration) * SECOND_US // timescale - start * SECOND_US // timescale
        lines.append(f"#EXTINF:{_seconds(length_us)},\n#EXT-X-BYTERANGE:{size}@{offset}\n{url}")
    return lines


def _seconds(micros: int) -> str:
    return f"{micros // SECOND_US}.{micros % SECOND_US:06d}"


def _stretches(part: Part, segments: Sequence[Segment]) -> list[Stretch]:
    """A part's segments, apart where seconds are left out between them."""
    return [stretch_of(part, run) for run in runs_of(segments)]


def runs_of(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments of one file that follow each other without a gap."""
    runs: list[list[Segment]] = []
    for segment in segments:
        if runs and runs[-1][-1].end_pts >= segment.start_pts:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return runs


def stretch_of(part: Part, run: Sequence[Segment]) -> Stretch:
    """Segments of a part that follow each other, with the date of the first."""
    shown_at = part.started_at + timedelta(microseconds=run[0].start_us) if part.started_at else None
    return Stretch(part.url, part.index.init_size_bytes, run, shown_at)


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
    index: FragmentIndex, fragments: Iterable[Fragment], min_segment: Fraction, *, is_growing: bool = False
) -> list[Segment]:
    """Fragments as segments of at least a length."""
    segments: list[Segment] = []
    run: list[Fragment] = []
    main = index.main
    is_sound, timescale = main.kind != "video", main.timescale
    enough_pts, length_pts = ceil(min_segment * timescale), 0

    def end() -> None:
        first = run[0]
        size = run[-1].end_bytes - first.offset_bytes
        is_key = first.starts_with_keyframe or is_sound
        segments.append(Segment(first.offset_bytes, size, first.start_pts, length_pts, timescale, is_key))

    for fragment in fragments:
        if run:
            may_end = length_pts >= enough_pts and (fragment.starts_with_keyframe or is_sound)
            before = run[-1]
            if may_end or before.end_bytes != fragment.offset_bytes or before.end_pts < fragment.start_pts:
                end()
                run, length_pts = [], 0
        run.append(fragment)
        length_pts += fragment.duration_pts
    if run and not is_growing:
        end()
    return segments


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
    return _chosen(part.index, part.span, strict=part.strict)


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


def _together(codecs: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(codecs))


def quotable(url: str) -> str:
    """A URL that cannot break out of its line or its quotes.

    Raises:
        InvalidInput: It holds a character that no URL holds.
    """
    if any(character in '"\\<> ' or ord(character) < 33 or ord(character) > 126 for character in url):
        raise InvalidInput("url: expected a percent-encoded URL, found characters that need encoding")
    return url
