"""`liuhen room …`: the interview rooms of this host's settings, and what their streams do."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from cli import second_store
from cli.options import Branch
from cli.shell import Desk, Parser, add_json, at_desk, print_json, print_table
from evidence.clock import rfc3339
from evidence.errors import Conflict
from ingest.recorder import places, process, registry
from ingest.recorder.registry import StreamNow
from ingest.recorder.stream import Phase
from media.live.pushing import new_key
from storage.db import second_copies, sessions

WORDS = {
    Phase.OFF: "未录制 off",
    Phase.STARTING: "连接中 starting",
    Phase.RECORDING: "录制中 recording",
    Phase.WAITING: "无信号 waiting",
    Phase.ENDING: "结束中 ending",
    None: "无主机报告 unknown",
}
IDLE = {Phase.OFF: "未连接 not connected", None: WORDS[None]}
"""What is said of a stream of which nobody was told that it is away, and of which nothing comes."""
HEADS = (
    "室 room",
    "信号 stream",
    "状态 state",
    "帧率 fps",
    "码率 Mbit/s",
    "末包 last s",
    "待写 queue KiB",
    "第二份滞后 copy lag KiB",
    "可录 lasts",
    "今日缺 gaps today",
    "断开 lost",
    "原因 why",
)
CLEAR = "\x1b[H\x1b[2J"


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    add_json(branch.add("list", "询问室列表 / rooms", _list))
    end = branch.add(
        "end-recording",
        "停机后结束本机录制进程 / once liuhen has ended here for good, end the recorders it left",
        _end,
    )
    end.add_argument("room", nargs="?", metavar="ROOM", help="只结束此室 / of this room alone")
    making = branch.add("make-key", "推流密钥对 / a pair of keys for one end of zmq-listen", _make_key)
    making.add_argument(
        "file", type=Path, metavar="FILE", help="私钥文件,公钥另存为 FILE.pub / where it goes"
    )
    second_store.arguments(branch)
    watch = branch.add("watch", "各路信号状态 / what the streams do, again and again", _watch)
    watch.add_argument("--json", action="store_true", help="每次一行 JSON / a line of JSON each time")
    watch.add_argument("room", nargs="?", metavar="ROOM", help="只看此室 / this room alone")
    watch.add_argument("--every", type=_seconds, default=2.0, metavar="SECONDS", help="间隔 / how often")
    watch.add_argument(
        "--for", dest="seconds", type=_seconds, metavar="SECONDS", help="看多久,默认到 Ctrl-C / for how long"
    )


def _end(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        runs = list(places.runs_of(desk.settings.recorder_dir, desk.agency.id, options.room))
        # What is no room any more may still be recorded.
        if options.room is not None and not runs:
            registry.room_of(session, desk.agency, desk.settings.recorder.rooms, options.room)
    ended = process.end_all(runs)
    print(f"已结束 {ended.count} 路录制 / recorders ended: {ended.count}, by force: {ended.forced}")
    for run in ended.left:
        print(f"{run}: expected its recorder to end, found it recording; run this again", file=sys.stderr)
    return 1 if ended.left else 0


def _make_key(options: argparse.Namespace) -> int:
    try:
        told = new_key(options.file)
    except FileExistsError as error:
        raise Conflict(
            f"{error.filename}: expected no file there, found one; name another", code="file_exists"
        ) from error
    print(f"{options.file}: 本端保存 / stays here\n{told}: 交给对端 / for the other end")
    return 0


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text}")
    return value


def _list(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, desk.read() as session:
        lasting = {row.room_no: row for row in sessions.all_open(session, desk.agency.id)}
        rooms = registry.rooms_of(session, desk.agency, desk.settings.recorder.rooms)
        streams = registry.streams_now(session, desk.agency, rooms, desk.now())
        uncopied = second_copies.count_uncopied(session, desk.agency.id)
        rows: list[dict[str, Any]] = []
        for room in rooms:
            now = lasting.get(room.room_no)
            state = "" if now is None else "暂停 paused" if now.paused_since else "进行中 open"
            rows.append(
                {
                    "room_no": room.room_no,
                    "name": room.name,
                    "device_no": room.recorded_as,
                    "streams": [each.name for each in streams[room.room_no]],
                    "away": [each.name for each in streams[room.room_no] if each.is_away],
                    "phases": {each.name: each.phase for each in streams[room.room_no]},
                    "pre_record_s": room.pre_record_s,
                    "session": str(now.id) if now else None,
                    "state": state,
                    "started_at": desk.local(now.started_at if now else None),
                    "copies_outstanding": uncopied.get(room.room_no, 0),
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
    print_table((*heads, "开始 since", "待复制 to copy"), [_cells(row) for row in rows])
    if not rows:
        print("设置中没有询问室 / no room is set: recorder.rooms, in liuhen.toml or --config")
    return 0


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    phases: dict[str, Phase | None] = row["phases"]
    idle = [
        f"{name} {IDLE[phase]}" for name, phase in phases.items() if phase in IDLE and name not in row["away"]
    ]
    cells = {**row, "away": [*row["away"], *idle]}
    del cells["phases"]
    return tuple(", ".join(value) if isinstance(value, list) else value for value in cells.values())


def _watch(options: argparse.Namespace) -> int:
    until = None if options.seconds is None else time.monotonic() + options.seconds
    with at_desk(options) as desk:
        while True:
            _show(desk, options)
            left = options.every if until is None else min(options.every, until - time.monotonic())
            if left <= 0:
                return 0
            time.sleep(left)


def _show(desk: Desk, options: argparse.Namespace) -> None:
    with desk.read() as session:
        rooms = registry.rooms_of(session, desk.agency, desk.settings.recorder.rooms)
        if options.room is not None:
            rooms = [registry.room_of(session, desk.agency, rooms, options.room)]
        now = desk.now()
        streams = registry.streams_now(session, desk.agency, rooms, now)
        gaps = {room.room_no: registry.gaps_today(session, desk.agency, room.room_no, now) for room in rooms}
    rows = []
    for room_no, each in streams.items():
        for stream in each:
            missing = [gap.length_ms for gap in gaps[room_no] if gap.stream == stream.name]
            rows.append((room_no, stream, missing))
    if options.json:
        said = [{"room_no": room_no, **_plain(stream), **_sums(missing)} for room_no, stream, missing in rows]
        print(json.dumps(said, ensure_ascii=False), flush=True)
        return
    if sys.stdout.isatty():
        print(CLEAR, end="")
    print_table(HEADS, [_line(*row) for row in rows])
    print(f"{desk.local(now)}\n", flush=True)


def _plain(stream: StreamNow) -> dict[str, Any]:
    return {
        name: rfc3339(value) if isinstance(value, datetime) else value
        for name, value in stream.facts().items()
    }


def _sums(missing: list[int]) -> dict[str, int]:
    return {"gaps_today": len(missing), "missing_today_ms": sum(missing)}


def _line(room_no: str, stream: StreamNow, missing: list[int]) -> tuple[Any, ...]:
    said, flows = stream.said, stream.phase is Phase.RECORDING
    gaps = f"{len(missing)} ({sum(missing) / 1000:.1f} s)" if missing else "0"
    if said is None:
        return room_no, stream.name, WORDS[None], "", "", "", "", "", "", gaps, "", ""
    return (
        room_no,
        stream.name,
        WORDS[stream.phase],
        f"{said.pictures_s:.1f}" if flows else "",
        f"{said.bytes_s * 8 / 1e6:.2f}" if flows else "",
        f"{said.silent_ms / 1000:.1f}" if flows and said.silent_ms is not None else "",
        said.waiting_bytes // 1024 if flows else "",
        _copy(stream),
        _length(stream.headroom_s),
        gaps,
        said.restarts,
        said.why if stream.phase is not Phase.RECORDING else "",
    )


def _copy(stream: StreamNow) -> str:
    """How far the second store is behind; empty where none is wanted, or nobody says anything."""
    said = stream.said
    if said is None or said.copy_lag_bytes is None or stream.phase is None:
        return ""
    lag = str(said.copy_lag_bytes // 1024)
    return lag if said.copy_why is None else f"{lag} 中断 lost"


def _length(seconds: int | None) -> str:
    if seconds is None:
        return ""
    return (
        f"{seconds // 86400} 天 d"
        if seconds >= 2 * 86400
        else f"{seconds // 3600} 时 h {seconds % 3600 // 60} 分 min"
    )
