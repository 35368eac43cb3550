"""Items of one device and of one recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from storage.db.tables import Claim, Device, Item

LONGEST = timedelta(days=1)
MOST = 2000
"""Files of one recording, or around one file, that are looked at."""
KEYS_AT_ONCE = 100


def lock_device_of(session: Session, agency_id: UUID, item_id: UUID) -> None:
    """Hold the item's device until the transaction ends; new items of it can still be written meanwhile."""
    owner = select(Item.device_id).where(Item.agency_id == agency_id, Item.id == item_id).scalar_subquery()
    session.execute(
        select(Device.id)
        .where(Device.agency_id == agency_id, Device.id == owner)
        .with_for_update(key_share=True)
    )


def near_in_time(
    session: Session, agency_id: UUID, device_id: UUID, since: datetime, until: datetime
) -> list[Item]:
    """Items of a device that touch a stretch of time."""
    return list(
        session.scalars(
            select(Item)
            .where(
                Item.agency_id == agency_id,
                Item.device_id == device_id,
                Item.captured_from <= until,
                # No file is longer; without this every file before would be looked at.
                Item.captured_from >= since - LONGEST,
                Item.captured_to >= since,
            )
            .order_by(Item.id)
            .limit(MOST)
        )
    )


def said_of_near(session: Session, item: Item, field: str, value: str, within: timedelta) -> list[Item]:
    """Other items of the device, made near in time, of which the same was said.

    Times of making are compared where both are known, else those of arrival. Each look is over a stretch of
    an index: numbers in names start again each day, so a device may have years of equal ones.
    """
    said = select(Claim.item_id).where(
        Claim.agency_id == item.agency_id,
        Claim.item_id == Item.id,
        Claim.field == field,
        Claim.value == value,
    )
    near: list[ColumnElement[bool]] = [
        Item.received_at.between(item.received_at - within, item.received_at + within)
    ]
    if item.captured_from is not None:
        near = [
            Item.captured_from.between(item.captured_from - within, item.captured_from + within),
            and_(*near, Item.captured_from.is_(None)),
        ]
    found: list[Item] = []
    for stretch in near:
        of_device = (Item.agency_id == item.agency_id, Item.device_id == item.device_id, Item.id != item.id)
        found += session.scalars(select(Item).where(*of_device, stretch, said.exists()).limit(MOST))
    return found


def members(session: Session, agency_id: UUID, keys: Iterable[str]) -> list[Item]:
    """Items of those recordings."""
    return list(
        session.scalars(
            select(Item)
            .where(Item.agency_id == agency_id, Item.recording_key.in_(list(keys)))
            .order_by(Item.id)
            .limit(MOST)
        )
    )


def members_of(session: Session, agency_id: UUID, keys: Sequence[str]) -> dict[str, list[Item]]:
    """Items of each of many recordings, a hundred of these at once."""
    found: dict[str, list[Item]] = {}
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        for row in session.scalars(
            select(Item).where(Item.agency_id == agency_id, Item.recording_key.in_(some)).order_by(Item.id)
        ):
            found.setdefault(row.recording_key or "", []).append(row)
    return found


def claims_about(
    session: Session, agency_id: UUID, item_ids: Sequence[UUID], fields: Sequence[str]
) -> dict[UUID, list[Claim]]:
    """What was said about some fields of some items, oldest first."""
    found: dict[UUID, list[Claim]] = {}
    for start in range(0, len(item_ids), MOST):
        for row in session.scalars(
            select(Claim)
            .where(
                Claim.agency_id == agency_id,
                Claim.item_id.in_(item_ids[start : start + MOST]),
                Claim.field.in_(fields),
            )
            .order_by(Claim.id)
        ):
            found.setdefault(row.item_id, []).append(row)
    return found
