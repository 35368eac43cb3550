"""Migrations lead to the tables the program declares, from nothing and from each earlier revision."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Executable, Table, delete, text, update
from sqlalchemy.exc import DBAPIError

from storage.db import migrate
from storage.db.engine import Database
from storage.db.tables import Base
from storage.db.types import Digest, Id
from storage.db.witness import WITNESSED, table_of


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
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


def test_tables_of_this_version_are_left_without_a_look_at_the_scripts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(migrate, "_config")
    database = Database(database_url)
    migrate.upgrade(database)
    assert migrate.current(database) == migrate.newest()
    database.dispose()


def test_every_revision_names_the_one_before_it() -> None:
    revisions = list(ScriptDirectory(str(Path(migrate.SCRIPTS))).walk_revisions())
    assert [revision.revision for revision in revisions] == [
        f"{number:04d}" for number in range(len(revisions), 0, -1)
    ]


# Written whole and never again; of the others, what may be added later.
APPEND_ONLY: dict[str, set[str]] = {
    "custody_leaf": set(),
    "custody_sequence": set(),
    "custody_checkpoint": set(),
    "claim": set(),
    "continuity_reason": set(),
    "device_reading": set(),
    "policy": set(),
    "live_mask": set(),
    "session_note": set(),
    "session_part": set(),
    "trigger_call": set(),
    "alarm": {"cleared_at", "cleared_by", "cleared_reason"},
    "av_number": {"voided_at", "void_reason"},
    "case_binding": {"ended_at", "ended_by", "ended_reason"},
    "device_fault": {"resolved_at", "resolved_by", "resolution"},
    "device_issue": {"returned_at"},
    "duty_period": {"duty_to", "author", "made_at", "withdrawn_at"},
    "lateness": {"reason", "reason_by", "reason_at"},
    "reception": {"receipt"},
    "redaction_plan": {"approved_at", "approved_by"},
    "room_session": {
        "state",
        "case_id",
        "facts",
        "paused_since",
        "ended_at",
        "ended_by",
        "sealed_at",
        "sealed_by",
        "manifest",
        "held_by",
        "complete_at",
        "planned_until",
    },
    "planned_session": {
        "withdrawn_at",
        "withdrawn_by",
        "session_id",
        "begun_at",
        "missed_at",
        "end_told_at",
        "over_at",
    },
    "trigger_key": {"revoked_at"},
    "redaction_review": {"rendition_sha256", "watched", "reported_at", "signed_at", "note"},
    "redaction_release": {"approvals", "released_at", "expires_at", "ended_at", "ended_by", "ended_reason"},
    "check_failure": {
        "codes",
        "findings",
        "finding_count",
        "found_at",
        "overridden_codes",
        "overridden_at",
        "overridden_by",
        "override_reason",
    },
    "session_mask": {"to_at", "ended_by"},
}


def test_what_plans_of_before_left_in_doubt_is_on_the_queue(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")
    config = migrate._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    muted = {"id": "s", "state": "proposed", "from_us": 0, "to_us": 700}
    doubt = {"track": None, "from_pts": 0, "to_pts": 700, "why": "nobody has listened"}
    plan = {"number": 1, "picture": None, "tracks": [], "whole_frame_spans": [], "muted_spans": [muted],
            "doubtful": [doubt]}  # fmt: skip
    for name in ("agency", "object", "item"):
        with_a_row(database, Base.metadata.tables[name])
    with_a_row(database, Base.metadata.tables["redaction_plan"], number=1, plan=json.dumps(plan))
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        found = connection.execute(text("SELECT plan_number, to_us, risk_us, why FROM redaction_doubt")).all()
    database.dispose()
    assert [tuple(row) for row in found] == [(1, 700, 700, "nobody has listened")]


def with_a_row(database: Database, table: Table, **told: object) -> None:
    """A row of a table, without those it refers to: a trigger of SQLite fires for rows."""
    with closing(sqlite3.connect(database.url.removeprefix("sqlite:///"))) as connection:
        values = {
            column.name: b"0" * 16 if isinstance(column.type, Id | Digest) else place
            for place, column in enumerate(table.columns)
            if not column.nullable
        } | told
        marks = ", ".join("?" * len(values))
        connection.execute(
            f"INSERT INTO {table.name} ({', '.join(values)}) VALUES ({marks})",  # noqa: S608 - our own names
            tuple(values.values()),
        )
        connection.commit()


def is_refused(database: Database, statement: Executable) -> bool:
    try:
        with database.engine.begin() as connection:
            connection.execute(statement)
    except DBAPIError as error:
        assert "append-only" in str(error), error
        return True
    return False


@pytest.mark.parametrize("name", sorted(APPEND_ONLY))
def test_the_database_refuses_to_rewrite_a_record(database: Database, name: str) -> None:
    migrate.upgrade(database)
    table = Base.metadata.tables[name]
    if database.is_sqlite:
        with_a_row(database, table)
    allowed = {
        column.name
        for column in table.columns
        if not is_refused(database, update(table).values({column: column}))
    }
    assert allowed == APPEND_ONLY[name]
    assert is_refused(database, delete(table))


UNWITNESSED = {
    "login_session": "overwritten at will; nothing is decided in court by it",
    "job": "the queue: what a job did is in the log",
    "leadership": "leases, overwritten at will",
    "room_stream": "what streams do now, overwritten at will",
    "redaction_doubt": "made from plans, and made anew from each",
    "av_number_series": "a counter; each number it gave is a row of av_number",
    "custody_leaf": "proves itself",
    "custody_pending": "leaves without a place yet; the log misses one that is dropped",
    "custody_sequence": "proves itself",
    "custody_checkpoint": "proves itself",
}


def test_every_table_has_a_witness_or_a_reason_to_have_none() -> None:
    witnessed = [table_of(model).name for model in WITNESSED]
    assert sorted([*witnessed, *UNWITNESSED]) == sorted(Base.metadata.tables)


def test_a_table_that_says_it_is_never_edited_is_refused_changes() -> None:
    said = {
        mapper.local_table.name  # type: ignore[attr-defined]
        for mapper in Base.registry.mappers
        if any(
            words in (mapper.class_.__doc__ or "")
            for words in ("Append-only", "Never edited", "never edited", "never deleted")
        )
    }
    assert said
    assert said <= APPEND_ONLY.keys()
