"""Releases of what is redacted: asked for, approved, refused, revoked, taken away for a party."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from api import releasing
from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.issuing import Variant
from api.releasing import Asked, require_may_end
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_time_cursor, write_cursor
from api.schemas.items import Coverage
from api.schemas.releases import CopyRequest, Ending, ReleaseRequest, ReleaseShown, Step, StepShown
from api.schemas.taking import ClipShown
from api.taking import Taking, clip_shown, want_clip
from evidence.access import Act
from evidence.coverage import coverage_in_words, split_coverage
from evidence.errors import Conflict
from evidence.kinds import RetrievalPurpose, Role
from evidence.release import Recipient, ReleaseState, next_step
from storage.db import cases, clips, items, releases
from storage.db.release_tables import Release
from storage.db.tables import Item

gate = Gate("发布 Releases")


@gate.post(
    "/items/{item_id}/releases",
    Act.ASK_RELEASE,
    status_code=201,
    problems=(404, 409),
    summary="申请发布 Ask for a release",
)
def ask(item_id: UUID, body: ReleaseRequest, desk: DeskOf) -> ReleaseShown:
    """申请将现提供的版本发布给角色、人员或机关以外;检验、覆盖、复核有缺者以 409 列出。

    Of the version that is served, to a role, a person or a party. What is missing (check, coverage, doubts,
    reviewers, unwatched spans) is listed by 409. It waits for each step of its chain.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        case = cases.case_by_id(work.session, work.agency_id, body.case_id) if body.case_id else None
        asked = Asked(
            kind=body.to,
            role=Role(body.role) if body.role is not None else None,
            account_id=body.account_id,
            party=body.party,
            case=case,
            purpose=body.purpose,
            reason=body.reason,
            expires_at=body.expires_at,
        )
        return _shown(work, releasing.ask(work, item, body.number, asked))


@gate.get("/items/{item_id}/releases", Act.REVIEW_REDACTION, problems=(404,), summary="一件的发布 Of an item")
def list_of_item(item_id: UUID, desk: DeskOf) -> list[ReleaseShown]:
    """旧者在前。Oldest first, those that ended too."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        return [_shown(work, row) for row in releases.releases_of(work.session, work.agency_id, item.id)]


@gate.get("/releases", Act.REVIEW_REDACTION, summary="发布列表 Releases")
def list_all(
    desk: DeskOf,
    waiting: Annotated[bool, Query(description="仅待审批的 / Only those with an open step")] = False,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[ReleaseShown]:
    """新者在前。Newest first."""
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        rows = releases.page_of_releases(
            work.session, work.agency_id, waiting=waiting, after=after, limit=limit + 1
        )
        shown = rows[:limit]
        return Page(
            items=[_shown(work, row) for row in shown],
            next_cursor=write_cursor(shown[-1].asked_at, shown[-1].id) if len(rows) > limit else None,
        )


@gate.get("/releases/{release_id}", Act.REVIEW_REDACTION, problems=(404,), summary="一项发布 A release")
def get_release(release_id: UUID, desk: DeskOf) -> ReleaseShown:
    """各步、覆盖说明与所据规则。Its steps, its coverage, and the policy it follows."""
    with desk.reading() as work:
        return _shown(work, releases.release_by_id(work.session, work.agency_id, release_id))


@gate.post(
    "/releases/{release_id}/approve",
    Act.APPROVE_RELEASE,
    problems=(404, 409),
    summary="审批 Take the open step",
)
def approve(release_id: UUID, body: Step, desk: DeskOf) -> ReleaseShown:
    """由规则所定角色逐步审批;修订、复核、申请、已审批或接收者不得审批;末步即发布。

    By the role that the policy names for the step, and by nobody who wrote, reviewed, asked for, approved or
    gets it. The last step releases it.
    """
    with desk.writing() as work:
        item, row = _held(work, release_id)
        releasing.approve(work, item, row, body.note)
        return _shown(work, row)


@gate.post(
    "/releases/{release_id}/refuse", Act.APPROVE_RELEASE, problems=(404, 409), summary="不予发布 Refuse"
)
def refuse(release_id: UUID, body: Ending, desk: DeskOf) -> ReleaseShown:
    """由可审批该步者,须说明理由。By whoever could take the open step, with a reason."""
    with desk.writing() as work:
        item, row = _held(work, release_id)
        releasing.refuse(work, item, row, body.reason)
        return _shown(work, row)


@gate.post("/releases/{release_id}/revoke", Act.REVOKE_RELEASE, problems=(404,), summary="撤回 Revoke")
def revoke(release_id: UUID, body: Ending, desk: DeskOf) -> ReleaseShown:
    """立即生效:所据授权终止,地址返回 410。At once: grants under it end, its addresses answer 410."""
    with desk.writing() as work:
        item, row = _held(work, release_id)
        releasing.revoke(work, item, row, body.reason)
        return _shown(work, row)


@gate.post(
    "/releases/{release_id}/copies",
    Act.ASK_RELEASE,
    status_code=202,
    problems=(404, 409, 410),
    summary="为机关以外取件 A copy for the party",
)
def take_copy(release_id: UUID, body: CopyRequest, desk: DeskOf, response: Response) -> ClipShown:
    """加注接收者水印的片段;其地址可交给对方,随发布终止。

    A clip marked with the party's name. Its address (`GET /clips/{clip_id}`) may be handed on, and ends with
    the release.
    """
    with desk.writing() as work:
        item, row = _held(work, release_id)
        require_may_end(work, row)
        releases.require_in_force(work.session, work.agency_id, row.id, work.now)
        if row.to_kind != Recipient.PARTY or row.case_id is None:
            raise Conflict(
                f"release {row.id}: expected one to a party, found one to a {row.to_kind}; ask for a grant",
                code="release_state",
                current=row.to_kind,
            )
        case = cases.case_by_id(work.session, work.agency_id, row.case_id)
        purpose = RetrievalPurpose(row.purpose)
        taking = Taking(case, Variant.REDACTED, purpose, row.reason, True, body.time_of_day, row)
        asked = (body.span.from_us, body.span.to_us) if body.span is not None else None
        clip = want_clip(work, item, taking, asked)
        response.headers["Location"] = f"/api/v1/clips/{clip.id}"
        return clip_shown(work, clip)


def _held(work: Work, release_id: UUID) -> tuple[Item, Release]:
    """A release and its item, locked: the item first, as everywhere."""
    found = releases.release_by_id(work.session, work.agency_id, release_id)
    item = items.item_by_id(work.session, work.agency_id, found.item_id, lock=True)
    return item, releases.release_by_id(work.session, work.agency_id, release_id, lock=True)


def _shown(work: Work, row: Release) -> ReleaseShown:
    state = releases.state_of(work.session, row, work.now)
    said = row.terms["coverage"]
    treated, untreated = split_coverage(said)
    zh, en = coverage_in_words(said)
    return ReleaseShown(
        id=row.id,
        item_id=row.item_id,
        case_id=row.case_id,
        plan_number=row.plan_number,
        sha256=row.rendition_sha256.hex(),
        state=state,
        to=Recipient(row.to_kind),
        role=row.to_role,
        account_id=row.to_account_id,
        party=row.to_party,
        purpose=RetrievalPurpose(row.purpose),
        reason=row.reason,
        coverage=Coverage(treated=treated, untreated=untreated, zh=zh, en=en),
        terms=row.terms,
        chain=row.chain,
        approvals=[StepShown(**step) for step in row.approvals],
        next_role=next_step(row.approvals, row.chain) if state is ReleaseState.WAITING else None,
        asked_by=row.asked_by,
        asked_at=row.asked_at,
        released_at=row.released_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        ended_by=row.ended_by,
        ended_reason=row.ended_reason,
        copies=[clip.id for clip in clips.clips_under(work.session, work.agency_id, row.id)],
    )
