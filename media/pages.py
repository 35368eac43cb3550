"""Words on pages to print: lines laid out on A4 and written as a PDF of pictures, 150 dots to the inch.

Pictures rather than text, because no library here embeds a Chinese font, and a page that lacks characters on
the reader's machine is no record. What has to be copied or searched is in the data beside it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from evidence.errors import InvalidInput
from media.fonts import wrapped

DPI = 150
WIDTH_PX, HEIGHT_PX = 1240, 1754
"""A4."""
MARGIN_PX = 105
FOOT_PX = 60
MOST_PAGES = 80
"""Each takes two megabytes while they are drawn."""


class Look(StrEnum):
    """How a line stands on the page."""

    TITLE = "title"
    HEAD = "head"
    PLAIN = "plain"
    SMALL = "small"
    RULE = "rule"
    """A line to write on, after its words."""


SIZES_PX = {Look.TITLE: 36, Look.HEAD: 26, Look.PLAIN: 21, Look.SMALL: 17, Look.RULE: 21}
BEFORE_PX = {Look.TITLE: 0, Look.HEAD: 22, Look.PLAIN: 3, Look.SMALL: 2, Look.RULE: 50}


@dataclass(frozen=True)
class Line:
    """One line, or as many as its words take."""

    text: str
    look: Look = Look.PLAIN
    keeps: int = 1
    """How many lines from this one on stay on one page."""


def draw_pages(lines: Sequence[Line], foot: str, font: Path) -> list[Image.Image]:
    """The lines on as many pages as they take; the foot with the number of the page stands under each.

    Raises:
        InvalidInput: More than `MOST_PAGES` (``sheet_too_long``).
    """
    fonts = {size: ImageFont.truetype(str(font), size) for size in set(SIZES_PX.values())}
    pages: list[Image.Image] = []
    at_px = HEIGHT_PX
    blank = ImageDraw.Draw(Image.new("L", (1, 1)))
    laid = [_lay(blank, line, fonts[SIZES_PX[line.look]]) for line in lines]
    for number, (line, pieces) in enumerate(zip(lines, laid, strict=True)):
        together = zip(lines[number : number + line.keeps], laid[number : number + line.keeps], strict=True)
        if at_px + sum(_height_px(each, parts) for each, parts in together) > HEIGHT_PX - MARGIN_PX - FOOT_PX:
            if len(pages) == MOST_PAGES:
                raise InvalidInput(
                    f"sheet: expected at most {MOST_PAGES} pages, found more; take the data instead",
                    code="sheet_too_long",
                )
            pages.append(Image.new("L", (WIDTH_PX, HEIGHT_PX), 255))
            at_px = MARGIN_PX
        at_px = _draw(ImageDraw.Draw(pages[-1]), line, pieces, fonts[SIZES_PX[line.look]], at_px)
    for number, page in enumerate(pages, 1):
        place = (MARGIN_PX, HEIGHT_PX - MARGIN_PX)
        words = f"{foot} · {number} / {len(pages)}"
        ImageDraw.Draw(page).text(place, words, font=fonts[SIZES_PX[Look.SMALL]], fill=90)
    return pages


def as_pdf(pages: Sequence[Image.Image], title: str, made_at: datetime) -> bytes:
    """The pages as one file; the same pages and instant give the same bytes."""
    buffer = io.BytesIO()
    made = time.gmtime(made_at.timestamp())
    pages[0].save(
        buffer, "PDF", save_all=True, append_images=pages[1:], resolution=DPI, title=title,
        creationDate=made, modDate=made, producer="Liuhen", quality=85,
    )  # fmt: skip
    return buffer.getvalue()


def _lay(pen: ImageDraw.ImageDraw, line: Line, font: ImageFont.FreeTypeFont) -> list[str]:
    return wrapped(pen, line.text, font, WIDTH_PX - 2 * MARGIN_PX) or [""]


def _height_px(line: Line, pieces: Sequence[str]) -> int:
    return BEFORE_PX[line.look] + len(pieces) * _step_px(line)


def _step_px(line: Line) -> int:
    return SIZES_PX[line.look] * 4 // 3


def _draw(
    pen: ImageDraw.ImageDraw, line: Line, pieces: Sequence[str], font: ImageFont.FreeTypeFont, at_px: int
) -> int:
    at_px += BEFORE_PX[line.look]
    for piece in pieces:
        pen.text((MARGIN_PX, at_px), piece, font=font, fill=0)
        at_px += _step_px(line)
    if line.look is Look.RULE:
        begins = MARGIN_PX + int(pen.textlength(pieces[-1], font=font)) + 12
        under = at_px - _step_px(line) + SIZES_PX[line.look] + 6
        pen.line((begins, under, WIDTH_PX - MARGIN_PX, under), fill=0, width=2)
    return at_px
