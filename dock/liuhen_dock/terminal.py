"""Progress in the terminal: a table that stays in place, or plain lines where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Event
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from liuhen_dock.board import Board
from liuhen_dock.wording import DO_NOT_ERASE, DO_NOT_UNPLUG, MAY_ERASE, UNKNOWN_VOLUME, UNPLUG


def watch(board: Board, ended: Event, console: Console) -> None:
    """Keep the table up to date until the work has ended."""
    with Live(table(board.snapshot()), console=console, refresh_per_second=4) as live:
        while not ended.wait(0.5):
            live.update(table(board.snapshot()))
        live.update(table(board.snapshot()))


def table(seen: Mapping[str, Any]) -> Group:
    """A snapshot of the board as a table and what is wrong below it."""
    head = f"留痕采集站 Liuhen dock · {mib(seen['rate_bytes_per_s'])}/s"
    if seen["limit_bytes_per_s"] is not None:
        head += f" · 限速 limit {mib(seen['limit_bytes_per_s'])}/s"
    rows = Table(title=head, expand=True)
    for name in ("设备 camera", "状态 state", "进度 progress", "文件 files", "拔出 unplug"):
        rows.add_column(name)
    for camera in seen["cameras"]:
        rows.add_row(*_row(camera))
    below = [_line(seen["server"], "red")] if seen["server"] is not None else []
    for camera in seen["cameras"]:
        below += [
            _line(problem, "dim" if problem["is_note"] else "yellow", _title(camera))
            for problem in camera["problems"]
        ]
    below += [
        Text(f"{volume['root']} {volume['label']}: {UNKNOWN_VOLUME.zh} / {UNKNOWN_VOLUME.en}", "dim")
        for volume in seen["ignored"]
    ]
    if not seen["cameras"]:
        below.insert(0, Text("没有设备,插入即开始 / no camera; put one in", "dim"))
    return Group(rows, *below)


def summary(seen: Mapping[str, Any]) -> str:
    """A snapshot in plain lines."""
    lines = [
        f"{_title(camera)}: {camera['state_zh']} / {camera['state_en']}; "
        f"{camera['files_sent']}/{camera['files_total']} files sent, {camera['files_receipted']} receipts, "
        f"{camera['files_freed']} freed; {_unplug(camera)}; {_erase(camera)}"
        for camera in seen["cameras"]
    ]
    lines += [
        f"  {_title(camera)}: {_line(problem, '').plain}"
        for camera in seen["cameras"]
        for problem in camera["problems"]
    ]
    if seen["server"] is not None:
        lines.append(_line(seen["server"], "").plain)
    lines += [f"{volume['root']}: {UNKNOWN_VOLUME.zh} / {UNKNOWN_VOLUME.en}" for volume in seen["ignored"]]
    return "\n".join(lines or ["没有设备 / no camera"])


def mib(size_bytes: int) -> str:
    """Bytes for people."""
    return f"{size_bytes / (1 << 20):.1f} MiB"


def _title(camera: Mapping[str, Any]) -> str:
    return str(camera["device_no"] or camera["label"] or camera["name"])


def _row(camera: Mapping[str, Any]) -> tuple[Any, ...]:
    done = camera["bytes_sent"] + camera["current_sent_bytes"] * (camera["current_file"] is not None)
    bar = ProgressBar(total=max(1, camera["bytes_total"]), completed=min(done, camera["bytes_total"]))
    who = Text(_title(camera), "bold")
    if camera["officer_no"]:
        who.append(f"\n{camera['officer_no']}", "dim")
    state = Text(f"{camera['state_zh']}\n{camera['state_en']}")
    if camera["current_file"] is not None:
        state.append(f"\n{camera['current_file']}", "dim")
    files = f"{camera['files_sent']}/{camera['files_total']} · 回执 receipts {camera['files_receipted']}"
    return who, state, bar, files, Text(_unplug(camera), "green" if camera["may_unplug"] else "red")


def _unplug(camera: Mapping[str, Any]) -> str:
    words = UNPLUG if camera["may_unplug"] else DO_NOT_UNPLUG
    return f"{words.zh} / {words.en}"


def _erase(camera: Mapping[str, Any]) -> str:
    if not camera["files_total"]:
        return "无文件 / no files"
    words = MAY_ERASE if camera["all_receipted"] else DO_NOT_ERASE
    return f"{words.zh} / {words.en}"


def _line(problem: Mapping[str, Any], style: str, who: str = "") -> Text:
    where = " ".join(part for part in (who, problem["file"]) if part)
    return Text(
        f"{where + ': ' if where else ''}{problem['zh']},{problem['do_zh']} / "
        f"{problem['en']}: {problem['do_en']}",
        style,
    )
