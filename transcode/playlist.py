"""HLS playlists over the bytes of a rendition, for all of it or any span.

Nothing is copied or cut: a segment is a byte range of one or more whole fragments. Players take the
numbers here at their word, so each is exact: a wrong range or duration shows up as wrong footage.

Edges of a span. *Strict* means that nothing outside the span may be shown, because those seconds
belong to somebody else: only fragments whose every picture and sound lies inside are listed, so the
edges move inward. Otherwise they move outward to the next keyframe, so that nothing asked for is
missing. To the frame cuts only `transcode.clip`.

Source: RFC 8216bis (HLS, version 7): EXT-X-MAP's BYTERANGE is quoted, EXT-X-BYTERANGE stands after EXTINF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil

from evidence.clock import rfc3339
from evidence.errors import InvalidInput, NotFound
from media.fmp4 import Fragment, FragmentIndex
from transcode.excerpt import covering

MIN_SEGMENT = Fraction(2)
HLS_VERSION = 7


@dataclass(frozen=True)
class Span:
    """Milliseconds of media time, the end not included; None is the end of the recording."""

    from_ms: int
    to_ms: int | None = None


@dataclass(frozen=True)
class Segment:
    """A run of whole fragments served as one."""

    offset_bytes: int
    size_bytes: int
    start: Fraction
    duration: Fraction
    starts_with_keyframe: bool


@dataclass(frozen=True)
class Variant:
    """One rung in a multivariant playlist."""

    url: str
    peak_bitrate_bps: int
    bitrate_bps: int
    codecs: str
    width_px: int = 0
    height_px: int = 0

    @classmethod
    def of(cls, url: str, index: FragmentIndex) -> Variant:
        main = index.main
        return cls(
            url, index.peak_bitrate_bps, index.bitrate_bps, index.codecs, main.width_px, main.height_px
        )


def media_playlist(
    index: FragmentIndex,
    url: str,
    span: Span | None = None,
    *,
    strict: bool = False,
    started_at: datetime | None = None,
    is_growing: bool = False,
    min_segment: Fraction = MIN_SEGMENT,
) -> str:
    """The playlist of one rendition.

    Args:
        index: Its fragments.
        url: Where its bytes are, as it shall stand in the playlist.
        span: What to show; all of it when omitted.
        strict: Nothing outside the span may be shown.
        started_at: The wall time at media time 0, where it is known.
        is_growing: More will follow; the player asks again.
        min_segment: Fragments are joined until a segment is at least so many seconds long.

    Raises:
        InvalidInput: ``span_empty``: the span ends before it starts.
        NotFound: ``span_without_segments``: nothing can be shown by whole fragments.
    """
    segments = segments_of(index, span, strict=strict, min_segment=min_segment, is_growing=is_growing)
    if not segments:
        raise NotFound(
            "span: expected at least one whole fragment in it, found none; ask for a clip to take away",
            code="span_without_segments",
        )
    longest = max(ceil(segment.duration) for segment in segments)
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", f"#EXT-X-TARGETDURATION:{max(1, longest)}"]
    lines += ["#EXT-X-MEDIA-SEQUENCE:0", f"#EXT-X-PLAYLIST-TYPE:{'EVENT' if is_growing else 'VOD'}"]
    if all(segment.starts_with_keyframe for segment in segments):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    lines.append(f'#EXT-X-MAP:URI="{_quotable(url)}",BYTERANGE="{index.init_size_bytes}@0"')
    if started_at is not None:
        shown_at = started_at + timedelta(microseconds=int(segments[0].start * 1_000_000))
        lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(shown_at)}")
    for segment in segments:
        lines.append(f"#EXTINF:{float(segment.duration):.6f},")
        lines.append(f"#EXT-X-BYTERANGE:{segment.size_bytes}@{segment.offset_bytes}")
        lines.append(_quotable(url))
    if not is_growing:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"


def multivariant_playlist(variants: Sequence[Variant]) -> str:
    """The playlist that offers every rung, the most modest first.

    Raises:
        NotFound: There is no rendition yet.
    """
    if not variants:
        raise NotFound("renditions: expected at least one, found none yet", code="rendition_missing")
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{HLS_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    for variant in sorted(variants, key=lambda each: each.peak_bitrate_bps):
        attributes = [
            f"BANDWIDTH={max(1, variant.peak_bitrate_bps)}",
            f"AVERAGE-BANDWIDTH={max(1, variant.bitrate_bps)}",
            f'CODECS="{variant.codecs}"',
        ]
        if variant.width_px:
            attributes.append(f"RESOLUTION={variant.width_px}x{variant.height_px}")
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", _quotable(variant.url)]
    return "\n".join(lines) + "\n"


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
    segments: list[Segment] = []
    run: list[Fragment] = []
    for fragment in _chosen(index, span, strict=strict):
        long_enough = sum(part.duration_pts for part in run) >= min_segment * index.timescale
        may_start = fragment.starts_with_keyframe or index.main.kind != "video"
        if run and ((long_enough and may_start) or run[-1].end_bytes != fragment.offset_bytes):
            segments.append(_joined(index, run))
            run = []
        run.append(fragment)
    if run and not is_growing:
        segments.append(_joined(index, run))
    return segments


def _chosen(index: FragmentIndex, span: Span | None, *, strict: bool) -> list[Fragment]:
    fragments = [fragment for fragment in index.fragments if fragment.frame_count]
    if span is None:
        return fragments
    begin, end = _ticks(index, span)
    if strict:
        inside = [part for part in fragments if part.first_pts >= begin and part.last_pts <= end]
        return _from_keyframe(index, inside)
    return covering(index, begin / index.timescale, end / index.timescale)


def _from_keyframe(index: FragmentIndex, fragments: list[Fragment]) -> list[Fragment]:
    """Leave out what cannot be decoded without the fragments before."""
    is_sound = index.main.kind != "video"
    starts = [at for at, part in enumerate(fragments) if is_sound or part.starts_with_keyframe]
    return fragments[starts[0] :] if starts else []


def _ticks(index: FragmentIndex, span: Span) -> tuple[Fraction, Fraction]:
    begin = Fraction(span.from_ms * index.timescale, 1000)
    end = index.duration * index.timescale
    if span.to_ms is not None:
        end = Fraction(span.to_ms * index.timescale, 1000)
        if span.to_ms <= span.from_ms:
            raise InvalidInput(
                f"span: expected from_ms < to_ms, found {span.from_ms} and {span.to_ms}", code="span_empty"
            )
    else:
        # Sound may go on a little after the last picture; to the end means to the end.
        end += max((fragment.tail_pts for fragment in index.fragments[-1:]), default=0)
    # Sound that begins before the first picture belongs to a span from the start.
    if span.from_ms <= 0:
        begin = min(begin, Fraction(min((part.first_pts for part in index.fragments[:1]), default=0)))
    return begin, end


def _joined(index: FragmentIndex, run: list[Fragment]) -> Segment:
    first, last = run[0], run[-1]
    return Segment(
        first.offset_bytes,
        last.end_bytes - first.offset_bytes,
        Fraction(first.start_pts, index.timescale),
        Fraction(sum(part.duration_pts for part in run), index.timescale),
        first.starts_with_keyframe or index.main.kind != "video",
    )


def _quotable(url: str) -> str:
    """A URL that cannot break out of its line or its quotes.

    Raises:
        InvalidInput: It holds a character that no URL holds.
    """
    if any(character in '"\\<> ' or ord(character) < 33 or ord(character) > 126 for character in url):
        raise InvalidInput("url: expected a percent-encoded URL, found characters that need encoding")
    return url
