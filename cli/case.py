"""`liuhen case add|list|import|timeline`."""

from __future__ import annotations

import argparse
from uuid import UUID

from cli.options import Branch, read_instant
from cli.shell import Desk, Parser, add_json, at_desk, operator, print_json, print_table
from cli.tables import add_import, tell
from evidence.case import normalise_case_no
from evidence.errors import InvalidInput, NotFound
from evidence.kinds import EnforcementKind
from evidence.timeline import Interval
from ingest.register import NewCase, open_case, read_sheet, take_sheet
from ingest.sheets import MAX_BYTES
from ingest.timeline import Entry, timeline_of_case
from storage.db import accounts, cases


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "立案登记 / open a case", _add)
    adding.add_argument("case_no", metavar="CASE_NO", help="案号,按机构格式 / in the agency's form")
    kinds = [str(kind) for kind in EnforcementKind]
    adding.add_argument(
        "--kind",
        default=str(EnforcementKind.PENALTY),
        choices=kinds,
        help="类别,默认行政处罚 / kind; penalty",
    )
    adding.add_argument("--cause", metavar="TEXT", help="案由 / cause of action")
    adding.add_argument("--party", metavar="TEXT", help="当事人 / party")
    adding.add_argument("--handler", metavar="NAME", help="承办人账号 / account that handles it")
    adding.add_argument("--officer", metavar="NO", help="执法人员编号 / officer in charge")
    adding.add_argument("--opened", metavar="TIME", help="立案时间,默认现在 / default now")
    adding.add_argument("--closed", metavar="TIME", help="结案时间 / closed at")
    listing = branch.add("list", "案件列表 / list cases", _list)
    listing.add_argument("--prefix", metavar="TEXT", help="案号开头 / start of the number")
    listing.add_argument("--open", action="store_true", help="只列未结 / open ones only")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="最多几条 / at most; 100")
    add_json(listing)
    laying = branch.add("timeline", "案件时间轴 / a case over wall time, by corrected clocks", _timeline)
    laying.add_argument("case_no", metavar="CASE_NO", help="案号,任意写法 / in any spelling")
    add_json(laying)
    add_import(branch.add("import", "从 CSV、XLSX 导入 / import from CSV or XLSX", _import))


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        now, zone = desk.now(), agency.time_zone
        handler = accounts.account_by_name(session, agency.id, options.handler) if options.handler else None
        new = NewCase(
            case_no=options.case_no,
            opened_at=read_instant(options.opened, "--opened", zone) if options.opened else now,
            kind=EnforcementKind(options.kind),
            cause=options.cause,
            party=options.party,
            handler_id=handler.id if handler else None,
            officer_no=options.officer,
            closed_at=read_instant(options.closed, "--closed", zone) if options.closed else None,
        )
        case = open_case(session, agency, new, actor=operator(), now=now)
    print(f"已立案 / opened: {case.case_no}  {case.id}")
    return 0


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = cases.page_of_cases(
            session,
            desk.agency.id,
            prefix=normalise_case_no(options.prefix) if options.prefix else None,
            is_open=True if options.open else None,
            after=None,
            limit=max(1, options.limit),
        )
        rows = [
            {
                "case_no": row.case_no,
                "kind": row.kind,
                "cause": row.cause,
                "officer_no": row.officer_no,
                "opened_at": desk.local(row.opened_at),
                "closed_at": desk.local(row.closed_at),
                "id": str(row.id),
            }
            for row in found
        ]
    if options.json:
        print_json(rows)
    else:
        heads = (
            "案号 case",
            "类别 kind",
            "案由 cause",
            "人员 officer",
            "立案 opened",
            "结案 closed",
            "编号 id",
        )
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _timeline(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        case = cases.case_by_key(session, desk.agency.id, normalise_case_no(options.case_no))
        if case is None:
            raise NotFound(
                f"case {options.case_no}: expected one of the register, found none", code="case_not_found"
            )
        found = timeline_of_case(session, desk.agency.id, case.id, desk.now())
        gaps = {gap.after: gap for lane in found.layout.lanes for gap in lane.gaps}
        overlaps = {each.after: each for lane in found.layout.lanes for each in lane.overlaps}
        rows = [_laid_out(desk, entry, gaps, overlaps) for entry in found.entries]
    if options.json:
        print_json(rows)
        return 0
    heads = (
        "开始 from",
        "结束 to",
        "来源 source",
        "名称 name",
        "偏差 offset s",
        "依据 basis",
        "此前空档 gap s",
        "重叠 overlap s",
        "编号 id",
    )
    print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _laid_out(
    desk: Desk, entry: Entry, gaps: dict[UUID, Interval[UUID]], overlaps: dict[UUID, Interval[UUID]]
) -> dict[str, object]:
    correction = entry.placement.correction if entry.placement is not None else None
    gap, overlap = gaps.get(entry.tied.binding_id), overlaps.get(entry.tied.binding_id)
    return {
        "starts_at": desk.local(entry.starts_at),
        "ends_at": desk.local(entry.ends_at),
        "source": entry.tied.device_no or entry.tied.captured_place,
        "name": entry.tied.original_name,
        "offset_s": correction.offset.total_seconds() if correction is not None else None,
        "basis": str(correction.basis) if correction is not None else None,
        "gap_s": gap.duration_us / 1_000_000 if gap is not None else None,
        "overlap_s": overlap.duration_us / 1_000_000 if overlap is not None else None,
        "item_id": str(entry.tied.id),
    }


def _import(options: argparse.Namespace) -> int:
    with options.file.open("rb") as file:
        body = file.read(MAX_BYTES + 1)
    with at_desk(options) as desk:
        with desk.read() as session:
            sheet = read_sheet(session, desk.agency, body)
        if sheet.findings and not options.skip_bad:
            tell(sheet.findings)
            raise InvalidInput(
                f"case file: expected good lines only, found {len(sheet.findings)} bad; nothing was "
                "imported, mend them or add --skip-bad",
                code="csv_lines_bad",
            )
        done = take_sheet(desk.write, sheet, actor=operator(), now=desk.now())
    tell(done.findings)
    print(f"已导入 / imported: {len(done.cases)}; 有误 / bad: {len(done.findings)}")
    return 0
