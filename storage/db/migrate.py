"""Bring the tables to the newest revision, or say which one they are at.

Alembic is loaded only by who migrates: it is eight megabytes that no running process needs, and compiles
every migration each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from storage.db.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).parent.parent / "migrations"


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def upgrade(database: Database) -> None:
    """Run every migration that has not run, in one transaction under a lock time-out."""
    with database.engine.begin() as connection:
        if not database.is_sqlite:
            # Two hosts starting together: one migrates, the other waits for it.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(5207003)")
        if _revision(connection) == newest():
            return
        from alembic import command

        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current(database: Database) -> str | None:
    """Revision of the tables; None for an empty database."""
    with database.engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def newest() -> str:
    """Revision this version of the program needs: the number its newest script is named by."""
    return max(path.name[1:5] for path in (SCRIPTS / "versions").glob("m[0-9][0-9][0-9][0-9]_*.py"))
