"""A mark laid into one picture is the mark of a clip, and takes no memory of a second picture."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from media.fonts import find_font
from transcode.mark import BAND_PX, MarkLine, lay_mark, mark_image

LINES = [MarkLine("渝执〔2026〕1号 脱敏件", "case 1"), MarkLine("reviewer " * 30, "account 2")]
MEASURE = """
import resource
from PIL import Image
from transcode.mark import MarkLine, lay_mark
picture = Image.new("RGB", (6000, 3000), (20, 90, 160))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
lay_mark(picture, [MarkLine("g" * 200, "g")], font=None, clock="2026-03-04 10:00:00")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("size", [(640, 400), (90, 2 * BAND_PX), (333, BAND_PX + 1)])
def test_bands_draw_what_the_whole_mark_would(size: tuple[int, int]) -> None:
    font, clock = find_font(None), "2026-03-04 10:00:00"
    picture = Image.radial_gradient("L").resize(size).convert("RGB")
    over = mark_image(LINES, width_px=size[0], height_px=size[1], font=font, clock=clock)
    wanted = Image.alpha_composite(picture.convert("RGBA"), over).convert("RGB")
    assert wanted.tobytes() != picture.tobytes()
    lay_mark(picture, LINES, font=font, clock=clock)
    assert picture.tobytes() == wanted.tobytes()


def test_a_large_picture_is_marked_without_another_of_its_size() -> None:
    """Of 18 million pixels one copy is 70 MiB."""
    found = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 50 << 10
