"""Drift of device clocks, by vectors worked out by hand (D4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ingest import policy
from ingest.ledger_clock import is_beyond, slope_us_per_day, stretches

NOON = datetime(2026, 3, 1, 4, tzinfo=UTC)
SECOND = 1_000_000


@dataclass(frozen=True)
class Read:
    reference_clock: datetime | None
    offset_us: int | None
    clock_set: bool | None = None


def at(days: float, offset_s: float, clock_set: bool | None = None) -> Read:
    return Read(NOON + timedelta(days=days), round(offset_s * SECOND), clock_set)


def rule(**changed: object) -> policy.Rule:
    body = {**policy.default_of(policy.CLOCK).body, **changed}
    return policy.Rule(policy.CLOCK, body, "a text", None, 1, None, None)


def test_two_readings_of_a_free_clock_give_the_difference_over_the_days_between() -> None:
    (found,) = stretches([at(0, 10, clock_set=False), at(4, 22)])
    assert found.drift_us_per_day == 3 * SECOND
    assert (found.from_setting, found.reading_count, found.span) == (False, 2, timedelta(days=4))


def test_drift_is_measured_from_the_setting_to_the_next_reading_and_never_across_one() -> None:
    first, second = stretches([at(0, 600, clock_set=True), at(2, 8, clock_set=True), at(3, -1)])
    assert first.drift_us_per_day == 4 * SECOND
    assert second.drift_us_per_day == -1 * SECOND
    assert first.from_setting
    assert first.reading_count == 1


def test_several_readings_of_a_free_clock_are_fitted_by_least_squares() -> None:
    # Offsets 0, 1, 5, 6 s on days 0..3: mean 3, mean day 1.5, slope = (-1.5*-3 -.5*-2 +.5*2 +1.5*3)/5 = 2.2.
    readings = [at(day, offset, clock_set=False) for day, offset in enumerate((0, 1, 5, 6))]
    (found,) = stretches(readings)
    assert found.drift_us_per_day == 2_200_000
    assert found.reading_count == 4


def test_the_slope_is_exact_over_years_of_microseconds() -> None:
    points = [(NOON + timedelta(days=day), day * 3) for day in (0, 1, 3650)]
    assert slope_us_per_day(points) == 3


def test_where_nobody_says_the_reading_that_drifts_less_counts() -> None:
    # 100, 103, 106: never set, 3 s a day; set each time it would be a hundred.
    (free,) = stretches([at(0, 100), at(1, 103), at(2, 106)])
    assert (free.drift_us_per_day, free.from_setting) == (3 * SECOND, False)
    # 600, then 2: set between, 2 s a day; else it had run 598 s the other way.
    (was_set,) = stretches([at(0, 600), at(1, 2)])
    assert (was_set.drift_us_per_day, was_set.from_setting) == (2 * SECOND, True)


def test_a_policy_may_say_how_the_docks_of_an_agency_do_it() -> None:
    readings = [at(0, 5), at(1, 5), at(2, 5)]
    assert [one.drift_us_per_day for one in stretches(readings)] == [0]
    assert [one.drift_us_per_day for one in stretches(readings, "yes")] == [5 * SECOND] * 2
    assert [one.drift_us_per_day for one in stretches(readings, "no")] == [0]


def test_a_dock_whose_clock_stepped_back_begins_a_new_stretch() -> None:
    readings = [at(0, 0, clock_set=False), at(2, 4, clock_set=False), at(1, -86400, clock_set=False),
                at(3, -86396, clock_set=False)]  # fmt: skip
    assert [one.drift_us_per_day for one in stretches(readings)] == [2 * SECOND] * 2


def test_readings_without_an_offset_or_alone_say_nothing() -> None:
    assert stretches([]) == []
    assert stretches([at(0, 3)]) == []
    assert stretches([at(0, 3), Read(None, None), Read(NOON, None)]) == []


def test_a_finding_needs_more_than_the_resolution_of_the_readings_explains() -> None:
    limit = rule(max_drift_ms_per_day=3000, resolution_ms=1000, min_span_min=360)
    (just,) = stretches([at(0, 0, clock_set=True), at(1, 4)])
    (beyond,) = stretches([at(0, 0, clock_set=True), at(1, 4.001)])
    (long,) = stretches([at(0, 0, clock_set=True), at(10, 31.1)])
    (slow,) = stretches([at(0, 0, clock_set=True), at(10, -31.1)])
    (soon,) = stretches([at(0, 0, clock_set=True), at(0.2, 60)])
    assert [is_beyond(one, limit) for one in (just, beyond, long, slow, soon)] == [
        False, True, True, True, False,
    ]  # fmt: skip
