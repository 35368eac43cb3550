"""The checklist of a session (R11): points noted as shown, or why not, and where in the recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from evidence import conduct
from evidence.clock import rfc3339, to_micros
from evidence.conduct import Lies, Noted, Place, Point
from evidence.custody import Action
from evidence.errors import NotFound
from evidence.session import NoteKind, State, line
from ingest.recorder.noting import add_note, held, known_note
from storage.db.room_tables import RoomSession, SessionNote, SessionPart
from storage.db.session_masks import said_of
from storage.db.tables import Agency


@dataclass(frozen=True)
class Checked:
    """A point of the checklist as it stands."""

    noted: Noted
    at: datetime | None
    """When it is shown; None: it is not."""
    offset_ms: int | None
    """The same after the beginning of the session."""
    places: tuple[Place, ...]
    """Where that is in each stream; empty while its files are not in, or where nothing was recorded."""


def note_shown(
    session: Session,
    agency: Agency,
    session_id: UUID,
    point: str,
    *,
    at: datetime | None = None,
    text: str | None = None,
    key: UUID | None = None,
    actor: str,
    now: datetime,
) -> SessionNote:
    """Note that a point is seen or heard at a moment; while the session runs, now unless told otherwise.

    Args:
        key: Made by whoever asks. Asked again with the same, it is the note of the first time.

    Raises:
        NotFound: The session's checklist has no such point (``point_unknown``).
        InvalidInput: A moment outside the session (``point_time``), or words that are no line.
        Conflict: The session is sealed (``session_state``), or the key is another note's (``note_key_used``).
    """
    row = held(session, agency, session_id, *State)
    _require_point(row, point)
    words = line(text, "text") if text is not None else ""
    known = known_note(session, agency, row, key, NoteKind.SHOWN, words, actor, point=point, shown_at=at)
    if known is not None:
        return known
    row = held(session, agency, session_id, State.OPEN, State.ENDED)
    moment = conduct.shown_at(at, now, row.started_at, row.ended_at)
    return add_note(
        session, agency, row, Action.ROOM_SESSION_POINT_NOTED, NoteKind.SHOWN, words, actor=actor, now=now,
        key=key, point=point, shown_at=moment,
        facts={"point": point, "shown": True, "shown_at": rfc3339(moment)},
    )  # fmt: skip


def note_not_shown(
    session: Session, agency: Agency, session_id: UUID, point: str, text: str, *, actor: str, now: datetime
) -> SessionNote:
    """State why a point is not in the recording; it takes back that it is.

    Raises:
        NotFound: The session's checklist has no such point (``point_unknown``).
        InvalidInput: No words.
        Conflict: The session is sealed (``session_state``).
    """
    row = held(session, agency, session_id, State.OPEN, State.ENDED)
    _require_point(row, point)
    return add_note(
        session, agency, row, Action.ROOM_SESSION_POINT_NOTED, NoteKind.NOT_SHOWN, line(text, "text"),
        actor=actor, now=now, point=point, facts={"point": point, "shown": False},
    )  # fmt: skip


def checklist(row: RoomSession, notes: Sequence[SessionNote], parts: Sequence[SessionPart]) -> list[Checked]:
    """The points of a session, in the order of its list, as they stand."""
    files = [
        Lies(part.stream, part.sequence_no, str(part.item_id), to_micros(part.from_at), to_micros(part.to_at))
        for part in parts
    ]
    points = [Point.from_json(each) for each in row.points]
    return [_checked(each, row, files) for each in conduct.noted(points, [said_of(note) for note in notes])]


def _checked(each: Noted, row: RoomSession, files: Sequence[Lies]) -> Checked:
    if each.note is None or each.note.shown_us is None:
        return Checked(each, None, None, ())
    at_us = each.note.shown_us
    offset_ms = (at_us - to_micros(row.started_at)) // 1000
    return Checked(each, conduct.moment(each.note), offset_ms, tuple(conduct.places(at_us, files)))


def _require_point(row: RoomSession, point: str) -> None:
    codes = [each["code"] for each in row.points]
    if point not in codes:
        raise NotFound(
            f"point {point[:40]!r}: expected one of {', '.join(codes)}, found none; see its checklist",
            code="point_unknown",
        )
