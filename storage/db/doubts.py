"""Doubtful spans of the newest version of each item's plan, to be looked at by risk."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.orm import Session

from evidence.doubts import Doubt
from storage.db.release_tables import RedactionDoubt

MOST_OF_AN_ITEM = 200
"""The gravest of an item: thousands of one recording would hide all others."""


def note_doubts(
    session: Session, agency_id: UUID, item_id: UUID, number: int, doubts: Sequence[Doubt]
) -> None:
    """What of a new version nobody has decided, in place of what the version before left open.

    Args:
        number: Of that version.
        doubts: The gravest first (`evidence.doubts.open_doubts`), worked out before the transaction.
    """
    session.execute(
        delete(RedactionDoubt).where(RedactionDoubt.agency_id == agency_id, RedactionDoubt.item_id == item_id)
    )
    session.add_all(
        RedactionDoubt(
            agency_id=agency_id,
            item_id=item_id,
            plan_number=number,
            track=doubt.track,
            track_class=doubt.track_class,
            from_us=doubt.from_us,
            to_us=doubt.to_us,
            why=doubt.why,
            area_permille=doubt.area_permille,
            score_permille=doubt.score_permille,
            risk_us=doubt.risk_us,
        )
        for doubt in doubts[:MOST_OF_AN_ITEM]
    )


def gravest(
    session: Session, agency_id: UUID, *, after: tuple[int, UUID] | None, item_id: UUID | None, limit: int
) -> list[RedactionDoubt]:
    """A page of doubtful spans, the gravest first.

    Args:
        after: Risk and id of the last one of the page before.
        item_id: Of one item alone.
    """
    query = select(RedactionDoubt).where(RedactionDoubt.agency_id == agency_id)
    if item_id is not None:
        query = query.where(RedactionDoubt.item_id == item_id)
    if after is not None:
        risk_us, id_ = after
        query = query.where(
            or_(
                RedactionDoubt.risk_us < risk_us,
                and_(RedactionDoubt.risk_us == risk_us, RedactionDoubt.id < id_),
            )
        )
    order = (RedactionDoubt.risk_us.desc(), RedactionDoubt.id.desc())
    return list(session.scalars(query.order_by(*order).limit(limit)))
