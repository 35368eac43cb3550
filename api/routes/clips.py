"""Clips by case number: the reviewer's main call.

To *watch* is a grant over bytes that are there; to *take away* is a file cut to the frame, or one picture,
made by a worker with the viewer's mark burnt in.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import Query, Response
from fastapi.responses import HTMLResponse

from api.auth.capability import Use, mint
from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.desk import Work
from api.issuing import REACHES, Variant, check_span, issue_grant, permitted_span, require_reason
from api.presenting import binding_shown, coverage_of, poster_url
from api.resolving import CLIPS, index_of, local_path, redacted_in_force
from api.routes.grants import show as show_grant
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_pair_cursor, write_cursor
from api.schemas.viewing import ClipRequest, ClipSheet, ClipShown, Reviewable
from api.sheets import PURPOSE_WORDS, printable, sheet_of
from evidence.access import Act, require
from evidence.case import normalise_case_no
from evidence.clock import to_micros
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound, NotPermitted
from evidence.item import Custody, Media, Redaction, is_reviewable
from evidence.kinds import MediaKind, RetrievalPurpose
from ingest.placement import placements_of
from storage.db import accounts, cases, clips, items, jobs
from storage.db.jobs import Wanted
from storage.db.tables import Case, CaseBinding, Clip, Derivative, Item
from transcode.picture import ShownPicture, picture_at, picture_of_number

gate = Gate("片段 Clips")
MOST_CANDIDATES = 200
PRINTED = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


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
        case = _case(work, None, case_no)
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
        case = _case(work, body.case_id, body.case_no)
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
        clip = _want(work, item, case, body)
        response.status_code = 202
        response.headers["Location"] = f"/api/v1/clips/{clip.id}"
        return _show(work, clip)


@gate.get("/clips/{clip_id}", Act.SEE_REDACTED, problems=(404,), summary="片段状态 A clip")
def get_clip(clip_id: UUID, desk: DeskOf) -> ClipShown:
    """裁剪完成后给出下载地址与摘要。Where the file is, once it is cut, with its digest."""
    with desk.reading() as work:
        return _show(work, _own(work, clip_id))


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
    return clip


def _case(work: Work, case_id: UUID | None, case_no: str | None) -> Case:
    if case_id is not None:
        return cases.case_by_id(work.session, work.agency_id, case_id)
    found = cases.case_by_key(work.session, work.agency_id, normalise_case_no(case_no or ""))
    if found is None:
        raise NotFound("case: expected one of the register, found none of that number", code="case_not_found")
    return found


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


def require_may_be_unmarked(work: Work, reason: str | None) -> None:
    """Raise unless the actor may take something away without a mark in it.

    Raises:
        NotPermitted: Nobody here may (``unmarked_not_permitted``), or the actor's roles may not.
        InvalidInput: No reason (``reason_missing``).
    """
    require(work.actor, Act.TAKE_UNMARKED)
    if not work.settings.media.unmarked_clips:
        raise NotPermitted(
            "mark: expected media.unmarked_clips to allow its absence, found it does not; leave marked out",
            code="unmarked_not_permitted",
        )
    if not reason:
        raise InvalidInput(
            "mark: expected a reason to leave it out, found none; say why", code="reason_missing"
        )


def _want(work: Work, item: Item, case: Case, body: ClipRequest) -> Clip:
    require_reason(body.variant, body.reason)
    if not body.marked:
        require_may_be_unmarked(work, body.reason)
    if item.media_kind == MediaKind.PHOTO:
        raise InvalidInput(
            "clip: expected video or sound, found a photo; ask for a grant", code="clip_of_photo"
        )
    # The right comes first: nobody else learns how many pictures there are, or when.
    reach = REACHES[body.variant](work, item, case)
    source = _source(work, item, body.variant)
    params: dict[str, Any] = {"derivative": str(source.id)}
    if body.form == "picture":
        picture = _picture(work, source, body)
        params |= {"frame": picture.number, "pts": picture.pts}
        asked: tuple[int, int] | None = picture.span_us
    else:
        asked = _asked_span(item, body)
    span = reach.choose(check_span(item, asked))
    length = int(source.info.get("duration_us") or item.duration_us or 0)
    clip = clips.add_clip(
        work.session,
        work.agency_id,
        account_id=work.actor.account_id,
        item_id=item.id,
        case_id=case.id,
        form=body.form,
        marked=body.marked,
        variant=str(body.variant),
        span_us=span or (0, max(length, 1)),
        purpose=str(body.purpose),
        reason=body.reason,
        now=work.now,
    )
    params["mark"] = _mark(work, clip, case) if clip.marked else []
    if body.time_of_day:
        params["clock_us"] = _clock_us(work, item, clip)
    wanted = Wanted("clip", "media", clip.id, source.sha256, params, 30)
    jobs.want(work.session, work.agency_id, wanted, work.now)
    facts = {
        "clip": str(clip.id),
        "form": clip.form,
        "marked": clip.marked,
        "variant": clip.variant,
        "purpose": clip.purpose,
        "case": str(case.id),
        "span_us": [clip.span_from_us, clip.span_to_us],
        "source_sha256": source.sha256.hex(),
    }
    work.record(Action.GRANT_ISSUED, "item", item.id, facts, {"reason": body.reason} if body.reason else None)
    return clip


def _source(work: Work, item: Item, variant: Variant) -> Derivative:
    """The rendition to cut from: the masked one, or the largest of the original."""
    if variant is Variant.REDACTED:
        return redacted_in_force(work.session, work.agency_id, item.id)
    made = items.derivatives_of(work.session, work.agency_id, item.id, kind="rendition")
    if not made:
        raise Conflict(
            f"item {item.id}: expected a rendition, found none yet; ask again", code="rendition_missing"
        )
    return max(made, key=lambda row: (row.info.get("height_px") or 0, row.id))


def _picture(work: Work, source: Derivative, body: ClipRequest) -> ShownPicture:
    """The picture that is meant, in the rendition it will be taken from.

    Raises:
        InvalidInput: There is none such (``picture_outside``), or the recording is of sound alone.
        Unavailable: The rendition is not on this machine (``store_not_local``).
    """
    path, index = local_path(work.storage, source.store_key), index_of(source)
    if body.at_us is not None:
        return picture_at(path, index, body.at_us)
    return picture_of_number(path, index, body.frame or 0)


def _clock_us(work: Work, item: Item, clip: Clip) -> int:
    """What a clock of the agency's zone showed at the item's media time 0, as if the zone were UTC.

    Raises:
        Conflict: Nobody knows when the recording began (``capture_time_unknown``).
    """
    placed = placements_of(work.session, work.agency_id, [item], work.now).get(item.id)
    if placed is None:
        raise Conflict(
            f"item {item.id}: expected a time it was captured at, found none; leave time_of_day out",
            code="capture_time_unknown",
        )
    shown = (placed.starts_at + timedelta(microseconds=clip.span_from_us)).astimezone(
        ZoneInfo(work.agency.time_zone)
    )
    return to_micros(placed.starts_at + (shown.utcoffset() or timedelta()))


def _mark(work: Work, clip: Clip, case: Case) -> list[dict[str, str]]:
    """The lines burnt in: case, viewer, time, purpose; Latin ones for where no Chinese font is."""
    viewer = accounts.account_by_id(work.session, work.agency_id, work.actor.account_id)
    at = work.now.astimezone(ZoneInfo(work.agency.time_zone)).strftime("%Y-%m-%d %H:%M:%S")
    purpose = RetrievalPurpose(clip.purpose)
    masked = clip.variant == Variant.REDACTED
    return [
        {
            "text": f"{case.case_no} {'脱敏件' if masked else '原件'} {PURPOSE_WORDS[purpose]}",
            "latin": f"case {case.id} {clip.variant} {purpose}",
        },
        {
            "text": f"{viewer.display_name}({viewer.username}){at}",
            "latin": f"account {viewer.id} {at}",
        },
        {"text": f"clip {clip.id}", "latin": f"clip {clip.id}"},
    ]


def _show(work: Work, clip: Clip) -> ClipShown:
    row = (
        items.derivative_by_id(work.session, work.agency_id, clip.derivative_id)
        if clip.derivative_id is not None
        else None
    )
    job = clips.job_of(work.session, work.agency_id, clip.id)
    item = items.item_by_id(work.session, work.agency_id, clip.item_id)
    state: Literal["ready", "working", "failed", "withdrawn"] = "working"
    if row is not None:
        state = "ready" if row.withdrawn_at is None else "withdrawn"
    elif job is not None and job.state in {"quarantined", "cancelled"}:
        state = "failed"
    ready = row is not None and state == "ready"
    return ClipShown(
        form="picture" if clip.form == "picture" else "file",
        state=state,
        item_id=clip.item_id,
        clip_id=clip.id,
        grant=None,
        variant=Variant(clip.variant),
        span_us=(clip.span_from_us, clip.span_to_us),
        file_url=_file_url(work, clip) if ready else None,
        sha256=row.sha256.hex() if row is not None and ready else None,
        size_bytes=row.size_bytes if row is not None and ready else None,
        progress_permille=1000 if ready else (job.progress_permille if job is not None else 0),
        quarantined=item.custody == Custody.QUARANTINED,
        reason="clip could not be cut; ask again" if state == "failed" else None,
    )


def _file_url(work: Work, clip: Clip) -> str:
    ends = work.now + timedelta(seconds=work.settings.media.grant_s)
    token = mint(work.storage.keys, Use.CLIP, work.agency_id, clip.id, ends)
    return f"{work.settings.media_url}/m/{token}/{CLIPS[clip.form]}"
