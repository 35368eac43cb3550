from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from redaction.cadence import Cadence

APART_US = 500_000


def looked_at(times_us: list[int], every: int) -> list[int]:
    cadence = Cadence(APART_US)
    numbers: set[int] = set()
    for number, time_us in enumerate(times_us):
        due = cadence.due(number, time_us, every)
        numbers |= {number - 1} if due.previous else set()
        numbers |= {number} if due.this else set()
    return sorted(numbers)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1_000, 3_000_000), min_size=1, max_size=60), st.integers(1, 12))
def test_every_frame_between_two_looks_is_within_reach_of_both(steps: list[int], every: int) -> None:
    times_us = list(accumulate(steps))
    looks = looked_at(times_us, every)
    assert looks[0] == 0
    for before, after in pairwise(looks):
        assert after - before <= every
        for between in range(before + 1, after):
            assert times_us[between] - times_us[before] <= APART_US
            assert times_us[after] - times_us[between] <= APART_US


def test_where_frames_come_fast_only_their_number_counts() -> None:
    assert looked_at([40_000 * number for number in range(20)], 6) == [0, 6, 12, 18]


def test_where_frames_come_slowly_every_one_is_looked_at() -> None:
    assert looked_at([2_000_000 * number for number in range(5)], 6) == [0, 1, 2, 3, 4]
