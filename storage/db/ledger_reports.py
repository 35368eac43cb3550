"""Queries of the reports: light rows over a stretch of time, a page at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from storage.db.ledger_tables import Dock, DutyPeriod, Lateness
from storage.db.tables import Device, Item, Officer

LONGEST_RECORDING = timedelta(days=7)
LONGEST_DUTY = timedelta(days=31)
AT_ONCE = 500
"""Rows of a page: what a report has in memory at a time, whatever it is over."""


@dataclass(frozen=True)
class Footage:
    """What reports need of an item; no names, no places."""

    item_id: UUID
    device_id: UUID | None
    device_no: str | None
    collector: str | None
    media_kind: str
    captured_from: datetime
    captured_to: datetime
    """The beginning where no end is known."""
    duration_us: int | None
    recording_key: str | None
    sequence_no: int | None


def footage_between(
    session: Session, agency_id: UUID, since: datetime, until: datetime
) -> Iterator[list[Footage]]:
    """Items that were being recorded at some instant of ``[since, until)``, by time, a page at once."""
    last = func.coalesce(Item.captured_to, Item.captured_from)
    query = (
        select(
            Item.id,
            Item.device_id,
            Device.device_no,
            Item.collector,
            Item.media_kind,
            Item.captured_from,
            last,
            Item.duration_us,
            Item.recording_key,
            Item.sequence_no,
        )
        .outerjoin(Device, Device.id == Item.device_id)
        .where(Item.agency_id == agency_id, Item.captured_from < until, last >= since)
        .order_by(Item.captured_from, Item.id)
        .limit(AT_ONCE)
    )
    # Bounds the walk over the index on capture times.
    place = Item.captured_from >= since - LONGEST_RECORDING
    while True:
        rows: Sequence[Any] = session.execute(query.where(place)).all()
        if rows:
            yield [Footage(*row) for row in rows]
        if len(rows) < AT_ONCE:
            return
        end = Footage(*rows[-1])
        place = and_(
            Item.captured_from >= end.captured_from,
            or_(Item.captured_from > end.captured_from, Item.id > end.item_id),
        )


@dataclass(frozen=True)
class LateItem:
    """What reports need of an item that came late."""

    item_id: UUID
    device_no: str | None
    collector: str | None
    captured_to: datetime | None
    received_at: datetime
    due_at: datetime
    late_by_us: int
    reason: str | None
    reason_at: datetime | None


def late_items(session: Session, agency_id: UUID, since: datetime, until: datetime) -> Iterator[LateItem]:
    """Late items that were due in ``[since, until)``, earliest first, drawn a page at once."""
    rows = session.execute(
        select(
            Item.id,
            Device.device_no,
            Item.collector,
            Item.captured_to,
            Item.received_at,
            Lateness.due_at,
            Lateness.late_by_us,
            Lateness.reason,
            Lateness.reason_at,
        )
        .join(Item, and_(Item.id == Lateness.item_id, Item.agency_id == Lateness.agency_id))
        .outerjoin(Device, Device.id == Item.device_id)
        .where(Lateness.agency_id == agency_id, Lateness.due_at >= since, Lateness.due_at < until)
        .order_by(Lateness.due_at, Lateness.id)
        .execution_options(yield_per=AT_ONCE)
    )
    for row in rows:
        yield LateItem(*row)


def duties_ending(
    session: Session, agency_id: UUID, since: datetime, until: datetime
) -> Iterator[list[tuple[DutyPeriod, str]]]:
    """Duties that stand and end in ``[since, until)``, with officer numbers, by time, a page at once."""
    query = (
        select(DutyPeriod, Officer.officer_no)
        .join(Officer, Officer.id == DutyPeriod.officer_id)
        .where(
            DutyPeriod.agency_id == agency_id,
            DutyPeriod.withdrawn_at.is_(None),
            # Bounds the walk over the index on beginnings; no duty is longer.
            DutyPeriod.duty_from >= since - LONGEST_DUTY,
            DutyPeriod.duty_from < until,
            DutyPeriod.duty_to >= since,
            DutyPeriod.duty_to < until,
        )
        .order_by(DutyPeriod.duty_from, DutyPeriod.id)
        .limit(AT_ONCE)
    )
    place = DutyPeriod.duty_from >= since - LONGEST_DUTY
    while True:
        rows = [(row[0], row[1]) for row in session.execute(query.where(place)).all()]
        if rows:
            yield rows
        if len(rows) < AT_ONCE:
            return
        last = rows[-1][0]
        place = and_(
            DutyPeriod.duty_from >= last.duty_from,
            or_(DutyPeriod.duty_from > last.duty_from, DutyPeriod.id > last.id),
        )


def officers_at(session: Session, agency_id: UUID, at: datetime) -> list[Officer]:
    """Officers who were registered by an instant, by number."""
    return list(
        session.scalars(
            select(Officer)
            .where(Officer.agency_id == agency_id, Officer.created_at <= at)
            .order_by(Officer.officer_no)
        )
    )


def devices_at(
    session: Session, agency_id: UUID, at: datetime, *, state: str, kinds: Sequence[str] | None = None
) -> list[Device]:
    """Devices in a state that were in use at an instant, by number."""
    query = select(Device).where(
        Device.agency_id == agency_id,
        Device.state == state,
        Device.created_at <= at,
        or_(Device.retired_at.is_(None), Device.retired_at > at),
    )
    if kinds is not None:
        query = query.where(Device.kind.in_(kinds))
    return list(session.scalars(query.order_by(Device.device_no)))


def count_docks_at(session: Session, agency_id: UUID, at: datetime) -> int:
    """Docks in use at an instant."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Dock)
            .where(
                Dock.agency_id == agency_id,
                Dock.created_at <= at,
                or_(Dock.retired_at.is_(None), Dock.retired_at > at),
            )
        )
        or 0
    )


def last_items(session: Session, agency_id: UUID, until: datetime) -> dict[UUID, datetime]:
    """When each device last brought something, before an instant."""
    rows = session.execute(
        select(Item.device_id, func.max(Item.received_at))
        .where(Item.agency_id == agency_id, Item.device_id.is_not(None), Item.received_at < until)
        .group_by(Item.device_id)
    ).all()
    return {row[0]: row[1] for row in rows if row[0] is not None}


def used_after_retirement(session: Session, agency_id: UUID, until: datetime) -> list[Device]:
    """Devices with recordings from after they were taken out of use, by number."""
    later = select(Item.id).where(
        Item.agency_id == agency_id,
        Item.device_id == Device.id,
        Item.captured_from > Device.retired_at,
        Item.captured_from < until,
    )
    return list(
        session.scalars(
            select(Device)
            .where(Device.agency_id == agency_id, Device.retired_at.is_not(None), later.exists())
            .order_by(Device.device_no)
        )
    )
