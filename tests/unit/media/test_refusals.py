"""Strangers cannot make a journal grow as fast as they knock."""

from __future__ import annotations

import time

import pytest

from media.live.refusals import EVERY_S, MOST_KINDS, OTHERS, Refusals


def test_the_first_is_told_and_then_a_count_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    now_s = 5.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    refusals = Refusals(told.append)
    for _ in range(1000):
        refusals.add("a stranger")
    assert told == ["a stranger"]
    now_s += EVERY_S
    # Nobody needs to knock again for it.
    refusals.tell_due()
    refusals.tell_due()
    assert told == ["a stranger", "a stranger; 999 times"]


def test_kinds_that_peers_choose_are_bounded() -> None:
    told: list[str] = []
    refusals = Refusals(told.append)
    for number in range(1000):
        refusals.add(f"found {number}")
    assert told == [*(f"found {number}" for number in range(MOST_KINDS)), OTHERS]
