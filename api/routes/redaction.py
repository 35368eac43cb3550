"""Redaction plans: reading, amending, approving.

Where two use cases meet: `redaction` makes the next version, the queue renders it. From the moment a
version is amended nothing of the version before is served (invariant 8): its addresses answer 410.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.redaction import Amendment, Approval, PlanShown, PlanSummary, RedactionState
from evidence.access import Act
from evidence.custody import Action
from evidence.errors import Conflict, NotFound
from evidence.item import Redaction, move
from evidence.kinds import MediaKind
from redaction.amend import amend as amend_plan
from redaction.plan import RedactionPlan
from redaction.plan_json import plan_from_json
from storage.db import items, jobs
from storage.db.jobs import Wanted
from storage.db.plans import plans_of
from storage.db.tables import Derivative, Item, RedactionPlanRow

gate = Gate("脱敏 Redaction")
MASKED_KINDS = frozenset({"redacted", "redacted_poster", "redacted_photo", "clip"})


@gate.get("/items/{item_id}/redaction/plans", Act.SEE_REDACTED, problems=(404,), summary="方案版本 Versions")
def list_plans(item_id: UUID, desk: DeskOf) -> list[PlanSummary]:
    """所有版本,旧者在前。Every version, oldest first; none is ever edited."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        return [PlanSummary.of(row) for row in plans_of(work.session, work.agency_id, item.id)]


@gate.get(
    "/items/{item_id}/redaction/plans/{number}",
    Act.AMEND_REDACTION,
    problems=(404,),
    summary="一个版本 A version",
)
def get_plan(item_id: UUID, number: int, desk: DeskOf) -> PlanShown:
    """隐藏的对象、时段、理由与作者。What is hidden, when, by whom and why."""
    with desk.reading() as work:
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
    """以最新版本为依据;两人同时修订时,后者得到 409。旧脱敏件立即停止提供,新件由工作进程生成。

    Starts from the newest version: of two people at once the second is told by 409. What was shown is
    withdrawn at once, and a worker renders the new version.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
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
        row = _keep(work, item, plan, body.note)
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
    """仅可通过已检验的最新版本。Only the newest version, and only once its rendition passed its check."""
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        newest = _newest(work, item)
        if newest.number != body.number:
            raise Conflict(
                f"redaction plan: expected the newest version {newest.number}, found {body.number}",
                code="plan_not_newest",
                newest=newest.number,
            )
        item.redaction = str(move(Redaction(item.redaction), Redaction.APPROVED))
        facts = {"plan": newest.number, "plan_sha256": newest.plan_sha256.hex()}
        private = {"note": body.note} if body.note else None
        work.record(Action.REDACTION_PLAN_APPROVED, "item", item.id, facts, private)
        return RedactionState(redaction=Redaction(item.redaction), plan=PlanSummary.of(newest))


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


def _keep(work: Work, item: Item, plan: RedactionPlan, note: str) -> RedactionPlanRow:
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
    )
    work.session.add(row)
    work.session.flush()
    facts = {"plan": row.number, "parent": row.parent_number, "plan_sha256": row.plan_sha256.hex()}
    work.record(Action.REDACTION_PLAN_AMENDED, "item", item.id, facts, {"note": note})
    return row


def _withdraw(work: Work, item: Item, row: RedactionPlanRow) -> None:
    """End the serving of everything made under the version before."""
    for made in items.derivatives_of(work.session, work.agency_id, item.id):
        if made.masked and made.kind in MASKED_KINDS:
            made.withdrawn_at = work.now
            facts = {"derivative": str(made.id), "kind": made.kind, "reason": f"plan {row.number}"}
            work.record(Action.DERIVATIVE_WITHDRAWN, "item", item.id, facts)
