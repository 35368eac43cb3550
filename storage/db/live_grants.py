"""Rights to watch sessions live: in force until their end, their revoking or their holder's."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db import grants
from storage.db.room_tables import LiveGrant
from storage.db.tables import Item, Reception, StoredObject


def live_grant_by_id(session: Session, agency_id: UUID, grant_id: UUID, *, lock: bool = False) -> LiveGrant:
    """The grant of that id, in force or not.

    Raises:
        NotFound: The agency has none (``grant_not_found``).
    """
    query = select(LiveGrant).where(LiveGrant.agency_id == agency_id, LiveGrant.id == grant_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"grant {grant_id}: expected one of this agency, found none", code="grant_not_found")
    return row


def live_grant_in_force(
    session: Session, agency_id: UUID, grant_id: UUID, now: datetime, *, lock: bool = False
) -> LiveGrant:
    """The grant of that id, if anything may be shown under it now.

    Raises:
        NotFound: There is none, or it has ended, was revoked, or its holder may no longer sign in
            (``grant_ended``).
    """
    row = live_grant_by_id(session, agency_id, grant_id, lock=lock)
    has_ended = row.revoked_at is not None or now >= row.expires_at
    if has_ended or not grants.may_hold(session, agency_id, row.account_id):
        raise ended()
    return row


def ended() -> NotFound:
    """What whoever holds the address of a grant that has ended is told."""
    return NotFound("grant: expected one in force, found it ended; ask again", code="grant_ended")


def received(session: Session, agency_id: UUID, reception_key: str) -> StoredObject | None:
    """The bytes that were received under a key; None: none were."""
    return session.scalars(
        select(StoredObject)
        .join(Item, (Item.object_id == StoredObject.id) & (Item.agency_id == StoredObject.agency_id))
        .join(Reception, (Reception.item_id == Item.id) & (Reception.agency_id == Item.agency_id))
        .where(Reception.agency_id == agency_id, Reception.reception_key == reception_key)
    ).first()
