"""How a session of a room is changed: its row held, a note appended, a leaf in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict
from evidence.ids import new_id
from evidence.kinds import GapReason
from evidence.session import NoteKind, State, line
from storage.db import custody, sessions
from storage.db.custody import Happening
from storage.db.room_tables import RoomSession, SessionNote
from storage.db.tables import Agency

SUBJECT = "room_session"


def held(session: Session, agency: Agency, session_id: UUID, *allowed: State) -> RoomSession:
    """The session, locked for a change.

    Raises:
        NotFound: There is none.
        Conflict: It is in none of these states (``session_state``).
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    require(row, *allowed)
    return row


def require(row: RoomSession, *allowed: State) -> None:
    """Raise unless the session is in one of these states.

    Raises:
        Conflict: It is not (``session_state``).
    """
    if State(row.state) not in allowed:
        raise Conflict(
            f"session {row.id}: expected it {' or '.join(allowed)}, found it {row.state}",
            code="session_state",
            current=row.state,
        )


def known_note(
    session: Session,
    agency: Agency,
    row: RoomSession,
    key: UUID | None,
    kind: NoteKind,
    words: str,
    actor: str,
    *,
    point: str | None = None,
    shown_at: datetime | None = None,
) -> SessionNote | None:
    """The note that was made with that key before; None: there is none.

    Args:
        shown_at: When it is shown, as far as whoever asks says so; None says nothing of it.

    Raises:
        Conflict: It says something else, or another said it (``note_key_used``).
    """
    known = sessions.note_by_key(session, agency.id, row.id, key) if key is not None else None
    if known is not None and (
        (known.kind, known.text, known.by, known.point) != (kind, words, actor, point)
        or shown_at not in (None, known.shown_at)
    ):
        raise Conflict(
            f"{kind}: expected a key of its own, found that of another note of session {row.id}; "
            "make a new key for a new note",
            code="note_key_used",
        )
    return known


def add_note(
    session: Session,
    agency: Agency,
    row: RoomSession,
    action: Action,
    kind: NoteKind,
    text: str | None,
    *,
    actor: str,
    now: datetime,
    key: UUID | None = None,
    reason: GapReason | None = None,
    stream: str | None = None,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    point: str | None = None,
    shown_at: datetime | None = None,
    facts: Mapping[str, Any] | None = None,
) -> SessionNote:
    """A note and its leaf; the session is held."""
    words = "" if not text else text if kind is NoteKind.FACTS else line(text, "text")
    note = SessionNote(
        id=new_id(),
        agency_id=agency.id,
        session_id=row.id,
        kind=str(kind),
        at=now,
        by=actor,
        text=words,
        reason=str(reason) if reason else None,
        stream=stream,
        from_at=from_at,
        to_at=to_at,
        point=point,
        shown_at=shown_at,
        client_key=key,
    )
    told = {"note": str(note.id), **(facts or {})}
    if reason is not None:
        told["reason"] = str(reason)
    if stream is not None and from_at is not None and to_at is not None:
        told |= {"stream": stream, "from_at": rfc3339(from_at), "to_at": rfc3339(to_at)}
    note.leaf_id = leaf(
        session, agency, row, action, told, actor, now, private={"text": words} if words else None
    )
    session.add(note)
    session.flush()
    return note


def leaf(
    session: Session,
    agency: Agency,
    row: RoomSession,
    action: Action,
    facts: Mapping[str, Any],
    actor: str,
    now: datetime,
    private: Mapping[str, Any] | None = None,
) -> UUID:
    """A custody leaf about the session."""
    happening = Happening(action, SUBJECT, str(row.id), actor, facts, private)
    return custody.record(session, agency, happening, now)
