"""Posters and photo derivatives: single pictures, without a trace of the file they came from.

A poster is made from the rendition that it stands for, never from anything above it: the poster of a
redacted rendition shows what that rendition shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from media import sandbox
from media.sandbox import Limits

POSTER_WIDTH_PX = 640
PHOTO_SIDE_PX = 2560
POSTER_QUALITY = 80
PHOTO_QUALITY = 88


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
    destination: Path,
    *,
    scratch: Path,
    limits: Limits,
    cancelled: Callable[[], bool] | None = None,
) -> Still:
    """Write the poster of a video rendition.

    Raises:
        MediaError: ``nothing_decodes`` or a limit.
    """
    request: dict[str, object] = {"max_width_px": POSTER_WIDTH_PX, "quality": POSTER_QUALITY}
    return _make("media.still:poster_entry", rendition, destination, request, scratch, limits, cancelled)


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
    return _make("media.still:photo_entry", original, destination, request, scratch, limits, cancelled)


def _make(
    entry: str,
    source: Path,
    destination: Path,
    request: dict[str, object],
    scratch: Path,
    limits: Limits,
    cancelled: Callable[[], bool] | None,
) -> Still:
    paths = {"path": str(source.resolve()), "destination": str(destination.resolve())}
    try:
        made = sandbox.call(entry, {**request, **paths}, limits=limits, cancelled=cancelled, scratch=scratch)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    numbers = {name: int(str(made.get(name, 0))) for name in ("width_px", "height_px", "at_us")}
    return Still(destination, **numbers)
