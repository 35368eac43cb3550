"""Receipts: the only leave to free a card. Checked here, by the public key this dock was given.

A receipt is believed when all of it holds: the form is known, `may_erase` is true, the
signature is by a configured key over the canonical JSON of everything else, and digest,
size, item and device are those of the file the agent itself read and sent. It is kept under
its digest before anything is freed, so that the proof outlives the file.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from liuhen_dock.durable import sync_folder, write_durably
from liuhen_dock.errors import BadReceipt, ConfigError, DockError

VERSION = "liuhen-receipt/1"
MAX_BYTES = 64 * 1024
KEY_BYTES = (32, 44)
"""A public key alone, and as a PEM holds it (RFC 8410)."""
_MAX_SAFE_INTEGER = 2**53 - 1


@dataclass(frozen=True)
class Expected:
    """What the agent itself knows of the file."""

    sha256: str
    size_bytes: int
    item: str
    device_no: str = ""


def parse_key(text: str) -> Ed25519PublicKey:
    """A public key, as PEM, or as base64: what stands between the lines of a PEM, or the 32 bytes alone.

    Raises:
        ConfigError: Code ``receipt_key_invalid``.
    """
    try:
        if "BEGIN PUBLIC KEY" in text:
            key = load_pem_public_key(text.strip().encode())
        else:
            raw = b64decode(text.strip(), validate=True)
            key = (
                Ed25519PublicKey.from_public_bytes(raw)
                if len(raw) == KEY_BYTES[0]
                else load_der_public_key(raw)
            )
        if isinstance(key, Ed25519PublicKey):
            return key
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "receipt key: expected PEM or base64 of an Ed25519 public key; `liuhen keys export receipt`",
            code="receipt_key_invalid",
        ) from error
    raise ConfigError("receipt key: expected Ed25519, found another kind", code="receipt_key_invalid")


def verify(raw: bytes, keys: Sequence[Ed25519PublicKey], expected: Expected | None = None) -> dict[str, Any]:
    """The receipt, once everything about it holds.

    Args:
        raw: As it came.
        keys: Any one of them must have signed it: the present one and those before it.
        expected: The file it must be about; None checks form and signature alone.

    Raises:
        BadReceipt: The message names the first thing that does not hold.
    """
    receipt = _read(raw)
    signed = {name: value for name, value in receipt.items() if name not in {"key", "signature"}}
    try:
        message = canonical_json(signed)
        signature = b64decode(receipt["signature"], validate=True)
    except (ValueError, TypeError, KeyError) as error:
        raise BadReceipt("receipt: expected a signature over canonical JSON, found none") from error
    if not any(_is_by(key, signature, message) for key in keys):
        raise BadReceipt("receipt: expected a signature by a configured key, found another")
    if receipt.get("version") != VERSION:
        raise BadReceipt(f"receipt: expected {VERSION}, found {ascii(receipt.get('version'))[:40]}")
    if receipt.get("may_erase") is not True:
        raise BadReceipt("receipt: expected may_erase, found that it gives no leave")
    if expected is not None:
        _require_about(receipt, expected)
    return receipt


def _require_about(receipt: Mapping[str, Any], expected: Expected) -> None:
    wanted: dict[str, Any] = {
        "sha256": expected.sha256,
        "size_bytes": expected.size_bytes,
        "item": expected.item,
    }
    # Receipts that name the device must name ours; an older server's receipt names the item alone.
    if expected.device_no and receipt.get("device_no") is not None:
        wanted["device_no"] = expected.device_no.strip()
    for field, value in wanted.items():
        found = receipt.get(field)
        if value == "" or type(found) is not type(value) or found != value:
            raise BadReceipt(f"receipt: {field}: expected {value!r}, found {ascii(found)[:80]}")


def _read(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_BYTES:
        raise BadReceipt(f"receipt: expected at most {MAX_BYTES} bytes, found {len(raw)}")
    try:
        receipt = json.loads(raw, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise BadReceipt("receipt: expected JSON with each name once, found something else") from error
    if not isinstance(receipt, dict):
        raise BadReceipt("receipt: expected a JSON object, found something else")
    return receipt


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _is_by(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def canonical_json(value: object) -> bytes:
    """The one form a receipt is signed in (RFC 8785), for the values a receipt has.

    Raises:
        ValueError: A fraction, a number too large for every reader, or a lone surrogate.
    """
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).encode("utf-8")
    if isinstance(value, int):
        if abs(value) > _MAX_SAFE_INTEGER:
            raise ValueError("canonical JSON: a number too large")
        return str(value).encode()
    if isinstance(value, list):
        return b"[" + b",".join(canonical_json(each) for each in value) + b"]"
    if isinstance(value, dict):
        # Sorted by UTF-16 code units, as RFC 8785 (3.2.3) has it.
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        return b"{" + b",".join(canonical_json(n) + b":" + canonical_json(value[n]) for n in names) + b"}"
    raise ValueError(f"canonical JSON: no word for {type(value).__name__}")


class ReceiptFolder:
    """Receipts by digest; several of one digest stand side by side, one per item and reception."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, sha256: str, receipt: Mapping[str, Any], raw: bytes) -> Path:
        """Keep a verified receipt, durably."""
        folder = self.folder / sha256[:2]
        path = folder / f"{sha256}.{_plain(receipt.get('reception') or receipt.get('item'))}.json"
        try:
            folder.mkdir(exist_ok=True)
            if not path.exists() or path.read_bytes() != raw:
                write_durably(path, raw)
                sync_folder(self.folder)
        except OSError as error:
            raise DockError(f"receipts: {error.strerror}", code="state_unwritable") from error
        return path

    def find(self, sha256: str) -> list[Path]:
        """Receipts of a digest, or of the beginning of one (at least two characters)."""
        if not sha256.isalnum():
            return []
        return sorted((self.folder / sha256[:2].lower()).glob(f"{sha256.lower()}*.json"))


def _plain(value: object) -> str:
    """A piece of a file name of ours: the letters and digits of an id, nothing else."""
    return "".join(char for char in str(value) if char in "0123456789abcdefABCDEF-")[:64] or "none"
