"""Queries on sessions of interview rooms, their files and their notes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from evidence.kinds import ClaimSource
from evidence.session import NoteKind
from storage.db.room_tables import RoomSession, SessionNote, SessionPart
from storage.db.tables import Claim, Item, StoredObject

NEAR = timedelta(days=1)
"""No file is longer, and no clock was set right by more."""


def open_sessions(session: Session, agency_id: UUID, room_no: str) -> list[RoomSession]:
    """Sessions of a room that last, oldest first; one that is paused lasts (`paused_since`)."""
    query = select(RoomSession).where(
        RoomSession.agency_id == agency_id, RoomSession.room_no == room_no, RoomSession.ended_at.is_(None)
    )
    return list(session.scalars(query.order_by(RoomSession.started_at, RoomSession.id)))


def incomplete_sessions(session: Session, agency_id: UUID, room_no: str) -> list[RoomSession]:
    """Sessions of a room of which files may still come, oldest first: all that last, some that ended."""
    query = select(RoomSession).where(
        RoomSession.agency_id == agency_id, RoomSession.room_no == room_no, RoomSession.complete_at.is_(None)
    )
    return list(session.scalars(query.order_by(RoomSession.started_at, RoomSession.id)))


def sessions_over(
    session: Session, agency_id: UUID, room_no: str, from_at: datetime, to_at: datetime
) -> list[RoomSession]:
    """Sessions of a room that share a moment with ``from_at <= t < to_at``, oldest first.

    One without an end lasts; one of no length shares none.
    """
    query = select(RoomSession).where(
        RoomSession.agency_id == agency_id,
        RoomSession.room_no == room_no,
        RoomSession.started_at < to_at,
        or_(RoomSession.ended_at.is_(None), RoomSession.ended_at > from_at),
    )
    return list(session.scalars(query.order_by(RoomSession.started_at, RoomSession.id)))


def last_end(session: Session, agency_id: UUID, room_no: str) -> datetime | None:
    """When the last session of a room ended; None: none has."""
    return session.scalar(
        select(func.max(RoomSession.ended_at)).where(
            RoomSession.agency_id == agency_id, RoomSession.room_no == room_no
        )
    )


def all_open(session: Session, agency_id: UUID) -> list[RoomSession]:
    """Sessions of every room that last."""
    query = select(RoomSession).where(RoomSession.agency_id == agency_id, RoomSession.ended_at.is_(None))
    return list(session.scalars(query.order_by(RoomSession.room_no, RoomSession.started_at)))


def session_by_id(session: Session, agency_id: UUID, session_id: UUID, *, lock: bool = False) -> RoomSession:
    """The session of that id.

    Raises:
        NotFound: The agency has none (``session_not_found``).
    """
    query = select(RoomSession).where(RoomSession.agency_id == agency_id, RoomSession.id == session_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(
            f"session {session_id}: expected one of this agency, found none", code="session_not_found"
        )
    return row


def page_of_sessions(
    session: Session,
    agency_id: UUID,
    *,
    room_no: str | None = None,
    state: str | None = None,
    case_id: UUID | None = None,
    is_complete: bool | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[RoomSession]:
    """Sessions, newest first.

    Args:
        after: Last row of the page before, as (started_at, id).
    """
    query = select(RoomSession).where(RoomSession.agency_id == agency_id)
    if room_no is not None:
        query = query.where(RoomSession.room_no == room_no)
    if state is not None:
        query = query.where(RoomSession.state == state)
    if case_id is not None:
        query = query.where(RoomSession.case_id == case_id)
    if is_complete is not None:
        query = query.where(RoomSession.complete_at.is_not(None) == is_complete)
    if after is not None:
        query = query.where(tuple_(RoomSession.started_at, RoomSession.id) < after)
    return list(
        session.scalars(query.order_by(RoomSession.started_at.desc(), RoomSession.id.desc()).limit(limit))
    )


def part_by_key(
    session: Session, agency_id: UUID, session_id: UUID, reception_key: str
) -> SessionPart | None:
    """The file of that reception key, if the session has it."""
    return session.scalars(
        select(SessionPart).where(
            SessionPart.agency_id == agency_id,
            SessionPart.session_id == session_id,
            SessionPart.reception_key == reception_key,
        )
    ).one_or_none()


def next_sequence_no(session: Session, agency_id: UUID, session_id: UUID, stream: str) -> int:
    """The place the next file of a session's stream gets."""
    last = session.scalar(
        select(func.max(SessionPart.sequence_no)).where(
            SessionPart.agency_id == agency_id,
            SessionPart.session_id == session_id,
            SessionPart.stream == stream,
        )
    )
    return (last or 0) + 1


def parts_of(session: Session, agency_id: UUID, session_id: UUID) -> list[SessionPart]:
    """The files of a session, by stream and time."""
    query = select(SessionPart).where(
        SessionPart.agency_id == agency_id, SessionPart.session_id == session_id
    )
    return list(session.scalars(query.order_by(SessionPart.stream, SessionPart.from_at, SessionPart.id)))


def held_of(
    session: Session, agency_id: UUID, parts: Sequence[SessionPart]
) -> dict[UUID, tuple[Item, StoredObject]]:
    """Item and stored object of files, by item id."""
    if not parts:
        return {}
    rows = session.execute(
        select(Item, StoredObject)
        .join(StoredObject, (StoredObject.id == Item.object_id) & (StoredObject.agency_id == Item.agency_id))
        .join(SessionPart, (SessionPart.item_id == Item.id) & (SessionPart.agency_id == Item.agency_id))
        .where(Item.agency_id == agency_id, SessionPart.session_id.in_({part.session_id for part in parts}))
    ).all()
    return {item.id: (item, held) for item, held in rows}


def parts_of_items(session: Session, agency_id: UUID, item_ids: Sequence[UUID]) -> list[SessionPart]:
    """Which sessions items are files of, and when of them, oldest first."""
    query = select(SessionPart).where(
        SessionPart.agency_id == agency_id, SessionPart.item_id.in_(list(item_ids))
    )
    return list(session.scalars(query.order_by(SessionPart.from_at, SessionPart.id)))


def untied_over(session: Session, agency_id: UUID, from_at: datetime, to_at: datetime | None) -> list[UUID]:
    """Items recorded around that time that say they are a file of some session, and are tied to none."""
    tied = select(SessionPart.item_id).where(
        SessionPart.agency_id == Item.agency_id, SessionPart.item_id == Item.id
    )
    query = (
        select(Item.id)
        .join(Claim, (Claim.item_id == Item.id) & (Claim.agency_id == Item.agency_id))
        .where(
            Item.agency_id == agency_id,
            Item.captured_from >= from_at - NEAR,
            Claim.field == "recording",
            Claim.source == str(ClaimSource.SERVER),
            Claim.value.startswith("session:"),
            ~tied.exists(),
        )
        .distinct()
    )
    if to_at is not None:
        query = query.where(Item.captured_from <= to_at + NEAR)
    return list(session.scalars(query))


def sessions_by_id(session: Session, agency_id: UUID, session_ids: Collection[UUID]) -> list[RoomSession]:
    """Sessions of these ids."""
    query = select(RoomSession).where(RoomSession.agency_id == agency_id, RoomSession.id.in_(session_ids))
    return list(session.scalars(query))


def markers_of(
    session: Session, agency_id: UUID, session_ids: Collection[UUID], within: tuple[datetime, datetime]
) -> list[SessionNote]:
    """What people marked in these sessions from an instant on and before another, oldest first."""
    query = select(SessionNote).where(
        SessionNote.agency_id == agency_id,
        SessionNote.session_id.in_(session_ids),
        SessionNote.kind == str(NoteKind.MARKER),
        SessionNote.at >= within[0],
        SessionNote.at < within[1],
    )
    return list(session.scalars(query.order_by(SessionNote.at, SessionNote.id)))


def note_by_key(session: Session, agency_id: UUID, session_id: UUID, client_key: UUID) -> SessionNote | None:
    """The note that was made with that key, if the session has it."""
    return session.scalars(
        select(SessionNote).where(
            SessionNote.agency_id == agency_id,
            SessionNote.session_id == session_id,
            SessionNote.client_key == client_key,
        )
    ).one_or_none()


def notes_of(session: Session, agency_id: UUID, session_id: UUID) -> list[SessionNote]:
    """What people noted, oldest first."""
    query = select(SessionNote).where(
        SessionNote.agency_id == agency_id, SessionNote.session_id == session_id
    )
    return list(session.scalars(query.order_by(SessionNote.at, SessionNote.id)))


def pauses_of(session: Session, agency_id: UUID, session_id: UUID) -> list[SessionNote]:
    """Where people paused it and went on, oldest first."""
    query = select(SessionNote).where(
        SessionNote.agency_id == agency_id,
        SessionNote.session_id == session_id,
        SessionNote.kind.in_((str(NoteKind.PAUSE), str(NoteKind.RESUME))),
    )
    return list(session.scalars(query.order_by(SessionNote.at, SessionNote.id)))
