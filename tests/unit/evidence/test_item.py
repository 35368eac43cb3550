"""Facets move as the rules say, and a person sees what is safe."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from evidence.errors import Conflict
from evidence.item import (
    CUSTODY_MOVES,
    MEDIA_MOVES,
    REDACTION_MOVES,
    Custody,
    FiveFacts,
    Media,
    Redaction,
    is_reviewable,
    move,
)

NOON = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)
COMPLETE = FiveFacts("渝执1号", NOON, NOON, "某路1号", "123456", "无证经营")


@pytest.mark.parametrize(
    ("facets", "moves"),
    [(Custody, CUSTODY_MOVES), (Media, MEDIA_MOVES), (Redaction, REDACTION_MOVES)],
    ids=["custody", "media", "redaction"],
)
def test_every_pair_of_states_moves_or_is_refused(facets: type, moves: dict) -> None:
    assert set(moves) == set(facets)
    for current, target in itertools.product(facets, facets):
        if target in moves[current]:
            assert move(current, target) is target
        else:
            with pytest.raises(Conflict) as refused:
                move(current, target)
            assert refused.value.code == "state_not_allowed"


def test_nothing_leaves_disposed() -> None:
    for target in Custody:
        with pytest.raises(Conflict):
            move(Custody.DISPOSED, target)


def test_an_item_is_complete_only_with_all_five_facts() -> None:
    assert COMPLETE.is_complete()
    for name in ("case_no", "captured_from", "captured_place", "collector", "object_of_proof"):
        partial = FiveFacts(**{**vars(COMPLETE), name: None})
        assert not partial.is_complete()
        assert len(partial.missing()) == 1


def test_reviewable_asks_for_bytes_picture_and_mask() -> None:
    for custody, media, redaction in itertools.product(Custody, Media, Redaction):
        expected = (
            custody in {Custody.VERIFIED, Custody.SEALED}
            and media is Media.RENDERED
            and redaction in {Redaction.CHECKED, Redaction.APPROVED, Redaction.RELEASED}
        )
        assert is_reviewable(custody, media, redaction) is expected
