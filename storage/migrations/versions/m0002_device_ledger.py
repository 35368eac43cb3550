"""The tables of the device ledger: docks, readings, faults, duty, policies, lateness, alarms, interruptions

Revision: 0002, after: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.db.types

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("continuity_reason", "device_reading", "policy")
# What is added to a row later, once; every other column is written with the row, and no row goes.
ADDED_LATER = {
    "alarm": ("cleared_at", "cleared_by", "cleared_reason"),
    "av_number": ("voided_at", "void_reason"),
    "case_binding": ("ended_at", "ended_by", "ended_reason"),
    "device_fault": ("resolved_at", "resolved_by", "resolution"),
    "device_issue": ("returned_at",),
    # One that was withdrawn may be entered anew.
    "duty_period": ("duty_to", "author", "made_at", "withdrawn_at"),
    "lateness": ("reason", "reason_by", "reason_at"),
    "reception": ("receipt",),
    "redaction_plan": ("approved_at", "approved_by"),
}


def upgrade() -> None:
    op.create_table(
        "alarm",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("code", sa.Text(), nullable=False, comment="stable word for its kind"),
        sa.Column("subject", sa.Text(), nullable=False, comment="kind of the thing: item, device, dock"),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False, comment="one line: what is wrong and what to do"),
        sa.Column(
            "facts", storage.db.types.Json(), nullable=False, comment="names and numbers; no personal details"
        ),
        sa.Column("raised_at", storage.db.types.Instant(), nullable=False),
        sa.Column("cleared_at", storage.db.types.Instant(), nullable=True, comment="null: stands"),
        sa.Column("cleared_by", sa.Text(), nullable=True, comment="actor label; null: stands"),
        sa.Column("cleared_reason", sa.Text(), nullable=True, comment="null: stands"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_alarm_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    op.create_index(
        op.f("ix_alarm_agency_id_cleared_at_raised_at"),
        "alarm",
        ["agency_id", "cleared_at", "raised_at"],
        unique=False,
    )
    op.create_index(op.f("ix_alarm_agency_id_subject_id"), "alarm", ["agency_id", "subject_id"], unique=False)
    op.create_table(
        "dock",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("dock_no", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=True, comment="where it stands; null: not told"),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "retired_at", storage.db.types.Instant(), nullable=True, comment="out of use since; null: in use"
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_dock_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dock")),
        sa.UniqueConstraint("agency_id", "dock_no", name=op.f("uq_dock_agency_id_dock_no")),
    )
    op.create_table(
        "policy",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="what it rules, such as upload_deadline"),
        sa.Column("version", sa.Integer(), nullable=False, comment="counts up from 1 for each name"),
        sa.Column(
            "applies_from",
            storage.db.types.Instant(),
            nullable=False,
            comment="events from this instant on are judged by it",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="name and article of the text it follows"),
        sa.Column(
            "body", storage.db.types.Json(), nullable=False, comment="its values; shape depends on the name"
        ),
        sa.Column("author", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_policy_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy")),
        sa.UniqueConstraint("agency_id", "name", "version", name=op.f("uq_policy_agency_id_name_version")),
    )
    op.create_table(
        "device_fault",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("device_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("what", sa.Text(), nullable=False, comment="what is wrong, in words"),
        sa.Column("reported_by", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("reported_at", storage.db.types.Instant(), nullable=False),
        sa.Column("resolved_at", storage.db.types.Instant(), nullable=True, comment="null: open"),
        sa.Column("resolved_by", sa.Text(), nullable=True, comment="actor label; null: open"),
        sa.Column("resolution", sa.Text(), nullable=True, comment="what was done; null: open"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_device_fault_agency_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_device_fault_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_fault")),
    )
    op.create_index(
        op.f("ix_device_fault_agency_id_device_id_reported_at"),
        "device_fault",
        ["agency_id", "device_id", "reported_at"],
        unique=False,
    )
    op.create_table(
        "device_reading",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("device_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("dock_no", sa.Text(), nullable=True, comment="null: read without a dock"),
        sa.Column(
            "read_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock, when the reading arrived",
        ),
        sa.Column(
            "device_clock", storage.db.types.Instant(), nullable=True, comment="device clock; null: not read"
        ),
        sa.Column(
            "reference_clock",
            storage.db.types.Instant(),
            nullable=True,
            comment="clock of the dock at the same instant; null: not read",
        ),
        sa.Column(
            "offset_us",
            sa.BigInteger(),
            nullable=True,
            comment="reference minus device clock, before any setting of it; null: one of the two not read",
        ),
        sa.Column(
            "clock_set",
            sa.Boolean(),
            nullable=True,
            comment="whether the dock set the device clock after this reading; null: not told",
        ),
        sa.Column("battery_percent", sa.Integer(), nullable=True, comment="null: not read"),
        sa.Column("free_bytes", sa.BigInteger(), nullable=True, comment="null: not read"),
        sa.Column("capacity_bytes", sa.BigInteger(), nullable=True, comment="null: not read"),
        sa.Column("firmware", sa.Text(), nullable=True, comment="null: not read"),
        sa.Column(
            "officer_no",
            sa.Text(),
            nullable=True,
            comment="officer number held in the device; null: not read",
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_device_reading_agency_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_device_reading_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_reading")),
    )
    op.create_index(
        op.f("ix_device_reading_agency_id_device_id_device_clock"),
        "device_reading",
        ["agency_id", "device_id", "device_clock"],
        unique=False,
    )
    op.create_index(
        op.f("ix_device_reading_agency_id_device_id_read_at"),
        "device_reading",
        ["agency_id", "device_id", "read_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_device_reading_agency_id_dock_no_read_at"),
        "device_reading",
        ["agency_id", "dock_no", "read_at"],
        unique=False,
    )
    op.create_table(
        "duty_period",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("officer_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("duty_from", storage.db.types.Instant(), nullable=False),
        sa.Column("duty_to", storage.db.types.Instant(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False, comment="actor label of who entered it"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "withdrawn_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="entered in error; null: stands",
        ),
        sa.CheckConstraint("duty_to > duty_from", name=op.f("ck_duty_period_forward")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_duty_period_agency_id")),
        sa.ForeignKeyConstraint(["officer_id"], ["officer.id"], name=op.f("fk_duty_period_officer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duty_period")),
        sa.UniqueConstraint(
            "agency_id", "officer_id", "duty_from", name=op.f("uq_duty_period_agency_id_officer_id_duty_from")
        ),
    )
    op.create_index(
        op.f("ix_duty_period_agency_id_duty_from"), "duty_period", ["agency_id", "duty_from"], unique=False
    )
    op.create_table(
        "lateness",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "policy_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="version it was judged by; null: the preset",
        ),
        sa.Column("due_at", storage.db.types.Instant(), nullable=False),
        sa.Column("late_by_us", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", storage.db.types.Instant(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="null: still asked for"),
        sa.Column("reason_by", sa.Text(), nullable=True, comment="actor label; null: still asked for"),
        sa.Column("reason_at", storage.db.types.Instant(), nullable=True, comment="null: still asked for"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_lateness_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_lateness_item_id")),
        sa.ForeignKeyConstraint(["policy_id"], ["policy.id"], name=op.f("fk_lateness_policy_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lateness")),
        sa.UniqueConstraint("agency_id", "item_id", name=op.f("uq_lateness_agency_id_item_id")),
    )
    op.create_index(
        op.f("ix_lateness_agency_id_noted_at"), "lateness", ["agency_id", "noted_at"], unique=False
    )
    op.create_index(
        op.f("ix_object_agency_id_verified_at"), "object", ["agency_id", "verified_at"], unique=False
    )
    op.add_column("device", sa.Column("maker", sa.Text(), nullable=True, comment="null: not told"))
    op.add_column(
        "device", sa.Column("firmware", sa.Text(), nullable=True, comment="as last read; null: never told")
    )
    op.add_column(
        "device",
        sa.Column("capacity_bytes", sa.BigInteger(), nullable=True, comment="as last read; null: never told"),
    )
    op.add_column(
        "device",
        sa.Column(
            "retired_at", storage.db.types.Instant(), nullable=True, comment="out of use since; null: in use"
        ),
    )
    _add_reasons()
    _refuse_changes()


def _add_reasons() -> None:
    """Why recordings were interrupted, as people stated it."""
    op.create_table(
        "continuity_reason",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "report_sha256",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="of the report that lists the span",
        ),
        sa.Column("fault", sa.Text(), nullable=False, comment="Fault"),
        sa.Column("from_us", sa.BigInteger(), nullable=False, comment="media time"),
        sa.Column("to_us", sa.BigInteger(), nullable=False, comment="media time; not before from_us"),
        sa.Column("reason", sa.Text(), nullable=False, comment="GapReason"),
        sa.Column("statement", sa.Text(), nullable=False, comment="in words, one line"),
        sa.Column("author", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_continuity_reason_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_continuity_reason_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_continuity_reason")),
    )
    op.create_index(
        op.f("ix_continuity_reason_agency_id_item_id"),
        "continuity_reason",
        ["agency_id", "item_id"],
        unique=False,
    )


def _refuse_changes() -> None:
    """The database itself refuses what would rewrite a record (invariant 6)."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for table in APPEND_ONLY:
        _refuse(table, "UPDATE", is_postgresql)
        _refuse(table, "DELETE", is_postgresql)
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
    raise RuntimeError("migrations: the device ledger cannot be taken back; restore a backup instead")
