"""Items, objects, receptions, claims and derivatives."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from evidence.errors import NotFound
from storage.db.tables import (
    CaseBinding,
    Claim,
    Derivative,
    Item,
    Reception,
    RedactionPlanRow,
    StoredObject,
)

IDS_AT_ONCE = 500


def item_by_id(session: Session, agency_id: UUID, item_id: UUID, *, lock: bool = False) -> Item:
    """The item of that id.

    Raises:
        NotFound: The agency has none.
    """
    query = select(Item).where(Item.agency_id == agency_id, Item.id == item_id)
    if lock:
        # What was read before the lock was waited for may have changed meanwhile.
        query = query.with_for_update().execution_options(populate_existing=True)
    item = session.scalars(query).one_or_none()
    if item is None:
        raise NotFound(f"item {item_id}: expected an item of this agency, found none", code="item_not_found")
    return item


def items_by_id(session: Session, agency_id: UUID, item_ids: Iterable[UUID]) -> dict[UUID, Item]:
    """Items by id, for as many as there are; their probe reports stay unread."""
    found: dict[UUID, Item] = {}
    wanted = sorted(set(item_ids))
    for start in range(0, len(wanted), IDS_AT_ONCE):
        some = wanted[start : start + IDS_AT_ONCE]
        query = select(Item).where(Item.agency_id == agency_id, Item.id.in_(some)).options(defer(Item.probe))
        found |= {row.id: row for row in session.scalars(query)}
    return found


def lock_items(session: Session, agency_id: UUID, item_ids: Iterable[UUID]) -> dict[UUID, Item]:
    """Hold items until the transaction ends; in one order, so that no two wait for each other."""
    found: dict[UUID, Item] = {}
    wanted = sorted(set(item_ids))
    for start in range(0, len(wanted), IDS_AT_ONCE):
        query = (
            select(Item)
            .where(Item.agency_id == agency_id, Item.id.in_(wanted[start : start + IDS_AT_ONCE]))
            .order_by(Item.id)
            .options(defer(Item.probe))
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        found |= {row.id: row for row in session.scalars(query)}
    return found


def item_by_identity(session: Session, agency_id: UUID, identity_key: str) -> Item | None:
    """The item with those bytes from that device."""
    return session.scalars(
        select(Item).where(Item.agency_id == agency_id, Item.identity_key == identity_key)
    ).one_or_none()


def object_by_digest(session: Session, agency_id: UUID, sha256: bytes) -> StoredObject | None:
    """The agency's object of that digest."""
    return session.scalars(
        select(StoredObject).where(StoredObject.agency_id == agency_id, StoredObject.sha256 == sha256)
    ).one_or_none()


def object_by_id(session: Session, agency_id: UUID, object_id: UUID) -> StoredObject:
    """The agency's object of that id.

    Raises:
        NotFound: The agency has none (``object_not_found``).
    """
    row = session.scalars(
        select(StoredObject).where(StoredObject.agency_id == agency_id, StoredObject.id == object_id)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"object {object_id}: expected one of this agency, found none", code="object_not_found"
        )
    return row


def digests_of(
    session: Session, agency_id: UUID, rows: Sequence[Item], *, at_once: int = 500
) -> dict[UUID, bytes]:
    """SHA-256 of each of these items' bytes, by the id of the item."""
    by_object: dict[UUID, bytes] = {}
    for start in range(0, len(rows), at_once):
        ids = {row.object_id for row in rows[start : start + at_once]}
        query = select(StoredObject.id, StoredObject.sha256).where(
            StoredObject.agency_id == agency_id, StoredObject.id.in_(ids)
        )
        by_object |= {row[0]: row[1] for row in session.execute(query)}
    return {row.id: by_object[row.object_id] for row in rows}


def object_of(session: Session, item: Item) -> StoredObject:
    """The object that holds the item's bytes."""
    return session.scalars(
        select(StoredObject).where(
            StoredObject.agency_id == item.agency_id, StoredObject.id == item.object_id
        )
    ).one()


def reception_by_key(session: Session, agency_id: UUID, reception_key: str) -> Reception | None:
    """The reception of that upload or source file."""
    return session.scalars(
        select(Reception).where(Reception.agency_id == agency_id, Reception.reception_key == reception_key)
    ).one_or_none()


def receptions_of(session: Session, agency_id: UUID, item_id: UUID) -> list[Reception]:
    """Each time the item arrived, oldest first."""
    return list(
        session.scalars(
            select(Reception)
            .where(Reception.agency_id == agency_id, Reception.item_id == item_id)
            .order_by(Reception.id)
        )
    )


def claims_of(session: Session, agency_id: UUID, item_id: UUID) -> list[Claim]:
    """What was said about the item, oldest first."""
    return list(
        session.scalars(
            select(Claim).where(Claim.agency_id == agency_id, Claim.item_id == item_id).order_by(Claim.id)
        )
    )


@dataclass(frozen=True)
class ItemFilter:
    """What to look for; None asks nothing."""

    case_id: UUID | None = None
    device_id: UUID | None = None
    collector: str | None = None
    binding: str | None = None
    captured_since: datetime | None = None
    captured_until: datetime | None = None


def page_of_items(
    session: Session, agency_id: UUID, wanted: ItemFilter, *, after: UUID | None, limit: int
) -> list[Item]:
    """Items that match, newest id first; `after` is the last id of the page before."""
    query = select(Item).where(Item.agency_id == agency_id)
    if wanted.case_id is not None:
        query = query.where(
            Item.id.in_(
                select(CaseBinding.item_id).where(
                    CaseBinding.agency_id == agency_id,
                    CaseBinding.case_id == wanted.case_id,
                    CaseBinding.ended_at.is_(None),
                )
            )
        )
    if wanted.device_id is not None:
        query = query.where(Item.device_id == wanted.device_id)
    if wanted.collector is not None:
        query = query.where(Item.collector == wanted.collector)
    if wanted.binding is not None:
        query = query.where(Item.binding == wanted.binding)
    if wanted.captured_since is not None:
        query = query.where(Item.captured_to >= wanted.captured_since)
    if wanted.captured_until is not None:
        query = query.where(Item.captured_from < wanted.captured_until)
    if after is not None:
        query = query.where(Item.id < after)
    return list(session.scalars(query.order_by(Item.id.desc()).limit(limit)))


def derivatives_of(
    session: Session, agency_id: UUID, item_id: UUID, *, kind: str | None = None, light: bool = False
) -> list[Derivative]:
    """Derivatives that are served, oldest first.

    Args:
        light: Their `info`, hundreds of kilobytes for hours of footage, stays unread until asked for.
    """
    query = select(Derivative).where(
        Derivative.agency_id == agency_id,
        Derivative.item_id == item_id,
        Derivative.withdrawn_at.is_(None),
    )
    if kind is not None:
        query = query.where(Derivative.kind == kind)
    if light:
        query = query.options(defer(Derivative.info))
    return list(session.scalars(query.order_by(Derivative.id)))


def keys_withdrawn(session: Session, agency_id: UUID, item_id: UUID, kinds: Collection[str]) -> list[str]:
    """Where the bytes lie, or lay, of an item's derivatives of these kinds that are served no longer."""
    return list(
        session.scalars(
            select(Derivative.store_key).where(
                Derivative.agency_id == agency_id,
                Derivative.item_id == item_id,
                Derivative.kind.in_(kinds),
                Derivative.withdrawn_at.is_not(None),
            )
        )
    )


def is_key_shown(session: Session, agency_id: UUID, store_key: str) -> bool:
    """Whether anything that is served has its bytes there."""
    shown = select(Derivative.id).where(
        Derivative.agency_id == agency_id,
        Derivative.store_key == store_key,
        Derivative.withdrawn_at.is_(None),
    )
    return session.scalar(shown.limit(1)) is not None


def derivative_by_id(session: Session, agency_id: UUID, derivative_id: UUID) -> Derivative:
    """The derivative of that id, withdrawn or not.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(
        select(Derivative).where(Derivative.agency_id == agency_id, Derivative.id == derivative_id)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"derivative {derivative_id}: expected one of this agency, found none",
            code="derivative_not_found",
        )
    return row


def derivative_by_params(
    session: Session, agency_id: UUID, item_id: UUID, kind: str, params_digest: bytes
) -> Derivative | None:
    """The derivative made with those parameters, withdrawn or not."""
    return session.scalars(
        select(Derivative).where(
            Derivative.agency_id == agency_id,
            Derivative.item_id == item_id,
            Derivative.kind == kind,
            Derivative.params_digest == params_digest,
        )
    ).one_or_none()


def newest_plan(
    session: Session, agency_id: UUID, item_id: UUID, *, light: bool = False
) -> RedactionPlanRow | None:
    """The redaction plan with the largest number.

    Args:
        light: What it hides, megabytes for hours of footage, stays unread.
    """
    query = (
        select(RedactionPlanRow)
        .where(RedactionPlanRow.agency_id == agency_id, RedactionPlanRow.item_id == item_id)
        .order_by(RedactionPlanRow.number.desc())
        .limit(1)
    )
    return session.scalars(query.options(defer(RedactionPlanRow.plan)) if light else query).first()


def plan_by_number(session: Session, agency_id: UUID, item_id: UUID, number: int) -> RedactionPlanRow:
    """That version of the item's plan.

    Raises:
        NotFound: There is none.
    """
    row = session.scalars(
        select(RedactionPlanRow).where(
            RedactionPlanRow.agency_id == agency_id,
            RedactionPlanRow.item_id == item_id,
            RedactionPlanRow.number == number,
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"redaction plan {number}: expected one, found none", code="plan_not_found")
    return row


def flag(item: Item, code: str, message: str, **more: Any) -> None:
    """Add one line to what is wrong or odd with an item; a code stands once, as it was first given."""
    if code not in {entry["code"] for entry in item.flags}:
        item.flags = [*item.flags, {"code": code, "message": message, **more}]


def unflag(item: Item, code: str) -> None:
    """Take back the line of a code, once what it said holds no longer."""
    item.flags = [entry for entry in item.flags if entry["code"] != code]


def flagged_of_device(
    session: Session, agency_id: UUID, device_id: UUID, code: str, *, at_once: int = 200
) -> Iterator[list[Item]]:
    """Items of a device that bear a flag, locked for the caller's change, a batch at a time by id."""
    of_device = (Item.agency_id == agency_id, Item.device_id == device_id)
    # One look for all of them; the rows themselves come by the batch.
    ids = sorted(session.scalars(select(Item.id).where(*of_device)))
    for start in range(0, len(ids), at_once):
        rows = session.scalars(
            select(Item)
            .where(*of_device, Item.id.in_(ids[start : start + at_once]))
            .order_by(Item.id)
            .options(defer(Item.probe))
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
        yield [row for row in rows if code in {entry["code"] for entry in row.flags}]


def claimed(session: Session, agency_id: UUID, item_id: UUID, field: str) -> list[Claim]:
    """Claims about one field, oldest first."""
    return list(
        session.scalars(
            select(Claim)
            .where(Claim.agency_id == agency_id, Claim.item_id == item_id, Claim.field == field)
            .order_by(Claim.id)
        )
    )
