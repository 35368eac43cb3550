"""Planned sessions: made and withdrawn by people, begun and ended by whoever records the room.

Each change is a row and a custody leaf in the caller's transaction, with the plan's row held; that a plan
became a session is written with the session itself. The rules are `evidence.schedule`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from config.rooms import RoomSettings
from evidence.case import normalise_case_no
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict
from evidence.ids import new_id
from evidence.schedule import LATE_MS, PlanState, begins_at, check_window, shown, state_of
from evidence.session import Facts, State
from ingest.recorder import sessions
from ingest.recorder.rights import may_run
from storage.db import agencies, alarms, custody, planned_sessions
from storage.db import sessions as rows
from storage.db.custody import Happening
from storage.db.room_tables import PlannedSession, RoomSession
from storage.db.tables import Agency

SUBJECT = "planned_session"
UNKEPT_AFTER = timedelta(seconds=30)
PLAN_LABEL = "plan:"
"""How the label of a plan begins that is kept by itself; its id follows."""
WAITS = "plan_waits"
"""Code of the alarm that a plan is due and its room has the session of another."""
UNKEPT = "plan_unkept"
"""Code of the alarm that a plan is due and no host does anything about it."""
DUE = (WAITS, UNKEPT)
"""Codes of those that end when a plan begins, is withdrawn or missed."""
LATE_BEGUN = "plan_late"
"""Code of the alarm that a planned session began late."""
MISSED = "plan_missed"
"""Code of the alarm that a plan's end has passed and nothing had begun."""
OVERDUE = "plan_overdue"
"""Code of the alarm that a session goes on after its planned end."""


def plan(
    session: Session,
    agency: Agency,
    room: RoomSettings,
    *,
    starts_at: datetime,
    ends_at: datetime,
    time_zone: str,
    ends_itself: bool,
    facts: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> PlannedSession:
    """Have a session begin by itself.

    Raises:
        InvalidInput: A fact that is none, or times that cannot be kept (``plan_time``).
        Conflict: Another plan of the room has a moment of it (``plan_overlaps``).
    """
    check_window(starts_at, ends_at, now)
    stated = Facts.from_json(facts)
    # Two who plan at once: the second waits here, and sees what the first did.
    agencies.hold(session, agency)
    for other in planned_sessions.overlapping(session, agency.id, room.room_no, starts_at, ends_at):
        raise Conflict(
            f"room {room.room_no}: expected no plan from {shown(starts_at, time_zone)} to "
            f"{shown(ends_at, time_zone)}, found one from {shown(other.starts_at, time_zone)} to "
            f"{shown(other.ends_at, time_zone)}; withdraw that, or choose another time",
            code="plan_overlaps",
            plan=str(other.id),
        )
    row = PlannedSession(
        id=new_id(),
        agency_id=agency.id,
        room_no=room.room_no,
        starts_at=starts_at,
        ends_at=ends_at,
        time_zone=time_zone,
        ends_itself=ends_itself,
        case_id=sessions.case_of(session, agency, stated),
        facts=stated.to_json(),
        planned_by=actor,
        planned_at=now,
    )
    told = {
        "room_no": row.room_no,
        "starts_at": rfc3339(starts_at),
        "ends_at": rfc3339(ends_at),
        "ends_itself": ends_itself,
        "missing": missing_of(row, room),
    }
    row.leaf_id = _leaf(
        session, agency, row, Action.PLANNED_SESSION_MADE, told, actor, now, {"facts": row.facts}
    )
    session.add(row)
    session.flush()
    return row


def withdraw(session: Session, agency: Agency, plan_id: UUID, *, actor: str, now: datetime) -> PlannedSession:
    """Have it not begin; withdrawing it again changes nothing.

    Raises:
        NotFound: There is none.
        Conflict: It has become a session (``plan_begun``).
    """
    row = planned_sessions.plan_by_id(session, agency.id, plan_id, lock=True)
    if row.session_id is not None:
        raise Conflict(
            f"planned session {row.id}: expected one that has not begun, found it session {row.session_id}; "
            "end that",
            code="plan_begun",
            session=str(row.session_id),
        )
    if row.withdrawn_at is None:
        row.withdrawn_at, row.withdrawn_by = now, actor
        _leaf(session, agency, row, Action.PLANNED_SESSION_WITHDRAWN, {"room_no": row.room_no}, actor, now)
        _clear(session, agency, row, DUE, actor, now)
    return row


def keep(session: Session, agency: Agency, room: RoomSettings, plan_id: UUID, *, now: datetime) -> None:
    """Do what is due about a plan: begin its session, tell that it cannot, end it, or tell that it goes on.

    Raises:
        Conflict: Somebody starts a session in the room at this moment; it is the one the next time.
    """
    row = planned_sessions.plan_by_id(session, agency.id, plan_id, lock=True)
    if row.withdrawn_at is not None or row.over_at is not None or now < row.starts_at:
        return
    if row.session_id is not None and not _is_free_again(session, agency, row, row.session_id, now):
        return
    if now >= row.ends_at:
        _miss(session, agency, row, now)
    else:
        _begin(session, agency, room, row, now)


def tell_unkept(session: Session, agency: Agency, now: datetime) -> int:
    """Have people told of plans that are due and that no host looks after; how many they did not know of.

    One whose end has passed meanwhile is missed, as its host would have found.
    """
    told = 0
    due_at = now - UNKEPT_AFTER
    for plan_id in [row.id for row in planned_sessions.unkept(session, agency.id, due_at)]:
        # Its host may have come back meanwhile: what it did stands.
        row = planned_sessions.plan_by_id(session, agency.id, plan_id, lock=True)
        if row.session_id is not None or row.withdrawn_at is not None or row.missed_at is not None:
            continue
        if now >= row.ends_at:
            _miss(session, agency, row, now)
            told += 1
            continue
        if alarms.standing_about(session, agency.id, SUBJECT, str(row.id), WAITS) is not None:
            continue
        message = (
            f"room {row.room_no}: expected a host to begin the session planned for {_due(row)}, "
            "found none that does; see whether `liuhen ingest` runs with this room, or start it by hand"
        )
        told += _tell(session, agency, row, UNKEPT, message, {}, now)
    return told


def missing_of(row: PlannedSession, room: RoomSettings | None) -> list[str]:
    """Facts that nobody stated yet (R6, R11), as they would be missing at the start."""
    place = {} if room is None else {"place": room.place or room.name}
    return Facts.from_json({**place, **_known(row)}).missing()


def state_at(row: PlannedSession, now: datetime) -> PlanState:
    """Where a plan stands."""
    return state_of(
        row.starts_at,
        row.ends_at,
        now,
        is_begun=row.session_id is not None,
        is_over=row.over_at is not None,
        is_missed=row.missed_at is not None,
        is_withdrawn=row.withdrawn_at is not None,
    )


def late_ms(row: PlannedSession, found: RoomSession) -> int:
    """How long after its time the session of a plan was begun; 0 where somebody began it before."""
    return max(0, _ms(found.requested_at, row.starts_at))


def _begin(session: Session, agency: Agency, room: RoomSettings, row: PlannedSession, now: datetime) -> None:
    label, found = f"{PLAN_LABEL}{row.id}", _running(session, agency, row.room_no)
    by_hand = found is not None
    if found is not None and not _is_it(session, agency, row, found):
        told = (
            f"room {row.room_no}: expected it free for the session planned for {_due(row)}, "
            f"found session {found.id} in it; end that, and the planned one begins"
        )
        _tell(session, agency, row, WAITS, told, {"session": str(found.id)}, now)
        return
    if found is None:
        last = rows.last_end(session, agency.id, row.room_no)
        found = sessions.start(
            session,
            agency,
            room,
            facts=_known(row),
            started_at=begins_at(row.starts_at, now, room.pre_record_s, last),
            actor=label,
            started_by=row.planned_by,
            now=now,
        )
    else:
        stated = Facts.from_json(found.facts).to_json()
        lacking = {name: value for name, value in _known(row).items() if not stated[name]}
        if lacking:
            sessions.state_facts(session, agency, found.id, lacking, actor=row.planned_by, now=now)
    found.planned_until = row.ends_at
    row.session_id, row.begun_at = found.id, now
    late = late_ms(row, found)
    facts = {
        "room_no": row.room_no,
        "session": str(found.id),
        "starts_at": rfc3339(row.starts_at),
        "started_at": rfc3339(found.started_at),
        "late_ms": late,
        "begun_by_hand": by_hand,
    }
    _leaf(session, agency, row, Action.PLANNED_SESSION_BEGUN, facts, label, now)
    _clear(session, agency, row, DUE, label, now)
    if late > LATE_MS:
        told = (
            f"room {row.room_no}: expected the session planned for {_due(row)} to begin then, "
            f"found it begun {late / 1000:.1f} s late, from {shown(found.started_at, row.time_zone)} on; see "
            "whether the room's host ran"
        )
        _tell(session, agency, row, LATE_BEGUN, told, {"session": str(found.id), "late_ms": late}, now)


def _running(session: Session, agency: Agency, room_no: str) -> RoomSession | None:
    """The session that runs in a room, held; None also where it ended while it was waited for."""
    for each in rows.open_sessions(session, agency.id, room_no):
        found = rows.session_by_id(session, agency.id, each.id, lock=True)
        return found if found.ended_at is None else None
    return None


def _is_it(session: Session, agency: Agency, row: PlannedSession, found: RoomSession) -> bool:
    """Whether a session that runs is the planned one: whoever planned may run it, no other has it."""
    if not may_run(session, agency.id, row.planned_by, found):
        return False
    if planned_sessions.plan_of_session(session, agency.id, found.id) is not None:
        return False
    numbers = {each for each in (row.facts["case_no"], found.facts["case_no"]) if each}
    return len({normalise_case_no(each) for each in numbers}) < 2


def _is_free_again(
    session: Session, agency: Agency, row: PlannedSession, session_id: UUID, now: datetime
) -> bool:
    """See to the end of a plan's session; whether the plan is without one again.

    What somebody else began is never ended here. Where it ends well before the planned end, it may have been
    another interview: the plan begins its own.
    """
    label, found = f"{PLAN_LABEL}{row.id}", rows.session_by_id(session, agency.id, session_id, lock=True)
    if found.state == State.OPEN and now < row.ends_at:
        return False
    is_own = _began(session, agency, label, found)
    if found.state == State.OPEN and row.ends_itself and is_own:
        sessions.stop(session, agency, session_id, actor=label, now=now)
    if found.ended_at is None:
        if row.end_told_at is None:
            row.end_told_at = now
            told = (
                f"room {row.room_no}: expected its session to end as planned, at "
                f"{shown(row.ends_at, row.time_zone)}, found it goes on, recorded; end it when it is over"
            )
            _tell(session, agency, row, OVERDUE, told, {"session": str(session_id)}, now)
        return False
    _clear(session, agency, row, (OVERDUE,), label, now)
    if is_own or _ms(row.ends_at, found.ended_at) <= LATE_MS:
        row.over_at = now
        return False
    row.session_id = row.begun_at = found.planned_until = None
    facts = {"room_no": row.room_no, "session": str(found.id), "ended_at": rfc3339(found.ended_at)}
    _leaf(session, agency, row, Action.PLANNED_SESSION_RELEASED, facts, label, now)
    return True


def _began(session: Session, agency: Agency, label: str, found: RoomSession) -> bool:
    """Whether it was a plan that began a session, and not a person or the room's recorder."""
    ((_, body),) = custody.bodies_of(session, agency.id, [found.leaf_id])
    return bool(json.loads(body)["actor"] == label)


def _miss(session: Session, agency: Agency, row: PlannedSession, now: datetime) -> None:
    if row.missed_at is not None:
        return
    row.missed_at = now
    told = (
        f"room {row.room_no}: expected the session planned for {_due(row)} to begin before its "
        "end, found that nothing had; see whether the room's host ran, and plan it anew"
    )
    _clear(session, agency, row, DUE, f"{PLAN_LABEL}{row.id}", now)
    _tell(session, agency, row, MISSED, told, {}, now)


def _due(row: PlannedSession) -> str:
    return shown(row.starts_at, row.time_zone)


def _known(row: PlannedSession) -> dict[str, Any]:
    return {name: value for name, value in row.facts.items() if value}


def _ms(later: datetime, earlier: datetime) -> int:
    return round((later - earlier).total_seconds() * 1000)


def _tell(
    session: Session,
    agency: Agency,
    row: PlannedSession,
    code: str,
    told: str,
    facts: Mapping[str, Any],
    now: datetime,
) -> bool:
    wanted = alarms.NewAlarm(code, SUBJECT, str(row.id), told, {"room_no": row.room_no, **facts})
    return alarms.raise_alarm(session, agency, wanted, actor=f"{PLAN_LABEL}{row.id}", now=now)


def _clear(
    session: Session, agency: Agency, row: PlannedSession, codes: Sequence[str], actor: str, now: datetime
) -> None:
    for code in codes:
        standing = alarms.standing_about(session, agency.id, SUBJECT, str(row.id), code)
        if standing is not None:
            alarms.clear(session, agency, standing, actor=actor, reason="已了结 it is over", now=now)


def _leaf(
    session: Session,
    agency: Agency,
    row: PlannedSession,
    action: Action,
    facts: Mapping[str, Any],
    actor: str,
    now: datetime,
    private: Mapping[str, Any] | None = None,
) -> UUID:
    return custody.record(
        session, agency, Happening(action, SUBJECT, str(row.id), actor, facts, private), now
    )
