"""Clips by case number: the reviewer's main call.

To *watch* is a grant over bytes that are there; to *take away* is a file cut to the frame, or one picture,
made by a worker with the viewer's mark burnt in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import HTMLResponse

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.issuing import Variant, issue_grant, permitted_span
from api.presenting import binding_shown, coverage_of, poster_url
from api.routes.grants import show as show_grant
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_pair_cursor, write_cursor
from api.schemas.taking import ClipRequest, ClipSheet, ClipShown
from api.schemas.viewing import Reviewable
from api.sheets import PRINTED, printable, sheet_of
from api.taking import Taking, case_named, clip_shown, require_may_be_unmarked, want_clip, want_picture
from evidence.access import Act
from evidence.errors import Conflict, InvalidInput, NotPermitted
from evidence.item import Custody, Media, Redaction, is_reviewable
from storage.db import cases, clips, items
from storage.db.clip_tables import Clip
from storage.db.tables import Case, CaseBinding, Item

gate = Gate("片段 Clips")
MOST_CANDIDATES = 200


@gate.get("/clips", Act.SEE_REDACTED, problems=(404,), summary="案件可调阅片段 Clips of a case")
def list_clips(
    desk: DeskOf,
    case_no: Annotated[str, Query(max_length=240, description="案件编号,任意写法 / Any spelling")],
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[Reviewable]:
    """按案件编号列出脱敏件:可看的与正在脱敏的。Masked renditions of a case: ready, and being made."""
    after = read_pair_cursor(cursor)
    with desk.reading() as work:
        case = case_named(work, None, case_no)
        rows = cases.items_of_case(work.session, work.agency_id, case.id, after=after, limit=limit + 1)
        shown = rows[:limit]
        return Page(
            items=[_reviewable(work, item, row, case) for item, row in shown],
            next_cursor=write_cursor(shown[-1][1].item_id, shown[-1][1].id) if len(rows) > limit else None,
        )


def _reviewable(work: Work, item: Item, row: CaseBinding, case: Case) -> Reviewable:
    made = items.derivatives_of(work.session, work.agency_id, item.id)
    masked = [each for each in made if each.masked and each.kind in {"redacted", "redacted_photo"}]
    tied = binding_shown(row, case)
    return Reviewable(
        item_id=item.id,
        av_record_no=item.av_record_no,
        original_name=item.original_name,
        captured_from=item.captured_from,
        duration_us=item.duration_us,
        span_us=tied.span_us,
        binding="bound" if row.state == "bound" else "suggested",
        state="ready" if masked and _is_reviewable(item) else "pending",
        sha256=masked[-1].sha256.hex() if masked else None,
        poster_url=poster_url(item.id),
        coverage=coverage_of(made),
    )


def _is_reviewable(item: Item) -> bool:
    return is_reviewable(Custody(item.custody), Media(item.media), Redaction(item.redaction))


@gate.post(
    "/clips",
    Act.SEE_REDACTED,
    status_code=201,
    problems=(404, 409),
    responses={202: {"description": "正在裁剪 / Being cut", "model": ClipShown}},
    summary="按案件编号取片段 A clip by case number",
)
def ask(body: ClipRequest, desk: DeskOf, response: Response) -> ClipShown:
    """`watch` 立即返回播放地址;`file`、`picture` 返回 202,由工作进程裁剪或取帧并加注水印。

    `watch` gives a playlist at once. `file` and `picture` answer 202: a worker cuts to the frame, or takes
    the one picture shown at `at_us` or numbered `frame` as PNG, and burns the mark in.
    """
    with desk.writing() as work:
        case = case_named(work, body.case_id, body.case_no)
        item = (
            items.item_by_id(work.session, work.agency_id, body.item_id, lock=True)
            if body.item_id is not None
            else items.item_by_id(work.session, work.agency_id, _only_reviewable(work, case).id, lock=True)
        )
        if body.form == "watch":
            asked = _asked_span(item, body)
            grant = issue_grant(
                work, item, body.variant, purpose=body.purpose, reason=body.reason, case=case, asked=asked
            )
            shown = show_grant(work, item, grant)
            return ClipShown(
                form="watch", state=shown.state, item_id=item.id, clip_id=None, grant=shown,
                variant=body.variant, span_us=shown.span_us, file_url=shown.file_url, sha256=None,
                size_bytes=None, progress_permille=0, quarantined=shown.quarantined, reason=None,
            )  # fmt: skip
        taking = Taking(case, body.variant, body.purpose, body.reason, body.marked, body.time_of_day)
        taking.require(work)
        if body.form == "picture":
            clip = want_picture(work, item, taking, at_us=body.at_us, frame=body.frame)
        else:
            clip = want_clip(work, item, taking, _asked_span(item, body))
        response.status_code = 202
        response.headers["Location"] = f"/api/v1/clips/{clip.id}"
        return clip_shown(work, clip)


@gate.get("/clips/{clip_id}", Act.SEE_REDACTED, problems=(404,), summary="片段状态 A clip")
def get_clip(clip_id: UUID, desk: DeskOf) -> ClipShown:
    """裁剪完成后给出下载地址与摘要。Where the file is, once it is cut, with its digest."""
    with desk.reading() as work:
        return clip_shown(work, _own(work, clip_id))


@gate.get(
    "/clips/{clip_id}/sheet",
    Act.SEE_REDACTED,
    problems=(404, 410),
    response_model=ClipSheet,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    summary="片段随附单 The sheet of a clip",
)
def get_sheet(
    clip_id: UUID,
    desk: DeskOf,
    form: Annotated[
        Literal["json", "html"], Query(description="数据或可打印页面 / Data, or a page to print")
    ] = "json",
) -> Any:
    """随片段移交:片段与原件的摘要、时段、目的、调取人、流转记录与脱敏范围。

    To hand over with a clip: digests of clip and original, span, purpose, who, custody leaf, coverage.
    """
    with desk.reading() as work:
        sheet = sheet_of(work, _own(work, clip_id))
        if form == "json":
            return sheet
        return HTMLResponse(
            printable(sheet, work.agency.time_zone), headers={"Content-Security-Policy": PRINTED}
        )


def _own(work: Work, clip_id: UUID) -> Clip:
    """The actor's own clip; the right is asked for again, because a case may have changed hands since.

    Raises:
        NotPermitted: Another's (``clip_not_yours``), or the right has ended.
    """
    clip = clips.clip_by_id(work.session, work.agency_id, clip_id)
    if clip.account_id != work.actor.account_id:
        raise NotPermitted("clip: expected your own, found another's; ask for one", code="clip_not_yours")
    item = items.item_by_id(work.session, work.agency_id, clip.item_id)
    case = cases.case_by_id(work.session, work.agency_id, clip.case_id)
    permitted_span(work, item, Variant(clip.variant), case, (clip.span_from_us, clip.span_to_us))
    if not clip.marked:
        require_may_be_unmarked(work, clip.reason)
    return clip


def _only_reviewable(work: Work, case: Case) -> Item:
    """The case's one item that can be reviewed.

    Raises:
        Conflict: There is none yet, or more than one: `candidates` lists them.
    """
    rows = cases.items_of_case(work.session, work.agency_id, case.id, after=None, limit=MOST_CANDIDATES)
    found = {item.id: item for item, _ in rows if _is_reviewable(item)}
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise Conflict(
            f"case {case.case_no}: expected an item that can be reviewed, found none of {len(rows)} yet",
            code="nothing_reviewable",
        )
    raise Conflict(
        f"case {case.case_no}: expected one item, found {len(found)}; name one by item_id",
        code="item_ambiguous",
        candidates=[str(item_id) for item_id in found],
    )


def _asked_span(item: Item, body: ClipRequest) -> tuple[int, int] | None:
    if body.from_ms is None and body.to_ms is None:
        return None
    start = (body.from_ms or 0) * 1000
    end = body.to_ms * 1000 if body.to_ms is not None else item.duration_us
    if end is None or end <= start:
        raise InvalidInput(
            f"span: expected inside 0 to {item.duration_us} µs, found {start} to {end}", code="span_invalid"
        )
    return start, end
