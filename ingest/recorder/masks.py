"""A person hides a stretch of a session in whatever is made of it, or ends what lasts until then.

Each is a row and a custody leaf in the caller's transaction, with the session's row held. The original is not
touched; what is already made of it is for whoever calls (`storage.hiding`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput
from evidence.ids import new_id
from evidence.masks import GIVEN, Hides, Reason, check_stretch
from evidence.session import line
from storage.db import custody, session_masks, sessions
from storage.db.custody import Happening
from storage.db.room_tables import SessionMask
from storage.db.tables import Agency

SUBJECT = "room_session"
MOST = 200
"""Of one session; each is a span in the plan of every file it touches."""


def mask(
    session: Session,
    agency: Agency,
    session_id: UUID,
    hides: Hides,
    reason: Reason,
    text: str,
    *,
    from_at: datetime | None = None,
    to_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> SessionMask:
    """Hide a stretch of a session.

    Args:
        from_at: None is now.
        to_at: None lasts, until it is ended or the session is.

    Raises:
        InvalidInput: No words, a reason that is not a person's, or a stretch outside the session
            (``mask_stretch``).
        Conflict: It has as many as it may (``masks_full``).
    """
    if reason not in GIVEN:
        raise InvalidInput(f"reason: expected one of {', '.join(GIVEN)}, found {reason}; give another")
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    begins, ends = check_stretch(from_at, to_at, row.started_at, row.ended_at, now)
    if len(session_masks.masks_of(session, agency.id, [row.id])) >= MOST:
        raise Conflict(
            f"session {row.id}: expected fewer than {MOST} masks, found {MOST}; hide a longer stretch",
            code="masks_full",
        )
    made = SessionMask(
        id=new_id(), agency_id=agency.id, session_id=row.id, from_at=begins, to_at=ends, hides=str(hides),
        reason=str(reason), text=line(text, "text"), by=actor, made_at=now,
    )  # fmt: skip
    facts = {
        "mask": str(made.id), "hides": made.hides, "reason": made.reason, "from_at": rfc3339(begins),
        "to_at": rfc3339(ends) if ends is not None else None,
    }  # fmt: skip
    happening = Happening(Action.ROOM_SESSION_MASKED, SUBJECT, str(row.id), actor, facts, {"text": made.text})
    made.leaf_id = custody.record(session, agency, happening, now)
    session.add(made)
    session.flush()
    return made


def end(
    session: Session, agency: Agency, session_id: UUID, mask_id: UUID, *, actor: str, now: datetime
) -> SessionMask:
    """End a mask that lasts, at this moment.

    Raises:
        NotFound: The session has none of that id (``mask_not_found``).
        Conflict: It has an end (``mask_ended``).
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    found = session_masks.mask_by_id(session, agency.id, row.id, mask_id)
    if found.to_at is not None or row.ended_at is not None:
        raise Conflict(f"mask {mask_id}: expected one that lasts, found it ended", code="mask_ended")
    # A clock that was set back makes no stretch of negative length.
    found.to_at, found.ended_by = max(now, found.from_at + timedelta(milliseconds=1)), actor
    facts = {"mask": str(found.id), "to_at": rfc3339(found.to_at)}
    happening = Happening(Action.ROOM_SESSION_MASK_ENDED, SUBJECT, str(row.id), actor, facts)
    custody.record(session, agency, happening, now)
    session.flush()
    return found
