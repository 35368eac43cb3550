"""Reading everything as it was at one instant, while the system goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import Table, select
from sqlalchemy.orm import Session

from storage.db.engine import Database

BATCH = 1000


@contextmanager
def snapshot(database: Database) -> Iterator[Session]:
    """A read in which each query sees the same instant, on both databases."""
    with database.read() as session:
        if not database.is_sqlite:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session


def rows_of(session: Session, table: Table, agency_id: UUID | None = None) -> Iterator[dict[str, Any]]:
    """Every row of a table, of one agency or of all, by primary key, a batch at a time."""
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=BATCH)
    if agency_id is not None:
        query = query.where(table.c["id" if table.name == "agency" else "agency_id"] == agency_id)
    for row in session.connection().execute(query).mappings():
        yield dict(row)
