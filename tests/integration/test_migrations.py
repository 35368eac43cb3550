"""Migrations lead to the tables the program declares, from nothing and from each earlier revision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from storage.db import migrate
from storage.db.engine import Database
from storage.db.tables import Base


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def test_from_nothing_they_make_the_declared_tables(database: Database) -> None:
    migrate.upgrade(database)
    assert differences(database) == []
    assert migrate.current(database) == migrate.newest()


def test_a_row_of_the_first_release_lives_through_every_later_revision(database: Database) -> None:
    config = migrate._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO agency (id, code, name, time_zone, case_no_pattern, numbering_template, "
                "store_id, created_at) VALUES (:id, 'old', 'n', 'UTC', 'p', 't', 's', 0)"
            ),
            {"id": bytes(16) if database.is_sqlite else "0" * 32},
        )
    migrate.upgrade(database)
    assert differences(database) == []
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT code FROM agency")).scalar() == "old"


def test_every_revision_names_the_one_before_it() -> None:
    revisions = list(ScriptDirectory(str(Path(migrate.SCRIPTS))).walk_revisions())
    assert [revision.revision for revision in revisions] == [
        f"{number:04d}" for number in range(len(revisions), 0, -1)
    ]
