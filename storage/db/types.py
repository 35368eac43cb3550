"""Column types that mean one thing on SQLite and PostgreSQL."""
# ruff: noqa: ARG002 - the signatures are SQLAlchemy's.

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID, SafeUUID

from sqlalchemy import BigInteger, Dialect, LargeBinary, Text, types
from sqlalchemy.dialects import postgresql

from evidence.clock import from_micros, to_micros

_new, _set, _number_of = object.__new__, object.__setattr__, int.from_bytes


def uuid_of(value: bytes | None) -> UUID | None:
    """What `UUID(bytes=value)` is, made in a quarter of the time: a case has thousands to be read."""
    if value is None:
        return None
    if len(value) != 16:
        return UUID(bytes=value)  # Which refuses it.
    made = _new(UUID)
    _set(made, "int", _number_of(value, "big"))
    _set(made, "is_safe", SafeUUID.unknown)
    return made


def _instant_of(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)


class Id(types.TypeDecorator[UUID]):
    """A UUID: native on PostgreSQL, 16 bytes on SQLite, so that keys stay small and sort by time."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.UUID(as_uuid=True))
        return dialect.type_descriptor(LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.bytes

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], UUID | None] | None:
        # In place of process_result_value, which costs two more calls a value.
        return None if dialect.name == "postgresql" else uuid_of


class Instant(types.TypeDecorator[datetime]):
    """An aware UTC datetime stored as microseconds since 1970 in a BIGINT."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None]:
        return _instant_of


class Digest(types.TypeDecorator[bytes]):
    """A digest of 32 raw bytes."""

    impl = LargeBinary(32)
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        if value is not None and len(value) != 32:
            raise ValueError(f"digest: expected 32 bytes, found {len(value)}")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        return None if value is None else bytes(value)


class JsonText(str):
    """JSON text for a `Json` column, made before the transaction: megabytes of it take a while."""

    __slots__ = ()


class Json(types.TypeDecorator[Any]):
    """JSON as text with one spelling on both databases; never queried inside."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if isinstance(value, JsonText):
            return str(value)
        return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)
