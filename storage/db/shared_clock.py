"""The one clock that leases are measured by, whichever host asks.

Hosts that share a PostgreSQL differ by seconds, and a lease that one writes is judged by another; there the
database says what time it is, in the statement itself. SQLite has one host, whose clock is the caller's.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, ColumnElement, cast, extract, func, literal, type_coerce
from sqlalchemy.orm import Session

from storage.db.types import Instant

MICROSECOND = timedelta(microseconds=1)


def shared_now(session: Session, now: datetime, plus: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The present instant of the clock all hosts of this database share, as an expression.

    Args:
        now: The caller's own time, which counts where the database has no clock of its own.
        plus: What to add; negative for an instant in the past.
    """
    if session.get_bind().dialect.name != "postgresql":
        return literal(now + plus, Instant())
    # Stable within a statement, so that an index on an instant is still used; and not the start of the
    # transaction, which may have waited for locks since.
    micros = cast(extract("epoch", func.statement_timestamp()) * 1_000_000, BigInteger)
    return type_coerce(micros + plus // MICROSECOND, Instant())
