"""Single pictures out of video: the entry points that decode, in a child only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import av
from PIL import Image

from media import formats
from media.errors import media_error, translated
from media.photo import write_photo_derivative


def poster_entry(request: dict[str, object], progress: Callable[[float], None]) -> dict[str, object]:
    """Write the first picture of a video as JPEG.

    Args:
        request: ``path``, ``destination``, ``max_width_px``, ``quality``.
        progress: Hears 1 at the end.

    Returns:
        ``width_px``, ``height_px`` and ``level``: how bright it is on average, 0 to 255.
    """
    width, quality = int(str(request["max_width_px"])), int(str(request["quality"]))
    destination = Path(str(request["destination"]))
    with translated("nothing_decodes"):
        picture = _first_picture(str(request["path"]))
    picture.thumbnail((width, width * 4), Image.Resampling.BICUBIC)
    bare = Image.frombytes("RGB", picture.size, picture.tobytes())
    bare.save(destination, "JPEG", quality=quality)
    sync(destination)
    progress(1.0)
    return {"width_px": bare.width, "height_px": bare.height, "level": _level(bare)}


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


def _first_picture(path: str) -> Image.Image:
    with av.open(f"file:{path}", options=formats.whitelist_options()) as container:
        for stream in container.streams.video[:1]:
            if formats.is_huge(stream.codec_context.width, stream.codec_context.height):
                raise media_error("huge_dimensions")
            for frame in container.decode(stream):
                picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
                return picture
    raise media_error("nothing_decodes", "no frame for a poster")


def _level(picture: Image.Image) -> float:
    histogram = picture.convert("L").histogram()
    return sum(level * count for level, count in enumerate(histogram)) / max(1, sum(histogram))
