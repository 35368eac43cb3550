"""Pages to print: nothing runs off one, what belongs together stays, and they are not made without end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image, PdfParser

from evidence.errors import InvalidInput, Unavailable
from media import pages
from media.fonts import find_font, require_font
from media.pages import FOOT_PX, HEIGHT_PX, MARGIN_PX, WIDTH_PX, Line, Look, as_pdf, draw_pages

MADE = datetime(2026, 3, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def font() -> Path:
    return require_font(find_font(None))


def ink(page: Image.Image, box: tuple[int, int, int, int]) -> bool:
    return page.crop(box).getextrema()[0] < 255


def test_nothing_stands_in_the_margins_however_long_a_line_is(font: Path) -> None:
    lines = [Line("长" * 500), Line("a" * 700, Look.SMALL), Line("签名 " * 100, Look.RULE)]
    (page,) = draw_pages(lines, "脚注", font)
    assert page.size == (WIDTH_PX, HEIGHT_PX)
    assert ink(page, (MARGIN_PX, MARGIN_PX, WIDTH_PX - MARGIN_PX, HEIGHT_PX - MARGIN_PX - FOOT_PX))
    for box in (
        (0, 0, MARGIN_PX - 2, HEIGHT_PX),
        (WIDTH_PX - MARGIN_PX + 2, 0, WIDTH_PX, HEIGHT_PX),
        (0, HEIGHT_PX - MARGIN_PX - FOOT_PX, WIDTH_PX, HEIGHT_PX - MARGIN_PX),
    ):
        assert not ink(page, box)


def test_what_belongs_together_is_not_parted_by_the_end_of_a_page(font: Path) -> None:
    filled = [Line("x")] * 40
    parted = draw_pages([*filled, *[Line("y", Look.RULE)] * 8], "", font)
    kept = draw_pages([*filled, Line("y", Look.RULE, keeps=8), *[Line("y", Look.RULE)] * 7], "", font)
    assert (len(parted), len(kept)) == (2, 2)
    below = (MARGIN_PX, MARGIN_PX + 45 * 31, WIDTH_PX, HEIGHT_PX - MARGIN_PX - FOOT_PX)
    assert ink(parted[0], below)
    assert not ink(kept[0], below)


def test_a_pdf_has_its_pages_and_is_the_same_each_time(font: Path) -> None:
    drawn = draw_pages([Line("x")] * 100, "", font)
    made = as_pdf(drawn, "结束单", MADE)
    assert len(PdfParser.PdfParser(buf=made).pages) == len(drawn) == 3
    assert as_pdf(drawn, "结束单", MADE) == made


def test_pages_have_an_end(font: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_PAGES", 2)
    with pytest.raises(InvalidInput) as refused:
        draw_pages([Line("x")] * 200, "", font)
    assert refused.value.code == "sheet_too_long"


def test_without_a_font_nothing_is_drawn() -> None:
    with pytest.raises(Unavailable, match="end sheet: expected a font"):
        require_font(None, "end sheet")
