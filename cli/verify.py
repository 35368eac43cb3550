"""`liuhen verify`: the custody log against itself and against checkpoints kept elsewhere.

Without a file the live log is judged, by the same stand-alone verifier that judges an export.
Exit status: 0 clean, 1 findings, 2 input that cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from cli import verifier
from cli.logbook import live_lines, waiting
from cli.shell import Parser, add_common, add_json, at_desk, print_json
from storage.db import custody
from storage.snapshot import snapshot

LOST = (
    "记录 {id} 既无位置也不在等待 / leaf {id}: has neither a place nor a wait for one; its place was removed"
)


def arguments(parser: Parser, _name: str) -> None:
    add_common(parser)
    parser.add_argument(
        "export", nargs="?", metavar="EXPORT", help="导出文件,省略则校验现库 / default: the live log"
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="FILE",
        help="另处保存的检查点,可重复 / a checkpoint kept elsewhere; repeatable",
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="KEY",
        help="日志公钥(base64 或文件)/ public key of the log",
    )
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        keys = [_key(text) for text in options.key]
        checkpoints = [Path(path).read_text(encoding="utf-8") for path in options.checkpoint]
        if options.export:
            with Path(options.export).open(encoding="utf-8", errors="replace") as file:
                findings = verifier.verify_export(file, checkpoints, keys)
            note = ""
        else:
            findings, note = _live(options, checkpoints, keys)
    except (verifier.UnusableInput, OSError, UnicodeDecodeError) as error:
        print(f"无法校验 / cannot verify: {error}", file=sys.stderr)
        return 2
    if not checkpoints:
        print(verifier.NO_CHECKPOINT, file=sys.stderr)
    if options.json:
        print_json([asdict(found) for found in findings])
        return 1 if findings else 0
    for found in findings:
        print(f"{found.kind}: {found.message}" + (f" [{found.leaf_id}]" if found.leaf_id else ""))
    print(
        note
        + (
            f"发现{len(findings)}处问题 / {len(findings)} findings"
            if findings
            else "未发现问题 / nothing is wrong"
        )
    )
    return 1 if findings else 0


def _live(
    options: argparse.Namespace, checkpoints: list[str], keys: list[verifier.PublicKey]
) -> tuple[list[verifier.Finding], str]:
    with at_desk(options) as desk, snapshot(desk.storage.database) as session:
        size, unplaced = custody.tree_size(session, desk.agency.id), waiting(session, desk.agency)
        lines = live_lines(session, desk.agency, with_payloads=True)
        findings = verifier.verify_export(lines, checkpoints, keys)
        lost = custody.lost_places(session, desk.agency.id)
    findings += [
        verifier.Finding("removed", LOST.format(id=leaf_id), leaf_id=str(leaf_id)) for leaf_id in lost
    ]
    return findings, f"{size}条,{unplaced}条待排序 / {size} leaves, {unplaced} waiting for a place. "


def _key(text: str) -> verifier.PublicKey:
    path = Path(text)
    return verifier.PublicKey.parse(path.read_text(encoding="utf-8") if path.is_file() else text)
