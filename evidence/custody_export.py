"""The custody log as a file: one JSON text a line, complete enough to be verified alone.

Line 1 is the header with the public keys, then one line for each leaf by index, then the
checkpoints, oldest first. `cli/verifier.py` judges such a file; here it is written, and read
back by those who trust it already.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from evidence.clock import rfc3339
from evidence.errors import InvalidInput

EXPORT_FORMAT = "liuhen-custody-export/1"

MAX_LINE_CHARS = 4 * 1024 * 1024
"""Longest export line: room for the largest leaf and payload in base64."""


@dataclass(frozen=True)
class PublicKeyRecord:
    """A key the log has used. ``purpose`` is ``checkpoint``, ``receipt`` or ``token``."""

    id: str
    name: str
    public_key: bytes
    purpose: str
    created_at: datetime
    retired_at: datetime | None = None


@dataclass(frozen=True)
class ExportHeader:
    """First line of an export."""

    origin: str
    tree_size: int
    public_keys: tuple[PublicKeyRecord, ...] = ()


@dataclass(frozen=True)
class ExportLeaf:
    """A leaf at its index.

    ``leaf`` is None only when a live log has lost the row the sequencer once hashed;
    ``leaf_hash`` is what the sequencer recorded; ``payload`` is None when there is none or
    it is not shown.
    """

    index: int
    leaf: bytes | None
    leaf_hash: bytes
    payload: bytes | None = None
    leaf_id: UUID | None = None
    """The sequencer's word on which leaf this was; needed where ``leaf`` is None."""


@dataclass(frozen=True)
class ExportCheckpoint:
    """A checkpoint note, and the frontier stored beside it, by which damage is told apart."""

    text: str
    frontier: tuple[bytes, ...] | None = None


def export_lines(
    header: ExportHeader, leaves: Iterable[ExportLeaf], checkpoints: Iterable[ExportCheckpoint]
) -> Iterator[str]:
    """The lines of an export, each with its line end: header, leaves by index, checkpoints oldest first."""
    yield _line(
        {
            "format": EXPORT_FORMAT,
            "origin": header.origin,
            "tree_size": header.tree_size,
            "public_keys": [
                {
                    "id": key.id,
                    "name": key.name,
                    "public_key_b64": _b64(key.public_key),
                    "purpose": key.purpose,
                    "created_at": rfc3339(key.created_at),
                    "retired_at": rfc3339(key.retired_at) if key.retired_at else None,
                }
                for key in header.public_keys
            ],
        }
    )
    for leaf in leaves:
        fields: dict[str, object] = {
            "index": leaf.index,
            "leaf": _b64(leaf.leaf),
            "leaf_hash": leaf.leaf_hash.hex(),
            "payload": _b64(leaf.payload),
        }
        if leaf.leaf_id is not None:
            fields["leaf_id"] = str(leaf.leaf_id)
        yield _line(fields)
    for checkpoint in checkpoints:
        line: dict[str, object] = {"checkpoint": checkpoint.text}
        if checkpoint.frontier is not None:
            line["frontier"] = [node.hex() for node in checkpoint.frontier]
        yield _line(line)


def read_export(lines: Iterable[str]) -> Iterator[ExportHeader | ExportLeaf | ExportCheckpoint]:
    """Read an export line by line; nothing is verified but the form.

    Raises:
        InvalidInput: A line is not of the export's form.
    """
    for number, line in enumerate(lines, start=1):
        try:
            if len(line) > MAX_LINE_CHARS:
                raise ValueError(f"longer than {MAX_LINE_CHARS} characters")
            read: Any = json.loads(line)
            if number == 1:
                yield _read_header(read)
            elif "checkpoint" in read:
                frontier = read.get("frontier")
                yield ExportCheckpoint(
                    str(read["checkpoint"]),
                    None if frontier is None else tuple(bytes.fromhex(node) for node in frontier),
                )
            else:
                yield ExportLeaf(
                    index=int(read["index"]),
                    leaf=_unb64(read["leaf"]),
                    leaf_hash=bytes.fromhex(read["leaf_hash"]),
                    payload=_unb64(read["payload"]),
                    leaf_id=UUID(read["leaf_id"]) if "leaf_id" in read else None,
                )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidInput(
                f"export line {number}: expected {EXPORT_FORMAT}, found {error!s:.100}",
                code="export_malformed",
            ) from error


def _read_header(read: Any) -> ExportHeader:
    if read["format"] != EXPORT_FORMAT:
        raise ValueError("another format")
    return ExportHeader(
        origin=read["origin"],
        tree_size=int(read["tree_size"]),
        public_keys=tuple(
            PublicKeyRecord(
                id=key["id"],
                name=key["name"],
                public_key=_unb64(key["public_key_b64"]) or b"",
                purpose=key["purpose"],
                created_at=datetime.fromisoformat(key["created_at"]),
                retired_at=datetime.fromisoformat(key["retired_at"]) if key["retired_at"] else None,
            )
            for key in read["public_keys"]
        ),
    )


def _line(value: Mapping[str, object]) -> str:
    # Lines are read as JSON and hashed by nobody; what is hashed stands in them as base64.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n"


def _b64(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _unb64(value: str | None) -> bytes | None:
    try:
        return None if value is None else b64decode(value, validate=True)
    except Base64Error as error:
        raise ValueError("text that is not base64") from error
