"""Receipts asked for by digest: each reception of those bytes, and whether its receipt holds now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from storage.db.ledger_tables import Alarm
from storage.db.tables import Device, Item, Reception, StoredObject


@dataclass(frozen=True)
class Receipted:
    """One arrival of the bytes.

    Attributes:
        is_damaged: An alarm stands: the stored bytes are not what the receipt says, nothing may be wiped.
    """

    reception: Reception
    item: Item
    device_no: str | None
    is_damaged: bool

    @property
    def may_erase(self) -> bool:
        """Whether a device may be wiped for it now."""
        return self.reception.receipt is not None and not self.is_damaged

    def as_json(self) -> dict[str, Any]:
        """As it is told to docks and people; the receipt as signed."""
        receipt = self.reception.receipt
        return {
            "reception": str(self.reception.id),
            "item": str(self.item.id),
            "device_no": self.device_no,
            "dock_no": self.reception.dock_no,
            "received_at": rfc3339(self.reception.received_at),
            "custody": self.item.custody,
            "damaged": self.is_damaged,
            "may_erase": self.may_erase,
            "receipt": None if receipt is None else json.loads(receipt),
        }


def by_digest(
    session: Session,
    agency_id: UUID,
    sha256: bytes,
    *,
    dock_no: str | None = None,
    device_no: str | None = None,
    limit: int = 200,
) -> list[Receipted]:
    """Receptions of the bytes, newest first.

    Args:
        dock_no: Only those that came by this dock.
        device_no: Only those of this device.
    """
    query = (
        select(Reception, Item, Device.device_no)
        .join(Item, (Item.id == Reception.item_id) & (Item.agency_id == Reception.agency_id))
        .join(StoredObject, (StoredObject.id == Item.object_id) & (StoredObject.agency_id == Item.agency_id))
        .outerjoin(Device, (Device.id == Item.device_id) & (Device.agency_id == Item.agency_id))
        .where(Reception.agency_id == agency_id, StoredObject.sha256 == sha256)
        .order_by(Reception.id.desc())
        .limit(limit)
    )
    if dock_no is not None:
        query = query.where(Reception.dock_no == dock_no)
    if device_no is not None:
        query = query.where(Device.device_no == device_no)
    rows = session.execute(query).all()
    damaged = damaged_items(session, agency_id, [item.id for _, item, _ in rows])
    return [Receipted(reception, item, number, item.id in damaged) for reception, item, number in rows]


def damaged_items(session: Session, agency_id: UUID, item_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these items an alarm stands about."""
    found = session.scalars(
        select(Alarm.subject_id).where(
            Alarm.agency_id == agency_id,
            Alarm.subject == "item",
            Alarm.subject_id.in_([str(item_id) for item_id in item_ids]),
            Alarm.cleared_at.is_(None),
        )
    )
    return {UUID(subject) for subject in found}


def receipt_in_force(session: Session, reception: Reception) -> str | None:
    """The signed receipt of a reception, unless the stored bytes were found damaged since."""
    if reception.receipt is None or damaged_items(session, reception.agency_id, [reception.item_id]):
        return None
    return reception.receipt
