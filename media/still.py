"""Single pictures out of video: the entry points that decode, in a child only."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from numbers import Rational
from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from PIL import Image

from media import formats
from media.errors import media_error, translated
from media.photo import write_photo_derivative

# As ITU-T H.273 numbers the matrices a stream may declare.
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
HD_HEIGHT_PX = 720
# By quarter turns counter-clockwise.
TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


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


def exact_picture_entry(request: dict[str, object], progress: Callable[[float], None]) -> dict[str, object]:
    """Write the one picture of a video that begins at ``pts``: its bare pixels, as a player shows them.

    Upright, with square pixels, in the colours its stream declares; what it leaves open is read as browsers
    do, by the picture's height.

    Args:
        request: ``path``, ``destination``, ``pts`` in the time base of the first video stream.
        progress: Hears 1 at the end.

    Returns:
        ``width_px`` and ``height_px``; ``destination`` holds RGB24 rows, top first, and nothing else.
    """
    with translated("nothing_decodes"):
        picture = _picture_at(str(request["path"]), int(str(request["pts"])))
    Path(str(request["destination"])).write_bytes(picture.tobytes())
    progress(1.0)
    return {"width_px": picture.width, "height_px": picture.height}


def _picture_at(path: str, pts: int) -> Image.Image:
    with av.open(f"file:{path}", options=formats.whitelist_options()) as container:
        for stream in container.streams.video[:1]:
            if formats.is_huge(stream.codec_context.width, stream.codec_context.height):
                raise media_error("huge_dimensions")
            for frame in container.decode(stream):
                if frame.pts == pts:
                    return _shown(frame, stream.sample_aspect_ratio)
    raise media_error("nothing_decodes", f"no picture at {pts}")


def _shown(frame: VideoFrame, aspect: Rational | None) -> Image.Image:
    matrix = MATRICES.get(frame.colorspace)
    if matrix is None:
        # Chromium, and FFmpeg's players with it, take small pictures for BT.601 and large ones for BT.709.
        matrix = Colorspace.ITU601 if frame.height < HD_HEIGHT_PX else Colorspace.ITU709
    is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    drawn = frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        # Without these the fast paths of a processor would show in the last bit.
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
    )
    picture = Image.fromarray(drawn.to_ndarray())
    if aspect and aspect != 1:
        width = min(formats.MAX_SIDE_PX, max(1, round(picture.width * Fraction(aspect))))
        picture = picture.resize((width, picture.height), Image.Resampling.BICUBIC)
    turn = TURNS.get(round(frame.rotation / 90) % 4)
    return picture if turn is None else picture.transpose(turn)


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
