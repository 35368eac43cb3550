"""Bring what a session's people hid into the redaction plans of its files.

A mask becomes a muted span or hidden frames under its own id, so that it is brought in once, and what a
second person approved to be shown again stays so. A plan that already hides it is left as it is. Another
version hides more, and what was made from the one before is withdrawn at once (`docs/design/redaction.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import to_micros
from evidence.custody import Action
from evidence.item import Redaction, move
from evidence.kinds import ClaimSource, MediaKind
from evidence.masks import Mask, media_span
from redaction.plan import MutedSpan, RedactionPlan, State, WholeFrameSpan
from redaction.plan_json import plan_from_json
from storage.db import custody, items, jobs, session_masks, sessions
from storage.db.custody import Happening
from storage.db.jobs import Wanted
from storage.db.room_tables import RoomSession
from storage.db.tables import Agency, Derivative, Item, RedactionPlanRow

NOTE = "session masks"
TIMES = frozenset({"captured_from", "captured_to"})
Placed = tuple[Mask, tuple[int, int]]
"""A mask, and where it lies in a file's media time."""


def with_masks(plan: RedactionPlan, placed: Sequence[Placed]) -> RedactionPlan:
    """The same version, with what is hidden by masks that it does not have; unchanged where it has all."""
    known = {span.id for span in plan.muted_spans} | {span.id for span in plan.whole_frame_spans}
    muted, frames = list(plan.muted_spans), list(plan.whole_frame_spans)
    for mask, (from_us, to_us) in placed:
        sound, picture = f"{mask.id}:sound", f"{mask.id}:picture"
        facts: dict[str, Any] = {
            "origin": "account",
            "by": mask.by,
            "reason": mask.reason,
            "state": State.ACCEPTED,
        }
        if mask.hides.of_sound and sound not in known:
            muted.append(
                MutedSpan(id=sound, from_us=from_us, to_us=to_us, stream=None, kind="silence", **facts)
            )
        if mask.hides.of_picture and plan.picture is not None and picture not in known:
            ticks = Fraction(plan.picture.time_base[1], plan.picture.time_base[0] * 1_000_000)
            first = plan.picture.first_pts
            frames.append(
                WholeFrameSpan(
                    id=picture,
                    from_pts=first + int(from_us * ticks),
                    to_pts=first - int(-to_us * ticks),
                    **facts,
                )
            )
    return replace(plan, muted_spans=tuple(muted), whole_frame_spans=tuple(frames))


def placed_in(session: Session, agency_id: UUID, item: Item, duration_us: int) -> list[Placed]:
    """The masks of an item's sessions that touch it."""
    found: list[Placed] = []
    for row, from_at, to_at in _sessions_of(session, agency_id, item):
        for mask in session_masks.masks_in_force(session, row):
            span = media_span(mask, to_micros(from_at), to_micros(to_at), duration_us)
            if span is not None:
                found.append((mask, span))
    return found


def _sessions_of(
    session: Session, agency_id: UUID, item: Item
) -> list[tuple[RoomSession, datetime, datetime]]:
    """The sessions that an item is a file of, each with when it was recorded."""
    parts = {part.session_id: part for part in sessions.parts_of_items(session, agency_id, [item.id])}
    if parts:
        tied = sessions.sessions_by_id(session, agency_id, list(parts))
        return [(row, parts[row.id].from_at, parts[row.id].to_at) for row in tied]
    # In custody, and not tied yet: it says itself of which session it is, and when.
    said = {
        claim.field: claim.value
        for claim in items.claims_of(session, agency_id, item.id)
        if claim.source == ClaimSource.SERVER and claim.field in {"recording", *TIMES}
    }
    kind, _, rest = said.get("recording", "").partition(":")
    if kind != "session" or not set(said) >= TIMES:
        return []
    first = sessions.session_by_id(session, agency_id, UUID(rest.partition(":")[0]))
    from_at, to_at = (datetime.fromisoformat(said[name]) for name in sorted(TIMES))
    over = sessions.sessions_over(session, agency_id, first.room_no, from_at, to_at)
    return [(row, from_at, to_at) for row in over]


def hide(session: Session, agency: Agency, session_id: UUID, actor: str, now: datetime) -> list[UUID]:
    """Bring a session's masks into the plans that its files have by now; the items whose plan changed.

    One without a plan has them from the first version on.
    """
    changed = []
    for item_id in sorted({part.item_id for part in sessions.parts_of(session, agency.id, session_id)}):
        item = items.item_by_id(session, agency.id, item_id, lock=True)
        newest = items.newest_plan(session, agency.id, item.id)
        if newest is not None and _amend(session, agency, item, newest, actor, now):
            changed.append(item.id)
    return changed


def _amend(
    session: Session, agency: Agency, item: Item, newest: RedactionPlanRow, actor: str, now: datetime
) -> bool:
    before = plan_from_json(newest.plan)
    source = source_of(session, agency.id, item, before)
    if source is None:
        return False
    hidden = with_masks(before, placed_in(session, agency.id, item, int(source.info["duration_us"])))
    if hidden == before:
        return False
    plan = replace(hidden, number=before.number + 1, parent=before.number, author=actor)
    row = RedactionPlanRow(
        agency_id=agency.id, item_id=item.id, number=plan.number, parent_number=plan.parent,
        plan_sha256=sha256(plan.to_bytes()).digest(), plan=plan.to_json(), author=actor, note=NOTE,
        made_at=now, reveals=newest.reveals and newest.approved_at is None,
    )  # fmt: skip
    session.add(row)
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


def source_of(session: Session, agency_id: UUID, item: Item, plan: RedactionPlan) -> Derivative | None:
    """The rendition that a plan was made for; None: there is none any more."""
    kind = "photo" if item.media_kind == MediaKind.PHOTO else "rendition"
    made = items.derivatives_of(session, agency_id, item.id, kind=kind)
    if plan.picture is not None and kind == "rendition":
        size = (plan.picture.width_px, plan.picture.height_px)
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
