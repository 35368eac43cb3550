"""The font that words are drawn with, in pictures and on pages. Chinese needs one that has it."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont

from evidence.errors import Unavailable

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = (
    Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),
    Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"),
    Path("/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc"),
)


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
    """SHA-256 of the font in lowercase hex, for parameters of what is drawn; None for the built-in one."""
    return hashlib.sha256(font.read_bytes()).hexdigest() if font is not None else None


def require_font(font: Path | None, what: str = "clock in the picture") -> Path:
    """The font, where drawing cannot do without one.

    Raises:
        Unavailable: ``font_missing``.
    """
    if font is None:
        raise Unavailable(
            f"{what}: expected a font, found none; run `make setup` or install Noto Sans CJK",
            code="font_missing",
        )
    return font


def wrapped(pen: ImageDraw.ImageDraw, text: str, font: Font, width_px: int) -> list[str]:
    """The text in pieces that fit the width."""
    plain = " ".join(text.split())
    if plain and pen.textlength(plain, font=font) <= width_px:
        return [plain]
    pieces, piece = [], ""
    for character in plain:
        if piece and pen.textlength(piece + character, font=font) > width_px:
            pieces.append(piece)
            piece = ""
        piece += character
    return [*pieces, piece] if piece else pieces
