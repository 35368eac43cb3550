"""`liuhen device add|list|adopt|issue`."""

from __future__ import annotations

import argparse

from cli.options import Branch, read_instant
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from evidence.kinds import SourceKind
from ingest import roster
from storage.db import accounts, agencies


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "登记设备 / register a device", _add)
    adding.add_argument("device_no", metavar="NO", help="设备编号 / device number")
    adding.add_argument(
        "--kind",
        default=str(SourceKind.BODY_CAM),
        choices=[str(kind) for kind in SourceKind],
        help="类别 / kind; body_cam",
    )
    adding.add_argument("--model", metavar="TEXT", help="型号 / model")
    add_json(branch.add("list", "设备列表 / list devices", _list))
    adopting = branch.add("adopt", "认领未登记的设备 / adopt a device that showed up", _adopt)
    adopting.add_argument("device_no", metavar="NO", help="设备编号 / device number")
    issuing = branch.add("issue", "领用 / put a device in an officer's hands", _issue)
    issuing.add_argument("device_no", metavar="NO", help="设备编号 / device number")
    issuing.add_argument("officer_no", metavar="OFFICER", help="领用人编号 / officer number")
    issuing.add_argument("--at", metavar="TIME", help="领用时间,默认现在 / since when; default now")


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = roster.register_device(
            session,
            agency,
            options.device_no,
            kind=SourceKind(options.kind),
            model=options.model,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已登记 / registered: {row.device_no}")
    return 0


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        holders = accounts.holders(session, desk.agency.id)
        rows = [
            {
                "device_no": row.device_no,
                "kind": row.kind,
                "state": row.state,
                "model": row.model,
                "officer_no": holders.get(row.id),
            }
            for row in agencies.devices(session, desk.agency.id)
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("设备 device", "类别 kind", "状态 state", "型号 model", "领用人 officer")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _adopt(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        roster.adopt_device(session, agency, options.device_no, actor=operator(), now=desk.now())
    print(f"已认领 / adopted: {options.device_no}")
    return 0


def _issue(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        now = desk.now()
        since = read_instant(options.at, "--at", agency.time_zone) if options.at else now
        roster.issue_device(
            session, agency, options.device_no, options.officer_no, issued_at=since, actor=operator(), now=now
        )
    print(f"已领用 / issued: {options.device_no} → {options.officer_no}")
    return 0
