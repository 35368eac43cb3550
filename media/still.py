"""Single pictures out of video: the entry points that decode, in a child only."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from PIL import Image

from media import formats
from media.errors import media_error, translated
from media.photo import write_photo_derivative

# A picture darker than this on average, of 255, says nothing on a page of thumbnails.
DARK_LEVEL = 16
PLACES = (Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(0))
FRAMES_PER_PLACE = 300


def poster_entry(request: dict[str, object], progress: Callable[[float], None]) -> dict[str, object]:
    """Write one JPEG of a video: at a tenth of it, or the first place after that is not black.

    Args:
        request: ``path``, ``destination``, ``max_width_px``, ``quality``.
        progress: Hears 0 to 1.

    Returns:
        ``width_px``, ``height_px`` and ``at_us``, media time.
    """
    path, destination = str(request["path"]), Path(str(request["destination"]))
    width, quality = int(str(request["max_width_px"])), int(str(request["quality"]))
    best: tuple[Image.Image, int] | None = None
    with translated("nothing_decodes"):
        for number, place in enumerate(PLACES):
            found = _picture_at(path, place)
            progress((number + 1) / len(PLACES))
            if found is not None and (best is None or _level(found[0]) >= DARK_LEVEL):
                best = found
            if best is not None and _level(best[0]) >= DARK_LEVEL:
                break
    if best is None:
        raise media_error("nothing_decodes", "no frame for a poster")
    picture, at_us = best
    picture.thumbnail((width, width * 4), Image.Resampling.BICUBIC)
    bare = Image.frombytes("RGB", picture.size, picture.tobytes())
    bare.save(destination, "JPEG", quality=quality)
    sync(destination)
    return {"width_px": bare.width, "height_px": bare.height, "at_us": at_us}


def photo_entry(request: dict[str, object], progress: Callable[[float], None]) -> dict[str, object]:
    """Write the derivative of a photo: the picture, upright, and nothing else of its source.

    Args:
        request: ``path``, ``destination``, ``max_side_px``, ``quality``.
        progress: Hears 1 at the end.
    """
    destination = Path(str(request["destination"]))
    width, height = write_photo_derivative(
        Path(str(request["path"])),
        destination,
        max_side_px=int(str(request["max_side_px"])),
        quality=int(str(request["quality"])),
    )
    sync(destination)
    progress(1.0)
    return {"width_px": width, "height_px": height}


def sync(path: Path) -> None:
    """Wait until a file's bytes are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _picture_at(path: str, place: Fraction) -> tuple[Image.Image, int] | None:
    """The first picture shown at or after a share of the duration; None when there is none."""
    with av.open(f"file:{path}", options=formats.whitelist_options()) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None or stream.time_base is None:
            return None
        if formats.is_huge(stream.codec_context.width, stream.codec_context.height):
            raise media_error("huge_dimensions")
        base, start = Fraction(stream.time_base), stream.start_time or 0
        length = stream.duration or int((container.duration or 0) / 1_000_000 / base)
        wanted = start + int(length * place)
        container.seek(wanted, stream=stream)
        last: Any = None
        for number, frame in enumerate(container.decode(stream)):
            last = frame
            if (frame.pts is not None and frame.pts >= wanted) or number >= FRAMES_PER_PLACE:
                break
        if last is None:
            return None
        at_us = int(((last.pts or start) - start) * base * 1_000_000)
        return last.to_image(), at_us


def _level(picture: Image.Image) -> float:
    histogram = picture.convert("L").histogram()
    return sum(level * count for level, count in enumerate(histogram)) / max(1, sum(histogram))
