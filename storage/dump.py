"""Tables as a portable file: the same text from SQLite and PostgreSQL, loaded into either.

One JSON text a line, gzipped: a line that names a table and its columns, then a line for each of its
rows, and at the end how many rows there were. Tables come in the order their references ask for.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Column, Connection, LargeBinary, Table, insert
from sqlalchemy.orm import Session

from evidence.clock import from_micros, to_micros
from evidence.errors import InvalidInput
from storage.db.tables import Base
from storage.db.types import Digest, Id, Instant
from storage.snapshot import rows_of

# Sign-ins, leadership and what streams are doing end with the installation they belong to.
LEFT_OUT = frozenset({"login_session", "leadership", "room_stream"})
BATCH = 500
MAX_LINE_CHARS = 64 << 20


def dumped_tables() -> list[Table]:
    """What a dump holds, referred-to tables first."""
    return [table for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def dump(session: Session, path: Path) -> int:
    """Write every row of the caller's snapshot; the number of rows."""
    count = 0
    with path.open("xb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as file:
        for table in dumped_tables():
            columns = [column.name for column in table.columns]
            file.write(_line({"table": table.name, "columns": columns}))
            for row in rows_of(session, table):
                file.write(_line([_encode(row[name]) for name in columns]))
                count += 1
        file.write(_line({"rows": count}))
    return count


def load(connection: Connection, path: Path) -> int:
    """Insert every row of a dump in the caller's transaction; the number of rows.

    Raises:
        InvalidInput: It is no whole dump of these tables.
    """
    known = {table.name: table for table in dumped_tables()}
    table: Table | None = None
    decoders: list[tuple[str, Callable[[Any], Any]]] = []
    batch: list[dict[str, Any]] = []
    count = 0
    for number, value in _read(path):
        if isinstance(value, list) and table is not None and len(value) == len(decoders):
            batch.append({name: decode(cell) for (name, decode), cell in zip(decoders, value, strict=True)})
            count += 1
            if len(batch) == BATCH:
                connection.execute(insert(table), batch)
                batch = []
            continue
        if batch and table is not None:
            connection.execute(insert(table), batch)
            batch = []
        if isinstance(value, dict) and value.get("rows") == count:
            return count
        if not isinstance(value, dict) or value.get("table") not in known:
            raise InvalidInput(
                f"backup line {number}: expected a row or a known table", code="backup_malformed"
            )
        table = known[str(value["table"])]
        if set(value["columns"]) != set(table.columns.keys()):
            raise InvalidInput(
                f"backup line {number}: expected the columns of {table.name} as they are now, found others; "
                "restore with the version that made it",
                code="backup_malformed",
            )
        decoders = [(name, _decoder(table.columns[name])) for name in value["columns"]]
    raise InvalidInput("backup: expected the number of rows at the end, found none", code="backup_malformed")


def _read(path: Path) -> Iterator[tuple[int, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        number = 0
        while line := file.readline(MAX_LINE_CHARS):
            number += 1
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InvalidInput(f"backup line {number}: expected JSON", code="backup_malformed") from error


def _line(value: object) -> bytes:
    return (
        json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"
    )


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return to_micros(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(bytes(value)).decode()
    return value


def _decoder(column: Column[Any]) -> Callable[[Any], Any]:
    decode: Callable[[Any], Any]
    if isinstance(column.type, Id):
        decode = UUID
    elif isinstance(column.type, Instant):
        decode = from_micros
    elif isinstance(column.type, Digest | LargeBinary):
        decode = cast("Callable[[Any], Any]", b64decode)
    else:
        return lambda value: value
    return lambda value: None if value is None else decode(value)
