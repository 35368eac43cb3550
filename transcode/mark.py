"""The viewer's mark on a clip to take away: who, when, why, which case, in the picture itself.

Drawn once as a transparent PNG and laid over every frame. Chinese needs a font that has it: the one
handed in, else the packaged one, else one of the system's; without any, the Latin fallback of each field
is drawn, so that a mark is never a row of empty boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from evidence.clock import from_micros
from media.fonts import Font, wrapped

TEXT_SHARE = 28
"""Picture heights to one line of text."""
SMALLEST_TEXT_PX = 10
OPACITY = 200
BAND_PX = 256
"""Rows of a picture that are drawn into at once."""


@dataclass(frozen=True)
class MarkLine:
    """One line of a mark."""

    text: str
    latin: str
    """What stands there instead where no font has the text: an account's id, a case's key."""


def draw_mark(
    lines: Sequence[MarkLine], destination: Path, *, width_px: int, height_px: int, font: Path | None
) -> None:
    """Write the mark as a PNG as large as the picture, transparent where nothing stands."""
    mark_image(lines, width_px=width_px, height_px=height_px, font=font).save(destination, "PNG")


def mark_image(
    lines: Sequence[MarkLine], *, width_px: int, height_px: int, font: Path | None, clock: str | None = None
) -> Image.Image:
    """The mark as large as the picture, transparent where nothing stands.

    Args:
        clock: What a clock shows in it, at the top left.
    """
    canvas = Image.new("RGBA", (width_px, height_px), (0, 0, 0, 0))
    for text in _placed(lines, width_px, height_px, font, clock):
        text.draw(canvas, 0)
    return canvas


def lay_mark(
    picture: Image.Image, lines: Sequence[MarkLine], *, font: Path | None, clock: str | None = None
) -> None:
    """Draw the mark into a picture, as `mark_image` laid over all of it would.

    In bands: a picture of 8K laid under a mark as large as itself takes 0.6 GB.
    """
    texts = _placed(lines, picture.width, picture.height, font, clock)
    for top in range(0, picture.height, BAND_PX):
        rows = (0, top, picture.width, min(picture.height, top + BAND_PX))
        here = [text for text in texts if text.touches(rows[1], rows[3])]
        if not here:
            continue
        over = Image.new("RGBA", (picture.width, rows[3] - top), (0, 0, 0, 0))
        for text in here:
            text.draw(over, top)
        under = picture.crop(rows).convert("RGBA")
        picture.paste(Image.alpha_composite(under, over).convert("RGB"), rows[:2])


@dataclass(frozen=True)
class _Text:
    """A line of a mark and where it stands."""

    text: str
    place: tuple[int, int]
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    size: int
    opacity: int

    def draw(self, canvas: Image.Image, top: int) -> None:
        """Into a canvas whose first row is row ``top`` of the picture."""
        place = (self.place[0], self.place[1] - top)
        write_text(ImageDraw.Draw(canvas), place, self.text, self.font, self.size, self.opacity)

    def touches(self, top: int, end: int) -> bool:
        """Whether anything of it may stand in those rows; its letters reach at most so far."""
        return self.place[1] - self.size < end and self.place[1] + 3 * self.size > top


def _placed(
    lines: Sequence[MarkLine], width_px: int, height_px: int, font: Path | None, clock: str | None
) -> list[_Text]:
    size = max(SMALLEST_TEXT_PX, height_px // TEXT_SHARE)
    drawn_with = ImageFont.truetype(str(font), size) if font is not None else ImageFont.load_default(size)
    pen = ImageDraw.Draw(Image.new("RGBA", (1, 1)))
    texts = [line.text if font is not None or line.text.isascii() else line.latin for line in lines]
    parts = [part for text in texts for part in wrapped(pen, text, drawn_with, width_px - size)]
    left, step = size // 2, size + size // 3
    top = height_px - len(parts) * step - size // 2
    placed = [
        _Text(text, (left, max(0, top + number * step)), drawn_with, size, OPACITY)
        for number, text in enumerate(parts)
    ]
    return placed + ([_Text(clock, (left, left), drawn_with, size, 255)] if clock is not None else [])


def write_text(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    font: Font,
    size: int,
    opacity: int,
) -> None:
    """Draw white text with a dark edge."""
    pen.text(
        place,
        text,
        font=font,
        fill=(255, 255, 255, opacity),
        stroke_width=max(1, size // 12),
        stroke_fill=(0, 0, 0, opacity),
    )


def clock_options(shown_us: int, font: Path, height_px: int) -> dict[str, Any]:
    """What FFmpeg's drawtext is told to draw the time of day at the top left, anew for every picture.

    Args:
        shown_us: What the clock shows at the first picture's time 0: microseconds since 1970 of its own zone.
    """
    size = max(SMALLEST_TEXT_PX, height_px // TEXT_SHARE)
    return {
        "fontfile": str(font),
        # `gmtime`, because what it is given is in the zone already; %T has no colon to be escaped.
        "text": f"%{{pts:gmtime:{shown_us // 1_000_000}.{shown_us % 1_000_000:06d}:%F %T}}",
        "fontsize": size,
        "fontcolor": "white",
        "borderw": max(1, size // 12),
        "bordercolor": "black",
        "x": size // 2,
        "y": size // 2,
    }


def clock_text(shown_us: int) -> str:
    """What a clock shows, as drawtext writes it; its instant in microseconds since 1970 of its own zone."""
    return f"{from_micros(shown_us):%Y-%m-%d %H:%M:%S}"
