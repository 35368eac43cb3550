"""A clock that tests set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class SettableClock:
    """Says what it was told, until told otherwise."""

    def __init__(self, now: datetime = datetime(2026, 3, 4, 1, 0, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; negative seconds step it back."""
        self._now += timedelta(seconds=seconds)
