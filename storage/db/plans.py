"""Versions of redaction plans."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, defer

from storage.db.tables import Derivative, RedactionPlanRow

AWAITS = "awaits_approval"


class Standing(NamedTuple):
    """Numbers of the newest version of an item's plan and of the one in force; None: there is none."""

    newest: int | None
    in_force: int | None


def plans_of(
    session: Session, agency_id: UUID, item_id: UUID, *, light: bool = False
) -> list[RedactionPlanRow]:
    """Every version of the item's plan, oldest first.

    Args:
        light: What they hide, megabytes each for hours of footage, stays unread.
    """
    query = (
        select(RedactionPlanRow)
        .where(RedactionPlanRow.agency_id == agency_id, RedactionPlanRow.item_id == item_id)
        .order_by(RedactionPlanRow.number)
    )
    return list(session.scalars(query.options(defer(RedactionPlanRow.plan)) if light else query))


def plan_in_force(session: Session, agency_id: UUID, item_id: UUID) -> RedactionPlanRow | None:
    """The newest version whose rendition may be served: it reveals nothing, or somebody approved it."""
    return session.scalars(
        select(RedactionPlanRow)
        .where(
            RedactionPlanRow.agency_id == agency_id,
            RedactionPlanRow.item_id == item_id,
            or_(RedactionPlanRow.reveals.is_(False), RedactionPlanRow.approved_at.is_not(None)),
        )
        .order_by(RedactionPlanRow.number.desc())
        .limit(1)
    ).first()


def standing_of(session: Session, agency_id: UUID, item_id: UUID) -> Standing:
    """The numbers alone: no plan is read."""
    of_item = (RedactionPlanRow.agency_id == agency_id, RedactionPlanRow.item_id == item_id)
    shown = or_(RedactionPlanRow.reveals.is_(False), RedactionPlanRow.approved_at.is_not(None))
    newest = select(func.max(RedactionPlanRow.number)).where(*of_item)
    return Standing(session.scalar(newest), session.scalar(newest.where(shown)))


def held_back(session: Session, agency_id: UUID, item_id: UUID, number: int) -> list[Derivative]:
    """What was made from that version and waits for its approval, oldest first."""
    rows = session.scalars(
        select(Derivative)
        .where(
            Derivative.agency_id == agency_id,
            Derivative.item_id == item_id,
            Derivative.masked.is_(True),
            Derivative.withdrawn_at.is_not(None),
        )
        .order_by(Derivative.id)
    )
    return [row for row in rows if row.info.get(AWAITS) and row.params.get("plan") == number]
