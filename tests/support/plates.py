"""A number plate to look at: drawn, so that nobody's is in the repository."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from media.fonts import find_font, require_font

WORDS = "京A·12345"
BLUE = (12, 60, 170)
SIZE_PX = (160, 51)


def draw_plate(picture: NDArray[np.uint8], x: int, y: int) -> tuple[int, int, int, int]:
    """Paint a blue plate of 160x51 on a grey car into RGB24 ``(h, w, 3)``, in place; where it lies."""
    width, height = SIZE_PX
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    pen.rectangle((x - 60, y - 50, x + width + 60, y + height + 40), fill=(150, 150, 155))
    pen.rectangle((x, y, x + width, y + height), fill=BLUE)
    pen.rectangle((x + 2, y + 2, x + width - 2, y + height - 2), outline=(235, 235, 235))
    font = ImageFont.truetype(require_font(find_font(None)), round(height * 0.8))
    line = Image.new("RGB", (round(pen.textlength(WORDS, font=font)), height), BLUE)
    ImageDraw.Draw(line).text((0, height / 2), WORDS, font=font, fill=(240, 240, 240), anchor="lm")
    image.paste(line.resize((width - 10, height - 8)), (x + 5, y + 4))
    picture[:] = np.asarray(image)
    return x, y, x + width, y + height
