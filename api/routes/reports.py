"""Reports as JSON, CSV or XLSX, and late items with their reasons.

Reports on equipment name devices and holders. Those on conduct say what officers recorded and when; the
system administrator, who runs the machine, does not read them (A7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from api.auth.gate import Gate
from api.auth.rights import own_number, require_may_explain
from api.auth.seat import DeskOf
from api.schemas.common import (
    PAGE_DEFAULT,
    Instant,
    Limit,
    Page,
    read_id_cursor,
    read_place_cursor,
    write_cursor,
)
from api.schemas.ledger import ColumnShown, LatenessShown, LateReason, ReportShown
from evidence.access import Act
from evidence.errors import InvalidInput
from ingest import absence, lateness, ledger_health, sheets
from ingest.ledger_report import Report, as_csv, as_xlsx, json_row
from storage.db import items, ledger_duty
from storage.db.ledger_tables import Lateness
from storage.db.tables import Agency, Item

gate = Gate("报表 Reports")
LONGEST = timedelta(days=400)
SPOOLED_BYTES = 1 << 18
DEFAULT_PERIOD = timedelta(days=7)
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class Format(StrEnum):
    """How a report is wanted."""

    JSON = "json"
    CSV = "csv"
    XLSX = "xlsx"


Since = Annotated[
    Instant | None, Query(description="起,默认止前七天 / From; default seven days before the end")
]
Until = Annotated[Instant | None, Query(description="止(不含),默认现在 / To, not included; default now")]
As = Annotated[Format, Query(alias="format", description="json、csv 或 xlsx / All rows in csv and xlsx")]
Cursor = Annotated[str | None, Query(max_length=200)]
Maker = Callable[[Session, Agency, datetime, datetime, datetime], Report]
FILES: dict[str, Any] = {
    "responses": {
        200: {
            "description": "报表 / The report",
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                sheets.XLSX_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
    "response_model": ReportShown,
}


@gate.get("/reports/ratio", Act.REPORT_ON_EQUIPMENT, summary="配备率 Ratio", **FILES)
def ratio(
    desk: DeskOf,
    since: Since = None,
    until: Until = None,
    wanted: As = Format.JSON,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> ReportShown | Response:
    """截至期末的记录仪与人员(R13)。Recorders and officers as of the end."""
    return _answer(desk, ledger_health.ratio, since, until, wanted, cursor, limit)


@gate.get("/reports/clock", Act.REPORT_ON_EQUIPMENT, summary="时钟漂移 Clock drift", **FILES)
def clock(
    desk: DeskOf,
    since: Since = None,
    until: Until = None,
    wanted: As = Format.JSON,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> ReportShown | Response:
    """每段自由走时的日漂移,与规则比对(D4)。Drift of each free stretch against the policy."""
    return _answer(desk, ledger_health.clock, since, until, wanted, cursor, limit)


@gate.get("/reports/health", Act.REPORT_ON_EQUIPMENT, summary="健康与更新 Health", **FILES)
def health(
    desk: DeskOf,
    since: Since = None,
    until: Until = None,
    wanted: As = Format.JSON,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> ReportShown | Response:
    """截至期末需处理或更新的设备(R12、R15)。Devices that need a person, or to be replaced, as of the end."""
    return _answer(desk, ledger_health.health, since, until, wanted, cursor, limit)


@gate.get("/reports/absence", Act.REPORT_ON_CONDUCT, summary="应录未录 Absence", **FILES)
def absent(
    desk: DeskOf,
    since: Since = None,
    until: Until = None,
    wanted: As = Format.JSON,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> ReportShown | Response:
    """执勤未录、缺传、过短、间断、逾期(R14)。On duty but silent, missing files, short, interrupted, late."""
    return _answer(desk, absence.absence, since, until, wanted, cursor, limit)


@gate.get("/reports/lateness", Act.REPORT_ON_CONDUCT, summary="逾期上传 Lateness", **FILES)
def late(
    desk: DeskOf,
    since: Since = None,
    until: Until = None,
    wanted: As = Format.JSON,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> ReportShown | Response:
    """期内到期而逾期上传者及原因。What was due in the period and came later, with the reasons."""
    return _answer(desk, absence.lateness, since, until, wanted, cursor, limit)


def _answer(
    desk: DeskOf,
    make: Maker,
    since: datetime | None,
    until: datetime | None,
    wanted: Format,
    cursor: str | None,
    limit: int,
) -> ReportShown | Response:
    place = read_place_cursor(cursor)
    with desk.reading() as work:
        start, end = _period(since, until, work.now)
        report = make(work.session, work.agency, start, end, work.now)
        if wanted is not Format.JSON:
            return _file(report, wanted, work.agency.time_zone)
        rows, has_more = report.page(place, limit)
    return ReportShown(
        name=report.name,
        title=report.title,
        since=report.since,
        until=report.until,
        made_at=report.made_at,
        figures=dict(report.figures),
        policies=[dict(entry) for entry in report.policies],
        columns=[ColumnShown(key=column.key, heading=column.heading) for column in report.columns],
        rows=[json_row(row) for row in rows],
        next_cursor=write_cursor(place + limit) if has_more else None,
    )


def _file(report: Report, wanted: Format, zone_name: str) -> Response:
    """The report as a file: whole on the disk, where it is long, before its first byte goes out."""
    file = SpooledTemporaryFile(max_size=SPOOLED_BYTES)  # noqa: SIM115 - closed when it was sent
    if wanted is Format.CSV:
        as_csv(report, zone_name, file)
    else:
        as_xlsx(report, zone_name, file)
    size = file.tell()
    file.seek(0)
    headers = {
        "Content-Disposition": f'attachment; filename="{report.name}.{wanted}"',
        "Content-Length": str(size),
    }
    media_type = "text/csv; charset=utf-8" if wanted is Format.CSV else sheets.XLSX_TYPE
    return StreamingResponse(_parts(file), media_type=media_type, headers=headers)


def _parts(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while part := file.read(SPOOLED_BYTES):
            yield part


def _period(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    end = until or now
    if not EARLIEST < end < LATEST:
        raise _no_period()
    start = since or end - DEFAULT_PERIOD
    if not (EARLIEST < start < end and end - start <= LONGEST):
        raise _no_period()
    return start, end


def _no_period() -> InvalidInput:
    return InvalidInput(
        f"period: expected since before until, at most {LONGEST.days} days apart, found another",
        code="period_invalid",
    )


# --- late items -------------------------------------------------------------------------------


@gate.get("/lateness", Act.GIVE_REASON, summary="待说明的逾期 Late items")
def list_lateness(
    desk: DeskOf,
    unanswered: Annotated[bool, Query(description="只列未说明者 / Without a reason only")] = False,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[LatenessShown]:
    """新者在前;执法人员只见本人所录。Newest first; an officer sees what the officer recorded."""
    after = read_id_cursor(cursor)
    with desk.reading() as work:
        only = own_number(work)
        if only == "":
            return Page(items=[], next_cursor=None)
        rows = ledger_duty.page_of_lateness(
            work.session,
            work.agency_id,
            collector=only,
            unanswered=unanswered,
            after=after,
            limit=limit + 1,
        )
        shown = rows[:limit]
        return Page(
            items=[_late(row, item, device_no) for row, item, device_no in shown],
            next_cursor=write_cursor(shown[-1][0].id) if len(rows) > limit else None,
        )


@gate.post(
    "/items/{item_id}/lateness", Act.GIVE_REASON, problems=(404, 409), summary="说明逾期原因 Give the reason"
)
def give_reason(item_id: UUID, body: LateReason, desk: DeskOf) -> LatenessShown:
    """只说明一次,留账号与时间;执法人员限本人所录。Said once; an officer for what the officer recorded."""
    with desk.writing() as work:
        item = items.item_by_id(work.session, work.agency_id, item_id)
        require_may_explain(work, item)
        row = lateness.give_reason(
            work.session, work.agency, item_id, body.reason, actor=work.actor.label, now=work.now
        )
        return _late(row, item, None)


def _late(row: Lateness, item: Item, device_no: str | None) -> LatenessShown:
    return LatenessShown(
        item_id=item.id,
        officer_no=item.collector,
        device_no=device_no,
        captured_to=item.captured_to,
        due_at=row.due_at,
        late_by_s=row.late_by_us // 1_000_000,
        reason=row.reason,
        reason_at=row.reason_at,
    )
