"""Reasons that people gave for interruptions of recordings (R2, L15). Added, never changed."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.db.tables import ContinuityReason


def reasons_of(session: Session, agency_id: UUID, item_id: UUID) -> list[ContinuityReason]:
    """What was said about the item's interruptions, oldest first."""
    return list(
        session.scalars(
            select(ContinuityReason)
            .where(ContinuityReason.agency_id == agency_id, ContinuityReason.item_id == item_id)
            .order_by(ContinuityReason.id)
        )
    )
