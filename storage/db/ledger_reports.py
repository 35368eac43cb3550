"""Queries of the reports: light rows over a stretch of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from storage.db.ledger_tables import Dock
from storage.db.tables import Device, Item, Officer

LONGEST_RECORDING = timedelta(days=7)


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


def footage_between(session: Session, agency_id: UUID, since: datetime, until: datetime) -> list[Footage]:
    """Items that were being recorded at some instant of ``[since, until)``, by device and time."""
    last = func.coalesce(Item.captured_to, Item.captured_from)
    rows = session.execute(
        select(
            Item.id,
            Item.device_id,
            Device.device_no,
            Item.collector,
            Item.media_kind,
            Item.captured_from,
            Item.captured_to,
            Item.duration_us,
            Item.recording_key,
            Item.sequence_no,
        )
        .outerjoin(Device, Device.id == Item.device_id)
        .where(
            Item.agency_id == agency_id,
            # Bounds the walk over the index on capture times.
            Item.captured_from >= since - LONGEST_RECORDING,
            Item.captured_from < until,
            last >= since,
        )
        .order_by(Item.device_id, Item.captured_from, Item.id)
    ).all()
    return [
        Footage(item_id, device_id, device_no, collector, kind, begun, ended or begun, duration, key, number)
        for item_id, device_id, device_no, collector, kind, begun, ended, duration, key, number in rows
        if begun is not None
    ]


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
