"""`liuhen report absence|lateness|ratio|health|clock`, and giving the reason for a late item."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from cli.options import Branch, read_id
from cli.shell import Desk, Parser, add_json, at_desk, operator, print_json, print_table, write_new
from evidence.errors import InvalidInput
from ingest import absence, lateness, ledger_health, sheets
from ingest.ledger_report import Report, as_csv, as_xlsx, json_row
from storage.db.tables import Agency

REPORTS: dict[str, tuple[str, Callable[[Session, Agency, datetime, datetime, datetime], Report]]] = {
    "absence": (
        "应录未录、缺传、过短、间断、逾期 / silence, missing, short, interrupted, late",
        absence.absence,
    ),
    "lateness": ("逾期上传及原因 / late hand-in and reasons", absence.lateness),
    "ratio": ("配备率 / recorders per officer", ledger_health.ratio),
    "health": ("设备健康与更新 / health and replacement", ledger_health.health),
    "clock": ("时钟漂移 / clock drift", ledger_health.clock),
}
DEFAULT_PERIOD = timedelta(days=7)


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    for name, (text, make) in REPORTS.items():
        making = branch.add(name, text, _run)
        making.set_defaults(make=make)
        making.add_argument(
            "--from", dest="since", metavar="TIME", help="起,默认七天前 / from; default seven days before"
        )
        making.add_argument("--to", dest="until", metavar="TIME", help="止(不含),默认现在 / to; default now")
        making.add_argument("--csv", type=Path, metavar="FILE", help="写入 CSV / write CSV")
        making.add_argument("--xlsx", type=Path, metavar="FILE", help="写入 XLSX / write XLSX")
        add_json(making)
    reasoning = branch.add("reason", "说明逾期原因 / say why an item was late", _reason)
    reasoning.add_argument("item_id", metavar="ITEM", help="音像记录编号 / item id")
    reasoning.add_argument("reason", metavar="TEXT", help="原因 / the reason; said once")


def _run(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        since, until = _period(options, desk)
        now = desk.now()

        def make() -> Report:
            found: Report = options.make(session, desk.agency, since, until, now)
            return found

        for path, write in ((options.csv, as_csv), (options.xlsx, as_xlsx)):
            if path is not None:
                write_new(path, partial(write, make(), desk.agency.time_zone))
                print(f"已写入 / written: {path}")
        if options.json:
            report, rows = make().drawn()
            print_json(
                {
                    "name": report.name,
                    "since": report.since,
                    "until": report.until,
                    "figures": dict(report.figures),
                    "policies": list(report.policies),
                    "rows": [json_row(row) for row in rows],
                }
            )
        elif options.csv is None and options.xlsx is None:
            _show(make(), desk)
    return 0


def _period(options: argparse.Namespace, desk: Desk) -> tuple[datetime, datetime]:
    zone = desk.agency.time_zone
    until = sheets.instant(options.until, "--to", zone) or desk.now()
    since = sheets.instant(options.since, "--from", zone) or until - DEFAULT_PERIOD
    if since >= until:
        raise InvalidInput("period: expected --from before --to, found it after", code="period_invalid")
    return since, until


def _show(report: Report, desk: Desk) -> None:
    report, drawn = report.drawn()
    print(f"{report.title}  {desk.local(report.since)} – {desk.local(report.until)}")
    print("  ".join(f"{name}={value}" for name, value in report.figures.items()))
    rows = [
        tuple(
            desk.local(value) if isinstance(value := row[column.key], datetime) else worded(value)
            for column in report.columns
        )
        for row in drawn
    ]
    print_table([column.heading for column in report.columns], rows)


def worded(value: object) -> object:
    """Yes and no as people say them."""
    return {True: "是 yes", False: "否 no"}[value] if isinstance(value, bool) else value


def _reason(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.write() as (session, agency):
        lateness.give_reason(
            session,
            agency,
            read_id(options.item_id, "item"),
            options.reason,
            actor=operator(),
            now=desk.now(),
        )
    print(f"已说明 / reason given: {options.item_id}")
    return 0
