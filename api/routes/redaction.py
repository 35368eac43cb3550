"""Redaction plans: reading, amending, approving.

Where two use cases meet: `redaction` makes the next version, the queue renders it. Two cases:

1. The version hides something more, or the same: from that moment nothing of the version before is
   served (invariant 8), its addresses answer 410, and the new rendition is served once it is checked.
2. It *reveals* something that the version in force hides: nothing made from it is served until legal
   review, in another person than those who wrote it, approves it. The version in force hides more and
   goes on being served, unless the new one hides something as well.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from api.auth.gate import Gate
from api.auth.rights import require_whole_original, sees_whole_original
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.redaction import Amendment, Approval, PlanShown, PlanSummary, RedactionState
from evidence.access import Act
from evidence.custody import Action
from evidence.errors import Conflict, NotFound, NotPermitted
from evidence.item import Redaction, move
from evidence.kinds import MediaKind
from redaction.amend import amend as amend_plan
from redaction.amend import reveals
from redaction.plan import RedactionPlan
from redaction.plan_json import plan_from_json
from storage.db import items, jobs
from storage.db.jobs import Wanted
from storage.db.plans import AWAITS, held_back, plan_in_force, plans_of
from storage.db.tables import Derivative, Item, RedactionPlanRow

gate = Gate("脱敏 Redaction")


@gate.get("/items/{item_id}/redaction/plans", Act.SEE_REDACTED, problems=(404,), summary="方案版本 Versions")
def list_plans(item_id: UUID, desk: DeskOf) -> list[PlanSummary]:
    """所有版本,旧者在前。Every version, oldest first; none is ever edited."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        is_holder = sees_whole_original(work, item)
        rows = plans_of(work.session, work.agency_id, item.id)
        return [PlanSummary.of(row, with_note=is_holder) for row in rows]


@gate.get(
    "/items/{item_id}/redaction/plans/{number}",
    Act.AMEND_REDACTION,
    problems=(404,),
    summary="一个版本 A version",
)
def get_plan(item_id: UUID, number: int, desk: DeskOf) -> PlanShown:
    """隐藏的对象、时段、理由与作者;须有整件原件的权限。

    What is hidden, when, by whom and why: for whoever has the right to all of the original.
    """
    with desk.reading() as work:
        require_whole_original(work, items.item_by_id(work.session, work.agency_id, item_id))
        if not 0 < number < 2**31:
            raise NotFound(f"redaction plan {number}: expected one, found none", code="plan_not_found")
        row = items.plan_by_number(work.session, work.agency_id, item_id, number)
        return PlanShown(**PlanSummary.of(row).model_dump(), plan=row.plan)


@gate.post(
    "/items/{item_id}/redaction/plans",
    Act.AMEND_REDACTION,
    status_code=201,
    problems=(404, 409),
    summary="修订 Amend",
)
def amend(item_id: UUID, body: Amendment, desk: DeskOf) -> RedactionState:
    """须有整件原件的权限。以最新版本为依据;两人同时修订时,后者得到 409。

    增加遮挡者,旧脱敏件立即停止提供,新件检验后即提供;揭开遮挡者,须由他人(法制审核)审核通过后方提供。

    For whoever has the right to all of the original. Starts from the newest version: of two people at once
    the second is told by 409. A version that hides more ends what was shown at once; one that reveals is
    served only after another person of legal review has approved it.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        require_whole_original(work, item)
        newest = _newest(work, item)
        if newest.number != body.base_number:
            raise Conflict(
                f"redaction plan: expected the newest version {newest.number} as base, "
                f"found {body.base_number}; look at what changed and try again",
                code="plan_not_newest",
                newest=newest.number,
            )
        plan = amend_plan(plan_from_json(newest.plan), body.changes, str(work.actor.account_id))
        source = _source(work, item, plan)
        in_force = plan_in_force(work.session, work.agency_id, item.id)
        shown = plan_from_json(in_force.plan) if in_force is not None else None
        row = _keep(work, item, plan, body.note, does_reveal=shown is None or reveals(shown, plan))
        # A version that only reveals leaves what is shown: that hides all it hides, and more.
        if shown is None or not row.reveals or reveals(plan, shown):
            item.redaction = str(move(Redaction(item.redaction), Redaction.PROPOSED))
            _withdraw(work, item, row)
        params = {"derivative": str(source.id), "plan": row.number}
        wanted = Wanted("render", "media", item.id, row.plan_sha256, params, 40)
        jobs.want(work.session, work.agency_id, wanted, work.now)
        return RedactionState(redaction=Redaction(item.redaction), plan=PlanSummary.of(row))


@gate.post(
    "/items/{item_id}/redaction/approve",
    Act.APPROVE_REDACTION,
    problems=(404, 409),
    summary="审核通过 Approve",
)
def approve(item_id: UUID, body: Approval, desk: DeskOf) -> RedactionState:
    """仅可通过已检验的最新版本,且不得由修订人本人通过。揭开遮挡的版本自此提供。

    Only the newest version, once its rendition passed its check, and by nobody who wrote it. A version
    that reveals is served from now on.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        newest = _newest(work, item)
        if newest.number != body.number:
            raise Conflict(
                f"redaction plan: expected the newest version {newest.number}, found {body.number}",
                code="plan_not_newest",
                newest=newest.number,
            )
        _require_another(work, item, newest)
        if newest.awaits_approval:
            _serve(work, item, newest)
        item.redaction = str(move(Redaction(item.redaction), Redaction.APPROVED))
        newest.approved_at, newest.approved_by = work.now, work.actor.label
        facts = {
            "plan": newest.number,
            "plan_sha256": newest.plan_sha256.hex(),
            "reveals": newest.reveals,
        }
        private = {"note": body.note} if body.note else None
        work.record(Action.REDACTION_PLAN_APPROVED, "item", item.id, facts, private)
        return RedactionState(redaction=Redaction(item.redaction), plan=PlanSummary.of(newest))


def _require_another(work: Work, item: Item, newest: RedactionPlanRow) -> None:
    """Nobody approves what they wrote, nor what was built on it since the version in force."""
    in_force = plan_in_force(work.session, work.agency_id, item.id)
    since = in_force.number if in_force is not None else 0
    rows = plans_of(work.session, work.agency_id, item.id)
    if work.actor.label in {newest.author, *(row.author for row in rows if row.number > since)}:
        raise NotPermitted(
            f"redaction plan {newest.number}: expected another person than its author, found the author; "
            "ask a colleague of legal review",
            code="plan_own",
        )


def _serve(work: Work, item: Item, plan: RedactionPlanRow) -> None:
    """Open what was made from a version that reveals, in place of what was shown."""
    held = held_back(work.session, work.agency_id, item.id, plan.number)
    if not held:
        raise Conflict(
            f"redaction plan {plan.number}: expected its checked rendition, found none yet; ask again",
            code="redaction_pending",
        )
    _withdraw(work, item, plan, keeps="clip")
    for made in held:
        made.withdrawn_at = None
        made.info = {name: value for name, value in made.info.items() if name != AWAITS}
    for step in (Redaction.PROPOSED, Redaction.CHECKED):
        item.redaction = str(move(Redaction(item.redaction), step))


def _newest(work: Work, item: Item) -> RedactionPlanRow:
    row = items.newest_plan(work.session, work.agency_id, item.id)
    if row is None:
        raise NotFound(
            f"item {item.id}: expected a redaction plan, found none yet; ask again", code="plan_not_found"
        )
    return row


def _source(work: Work, item: Item, plan: RedactionPlan) -> Derivative:
    """The rendition the plan was made for: a plan fits no other picture."""
    kind = "photo" if item.media_kind == MediaKind.PHOTO else "rendition"
    made = items.derivatives_of(work.session, work.agency_id, item.id, kind=kind)
    picture = plan.picture
    if picture is not None and kind == "rendition":
        size = (picture.width_px, picture.height_px)
        made = [row for row in made if (row.info.get("width_px"), row.info.get("height_px")) == size]
    if not made:
        raise Conflict(
            f"item {item.id}: expected the rendition the plan was made for, found none; have it made again",
            code="rendition_missing",
        )
    return made[-1]


def _keep(work: Work, item: Item, plan: RedactionPlan, note: str, *, does_reveal: bool) -> RedactionPlanRow:
    row = RedactionPlanRow(
        agency_id=work.agency_id,
        item_id=item.id,
        number=plan.number,
        parent_number=plan.parent,
        plan_sha256=sha256(plan.to_bytes()).digest(),
        plan=plan.to_json(),
        author=work.actor.label,
        note=note,
        made_at=work.now,
        reveals=does_reveal,
    )
    work.session.add(row)
    work.session.flush()
    facts = {
        "plan": row.number,
        "parent": row.parent_number,
        "plan_sha256": row.plan_sha256.hex(),
        "reveals": does_reveal,
    }
    work.record(Action.REDACTION_PLAN_AMENDED, "item", item.id, facts, {"note": note})
    return row


def _withdraw(work: Work, item: Item, row: RedactionPlanRow, *, keeps: str | None = None) -> None:
    """End the serving of everything masked that was made under the version before, whatever its kind."""
    for made in items.derivatives_of(work.session, work.agency_id, item.id):
        if made.masked and made.kind != keeps:
            made.withdrawn_at = work.now
            facts = {"derivative": str(made.id), "kind": made.kind, "reason": f"plan {row.number}"}
            work.record(Action.DERIVATIVE_WITHDRAWN, "item", item.id, facts)
