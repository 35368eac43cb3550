"""`liuhen dock add|set|list|retire`: docking stations."""

from __future__ import annotations

import argparse

from cli.options import Branch
from cli.shell import PAGE, Parser, add_json, all_pages, at_desk, operator, print_json, print_table
from ingest import docks
from storage.db import ledger


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "登记采集站 / register a dock", _add)
    adding.add_argument("dock_no", metavar="NO", help="采集站编号 / dock number")
    adding.add_argument("--place", metavar="TEXT", help="位置 / where it stands")
    setting = branch.add("set", "变更采集站位置 / say where a dock stands", _set)
    setting.add_argument("dock_no", metavar="NO", help="采集站编号 / dock number")
    setting.add_argument(
        "--place", required=True, metavar="TEXT", help="位置,空为清除 / where it stands; empty: not known"
    )
    add_json(branch.add("list", "采集站列表 / list docks", _list))
    retiring = branch.add("retire", "停用,令牌随即失效 / out of use; its tokens end", _retire)
    retiring.add_argument("dock_no", metavar="NO", help="采集站编号 / dock number")


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = docks.register_dock(
            session, agency, options.dock_no, place=options.place, actor=operator(), now=desk.now()
        )
    print(f"已登记 / registered: {row.dock_no}")
    return 0


def _set(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = docks.set_dock(
            session, agency, options.dock_no, place=options.place, actor=operator(), now=desk.now()
        )
    print(f"已变更 / set: {row.dock_no}  {row.place or ''}".rstrip())
    return 0


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            {
                "dock_no": row.dock_no,
                "place": row.place,
                "registered_at": desk.local(row.created_at),
                "retired_at": desk.local(row.retired_at),
                "last_reading_at": desk.local(last),
            }
            for row, last in all_pages(
                lambda after: ledger.page_of_docks(session, desk.agency.id, after=after, limit=PAGE),
                lambda shown: shown[0].dock_no,
            )
        ]
    if options.json:
        print_json(rows)
    else:
        heads = ("采集站 dock", "位置 place", "登记 registered", "停用 retired", "最近读数 last reading")
        print_table(heads, [tuple(row.values()) for row in rows])
    return 0


def _retire(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        docks.retire_dock(session, agency, options.dock_no, actor=operator(), now=desk.now())
    print(f"已停用 / retired: {options.dock_no}")
    return 0
