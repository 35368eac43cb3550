"""`liuhen custody export|checkpoint|prove`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from cli.logbook import live_lines
from cli.options import Branch, read_id
from cli.shell import Desk, Parser, at_desk, operator
from evidence import merkle
from evidence.custody import Action, parse_checkpoint
from evidence.errors import Conflict, InvalidInput, NotFound
from storage.db import custody
from storage.db.custody import Happening
from storage.db.tables import CustodyCheckpoint, CustodyLeaf, CustodySequence
from storage.sequencer import place_waiting
from storage.snapshot import snapshot


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    exporting = branch.add("export", "导出保管链 / export the log", _export)
    exporting.add_argument("file", metavar="FILE", help="- 标准输出 / stdout")
    exporting.add_argument(
        "--payloads", action="store_true", help="含个人信息载荷 / with the salted personal details"
    )
    pointing = branch.add(
        "checkpoint",
        "签署并给出最新检查点,请另处保存 / sign and print the newest; keep it elsewhere",
        _checkpoint,
    )
    pointing.add_argument("--out", type=Path, metavar="FILE", help="写入文件 / write to a file")
    proving = branch.add(
        "prove", "包含证明,或与旧检查点的一致性证明 / inclusion or consistency proof", _prove
    )
    proving.add_argument("leaf_id", nargs="?", metavar="LEAF", help="记录编号 / id of the leaf")
    proving.add_argument(
        "--since", type=Path, metavar="CHECKPOINT", help="旧检查点文件 / an older checkpoint"
    )
    proving.add_argument("--out", type=Path, metavar="FILE", help="写入文件 / write to a file")


def _export(options: argparse.Namespace) -> int:
    with at_desk(options) as desk:
        place_waiting(desk.storage, desk.agency.id)
        with snapshot(desk.storage.database) as session:
            size = custody.tree_size(session, desk.agency.id)
            lines = live_lines(session, desk.agency, with_payloads=options.payloads)
            if options.file == "-":
                sys.stdout.writelines(lines)
            else:
                # A new file only: an export somebody already relies on is never written over.
                with Path(options.file).open("x", encoding="utf-8") as file:
                    file.writelines(lines)
                    file.flush()
                    os.fsync(file.fileno())
        with desk.write() as (session, agency):
            facts = {"tree_size": size, "payloads": bool(options.payloads)}
            happening = Happening(Action.CUSTODY_EXPORTED, "agency", str(agency.id), operator(), facts)
            custody.record(session, agency, happening, desk.now())
    print(f"已导出 / exported: {size} {options.file}", file=sys.stderr)
    return 0


def _checkpoint(options: argparse.Namespace) -> int:
    with at_desk(options) as desk:
        place_waiting(desk.storage, desk.agency.id)
        with desk.read() as session:
            _put(_newest(session, desk).note, options.out)
    return 0


def _newest(session: Session, desk: Desk) -> CustodyCheckpoint:
    newest = custody.newest_checkpoint(session, desk.agency.id)
    if newest is None:
        raise NotFound("checkpoint: expected one, found none", code="checkpoint_missing")
    return newest


def _prove(options: argparse.Namespace) -> int:
    if (options.leaf_id is None) == (options.since is None):
        raise InvalidInput(
            "prove: expected either a leaf or --since, found both or none", code="option_invalid"
        )
    with at_desk(options) as desk:
        place_waiting(desk.storage, desk.agency.id)
        with snapshot(desk.storage.database) as session:
            proof = (
                _consistency(session, desk, options.since)
                if options.since
                else _inclusion(session, desk, options.leaf_id)
            )
    _put(json.dumps(proof, indent=2) + "\n", options.out)
    return 0


def _inclusion(session: Session, desk: Desk, text: str) -> dict[str, Any]:
    leaf_id = read_id(text, "leaf")
    row = session.get(CustodyLeaf, leaf_id)
    place = (
        session.query(CustodySequence)
        .filter(CustodySequence.agency_id == desk.agency.id, CustodySequence.leaf_id == leaf_id)
        .one_or_none()
    )
    if row is None or place is None or row.agency_id != desk.agency.id:
        raise NotFound(f"leaf {leaf_id}: expected one with a place, found none", code="leaf_not_found")
    newest = _newest(session, desk)
    path = merkle.inclusion_proof(place.leaf_index, newest.tree_size, _reader(session, desk))
    return {
        "leaf": b64encode(bytes(row.body)).decode(),
        "index": place.leaf_index,
        "tree_size": newest.tree_size,
        "path": [node.hex() for node in path],
        "checkpoint": newest.note,
    }


def _consistency(session: Session, desk: Desk, since: Path) -> dict[str, Any]:
    first = since.read_text(encoding="utf-8")
    newest = _newest(session, desk)
    size = parse_checkpoint(first).tree_size
    if not 0 < size <= newest.tree_size:
        raise Conflict(
            f"checkpoint: expected a size up to {newest.tree_size}, found {size}; run `liuhen verify`",
            code="checkpoint_ahead",
        )
    path = merkle.consistency_proof(size, newest.tree_size, _reader(session, desk))
    return {"first": first, "second": newest.note, "path": [node.hex() for node in path]}


def _reader(session: Session, desk: Desk) -> merkle.NodeReader:
    return merkle.range_reader(lambda start, stop: custody.leaf_hashes(session, desk.agency.id, start, stop))


def _put(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
