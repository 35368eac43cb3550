"""Sessions that are to begin by themselves: what a plan of one is, and when it is due.

The rules:

1. A plan begins one session at most, whatever the clock does: that it did is a fact of the plan's row.
2. It begins at its time, or as soon after it as somebody can begin it; how late is on record. What its room
   keeps recorded beforehand is claimed back to the planned time.
3. A session that runs in the room at that time is the one where whoever planned may run it, and it is of no
   other plan and no other case. Where it ends well before the planned end, the plan begins its own after all.
4. A plan whose end has passed begins nothing. Where a clock that ran ahead is set back, it is due again.
5. The planned end ends a session only where the plan says so, and began it. Else people are told, and it
   goes on.
6. Plans of one room do not overlap while they are to be kept.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from evidence.errors import InvalidInput

MOST_AHEAD = timedelta(days=366)
MOST_LENGTH = timedelta(hours=24)
LATE_MS = 5000
"""People are told of a session that began later than that."""


class PlanState(StrEnum):
    """Where a plan is in its life."""

    AHEAD = "ahead"  # 未到
    WAITING = "waiting"  # 等待开始
    BEGUN = "begun"  # 已开始
    OVER = "over"  # 已结束
    MISSED = "missed"  # 未能开始
    WITHDRAWN = "withdrawn"  # 已撤销


def zone_of(name: str) -> ZoneInfo:
    """A zone of the IANA data base.

    Raises:
        InvalidInput: It has none of that name (``plan_time``).
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            f"time_zone: expected a zone such as Asia/Shanghai, found {name[:40]!r}", code="plan_time"
        ) from error


def shown(instant: datetime, zone: str) -> str:
    """An instant as clocks of a zone show it, with the zone."""
    return f"{instant.astimezone(zone_of(zone)):%Y-%m-%d %H:%M:%S} {zone}"


def instant_of(text: str, zone: str, name: str) -> datetime:
    """An instant in UTC, of one in ISO 8601 that says its offset, or of the time on a wall in a zone.

    Raises:
        InvalidInput: No instant, or no clock there shows it, or it shows it twice (``plan_time``).
    """
    there = zone_of(zone)
    try:
        told = datetime.fromisoformat(text)
        if told.tzinfo is not None:
            return told.astimezone(UTC)
        found = told.replace(tzinfo=there).astimezone(UTC)
        is_shown = found.astimezone(there).replace(tzinfo=None) == told
        is_once = told.replace(tzinfo=there, fold=1).astimezone(UTC) == found
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name}: expected ISO 8601 such as 2026-03-04T09:00, found {text[:40]!r}", code="plan_time"
        ) from error
    if not is_shown or not is_once:
        raise InvalidInput(
            f"{name}: expected a time that clocks of {zone} show once, found {text}; add its offset",
            code="plan_time",
        )
    return found


def check_window(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    """Refuse a plan that cannot be kept.

    Raises:
        InvalidInput: It has begun, is too far ahead, too long, or ends before it starts (``plan_time``).
    """
    length = ends_at - starts_at
    if not now <= starts_at <= now + MOST_AHEAD or not timedelta() < length <= MOST_LENGTH:
        raise InvalidInput(
            f"planned session: expected a start from now on and within {MOST_AHEAD.days} days, and an end at "
            f"most 24 hours later, found {starts_at.isoformat()} to {ends_at.isoformat()}; what begins now "
            "is started by hand",
            code="plan_time",
        )


def state_of(
    starts_at: datetime,
    ends_at: datetime,
    now: datetime,
    *,
    is_begun: bool,
    is_over: bool,
    is_missed: bool,
    is_withdrawn: bool,
) -> PlanState:
    """Where a plan stands now."""
    if is_withdrawn:
        return PlanState.WITHDRAWN
    if is_begun:
        return PlanState.OVER if is_over else PlanState.BEGUN
    if now < starts_at:
        return PlanState.AHEAD
    return PlanState.MISSED if is_missed and now >= ends_at else PlanState.WAITING


def begins_at(starts_at: datetime, now: datetime, pre_record_s: int, free_since: datetime | None) -> datetime:
    """When a session begins whose plan is due: as near to its time as what is kept beforehand reaches.

    Args:
        starts_at: The planned time, not after ``now``.
        free_since: End of the last session of the room; None where none reaches so far.
    """
    kept_since = now - timedelta(seconds=pre_record_s)
    return min(now, max(starts_at, kept_since, *([free_since] if free_since is not None else [])))
