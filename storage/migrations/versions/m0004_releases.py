"""The tables of releases: reviews, releases, checks that failed, doubtful spans by risk

Revision: 0004, after: 0003
"""

from __future__ import annotations

import json
import uuid

import sqlalchemy as sa
from alembic import op

import storage.db.types
from evidence.doubts import open_doubts
from evidence.ids import new_id

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOST_DOUBTS = 200
# What is added to a row later; every other column is written with the row, and no row goes.
ADDED_LATER = {
    "redaction_review": ("rendition_sha256", "watched", "reported_at", "signed_at", "note"),
    "redaction_release": (
        "approvals",
        "released_at",
        "expires_at",
        "ended_at",
        "ended_by",
        "ended_reason",
    ),
    "check_failure": (
        "codes",
        "findings",
        "finding_count",
        "found_at",
        "overridden_codes",
        "overridden_at",
        "overridden_by",
        "override_reason",
    ),
}


def upgrade() -> None:
    hangs_on = "redaction_release that it hangs on; null: on none"
    for table in ("view_grant", "clip"):
        op.add_column(
            table, sa.Column("release_id", storage.db.types.Id(length=16), nullable=True, comment=hangs_on)
        )
    op.create_index(op.f("ix_view_grant_agency_id_release_id"), "view_grant", ["agency_id", "release_id"])
    op.create_index(op.f("ix_clip_agency_id_release_id"), "clip", ["agency_id", "release_id"])
    _reviews()
    _releases()
    _check_failures()
    _doubts()
    _refuse_changes()


def _id(name: str, *, nullable: bool = False, comment: str | None = None) -> sa.Column[uuid.UUID]:
    return sa.Column(name, storage.db.types.Id(length=16), nullable=nullable, comment=comment)


def _refers(table: str, **columns: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint([column], [f"{other}.id"], name=op.f(f"fk_{table}_{column}"))
        for column, other in columns.items()
    ]


def _reviews() -> None:
    op.create_table(
        "redaction_review",
        _id("id"),
        _id("agency_id"),
        _id("item_id"),
        _id("derivative_id"),
        sa.Column(
            "rendition_sha256",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="of the bytes that were watched",
        ),
        sa.Column("plan_number", sa.Integer(), nullable=False, comment="version of the plan they show"),
        _id("account_id"),
        sa.Column(
            "watched",
            storage.db.types.Json(),
            nullable=False,
            comment="[[from_us, to_us]]: media time, in order, merged",
        ),
        sa.Column(
            "reported_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock, of the newest report",
        ),
        sa.Column(
            "signed_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="when they said that they reviewed it; null: not yet",
        ),
        sa.Column("note", sa.Text(), nullable=True, comment="what they said; null: nothing"),
        *_refers(
            "redaction_review",
            agency_id="agency",
            item_id="item",
            derivative_id="derivative",
            account_id="account",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redaction_review")),
        sa.UniqueConstraint(
            "agency_id",
            "derivative_id",
            "account_id",
            name=op.f("uq_redaction_review_agency_id_derivative_id_account_id"),
        ),
    )
    op.create_index(
        op.f("ix_redaction_review_agency_id_item_id"), "redaction_review", ["agency_id", "item_id"]
    )


def _releases() -> None:
    op.create_table(
        "redaction_release",
        _id("id"),
        _id("agency_id"),
        _id("item_id"),
        _id("case_id", nullable=True, comment="whose spans alone are released; null: all that may be seen"),
        sa.Column("plan_number", sa.Integer(), nullable=False, comment="version of the plan"),
        _id("derivative_id"),
        sa.Column(
            "rendition_sha256",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="these bytes and no others",
        ),
        sa.Column("to_kind", sa.Text(), nullable=False, comment="evidence.release.Recipient"),
        sa.Column("to_role", sa.Text(), nullable=True, comment="Role; null: to no role"),
        _id("to_account_id", nullable=True, comment="null: to no person"),
        sa.Column(
            "to_party", sa.Text(), nullable=True, comment="name of who is outside; null: to nobody outside"
        ),
        sa.Column("purpose", sa.Text(), nullable=False, comment="RetrievalPurpose"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "chain",
            storage.db.types.Json(),
            nullable=False,
            comment="role of each step, as the policy had it when asked for",
        ),
        sa.Column(
            "terms",
            storage.db.types.Json(),
            nullable=False,
            comment="the policy, and what was found when it was asked for: coverage, reviewers, unwatched",
        ),
        _id("asked_by"),
        sa.Column("asked_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "approvals",
            storage.db.types.Json(),
            nullable=False,
            comment="[{role, by, at, note}]: the steps that were taken",
        ),
        sa.Column(
            "released_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="null: steps are open, or it was refused",
        ),
        sa.Column(
            "expires_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="null: until it is revoked or superseded",
        ),
        sa.Column(
            "ended_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="null: neither refused nor revoked",
        ),
        sa.Column("ended_by", sa.Text(), nullable=True, comment="actor label; null: nobody ended it"),
        sa.Column("ended_reason", sa.Text(), nullable=True, comment="null: nobody ended it"),
        *_refers(
            "redaction_release",
            agency_id="agency",
            item_id="item",
            case_id="case_file",
            derivative_id="derivative",
            to_account_id="account",
            asked_by="account",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redaction_release")),
    )
    op.create_index(
        op.f("ix_redaction_release_agency_id_item_id"), "redaction_release", ["agency_id", "item_id"]
    )
    op.create_index(
        op.f("ix_redaction_release_agency_id_asked_at_id"),
        "redaction_release",
        ["agency_id", "asked_at", "id"],
    )


def _check_failures() -> None:
    op.create_table(
        "check_failure",
        _id("id"),
        _id("agency_id"),
        _id("item_id"),
        sa.Column("plan_number", sa.Integer(), nullable=False),
        sa.Column(
            "codes", storage.db.types.Json(), nullable=False, comment="codes of all findings, each once"
        ),
        sa.Column(
            "findings",
            storage.db.types.Json(),
            nullable=False,
            comment="the first of them, as `redaction.findings` has them",
        ),
        sa.Column("finding_count", sa.BigInteger(), nullable=False),
        sa.Column(
            "found_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock, of the newest check",
        ),
        sa.Column(
            "overridden_codes",
            storage.db.types.Json(),
            nullable=True,
            comment="findings that somebody lets pass, and no others; null: nobody does",
        ),
        sa.Column("overridden_at", storage.db.types.Instant(), nullable=True, comment="null: nobody does"),
        sa.Column("overridden_by", sa.Text(), nullable=True, comment="actor label; null: nobody does"),
        sa.Column("override_reason", sa.Text(), nullable=True, comment="null: nobody does"),
        *_refers("check_failure", agency_id="agency", item_id="item"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_check_failure")),
        sa.UniqueConstraint(
            "agency_id",
            "item_id",
            "plan_number",
            name=op.f("uq_check_failure_agency_id_item_id_plan_number"),
        ),
    )


def _doubts() -> None:
    table = op.create_table(
        "redaction_doubt",
        _id("id"),
        _id("agency_id"),
        _id("item_id"),
        sa.Column("plan_number", sa.Integer(), nullable=False),
        sa.Column("track", sa.Text(), nullable=True, comment="null: the frame or the sound is hidden whole"),
        sa.Column("track_class", sa.Text(), nullable=True, comment="null: as above"),
        sa.Column("from_us", sa.BigInteger(), nullable=False, comment="media time"),
        sa.Column("to_us", sa.BigInteger(), nullable=False, comment="media time, not included"),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("area_permille", sa.Integer(), nullable=False, comment="share of the picture, 1 to 1000"),
        sa.Column("score_permille", sa.Integer(), nullable=False, comment="of the track's best sighting"),
        sa.Column(
            "risk_us", sa.BigInteger(), nullable=False, comment="evidence.doubts: length x area x score"
        ),
        *_refers("redaction_doubt", agency_id="agency", item_id="item"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redaction_doubt")),
    )
    op.create_index(
        op.f("ix_redaction_doubt_agency_id_risk_us_id"),
        "redaction_doubt",
        ["agency_id", "risk_us", "id"],
    )
    op.create_index(op.f("ix_redaction_doubt_agency_id_item_id"), "redaction_doubt", ["agency_id", "item_id"])
    _note_doubts_of_plans(table)


def _note_doubts_of_plans(table: sa.Table) -> None:
    """What plans that are there already left undecided, one plan at a time: each may be megabytes."""
    connection = op.get_bind()
    kept = sa.table(
        "redaction_plan",
        _id("agency_id"),
        _id("item_id"),
        sa.column("number", sa.Integer()),
        sa.column("plan", sa.Text()),
    )
    newest = sa.select(kept.c.agency_id, kept.c.item_id, sa.func.max(kept.c.number)).group_by(
        kept.c.agency_id, kept.c.item_id
    )
    for agency_id, item_id, number in connection.execute(newest).all():
        plan = connection.execute(
            sa.select(kept.c.plan).where(
                kept.c.agency_id == agency_id, kept.c.item_id == item_id, kept.c.number == number
            )
        ).scalar_one()
        rows = [
            {
                "id": new_id(),
                "agency_id": agency_id,
                "item_id": item_id,
                "plan_number": number,
                "track": doubt.track,
                "track_class": doubt.track_class,
                "from_us": doubt.from_us,
                "to_us": doubt.to_us,
                "why": doubt.why,
                "area_permille": doubt.area_permille,
                "score_permille": doubt.score_permille,
                "risk_us": doubt.risk_us,
            }
            for doubt in open_doubts(json.loads(plan))[:MOST_DOUBTS]
        ]
        if rows:
            connection.execute(table.insert(), rows)


def _refuse_changes() -> None:
    """The database itself refuses what would rewrite a record (invariant 6)."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for table, later in ADDED_LATER.items():
        columns = [one["name"] for one in sa.inspect(op.get_bind()).get_columns(table)]
        written_once = ", ".join(name for name in columns if name not in later)
        _refuse(table, f"UPDATE OF {written_once}", is_postgresql)
        _refuse(table, "DELETE", is_postgresql)


def _refuse(table: str, what: str, is_postgresql: bool) -> None:
    verb = what.partition(" ")[0].lower()
    if is_postgresql:
        event = "DELETE OR TRUNCATE" if verb == "delete" else what
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {event} ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {what} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def downgrade() -> None:
    """Evidence is not dropped."""
    raise RuntimeError("migrations: releases cannot be taken back; restore a backup instead")
