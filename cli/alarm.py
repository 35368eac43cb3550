"""`liuhen alarm list|clear`: what a person must look at, by name."""

from __future__ import annotations

import argparse
from typing import Any

from sqlalchemy.orm import Session

from cli.options import Branch, read_id
from cli.shell import Desk, Parser, add_json, at_desk, operator, print_json
from cli.words import FACTS, both
from evidence.alarm_words import TITLES, line_of
from evidence.errors import InvalidInput, NotFound
from storage.db import alarms, items
from storage.db.ledger_tables import Alarm


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    listing = branch.add("list", "未解除的告警 / alarms that stand", _list)
    listing.add_argument("--all", action="store_true", help="含已解除的 / cleared ones too")
    add_json(listing)
    clearing = branch.add("clear", "凭理由解除 / clear one, with a reason", _clear)
    clearing.add_argument("alarm_id", metavar="ID", help="告警编号 / id, as the list prints it")
    clearing.add_argument("--reason", required=True, metavar="TEXT", help="理由 / why it stands no longer")


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        rows = [
            _shown(desk, session, row) for row in alarms.alarms(session, desk.agency.id, cleared=options.all)
        ]
    if options.json:
        print_json(rows)
        return 1 if any(row["cleared_at"] == "" for row in rows) else 0
    for row in rows:
        state = f"已解除 / cleared {row['cleared_at']}" if row["cleared_at"] else "未解除 / stands"
        print(f"{row['id']}  {row['raised_at']}  {both(TITLES, row['code'])}  {state}")
        if row["original_name"]:
            print(f"  {row['original_name']}")
        print(f"  {row['message_zh']}")
        print(f"  {row['message']}")
        for name in ("receptions", "receipted", "docks"):
            if row["facts"].get(name):
                print(f"  {both(FACTS, name)}: {', '.join(row['facts'][name])}")
    standing = sum(row["cleared_at"] == "" for row in rows)
    print(f"未解除的告警{standing}条 / {standing} alarms stand")
    return 1 if standing else 0


def _shown(desk: Desk, session: Session, row: Alarm) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "code": row.code,
        "subject": row.subject,
        "subject_id": row.subject_id,
        "original_name": _name(desk, session, row),
        "message": row.message,
        "message_zh": line_of(row.code, row.subject_id, row.facts),
        "facts": row.facts,
        "raised_at": desk.local(row.raised_at),
        "cleared_at": desk.local(row.cleared_at),
        "cleared_by": row.cleared_by,
        "cleared_reason": row.cleared_reason,
    }


def _name(desk: Desk, session: Session, row: Alarm) -> str | None:
    """The file's name as received: what somebody looks for on a card."""
    if row.subject != "item":
        return None
    try:
        item = items.item_by_id(session, desk.agency.id, read_id(row.subject_id, "item"))
    except NotFound:
        return None
    return item.original_name


def _clear(options: argparse.Namespace) -> int:
    if not options.reason.strip():
        raise InvalidInput("--reason: expected words, found none", code="reason_missing")
    with at_desk(options) as desk, desk.write() as (session, agency):
        row = alarms.alarm_by_id(session, agency.id, read_id(options.alarm_id, "alarm"), lock=True)
        alarms.clear(session, agency, row, actor=operator(), reason=options.reason.strip(), now=desk.now())
    print(f"已解除 / cleared: {options.alarm_id}")
    return 0
