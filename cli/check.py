"""`liuhen check`: rows against the log, rows against files, files against digests."""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from cli.progress import Meter
from cli.shell import Parser, add_common, add_json, at_desk, operator, print_json
from evidence.custody import Action
from storage.check import Depth, check, total_bytes
from storage.db import custody
from storage.db.custody import Happening


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
        with desk.write() as (session, agency):
            facts = {"depth": depth.name.lower(), "findings": len(findings)}
            happening = Happening(Action.STORE_CHECKED, "store", agency.store_id, operator(), facts)
            custody.record(session, agency, happening, desk.now())
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
