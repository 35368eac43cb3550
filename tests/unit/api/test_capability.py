"""Capabilities open what they were made for, until their end, and nothing else."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.auth.capability import TOKEN_CHARS, Use, mint, unfold
from evidence.errors import NotFound
from evidence.ids import new_id
from storage.keys import KeyRing, Purpose

NOW = datetime(2026, 3, 4, tzinfo=UTC)
END = NOW + timedelta(hours=4)


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    ring.create(Purpose.GRANT)
    return ring


def test_a_token_says_what_it_was_made_with(keys: KeyRing) -> None:
    agency, grant = new_id(), new_id()
    token = mint(keys, Use.MEDIA, agency, grant, END)
    found = unfold(keys, token, NOW)
    assert (found.use, found.agency_id, found.subject_id, found.expires_at) == (Use.MEDIA, agency, grant, END)
    assert len(token) == TOKEN_CHARS <= 300
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")


def test_a_token_ends_at_its_end(keys: KeyRing) -> None:
    token = mint(keys, Use.MEDIA, new_id(), new_id(), END)
    assert unfold(keys, token, END - timedelta(microseconds=1))
    with pytest.raises(NotFound) as refused:
        unfold(keys, token, END)
    assert refused.value.code == "grant_ended"


def test_no_other_spelling_of_a_token_is_the_token(keys: KeyRing) -> None:
    token = mint(keys, Use.PLAYLIST, new_id(), new_id(), END)
    alphabet = string.ascii_letters + string.digits + "-_"
    for place in range(len(token)):
        other = alphabet[(alphabet.index(token[place]) + 1) % 64]
        with pytest.raises(NotFound) as refused:
            unfold(keys, token[:place] + other + token[place + 1 :], NOW)
        assert refused.value.code == "capability_unknown"


@pytest.mark.parametrize(
    "token", ["", "x", "=" * TOKEN_CHARS, "é" * TOKEN_CHARS, "A" * TOKEN_CHARS, "../" * 35]
)
def test_what_was_not_issued_is_unknown(keys: KeyRing, token: str) -> None:
    with pytest.raises(NotFound):
        unfold(keys, token, NOW)


def test_a_token_of_another_installation_is_unknown(keys: KeyRing, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other")
    other.create(Purpose.GRANT)
    with pytest.raises(NotFound):
        unfold(keys, mint(other, Use.MEDIA, new_id(), new_id(), END), NOW)


def test_a_token_of_the_key_before_still_opens(keys: KeyRing) -> None:
    token = mint(keys, Use.CLIP, new_id(), new_id(), END)
    keys.create(Purpose.GRANT)
    assert unfold(keys, token, NOW).use is Use.CLIP
