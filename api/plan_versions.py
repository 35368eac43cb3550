"""Making the next version of a redaction plan: what takes seconds is done before the transaction begins.

A plan of some hours has hundreds of thousands of key frames, and while a write lasts nobody else writes. So:

1. *Read*, in a snapshot: the right, the newest version, which must be the base, and the one in force.
2. *Compute*, with nothing held: parse, change, judge what is revealed, write down as text.
3. *Keep*, in the transaction: the right is asked again, and both versions must still be those that were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from api.auth.rights import require_whole_original
from api.desk import Desk, Work
from api.schemas.redaction import PlanSummary, RedactionState
from evidence.custody import Action
from evidence.doubts import open_doubts
from evidence.errors import Conflict, NotFound
from evidence.item import Redaction, move
from evidence.kinds import MediaKind
from redaction.amend import reveals
from redaction.plan import RedactionPlan
from redaction.plan_json import plan_from_json
from storage.db import items, jobs
from storage.db.doubts import note_doubts
from storage.db.jobs import Wanted
from storage.db.plans import Standing, plan_in_force, standing_of
from storage.db.tables import Derivative, Item, RedactionPlanRow
from storage.db.types import JsonText


@dataclass(frozen=True)
class Ground:
    """What a change starts from, as it was read."""

    item_id: UUID
    standing: Standing
    base: RedactionPlan
    shown: RedactionPlan | None
    """The version in force; None: nothing was ever shown."""
    source: Derivative
    """The rendition that the plan was made for."""


def read_ground(desk: Desk, item_id: UUID, base_number: int) -> Ground:
    """Steps 1 and the beginning of 2, for whoever has the right to all of the original.

    Raises:
        NotPermitted: The actor has not.
        Conflict: Somebody made another version meanwhile (``plan_not_newest``); nothing of theirs is touched.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        require_whole_original(work, item)
        newest = newest_of(work, item)
        _require_base(newest.number, base_number)
        in_force = plan_in_force(work.session, work.agency_id, item.id)
        standing = standing_of(work.session, work.agency_id, item.id)
        made = items.derivatives_of(work.session, work.agency_id, item.id, kind=_kind_of(item))
    base = plan_from_json(newest.plan)
    shown = None
    if in_force is not None:
        shown = base if in_force.number == newest.number else plan_from_json(in_force.plan)
    return Ground(item.id, standing, base, shown, _fitting(made, item, base))


def keep_version(
    desk: Desk, ground: Ground, plan: RedactionPlan, note: str, said: Mapping[str, int] | None = None
) -> RedactionState:
    """Keep a version, have it rendered, and end what it hides more than: the rest of step 2, and step 3.

    Args:
        plan: Made of the ground's base.
        note: Why.
        said: More for its leaf.

    Raises:
        Conflict: Something was made or approved meanwhile (``plan_not_newest``), or the rendition is gone
            (``rendition_missing``).
    """
    shown = ground.shown
    does_reveal = shown is None or reveals(shown, plan)
    # A version that only reveals leaves what is shown: that hides all it hides, and more.
    does_end = shown is None or not does_reveal or reveals(plan, shown)
    data = plan.to_bytes()
    digest, text = sha256(data).digest(), JsonText(data.decode())
    doubts = open_doubts(plan.to_json())
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, ground.item_id, lock=True)
        require_whole_original(work, item)
        require_standing(work, item, ground.standing)
        made = items.derivatives_of(work.session, work.agency_id, item.id, kind=_kind_of(item), light=True)
        if ground.source.id not in {row.id for row in made}:
            raise _no_rendition(item)
        row = RedactionPlanRow(
            agency_id=work.agency_id, item_id=item.id, number=plan.number, parent_number=plan.parent,
            plan_sha256=digest, plan=text, author=work.actor.label, note=note, made_at=work.now,
            reveals=does_reveal,
        )  # fmt: skip
        work.session.add(row)
        work.session.flush()
        note_doubts(work.session, work.agency_id, item.id, plan.number, doubts)
        facts = {"plan": row.number, "parent": row.parent_number, "plan_sha256": digest.hex()}
        facts |= {"reveals": does_reveal, **(said or {})}
        work.record(Action.REDACTION_PLAN_AMENDED, "item", item.id, facts, {"note": note})
        if does_end:
            item.redaction = str(move(Redaction(item.redaction), Redaction.PROPOSED))
            withdraw_masked(work, item, row)
        params = {"derivative": str(ground.source.id), "plan": row.number}
        wanted = Wanted("render", "media", item.id, digest, params, 40)
        jobs.want(work.session, work.agency_id, wanted, work.now)
        return RedactionState(redaction=Redaction(item.redaction), plan=PlanSummary.of(row))


def require_standing(work: Work, item: Item, read: Standing) -> None:
    """Raise unless the newest version and the one in force are those that were read.

    Raises:
        Conflict: ``plan_not_newest``.
    """
    now = standing_of(work.session, work.agency_id, item.id)
    _require_base(now.newest or 0, read.newest or 0)
    if now.in_force != read.in_force:
        raise Conflict(
            f"redaction plan: expected version {read.in_force} in force as it was, found {now.in_force}; "
            "look at what changed and try again",
            code="plan_not_newest",
            newest=now.newest,
        )


def newest_of(work: Work, item: Item, *, light: bool = False) -> RedactionPlanRow:
    """The newest version.

    Raises:
        NotFound: There is none yet (``plan_not_found``).
    """
    row = items.newest_plan(work.session, work.agency_id, item.id, light=light)
    if row is None:
        raise NotFound(
            f"item {item.id}: expected a redaction plan, found none yet; ask again", code="plan_not_found"
        )
    return row


def source_of(work: Work, item: Item, plan: RedactionPlan) -> Derivative:
    """The rendition the plan was made for: a plan fits no other picture.

    Raises:
        Conflict: It is not there (``rendition_missing``).
    """
    made = items.derivatives_of(work.session, work.agency_id, item.id, kind=_kind_of(item))
    return _fitting(made, item, plan)


def withdraw_masked(work: Work, item: Item, row: RedactionPlanRow, *, keeps: str | None = None) -> None:
    """End the serving of everything masked that was made under the version before, whatever its kind."""
    for made in items.derivatives_of(work.session, work.agency_id, item.id, light=True):
        if made.masked and made.kind != keeps:
            made.withdrawn_at = work.now
            facts: dict[str, Any] = {
                "derivative": str(made.id),
                "kind": made.kind,
                "reason": f"plan {row.number}",
            }
            work.record(Action.DERIVATIVE_WITHDRAWN, "item", item.id, facts)


def _require_base(newest: int, base: int) -> None:
    if newest != base:
        raise Conflict(
            f"redaction plan: expected the newest version {newest} as base, "
            f"found {base}; look at what changed and try again",
            code="plan_not_newest",
            newest=newest,
            base=base,
        )


def _kind_of(item: Item) -> str:
    return "photo" if item.media_kind == MediaKind.PHOTO else "rendition"


def _fitting(made: list[Derivative], item: Item, plan: RedactionPlan) -> Derivative:
    picture = plan.picture
    if picture is not None and item.media_kind != MediaKind.PHOTO:
        size = (picture.width_px, picture.height_px)
        made = [row for row in made if (row.info.get("width_px"), row.info.get("height_px")) == size]
    if not made:
        raise _no_rendition(item)
    return made[-1]


def _no_rendition(item: Item) -> Conflict:
    return Conflict(
        f"item {item.id}: expected the rendition the plan was made for, found none; have it made again",
        code="rendition_missing",
    )
