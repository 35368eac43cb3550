"""What lies in a case, narrowly: enough of each item to place it in time, and none of its reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, bindparam, select
from sqlalchemy.orm import Session

from storage.db.tables import CaseBinding, Claim, Device, Item

MOST = 10_000
"""Bindings of one case that are laid out."""
IDS_AT_ONCE = 2000


class TiedItem(NamedTuple):
    """An item, or a span of it, in a case."""

    binding_id: UUID
    state: str
    span_from_us: int | None
    span_to_us: int | None
    id: UUID
    device_id: UUID | None
    source_kind: str
    media_kind: str
    original_name: str
    av_record_no: str | None
    recording_key: str | None
    captured_from: datetime | None
    captured_to: datetime | None
    captured_place: str | None
    duration_us: int | None
    device_no: str | None


class Said(NamedTuple):
    """A claim, without who made it when."""

    item_id: UUID
    field: str
    value: str
    source: str
    clock: str | None


_TIED = (
    select(
        CaseBinding.id,
        CaseBinding.state,
        CaseBinding.span_from_us,
        CaseBinding.span_to_us,
        Item.id,
        Item.device_id,
        Item.source_kind,
        Item.media_kind,
        Item.original_name,
        Item.av_record_no,
        Item.recording_key,
        Item.captured_from,
        Item.captured_to,
        Item.captured_place,
        Item.duration_us,
        Device.device_no,
    )
    .join(Item, and_(Item.agency_id == CaseBinding.agency_id, Item.id == CaseBinding.item_id))
    .outerjoin(Device, and_(Device.agency_id == Item.agency_id, Device.id == Item.device_id))
    .where(
        CaseBinding.agency_id == bindparam("agency"),
        CaseBinding.case_id == bindparam("case"),
        CaseBinding.ended_at.is_(None),
    )
    .order_by(CaseBinding.item_id, CaseBinding.id)
    .limit(MOST + 1)
)
_SAID = select(Claim.item_id, Claim.field, Claim.value, Claim.source, Claim.clock).where(
    Claim.agency_id == bindparam("agency"),
    Claim.item_id.in_(bindparam("items", expanding=True)),
    Claim.field.in_(bindparam("fields", expanding=True)),
)


def tied_items(session: Session, agency_id: UUID, case_id: UUID) -> list[TiedItem]:
    """Everything tied to a case, in one statement over its index; one more than `MOST` if there is more."""
    return [TiedItem._make(row) for row in session.execute(_TIED, {"agency": agency_id, "case": case_id})]


def said_of(
    session: Session, agency_id: UUID, item_ids: Sequence[UUID], fields: Sequence[str]
) -> dict[UUID, list[Said]]:
    """What was said about some fields of some items, oldest first."""
    found: dict[UUID, list[Said]] = {}
    for start in range(0, len(item_ids), IDS_AT_ONCE):
        some = list(item_ids[start : start + IDS_AT_ONCE])
        given = {"agency": agency_id, "items": some, "fields": list(fields)}
        for row in session.execute(_SAID.order_by(Claim.id), given):
            found.setdefault(row[0], []).append(Said._make(row))
    return found
