"""Receipts asked for by digest: each reception of those bytes, and whether its receipt holds now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.item import FIXITY_MISMATCH
from storage.db import items
from storage.db.tables import Device, Item, Reception, StoredObject


@dataclass(frozen=True)
class Receipted:
    """One arrival of the bytes.

    Attributes:
        is_damaged: The stored bytes were found to be other than the receipt says and have not been read back
            sound since, whatever a person said of the alarm: nothing may be wiped.
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
    return [Receipted(reception, item, number, _is_damaged(item)) for reception, item, number in rows]


def _is_damaged(item: Item) -> bool:
    return any(flag["code"] == FIXITY_MISMATCH for flag in item.flags)


def receipt_in_force(session: Session, reception: Reception) -> str | None:
    """The signed receipt of a reception, unless the stored bytes were found damaged since."""
    if reception.receipt is None:
        return None
    item = items.item_by_id(session, reception.agency_id, reception.item_id)
    return None if _is_damaged(item) else reception.receipt


def is_read_back(session: Session, reception: Reception, sha256: bytes) -> bool:
    """Whether the bytes of a reception are those, and in custody: read back, and not found damaged since.

    It permits to give up a copy of ours. Nobody's device is wiped for it: that takes a receipt.
    """
    item = items.item_by_id(session, reception.agency_id, reception.item_id)
    stored = items.object_of(session, item)
    return stored.sha256 == sha256 and stored.verified_at is not None and not _is_damaged(item)
