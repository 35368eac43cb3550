"""Bring what a session's people hid into the redaction plans of its files.

A mask becomes a muted span or hidden frames under its own id, so that it is brought in once, and what a
second person approved to be shown again stays so. A plan that already hides it is left as it is. Another
version hides more, and what was made from the one before is withdrawn at once (`docs/design/redaction.md`).

It is here because two who are strangers need it: whoever masks, and whoever ties a file to a session.
Sessions are held before items, by all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.canonical import canonical_json
from evidence.clock import to_micros
from evidence.custody import Action
from evidence.doubts import open_doubts
from evidence.item import Redaction, move
from evidence.kinds import ClaimSource, MediaKind
from evidence.masks import (
    SYSTEM,
    Hides,
    Mask,
    Placed,
    Reason,
    in_plan,
    media_span,
    outside,
    outside_span,
)
from storage.db import custody, items, jobs, session_masks, sessions
from storage.db.custody import Happening
from storage.db.doubts import note_doubts
from storage.db.jobs import Wanted
from storage.db.room_tables import RoomSession
from storage.db.tables import Agency, Derivative, Item, RedactionPlanRow

_Of = tuple[RoomSession, datetime, datetime, int | None]
NOTE = "session masks"
TIMES = frozenset({"captured_from", "captured_to"})


def placed_in(session: Session, agency_id: UUID, item_id: UUID, duration_us: int) -> list[Placed]:
    """What masks and pauses of an item's sessions hide in it, and what of it is of no session."""
    found: list[Placed] = []
    of = _sessions_of(session, agency_id, item_id)
    for row, from_at, to_at, open_us in of:
        ends_later_us = duration_us if open_us is None else open_us
        for mask in session_masks.masks_in_force(session, row):
            span = media_span(mask, to_micros(from_at), to_micros(to_at), duration_us, ends_later_us)
            if span is not None:
                found.append((mask, span))
    return found + _outside(session, agency_id, of, duration_us)


def _outside(session: Session, agency_id: UUID, of: Sequence[_Of], duration_us: int) -> list[Placed]:
    """What of a file is of none of the sessions of its room, and nobody's to see."""
    found: list[Placed] = []
    for row, from_at, to_at, _ in of[:1]:
        rows = {each.id: each for each, *_ in of} | {
            each.id: each for each in sessions.sessions_over(session, agency_id, row.room_no, from_at, to_at)
        }
        lasted = [session_masks.lasted(session, each) for each in rows.values()]
        file = to_micros(from_at), to_micros(to_at)
        for name, first_us, last_us in outside(*file, lasted):
            span = outside_span(first_us, last_us, *file, duration_us)
            if span is not None:
                mask = Mask(name, first_us, last_us, Hides.BOTH, Reason.OUTSIDE_SESSION, SYSTEM)
                found.append((mask, span))
    return found


def hold_sessions(session: Session, agency_id: UUID, item_id: UUID) -> None:
    """Hold an item's sessions until the transaction ends: masks are set and files tied before or after."""
    for row_id in sorted(row.id for row, *_ in _sessions_of(session, agency_id, item_id)):
        sessions.session_by_id(session, agency_id, row_id, lock=True)


def _sessions_of(session: Session, agency_id: UUID, item_id: UUID) -> list[_Of]:
    """The sessions that an item is a file of, each with when it was recorded, and how much later it may have
    ended; None: nobody knows.
    """
    parts = {part.session_id: part for part in sessions.parts_of_items(session, agency_id, [item_id])}
    if parts:
        tied = sessions.sessions_by_id(session, agency_id, list(parts))
        return [(row, (part := parts[row.id]).from_at, part.to_at, part.open_us) for row in tied]
    # In custody, and not tied yet: it says itself of which session it is, and when.
    said = {
        claim.field: claim.value
        for claim in items.claims_of(session, agency_id, item_id)
        if claim.source == ClaimSource.SERVER and claim.field in {"recording", *TIMES}
    }
    kind, _, rest = said.get("recording", "").partition(":")
    if kind != "session" or not set(said) >= TIMES:
        return []
    first = sessions.session_by_id(session, agency_id, UUID(rest.partition(":")[0]))
    from_at, to_at = (datetime.fromisoformat(said[name]) for name in sorted(TIMES))
    # The first may share no moment with it by the clock, where that was set.
    over = {first.id: first} | {
        row.id: row for row in sessions.sessions_over(session, agency_id, first.room_no, from_at, to_at)
    }
    return [(row, from_at, to_at, None) for row in over.values()]


def hide(session: Session, agency: Agency, session_id: UUID, actor: str, now: datetime) -> list[UUID]:
    """Bring a session's masks into the plans that its files have by now; the items whose plan changed.

    Its files are those tied to it and those in custody that are to be. One without a plan has them from the
    first version on.
    """
    row = sessions.session_by_id(session, agency.id, session_id, lock=True)
    found = {part.item_id for part in sessions.parts_of(session, agency.id, row.id)}
    for item_id in sessions.untied_over(session, agency.id, row.started_at, row.ended_at):
        if any(each.id == row.id for each, *_ in _sessions_of(session, agency.id, item_id)):
            found.add(item_id)
    return [each for each in sorted(found) if hide_in(session, agency, each, actor, now)]


def hide_in(session: Session, agency: Agency, item_id: UUID, actor: str, now: datetime) -> bool:
    """Bring the masks of an item's sessions into the plan it has; whether that changed.

    Whoever calls holds the session that the change is about.
    """
    item = items.item_by_id(session, agency.id, item_id, lock=True)
    newest = items.newest_plan(session, agency.id, item.id)
    source = None if newest is None else source_of(session, agency.id, item, newest.plan)
    if newest is None or source is None:
        return False
    hidden = in_plan(
        newest.plan, placed_in(session, agency.id, item.id, int(source.info.get("duration_us") or 0))
    )
    if hidden == newest.plan:
        return False
    plan = {**hidden, "number": newest.number + 1, "parent": newest.number, "author": actor}
    row = RedactionPlanRow(
        agency_id=agency.id, item_id=item.id, number=plan["number"], parent_number=plan["parent"],
        plan_sha256=sha256(canonical_json(plan)).digest(), plan=plan, author=actor, note=NOTE,
        made_at=now, reveals=newest.reveals and newest.approved_at is None,
    )  # fmt: skip
    session.add(row)
    note_doubts(session, agency.id, item.id, int(plan["number"]), open_doubts(plan))
    item.redaction = str(move(Redaction(item.redaction), Redaction.PROPOSED))
    said = {"plan": row.number, "parent": row.parent_number, "plan_sha256": row.plan_sha256.hex(),
            "reveals": row.reveals}  # fmt: skip
    _tell(session, agency, item, Action.REDACTION_PLAN_AMENDED, said, actor, now)
    for made in items.derivatives_of(session, agency.id, item.id):
        if made.masked:
            made.withdrawn_at = now
            why = {"derivative": str(made.id), "kind": made.kind, "reason": f"plan {row.number}"}
            _tell(session, agency, item, Action.DERIVATIVE_WITHDRAWN, why, actor, now)
    params = {"derivative": str(source.id), "plan": row.number}
    jobs.want(session, agency.id, Wanted("render", "media", item.id, row.plan_sha256, params, 40), now)
    return True


def source_of(session: Session, agency_id: UUID, item: Item, plan: Mapping[str, Any]) -> Derivative | None:
    """The rendition that a plan was made for; None: there is none any more."""
    kind = "photo" if item.media_kind == MediaKind.PHOTO else "rendition"
    made = items.derivatives_of(session, agency_id, item.id, kind=kind)
    picture = plan["picture"]
    if picture is not None and kind == "rendition":
        size = (picture["width_px"], picture["height_px"])
        made = [row for row in made if (row.info.get("width_px"), row.info.get("height_px")) == size]
    return made[-1] if made else None


def _tell(
    session: Session,
    agency: Agency,
    item: Item,
    action: Action,
    facts: Mapping[str, Any],
    actor: str,
    now: datetime,
) -> None:
    custody.record(session, agency, Happening(action, "item", str(item.id), actor, facts), now)
