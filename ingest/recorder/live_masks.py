"""A person says what of a session may be watched live without the right to originals, or takes that back.

Each is a row and a custody leaf in the caller's transaction, with the session's row held. Rows are counted
and never changed; what follows from them is `evidence.live_masks`. The recording is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from evidence import live_masks as rules
from evidence.custody import Action
from evidence.errors import Conflict
from evidence.ids import new_id
from evidence.live_masks import Cover
from evidence.session import line
from storage.db import custody, sessions
from storage.db.custody import Happening
from storage.db.live_masks import live_masks_of
from storage.db.room_tables import LiveMaskRow
from storage.db.tables import Agency

SUBJECT = "room_session"
MOST = 200
"""Of one session; an encode is told of all of them twice a second. Lifting is always possible."""


def set_live_mask(
    session: Session,
    agency: Agency,
    session_id: UUID,
    covers: Mapping[str, Cover],
    text: str,
    *,
    actor: str,
    now: datetime,
) -> LiveMaskRow:
    """Have these streams shown, covered so, from now on; it takes the place of the one before.

    Raises:
        InvalidInput: No words, or a cover that is none (``live_mask_invalid``).
        Conflict: The session is over (``live_mask_over``), or has as many as it may (``live_masks_full``).
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    rules.check(covers, [str(each) for each in row.streams])
    if row.ended_at is not None:
        raise Conflict(
            f"session {row.id}: expected one that runs, found it over; ask for its items",
            code="live_mask_over",
        )
    known = live_masks_of(session, agency.id, row.id)
    if len(known) >= MOST:
        raise Conflict(
            f"session {row.id}: expected fewer than {MOST} live masks, found {len(known)}; "
            "keep the one in force",
            code="live_masks_full",
        )
    return _add(session, agency, row.id, known, covers, text, actor, now)


def lift_live_mask(
    session: Session, agency: Agency, session_id: UUID, text: str, *, actor: str, now: datetime
) -> LiveMaskRow:
    """Have nothing shown any more, of what was recorded either.

    Raises:
        Conflict: None is in force (``live_mask_lifted``).
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    known = live_masks_of(session, agency.id, row.id)
    if not known or not known[-1].covers:
        raise Conflict(
            f"session {row.id}: expected a live mask in force, found none; nothing is shown",
            code="live_mask_lifted",
        )
    return _add(session, agency, row.id, known, {}, text, actor, now)


def _add(
    session: Session,
    agency: Agency,
    session_id: UUID,
    known: list[LiveMaskRow],
    covers: Mapping[str, Cover],
    text: str,
    actor: str,
    now: datetime,
) -> LiveMaskRow:
    made = LiveMaskRow(
        id=new_id(), agency_id=agency.id, session_id=session_id,
        number=known[-1].number + 1 if known else 1,
        covers={name: each.to_json() for name, each in covers.items()},
        text=line(text, "statement"), by=actor, made_at=now,
    )  # fmt: skip
    action = Action.ROOM_SESSION_LIVE_MASKED if covers else Action.ROOM_SESSION_LIVE_MASK_LIFTED
    facts = {"live_mask": str(made.id), "number": made.number, "covers": made.covers}
    happening = Happening(action, SUBJECT, str(session_id), actor, facts, {"text": made.text})
    made.leaf_id = custody.record(session, agency, happening, now)
    session.add(made)
    session.flush()
    return made
