"""`liuhen device`: the device ledger: registering, adopting, issuing, taking back, faults, readings."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta

from cli.options import Branch, read_id, read_instant
from cli.shell import Desk, Parser, add_json, at_desk, operator, print_json, print_table
from cli.tables import add_import, take_file
from evidence.kinds import SourceKind
from ingest import ledger as device_ledger
from ingest import policy, roster
from ingest.ledger_health import device_stretches
from ingest.ledger_sheets import Kind
from storage.db import accounts, agencies, ledger

KINDS = [str(kind) for kind in SourceKind]
CLOCK_LOOK_BACK = timedelta(days=90)


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = _device(branch.add("add", "登记设备 / register a device", _add))
    adding.add_argument(
        "--kind", default=str(SourceKind.BODY_CAM), choices=KINDS, help="类别 / kind; body_cam"
    )
    adding.add_argument("--maker", metavar="TEXT", help="厂商 / maker")
    adding.add_argument("--model", metavar="TEXT", help="型号 / model")
    add_import(branch.add("import", "批量登记 / register from CSV or XLSX", _import))
    add_json(branch.add("list", "设备列表 / list devices", _list))
    add_json(branch.add("unknown", "待收编设备 / devices that showed up unregistered", _unknown))
    add_json(_device(branch.add("show", "一台设备的台账 / the ledger of a device", _show)))
    adopting = _device(branch.add("adopt", "认领,并可领用 / adopt a device that showed up", _adopt))
    adopting.add_argument("--officer", metavar="NO", help="同时领用给 / issue it to, in the same step")
    adopting.add_argument("--at", metavar="TIME", help="领用时间,默认现在 / since when; default now")
    adopting.add_argument("--kind", choices=KINDS, help="类别 / kind")
    adopting.add_argument("--model", metavar="TEXT", help="型号 / model")
    issuing = _device(branch.add("issue", "领用 / put a device in an officer's hands", _issue))
    issuing.add_argument("officer_no", metavar="OFFICER", help="领用人编号 / officer number")
    issuing.add_argument("--at", metavar="TIME", help="领用时间,默认现在 / since when; default now")
    add_import(branch.add("import-issues", "批量领用 / issues from CSV or XLSX", _import_issues))
    returning = _device(branch.add("return", "归还 / take a device back", _return))
    returning.add_argument("--at", metavar="TIME", help="归还时间,默认现在 / when; default now")
    _device(branch.add("retire", "停用 / take a device out of use", _retire))
    faulty = _device(branch.add("fault", "报修 / report a fault", _fault))
    faulty.add_argument("what", metavar="TEXT", help="故障 / what is wrong")
    mending = branch.add("mend", "修复 / resolve a fault", _mend)
    mending.add_argument("fault_id", metavar="ID", help="故障编号 / id, as `faults` prints it")
    mending.add_argument("resolution", metavar="TEXT", help="处理 / what was done")
    listing = branch.add("faults", "故障列表 / list faults", _faults)
    listing.add_argument("--all", action="store_true", help="含已修 / also those resolved")
    add_json(listing)


def _device(parser: Parser) -> Parser:
    parser.add_argument("device_no", metavar="NO", help="设备编号 / device number")
    return parser


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = roster.register_device(
            session,
            agency,
            options.device_no,
            kind=SourceKind(options.kind),
            maker=options.maker,
            model=options.model,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已登记 / registered: {row.device_no}")
    return 0


def _import(options: argparse.Namespace) -> int:
    return take_file(options, Kind.DEVICES)


def _import_issues(options: argparse.Namespace) -> int:
    return take_file(options, Kind.ISSUES)


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        holders = accounts.holders(session, desk.agency.id)
        rows = [
            {
                "device_no": row.device_no,
                "kind": row.kind,
                "state": "retired" if row.retired_at else row.state,
                "model": row.model,
                "firmware": row.firmware,
                "officer_no": holders.get(row.id),
            }
            for row in agencies.devices(session, desk.agency.id)
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("设备 device", "类别 kind", "状态 state", "型号 model", "固件 firmware", "领用人 officer")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _unknown(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        found = [row for row in agencies.devices(session, desk.agency.id) if row.state == agencies.UNKNOWN]
        ids = [row.id for row in found]
        brought = ledger.items_by_device(session, desk.agency.id, ids)
        said = ledger.officers_said(session, desk.agency.id, ids)
        rows = [
            {
                "device_no": row.device_no,
                "first_seen_at": desk.local(row.created_at),
                "items": brought[row.id][0] if row.id in brought else 0,
                "officer_nos": " ".join(said.get(row.id, [])),
            }
            for row in found
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("设备 device", "首次出现 first seen", "文件数 items", "所述人员 officers named")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _show(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        row = roster.device(session, desk.agency, options.device_no)
        issues = [
            {
                "officer_no": officer.officer_no,
                "issued_at": desk.local(issue.issued_at),
                "returned_at": desk.local(issue.returned_at),
            }
            for issue, officer in ledger.issues_of(session, desk.agency.id, row.id)
        ]
        readings = ledger.readings_since(session, desk.agency.id, row.id, desk.now() - CLOCK_LOOK_BACK)
        read = [
            {
                "read_at": desk.local(one.read_at),
                "dock_no": one.dock_no,
                "offset_ms": None if one.offset_us is None else round(one.offset_us / 1000),
                "battery_percent": one.battery_percent,
                "free_bytes": one.free_bytes,
                "firmware": one.firmware,
            }
            for one in readings
        ]
        clocks = policy.History(session, desk.agency, policy.CLOCK)
        clock = [
            {
                "since": desk.local(one.since),
                "until": desk.local(one.until),
                "drift_ms_per_day": round(one.drift_us_per_day / 1000),
            }
            for one, _ in device_stretches(clocks, reversed(readings))
        ]
    if options.json:
        print_json({"device_no": row.device_no, "issues": issues, "readings": read, "clock": clock})
        return 0
    print(f"{row.device_no}  {row.kind}  {row.maker or ''} {row.model or ''}  {row.firmware or ''}")
    print_table(("领用人 officer", "领用 issued", "归还 returned"), [tuple(one.values()) for one in issues])
    heads = ("读数 read", "采集站 dock", "偏差毫秒 offset", "电量 battery", "剩余 free", "固件 firmware")
    print_table(heads, [tuple(one.values()) for one in read])
    print_table(("起 from", "止 to", "日漂移毫秒 drift"), [tuple(one.values()) for one in clock])
    return 0


def _at(options: argparse.Namespace, desk: Desk) -> datetime:
    return read_instant(options.at, "--at", desk.agency.time_zone) if options.at else desk.now()


def _adopt(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        roster.adopt_device(
            session,
            agency,
            options.device_no,
            kind=SourceKind(options.kind) if options.kind else None,
            model=options.model,
            officer_no=options.officer,
            issued_at=_at(options, desk),
            actor=operator(),
            now=desk.now(),
        )
    print(f"已认领 / adopted: {options.device_no}" + (f" → {options.officer}" if options.officer else ""))
    return 0


def _issue(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        roster.issue_device(
            session,
            agency,
            options.device_no,
            options.officer_no,
            issued_at=_at(options, desk),
            actor=operator(),
            now=desk.now(),
        )
    print(f"已领用 / issued: {options.device_no} → {options.officer_no}")
    return 0


def _return(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        roster.return_device(
            session,
            agency,
            options.device_no,
            returned_at=_at(options, desk),
            actor=operator(),
            now=desk.now(),
        )
    print(f"已归还 / returned: {options.device_no}")
    return 0


def _retire(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = roster.device(session, agency, options.device_no)
        device_ledger.retire_device(session, agency, row, actor=operator(), now=desk.now())
    print(f"已停用 / retired: {options.device_no}")
    return 0


def _fault(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = roster.device(session, agency, options.device_no)
        fault = device_ledger.report_fault(
            session, agency, row, options.what, actor=operator(), now=desk.now()
        )
    print(f"已报修 / reported: {options.device_no}  {fault.id}")
    return 0


def _mend(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        device_ledger.resolve_fault(
            session,
            agency,
            read_id(options.fault_id, "fault"),
            options.resolution,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已修复 / resolved: {options.fault_id}")
    return 0


def _faults(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            {
                "id": str(row.id),
                "device_no": number,
                "what": row.what,
                "reported_at": desk.local(row.reported_at),
                "resolved_at": desk.local(row.resolved_at),
                "resolution": row.resolution,
            }
            for row, number in ledger.page_of_faults(
                session, desk.agency.id, is_open=None if options.all else True, limit=1000
            )
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("编号 id", "设备 device", "故障 fault", "报修 reported", "修复 resolved", "处理 done")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0
