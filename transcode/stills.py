"""Posters and photo derivatives: single pictures, without a trace of the file they came from.

A poster is made from the rendition that it stands for, never from anything above it: the poster of a
redacted rendition shows what that rendition shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from media import sandbox
from media.fmp4 import FragmentIndex
from media.sandbox import Limits
from transcode.excerpt import write_excerpt

POSTER, PHOTO = "media.still:poster_entry", "media.still:photo_entry"
POSTER_WIDTH_PX = 640
PHOTO_SIDE_PX = 2560
POSTER_QUALITY = 80
PHOTO_QUALITY = 88
# A picture darker than this on average, of 255, says nothing on a page of thumbnails.
DARK_LEVEL = 16
PLACES = (Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
MOMENT = Fraction(1, 1000)


@dataclass(frozen=True)
class Still:
    """A JPEG that is on disk."""

    path: Path
    width_px: int
    height_px: int
    at_us: int = 0
    """Media time of the picture; 0 for photos."""

    @property
    def info(self) -> dict[str, int]:
        """Facts for the row of the derivative."""
        return {"width_px": self.width_px, "height_px": self.height_px, "at_us": self.at_us}


def make_poster(
    rendition: Path,
    index: FragmentIndex,
    destination: Path,
    *,
    scratch: Path,
    limits: Limits,
    cancelled: Callable[[], bool] | None = None,
) -> Still:
    """Write the poster of a video rendition: a tenth in, or the first place after that is not black.

    Raises:
        MediaError: ``nothing_decodes`` or a limit.
    """
    request: dict[str, object] = {"max_width_px": POSTER_WIDTH_PX, "quality": POSTER_QUALITY}
    excerpt = scratch / "poster-excerpt.mp4"
    still: Still | None = None
    try:
        for place in PLACES:
            begin = index.duration * place
            shown = write_excerpt(rendition, index, begin, begin + MOMENT, excerpt)
            made = _make(
                "media.still:poster_entry", excerpt, destination, request, scratch, limits, cancelled
            )
            at = Fraction(shown[0].start_pts, index.timescale)
            still = Still(destination, int(made["width_px"]), int(made["height_px"]), int(at * 1_000_000))
            if made["level"] >= DARK_LEVEL:
                break
    finally:
        excerpt.unlink(missing_ok=True)
    assert still is not None  # noqa: S101 - there is at least one place
    return still


def make_photo_derivative(
    original: Path,
    destination: Path,
    *,
    scratch: Path,
    limits: Limits,
    cancelled: Callable[[], bool] | None = None,
) -> Still:
    """Write a photo as an upright JPEG of at most 2560 pixels a side, without EXIF or anything else.

    Raises:
        MediaError: ``huge_dimensions``, ``unknown_codec``, ``nothing_decodes`` or a limit.
    """
    request: dict[str, object] = {"max_side_px": PHOTO_SIDE_PX, "quality": PHOTO_QUALITY}
    made = _make(PHOTO, original, destination, request, scratch, limits, cancelled)
    return Still(destination, int(made["width_px"]), int(made["height_px"]))


def _make(
    entry: str,
    source: Path,
    destination: Path,
    request: dict[str, object],
    scratch: Path,
    limits: Limits,
    cancelled: Callable[[], bool] | None,
) -> dict[str, float]:
    paths = {"path": str(source.resolve()), "destination": str(destination.resolve())}
    try:
        made = sandbox.call(entry, {**request, **paths}, limits=limits, cancelled=cancelled, scratch=scratch)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    return {name: float(str(value)) for name, value in made.items()}
