"""`liuhen receipt verify|get`: a receipt against the agency's public key, offline; receipts by digest."""

from __future__ import annotations

import argparse
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

from cli.options import Branch
from cli.shell import Parser, add_json, at_desk, print_json
from cli.verifier import PublicKey, UnusableInput
from evidence.canonical import canonical_json
from evidence.errors import InvalidInput
from evidence.fixity import hash_file, parse_sha256
from storage.db.receipts import by_digest
from storage.keys import verify_signature

MAX_BYTES = 64 * 1024


def arguments(parser: Parser, _name: str) -> None:
    branch = Branch(parser)
    verifying = branch.add("verify", "校验回执,离线 / verify a receipt, offline", _verify, common=False)
    verifying.add_argument("receipt", type=Path, metavar="FILE", help="回执 / the receipt, as received")
    verifying.add_argument(
        "--key", required=True, metavar="KEY", help="回执公钥(base64 或文件)/ public receipt key"
    )
    verifying.add_argument(
        "--footage", type=Path, metavar="FILE", help="同时核对影像文件 / also the file itself"
    )
    getting = branch.add("get", "按摘要索取回执 / receipts of some bytes, by digest", _get)
    getting.add_argument(
        "--sha256", required=True, metavar="DIGEST", help="64 位十六进制摘要 / 64 hexadecimal digits"
    )
    add_json(getting)


def _get(options: argparse.Namespace) -> int:
    sha256 = parse_sha256(options.sha256)
    with at_desk(options) as desk, desk.read() as session:
        found = [one.as_json() for one in by_digest(session, desk.agency.id, sha256)]
    if options.json:
        print_json(found)
        return 0 if any(one["may_erase"] for one in found) else 1
    for one in found:
        state = "可清除 / may be erased" if one["may_erase"] else "不可清除 / may not be erased"
        why = " (受损 / damaged)" if one["damaged"] else ""
        if one["receipt"] is None:
            why += " (无回执 / no receipt yet)"
        print(f"{one['reception']}  {one['received_at']}  {state}{why}")
        if one["receipt"] is not None:
            print(json.dumps(one["receipt"], ensure_ascii=False))
    print(f"接收{len(found)}次 / {len(found)} receptions")
    return 0 if any(one["may_erase"] for one in found) else 1


def _verify(options: argparse.Namespace) -> int:
    path = Path(options.key)
    try:
        key = PublicKey.parse(path.read_text(encoding="utf-8") if path.is_file() else options.key)
    except UnusableInput as error:
        raise InvalidInput(str(error), code="key_unreadable") from error
    receipt, message, signature = _read(options.receipt)
    wrong = []
    if not verify_signature(key.raw, message, signature):
        wrong.append("签名不是此公钥所签 / not signed with this key")
    if options.footage is not None:
        found = hash_file(options.footage)
        if (found.sha256.hex(), found.size_bytes) != (receipt.get("sha256"), receipt.get("size_bytes")):
            wrong.append(f"影像文件不符 / the file is another: found sha256 {found.sha256.hex()}")
    for text in wrong:
        print(text)
    if not wrong:
        print(
            f"回执有效 / valid: item {receipt.get('item')} "
            f"device {receipt.get('device_no') or '未载明 / not named'} sha256 {receipt.get('sha256')} "
            f"size {receipt.get('size_bytes')} leaf {receipt.get('custody_leaf')}"
        )
    return 1 if wrong else 0


def _newest(answer: dict[str, Any]) -> dict[str, Any]:
    """The receipt itself, also out of an answer about all receptions of some bytes."""
    if "receptions" not in answer:
        return answer
    given = [one for one in answer["receptions"] if one["receipt"] is not None]
    found: dict[str, Any] = max(given, key=lambda one: str(one["received_at"]))["receipt"]
    return found


def _read(path: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """The receipt, the bytes that were signed, and the signature."""
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(f"receipt: expected at most {MAX_BYTES} bytes", code="receipt_unreadable")
    try:
        receipt = _newest(json.loads(path.read_text(encoding="utf-8")))
        signed = {name: value for name, value in receipt.items() if name not in {"key", "signature"}}
        return receipt, canonical_json(signed), b64decode(receipt["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"receipt {path.name}: expected the JSON of a receipt or an answer with one, found neither",
            code="receipt_unreadable",
        ) from error
