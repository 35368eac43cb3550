"""`liuhen officer add|import|list`."""

from __future__ import annotations

import argparse

from cli.options import Branch
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from cli.tables import add_import, take_file
from ingest.ledger_sheets import Kind
from ingest.roster import register_officer
from storage.db import agencies


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    adding = branch.add("add", "登记执法人员 / register an officer", _add)
    adding.add_argument("officer_no", metavar="NO", help="编号 / officer number")
    adding.add_argument("name", metavar="NAME", help="姓名 / name")
    adding.add_argument("--certificate", metavar="NO", help="执法证号 / enforcement certificate")
    add_import(branch.add("import", "批量登记 / register from CSV or XLSX", _import))
    add_json(branch.add("list", "执法人员列表 / list officers", _list))


def _add(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        register_officer(
            session,
            agency,
            options.officer_no,
            options.name,
            certificate_no=options.certificate,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已登记 / registered: {options.officer_no}")
    return 0


def _import(options: argparse.Namespace) -> int:
    return take_file(options, Kind.OFFICERS)


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            {"officer_no": row.officer_no, "name": row.name, "certificate_no": row.certificate_no}
            for row in agencies.officers(session, desk.agency.id)
        ]
    if options.json:
        print_json(rows)
    else:
        print_table(("编号 no", "姓名 name", "执法证 certificate"), [tuple(row.values()) for row in rows])
    return 0
