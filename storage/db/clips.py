"""Clips somebody asked to take away."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.tables import Clip


def clip_by_id(session: Session, agency_id: UUID, clip_id: UUID) -> Clip:
    """The clip of that id, cut or not yet.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(select(Clip).where(Clip.agency_id == agency_id, Clip.id == clip_id)).one_or_none()
    if row is None:
        raise NotFound(f"clip {clip_id}: expected one of this agency, found none", code="clip_not_found")
    return row
