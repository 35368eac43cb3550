"""What of sessions is hidden in whatever is made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.breaks import Happened, stepped_us
from evidence.clock import to_micros
from evidence.errors import NotFound
from evidence.kinds import GapReason
from evidence.masks import Hides, Lasted, Mask, Reason
from evidence.session import Note, NoteKind, Paused, pauses
from storage.db import sessions
from storage.db.room_tables import RoomSession, SessionMask, SessionNote, SessionPart


def masks_of(session: Session, agency_id: UUID, session_ids: Collection[UUID]) -> list[SessionMask]:
    """The masks of these sessions, oldest first."""
    query = select(SessionMask).where(
        SessionMask.agency_id == agency_id, SessionMask.session_id.in_(session_ids)
    )
    return list(session.scalars(query.order_by(SessionMask.from_at, SessionMask.id)))


def mask_by_id(session: Session, agency_id: UUID, session_id: UUID, mask_id: UUID) -> SessionMask:
    """A mask of a session, held.

    Raises:
        NotFound: The session has none of that id (``mask_not_found``).
    """
    query = select(SessionMask).where(
        SessionMask.agency_id == agency_id, SessionMask.session_id == session_id, SessionMask.id == mask_id
    )
    row = session.scalars(query.with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"mask {mask_id}: expected one of the session, found none", code="mask_not_found")
    return row


def ends_at(row: SessionMask, of: RoomSession) -> datetime | None:
    """When a mask ends; one that lasts ends with its session. None: it lasts."""
    return row.to_at if row.to_at is not None else of.ended_at


def as_facts(row: SessionMask, of: RoomSession, slack_us: int) -> Mask:
    """A mask as its rules have it."""
    ends = ends_at(row, of)
    if ends is not None and ends < row.from_at:
        # The clock was set back before the session ended: when the mask did is not known.
        ends = None
    return Mask(
        str(row.id),
        to_micros(row.from_at),
        None if ends is None else to_micros(ends),
        Hides(row.hides),
        Reason(row.reason),
        row.by,
        slack_us,
    )


def masks_in_force(session: Session, row: RoomSession) -> list[Mask]:
    """What of a session is hidden, by its rules: what people masked, and its pauses."""
    found = masks_of(session, row.agency_id, [row.id])
    ended_us = None if row.ended_at is None else to_micros(row.ended_at)
    stops = pauses_of(sessions.notes_of(session, row.agency_id, row.id), ended_us)
    slack_us = _slack_us(sessions.parts_of(session, row.agency_id, row.id)) if found or stops else 0
    return [
        *(as_facts(each, row, slack_us) for each in found),
        *(
            Mask(
                f"pause:{stop.from_us}",
                stop.from_us,
                stop.to_us,
                Hides.BOTH,
                Reason.PAUSED,
                stop.note.by,
                slack_us,
            )
            for stop in stops
        ),
    ]


def lasted(session: Session, row: RoomSession) -> Lasted:
    """When a session was, for what of its files lies outside of it."""
    return Lasted(
        str(row.id),
        to_micros(row.started_at),
        None if row.ended_at is None else to_micros(row.ended_at),
        _slack_us(sessions.parts_of(session, row.agency_id, row.id)),
    )


def pauses_of(notes: Iterable[SessionNote], ended_us: int | None) -> list[Paused]:
    """The pauses among a session's notes, oldest first.

    Args:
        ended_us: When the session ended, UTC; None: it lasts.
    """
    return pauses(
        [said_of(each) for each in notes if each.kind in {NoteKind.PAUSE, NoteKind.RESUME}], ended_us
    )


def said_of(row: SessionNote) -> Note:
    """A note of a session, as facts."""
    return Note(
        NoteKind(row.kind),
        to_micros(row.at),
        row.by,
        row.text,
        GapReason(row.reason) if row.reason else None,
        row.stream,
        to_micros(row.from_at) if row.from_at else None,
        to_micros(row.to_at) if row.to_at else None,
        row.point,
        to_micros(row.shown_at) if row.shown_at else None,
    )


def _slack_us(parts: Collection[SessionPart]) -> int:
    """How far the host's clock was set while they were recorded. Every stream tells of it."""
    told: dict[str, list[Happened]] = {}
    for part in parts:
        told.setdefault(part.stream, []).extend(Happened.from_json(each) for each in part.turns)
    return max((stepped_us(each) for each in told.values()), default=0)
