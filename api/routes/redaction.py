"""Redaction plans: reading, amending, approving.

Where two use cases meet: `redaction` makes the next version, the queue renders it. Two cases:

1. The version hides something more, or the same: from that moment nothing of the version before is
   served (invariant 8), its addresses answer 410, and the new rendition is served once it is checked.
2. It *reveals* something that the version in force hides: nothing made from it is served until legal
   review, in another person than those who wrote it, approves it. The version in force hides more and
   goes on being served, unless the new one hides something as well.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import Path, Response
from fastapi.responses import StreamingResponse

from api.auth.gate import Gate
from api.auth.rights import require_whole_original, sees_whole_original
from api.auth.seat import DeskOf
from api.cvat_body import DocumentOf, GroundOf, NoteOf
from api.desk import Work
from api.issuing import note_issued
from api.plan_versions import (
    keep_version,
    newest_of,
    read_ground,
    require_standing,
    source_of,
    withdraw_masked,
)
from api.previews import frame_times, make_preview, require_own_original
from api.schemas.redaction import (
    Amendment,
    Approval,
    Change,
    PlanShown,
    PlanSummary,
    PreviewAsked,
    RedactionState,
)
from evidence.access import Act
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound, NotPermitted
from evidence.item import Redaction, move
from redaction.amend import amend as amend_plan
from redaction.amend import restore as restore_plan
from redaction.authors import Version, writers
from redaction.cvat import read_cvat, write_cvat
from redaction.plan import RedactionPlan
from redaction.plan_json import plan_from_json
from storage.db import items
from storage.db.plans import AWAITS, held_back, plans_of, standing_of
from storage.db.tables import Derivative, Item, RedactionPlanRow

gate = Gate("脱敏 Redaction")
PlanNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]


@gate.get("/items/{item_id}/redaction/plans", Act.SEE_REDACTED, problems=(404,), summary="方案版本 Versions")
def list_plans(item_id: UUID, desk: DeskOf) -> list[PlanSummary]:
    """所有版本,旧者在前。Every version, oldest first; none is ever edited."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        is_holder = sees_whole_original(work, item)
        rows = plans_of(work.session, work.agency_id, item.id, light=True)
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
    ground = read_ground(desk, item_id, body.base_number)
    plan = amend_plan(ground.base, body.changes, str(desk.actor.account_id))
    _require_sound(ground.source, ground.base, plan)
    return keep_version(desk, ground, plan, body.note)


@gate.post(
    "/items/{item_id}/redaction/plans/{number}/restore",
    Act.AMEND_REDACTION,
    status_code=201,
    problems=(404, 409),
    summary="恢复某版本 Undo to a version",
)
def restore(item_id: UUID, number: PlanNumber, body: Change, desk: DeskOf) -> RedactionState:
    """以旧版本的内容另立新版本;是否揭开与任何修订同样判定。

    A new version that hides what an older one hid; whether it reveals is judged as for any other.
    """
    ground = read_ground(desk, item_id, body.base_number)
    with desk.reading() as work:
        older = items.plan_by_number(work.session, work.agency_id, item_id, number).plan
    plan = restore_plan(ground.base, plan_from_json(older), str(desk.actor.account_id))
    return keep_version(desk, ground, plan, body.note, {"restored_from": number})


@gate.get(
    "/items/{item_id}/redaction/plans/{number}/cvat",
    Act.AMEND_REDACTION,
    problems=(404, 409),
    response_class=Response,
    responses={200: {"description": "CVAT for video 1.1", "content": {"application/xml": {}}}},
    summary="以 CVAT 格式取出 Take out as CVAT",
)
def cvat(item_id: UUID, number: PlanNumber, desk: DeskOf) -> Response:
    """供其他标注工具修改的全部轨迹;须有整件原件的权限。

    The tracks as CVAT for video 1.1, to be drawn on elsewhere, for whoever has the right to all of the
    original.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        require_whole_original(work, item)
        plan = plan_from_json(items.plan_by_number(work.session, work.agency_id, item.id, number).plan)
        source = source_of(work, item, plan)
    pieces = write_cvat(plan, frame_times(desk.installation, source))
    return StreamingResponse(pieces, media_type="application/xml", headers={"Cache-Control": "no-store"})


@gate.post(
    "/items/{item_id}/redaction/plans/cvat",
    Act.AMEND_REDACTION,
    status_code=201,
    problems=(404, 408, 409, 413, 503),
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/xml": {"schema": {"type": "string"}}}}
    },
    summary="收回 CVAT 标注 Bring CVAT back",
)
def bring_cvat(ground: GroundOf, note: NoteOf, document: DocumentOf, desk: DeskOf) -> RedactionState:
    """以取出时的版本为依据,另立新版本;未列出的轨迹视为删除。正文至多 `api.cvat_body_bytes`。

    A new version with the tracks as they came back; it must be the newest one that was taken out. A track
    that is missing is refused, as if deleted. Of at most `api.cvat_body_bytes`.
    """
    times = frame_times(desk.installation, ground.source)
    with document.open("rb") as file:
        pieces = iter(partial(file.read, 1 << 16), b"")
        plan = read_cvat(pieces, ground.base, times, str(desk.actor.account_id))
    return keep_version(desk, ground, plan, note)


@gate.post(
    "/items/{item_id}/redaction/plans/{number}/preview",
    Act.AMEND_REDACTION,
    problems=(404, 409, 410, 503),
    response_class=Response,
    responses={200: {"description": "JPEG, or MP4", "content": {"image/jpeg": {}, "video/mp4": {}}}},
    summary="预览某版本 Preview a version",
)
def preview(item_id: UUID, number: PlanNumber, body: PreviewAsked, desk: DeskOf) -> Response:
    """按该版本遮挡的一帧(JPEG)或数秒无声视频(MP4);须持有本件整件原件的有效授权。

    One frame masked by that version (JPEG), or a few seconds without sound (MP4), for whoever holds a grant
    to all of the original: purpose and reason were given with it. The first preview under a grant leaves
    `preview:issued`. It is not checked, nothing of it is kept, and nobody is ever served it as the rendition.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        require_whole_original(work, item)
        plan = plan_from_json(items.plan_by_number(work.session, work.agency_id, item.id, number).plan)
        source = source_of(work, item, plan)
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        require_whole_original(work, item)
        grant = require_own_original(work, item, body.grant_id)
        note_issued(work.session, work.agency, grant, Action.PREVIEW_ISSUED, {"plan": number}, work.now)
    made = make_preview(desk.installation, source, plan, body.at_us, body.length_us)
    with desk.reading() as work:
        # Drawing takes seconds, in which the right or the grant may end.
        require_whole_original(work, items.item_by_id(work.session, work.agency_id, item_id))
        require_own_original(work, item, body.grant_id, lock=False)
    return Response(made.data, media_type=made.content_type, headers={"Cache-Control": "no-store"})


def _require_sound(source: Derivative, base: RedactionPlan, plan: RedactionPlan) -> None:
    """Refuse to mute sound that is not there: somebody believes that something is hidden, and it is not.

    Raises:
        InvalidInput: A new span names a stream that is not there, or there is no sound (``plan_invalid``).
    """
    tracks = source.info.get("index", {}).get("tracks", [])
    streams = sum(track["kind"] == "audio" for track in tracks)
    known = {span.id for span in base.muted_spans}
    for span in plan.muted_spans:
        if span.id not in known and (span.stream or 0) >= streams:
            raise InvalidInput(
                f"mute: expected a sound stream below {streams} as the rendition has them, found "
                f"{'all of none' if span.stream is None else span.stream}; look at the item's streams",
                code="plan_invalid",
            )


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
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        _require_newest(newest_of(work, item, light=True), body.number)
        standing = standing_of(work.session, work.agency_id, item.id)
        rows = plans_of(work.session, work.agency_id, item.id)
    versions = [Version(row.number, row.parent_number, row.author, row.plan) for row in rows]
    wrote = writers(versions, standing.in_force)
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        newest = newest_of(work, item, light=True)
        _require_newest(newest, body.number)
        require_standing(work, item, standing)
        _require_another(work, newest, wrote)
        if newest.awaits_approval:
            _serve(work, item, newest)
        if Redaction(item.redaction) is not Redaction.RELEASED:
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


def _require_newest(newest: RedactionPlanRow, number: int) -> None:
    if newest.number != number:
        raise Conflict(
            f"redaction plan: expected the newest version {newest.number}, found {number}",
            code="plan_not_newest",
            newest=newest.number,
        )


def _require_another(work: Work, newest: RedactionPlanRow, wrote: set[str]) -> None:
    """Nobody approves what they wrote: since the version in force, or before and brought back since."""
    if work.actor.label in wrote:
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
    withdraw_masked(work, item, plan, keeps="clip")
    for made in held:
        made.withdrawn_at = None
        made.info = {name: value for name, value in made.info.items() if name != AWAITS}
    for step in (Redaction.PROPOSED, Redaction.CHECKED):
        item.redaction = str(move(Redaction(item.redaction), step))
