"""`liuhen backup DIR`: database, keys and object list as of one instant; the system may go on."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from cli.progress import Meter
from cli.shell import Parser, add_common, at_desk, operator
from storage.backup import back_up
from storage.check import total_bytes


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="新的或空的目录;含私钥,请妥善保管 / holds private keys"
    )
    parser.add_argument("--objects", action="store_true", help="同时复制影像对象 / copy the objects too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    with at_desk(options) as desk, ExitStack() as stack:
        meter = None
        if options.objects:
            meter = stack.enter_context(Meter("备份 / backing up", total_bytes(desk.storage)))
        manifest = back_up(
            desk.storage,
            options.folder,
            with_objects=options.objects,
            actor=operator(),
            progress=meter.step if meter else None,
        )
    print(
        f"已备份 / backed up: {options.folder}  rows {manifest.rows}, objects {manifest.objects}"
        f"{'' if manifest.with_objects else ' (未复制 / listed only)'}\n"
        f"清单摘要,请另处保存 / manifest SHA-256, keep it elsewhere: {manifest.sha256}"
    )
    return 0
