"""Queries on sessions that are to begin by themselves."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.room_tables import PlannedSession

TO_KEEP: ColumnElement[bool] = and_(PlannedSession.over_at.is_(None), PlannedSession.withdrawn_at.is_(None))


def due(session: Session, agency_id: UUID, room_no: str, now: datetime) -> list[PlannedSession]:
    """Plans of a room that something may have to be done about now, oldest first.

    Those whose time has come: begun or not, until their session ended; and not those that were missed.
    """
    query = select(PlannedSession).where(
        PlannedSession.agency_id == agency_id,
        PlannedSession.room_no == room_no,
        TO_KEEP,
        PlannedSession.starts_at <= now,
        or_(
            PlannedSession.missed_at.is_(None),
            PlannedSession.ends_at > now,
        ),
    )
    return list(session.scalars(query.order_by(PlannedSession.starts_at, PlannedSession.id)))


def unkept(session: Session, agency_id: UUID, due_at: datetime) -> list[PlannedSession]:
    """Plans of every room that were due at an instant and about which nothing was done."""
    query = select(PlannedSession).where(
        PlannedSession.agency_id == agency_id,
        TO_KEEP,
        PlannedSession.session_id.is_(None),
        PlannedSession.missed_at.is_(None),
        PlannedSession.starts_at <= due_at,
    )
    return list(session.scalars(query.order_by(PlannedSession.starts_at, PlannedSession.id)))


def overlapping(
    session: Session, agency_id: UUID, room_no: str, starts_at: datetime, ends_at: datetime
) -> list[PlannedSession]:
    """Plans of a room that are to be kept and share a moment with ``starts_at <= t < ends_at``."""
    query = select(PlannedSession).where(
        PlannedSession.agency_id == agency_id,
        PlannedSession.room_no == room_no,
        TO_KEEP,
        PlannedSession.starts_at < ends_at,
        PlannedSession.ends_at > starts_at,
    )
    return list(session.scalars(query.order_by(PlannedSession.starts_at)))


def plan_by_id(session: Session, agency_id: UUID, plan_id: UUID, *, lock: bool = False) -> PlannedSession:
    """The plan of that id.

    Raises:
        NotFound: The agency has none (``plan_not_found``).
    """
    query = select(PlannedSession).where(PlannedSession.agency_id == agency_id, PlannedSession.id == plan_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(
            f"planned session {plan_id}: expected one of this agency, found none", code="plan_not_found"
        )
    return row


def plan_of_session(session: Session, agency_id: UUID, session_id: UUID) -> PlannedSession | None:
    """The plan that became a session; None: somebody began it without one."""
    return session.scalars(
        select(PlannedSession).where(
            PlannedSession.agency_id == agency_id, PlannedSession.session_id == session_id
        )
    ).first()


def plans_from(
    session: Session, agency_id: UUID, *, since: datetime, room_no: str | None = None, limit: int
) -> list[PlannedSession]:
    """Plans that end after an instant, and those whose session goes on, by their time."""
    goes_on = and_(TO_KEEP, PlannedSession.session_id.is_not(None))
    query = select(PlannedSession).where(
        PlannedSession.agency_id == agency_id, or_(PlannedSession.ends_at > since, goes_on)
    )
    if room_no is not None:
        query = query.where(PlannedSession.room_no == room_no)
    return list(session.scalars(query.order_by(PlannedSession.starts_at, PlannedSession.id).limit(limit)))
