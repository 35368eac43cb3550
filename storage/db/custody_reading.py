"""Looking into the custody log: a stretch of places, the keys that signed."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.db.custody import PlacedLeaf
from storage.db.tables import CustodyLeaf, CustodySequence, SigningKey


def stretch(session: Session, agency_id: UUID, first: int, stop: int) -> list[PlacedLeaf]:
    """The leaves with index in ``[first, stop)``; a place whose leaf is gone has no body."""
    rows = session.execute(
        select(
            CustodySequence.leaf_index,
            CustodySequence.leaf_id,
            CustodySequence.leaf_hash,
            CustodyLeaf.body,
            CustodyLeaf.payload,
        )
        .outerjoin(
            CustodyLeaf,
            (CustodyLeaf.id == CustodySequence.leaf_id)
            & (CustodyLeaf.agency_id == CustodySequence.agency_id),
        )
        .where(
            CustodySequence.agency_id == agency_id,
            CustodySequence.leaf_index >= first,
            CustodySequence.leaf_index < stop,
        )
        .order_by(CustodySequence.leaf_index)
    ).all()
    return [
        PlacedLeaf(
            index,
            leaf_id,
            bytes(digest),
            None if body is None else bytes(body),
            None if payload is None else bytes(payload),
        )
        for index, leaf_id, digest, body, payload in rows
    ]


def signing_keys(session: Session, agency_id: UUID) -> list[SigningKey]:
    """Public keys of the agency, oldest first; symmetric ones have none to show and are left out."""
    return list(
        session.scalars(
            select(SigningKey)
            .where(SigningKey.agency_id == agency_id, SigningKey.public_key != b"")
            .order_by(SigningKey.created_at, SigningKey.id)
        )
    )
