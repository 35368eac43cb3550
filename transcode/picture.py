"""One picture to take away: a PNG of exactly the picture shown at a moment, with the viewer's mark in it.

A picture is named by when it begins to be shown, to the tick of its track. A moment or a number is looked
up in the rendition's own sample times first, so that what is permitted and what is taken are one picture.
It is shown as a player shows it: upright, square pixels, the stream's own colours. The same request over the
same rendition with the same font gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from PIL import Image

from evidence.errors import InvalidInput, MediaError, Unavailable
from media import formats, sandbox
from media.fmp4 import FragmentIndex
from media.fonts import find_font, font_digest, require_font
from media.fragments import Fragment
from media.samples import read_samples
from media.still import sync
from transcode.excerpt import write_excerpt
from transcode.mark import MarkLine, clock_text, lay_mark
from transcode.segment import RunOptions

ENTRY = "media.still:exact_picture_entry"
COMPRESSION = 6


@dataclass(frozen=True)
class ShownPicture:
    """A picture of a rendition."""

    number: int
    """From 0, in order of showing."""
    pts: int
    """When it begins to be shown, in the main track's timescale, from media time 0."""
    timescale: int

    @property
    def span_us(self) -> tuple[int, int]:
        """The microsecond in which it begins to be shown: the shortest span that holds it."""
        begin = self.pts * 1_000_000 // self.timescale
        return begin, begin + 1


@dataclass(frozen=True)
class PictureResult:
    """A PNG that is on disk."""

    path: Path
    width_px: int
    height_px: int
    params: dict[str, Any]
    """What its bytes depend on beside the rendition."""

    @property
    def info(self) -> dict[str, Any]:
        """Facts for the row of the derivative."""
        size = {"width_px": self.width_px, "height_px": self.height_px}
        return {**size, "frame_count": 1, "frame": self.params["frame"]}


def picture_at(rendition: Path, index: FragmentIndex, at_us: int) -> ShownPicture:
    """The picture that is shown at a moment of media time.

    Raises:
        InvalidInput: ``picture_outside``: nothing is shown then.
        MediaError: ``fragments_unreadable``.
    """
    wanted = Fraction(at_us, 1_000_000) * index.timescale
    _require_pictures(index)
    if not 0 <= at_us < index.duration * 1_000_000:
        length = int(index.duration * 1_000_000)
        raise InvalidInput(
            f"picture: expected a moment from 0 to {length} us, found {at_us}", code="picture_outside"
        )
    before, part = 0, None
    # Behind the last picture, or between two far apart, fragments hold sound alone.
    for each in (fragment for fragment in index.fragments if fragment.frame_count):
        if each.start_pts > wanted:
            break
        before, part = (before + part.frame_count, each) if part is not None else (before, each)
    times = _times(rendition, index, part) if part is not None else []
    rank = sum(1 for pts in times if pts <= wanted)
    if not rank:
        raise MediaError(
            f"picture: expected one shown at {at_us} us, found none", code="fragments_unreadable"
        )
    return ShownPicture(before + rank - 1, times[rank - 1], index.timescale)


def picture_of_number(rendition: Path, index: FragmentIndex, number: int) -> ShownPicture:
    """The picture of a number, from 0 in order of showing.

    Raises:
        InvalidInput: ``picture_outside``: there are not so many.
        MediaError: ``fragments_unreadable``.
    """
    _require_pictures(index)
    before = 0
    for part in index.fragments:
        if number < before + part.frame_count:
            times = _times(rendition, index, part)
            if len(times) == part.frame_count:
                return ShownPicture(number, times[number - before], index.timescale)
            raise MediaError(
                f"fragment: expected {part.frame_count} pictures, found {len(times)}",
                code="fragments_unreadable",
            )
        before += part.frame_count
    raise InvalidInput(
        f"picture: expected a number from 0 to {before - 1}, found {number}", code="picture_outside"
    )


def shows_any(rendition: Path, index: FragmentIndex, span_us: tuple[int, int]) -> bool:
    """Whether a clip of that span would have a picture, or of sound alone a sample.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    first, last = (ceil(Fraction(at_us, 1_000_000) * index.timescale) for at_us in span_us)
    if index.main.kind != "video":
        return first < min(last, ceil(index.duration * index.timescale))
    for part in index.fragments:
        if not part.frame_count or part.start_pts >= last or part.end_pts <= first:
            continue
        # Only of one that has begun before is it unknown when its pictures begin.
        if part.start_pts >= first or any(first <= at < last for at in _times(rendition, index, part)):
            return True
    return False


def take_picture(
    rendition: Path,
    index: FragmentIndex,
    shown: ShownPicture,
    destination: Path,
    *,
    mark: Sequence[MarkLine] = (),
    font: Path | None = None,
    clock_us: int | None = None,
    run: RunOptions,
    cancelled: Callable[[], bool] | None = None,
) -> PictureResult:
    """Write one picture of a rendition as PNG.

    Args:
        rendition: The rendition the viewer has a right to.
        index: Its fragments.
        shown: Which picture.
        destination: A temporary file; taken away on failure.
        mark: Lines to burn in.
        font: A font with Chinese; a system font when omitted.
        clock_us: What a clock on the wall showed at media time 0, as for `cut_clip`; None draws none.

    Raises:
        MediaError: ``nothing_decodes``, ``huge_dimensions`` or a limit.
        Unavailable: ``output_unwritable``, or ``font_missing``: a clock is wanted and nothing can draw it.
        Conflict: ``cancelled``.
    """
    used_font = find_font(font)
    clock = None
    if clock_us is not None:
        used_font = require_font(used_font)
        clock = clock_text(clock_us + shown.span_us[0])
    excerpt, pixels = run.scratch / "excerpt.mp4", run.scratch / "picture.rgb"
    begin = Fraction(shown.pts, index.timescale)
    try:
        write_excerpt(rendition, index, begin, begin + Fraction(1, index.timescale), excerpt)
        request: dict[str, object] = {
            "path": str(excerpt.resolve()),
            "destination": str(pixels.resolve()),
            "pts": shown.pts + index.origin_pts,
        }
        made = sandbox.call(ENTRY, request, limits=run.limits, cancelled=cancelled, scratch=run.scratch)
        picture = _read_pixels(pixels, int(str(made["width_px"])), int(str(made["height_px"])))
        if mark or clock:
            lay_mark(picture, mark, font=used_font, clock=clock)
        _save(picture, destination)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    finally:
        excerpt.unlink(missing_ok=True)
        pixels.unlink(missing_ok=True)
    params: dict[str, Any] = {
        "frame": shown.number,
        "pts": [shown.pts, shown.timescale],
        "mark": [line.text for line in mark],
        "font_sha256": font_digest(used_font) if mark or clock else None,
    }
    if clock is not None:
        params["clock_us"] = clock_us
    return PictureResult(destination, picture.width, picture.height, params)


def _require_pictures(index: FragmentIndex) -> None:
    if index.main.kind != "video":
        raise InvalidInput(
            "picture: expected a recording with pictures, found sound alone; ask for a clip",
            code="picture_of_sound",
        )


def _times(rendition: Path, index: FragmentIndex, part: Fragment) -> list[int]:
    """When each picture of a fragment begins to be shown, ascending, from media time 0."""
    return sorted(sample.pts - index.origin_pts for sample in read_samples(rendition, index.main, [part]))


def _read_pixels(path: Path, width_px: int, height_px: int) -> Image.Image:
    """What a child drew: bare rows, in which nothing has to be parsed."""
    size = path.stat().st_size
    if (
        width_px < 1
        or height_px < 1
        or formats.is_huge(width_px, height_px)
        or size != width_px * height_px * 3
    ):
        raise MediaError(
            f"picture: expected {width_px}x{height_px} pixels, found {size} bytes", code="nothing_decodes"
        )
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as rows:
        return Image.frombytes("RGB", (width_px, height_px), rows)  # type: ignore[arg-type]


def _save(picture: Image.Image, destination: Path) -> None:
    try:
        picture.save(destination, "PNG", compress_level=COMPRESSION)
        sync(destination)
    except OSError as error:
        raise Unavailable(
            f"picture: expected to write it, found {error.strerror}; free space and try again",
            code="output_unwritable",
        ) from error
