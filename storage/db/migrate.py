"""Bring the tables to the newest revision, or say which one they are at."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.db.engine import Database

SCRIPTS = Path(__file__).parent.parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def upgrade(database: Database) -> None:
    """Run every migration that has not run, in one transaction under a lock time-out."""
    config = _config()
    with database.engine.begin() as connection:
        if not database.is_sqlite:
            # Two hosts starting together: one migrates, the other waits for it.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(5207003)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current(database: Database) -> str | None:
    """Revision of the tables; None for an empty database."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """Revision this version of the program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("migrations: expected at least one revision, found none")
    return head
