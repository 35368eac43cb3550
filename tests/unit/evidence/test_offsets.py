"""Corrections: an offset beside a time, from the pair that came along or the readings around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from evidence.offsets import Basis, ClockReading, correction_at

MONDAY = datetime(2026, 3, 2, 18, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def reading(days: float, offset_s: float, *, was_set: bool = False) -> ClockReading:
    """The device's clock shows so many days after Monday evening."""
    return ClockReading(MONDAY + days * DAY, s(offset_s), was_set)


def test_the_pair_of_the_recordings_own_docking_comes_first() -> None:
    found = correction_at(MONDAY, [reading(0, 5)], pair=s(2))
    assert found is not None
    assert (found.offset, found.basis) == (s(2), Basis.DOCKING)
    assert found.of(MONDAY) == MONDAY + s(2)


def test_between_two_readings_the_offset_is_a_straight_line() -> None:
    readings = [reading(0, 4), reading(1, 10)]
    found = correction_at(MONDAY + DAY / 2, readings)
    assert found is not None
    assert (found.offset, found.basis) == (s(7), Basis.BETWEEN)


def test_where_the_dock_set_the_clock_the_line_starts_at_nothing() -> None:
    readings = [reading(0, 60, was_set=True), reading(1, 6)]
    found = correction_at(MONDAY + s(60) + (DAY - s(60)) / 2, readings)
    assert found is not None
    assert (found.offset, found.basis) == (s(3), Basis.BETWEEN)


def test_a_clock_set_back_shows_times_twice_and_the_later_counts() -> None:
    readings = [reading(0, -600, was_set=True), reading(1, 0)]
    found = correction_at(MONDAY - s(300), readings)
    assert found is not None
    assert (found.offset, found.basis) == (s(0), Basis.BETWEEN)


def test_with_one_neighbour_its_offset_stands_and_the_correction_says_so() -> None:
    after = correction_at(MONDAY - DAY, [reading(0, 5), reading(1, 9)])
    before = correction_at(MONDAY + 3 * DAY, [reading(0, 5), reading(1, 9)])
    after_setting = correction_at(MONDAY + 3 * DAY, [reading(1, 9, was_set=True)])
    assert after is not None
    assert before is not None
    assert after_setting is not None
    assert (after.offset, after.basis) == (s(5), Basis.AFTER)
    assert (before.offset, before.basis) == (s(9), Basis.BEFORE)
    assert (after_setting.offset, after_setting.basis) == (s(0), Basis.BEFORE)


def test_a_clock_that_fell_back_decades_is_corrected_by_the_reading_that_saw_it() -> None:
    fallen = ClockReading(datetime(1970, 1, 1, 9, 0, tzinfo=UTC), s(56 * 365 * 86_400), was_set=True)
    readings = [reading(0, 1), fallen, reading(2, 3)]
    found = correction_at(datetime(1970, 1, 1, 8, 0, tzinfo=UTC), readings)
    assert found is not None
    assert (found.offset, found.basis) == (fallen.offset, Basis.AFTER)


def test_nothing_known_corrects_nothing() -> None:
    assert correction_at(MONDAY, []) is None


def test_two_readings_at_one_time_divide_by_nothing() -> None:
    found = correction_at(MONDAY, [reading(0, 4), reading(0, 6)])
    assert found is not None
    assert found.offset == s(6)


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(-90_000, 90_000), st.booleans()), max_size=8),
    st.integers(-2000, 4000),
)
def test_every_time_of_every_history_gets_an_offset_within_it(
    history: list[tuple[int, int, bool]], hour: int
) -> None:
    readings = [ClockReading(MONDAY + s(at * 3600), s(offset), was_set) for at, offset, was_set in history]
    found = correction_at(MONDAY + s(hour * 3600), readings)
    assert (found is None) == (not readings)
    if found is not None:
        bounds = [s(0), *(one.offset for one in readings)]
        assert min(bounds) <= found.offset <= max(bounds)
