"""A register of any size, written by bulk SQL: cases, items, objects and bindings as they would be.

Only what a case page reads is made. Rows are not witnessed in the custody log: they are for measuring,
in a database that is thrown away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import text

from evidence.case import normalise_case_no
from evidence.clock import to_micros
from storage.db.engine import Database

ITEMS_PER_CASE = 20
LARGE_CASE_ITEMS = 2000
DEVICES = 200
BATCH = 10_000
START = to_micros(datetime(2024, 1, 1, tzinfo=UTC))
STEP_US = 60_000_000

Row = Sequence[Any]


@dataclass(frozen=True)
class Register:
    """What was written."""

    item_count: int
    case_nos: list[str]
    large_case_no: str


def fill(database: Database, agency_id: UUID, item_count: int, say: Callable[[str], None]) -> Register:
    """Write a register with that many items: cases of 20, and one of 2,000."""
    large = min(LARGE_CASE_ITEMS, item_count // 2)
    case_count = max(1, (item_count - large) // ITEMS_PER_CASE)
    numbers = [f"示执罚〔{2020 + number % 7}〕{number + 1}号" for number in range(case_count)]
    large_no = "示执罚〔2019〕1号"
    for table, columns, rows in (
        ("device", DEVICE, _devices(agency_id)),
        ("case_file", CASE, _cases(agency_id, [*numbers, large_no])),
        ("object", OBJECT, _objects(agency_id, item_count)),
        ("item", ITEM, _items(agency_id, item_count)),
        ("case_binding", BINDING, _bindings(agency_id, item_count, case_count)),
    ):
        say(f"writing {table}")
        _write(database, table, columns.split(), rows)
    with database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    return Register(item_count, numbers, large_no)


def _write(database: Database, table: str, columns: list[str], rows: Iterable[Row]) -> None:
    raw = database.engine.raw_connection()
    try:
        cursor = raw.cursor()
        if database.is_sqlite:
            places = ", ".join("?" * len(columns))
            statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608
            cursor.execute("PRAGMA synchronous=OFF")
            cursor.execute("BEGIN")
            stream = iter(rows)
            while batch := list(islice(stream, BATCH)):
                cursor.executemany(
                    statement, [[v.bytes if isinstance(v, UUID) else v for v in row] for row in batch]
                )
            cursor.execute("COMMIT")
            cursor.execute("PRAGMA synchronous=FULL")
        else:
            command = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
            with cursor.copy(command) as copy:
                for row in rows:
                    copy.write_row(row)
            raw.commit()
    finally:
        raw.close()


def _id(space: int, number: int) -> UUID:
    """A UUIDv7 of that place in time, different in each table."""
    millis = START // 1000 + number * STEP_US // 1000
    tail = hashlib.blake2b(f"{space}:{number}".encode(), digest_size=10).digest()
    value = bytearray(millis.to_bytes(6, "big") + tail)
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    return UUID(bytes=bytes(value))


DEVICE = "id agency_id device_no kind state model created_at"
CASE = ("id agency_id case_no case_no_key kind cause party handler_id officer_no opened_at closed_at "
        "created_at")  # fmt: skip
OBJECT = "id agency_id sha256 sm3 size_bytes store_key stored_at verified_at"
ITEM = (
    "id agency_id object_id device_id identity_key source_kind media_kind original_name custody media "
    "binding redaction held key_file flags captured_from captured_to captured_place collector "
    "object_of_proof stage duration_us frame_count recording_key sequence_no av_record_no probe received_at"
)
BINDING = (
    "id agency_id item_id case_id state span_from_us span_to_us score_percent reason author made_at ended_at "
    "ended_by ended_reason"
)
PROBE = '{"media_kind":"video","container":"mov,mp4","decodable":true,"depth":"packets","flags":[]}'


def _devices(agency_id: UUID) -> Iterator[Row]:
    for number in range(DEVICES):
        yield (_id(1, number), agency_id, f"B{number:04}", "body_cam", "registered", None, START)


def _cases(agency_id: UUID, numbers: list[str]) -> Iterator[Row]:
    for number, case_no in enumerate(numbers):
        opened = START + number * STEP_US * ITEMS_PER_CASE
        yield (_id(2, number), agency_id, case_no, normalise_case_no(case_no), "penalty", "占道经营", "张某",
               None, f"{110000 + number % 300}", opened, None, opened)  # fmt: skip


def _objects(agency_id: UUID, count: int) -> Iterator[Row]:
    for number in range(count):
        digest = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).digest()
        at = START + number * STEP_US
        yield (
            _id(3, number),
            agency_id,
            digest,
            digest,
            400 << 20,
            f"{agency_id.hex}/{digest.hex()}",
            at,
            at,
        )


def _items(agency_id: UUID, count: int) -> Iterator[Row]:
    for number in range(count):
        at = START + number * STEP_US
        yield (
            _id(4, number), agency_id, _id(3, number), _id(1, number % DEVICES), f"bench:{number}",
            "body_cam", "video", f"B{number % DEVICES:04}_{number}.mp4", "verified", "rendered",
            "bound", "checked", False, False, "[]",
            at, at + 600_000_000, "某路1号", f"{110000 + number % 300}",
            "现场检查", "investigation", 600_000_000, 15_000, None, None, f"BENCH-{number}", PROBE, at,
        )  # fmt: skip


def _bindings(agency_id: UUID, count: int, case_count: int) -> Iterator[Row]:
    for number in range(count):
        case = number // ITEMS_PER_CASE
        at = START + number * STEP_US
        # What the small cases do not take is the large one's.
        yield (_id(5, number), agency_id, _id(4, number), _id(2, min(case, case_count)), "bound", None, None,
               100, "named", "system", at, None, None, None)  # fmt: skip
