"""Looking into the custody log: a stretch of places, the keys that signed."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.db.custody import PlacedLeaf, placed_from
from storage.db.tables import SigningKey


def stretch(session: Session, agency_id: UUID, first: int, stop: int) -> list[PlacedLeaf]:
    """The leaves with index in ``[first, stop)``; a place whose leaf is gone has no body."""
    return placed_from(session, agency_id, first, stop=stop)


def signing_keys(session: Session, agency_id: UUID) -> list[SigningKey]:
    """Public keys of the agency, oldest first; symmetric ones have none to show and are left out."""
    return list(
        session.scalars(
            select(SigningKey)
            .where(SigningKey.agency_id == agency_id, SigningKey.public_key != b"")
            .order_by(SigningKey.created_at, SigningKey.id)
        )
    )
