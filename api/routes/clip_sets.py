"""Numbered sets of clips for a timeline: what a case's sources recorded in a window, to take away."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import Response as PlainResponse

from api.auth.capability import Use, mint
from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.clip_sets import issue_clip_set
from api.composites import are_sources_served, issue_composite
from api.desk import Work
from api.issuing import Variant, permitted_span
from api.resolving import clip_set_name, may_still_have
from api.schemas.taking import ClipSetGap, ClipSetMember, ClipSetRequest, ClipSetShown, ClipShown
from api.schemas.viewing import LeftOut
from api.sheets import PRINTED
from api.taking import Taking, case_named, clip_shown, require_may_be_unmarked
from evidence.access import Act
from evidence.errors import NotPermitted
from storage.db import cases, clips, items
from storage.db.clip_tables import Clip, ClipSet
from transcode.clip_set import as_page, set_sheet

gate = Gate("片段 Clips")
CUT_PERMILLE = 950
"""Of a set's progress, what cutting is; the rest is packing."""
State = Literal["ready", "working", "failed", "withdrawn"]
Form = Literal["zip", "side_by_side", "picture_in_picture"]
FORMS: Mapping[str, Form] = {
    "zip": "zip",
    "side_by_side": "side_by_side",
    "picture_in_picture": "picture_in_picture",
}


@gate.post(
    "/clip-sets",
    Act.SEE_REDACTED,
    status_code=202,
    problems=(404, 409),
    summary="按案件与时段取片段集 A numbered set of clips",
)
def ask(body: ClipSetRequest, desk: DeskOf, response: Response) -> ClipSetShown:
    """时段内每段记录各成一个片段,按校正后的时间编号,逐件判断权限;空档与未列入者在随附单中注明。

    One clip for each piece recorded in the window, cut to it and numbered by corrected time. Each is decided
    by the right to its recording; the sheet names gaps and what was left out. At most 100 clips and 8 hours.
    With layout 合成画面: the sources of the window in one picture instead, as MP4; at most 30 minutes.
    """
    with desk.writing() as work:
        case = case_named(work, body.case_id, body.case_no)
        taking = Taking(case, Variant(body.variant), body.purpose, body.reason, body.marked, body.time_of_day)
        window = (body.from_at.astimezone(UTC), body.to_at.astimezone(UTC))
        if body.layout is None:
            row = issue_clip_set(work, taking, window, body.lanes)
        else:
            row = issue_composite(work, taking, window, body.lanes, layout=body.layout, sound=body.sound)
        response.headers["Location"] = f"/api/v1/clip-sets/{row.id}"
        return _shown(work, row)


@gate.get("/clip-sets/{set_id}", Act.SEE_REDACTED, problems=(404,), summary="片段集状态 A set of clips")
def get_set(set_id: UUID, desk: DeskOf) -> ClipSetShown:
    """各段的状态与下载地址,以及整集的下载地址。Each clip as it stands, and all of them in one file."""
    with desk.reading() as work:
        return _shown(work, _own(work, set_id))


@gate.get(
    "/clip-sets/{set_id}/sheet",
    Act.SEE_REDACTED,
    problems=(404, 410),
    response_model=dict[str, Any],
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    summary="片段集随附单 The sheet of a set",
)
def get_sheet(
    set_id: UUID,
    desk: DeskOf,
    form: Annotated[
        Literal["json", "html"], Query(description="数据或可打印页面 / Data, or a page to print")
    ] = "json",
) -> Any:
    """与整集文件中的随附单一致。The sheet as it lies in the set's file."""
    with desk.reading() as work:
        row = _own(work, set_id)
        for clip in clips.clips_of_set(work.session, work.agency_id, row.id):
            item = items.item_by_id(work.session, work.agency_id, clip.item_id)
            case = cases.case_by_id(work.session, work.agency_id, clip.case_id)
            permitted_span(work, item, Variant(clip.variant), case, (clip.span_from_us, clip.span_to_us))
        sheet = set_sheet(work.session, work.agency, row)
        if form == "json":
            return sheet
        page = as_page(sheet, work.agency.time_zone)
        headers = {"Content-Security-Policy": PRINTED}
        return PlainResponse(page, media_type="text/html; charset=utf-8", headers=headers)


def _own(work: Work, set_id: UUID) -> ClipSet:
    row = clips.set_by_id(work.session, work.agency_id, set_id)
    if row.account_id != work.actor.account_id:
        raise NotPermitted("clip set: expected your own, found another's; ask for one", code="clip_not_yours")
    first = clips.clips_of_set(work.session, work.agency_id, row.id)[0]
    if not first.marked:
        require_may_be_unmarked(work, first.reason)
    return row


def _shown(work: Work, row: ClipSet) -> ClipSetShown:
    held = clips.clips_of_set(work.session, work.agency_id, row.id)
    have_all = may_still_have(work.session, work.storage, held)
    members = [
        _member(work, row, clip, is_had=have_all or may_still_have(work.session, work.storage, [clip]))
        for clip in held
    ]
    made = (
        items.derivative_by_id(work.session, work.agency_id, row.derivative_id)
        if row.derivative_id is not None
        else None
    )
    job = clips.job_of(work.session, work.agency_id, row.id, "clip_set")
    states = {member.clip.state for member in members}
    if not are_sources_served(work, row):
        states.add("withdrawn")
    state: State = "working"
    if "withdrawn" in states or (made is not None and made.withdrawn_at is not None):
        state = "withdrawn"
    elif made is not None:
        state = "ready"
    elif job.state in {"quarantined", "cancelled"} if job is not None else "working" not in states:
        # Nothing of it could be cut, or somebody called a clip off: nobody will pack it.
        state = "failed"
    is_zip = row.form == "zip"
    done = [1000 if each.clip.state == "failed" else each.clip.progress_permille for each in members]
    cut = sum(done) * CUT_PERMILLE // (1000 * len(members))
    made_permille = job.progress_permille if job is not None else 0
    progress = cut + made_permille * (1000 - CUT_PERMILLE) // 1000 if is_zip else made_permille
    ready = made if state == "ready" else None
    return ClipSetShown(
        set_id=row.id,
        form=FORMS[row.form],
        state=state,
        variant=Variant(held[0].variant),
        from_at=row.window_from,
        to_at=row.window_to,
        members=members,
        gaps=[
            ClipSetGap(**{name: gap[name] for name in ClipSetGap.model_fields}) for gap in row.layout["gaps"]
        ],
        left_out=[LeftOut(**each) for each in row.layout["left_out"]],
        unplaced_count=row.layout["unplaced_count"],
        file_url=_file_url(work, row) if ready is not None else None,
        sha256=ready.sha256.hex() if ready is not None else None,
        size_bytes=ready.size_bytes if ready is not None else None,
        progress_permille=1000 if ready is not None else progress,
    )


def _member(work: Work, row: ClipSet, clip: Clip, *, is_had: bool) -> ClipSetMember:
    lies = row.layout["members"][str(clip.id)]
    shown: ClipShown = clip_shown(work, clip)
    if not is_had:
        gone = {"state": "withdrawn", "file_url": None, "sha256": None, "size_bytes": None}
        shown = shown.model_copy(update=gone)
    return ClipSetMember(
        number=clip.place or 0,
        lane=lies["lane"],
        starts_at=datetime.fromisoformat(lies["starts_at"]),
        ends_at=datetime.fromisoformat(lies["ends_at"]),
        clip=shown,
    )


def _file_url(work: Work, row: ClipSet) -> str:
    ends = work.now + timedelta(seconds=work.settings.media.grant_s)
    token = mint(work.storage.keys, Use.CLIP_SET, work.agency_id, row.id, ends)
    return f"{work.settings.media_url}/m/{token}/{clip_set_name(row)}"
