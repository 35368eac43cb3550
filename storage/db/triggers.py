"""Keys that recorders of rooms call with, and what they asked. Only the SHA-256 of a key is stored."""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.errors import NotAuthenticated, NotFound
from evidence.ids import new_id
from storage.db.credentials import token_digest
from storage.db.room_tables import TriggerCall, TriggerKey

PREFIX = "lht_"


def add_key(
    session: Session, agency_id: UUID, *, room_no: str, name: str, now: datetime
) -> tuple[str, TriggerKey]:
    """A new key, shown once, and its row."""
    key = PREFIX + secrets.token_urlsafe(32)
    row = TriggerKey(
        id=new_id(),
        agency_id=agency_id,
        room_no=room_no,
        name=name,
        key_digest=token_digest(key),
        created_at=now,
    )
    session.add(row)
    session.flush()
    return key, row


def key_of(session: Session, key: str) -> TriggerKey:
    """Whose key it is, of every agency.

    Raises:
        NotAuthenticated: Of nobody, or it was revoked (``trigger_unknown``).
    """
    row = session.scalars(
        select(TriggerKey).where(TriggerKey.key_digest == token_digest(key), TriggerKey.revoked_at.is_(None))
    ).one_or_none()
    if row is None:
        raise none_in_force()
    return row


def none_in_force() -> NotAuthenticated:
    """What whoever calls with a key of nobody's, or one that was revoked, is told."""
    return NotAuthenticated("trigger: expected a key in force, found none", code="trigger_unknown")


def keys(session: Session, agency_id: UUID) -> list[TriggerKey]:
    """All keys of an agency, oldest first."""
    query = select(TriggerKey).where(TriggerKey.agency_id == agency_id)
    return list(session.scalars(query.order_by(TriggerKey.room_no, TriggerKey.id)))


def key_by_id(session: Session, agency_id: UUID, key_id: UUID, *, lock: bool = False) -> TriggerKey:
    """The key of that id.

    Raises:
        NotFound: The agency has none (``trigger_not_found``).
    """
    query = select(TriggerKey).where(TriggerKey.agency_id == agency_id, TriggerKey.id == key_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"trigger {key_id}: expected one of this agency, found none", code="trigger_not_found")
    return row


def call_by_key(session: Session, agency_id: UUID, trigger_id: UUID, call_key: str) -> TriggerCall | None:
    """What a recorder asked with that key of its own, if it did."""
    return session.scalars(
        select(TriggerCall).where(
            TriggerCall.agency_id == agency_id,
            TriggerCall.trigger_id == trigger_id,
            TriggerCall.call_key == call_key,
        )
    ).one_or_none()
