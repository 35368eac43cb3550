"""`liuhen item facts`: stating what a record lacks (R6)."""

from __future__ import annotations

import argparse

from cli.options import Branch, read_id, read_instant
from cli.shell import at_desk, operator
from evidence.errors import InvalidInput
from evidence.item import Binding
from evidence.kinds import ProcessStage
from ingest.stating import FIELDS, five_facts, state_facts
from storage.db import cases, items

TIMES = {"captured_from": "--from", "captured_to": "--to"}
WORDS = {
    "case_no": "案件编号 case number",
    "captured_at": "采集时间 time",
    "captured_place": "采集地点 place",
    "collector": "采集人 collector",
    "object_of_proof": "证明对象 object of proof",
}


def arguments(branch: Branch) -> None:
    stating = branch.add("facts", "填写五要素 / state facts of a record", _state)
    stating.add_argument("item_id", metavar="ID", help="音像编号 / id, as the list prints it")
    stating.add_argument("--place", dest="captured_place", metavar="TEXT", help="采集地点 / where")
    stating.add_argument("--proof", dest="object_of_proof", metavar="TEXT", help="证明对象 / object of proof")
    stating.add_argument("--collector", metavar="NO", help="采集人编号 / officer number")
    stating.add_argument("--from", dest="captured_from", metavar="TIME", help="采集起 / captured from")
    stating.add_argument("--to", dest="captured_to", metavar="TIME", help="采集止 / captured to")
    stating.add_argument(
        "--stage", choices=[str(stage) for stage in ProcessStage], help="执法环节 / stage of enforcement"
    )


def _state(options: argparse.Namespace) -> int:
    given = {name: value for name in sorted(FIELDS) if (value := getattr(options, name)) is not None}
    if not given:
        raise InvalidInput(
            "item facts: expected one at least of --place, --proof, --collector, --from, --to, --stage, "
            "found none; a case number is bound with `liuhen bind`",
            code="option_invalid",
        )
    with at_desk(options) as desk, desk.write() as (session, agency):
        zone = agency.time_zone
        said = {
            name: read_instant(value, TIMES[name], zone) if name in TIMES else value
            for name, value in given.items()
        }
        item = items.item_by_id(session, agency.id, read_id(options.item_id, "item"), lock=True)
        state_facts(session, agency, item, said, actor=operator(), now=desk.now())
        tied = [row for row in cases.bindings_of(session, agency.id, item.id) if row.state == Binding.BOUND]
        case_no = cases.case_by_id(session, agency.id, tied[0].case_id).case_no if tied else None
        missing = five_facts(item, case_no).missing()
    print(f"已填写 / stated: {options.item_id}")
    names = ", ".join(WORDS[name] for name in missing)
    print(f"缺项 / missing: {names}" if missing else "五要素齐全 / all five facts")
    return 0
