"""The viewer's mark on a clip to take away: who, when, why, which case, in the picture itself.

Drawn once as a transparent PNG and laid over every frame. Chinese needs a font that has it: the one
handed in, else the packaged one, else one of the system's; without any, the Latin fallback of each field
is drawn, so that a mark is never a row of empty boxes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from evidence.clock import from_micros
from evidence.errors import Unavailable

SYSTEM_FONTS = (
    Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),
    Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"),
    Path("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc"),
)
TEXT_SHARE = 28
"""Picture heights to one line of text."""
SMALLEST_TEXT_PX = 10
OPACITY = 200


@dataclass(frozen=True)
class MarkLine:
    """One line of a mark."""

    text: str
    latin: str
    """What stands there instead where no font has the text: an account's id, a case's key."""


def find_font(font: Path | None) -> Path | None:
    """The font to draw with: the given one, else the packaged one, else a system font, else none."""
    known = (font, packaged_font(), *SYSTEM_FONTS)
    return next((path for path in known if path is not None and path.is_file()), None)


def packaged_font() -> Path | None:
    """Noto Sans CJK (SIL Open Font License 1.1) as its pinned package installs it."""
    package = find_spec("cvttf_NotoSansCJK_Regular")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).with_name("NotoSansCJKtc-Regular.otf")


def font_digest(font: Path | None) -> str | None:
    """SHA-256 of the font in lowercase hex, for the parameters of the clip; None for the built-in one."""
    return hashlib.sha256(font.read_bytes()).hexdigest() if font is not None else None


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
    size = max(SMALLEST_TEXT_PX, height_px // TEXT_SHARE)
    drawn_with = ImageFont.truetype(str(font), size) if font is not None else ImageFont.load_default(size)
    canvas = Image.new("RGBA", (width_px, height_px), (0, 0, 0, 0))
    pen = ImageDraw.Draw(canvas)
    texts = [line.text if font is not None or line.text.isascii() else line.latin for line in lines]
    wrapped = [part for text in texts for part in _wrapped(pen, text, drawn_with, width_px - size)]
    top = height_px - (len(wrapped) * (size + size // 3)) - size // 2
    for number, text in enumerate(wrapped):
        write_text(
            pen, (size // 2, max(0, top + number * (size + size // 3))), text, drawn_with, size, OPACITY
        )
    if clock is not None:
        write_text(pen, (size // 2, size // 2), clock, drawn_with, size, 255)
    return canvas


def write_text(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
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


def require_font(font: Path | None) -> Path:
    """The font, where drawing cannot do without one.

    Raises:
        Unavailable: ``font_missing``.
    """
    if font is None:
        raise Unavailable(
            "clock in the picture: expected a font, found none; run `make setup` or install Noto Sans CJK",
            code="font_missing",
        )
    return font


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


def _wrapped(
    pen: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
) -> list[str]:
    """The text in pieces that fit the width."""
    pieces, piece = [], ""
    for character in " ".join(text.split()):
        if piece and pen.textlength(piece + character, font=font) > width_px:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece] if piece else pieces
