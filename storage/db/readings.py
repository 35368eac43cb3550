"""Readings of device clocks, as corrections need them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CompoundSelect, bindparam, select, union_all
from sqlalchemy.orm import Session

from evidence.offsets import ClockReading
from storage.db.ledger_tables import DeviceReading
from storage.db.types import Instant

AROUND = 8
"""Readings looked at on either side; the next one decides, more are for clocks that were set."""


def clock_readings(session: Session, agency_id: UUID, device_id: UUID, at: datetime) -> list[ClockReading]:
    """Readings of a device's clock nearest to a time it showed, oldest first by the server's clock.

    Args:
        at: What the device's clock showed.
    """
    query = select(DeviceReading).where(
        DeviceReading.agency_id == agency_id,
        DeviceReading.device_id == device_id,
        DeviceReading.device_clock.is_not(None),
        DeviceReading.offset_us.is_not(None),
    )
    clock = DeviceReading.device_clock
    before = session.scalars(
        query.where(clock <= at).order_by(clock.desc(), DeviceReading.id.desc()).limit(AROUND)
    ).all()
    after = session.scalars(query.where(clock > at).order_by(clock, DeviceReading.id).limit(AROUND)).all()
    found = sorted([*before, *after], key=lambda row: (row.read_at, row.id))
    return [
        ClockReading(row.device_clock, timedelta(microseconds=row.offset_us), bool(row.clock_set))
        for row in found
        if row.device_clock is not None and row.offset_us is not None
    ]


def _over() -> CompoundSelect[Any]:
    """What is looked at of one device, made once: three ways through the index by its clock."""
    clock = DeviceReading.device_clock
    query = select(
        DeviceReading.read_at, DeviceReading.id, clock, DeviceReading.offset_us, DeviceReading.clock_set
    ).where(
        DeviceReading.agency_id == bindparam("agency"),
        DeviceReading.device_id == bindparam("device"),
        clock.is_not(None),
        DeviceReading.offset_us.is_not(None),
    )
    since, until = bindparam("since", type_=Instant()), bindparam("until", type_=Instant())
    before = query.where(clock <= since).order_by(clock.desc(), DeviceReading.id.desc()).limit(AROUND)
    inside = query.where(clock > since, clock <= until)
    after = query.where(clock > until).order_by(clock, DeviceReading.id).limit(AROUND)
    # SQLite takes an order within a union only in a table of its own.
    return union_all(select(before.subquery()), inside, select(after.subquery()))


_OVER = _over()


def readings_over(
    session: Session, agency_id: UUID, device_id: UUID, since: datetime, until: datetime
) -> list[ClockReading]:
    """The same for every time a device's clock showed in a stretch, to be narrowed by `nearest_readings`."""
    given = {"agency": agency_id, "device": device_id, "since": since, "until": until}
    return [
        ClockReading(device_clock, timedelta(microseconds=offset_us), bool(clock_set))
        for _, _, device_clock, offset_us, clock_set in sorted(session.execute(_OVER, given))
    ]


def nearest_readings(readings: Sequence[ClockReading], at: datetime) -> list[ClockReading]:
    """What `clock_readings` would find around a time, out of readings of a stretch that holds it."""
    if len(readings) <= AROUND:
        return list(readings)
    # A stable sort: of equal times the one read later counts as later, before and after alike.
    by_clock = sorted(range(len(readings)), key=lambda number: readings[number].device_at)
    middle = bisect_right(by_clock, at, key=lambda number: readings[number].device_at)
    chosen = by_clock[max(0, middle - AROUND) : middle + AROUND]
    return [readings[number] for number in sorted(chosen)]
