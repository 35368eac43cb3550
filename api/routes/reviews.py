"""Reviewing what is redacted: the queue of doubts, what was watched, checks that failed."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query

from api.auth.gate import Gate
from api.auth.rights import redacted_reach, require_whole_original
from api.auth.seat import DeskOf
from api.desk import Work
from api.presenting import coverage_of
from api.releasing import lacks_of
from api.reviewing import length_of, note_watched, plan_of, served, sign, spans_of
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_text_cursor, write_cursor
from api.schemas.releases import (
    CheckShown,
    DoubtShown,
    LackShown,
    Override,
    ReviewerShown,
    ReviewShown,
    ReviewStatement,
    Watched,
)
from evidence.access import Act
from evidence.custody import Action
from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound, NotPermitted
from evidence.release import Recipient, missing, total_us
from storage.db import doubts, items, jobs, releases
from storage.db.jobs import Wanted
from storage.db.plans import plans_of
from storage.db.release_tables import CheckFailure, RedactionDoubt
from storage.db.tables import Item
from storage.hiding import source_of

gate = Gate("脱敏复核 Review")
PlanNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
OVERRIDABLE = frozenset({"face_left", "voice_recognisable"})
"""Findings that are a likeness somebody may judge; that a mask hides is measured, and nobody's to judge."""
PAGES_MOST = 20


@gate.get("/redaction/doubts", Act.REVIEW_REDACTION, summary="存疑时段 Doubtful spans by risk")
def list_doubts(
    desk: DeskOf,
    item_id: UUID | None = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[DoubtShown]:
    """未决的存疑时段,按风险(时长×面积×得分)由高到低;每件至多 200 段。

    What is masked in doubt and nobody decided, of all items the asker sees masked, the gravest first: length
    times share of the picture times score. At most 200 spans of an item.
    """
    after = _after(cursor)
    found: list[tuple[RedactionDoubt, Item]] = []
    with desk.reading() as work:
        seen: dict[UUID, Item] = {}
        for _ in range(PAGES_MOST):
            rows = doubts.gravest(work.session, work.agency_id, after=after, item_id=item_id, limit=limit + 1)
            more = items.items_by_id(
                work.session, work.agency_id, {row.item_id for row in rows} - seen.keys()
            )
            seen |= more
            for row in rows[:limit]:
                after = (row.risk_us, row.id)
                if _may_look(work, seen[row.item_id], row):
                    found.append((row, seen[row.item_id]))
                if len(found) == limit:
                    break
            if len(found) == limit or len(rows) <= limit:
                break
        is_last = len(found) < limit and len(rows) <= limit
        return Page(
            items=[DoubtShown.of(row, item.original_name) for row, item in found],
            next_cursor=None if is_last or after is None else write_cursor(f"{after[0]}:{after[1]}"),
        )


def _after(cursor: str | None) -> tuple[int, UUID] | None:
    text = read_text_cursor(cursor)
    if text is None:
        return None
    risk, _, id_ = text.partition(":")
    try:
        found = int(risk), UUID(id_)
        if not 0 <= found[0] < 2**63:
            raise ValueError(risk)
    except ValueError as error:
        raise InvalidInput(
            "cursor: expected one from the page before, found another text; start again without",
            code="cursor_invalid",
        ) from error
    return found


def _may_look(work: Work, item: Item, row: RedactionDoubt) -> bool:
    try:
        reach = redacted_reach(work, item, None)
    except EvidenceError:
        return False
    return reach.spans is None or any(start <= row.from_us and row.to_us <= end for start, end in reach.spans)


@gate.get(
    "/items/{item_id}/redaction/reviews", Act.REVIEW_REDACTION, problems=(404,), summary="复核情况 Reviews"
)
def get_reviews(item_id: UUID, desk: DeskOf) -> ReviewShown:
    """谁看过哪些时段、哪些无人看过、发布前尚缺什么。Who watched what, what nobody did, what is missing."""
    with desk.reading() as work:
        return _shown(work, items.item_by_id(work.session, work.agency_id, item_id))


@gate.post(
    "/items/{item_id}/redaction/watched",
    Act.REVIEW_REDACTION,
    problems=(404, 409, 410),
    summary="报告已观看 Report what was watched",
)
def watched(item_id: UUID, body: Watched, desk: DeskOf) -> ReviewShown:
    """以本人授权报告已观看的时段;超出时长、授权或可能的播放速度者拒绝。

    Spans that were watched under one's own grant. Outside the rendition or the grant, or more than can have
    been played since the last report, they are refused; those reported before stay.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        note_watched(work, item, body.grant_id, [(span.from_us, span.to_us) for span in body.spans])
        return _shown(work, item)


@gate.post(
    "/items/{item_id}/redaction/reviews",
    Act.REVIEW_REDACTION,
    status_code=201,
    problems=(404, 409),
    summary="声明已复核 Say that one reviewed it",
)
def state_review(item_id: UUID, body: ReviewStatement, desk: DeskOf) -> ReviewShown:
    """声明已复核现提供的版本;未观看的时段一并留存。One's own statement; with what was not watched."""
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        sign(work, item, body.number, body.note)
        return _shown(work, item)


def _shown(work: Work, item: Item) -> ReviewShown:
    rendition = served(work, item)
    rows = releases.reviews_of(work.session, rendition) if rendition is not None else []
    length_us = length_of(rendition) if rendition is not None else 0
    signed = [span for row in rows if row.signed_at is not None for span in spans_of(row)]
    mine = [span for row in rows if row.account_id == work.actor.account_id for span in spans_of(row)]
    return ReviewShown(
        number=plan_of(rendition) if rendition is not None else None,
        sha256=rendition.sha256.hex() if rendition is not None else None,
        length_us=length_us,
        coverage=coverage_of([rendition] if rendition is not None else []),
        people=[
            ReviewerShown(
                by=f"account:{row.account_id}",
                watched_us=total_us(spans_of(row)),
                spans=spans_of(row),
                reported_at=row.reported_at,
                signed_at=row.signed_at,
                note=row.note,
            )
            for row in rows
        ],
        unwatched=missing(signed, length_us),
        unwatched_by_me=missing(mine, length_us),
        lacks=_lacks(work, item, Recipient.ROLE),
        lacks_for_party=_lacks(work, item, Recipient.PARTY),
    )


def _lacks(work: Work, item: Item, kind: Recipient) -> list[LackShown]:
    found = lacks_of(work, item, kind)
    return [LackShown(code=code, message=f"expected {message}") for code, message in found.items()]


@gate.get(
    "/items/{item_id}/redaction/plans/{number}/check",
    Act.REVIEW_REDACTION,
    problems=(404,),
    summary="未通过的检验 A check that failed",
)
def get_check(item_id: UUID, number: PlanNumber, desk: DeskOf) -> CheckShown:
    """检验发现了什么,由谁放行。What the check of a version found, and who let it pass."""
    with desk.reading() as work:
        require_whole_original(work, items.item_by_id(work.session, work.agency_id, item_id))
        return CheckShown.of(_failure(work, item_id, number))


@gate.post(
    "/items/{item_id}/redaction/plans/{number}/override",
    Act.OVERRIDE_CHECK,
    problems=(404, 409),
    summary="放行 Let a version pass",
)
def override(item_id: UUID, number: PlanNumber, body: Override, desk: DeskOf) -> CheckShown:
    """仅限最新版本、可由人判断的发现(疑似人脸、变声相似),不得由修订人本人,须说明理由;随后重新渲染并检验。

    Of the newest version, by somebody who did not write it, for findings that are a likeness a person may
    judge (`face_left`, `voice_recognisable`), and for these alone: any other still blocks. It is rendered and
    checked once more.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        require_whole_original(work, item)
        failure = _failure(work, item_id, number, lock=True)
        _require_overridable(work, item, failure)
        failure.overridden_codes, failure.override_reason = list(failure.codes), body.reason
        failure.overridden_at, failure.overridden_by = work.now, work.actor.label
        row = items.plan_by_number(work.session, work.agency_id, item.id, number)
        source = source_of(work.session, work.agency_id, item, row.plan)
        if source is None:
            raise Conflict(
                f"item {item.id}: expected the rendition the plan was made for, found none; have it made",
                code="rendition_missing",
            )
        params = {"derivative": str(source.id), "plan": number}
        wanted = Wanted("render", "media", item.id, row.plan_sha256, params, 40)
        jobs.want(work.session, work.agency_id, wanted, work.now, again=True)
        facts = {"plan": number, "plan_sha256": row.plan_sha256.hex(), "findings": list(failure.codes)}
        work.record(Action.REDACTION_CHECK_OVERRIDDEN, "item", item.id, facts, {"reason": body.reason})
        return CheckShown.of(failure)


def _require_overridable(work: Work, item: Item, failure: CheckFailure) -> None:
    newest = items.newest_plan(work.session, work.agency_id, item.id)
    if newest is None or newest.number != failure.plan_number:
        raise Conflict(
            f"redaction plan: expected the newest version, found {failure.plan_number}; look at what changed",
            code="plan_not_newest",
        )
    # Of what is not listed nobody could say whether it is what was let pass.
    unlisted = {"more"} if failure.finding_count > len(failure.findings) else set()
    others = sorted(set(failure.codes) - OVERRIDABLE | unlisted)
    if others:
        raise Conflict(
            f"redaction plan {failure.plan_number}: expected findings a person may judge, found "
            f"{', '.join(others)}; amend the plan",
            code="check_not_overridable",
            findings=others,
        )
    if work.actor.label in {
        row.author for row in plans_of(work.session, work.agency_id, item.id, light=True)
    }:
        raise NotPermitted(
            f"redaction plan {failure.plan_number}: expected another person than its author, found the "
            "author; ask a colleague of legal review",
            code="plan_own",
        )


def _failure(work: Work, item_id: UUID, number: int, *, lock: bool = False) -> CheckFailure:
    row = releases.check_failure(work.session, work.agency_id, item_id, number, lock=lock)
    if row is None:
        raise NotFound(
            f"redaction plan {number}: expected a check that failed, found none", code="check_not_failed"
        )
    return row
