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
