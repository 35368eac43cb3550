"""The part of a rendition that shows a span, as a file of its own: all that a decoder needs to see."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from media.errors import media_error
from media.fmp4 import Fragment, FragmentIndex
from media.supervise import raise_if_cancelled

COPY_BYTES = 1 << 20


def covering(index: FragmentIndex, begin: Fraction, end: Fraction) -> list[Fragment]:
    """The fragments that show or sound anything of ``[begin, end)``, from a keyframe on.

    Args:
        index: Fragments of the rendition.
        begin: Seconds of media time.
        end: Seconds of media time.
    """
    first_pts, last_pts = begin * index.timescale, end * index.timescale
    fragments = [fragment for fragment in index.fragments if fragment.frame_count]
    touched = [
        at for at, part in enumerate(fragments) if part.last_pts > first_pts and part.first_pts < last_pts
    ]
    if not touched:
        return []
    first = touched[0]
    # Pictures that lead the keyframe of an open group are predicted from the group before.
    if (
        fragments[first].keyframe_pts
        and first_pts < fragments[first].start_pts + fragments[first].keyframe_pts
    ):
        first = max(0, first - 1)
    while first > 0 and index.main.kind == "video" and not fragments[first].starts_with_keyframe:
        first -= 1
    return fragments[first : touched[-1] + 1]


def write_excerpt(
    rendition: Path,
    index: FragmentIndex,
    begin: Fraction,
    end: Fraction,
    destination: Path,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> list[Fragment]:
    """Write the init bytes and the fragments that touch ``[begin, end)``, byte for byte.

    Returns:
        The fragments written.

    Raises:
        MediaError: ``fragments_unreadable``: there are none, or the rendition is shorter than its index.
        Conflict: ``cancelled``.
    """
    chosen = covering(index, begin, end)
    if not chosen:
        raise media_error("fragments_unreadable", "no fragment shows the span")
    ranges = [(0, index.init_size_bytes), *((part.offset_bytes, part.size_bytes) for part in chosen)]
    with rendition.open("rb") as source, destination.open("wb") as target:
        for offset, size in ranges:
            raise_if_cancelled(cancelled)
            source.seek(offset)
            left = size
            while left:
                piece = source.read(min(left, COPY_BYTES))
                if not piece:
                    missing = f"the rendition ends before byte {offset + size}"
                    raise media_error("fragments_unreadable", missing)
                target.write(piece)
                left -= len(piece)
    return chosen
