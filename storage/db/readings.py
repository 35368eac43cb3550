"""Readings of device clocks, as corrections need them."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.offsets import ClockReading
from storage.db.ledger_tables import DeviceReading

AROUND = 8
"""Readings looked at on either side; the next one decides, more are for clocks that were set."""


def clock_readings(session: Session, agency_id: UUID, device_id: UUID, at: datetime) -> list[ClockReading]:
    """Readings of a device's clock around an instant, oldest first by the server's clock.

    Args:
        at: About when, by whatever clock; a reading is looked for in the days before and after.
    """
    query = select(DeviceReading).where(
        DeviceReading.agency_id == agency_id,
        DeviceReading.device_id == device_id,
        DeviceReading.device_clock.is_not(None),
        DeviceReading.offset_us.is_not(None),
    )
    newest_first = (DeviceReading.read_at.desc(), DeviceReading.id.desc())
    before = session.scalars(
        query.where(DeviceReading.read_at <= at).order_by(*newest_first).limit(AROUND)
    ).all()
    after = session.scalars(
        query.where(DeviceReading.read_at > at)
        .order_by(DeviceReading.read_at, DeviceReading.id)
        .limit(AROUND)
    ).all()
    return [
        ClockReading(row.device_clock, timedelta(microseconds=row.offset_us), bool(row.clock_set))
        for row in (*reversed(before), *after)
        if row.device_clock is not None and row.offset_us is not None
    ]
