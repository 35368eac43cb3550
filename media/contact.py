"""Contact sheets: small pictures of a rendition on a few large ones, from its keyframes alone.

Nothing is sought in the file and nothing decoded but the first picture of each chosen fragment: its bytes are
put behind those of the ``moov``, which makes a file of their own. So eight hours cost a few hundred pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import av.error
from PIL import Image

from media import formats
from media.decode import GREY, RENDITION_FORMATS
from media.errors import is_out_of_memory, media_error
from media.still import sync

COLUMNS, ROWS = 10, 10
QUALITY = 70
FRAGMENT_LIMIT_BYTES = 64 << 20


class Sheets(NamedTuple):
    """What was written."""

    sheet_count: int
    undecodable_count: int
    """Tiles that are plain grey, because their picture did not decode."""


def write_sheets(
    path: Path,
    init_size_bytes: int,
    fragments: Sequence[tuple[int, int]],
    folder: Path,
    *,
    tile_px: tuple[int, int],
    progress: Callable[[float], None],
) -> Sheets:
    """Write the first pictures of fragments as tiles, row by row, `COLUMNS` times `ROWS` to a sheet.

    Args:
        path: A fragmented MP4.
        init_size_bytes: Where its ``moov`` ends.
        fragments: Offset and size of each, in bytes; the first picture of each is a keyframe.
        folder: Where ``sheet-0.jpg`` and so on go; they are on disk afterwards.
        tile_px: Width and height of a tile.
        progress: Hears 0 to 1.

    Raises:
        MediaError: ``nothing_decodes``: not one picture of them, or ``huge_dimensions``.
    """
    undecodable = sheet_count = 0
    with path.open("rb") as file:
        init = file.read(init_size_bytes)
        for begin in range(0, len(fragments), COLUMNS * ROWS):
            tiles = fragments[begin : begin + COLUMNS * ROWS]
            sheet = _blank(len(tiles), tile_px)
            for number, (offset, size_bytes) in enumerate(tiles):
                file.seek(offset)
                picture = _first_picture(init + file.read(min(size_bytes, FRAGMENT_LIMIT_BYTES)), tile_px)
                if picture is None:
                    undecodable += 1
                else:
                    sheet.paste(picture, tile_corner(number, tile_px))
                progress((begin + number + 1) / len(fragments))
            destination = folder / f"sheet-{sheet_count}.jpg"
            sheet.save(destination, "JPEG", quality=QUALITY)
            sync(destination)
            sheet_count += 1
    if undecodable == len(fragments):
        raise media_error("nothing_decodes", "no keyframe for a contact sheet")
    return Sheets(sheet_count, undecodable)


def tile_corner(number: int, tile_px: tuple[int, int]) -> tuple[int, int]:
    """Upper left corner of a tile on its sheet, by its number on it."""
    return number % COLUMNS * tile_px[0], number // COLUMNS * tile_px[1]


def _blank(count: int, tile_px: tuple[int, int]) -> Image.Image:
    width, height = tile_px
    rows = -(-count // COLUMNS)
    return Image.new("RGB", (min(count, COLUMNS) * width, rows * height), (GREY, GREY, GREY))


def _first_picture(mp4: bytes, tile_px: tuple[int, int]) -> Image.Image | None:
    """The first picture of a small MP4, scaled; None when it does not decode."""
    width, height = tile_px
    try:
        # From memory there is no protocol, and no other file that could be opened.
        with av.open(io.BytesIO(mp4), "r", options={"format_whitelist": RENDITION_FORMATS}) as container:
            (stream,) = container.streams.video[:1]
            context = stream.codec_context
            if formats.is_huge(context.width, context.height):
                raise media_error("huge_dimensions")
            for packet in container.demux(stream):
                # A decoder that reorders holds its first picture back until it is asked for all it has.
                for frame in [*packet.decode(), *context.decode(None)]:
                    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
                    return small.to_image()  # type: ignore[no-untyped-call,no-any-return]
                return None
    except (av.error.FFmpegError, ValueError) as error:
        if is_out_of_memory(error):
            raise
    return None
