"""`liuhen room list`: the interview rooms of this host's settings, and whether each is in use."""

from __future__ import annotations

import argparse
from typing import Any

from cli.options import Branch
from cli.shell import Parser, add_json, at_desk, print_json, print_table
from ingest.recorder import registry
from storage.db import sessions


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    add_json(branch.add("list", "询问室列表 / rooms", _list))


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        lasting = {row.room_no: row for row in sessions.all_open(session, desk.agency.id)}
        rows: list[dict[str, Any]] = []
        for room in registry.rooms_of(session, desk.agency, desk.settings.recorder.rooms):
            now = lasting.get(room.room_no)
            state = "" if now is None else "暂停 paused" if now.paused_since else "进行中 open"
            rows.append(
                {
                    "room_no": room.room_no,
                    "name": room.name,
                    "device_no": room.recorded_as,
                    "streams": [stream.name for stream in room.streams],
                    "away": registry.away(session, desk.agency, room),
                    "pre_record_s": room.pre_record_s,
                    "session": str(now.id) if now else None,
                    "state": state,
                    "started_at": desk.local(now.started_at if now else None),
                }
            )
    if options.json:
        print_json(rows)
        return 0
    heads = (
        "编号 no",
        "名称 name",
        "设备 device",
        "信号 streams",
        "无信号 away",
        "预录 kept s",
        "会话 session",
        "状态 state",
    )
    print_table((*heads, "开始 since"), [_cells(row) for row in rows])
    if not rows:
        print("设置中没有询问室 / no room is set: recorder.rooms, in liuhen.toml or --config")
    return 0


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(", ".join(value) if isinstance(value, list) else value for value in row.values())
