"""Sessions of interview rooms: begun, noted, paused and ended by people; their files tied to them.

Each change is a row and a custody leaf in the caller's transaction, with the session's row held, so that of
two people who press at once the second sees what the first did. What a session is, is `evidence.session`.

A file is noted once, however often it is handed in: by the key of its reception. It is never refused: one
that turns up after the seal is noted as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy.orm import Session

from config.rooms import RoomSettings
from evidence.breaks import ENDED, Break, Happened, Part, break_log, place, touches
from evidence.case import normalise_case_no
from evidence.clock import from_micros, rfc3339, to_micros
from evidence.conduct import Point, points_of
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound
from evidence.ids import new_id
from evidence.item import Binding
from evidence.kinds import ClaimSource, GapReason, SourceKind
from evidence.session import Facts, NoteKind, State, begin_at, line, move
from ingest import binding, roster
from ingest.facts import Statement
from ingest.recorder.noting import add_note, held, known_note, leaf, require
from media.live.journal import read
from storage.db import cases, custody, items, sessions
from storage.db.custody import Happening
from storage.db.room_tables import RoomSession, SessionNote, SessionPart
from storage.db.session_masks import said_of
from storage.db.tables import Agency, Claim, Item
from storage.hiding import hide_in

if TYPE_CHECKING:
    from ingest.recorder.stream import Finished

CLOCK = "server"
"""Whose clock a recorder's times are by."""
FILLED = {"place": ("captured_place", "place"), "object_of_proof": ("object_of_proof", "object_of_proof")}
"""Facts of a session that are facts of its items: the item's field, and the claim's."""


@dataclass(frozen=True)
class Told:
    """A session with everything that belongs to it."""

    row: RoomSession
    facts: Facts
    parts: list[SessionPart]
    notes: list[SessionNote]
    breaks: list[Break]


def start(
    session: Session,
    agency: Agency,
    room: RoomSettings,
    *,
    facts: Mapping[str, Any],
    started_at: datetime | None = None,
    actor: str,
    started_by: str | None = None,
    now: datetime,
) -> RoomSession:
    """Begin a session now, or as far back as the room keeps what was recorded beforehand.

    Args:
        started_by: Whose session it is, where that is another than who begins it: who planned it.

    Raises:
        InvalidInput: A fact that is none, or a beginning the room does not keep.
        Conflict: The room has an open session (``session_open``), or an earlier one lasted until after the
            beginning that is claimed (``session_overlaps``).
    """
    stated = Facts.from_json({"place": room.place or room.name, **facts})
    begins = begin_at(started_at, now, room.pre_record_s)
    for other in sessions.open_sessions(session, agency.id, room.room_no):
        raise _open(room.room_no, other.id)
    if begins < now:
        for other in sessions.sessions_over(session, agency.id, room.room_no, begins, now):
            raise Conflict(
                f"room {room.room_no}: expected no session since {rfc3339(begins)}, found one that lasted "
                "longer; claim from its end",
                code="session_overlaps",
                session=str(other.id),
                ended_at=rfc3339(other.ended_at) if other.ended_at else "",
            )
    row = RoomSession(
        id=new_id(),
        agency_id=agency.id,
        room_no=room.room_no,
        room_name=room.name,
        device_no=room.recorded_as,
        streams=[stream.name for stream in room.streams],
        state=str(State.OPEN),
        case_id=case_of(session, agency, stated),
        facts=stated.to_json(),
        requested_at=now,
        started_at=begins,
        started_by=started_by or actor,
        points=[point.to_json() for point in _points(room)],
    )
    told = {
        "room_no": row.room_no,
        "started_at": rfc3339(begins),
        "claimed": begins < now,
        "streams": row.streams,
        "missing": stated.missing(),
    }
    with roster.unless_taken(session, _open(room.room_no, None)):
        row.leaf_id = leaf(
            session, agency, row, Action.ROOM_SESSION_STARTED, told, actor, now, private={"facts": row.facts}
        )
        session.add(row)
    return row


def stop(session: Session, agency: Agency, session_id: UUID, *, actor: str, now: datetime) -> RoomSession:
    """End a session; one that is paused ends in its pause.

    Raises:
        NotFound: There is none.
        Conflict: It has ended (``session_state``).
    """
    row = held(session, agency, session_id, State.OPEN)
    row.state = str(move(State(row.state), State.ENDED))
    # A clock that was set back makes no session of negative length.
    row.ended_at = max(now, row.started_at)
    row.ended_by, row.paused_since = actor, None
    facts = {"room_no": row.room_no, "started_at": rfc3339(row.started_at), "ended_at": rfc3339(row.ended_at)}
    leaf(session, agency, row, Action.ROOM_SESSION_ENDED, facts, actor, now)
    return row


def mark(
    session: Session,
    agency: Agency,
    session_id: UUID,
    text: str,
    *,
    key: UUID | None = None,
    actor: str,
    now: datetime,
) -> SessionNote:
    """Note something at this moment.

    Args:
        key: Made by whoever asks. Asked again with the same, also later, it is the note of the first time.

    Raises:
        InvalidInput: No line.
        Conflict: The session has ended (``session_state``), or the key is another note's (``note_key_used``).
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    known = known_note(session, agency, row, key, NoteKind.MARKER, line(text, "text"), actor)
    if known is not None:
        return known
    require(row, State.OPEN)
    return add_note(
        session, agency, row, Action.ROOM_SESSION_MARKED, NoteKind.MARKER, text, actor=actor, now=now, key=key
    )


def pause(
    session: Session,
    agency: Agency,
    session_id: UUID,
    reason: GapReason,
    text: str,
    *,
    actor: str,
    now: datetime,
) -> SessionNote:
    """Ask that nothing be recorded from now on, for a reason.

    Raises:
        InvalidInput: No words.
        Conflict: The session has ended (``session_state``) or is paused (``session_paused``).
    """
    row = held(session, agency, session_id, State.OPEN)
    if row.paused_since is not None:
        raise Conflict(f"session {row.id}: expected one that runs, found it paused", code="session_paused")
    row.paused_since = now
    return add_note(
        session, agency, row, Action.ROOM_SESSION_PAUSED, NoteKind.PAUSE, text,
        actor=actor, now=now, reason=reason,
    )  # fmt: skip


def resume(session: Session, agency: Agency, session_id: UUID, *, actor: str, now: datetime) -> SessionNote:
    """End a pause.

    Raises:
        Conflict: The session has ended (``session_state``) or is not paused (``session_not_paused``).
    """
    row = held(session, agency, session_id, State.OPEN)
    if row.paused_since is None:
        raise Conflict(f"session {row.id}: expected it paused, found it runs", code="session_not_paused")
    row.paused_since = None
    return add_note(
        session, agency, row, Action.ROOM_SESSION_RESUMED, NoteKind.RESUME, None, actor=actor, now=now
    )


def state_facts(
    session: Session,
    agency: Agency,
    session_id: UUID,
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
) -> RoomSession:
    """State facts, anew or for the first time; what items of the session lack of them is filled in.

    Raises:
        InvalidInput: Nothing was stated, or what is no fact.
        Conflict: The session is sealed (``session_state``).
    """
    if not changes:
        raise InvalidInput("facts: expected at least one, found none", code="session_fact")
    row = held(session, agency, session_id, State.OPEN, State.ENDED)
    stated = Facts.from_json(row.facts).changed(changes)
    before, row.facts = row.facts, stated.to_json()
    row.case_id = case_of(session, agency, stated)
    changed = {name: row.facts[name] for name in sorted(changes) if row.facts[name] != before[name]}
    add_note(
        session, agency, row, Action.ROOM_SESSION_FACTS_SET, NoteKind.FACTS,
        json.dumps(changed, ensure_ascii=False, sort_keys=True), actor=actor, now=now,
        facts={"facts": sorted(changed), "missing": stated.missing()},
    )  # fmt: skip
    for item_id in sorted({part.item_id for part in sessions.parts_of(session, agency.id, row.id)}):
        _fill(session, agency, row, stated, item_id, actor, now)
    return row


def give_reason(
    session: Session,
    agency: Agency,
    session_id: UUID,
    *,
    stream: str,
    from_at: datetime,
    to_at: datetime,
    reason: GapReason,
    text: str,
    actor: str,
    now: datetime,
) -> SessionNote:
    """State why there is a break in a stream (R2, L15): one that is known by now, whatever is found later.

    Raises:
        InvalidInput: No words.
        NotFound: Nothing of that stream is missing there (``break_unknown``).
        Conflict: The session is sealed (``session_state``).
    """
    row = held(session, agency, session_id, State.OPEN, State.ENDED)
    from_us, to_us = to_micros(from_at), to_micros(to_at)
    touched = [
        each
        for each in tell(session, agency.id, row).breaks
        if each.is_missing and each.stream == stream and touches(each, from_us, to_us)
    ]
    if not touched:
        raise NotFound(
            f"break: expected one of the session's break log, found none of {stream[:16]} there; look at it",
            code="break_unknown",
        )
    # A clock that was set back since does not make it older than what it is about.
    now = max(now, *(from_micros(each.known_us) for each in touched))
    return add_note(
        session, agency, row, Action.ROOM_SESSION_REASON_GIVEN, NoteKind.REASON, text, actor=actor, now=now,
        reason=reason, stream=stream, from_at=from_at, to_at=to_at,
    )  # fmt: skip


def note_part(
    session: Session,
    agency: Agency,
    room_session: RoomSession,
    finished: Finished,
    item_id: UUID,
    now: datetime,
) -> None:
    """Tie a file to a session; the same file again changes nothing.

    The file's run is still there: its journal tells where in the file what happened.
    """
    row = sessions.session_by_id(session, agency.id, room_session.id, lock=True)
    if sessions.part_by_key(session, agency.id, row.id, finished.key) is not None:
        return
    part = SessionPart(
        id=new_id(),
        agency_id=agency.id,
        session_id=row.id,
        item_id=item_id,
        reception_key=finished.key,
        stream=finished.stream,
        run=finished.run,
        file_no=finished.number,
        sequence_no=sessions.next_sequence_no(session, agency.id, row.id, finished.stream),
        from_at=from_micros(finished.from_utc_us),
        to_at=from_micros(finished.to_utc_us),
        open_us=finished.open_us,
        media_us=finished.duration_us,
        turns=[each.to_json() for each in _happened(finished)],
        why=finished.why,
        noted_at=now,
    )
    facts = {
        "item": str(item_id),
        "sha256": finished.sha256.hex(),
        "stream": part.stream,
        "sequence_no": part.sequence_no,
        "from_at": rfc3339(part.from_at),
        "to_at": rfc3339(part.to_at),
        "after_seal": row.state == State.SEALED,
    }
    part.leaf_id = leaf(session, agency, row, Action.ROOM_SESSION_PART_NOTED, facts, "system", now)
    session.add(part)
    session.flush()
    # In custody before it was tied, something may be made of it without a mask set since.
    hide_in(session, agency, item_id, "system", now)


def claims_of(
    session: Session, agency: Agency, room_session: RoomSession, finished: Finished
) -> tuple[Statement, ...]:
    """What is said of a file because it is of a session: by the server when, by people what it is about."""
    known = sessions.part_by_key(session, agency.id, room_session.id, finished.key)
    place_no = (
        known.sequence_no
        if known is not None
        else sessions.next_sequence_no(session, agency.id, room_session.id, finished.stream)
    )
    stated = Facts.from_json(room_session.facts)
    by_server = {
        "device_no": room_session.device_no,
        "source_kind": str(SourceKind.INTERVIEW_ROOM),
        "recording": f"session:{room_session.id}:{finished.stream}",
        "sequence_no": str(place_no),
    }
    times = {
        "captured_from": rfc3339(from_micros(finished.from_utc_us)),
        "captured_to": rfc3339(from_micros(finished.to_utc_us)),
    }
    by_people = [
        ("case_no", stated.case_no),
        ("place", stated.place),
        *(("officer_no", number) for number in stated.officers),
        ("object_of_proof", stated.object_of_proof),
    ]
    return (
        *(Statement(name, value, ClaimSource.SERVER) for name, value in by_server.items()),
        *(Statement(name, value, ClaimSource.SERVER, CLOCK) for name, value in times.items()),
        *(Statement(name, value, ClaimSource.PERSON) for name, value in by_people if value),
    )


def tell(session: Session, agency_id: UUID, row: RoomSession) -> Told:
    """A session with its files, notes and breaks."""
    parts = sessions.parts_of(session, agency_id, row.id)
    notes = sessions.notes_of(session, agency_id, row.id)
    breaks = break_log(
        to_micros(row.started_at),
        None if row.ended_at is None else to_micros(row.ended_at),
        [_part(part) for part in parts],
        [said_of(note) for note in notes],
        streams=row.streams,
        is_complete=row.complete_at is not None,
    )
    return Told(row, Facts.from_json(row.facts), parts, notes, breaks)


def _happened(finished: Finished) -> list[Happened]:
    said, _ = read(finished.folder)
    about = next((one for one in said if one["kind"] == "file" and one["file"] == finished.number), {})
    found = place(
        finished.turns,
        about,
        from_us=finished.from_utc_us,
        to_us=finished.to_utc_us,
        duration_us=finished.duration_us,
    )
    if finished.why == ENDED:
        whys = [str(one["why"]) for one in said if one["kind"] == ENDED]
        found += [Happened(ENDED, finished.to_utc_us, finished.to_utc_us, why=why) for why in whys[-1:]]
    return found


def _part(row: SessionPart) -> Part:
    return Part(
        row.stream,
        row.run,
        row.file_no,
        to_micros(row.from_at),
        to_micros(row.to_at),
        row.why,
        tuple(Happened.from_json(each) for each in row.turns),
        to_micros(row.noted_at),
    )


def _open(room_no: str, session_id: UUID | None) -> Conflict:
    return Conflict(
        f"room {room_no}: expected no open session, found one; end it, or go on with it",
        code="session_open",
        session=str(session_id) if session_id else "",
    )


def _points(room: RoomSettings) -> tuple[Point, ...]:
    return points_of(room.session_kind, [Point(own.code, own.zh, own.en) for own in room.checklist])


def case_of(session: Session, agency: Agency, facts: Facts) -> UUID | None:
    """The case of the number stated, where the register has it; another number is kept as stated."""
    if facts.case_no is None:
        return None
    case = cases.case_by_key(session, agency.id, normalise_case_no(facts.case_no))
    return case.id if case is not None else None


def _fill(
    session: Session,
    agency: Agency,
    row: RoomSession,
    stated: Facts,
    item_id: UUID,
    actor: str,
    now: datetime,
) -> None:
    """Give an item what it lacks of the session's facts, and the case unless it is bound to one."""
    item = items.item_by_id(session, agency.id, item_id, lock=True)
    said: dict[str, tuple[str, str]] = {}
    for name, (column, field) in FILLED.items():
        value = getattr(stated, name)
        if value and not getattr(item, column):
            said[column] = (field, value)
    if stated.officers and not item.collector:
        said["collector"] = ("officer_no", stated.officers[0])
    for column, (field, value) in said.items():
        setattr(item, column, value)
        session.add(
            Claim(
                agency_id=agency.id, item_id=item.id, field=field, value=value,
                source=str(ClaimSource.PERSON), clock=None, made_at=now,
            )
        )  # fmt: skip
    if said:
        told = Happening(
            Action.ITEM_FACTS_SET,
            "item",
            str(item.id),
            actor,
            {"facts": sorted(said), "session": str(row.id)},
            {column: value for column, (_, value) in said.items()},
        )
        custody.record(session, agency, told, now)
    _bind(session, agency, row, item, actor, now)


def _bind(session: Session, agency: Agency, row: RoomSession, item: Item, actor: str, now: datetime) -> None:
    if row.case_id is None:
        return
    tied = cases.bindings_of(session, agency.id, item.id)
    if any(each.state == Binding.BOUND for each in tied):
        return
    case = cases.case_by_id(session, agency.id, row.case_id)
    binding.bind(session, agency, item, case, author=actor, reason="case of its session", now=now)
