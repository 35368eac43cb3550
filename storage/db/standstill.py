"""Whether anything was committed since: what keeps a decision from being made again for every range.

A mark names what is visible in the database now. As long as the mark stays equal, every question asked of
the database has the answer it had, whatever tables it is about; nobody has to remember to announce a change.

SQLite: ``PRAGMA data_version`` of a connection that never writes changes with each commit of any other
connection, in this process or another. PostgreSQL: two snapshots that are written the same see the same
transactions, and a snapshot never goes back.

Marks may only be compared with marks of the same `CommitMark`, and one must be read *before* the question is
asked whose answer it is kept with.
"""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import suppress

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from storage.db.engine import Database

# A server that follows another lags behind it: what was revoked there may not be seen here yet.
_SNAPSHOT = text("SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END")


class CommitMark:
    """Reads marks, through a connection of its own; one thread at a time.

    Args:
        database: The database of record.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sqlite: sqlite3.Connection | None = None
        self._server: Connection | None = None
        # Counters of two connections may agree, and an address in memory is used again: this never is.
        self._numbers = itertools.count()
        self._number = 0
        self._has_answered = False

    @property
    def is_instant(self) -> bool:
        """Whether `read` takes microseconds and asks nobody, so that an event loop may call it.

        Not before it succeeded once, nor after it failed: while the file is repaired after a crash, SQLite
        tries for seconds, whatever its timeout.
        """
        return self._database.is_sqlite and self._has_answered

    def read(self) -> str | None:
        """The mark now; None when the database does not say, which equals nothing."""
        return self._of_file() if self._database.is_sqlite else self._of_server()

    def close(self) -> None:
        """Let go of the connection; the next reading makes another."""
        if self._sqlite is not None:
            self._sqlite.close()
        if self._server is not None:
            with suppress(SQLAlchemyError):
                self._server.close()
        self._sqlite = self._server = None
        self._has_answered = False

    def _of_file(self) -> str | None:
        try:
            if self._sqlite is None:
                path = make_url(self._database.url).database or ""
                self._sqlite = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
                self._number = next(self._numbers)
            (version,) = self._sqlite.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self.close()
            return None
        self._has_answered = True
        return f"{self._number}-{version}"

    def _of_server(self) -> str | None:
        try:
            if self._server is None:
                self._server = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            mark: str | None = self._server.scalar(_SNAPSHOT)
        except SQLAlchemyError:
            self.close()
            return None
        return mark
