"""Whose time it is. Stored instants are UTC microseconds; people see the agency's zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Something that says what time it is."""

    def now(self) -> datetime:
        """The present instant, aware, UTC, microsecond precision."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly.

    Raises:
        ValueError: ``instant`` has no zone, so it names no instant.
    """
    if instant.tzinfo is None:
        raise ValueError(f"instant: expected an aware datetime, found {instant.isoformat()} without zone")
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The instant ``micros`` microseconds after 1970, in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def rfc3339(instant: datetime) -> str:
    """The instant as RFC 3339 with microseconds and ``Z``, one form for one instant."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
