"""How much one grant may take at once, and how slowly."""

from __future__ import annotations

from uuid import UUID

import pytest

from api.fairness import CROWDED, Pace, Shares
from evidence.errors import Unavailable

ONE, OTHER = UUID(int=1), UUID(int=2)


def test_a_grant_has_its_share_and_no_more_and_leaves_the_others_theirs() -> None:
    shares = Shares(2, "answers")
    shares.take(ONE)
    shares.take(ONE)
    with pytest.raises(Unavailable) as refused:
        shares.take(ONE)
    assert refused.value.code == CROWDED
    shares.take(OTHER)
    shares.give_back(ONE)
    shares.take(ONE)


def test_what_is_more_than_a_share_may_be_done_alone() -> None:
    shares = Shares(10, "members", code="set_busy")
    with shares.taken(ONE, 25), pytest.raises(Unavailable) as refused:
        shares.take(ONE)
    assert refused.value.code == "set_busy"
    with shares.taken(ONE, 5), shares.taken(ONE, 5), pytest.raises(Unavailable):
        shares.take(ONE)
    shares.take(ONE, 10)


def test_nothing_may_be_done_by_two_at_once() -> None:
    shares = Shares(10, "members")
    with shares.taken(ONE, 0), shares.taken(ONE, 0):
        pass
    with shares.taken(ONE, 10), shares.taken(ONE, 0), pytest.raises(Unavailable):
        shares.take(ONE)


def test_a_crowd_is_told_of_once_until_it_is_gone() -> None:
    shares = Shares(1, "answers")
    assert not shares.is_first_refusal(ONE)
    for _ in range(2):
        shares.take(ONE)
        assert [shares.is_first_refusal(ONE) for _ in range(3)] == [True, False, False]
        shares.give_back(ONE)


def run(takes: list[int], *, least_bytes_s: float, excused_s: float = 0) -> list[str | None]:
    """What is said each second of a reader that takes so much in it; ten seconds are its patience."""
    pace, taken, found = Pace(100, 7, 10, least_bytes_s), 7, []
    for number, each in enumerate(takes, 1):
        taken += each
        pace.excuse(excused_s)
        found.append(pace.fault(100 + number, taken))
    return found


def test_a_reader_that_takes_nothing_goes_when_its_patience_is_over() -> None:
    assert run([0] * 10, least_bytes_s=0) == [None] * 9 + [Pace.STALLED]
    assert run([0] * 5 + [1] + [0] * 10, least_bytes_s=0) == [None] * 15 + [Pace.STALLED]


def test_a_reader_that_takes_a_byte_a_second_goes_and_one_at_the_least_rate_stays() -> None:
    assert run([1] * 10, least_bytes_s=2) == [None] * 9 + [Pace.SLOW]
    assert run([1] * 40, least_bytes_s=0) == [None] * 40
    assert run([0, 4] * 40, least_bytes_s=2) == [None] * 80
    # What was taken fast at first excuses nothing later.
    assert run([1000] * 10 + [1] * 10, least_bytes_s=2) == [None] * 19 + [Pace.SLOW]


def test_a_reader_that_waited_for_us_is_not_to_blame() -> None:
    assert run([0] * 40, least_bytes_s=2, excused_s=1) == [None] * 40
