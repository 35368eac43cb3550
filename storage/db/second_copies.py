"""Queries on the copies of rooms' files in a second store."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from evidence.session import CopyState
from storage.db.room_tables import SecondCopy
from storage.db.tables import Item, StoredObject

PAGE = 500


def copy_by_id(session: Session, agency_id: UUID, copy_id: UUID, *, lock: bool = False) -> SecondCopy:
    """The copy of that id.

    Raises:
        NotFound: The agency has none.
    """
    query = select(SecondCopy).where(SecondCopy.agency_id == agency_id, SecondCopy.id == copy_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"second copy {copy_id}: expected one of this agency, found none")
    return row


def copies_of(session: Session, agency_id: UUID, reception_keys: Collection[str]) -> dict[str, SecondCopy]:
    """The copies of files, by the keys of their receptions."""
    query = select(SecondCopy).where(
        SecondCopy.agency_id == agency_id, SecondCopy.reception_key.in_(reception_keys)
    )
    return {row.reception_key: row for row in session.scalars(query)}


def uncopied(
    session: Session, agency_id: UUID, room_no: str, limit: int
) -> list[tuple[SecondCopy, StoredObject]]:
    """Copies of a room's files that are not there yet, with what they are to hold, oldest first."""
    query = (
        _with_objects(agency_id)
        .where(SecondCopy.room_no == room_no, SecondCopy.state != str(CopyState.COPIED))
        .order_by(SecondCopy.id)
        .limit(limit)
    )
    return [(copy, held) for copy, held in session.execute(query).all()]


def all_copied(session: Session, agency_id: UUID, room_no: str) -> Iterator[tuple[SecondCopy, StoredObject]]:
    """Files of a room whose copies matched when they were read, oldest first, read a page at a time."""
    query = _with_objects(agency_id).where(
        SecondCopy.room_no == room_no, SecondCopy.state == str(CopyState.COPIED)
    )
    after: UUID | None = None
    while True:
        later = query if after is None else query.where(SecondCopy.id > after)
        page = session.execute(later.order_by(SecondCopy.id).limit(PAGE)).all()
        yield from ((copy, held) for copy, held in page)
        if len(page) < PAGE:
            return
        after = page[-1][0].id


def count_uncopied(session: Session, agency_id: UUID) -> dict[str, int]:
    """How many files of each room have no sound copy yet, by its number; rooms with none are left out."""
    query = (
        select(SecondCopy.room_no, func.count().label("files"))
        .where(SecondCopy.agency_id == agency_id, SecondCopy.state != str(CopyState.COPIED))
        .group_by(SecondCopy.room_no)
    )
    return {row.room_no: row.files for row in session.execute(query)}


def _with_objects(agency_id: UUID) -> Select[SecondCopy, StoredObject]:
    return (
        select(SecondCopy, StoredObject)
        .join(Item, (Item.id == SecondCopy.item_id) & (Item.agency_id == SecondCopy.agency_id))
        .join(StoredObject, (StoredObject.id == Item.object_id) & (StoredObject.agency_id == Item.agency_id))
        .where(SecondCopy.agency_id == agency_id)
    )
