"""`liuhen item list|show|recording`; the rest is in `cli.item_facts` and `cli.continuity`."""

from __future__ import annotations

import argparse
from typing import Any

from sqlalchemy.orm import Session

from cli import continuity, item_facts
from cli.options import Branch, read_id
from cli.shell import Desk, Parser, add_json, at_desk, print_json, print_table
from cli.words import FACTS, STATES, both
from evidence.case import normalise_case_no
from evidence.conflicts import Said
from evidence.errors import NotFound
from evidence.item import Binding
from ingest.correction import ClaimView, conflicts_of, views_of
from ingest.grouping import recording_of
from storage.db import agencies, cases, items
from storage.db.items import ItemFilter
from storage.db.tables import Item

STATED = ("custody", "media", "binding", "redaction", "state")
"""What holds a state word."""
DIGEST_CHARS = 12
"""Of a digest in a table of many: enough to tell them apart; the whole of it is in JSON."""


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    listing = branch.add("list", "音像列表,新的在前 / list items, newest first", _list)
    listing.add_argument("--case", metavar="CASE_NO", help="按案号 / of a case")
    listing.add_argument("--device", metavar="NO", help="按设备 / of a device")
    listing.add_argument(
        "--binding", choices=[str(state) for state in Binding], help="按关联状态 / by binding"
    )
    listing.add_argument("--limit", type=int, default=100, metavar="N", help="最多几条 / at most; 100")
    add_json(listing)
    showing = branch.add("show", "一件音像的全部信息 / everything about one item", _show)
    showing.add_argument("item_id", metavar="ID", help="音像编号 / id, as the list prints it")
    add_json(showing)
    recording = branch.add(
        "recording", "同一次录制的各文件、间隔、缺号 / the files of one press of the button", _recording
    )
    recording.add_argument("item_id", metavar="ID", help="其中一件 / any of its items")
    add_json(recording)
    item_facts.arguments(branch)
    continuity.arguments(branch)


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        wanted = ItemFilter(
            case_id=_case_id(session, desk, options.case),
            device_id=_device_id(session, desk, options.device),
            binding=options.binding,
        )
        found = items.page_of_items(session, desk.agency.id, wanted, after=None, limit=max(1, options.limit))
        digests = items.digests_of(session, desk.agency.id, found)
        rows = [_row(row, digests[row.id]) for row in found]
    if options.json:
        print_json(rows)
        return 0
    heads = (
        "编号 id",
        "名称 name",
        "摘要 sha256",
        "秒 s",
        "保管 custody",
        "媒体 media",
        "关联 binding",
        "脱敏 redaction",
        "提示 flags",
    )
    short = [_worded(row) | {"sha256": row["sha256"][:DIGEST_CHARS]} for row in rows]
    print_table(heads, [tuple(row.values()) for row in short])
    return 0


def _row(row: Item, sha256: bytes) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.original_name,
        "sha256": sha256.hex(),
        "duration_s": None if row.duration_us is None else round(row.duration_us / 1e6, 3),
        "custody": row.custody,
        "media": row.media,
        "binding": row.binding,
        "redaction": row.redaction,
        "flags": " ".join(str(flag["code"]) for flag in row.flags),
    }


def _worded(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its states in both languages."""
    return {name: both(STATES, str(value)) if name in STATED else value for name, value in row.items()}


def _case_id(session: Session, desk: Desk, case_no: str | None) -> Any:
    if case_no is None:
        return None
    case = cases.case_by_key(session, desk.agency.id, normalise_case_no(case_no))
    if case is None:
        raise NotFound(f"case {case_no}: expected one of that number, found none", code="case_not_found")
    return case.id


def _device_id(session: Session, desk: Desk, device_no: str | None) -> Any:
    if device_no is None:
        return None
    device = agencies.device_by_no(session, desk.agency.id, device_no)
    if device is None:
        raise NotFound(f"device {device_no}: expected one known, found none", code="device_not_found")
    return device.id


def _show(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        row = items.item_by_id(session, desk.agency.id, read_id(options.item_id, "item"))
        stored = items.object_of(session, row)
        views = views_of(session, row, items.claims_of(session, desk.agency.id, row.id), desk.now())
        facts: dict[str, Any] = {
            **_row(row, stored.sha256),
            "media_kind": row.media_kind,
            "sm3": stored.sm3.hex() if stored.sm3 else None,
            "size_bytes": stored.size_bytes,
            "av_record_no": row.av_record_no,
            "received_at": desk.local(row.received_at),
            "captured_from": desk.local(row.captured_from),
            "captured_to": desk.local(row.captured_to),
            "place": row.captured_place,
            "collector": row.collector,
            "object_of_proof": row.object_of_proof,
        }
        lists: dict[str, list[dict[str, Any]]] = {
            "flags": [dict(flag) for flag in row.flags],
            "bindings": [
                {
                    "id": str(binding.id),
                    "case_no": cases.case_by_id(session, desk.agency.id, binding.case_id).case_no,
                    "state": binding.state,
                    "from_us": binding.span_from_us,
                    "to_us": binding.span_to_us,
                    "reason": binding.reason,
                }
                for binding in cases.bindings_of(session, desk.agency.id, row.id)
            ],
            "claims": [_claim(desk, view) for view in views],
            "conflicts": [
                {
                    "subject": conflict.subject,
                    "spread_s": None if conflict.spread is None else conflict.spread.total_seconds(),
                    "apart_m": None if conflict.apart_m is None else round(conflict.apart_m),
                    "said": " | ".join(_said(desk, said) for said in conflict.said),
                }
                for conflict in conflicts_of(views)
            ],
            "derivatives": [
                {"kind": made.kind, "sha256": made.sha256.hex(), "size_bytes": made.size_bytes}
                for made in items.derivatives_of(session, desk.agency.id, row.id)
            ],
        }
    if options.json:
        print_json({**facts, **lists})
        return 0
    lines = [(both(FACTS, name), value) for name, value in _worded(facts).items()]
    print_table(("事实 fact", "值 value"), lines)
    for name, entries in lists.items():
        if entries:
            print(f"\n{both(FACTS, name)}")
            heads = [both(FACTS, head) for head in entries[0]]
            print_table(heads, [tuple(_worded(entry).values()) for entry in entries])
    return 0


def _claim(desk: Desk, view: ClaimView) -> dict[str, Any]:
    """A claim as it was made, and what its time comes to."""
    claim, correction = view.claim, view.correction
    return {
        "field": claim.field,
        "value": claim.value,
        "source": claim.source,
        "clock": claim.clock,
        "corrected": desk.local(view.corrected_at),
        "offset_s": None if correction is None else correction.offset.total_seconds(),
        "offset_basis": None if correction is None else str(correction.basis),
    }


def _said(desk: Desk, said: Said) -> str:
    value = desk.local(said.instant) if said.instant else said.value
    return f"{value} ({said.source}{f', {said.clock}' if said.clock else ''})"


def _recording(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        row = items.item_by_id(session, desk.agency.id, read_id(options.item_id, "item"))
        found = recording_of(session, row)
        members = [
            {
                "id": str(member.id),
                "name": member.original_name,
                "sequence_no": member.sequence_no,
                "from": desk.local(member.captured_from),
                "duration_s": None if member.duration_us is None else member.duration_us / 1e6,
                "frames": member.frame_count,
            }
            for member in found.members
        ]
    joints = [
        {
            "before": str(joint.before),
            "after": str(joint.after),
            "gap_us": joint.gap_us,
            "gap_frames": joint.gap_frames,
            "resolution_us": joint.resolution_us,
            "clock": joint.clock,
            "certain": joint.is_certain,
        }
        for joint in found.joints
    ]
    missing = found.missing_sequence_nos
    if options.json:
        print_json({"by": found.by, "members": members, "joints": joints, "missing_sequence_nos": missing})
        return 0
    heads = ("编号 id", "名称 name", "序号 no", "采集起 from", "秒 s", "帧 frames")
    print_table(heads, [tuple(member.values()) for member in members])
    if joints:
        print()
        print_table(
            ("前 before", "后 after", "间隔 gap µs", "帧 frames", "刻度 ± µs", "时钟 clock", "确定 certain"),
            [tuple(joint.values()) for joint in joints],
        )
    if missing:
        print(f"\n缺号 / missing numbers: {', '.join(map(str, missing))}")
    return 0
