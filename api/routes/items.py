"""Items: finding them, what is known and said of them, facts, receipts, posters."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from api.auth.gate import Gate
from api.auth.rights import is_showable, redacted_reach, require_may_bind, require_may_state, sees_original
from api.auth.seat import DeskOf
from api.desk import Work
from api.presenting import Presenter, is_private_claim, recording_shown
from api.resolving import newest
from api.schemas.common import PAGE_DEFAULT, Instant, Limit, Number, Page, read_id_cursor, write_cursor
from api.schemas.items import (
    BindingState,
    ClaimShown,
    FactsChange,
    ItemDetail,
    ItemShown,
    ReceiptShown,
    RecordingShown,
)
from api.web import PLACEHOLDER, SOUND
from evidence.access import Act, require
from evidence.case import normalise_case_no
from evidence.errors import NotFound, NotPermitted
from evidence.kinds import MediaKind
from ingest import binding
from ingest.correction import ClaimView, views_of
from ingest.grouping import recording_of
from ingest.stating import state_facts
from storage.db import agencies, cases, items
from storage.db.items import ItemFilter
from storage.db.tables import Derivative, Item

gate = Gate("音像记录 Items")
Cursor = Annotated[str | None, Query(max_length=200)]


@gate.get("/items", Act.LIST_ITEMS, problems=(404,), summary="检索 Search items")
def list_items(
    desk: DeskOf,
    case_no: Annotated[str | None, Query(max_length=240, description="案件编号 / Case number")] = None,
    officer_no: Annotated[Number | None, Query(description="采集人编号 / Officer number")] = None,
    device_no: Annotated[Number | None, Query(description="设备编号 / Device number")] = None,
    since: Annotated[Instant | None, Query(description="采集时间起 / Captured at or after")] = None,
    until: Annotated[Instant | None, Query(description="采集时间止 / Captured before")] = None,
    binding_state: Annotated[BindingState | None, Query(description="关联状态 / Binding")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[ItemShown]:
    """按案件、人员、设备、时间、关联状态检索,新者在前。All conditions hold together; newest first."""
    after = read_id_cursor(cursor)
    with desk.reading() as work:
        wanted = _filter(work, case_no, officer_no, device_no, since, until, binding_state)
        if wanted is None:
            return Page(items=[], next_cursor=None)
        rows = items.page_of_items(work.session, work.agency_id, wanted, after=after, limit=limit + 1)
        shown = rows[:limit]
        present = Presenter(work, shown)
        return Page(
            items=[present.item(item) for item in shown],
            next_cursor=write_cursor(shown[-1].id) if len(rows) > limit else None,
        )


def _filter(
    work: Work,
    case_no: str | None,
    officer_no: str | None,
    device_no: str | None,
    since: datetime | None,
    until: datetime | None,
    binding_state: BindingState | None,
) -> ItemFilter | None:
    """What to look for; None when a case or device was named that there is not."""
    case = device = None
    if case_no is not None:
        case = cases.case_by_key(work.session, work.agency_id, normalise_case_no(case_no))
        if case is None:
            return None
    if device_no is not None:
        device = agencies.device_by_no(work.session, work.agency_id, device_no)
        if device is None:
            return None
    return ItemFilter(
        case_id=case.id if case else None,
        device_id=device.id if device else None,
        collector=officer_no,
        binding=binding_state,
        captured_since=since,
        captured_until=until,
    )


@gate.get("/items/{item_id}", Act.LIST_ITEMS, problems=(404,), summary="一件音像记录 An item")
def get_item(item_id: UUID, desk: DeskOf) -> ItemDetail:
    """状态、五要素、接收、衍生件、脱敏范围。State, five facts, receptions, derivatives, coverage."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        return Presenter(work, [item]).detail(item)


@gate.get("/items/{item_id}/claims", Act.LIST_ITEMS, problems=(404,), summary="各方所述 Claims")
def claims(item_id: UUID, desk: DeskOf) -> list[ClaimShown]:
    """设备、文件名、采集站、人员各自所述,并列保存;位置与设备信息仅原件权限者可见。

    What each source said, side by side, never merged. Place and device are for holders of the right to the
    original; others read that they were said, and by what.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        is_holder = sees_original(work, item)
        rows = items.claims_of(work.session, work.agency_id, item.id)
        return [
            _claim_shown(view, hidden=is_private_claim(view.claim.field) and not is_holder)
            for view in views_of(work.session, item, rows, work.now)
        ]


def _claim_shown(view: ClaimView, *, hidden: bool) -> ClaimShown:
    row, correction = view.claim, view.correction
    return ClaimShown(
        field=row.field,
        value=None if hidden else row.value,
        hidden=hidden,
        source=row.source,
        clock=row.clock,
        made_at=row.made_at,
        corrected=None if hidden else view.corrected_at,
        offset_us=None if correction is None else correction.offset // timedelta(microseconds=1),
        offset_basis=None if correction is None else correction.basis,
    )


@gate.get("/items/{item_id}/recording", Act.LIST_ITEMS, problems=(404,), summary="同次录制 Recording")
def recording(item_id: UUID, desk: DeskOf) -> RecordingShown:
    """同一次按键的各文件,按先后排列,附间隔、重叠与缺号。

    The files of one press of the button in their order, what lies between them, and numbers that are missing.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        return recording_shown(recording_of(work.session, item))


@gate.get("/items/{item_id}/receipts", Act.LIST_ITEMS, problems=(404,), summary="回执 Receipts")
def receipts(item_id: UUID, desk: DeskOf) -> list[ReceiptShown]:
    """仅有签名回执方可清除设备存储。Only a signed receipt lets a device be wiped."""
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        return [
            ReceiptShown(reception_id=row.id, received_at=row.received_at, receipt=row.receipt)
            for row in items.receptions_of(work.session, work.agency_id, item.id)
        ]


@gate.put("/items/{item_id}/facts", Act.SET_FACTS, problems=(404, 409), summary="填写五要素 Set facts")
def set_facts(item_id: UUID, body: FactsChange, desk: DeskOf) -> ItemDetail:
    """所填各项作为人员陈述留存并生效;案件编号即关联。限采集人、所关联案件的承办人、档案人员。

    Each fact is kept as a person's claim and applied; a case number binds the item, by that right. For its
    collector, the handler of the case it is bound to and the archive; of what is nobody's, for any of them.
    """
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id, lock=True)
        require_may_state(work, item)
        said = body.model_dump(exclude_unset=True, exclude_none=True, exclude={"case_no"})
        state_facts(work.session, work.agency, item, said, actor=work.actor.label, now=work.now)
        if body.case_no is not None:
            _file(work, item, body.case_no)
        return Presenter(work, [item]).detail(item)


def _file(work: Work, item: Item, case_no: str) -> None:
    """Bind to the case unless it is bound there already."""
    require(work.actor, Act.BIND)
    require_may_bind(work, item)
    case = cases.case_by_key(work.session, work.agency_id, normalise_case_no(case_no))
    if case is None:
        raise NotFound("case: expected one of the register, found none of that number", code="case_not_found")
    tied = cases.bindings_of(work.session, work.agency_id, item.id)
    if any(row.case_id == case.id and row.state == "bound" for row in tied):
        return
    binding.bind(
        work.session,
        work.agency,
        item,
        case,
        author=work.actor.label,
        reason="case number stated as a fact",
        now=work.now,
    )


@gate.get(
    "/items/{item_id}/poster",
    Act.SEE_REDACTED,
    problems=(404,),
    response_class=Response,
    responses={
        200: {"description": "JPEG, or the placeholder", "content": {"image/jpeg": {}, "image/svg+xml": {}}}
    },
    summary="封面 Poster",
)
def poster(item_id: UUID, desk: DeskOf) -> Response:
    """脱敏后的封面;脱敏完成前、未通过校验或不在可调阅时段内时为占位图,录音为其图标。

    The masked poster; a placeholder until there is one, while the item is not verified, and where the
    picture lies outside the spans that may be seen. Sound alone has a sign of its own, for it has no picture.
    """
    with desk.reading() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        if item.media_kind == MediaKind.AUDIO:
            return Response(SOUND, media_type="image/svg+xml", headers={"X-Liuhen-State": "sound"})
        for kind in ("redacted_poster", "redacted_photo"):
            row = newest(work.session, work.agency_id, item.id, kind)
            if row is not None and row.masked and _may_see_still(work, item, row):
                with work.storage.objects.open(row.store_key) as file:
                    return Response(file.read(), media_type=row.content_type)
    return Response(PLACEHOLDER, media_type="image/svg+xml", headers={"X-Liuhen-State": "pending"})


def _may_see_still(work: Work, item: Item, row: Derivative) -> bool:
    """Whether a masked still may be shown; one that says no time may be of any moment."""
    if not is_showable(item):
        return False
    try:
        reach = redacted_reach(work, item, None)
    except NotPermitted:
        # By a release alone, and there is none.
        return False
    at_us = row.info.get("at_us")
    return reach.spans is None or (
        at_us is not None and any(start <= at_us < end for start, end in reach.spans)
    )
