"""`liuhen receipt verify`: a receipt against the agency's public key, without any installation."""

from __future__ import annotations

import argparse
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

from cli.options import Branch
from cli.shell import Parser
from cli.verifier import PublicKey, UnusableInput
from evidence.canonical import canonical_json
from evidence.errors import InvalidInput
from evidence.fixity import hash_file
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
            f"回执有效 / valid: item {receipt.get('item')} sha256 {receipt.get('sha256')} "
            f"size {receipt.get('size_bytes')} leaf {receipt.get('custody_leaf')}"
        )
    return 1 if wrong else 0


def _read(path: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """The receipt, the bytes that were signed, and the signature."""
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput(f"receipt: expected at most {MAX_BYTES} bytes", code="receipt_unreadable")
    try:
        receipt = json.loads(path.read_text(encoding="utf-8"))
        signed = {name: value for name, value in receipt.items() if name not in {"key", "signature"}}
        return receipt, canonical_json(signed), b64decode(receipt["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"receipt {path.name}: expected the JSON of a receipt, found something else",
            code="receipt_unreadable",
        ) from error
