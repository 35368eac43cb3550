"""What keeps a version from being released, what was watched, and whose step is next."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from evidence.coverage import SOUND_ALONE
from evidence.release import (
    Lack,
    Policy,
    Standing,
    believable,
    lacks,
    merged,
    missing,
    next_step,
    total_us,
    uncovered,
)

TREATED = {"faces": "treated", "plates": "treated", "text": "untreated", "voices": "untreated"}
POLICY = Policy(1, 100, frozenset({"faces", "plates"}), with_doubts=False, approvals=("legal_reviewer",))
WHOLE = Standing(True, coverage=TREATED, reviewers=1, watched=[(0, 1000)], length_us=1000)


def test_a_version_that_has_everything_lacks_nothing() -> None:
    assert lacks(WHOLE, POLICY) == {}


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        ({"is_checked": False}, Lack.PENDING),
        ({"is_checked": False, "failed": ("face_left",)}, Lack.CHECK_FAILED),
        ({"coverage": {**TREATED, "plates": "untreated"}}, Lack.COVERAGE),
        ({"coverage": {}}, Lack.COVERAGE),
        ({"open_doubts": 1}, Lack.DOUBTFUL),
        ({"reviewers": 0}, Lack.REVIEWERS),
        ({"watched": [(0, 999)]}, Lack.UNWATCHED),
        ({"watched": [(0, 400), (401, 1000)]}, Lack.UNWATCHED),
    ],
)
def test_each_thing_that_is_missing_is_said(change: dict, lack: Lack) -> None:
    assert set(lacks(replace(WHOLE, **change), POLICY)) == {lack}


def test_all_that_is_missing_is_said_at_once() -> None:
    bare = Standing(True, coverage={}, open_doubts=2, length_us=1000)
    assert set(lacks(bare, POLICY)) == {Lack.COVERAGE, Lack.DOUBTFUL, Lack.REVIEWERS, Lack.UNWATCHED}


def test_a_policy_may_let_a_share_be_unwatched_and_doubts_be_open() -> None:
    lax = replace(POLICY, watched_percent=90, with_doubts=True)
    assert lacks(replace(WHOLE, watched=[(0, 900)], open_doubts=3), lax) == {}
    assert set(lacks(replace(WHOLE, watched=[(0, 899)]), lax)) == {Lack.UNWATCHED}


def test_of_sound_alone_the_voices_must_be_treated_unless_the_policy_wants_nothing() -> None:
    bare = {"faces": "treated", SOUND_ALONE: "bare"}
    assert uncovered(bare, frozenset({"faces"})) == ["voices"]
    assert uncovered({**bare, SOUND_ALONE: "muted"}, frozenset({"faces"})) == []
    assert uncovered(bare, frozenset()) == []


def test_watched_and_missing_are_each_other_s_rest() -> None:
    rng = random.Random(7)
    for _ in range(200):
        spans = [tuple(sorted(rng.sample(range(0, 101), 2))) for _ in range(rng.randrange(6))]
        spans = [(start, end) for start, end in spans]
        seen = {at for start, end in spans for at in range(start, end)}
        rest = {at for start, end in missing(spans, 100) for at in range(start, end)}
        assert rest == set(range(100)) - seen
        assert total_us(spans) == len(seen)
        assert all(one[1] < other[0] for one, other in zip(merged(spans), merged(spans)[1:], strict=False))


def test_no_more_is_believed_than_can_be_played() -> None:
    assert believable([(0, 10), (5, 20)], passed_us=10, max_rate=2.0)
    assert not believable([(0, 21)], passed_us=10, max_rate=2.0)
    assert not believable([(0, 1)], passed_us=0, max_rate=2.0)
    assert believable([], passed_us=0, max_rate=1.0)


def test_the_chain_is_gone_through_in_order() -> None:
    chain = ("legal_reviewer", "archivist")
    assert next_step([], chain) == "legal_reviewer"
    assert next_step([{}], chain) == "archivist"
    assert next_step([{}, {}], chain) is None
