"""A clock that tests set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, type_coerce, update

from storage.db.tables import Job
from storage.open import Storage


class SettableClock:
    """Says what it was told, until told otherwise."""

    def __init__(self, now: datetime = datetime(2026, 3, 4, 1, 0, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass; negative seconds step it back."""
        self._now += timedelta(seconds=seconds)


def let_pass(storage: Storage, clock: SettableClock, seconds: float) -> None:
    """Let time pass for the clock and for jobs, whose times are PostgreSQL's own where they lie there.

    That clock cannot be moved, so what it has written is moved back instead.
    """
    clock.advance(seconds)
    if storage.database.is_sqlite:
        return
    by = int(seconds * 1_000_000)
    columns = (
        Job.lease_until,
        Job.run_after,
        Job.announced_at,
        Job.created_at,
        Job.started_at,
        Job.finished_at,
    )
    moved = {column.key: type_coerce(column, BigInteger) - by for column in columns}
    with storage.database.transaction() as session:
        session.execute(update(Job).values(moved), execution_options={"synchronize_session": False})
