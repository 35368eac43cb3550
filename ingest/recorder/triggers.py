"""What the recorder of a room asks by itself: a button, a contact or its menu starts, pauses, marks and ends.

The rules:

1. A key is of one room, and does nothing else. What it did says the key as its actor, never a person.
2. A call wants a state. Where the room has it already nothing changes, and the answer says so: a button that
   is pressed twice does no harm. A marker is made at each call.
3. A call with a key of its own is done once, however late it is repeated: a start that was sent again after
   the end begins nothing.
4. Who a session is of that a recorder began, nobody knows until facts say: `evidence.access`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from config.rooms import RoomSettings
from evidence.custody import Action
from evidence.errors import Conflict
from evidence.ids import new_id
from evidence.kinds import GapReason
from evidence.session import TRIGGER_LABEL, TriggerAction, line
from ingest.recorder import sessions
from storage.db import custody, triggers
from storage.db import sessions as rows
from storage.db.custody import Happening
from storage.db.room_tables import RoomSession, TriggerCall, TriggerKey
from storage.db.tables import Agency

SUBJECT = "trigger"
SAID = "录像机按键 by the recorder"
"""What a pause or a marker says whose recorder said nothing."""


@dataclass(frozen=True)
class Called:
    """What a call came to."""

    session_id: UUID | None
    """Session it was about; None: none is open."""
    changed: bool


def issue(
    session: Session, agency: Agency, room: RoomSettings, name: str, *, actor: str, now: datetime
) -> tuple[str, TriggerKey]:
    """A key for the recorder of a room, shown once, and its row.

    Raises:
        InvalidInput: The name is no line.
    """
    key, row = triggers.add_key(
        session, agency.id, room_no=room.room_no, name=line(name, "name", 64), now=now
    )
    _record(session, agency, Action.TRIGGER_ISSUED, row, actor, now)
    return key, row


def revoke(session: Session, agency: Agency, key_id: UUID, *, actor: str, now: datetime) -> TriggerKey:
    """End a key at once; ending it again changes nothing.

    Raises:
        NotFound: The agency has none.
    """
    row = triggers.key_by_id(session, agency.id, key_id, lock=True)
    if row.revoked_at is None:
        row.revoked_at = now
        _record(session, agency, Action.TRIGGER_REVOKED, row, actor, now)
    return row


def call(
    session: Session,
    agency: Agency,
    room: RoomSettings,
    key_id: UUID,
    action: TriggerAction,
    *,
    call_key: str | None = None,
    reason: GapReason = GapReason.OTHER,
    text: str | None = None,
    now: datetime,
) -> Called:
    """Do what a recorder asks.

    Args:
        call_key: Made by the recorder. Asked again with the same, it is what the first came to.
        reason: Of a pause.
        text: Of a pause or a marker.

    Raises:
        InvalidInput: The text is no line.
        NotAuthenticated: The key was revoked meanwhile (``trigger_unknown``).
        Conflict: The key was of another action (``trigger_key_used``), or somebody starts a session at this
            moment (``session_open``).
    """
    # The same call twice at once: the second waits here, and finds the first. So does one that is revoked.
    row = triggers.key_by_id(session, agency.id, key_id, lock=True)
    if row.revoked_at is not None:
        raise triggers.none_in_force()
    known = triggers.call_by_key(session, agency.id, row.id, call_key) if call_key is not None else None
    if known is not None:
        if known.action != action:
            raise Conflict(
                f"trigger: expected a key of its own for {action}, found that of an earlier {known.action}; "
                "make a new key for a new call",
                code="trigger_key_used",
            )
        return Called(known.session_id, known.changed)
    label = f"{TRIGGER_LABEL}{row.id}"
    found = next(iter(rows.open_sessions(session, agency.id, room.room_no)), None)
    if found is not None:
        found = rows.session_by_id(session, agency.id, found.id, lock=True)
    told = line(text, "text") if text is not None else SAID
    session_id, changed = _do(session, agency, room, found, action, label, reason, told, now)
    if call_key is not None:
        session.add(
            TriggerCall(
                id=new_id(), agency_id=agency.id, trigger_id=row.id, call_key=call_key, action=str(action),
                session_id=session_id, changed=changed, at=now,
            )
        )  # fmt: skip
        session.flush()
    return Called(session_id, changed)


def _do(
    session: Session,
    agency: Agency,
    room: RoomSettings,
    found: RoomSession | None,
    action: TriggerAction,
    label: str,
    reason: GapReason,
    text: str,
    now: datetime,
) -> tuple[UUID | None, bool]:
    if found is None or found.ended_at is not None:
        if action is not TriggerAction.START:
            return None, False
        return sessions.start(session, agency, room, facts={}, actor=label, now=now).id, True
    is_paused = found.paused_since is not None
    if action is TriggerAction.STOP:
        sessions.stop(session, agency, found.id, actor=label, now=now)
    elif action is TriggerAction.MARK:
        sessions.mark(session, agency, found.id, text, actor=label, now=now)
    elif action is TriggerAction.PAUSE and not is_paused:
        sessions.pause(session, agency, found.id, reason, text, actor=label, now=now)
    elif action is TriggerAction.RESUME and is_paused:
        sessions.resume(session, agency, found.id, actor=label, now=now)
    else:
        return found.id, False
    return found.id, True


def _record(
    session: Session, agency: Agency, action: Action, row: TriggerKey, actor: str, now: datetime
) -> None:
    facts = {"room_no": row.room_no}
    custody.record(
        session,
        agency,
        Happening(action, SUBJECT, str(row.id), actor, facts, private={"name": row.name}),
        now,
    )
