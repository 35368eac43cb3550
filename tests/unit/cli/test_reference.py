"""The reference is complete: every command, option and setting stands there as the program has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.reference import REFERENCE, commands_page, settings_page


@pytest.mark.parametrize(("name", "page"), [("commands.md", commands_page), ("settings.md", settings_page)])
def test_reference_says_what_the_program_says(name: str, page: Callable[[], str]) -> None:
    written = (REFERENCE / name).read_text(encoding="utf-8")
    assert written == page(), "write it again: python -m tests.support.reference"


def test_every_setting_says_what_it_is_for() -> None:
    assert "| None |" not in settings_page()
