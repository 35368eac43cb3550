"""SQL is compiled once a run: a program has one engine for all its life, the tests have one each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import pytest
from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

STATEMENTS = 2000


class Shared(DefaultDialect):
    """The only one of its class, by which SQLAlchemy tells what it has compiled."""

    _only: Any = None
    _compiled: LRUCache[Any, Any]

    def __new__(cls, **options: Any) -> Self:
        if cls._only is None:
            cls._only = super().__new__(cls)
            cls._compiled = LRUCache(STATEMENTS)
            super().__init__(cls._only, **options)
        only: Self = cls._only
        return only

    def __init__(self, **_options: Any) -> None:
        """It is there already."""

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=cls._compiled)


class Sqlite(Shared, SQLiteDialect_pysqlite):
    supports_statement_cache = True


class Postgresql(Shared, PGDialect_psycopg):
    supports_statement_cache = True


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """For the engines of this process; what a test starts apart has its own."""
    names = {"sqlite": Sqlite, "sqlite.pysqlite": Sqlite, "postgresql.psycopg": Postgresql}
    for name, dialect in names.items():
        registry.register(name, __name__, dialect.__name__)
    yield
    for name in names:
        registry.deregister(name)
