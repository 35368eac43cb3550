"""What of sessions is shown live to people without the right to originals."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.clock import to_micros
from evidence.live_masks import Cover, LiveMask
from storage.db.room_tables import LiveMaskRow


def live_masks_of(session: Session, agency_id: UUID, session_id: UUID) -> list[LiveMaskRow]:
    """The live masks of a session, in the order they were set; the last is in force."""
    query = select(LiveMaskRow).where(
        LiveMaskRow.agency_id == agency_id, LiveMaskRow.session_id == session_id
    )
    return list(session.scalars(query.order_by(LiveMaskRow.number)))


def covers_of(row: LiveMaskRow) -> dict[str, Cover]:
    """What a row covers, by stream."""
    return {name: Cover.from_json(told) for name, told in row.covers.items()}


def live_masks_in_order(session: Session, agency_id: UUID, session_id: UUID) -> list[LiveMask]:
    """The live masks of a session, as their rules have them."""
    rows = live_masks_of(session, agency_id, session_id)
    return [LiveMask(to_micros(row.made_at), covers_of(row)) for row in rows]
