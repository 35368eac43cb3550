"""Two spellings of one number meet; two numbers never do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.case import MAX_CASE_NO_CHARS, check_case_no, normalise_case_no
from evidence.errors import InvalidInput

SPELLINGS = [
    "渝文执罚字〔2026〕第12号",
    "渝文执罚字[2026]第12号",
    "渝文执罚字（2026）第12号",
    " 渝文执罚字【２０２６】第 １２ 号 ",
    "渝文执罚字［2026］第12号",
    "渝文执罚字「2026」第12号",
]


def test_all_spellings_of_a_number_are_one_key() -> None:
    assert {normalise_case_no(written) for written in SPELLINGS} == {"渝文执罚字(2026)第12号"}


@pytest.mark.parametrize(
    ("one", "other"), [("A1", "A11"), ("罚1", "许1"), ("2026-1", "2025-1"), ("甲1", "1甲")]
)
def test_different_numbers_stay_different(one: str, other: str) -> None:
    assert normalise_case_no(one) != normalise_case_no(other)


def test_dashes_and_letters_are_folded() -> None:
    assert normalise_case_no("abc—2026－1") == normalise_case_no("ABC-2026-1")


@pytest.mark.parametrize(
    "written", ["", "   ", "\u202e12", "1\u200b2", "1\n2", "x" * (MAX_CASE_NO_CHARS + 1)]
)
def test_a_number_that_could_deceive_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput):
        normalise_case_no(written)


def test_an_accent_apart_from_its_letter_is_the_same_number() -> None:
    assert normalise_case_no("A \u03011") == normalise_case_no("\u00c11")


@given(st.text(max_size=200))
def test_normalising_is_stable_or_refused(written: str) -> None:
    try:
        key = normalise_case_no(written)
    except InvalidInput:
        return
    assert normalise_case_no(key) == key
    assert "/" not in key or "/" in written or "／" in written


def test_the_agencys_form_is_held_to_in_either_spelling() -> None:
    pattern = r".+\(\d{4}\)第\d+号"
    assert check_case_no("渝〔2026〕第1号", pattern) == "渝(2026)第1号"
    with pytest.raises(InvalidInput) as refused:
        check_case_no("随便写的", pattern)
    assert refused.value.code == "case_no_form"
