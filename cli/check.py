"""`liuhen check`: rows against the log, rows against files, files against digests."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session

from cli.progress import Meter
from cli.shell import Desk, Parser, add_common, add_json, at_desk, operator, print_json
from evidence.custody import Action
from evidence.errors import NotFound
from ingest.damage import Damage, note_damage
from ingest.recorder import registry
from storage.check import Depth, check, total_bytes
from storage.check_copies import check_copies
from storage.db import custody, items
from storage.db.custody import Happening
from storage.db.tables import Agency
from storage.findings import Finding

DAMAGES = {"file_missing": "missing", "file_size": "other_size", "file_digest": "other_digest",
           "file_unreadable": "unreadable"}  # fmt: skip


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument(
        "--depth",
        default="rows",
        choices=[depth.name.lower() for depth in Depth],
        help="rows 库与文件 / sizes 大小 / digests 逐字节重算摘要 / re-read every byte",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    depth = Depth[options.depth.upper()]
    with at_desk(options) as desk:
        with ExitStack() as stack:
            meter = None
            if depth is Depth.DIGESTS:
                meter = stack.enter_context(Meter("核对 / checking", total_bytes(desk.storage)))
            findings = list(check(desk.storage, depth, meter.step if meter else None))
            findings += check_copies(desk.storage, desk.agency, _second_stores(desk), depth)
        with desk.write() as (session, agency):
            note_damaged(session, agency, findings, desk.now())
            facts = {"depth": depth.name.lower(), "findings": len(findings)}
            happening = Happening(Action.STORE_CHECKED, "store", agency.store_id, operator(), facts)
            custody.record(session, agency, happening, desk.now())
    if any(found.code in DAMAGES and found.kind == "object" for found in findings):
        print("原件受损,已告警 / originals are damaged: see `liuhen alarm list`", file=sys.stderr)
    if options.json:
        print_json([found.as_json() for found in findings])
        return 1 if findings else 0
    for found in findings:
        print(f"{found.code}: {found.message}")
    print(
        f"发现{len(findings)}处问题 / {len(findings)} findings"
        if findings
        else "未发现问题 / nothing is wrong"
    )
    return 1 if findings else 0


def _second_stores(desk: Desk) -> dict[str, Path]:
    """By the number of the room, where this host's settings have one."""
    recorder = desk.settings.recorder
    with desk.read() as session:
        rooms = registry.rooms_of(session, desk.agency, recorder.rooms)
    found = {room.room_no: recorder.second_copy_of(room) for room in rooms}
    return {room_no: folder for room_no, folder in found.items() if folder is not None}


def note_damaged(session: Session, agency: Agency, findings: Sequence[Finding], now: datetime) -> None:
    """Raise an alarm by name for each original that is not what its row says."""
    for found in findings:
        if found.kind != "object" or found.code not in DAMAGES:
            continue
        try:
            stored = items.object_by_id(session, agency.id, UUID(found.id))
        except NotFound:
            continue  # Another agency's, whose own check raises it.
        damage = Damage(DAMAGES[found.code], found.message)
        note_damage(session, agency, stored, damage, actor=operator(), now=now)
