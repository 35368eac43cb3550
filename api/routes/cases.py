"""Cases: opening, finding, changing, importing, and what footage each has."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query

from api.auth.gate import Gate
from api.auth.rights import require_case
from api.auth.seat import DeskOf
from api.desk import Work
from api.issuing import revoke_after_handover
from api.presenting import Presenter
from api.schemas.cases import CaseChange, CaseOpening, CaseShown, CasesImported, LineNotTaken
from api.schemas.common import (
    PAGE_DEFAULT,
    Limit,
    Page,
    read_pair_cursor,
    read_time_cursor,
    write_cursor,
)
from api.schemas.items import ItemInCase
from api.schemas.timeline import TimelinePage
from api.table_body import TableBody, beginning, table_of
from api.timelines import page_of
from evidence.access import Act
from evidence.case import normalise_case_no
from evidence.kinds import Role
from ingest import register
from ingest.timeline import timeline_of_case
from storage.db import accounts, cases
from storage.db.tables import Case

gate = Gate("案件 Cases")
CaseNo = Annotated[str, Query(max_length=240, description="案件编号,任意写法 / Case number, any spelling")]


@gate.post("/cases", Act.OPEN_CASE, status_code=201, problems=(404, 409), summary="立案 Open a case")
def open_case(body: CaseOpening, desk: DeskOf) -> CaseShown:
    """编号须符合本机关格式且未被占用。The number has the agency's form and is free in every spelling."""
    with desk.writing() as work:
        handler_id = None
        if body.handler is not None:
            handler_id = accounts.account_by_name(work.session, work.agency_id, body.handler).id
        elif Role.HANDLER in work.actor.roles:
            handler_id = work.actor.account_id
        new = register.NewCase(
            body.case_no, body.kind, body.cause, body.party, handler_id, body.officer_no, body.opened_at
        )
        case = register.open_case(work.session, work.agency, new, actor=work.actor.label, now=work.now)
        return CaseShown.of(case)


@gate.get("/cases", Act.LIST_CASES, summary="案件列表 List cases")
def list_cases(
    desk: DeskOf,
    case_no: CaseNo | None = None,
    prefix: CaseNo | None = None,
    is_open: Annotated[bool | None, Query(description="仅未结/已结 / Open or closed only")] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[CaseShown]:
    """按编号(任意写法)或前缀查找,新案在前。By number in any spelling, or its beginning; newest first."""
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        if case_no is not None:
            found = cases.case_by_key(work.session, work.agency_id, normalise_case_no(case_no))
            return Page(items=[CaseShown.of(found)] if found else [], next_cursor=None)
        rows = cases.page_of_cases(
            work.session,
            work.agency_id,
            prefix=normalise_case_no(prefix) if prefix else None,
            is_open=is_open,
            after=after,
            limit=limit + 1,
        )
        more = len(rows) > limit
        shown = rows[:limit]
        return Page(
            items=[CaseShown.of(case) for case in shown],
            next_cursor=write_cursor(shown[-1].opened_at, shown[-1].id) if more else None,
        )


_CSV_EXAMPLE = "案件编号,案由,承办人,立案日期\n示执罚〔2026〕17号,占道经营,zhang.san,2026-03-01\n"


@gate.post(
    "/cases/import",
    Act.OPEN_CASE,
    summary="批量导入 Import cases",
    openapi_extra=table_of(_CSV_EXAMPLE),
)
def import_cases(body: TableBody, desk: DeskOf) -> CasesImported:
    """CSV(UTF-8 或 GB 18030)或 XLSX,中英文表头。合格的行全部导入,不合格的逐行说明。

    CSV or XLSX with Chinese or English headings. Every good line is taken; each bad one is one clear finding.
    Lines are taken 200 to a transaction.
    """
    with desk.reading() as work:
        sheet = register.read_sheet(work.session, work.agency, body)

    done = register.take_sheet(beginning(desk), sheet, actor=work.actor.label, now=work.now)
    return CasesImported(
        taken=len(done.cases),
        case_ids=[case.id for case in done.cases],
        not_taken=[
            LineNotTaken(line=found.line, code=found.code, message=found.message) for found in done.findings
        ],
    )


@gate.get("/cases/{case_id}", Act.LIST_CASES, problems=(404,), summary="案件 A case")
def get_case(case_id: UUID, desk: DeskOf) -> CaseShown:
    """一个案件的登记内容。What the register says of a case."""
    with desk.reading() as work:
        return CaseShown.of(cases.case_by_id(work.session, work.agency_id, case_id))


@gate.patch("/cases/{case_id}", Act.OPEN_CASE, problems=(404, 409), summary="变更或结案 Change or close")
def change_case(case_id: UUID, body: CaseChange, desk: DeskOf) -> CaseShown:
    """仅现承办人、法制审核或档案人员可变更、结案、更换承办人。

    Only the present handler, legal review or the archive may change, close or hand over a case.
    """
    with desk.writing() as work:
        case = cases.case_by_id(work.session, work.agency_id, case_id, lock=True)
        require_case(work.actor, case)
        given = body.model_dump(exclude_unset=True)
        changes: dict[str, str | UUID | None] = {
            name: given[name] for name in ("cause", "party", "officer_no") if name in given
        }
        if "handler" in given:
            changes["handler_id"] = _hand_over(work, case, given["handler"])
        register.change_case(work.session, work.agency, case, changes, actor=work.actor.label, now=work.now)
        if body.closed_at is not None:
            register.close_case(
                work.session, work.agency, case, body.closed_at, actor=work.actor.label, now=work.now
            )
        return CaseShown.of(case)


def _hand_over(work: Work, case: Case, username: str | None) -> UUID | None:
    """The account to hand the case to; what its handler saw of its originals ends."""
    new = None if username is None else accounts.account_by_name(work.session, work.agency_id, username).id
    if case.handler_id is not None and case.handler_id != new:
        revoke_after_handover(work, case.id, case.handler_id)
    return new


@gate.get("/cases/{case_id}/items", Act.LIST_ITEMS, problems=(404,), summary="案件影像 Items of a case")
def items_of_case(
    case_id: UUID,
    desk: DeskOf,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[ItemInCase]:
    """案件关联的音像记录、时段、状态与缺项(R6)。Items of the case: span, state, missing facts."""
    after = read_pair_cursor(cursor)
    with desk.reading() as work:
        case = cases.case_by_id(work.session, work.agency_id, case_id)
        rows = cases.items_of_case(work.session, work.agency_id, case.id, after=after, limit=limit + 1)
        shown = rows[:limit]
        present = Presenter(work, [item for item, _ in shown], case)
        return Page(
            items=[present.in_case(item, binding, case) for item, binding in shown],
            next_cursor=write_cursor(shown[-1][1].item_id, shown[-1][1].id) if len(rows) > limit else None,
        )


@gate.get("/cases/{case_id}/timeline", Act.LIST_ITEMS, problems=(404,), summary="案件时间轴 Timeline")
def timeline(
    case_id: UUID,
    desk: DeskOf,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> TimelinePage:
    """案件全部音像按校正后的时间排列,分来源给出空档与重叠,各只出现一次;时间不明的另列于最后。

    Everything of the case by corrected wall time, with gaps and overlaps of each source and of all. What
    nobody knows the time of comes last. A gap or overlap is told once, on the page of the piece that ends it.
    """
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        case = cases.case_by_id(work.session, work.agency_id, case_id)
        found = timeline_of_case(work.session, work.agency_id, case.id, work.now)
        return page_of(case, found, after, limit)
