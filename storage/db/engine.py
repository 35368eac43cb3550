"""Connections and transactions: one code path over SQLite and PostgreSQL.

SQLite runs in WAL with `synchronous=FULL`: a commit that returned survives a power cut. A write
transaction begins IMMEDIATE, so that two writers queue at the start and never fail in the middle.
No transaction stays open across an `await`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from evidence.errors import Unavailable
from storage.db import witness

READ_OPTION = "liuhen_read"


class Database:
    """The database of record.

    Args:
        url: SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
        lock_wait_s: How long a write waits for another before it is `Unavailable`.
        pool_size: Connections kept open per process.
    """

    def __init__(self, url: str, *, lock_wait_s: float = 30.0, pool_size: int = 5) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = self._engine(url, lock_wait_s, pool_size)
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        witness.attend(self._write)
        options: dict[str, Any] = {READ_OPTION: True}
        if not self.is_sqlite:
            # What a read transaction of SQLite gives by itself: one snapshot for all its queries.
            options["isolation_level"] = "REPEATABLE READ"
        self._read = sessionmaker(
            self.engine.execution_options(**options), expire_on_commit=False, autoflush=False
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A write transaction: commits at the end, rolls back on any exception.

        Raises:
            Unavailable: The database is locked, full or gone; the same call may work later.
        """
        try:
            with self._write.begin() as session:
                yield session
        except (OperationalError, PoolTimeout) as error:
            raise self._translate(error) from error

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One snapshot for every query inside; nothing written inside it is kept.

        Raises:
            Unavailable: As for `transaction`.
        """
        try:
            # Closing rolls back; the rows read stay usable.
            with self._read() as session:
                yield session
        except (OperationalError, PoolTimeout) as error:
            raise self._translate(error) from error

    def dispose(self) -> None:
        """Close every pooled connection, for instance after a fork."""
        self.engine.dispose()

    @staticmethod
    def _translate(error: SQLAlchemyError) -> Unavailable:
        origin = error.orig if isinstance(error, DBAPIError) else None
        cause = str(origin).splitlines()[0] if origin else "every connection busy"
        return Unavailable(
            f"database: expected an answer, found: {cause}; try again", code="database_unavailable"
        )

    def _engine(self, url: str, lock_wait_s: float, pool_size: int) -> Engine:
        if not self.is_sqlite:
            engine = create_engine(url, pool_size=pool_size, max_overflow=20, pool_pre_ping=True)

            @event.listens_for(engine, "connect")
            def _bound_waits(connection: Any, _record: object) -> None:
                with connection.cursor() as cursor:
                    cursor.execute(f"SET lock_timeout = '{int(lock_wait_s * 1000)}ms'")
                    cursor.execute("SET idle_in_transaction_session_timeout = '120s'")
                    # A server set to less would acknowledge what a power cut takes back.
                    cursor.execute("SET synchronous_commit = on")
                connection.commit()

            return engine
        engine = create_engine(
            url,
            connect_args={"timeout": lock_wait_s, "check_same_thread": False},
            pool_size=pool_size,
            # Writers that wait for the one lock hold a connection each; readers must still get theirs.
            max_overflow=128,
        )

        @event.listens_for(engine, "connect")
        def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None  # SQLAlchemy begins; the driver must not.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-32768")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reading = connection.get_execution_options().get(READ_OPTION, False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        return engine
