"""Plans of sessions: which instants they mean, which are refused, and where they stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evidence.errors import InvalidInput
from evidence.schedule import PlanState, begins_at, check_window, instant_of, state_of

NOW = datetime(2026, 3, 4, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "zone", "found"),
    [
        ("2026-03-04T09:00", "Asia/Shanghai", NOW),
        ("2026-03-04T09:00:30", "Asia/Shanghai", NOW + timedelta(seconds=30)),
        ("2026-03-04T02:00+01:00", "Asia/Shanghai", NOW),
        ("2026-03-04T01:00Z", "Asia/Urumqi", NOW),
    ],
)
def test_a_time_on_a_wall_is_an_instant(text: str, zone: str, found: datetime) -> None:
    assert instant_of(text, zone, "starts_at") == found


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("2026-03-29T02:30", "Europe/Berlin"),  # leapt over
        ("2026-10-25T02:30", "Europe/Berlin"),  # shown twice
        ("2026-02-30T09:00", "Asia/Shanghai"),
        ("0000-01-01T00:00", "Asia/Shanghai"),
        ("0001-01-01T00:00", "Asia/Shanghai"),
        ("9999-12-31T23:59-23:59", "Asia/Shanghai"),
        ("2026-03-04T09:00", "Asia/Nowhere"),
        ("2026-03-04T09:00", "Asia"),
        ("2026-03-04T09:00", "../etc/passwd"),
    ],
)
def test_what_no_clock_shows_once_is_refused(text: str, zone: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        instant_of(text, zone, "starts_at")
    assert refused.value.code == "plan_time"


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [
        (NOW - timedelta(seconds=1), NOW + HOUR),
        (NOW + HOUR, NOW + HOUR),
        (NOW + HOUR, NOW),
        (NOW, NOW + 24 * HOUR + timedelta(seconds=1)),
        (NOW + timedelta(days=367), NOW + timedelta(days=367) + HOUR),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(starts_at: datetime, ends_at: datetime) -> None:
    with pytest.raises(InvalidInput, match="planned session: expected"):
        check_window(starts_at, ends_at, NOW)


def test_a_plan_from_now_on_of_a_day_is_taken() -> None:
    check_window(NOW, NOW + 24 * HOUR, NOW)


@pytest.mark.parametrize(
    ("late_s", "pre_record_s", "free_s", "begins_s"),
    [
        (0.4, 0, None, 0.4),
        (0.4, 60, None, 0),
        (300, 60, None, 240),
        (300, 600, None, 0),
        (300, 600, 120, 120),
        (300, 600, -500, 0),
        (300, 600, 900, 300),  # a clock that was set back: the last session ends in the future
    ],
)
def test_a_late_beginning_reaches_back_as_far_as_the_room_keeps(
    late_s: float, pre_record_s: int, free_s: float | None, begins_s: float
) -> None:
    free_since = None if free_s is None else NOW + timedelta(seconds=free_s)
    found = begins_at(NOW, NOW + timedelta(seconds=late_s), pre_record_s, free_since)
    assert found == NOW + timedelta(seconds=begins_s)


@pytest.mark.parametrize(
    ("after_s", "said", "state"),
    [
        (-1, {}, PlanState.AHEAD),
        (0, {}, PlanState.WAITING),
        (3600, {}, PlanState.WAITING),
        (3600, {"is_missed": True}, PlanState.MISSED),
        # The clock that ran ahead was set back.
        (60, {"is_missed": True}, PlanState.WAITING),
        (7200, {"is_begun": True}, PlanState.BEGUN),
        (60, {"is_begun": True, "is_over": True}, PlanState.OVER),
        (60, {"is_withdrawn": True}, PlanState.WITHDRAWN),
    ],
)
def test_where_a_plan_stands(after_s: float, said: dict[str, Any], state: PlanState) -> None:
    facts = {"is_begun": False, "is_over": False, "is_missed": False, "is_withdrawn": False, **said}
    assert state_of(NOW, NOW + HOUR, NOW + timedelta(seconds=after_s), **facts) is state
