"""Which recorders' folders may still have files of a session, and when the last of them has none.

A session that ended is complete once every folder it was recorded into said so. Until then its gaps are
outstanding, and it is sealed only where somebody states why it is not waited for. A folder is named as soon
as its host knows of the session, and named no more when nothing of it is there; one that never comes back
stays named. A session that nobody saw last is complete once the host that records its room has none of it.
"""

from __future__ import annotations

import socket
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.ids import new_id
from ingest.recorder.noting import SUBJECT
from storage.db import custody, sessions
from storage.db.custody import Happening
from storage.db.room_tables import RoomSession
from storage.db.tables import Agency
from storage.objects.durable import write_durably

NAME = "folder.txt"
"""No room can have that number."""


def name_of(folder: Path) -> str:
    """The name of a host's folder of recordings, which stays when the host is given another.

    Raises:
        OSError: It cannot be read or written.
    """
    path = folder / NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, f"{socket.gethostname()[:64]}-{new_id().hex[-8:]}".encode())
    return path.read_text(encoding="utf-8")


def is_due(row: RoomSession, name: str, *, is_ours: bool) -> bool:
    """Whether a folder is to say that it has nothing of a session any more, once that is so."""
    return row.ended_at is not None and (name in row.held_by or (is_ours and not row.held_by))


def begin_to_hold(session: Session, agency: Agency, session_id: UUID, name: str, now: datetime) -> None:
    """A folder has files of a session from now on; said again changes nothing."""
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    if name not in row.held_by:
        row.held_by = [*row.held_by, name]
        _record(session, agency, row, Action.ROOM_SESSION_RECORDED_AT, name, now)


def hold_no_more(session: Session, agency: Agency, session_id: UUID, name: str, now: datetime) -> None:
    """All that a folder had of a session that ended is in custody; said again changes nothing."""
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    if not is_due(row, name, is_ours=True) or row.complete_at is not None:
        return
    row.held_by = [each for each in row.held_by if each != name]
    row.complete_at = None if row.held_by else now
    _record(session, agency, row, Action.ROOM_SESSION_HANDED_OVER, name, now)


def _record(
    session: Session, agency: Agency, row: RoomSession, action: Action, name: str, now: datetime
) -> None:
    facts = {"room_no": row.room_no, "folder": name, "held_by": row.held_by}
    custody.record(session, agency, Happening(action, SUBJECT, str(row.id), "system", facts), now)
