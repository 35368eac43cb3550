"""AV record numbers follow the agency's template."""

from __future__ import annotations

import pytest

from evidence.errors import InvalidInput
from evidence.kinds import MediaKind
from evidence.numbering import CLASS_CODES, DEFAULT_TEMPLATE, av_record_no, check_template


def test_each_kind_has_its_class() -> None:
    assert set(CLASS_CODES) == set(MediaKind)
    assert len(set(CLASS_CODES.values())) == len(MediaKind)


def test_a_number_reads_as_the_template_says() -> None:
    number = av_record_no(DEFAULT_TEMPLATE, agency="CG01", media_kind=MediaKind.VIDEO, year=2026, seq=7)
    assert number == "CG01-LX-2026-0007"


@pytest.mark.parametrize("template", ["{seq}", "{cls}-{year}", "{cls}{year}{seq}{other}", "{cls", "", "{0}"])
def test_a_template_that_would_mix_numbers_is_refused(template: str) -> None:
    with pytest.raises(InvalidInput):
        check_template(template)
