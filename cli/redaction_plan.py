"""`liuhen redaction-plan`: what is hidden in an item, version by version, through the API as an account.

Every change names the version it was made on (`--base`); where somebody made another meanwhile it is refused,
and says which is newest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.fetching import require_free
from cli.options import Branch, Run, read_id, read_media_time
from cli.seat import Seat, add_seat, seated
from cli.shell import Parser, add_json, print_json, print_table
from evidence.errors import InvalidInput, NotFound
from evidence.kinds import RetrievalPurpose

READ_MOST_BYTES = 1 << 20
"""What the API takes in one question."""
HEADS = ("版本 number", "依据 parent", "作者 author", "揭开 reveals", "待审 awaits", "理由 note")


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    _action(branch, "list", "各版本 / its versions", _list)
    showing = _action(branch, "show", "一个版本的全部内容 / everything a version hides", _show)
    _number(showing)
    amending = _action(branch, "amend", "按修订清单另立版本 / the next version, by a list of changes", _amend)
    amending.add_argument(
        "changes", type=Path, metavar="FILE", help='修订清单 / changes, JSON: [{"op": …}, …]'
    )
    _change(amending)
    restoring = _action(
        branch, "undo", "恢复某版本,另立新版本 / the next version, equal to an older one", _undo
    )
    _number(restoring)
    _change(restoring)
    approving = _action(branch, "approve", "审核通过 / approve a version that others wrote", _approve)
    _number(approving)
    approving.add_argument("--note", metavar="TEXT", help="说明 / note")
    taking = _action(
        branch, "cvat-out", "以 CVAT 格式取出 / take its tracks out as CVAT for video 1.1", _cvat_out
    )
    _number(taking)
    _out(taking)
    bringing = _action(branch, "cvat-in", "收回 CVAT 标注 / the next version, as CVAT gave it back", _cvat_in)
    bringing.add_argument("xml", type=Path, metavar="FILE", help="CVAT for video 1.1 XML")
    _change(bringing)
    looking = _action(branch, "preview", "预览一帧或数秒 / one masked frame, or some seconds", _preview)
    _number(looking)
    looking.add_argument("--at", required=True, metavar="TIME", help="片内时刻 / when, in the recording")
    looking.add_argument(
        "--length", metavar="TIME", help="时长,至多 6 秒,缺省一帧 / how long, 6 s at most; one frame"
    )
    looking.add_argument(
        "--purpose",
        required=True,
        choices=[str(purpose) for purpose in RetrievalPurpose],
        help="调阅目的 / what it is for",
    )
    looking.add_argument("--reason", required=True, metavar="TEXT", help="理由 / why")
    _out(looking)


def _action(branch: Branch, name: str, text: str, run: Run) -> Parser:
    parser = branch.add(name, text, run, common=False)
    parser.add_argument("item_id", metavar="ITEM", help="音像编号 / id of the item")
    if name not in {"cvat-out", "preview"}:
        add_json(parser)
    add_seat(parser)
    return parser


def _number(parser: Parser) -> None:
    parser.add_argument("number", type=int, metavar="NUMBER", help="版本号 / number of the version")


def _change(parser: Parser) -> None:
    parser.add_argument(
        "--base", type=int, required=True, metavar="NUMBER", help="所依据的版本 / the version it was made on"
    )
    parser.add_argument("--note", required=True, metavar="TEXT", help="理由 / why")


def _out(parser: Parser) -> None:
    parser.add_argument("-o", dest="file", type=Path, required=True, metavar="FILE", help="存为 / where to")


def _plans(options: argparse.Namespace) -> str:
    return f"/items/{read_id(options.item_id, 'item')}/redaction/plans"


def _list(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        found = seat.get(_plans(options))
    if options.json:
        print_json(found)
        return 0
    names = ("number", "parent", "author", "reveals", "awaits_approval", "note")
    print_table(HEADS, [tuple(row[name] for name in names) for row in found])
    return 0


def _show(options: argparse.Namespace) -> int:
    with seated(options) as seat:
        print_json(seat.get(f"{_plans(options)}/{options.number}"))
    return 0


def _amend(options: argparse.Namespace) -> int:
    try:
        changes = json.loads(_text_of(options.changes))
    except ValueError as error:
        raise InvalidInput(f"{options.changes.name}: expected JSON, found {error}") from error
    return _make(options, _plans(options), {"changes": changes})


def _undo(options: argparse.Namespace) -> int:
    return _make(options, f"{_plans(options)}/{options.number}/restore", {})


def _cvat_in(options: argparse.Namespace) -> int:
    try:
        file = options.xml.open("rb")
    except FileNotFoundError as error:
        raise NotFound(f"{options.xml.name}: expected a file, found none") from error
    headers = {"Content-Type": "application/xml", "Liuhen-Note": quote(options.note)}
    with file, seated(options) as seat:
        made = seat.send(f"{_plans(options)}/cvat", file, headers, base_number=options.base)
    return _tell(options, made)


def _make(options: argparse.Namespace, path: str, more: dict[str, Any]) -> int:
    """Make the next version and tell which it is."""
    with seated(options) as seat:
        made = seat.post(path, {"base_number": options.base, "note": options.note, **more})
    return _tell(options, made)


def _approve(options: argparse.Namespace) -> int:
    body = {"number": options.number, **({"note": options.note} if options.note else {})}
    with seated(options) as seat:
        made = seat.post(_plans(options).removesuffix("plans") + "approve", body)
    return _tell(options, made)


def _tell(options: argparse.Namespace, made: dict[str, Any]) -> int:
    if options.json:
        print_json(made)
        return 0
    plan = made["plan"]
    waits = ",待他人审核 / awaits approval by another person" if plan["awaits_approval"] else ""
    print(f"版本 / version:  {plan['number']}  {made['redaction']}{waits}")
    return 0


def _cvat_out(options: argparse.Namespace) -> int:
    require_free(options.file)
    with seated(options) as seat:
        return _save(options.file, seat.content("GET", f"{_plans(options)}/{options.number}/cvat"))


def _preview(options: argparse.Namespace) -> int:
    require_free(options.file)
    body: dict[str, Any] = {"at_us": read_media_time(options.at, "--at")}
    if options.length is not None:
        body["length_us"] = read_media_time(options.length, "--length")
    with seated(options) as seat:
        body["grant_id"] = _grant(seat, options)
        try:
            seen = seat.content("POST", f"{_plans(options)}/{options.number}/preview", body)
        finally:
            # It was for this one look.
            seat.content("DELETE", f"/grants/{body['grant_id']}")
    return _save(options.file, seen)


def _grant(seat: Seat, options: argparse.Namespace) -> str:
    """A grant to all of the original, for the purpose and reason given."""
    asked = {"variant": "original", "purpose": options.purpose, "reason": options.reason}
    item_id = read_id(options.item_id, "item")
    return str(seat.post(f"/items/{item_id}/grants", asked)["grant_id"])


def _save(path: Path, data: bytes) -> int:
    with path.open("xb") as file:
        file.write(data)
    print(f"已存 / saved:  {path.resolve()}  {len(data)} bytes")
    return 0


def _text_of(path: Path) -> str:
    """A small file of text."""
    try:
        with path.open("rb") as file:
            data = file.read(READ_MOST_BYTES + 1)
        if len(data) > READ_MOST_BYTES:
            raise InvalidInput(f"{path.name}: expected at most {READ_MOST_BYTES} bytes, found more")
        return data.decode("utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"{path.name}: expected a file, found none") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name}: expected UTF-8, found other bytes") from error
