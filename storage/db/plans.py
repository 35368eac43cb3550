"""Versions of redaction plans."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.db.tables import RedactionPlanRow


def plans_of(session: Session, agency_id: UUID, item_id: UUID) -> list[RedactionPlanRow]:
    """Every version of the item's plan, oldest first."""
    return list(
        session.scalars(
            select(RedactionPlanRow)
            .where(RedactionPlanRow.agency_id == agency_id, RedactionPlanRow.item_id == item_id)
            .order_by(RedactionPlanRow.number)
        )
    )
