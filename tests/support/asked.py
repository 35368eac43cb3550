"""What a database is asked, and how it goes about answering."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import event

from storage.db.engine import Database


class Question(NamedTuple):
    """A statement as it went out; one over many rows is one."""

    statement: str
    parameters: Any


@contextmanager
def questions(database: Database) -> Iterator[list[Question]]:
    """Every statement that goes out meanwhile, in order."""
    asked: list[Question] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        asked.append(Question(statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def plan_of(database: Database, question: Question) -> str:
    """How the database answers a question, as it says itself."""
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{explain} {question.statement}", question.parameters)
        return "\n".join(str(row[-1]) for row in rows)
