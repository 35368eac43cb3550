"""`liuhen agency show|rename`: what was founded, and the one thing of it that may be corrected."""

from __future__ import annotations

import argparse

from cli.options import Branch
from cli.shell import Parser, add_json, at_desk, operator, print_json, print_table
from ingest.roster import rename_agency


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    add_json(branch.add("show", "机构代码、名称、编号格式 / code, name, form of numbers", _show))
    renaming = branch.add("rename", "更正机构名称,代码不变 / correct the name; the code stays", _rename)
    renaming.add_argument("name", metavar="NAME", help="机构名称 / agency name")


def _show(options: argparse.Namespace) -> int:
    with at_desk(options) as desk:
        row = desk.agency
        found = {
            "code": row.code,
            "name": row.name,
            "time_zone": row.time_zone,
            "case_no_pattern": row.case_no_pattern,
            "numbering_template": row.numbering_template,
        }
        if options.json:
            print_json(found)
            return 0
        headings = ("代码 code", "名称 name", "时区 zone", "案号格式 case numbers", "编号格式 AV numbers")
        print_table(headings, [list(found.values())])
    return 0


def _rename(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        is_new = rename_agency(session, agency, options.name, actor=operator(), now=desk.now())
        code, name = agency.code, agency.name
    print(f"{'已更正 / renamed' if is_new else '名称未变 / called so already'}: {code}  {name}")
    return 0
