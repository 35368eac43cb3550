"""`liuhen duty add|import|list|withdraw`: who was on duty when (R14)."""

from __future__ import annotations

import argparse

from cli.options import Branch, read_id, read_instant
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from cli.tables import add_import, take_file
from ingest import duty, roster
from ingest.ledger_sheets import Kind
from storage.db import ledger_duty


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "登记执勤 / enter a duty", _add)
    adding.add_argument("officer_no", metavar="OFFICER", help="人员编号 / officer number")
    adding.add_argument("duty_from", metavar="FROM", help="开始 / beginning, such as 2026-03-02T08:30")
    adding.add_argument("duty_to", metavar="TO", help="结束 / end")
    add_import(branch.add("import", "导入排班 / a roster from CSV or XLSX", _import))
    listing = branch.add("list", "执勤列表 / list duties", _list)
    listing.add_argument("--officer", metavar="NO", help="人员编号 / officer number")
    listing.add_argument("--from", dest="since", metavar="TIME", help="结束不早于 / ending at or after")
    listing.add_argument("--to", dest="until", metavar="TIME", help="开始早于 / beginning before")
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="最多几条 / at most; 100")
    add_json(listing)
    withdrawing = branch.add("withdraw", "撤回 / entered in error", _withdraw)
    withdrawing.add_argument("duty_id", metavar="ID", help="编号 / id, as the list prints it")


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        zone = agency.time_zone
        row = duty.enter_duty(
            session,
            agency,
            options.officer_no,
            read_instant(options.duty_from, "FROM", zone),
            read_instant(options.duty_to, "TO", zone),
            actor=operator(),
            now=desk.now(),
        )
    print(f"已登记 / entered: {options.officer_no}  {row.id}")
    return 0


def _import(options: argparse.Namespace) -> int:
    return take_file(options, Kind.DUTY)


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        zone = desk.agency.time_zone
        person = roster.officer(session, desk.agency, options.officer) if options.officer else None
        rows = [
            {
                "id": str(row.id),
                "officer_no": number,
                "duty_from": desk.local(row.duty_from),
                "duty_to": desk.local(row.duty_to),
                "withdrawn_at": desk.local(row.withdrawn_at),
            }
            for row, number in ledger_duty.page_of_duties(
                session,
                desk.agency.id,
                officer_id=person.id if person else None,
                since=read_instant(options.since, "--from", zone) if options.since else None,
                until=read_instant(options.until, "--to", zone) if options.until else None,
                limit=max(1, options.limit),
            )
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("编号 id", "人员 officer", "开始 from", "结束 to", "撤回 withdrawn")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        duty.withdraw_duty(
            session, agency, read_id(options.duty_id, "duty"), actor=operator(), now=desk.now()
        )
    print(f"已撤回 / withdrawn: {options.duty_id}")
    return 0
