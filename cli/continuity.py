"""`liuhen item continuity|reason`: what breaks the continuity of a recording, and why."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from cli.options import Branch, read_id
from cli.shell import Desk, add_json, at_desk, operator, print_json, print_table
from evidence.continuity import WORDS, Fault
from evidence.kinds import GapReason
from ingest.interruption import Explained, give_reason, read_report
from storage.db import items
from storage.db.tables import ContinuityReason, Item


def arguments(branch: Branch) -> None:
    showing = branch.add("continuity", "连续性报告 / what breaks the continuity of a recording", _show)
    showing.add_argument("item_id", metavar="ID", help="音像编号 / id, as the list prints it")
    add_json(showing)
    giving = branch.add("reason", "说明中断原因 / say why a recording was interrupted", _reason)
    giving.add_argument("item_id", metavar="ID", help="音像编号 / id, as the list prints it")
    giving.add_argument(
        "kind", choices=[str(fault) for fault in Fault], help="报告中的类别 / kind, as the report lists it"
    )
    giving.add_argument("from_us", type=int, metavar="FROM_US", help="起,微秒 / from, as listed")
    giving.add_argument("to_us", type=int, metavar="TO_US", help="止,微秒 / to, as listed")
    giving.add_argument("reason", choices=[str(reason) for reason in GapReason], help="原因类别 / the reason")
    giving.add_argument("statement", metavar="TEXT", help="情况说明 / in words; stays for ever")


def _show(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        row = items.item_by_id(session, desk.agency.id, read_id(options.item_id, "item"))
        report = read_report(session, desk.storage.objects, desk.agency.id, row.id)
        spans = _spans(desk, row, report)
        others = [_said(desk, said) for said in report.others]
    if options.json:
        facts = {**report.facts, "sha256": report.row.sha256.hex()}
        print_json({**facts, "spans": spans, "other_reasons": others})
        return 0
    heads = ("类别 kind", "起 from µs", "止 to µs", "采集时间 wall time", "实测 measured", "阈值 threshold",
             "单位 unit", "说明 reasons")  # fmt: skip
    kinds = ("kind", "from_us", "to_us", "at", "measured", "threshold", "unit")
    lines = [
        (
            *(span[name] for name in kinds),
            "; ".join(f"{one['reason']}: {one['statement']}" for one in span["reasons"]),
        )
        for span in spans
    ]
    print_table(heads, lines)
    left_out = sum(report.facts["counts"].values()) - len(spans)
    print(f"\n{len(spans)} 处 / spans" + (f", 另有 / and {left_out} 未列 / not listed" if left_out else ""))
    if not report.facts["is_whole"]:
        print("未能读至末尾 / it could not be read to its end")
    if others:
        print("\n针对较早报告的说明 / reasons about spans of an earlier report")
        print_table(tuple(others[0]), [tuple(one.values()) for one in others])
    return 0


def _spans(desk: Desk, row: Item, report: Explained) -> list[dict[str, Any]]:
    return [
        {
            **span.to_json(),
            "zh": WORDS[span.fault][0],
            "at": desk.local(row.captured_from and row.captured_from + timedelta(microseconds=span.from_us)),
            "reasons": [_said(desk, said) for said in report.reasons[span.key]],
        }
        for span in report.spans
    ]


def _said(desk: Desk, row: ContinuityReason) -> dict[str, Any]:
    return {
        "kind": row.fault,
        "from_us": row.from_us,
        "to_us": row.to_us,
        "reason": row.reason,
        "statement": row.statement,
        "author": row.author,
        "made_at": desk.local(row.made_at),
    }


def _reason(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        item_id = read_id(options.item_id, "item")
        items.item_by_id(session, agency.id, item_id, lock=True)
        report = read_report(session, desk.storage.objects, agency.id, item_id)
        give_reason(
            session,
            agency,
            report,
            (Fault(options.kind), options.from_us, options.to_us),
            GapReason(options.reason),
            options.statement,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已说明 / reason given: {options.item_id}")
    return 0
