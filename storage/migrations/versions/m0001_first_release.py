"""The tables of the first release

Revision: 0001, after:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.db.types

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("custody_leaf", "custody_sequence", "custody_checkpoint", "claim")


def upgrade() -> None:
    op.create_table(
        "agency",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("code", sa.Text(), nullable=False, comment="short name used in numbers and log origins"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False, comment="IANA zone people see times in"),
        sa.Column(
            "case_no_pattern", sa.Text(), nullable=False, comment="regular expression a case number matches"
        ),
        sa.Column("numbering_template", sa.Text(), nullable=False, comment="form of AV record numbers (R5)"),
        sa.Column(
            "store_id", sa.Text(), nullable=False, comment="identity of the object store these rows speak of"
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agency")),
        sa.UniqueConstraint("code", name=op.f("uq_agency_code")),
    )
    op.create_table(
        "leadership",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("until", storage.db.types.Instant(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leadership")),
    )
    op.create_table(
        "av_number_series",
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("class_code", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_av_number_series_agency_id")),
        sa.PrimaryKeyConstraint("agency_id", "class_code", "year", name=op.f("pk_av_number_series")),
    )
    op.create_table(
        "custody_checkpoint",
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("tree_size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", storage.db.types.Digest(length=32), nullable=False),
        sa.Column(
            "frontier",
            sa.LargeBinary(),
            nullable=False,
            comment="hashes of the complete subtrees, for the next append",
        ),
        sa.Column("note", sa.Text(), nullable=False, comment="signed note (C2SP tlog-checkpoint)"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_custody_checkpoint_agency_id")),
        sa.PrimaryKeyConstraint("agency_id", "tree_size", name=op.f("pk_custody_checkpoint")),
    )
    op.create_table(
        "custody_leaf",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False, comment="as in the leaf, for look-up"),
        sa.Column("action", sa.Text(), nullable=False, comment="as in the leaf, for look-up"),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="canonical JSON; exactly what is hashed"),
        sa.Column("payload", sa.LargeBinary(), nullable=True, comment="salted personal details; null: none"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_custody_leaf_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_custody_leaf")),
    )
    op.create_index(
        op.f("ix_custody_leaf_agency_id_subject_id"),
        "custody_leaf",
        ["agency_id", "subject_id"],
        unique=False,
    )
    op.create_table(
        "device",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("device_no", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="SourceKind"),
        sa.Column("state", sa.Text(), nullable=False, comment="registered, or unknown until adopted (6.2)"),
        sa.Column("model", sa.Text(), nullable=True, comment="null: not told"),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_device_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("agency_id", "device_no", name=op.f("uq_device_agency_id_device_no")),
    )
    op.create_table(
        "job",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False, comment="io, quick, asked, media or isolated"),
        sa.Column(
            "subject_id",
            storage.db.types.Id(length=16),
            nullable=False,
            comment="item or request the job is about",
        ),
        sa.Column(
            "input_digest", storage.db.types.Digest(length=32), nullable=False, comment="of what it reads"
        ),
        sa.Column(
            "params_digest",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="of the canonical parameters",
        ),
        sa.Column("params", storage.db.types.Json(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="ready, leased, done, quarantined, cancelled"),
        sa.Column("priority", sa.Integer(), nullable=False, comment="lower first"),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="failures so far"),
        sa.Column("deaths", sa.Integer(), nullable=False, comment="workers found dead over it"),
        sa.Column(
            "fence", sa.BigInteger(), nullable=False, comment="grows with each lease; only the newest commits"
        ),
        sa.Column("lease_owner", sa.Text(), nullable=True, comment="worker label; null: not leased"),
        sa.Column(
            "lease_until", storage.db.types.Instant(), nullable=True, comment="server clock; null: not leased"
        ),
        sa.Column("run_after", storage.db.types.Instant(), nullable=False, comment="server clock; back-off"),
        sa.Column(
            "announced_at", storage.db.types.Instant(), nullable=True, comment="last message sent; null: none"
        ),
        sa.Column("progress_permille", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True, comment="one line; null: none"),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "started_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="newest lease; null: never leased",
        ),
        sa.Column("finished_at", storage.db.types.Instant(), nullable=True, comment="null: not finished"),
        sa.CheckConstraint("fence >= 0 AND attempt >= 0 AND deaths >= 0", name=op.f("ck_job_counters")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_job_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sa.UniqueConstraint(
            "agency_id",
            "kind",
            "subject_id",
            "input_digest",
            "params_digest",
            name=op.f("uq_job_agency_id_kind_subject_id_input_digest_params_digest"),
        ),
    )
    op.create_index(op.f("ix_job_agency_id_subject_id"), "job", ["agency_id", "subject_id"], unique=False)
    op.create_index(op.f("ix_job_state_lease_until"), "job", ["state", "lease_until"], unique=False)
    op.create_index(
        op.f("ix_job_state_queue_priority_created_at"),
        "job",
        ["state", "queue", "priority", "created_at"],
        unique=False,
    )
    op.create_table(
        "object",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "sha256",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="made while the bytes arrived",
        ),
        sa.Column(
            "sm3",
            storage.db.types.Digest(length=32),
            nullable=True,
            comment="made on the verifying re-read; null before",
        ),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("store_key", sa.Text(), nullable=False, comment="where the object store keeps them"),
        sa.Column("stored_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "verified_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="last re-read that matched; null before",
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_object_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_object")),
        sa.UniqueConstraint("agency_id", "sha256", name=op.f("uq_object_agency_id_sha256")),
    )
    op.create_table(
        "officer",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("officer_no", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "certificate_no", sa.Text(), nullable=True, comment="enforcement certificate; null when not told"
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_officer_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_officer")),
        sa.UniqueConstraint("agency_id", "officer_no", name=op.f("uq_officer_agency_id_officer_no")),
    )
    op.create_table(
        "signing_key",
        sa.Column("id", sa.Text(), nullable=False, comment="stands in every signature made with it"),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False, comment="receipt, checkpoint or grant"),
        sa.Column(
            "public_key",
            sa.LargeBinary(),
            nullable=False,
            comment="Ed25519, 32 bytes; empty for symmetric keys",
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.Column("retired_at", storage.db.types.Instant(), nullable=True, comment="null: in use"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_signing_key_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_key")),
    )
    op.create_table(
        "account",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False, comment="argon2id, PHC string"),
        sa.Column(
            "password_changed_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="when its holder chose the password; null: somebody else knows it, change it first",
        ),
        sa.Column("roles", storage.db.types.Json(), nullable=False, comment="list of role words"),
        sa.Column("officer_id", storage.db.types.Id(length=16), nullable=True, comment="null: no officer"),
        sa.Column("failed_logins", sa.Integer(), nullable=False),
        sa.Column(
            "failed_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="last wrong password, server clock",
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.Column("disabled_at", storage.db.types.Instant(), nullable=True, comment="null: may sign in"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_account_agency_id")),
        sa.ForeignKeyConstraint(["officer_id"], ["officer.id"], name=op.f("fk_account_officer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("agency_id", "username", name=op.f("uq_account_agency_id_username")),
    )
    op.create_table(
        "custody_pending",
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("leaf_id", storage.db.types.Id(length=16), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_custody_pending_agency_id")),
        sa.ForeignKeyConstraint(["leaf_id"], ["custody_leaf.id"], name=op.f("fk_custody_pending_leaf_id")),
        sa.PrimaryKeyConstraint("agency_id", "leaf_id", name=op.f("pk_custody_pending")),
    )
    op.create_table(
        "custody_sequence",
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("leaf_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("leaf_hash", storage.db.types.Digest(length=32), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_custody_sequence_agency_id")),
        sa.ForeignKeyConstraint(["leaf_id"], ["custody_leaf.id"], name=op.f("fk_custody_sequence_leaf_id")),
        sa.PrimaryKeyConstraint("agency_id", "leaf_index", name=op.f("pk_custody_sequence")),
        sa.UniqueConstraint("agency_id", "leaf_id", name=op.f("uq_custody_sequence_agency_id_leaf_id")),
    )
    op.create_table(
        "device_issue",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("device_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("officer_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("issued_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "returned_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="null: still in the officer's hands",
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_device_issue_agency_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_device_issue_device_id")),
        sa.ForeignKeyConstraint(["officer_id"], ["officer.id"], name=op.f("fk_device_issue_officer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_issue")),
    )
    op.create_index(
        op.f("ix_device_issue_agency_id_device_id_issued_at"),
        "device_issue",
        ["agency_id", "device_id", "issued_at"],
        unique=False,
    )
    op.create_table(
        "item",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("object_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("device_id", storage.db.types.Id(length=16), nullable=True, comment="null: nobody said"),
        sa.Column(
            "identity_key",
            sa.Text(),
            nullable=False,
            comment="digest and device; the item's own id for empty files, which are never merged",
        ),
        sa.Column("source_kind", sa.Text(), nullable=False, comment="SourceKind"),
        sa.Column(
            "media_kind", sa.Text(), nullable=False, comment="MediaKind, by content; unknown until probed"
        ),
        sa.Column(
            "original_name", sa.Text(), nullable=False, comment="as received, made safe to show; never a path"
        ),
        sa.Column("custody", sa.Text(), nullable=False),
        sa.Column("media", sa.Text(), nullable=False),
        sa.Column("binding", sa.Text(), nullable=False),
        sa.Column("redaction", sa.Text(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False, comment="a hold stops disposal"),
        sa.Column("key_file", sa.Boolean(), nullable=False, comment="marked by the recorder's button (D3)"),
        sa.Column(
            "flags",
            storage.db.types.Json(),
            nullable=False,
            comment="[{code, message}]: what is wrong or odd, one line each",
        ),
        sa.Column(
            "captured_from",
            storage.db.types.Instant(),
            nullable=True,
            comment="fact, device clock corrected; null: unknown",
        ),
        sa.Column("captured_to", storage.db.types.Instant(), nullable=True, comment="fact; null: unknown"),
        sa.Column("captured_place", sa.Text(), nullable=True, comment="fact; null: unknown"),
        sa.Column("collector", sa.Text(), nullable=True, comment="fact, officer number; null: unknown"),
        sa.Column("object_of_proof", sa.Text(), nullable=True, comment="fact; null: unknown"),
        sa.Column("stage", sa.Text(), nullable=True, comment="ProcessStage; null: unknown"),
        sa.Column(
            "duration_us",
            sa.BigInteger(),
            nullable=True,
            comment="by probe; null: not probed or no time in it",
        ),
        sa.Column("frame_count", sa.BigInteger(), nullable=True, comment="counted by probe; null: no video"),
        sa.Column(
            "recording_key", sa.Text(), nullable=True, comment="items of one press of the button share it"
        ),
        sa.Column("sequence_no", sa.Integer(), nullable=True, comment="place in the recording; null: alone"),
        sa.Column("av_record_no", sa.Text(), nullable=True, comment="R5; null until filed into a case"),
        sa.Column("probe", storage.db.types.Json(), nullable=True, comment="probe report; null before"),
        sa.Column("received_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_item_agency_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_item_device_id")),
        sa.ForeignKeyConstraint(["object_id"], ["object.id"], name=op.f("fk_item_object_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item")),
        sa.UniqueConstraint("agency_id", "av_record_no", name=op.f("uq_item_agency_id_av_record_no")),
        sa.UniqueConstraint("agency_id", "identity_key", name=op.f("uq_item_agency_id_identity_key")),
    )
    op.create_index(
        op.f("ix_item_agency_id_binding_id"), "item", ["agency_id", "binding", "id"], unique=False
    )
    op.create_index(
        op.f("ix_item_agency_id_captured_from_id"), "item", ["agency_id", "captured_from", "id"], unique=False
    )
    op.create_index(
        op.f("ix_item_agency_id_device_id_captured_from_received_at"),
        "item",
        ["agency_id", "device_id", "captured_from", "received_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_item_agency_id_device_id_received_at"),
        "item",
        ["agency_id", "device_id", "received_at"],
        unique=False,
    )
    op.create_index(op.f("ix_item_agency_id_object_id"), "item", ["agency_id", "object_id"], unique=False)
    op.create_index(
        op.f("ix_item_agency_id_recording_key"), "item", ["agency_id", "recording_key"], unique=False
    )
    op.create_table(
        "upload_token",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "token_digest",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="SHA-256 of the bearer token",
        ),
        sa.Column("dock_no", sa.Text(), nullable=False),
        sa.Column(
            "device_id", storage.db.types.Id(length=16), nullable=True, comment="null: any device of the dock"
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.Column("expires_at", storage.db.types.Instant(), nullable=True, comment="null: until revoked"),
        sa.Column("revoked_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_upload_token_agency_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=op.f("fk_upload_token_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_token")),
        sa.UniqueConstraint("agency_id", "token_digest", name=op.f("uq_upload_token_agency_id_token_digest")),
    )
    op.create_index(op.f("ix_upload_token_token_digest"), "upload_token", ["token_digest"], unique=False)
    op.create_table(
        "case_file",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("case_no", sa.Text(), nullable=False, comment="as the agency writes it"),
        sa.Column("case_no_key", sa.Text(), nullable=False, comment="normalised"),
        sa.Column("kind", sa.Text(), nullable=False, comment="EnforcementKind"),
        sa.Column("cause", sa.Text(), nullable=True, comment="cause of action; null: not told"),
        sa.Column("party", sa.Text(), nullable=True, comment="null: not told"),
        sa.Column("handler_id", storage.db.types.Id(length=16), nullable=True, comment="null: nobody yet"),
        sa.Column(
            "officer_no", sa.Text(), nullable=True, comment="officer in charge, for suggestions; null: none"
        ),
        sa.Column("opened_at", storage.db.types.Instant(), nullable=False),
        sa.Column("closed_at", storage.db.types.Instant(), nullable=True, comment="null: open"),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_case_file_agency_id")),
        sa.ForeignKeyConstraint(["handler_id"], ["account.id"], name=op.f("fk_case_file_handler_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_file")),
        sa.UniqueConstraint("agency_id", "case_no_key", name=op.f("uq_case_file_agency_id_case_no_key")),
    )
    op.create_index(
        op.f("ix_case_file_agency_id_handler_id_opened_at"),
        "case_file",
        ["agency_id", "handler_id", "opened_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_case_file_agency_id_opened_at_id"),
        "case_file",
        ["agency_id", "opened_at", "id"],
        unique=False,
    )
    op.create_table(
        "claim",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False, comment="ClaimSource"),
        sa.Column("clock", sa.Text(), nullable=True, comment="whose clock, for times; null otherwise"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_claim_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_claim_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claim")),
    )
    op.create_index(op.f("ix_claim_agency_id_item_id"), "claim", ["agency_id", "item_id"], unique=False)
    op.create_table(
        "derivative",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="rendition, redacted, poster, redacted_poster, clip"
        ),
        sa.Column(
            "source_sha256",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="what it was made from",
        ),
        sa.Column(
            "params_digest",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="of the canonical parameters",
        ),
        sa.Column(
            "params", storage.db.types.Json(), nullable=False, comment="parameters, tools and model digests"
        ),
        sa.Column("sha256", storage.db.types.Digest(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("store_key", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column(
            "masked", sa.Boolean(), nullable=False, comment="true: safe without the right to the original"
        ),
        sa.Column(
            "info", storage.db.types.Json(), nullable=False, comment="duration, frames, size, fragment index"
        ),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "withdrawn_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="null: served; else its address is gone, or not open yet (info.awaits_approval)",
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_derivative_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_derivative_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_derivative")),
        sa.UniqueConstraint(
            "agency_id",
            "item_id",
            "kind",
            "params_digest",
            name=op.f("uq_derivative_agency_id_item_id_kind_params_digest"),
        ),
    )
    op.create_index(
        op.f("ix_derivative_agency_id_sha256"), "derivative", ["agency_id", "sha256"], unique=False
    )
    op.create_table(
        "login_session",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("account_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "token_digest",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="SHA-256 of the bearer token",
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False),
        sa.Column("expires_at", storage.db.types.Instant(), nullable=False),
        sa.Column("revoked_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_login_session_account_id")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_login_session_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_session")),
        sa.UniqueConstraint(
            "agency_id", "token_digest", name=op.f("uq_login_session_agency_id_token_digest")
        ),
    )
    op.create_index(op.f("ix_login_session_token_digest"), "login_session", ["token_digest"], unique=False)
    op.create_table(
        "reception",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "reception_key", sa.Text(), nullable=False, comment="upload id or source file identity; once only"
        ),
        sa.Column(
            "source",
            sa.Text(),
            nullable=False,
            comment="how it came: tus, put, draft, folder, take, sftp, ftp, ftps, http or pushed",
        ),
        sa.Column("dock_no", sa.Text(), nullable=True, comment="null: no dock"),
        sa.Column("original_name", sa.Text(), nullable=False),
        sa.Column(
            "original_name_raw", sa.LargeBinary(), nullable=False, comment="the name's bytes as received"
        ),
        sa.Column(
            "metadata_received",
            storage.db.types.Json(),
            nullable=False,
            comment="what the sender said, verbatim",
        ),
        sa.Column(
            "leaf_id",
            storage.db.types.Id(length=16),
            nullable=False,
            comment="custody leaf of this reception",
        ),
        sa.Column("received_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column(
            "receipt", sa.Text(), nullable=True, comment="signed receipt; null until the re-read matched"
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_reception_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_reception_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reception")),
        sa.UniqueConstraint("agency_id", "reception_key", name=op.f("uq_reception_agency_id_reception_key")),
    )
    op.create_index(
        op.f("ix_reception_agency_id_item_id"), "reception", ["agency_id", "item_id"], unique=False
    )
    op.create_table(
        "redaction_plan",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="1, 2, 3 … within the item"),
        sa.Column("parent_number", sa.Integer(), nullable=True, comment="null: the first"),
        sa.Column(
            "plan_sha256", storage.db.types.Digest(length=32), nullable=False, comment="of the canonical plan"
        ),
        sa.Column("plan", storage.db.types.Json(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("note", sa.Text(), nullable=True, comment="why; null: made by the pipeline"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "reveals",
            sa.Boolean(),
            nullable=False,
            comment="true: shows something the version in force hid; served only when approved",
        ),
        sa.Column(
            "approved_at", storage.db.types.Instant(), nullable=True, comment="null: nobody approved it"
        ),
        sa.Column("approved_by", sa.Text(), nullable=True, comment="actor label; null: nobody"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_redaction_plan_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_redaction_plan_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redaction_plan")),
        sa.UniqueConstraint(
            "agency_id", "item_id", "number", name=op.f("uq_redaction_plan_agency_id_item_id_number")
        ),
    )
    op.create_table(
        "av_number",
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("class_code", sa.Text(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Text(), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("case_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("drawn_at", storage.db.types.Instant(), nullable=False),
        sa.Column("voided_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.Column("void_reason", sa.Text(), nullable=True, comment="null: in force"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_av_number_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_av_number_case_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_av_number_item_id")),
        sa.PrimaryKeyConstraint("agency_id", "class_code", "year", "seq", name=op.f("pk_av_number")),
        sa.UniqueConstraint("agency_id", "number", name=op.f("uq_av_number_agency_id_number")),
    )
    op.create_table(
        "case_binding",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("case_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="bound or suggested"),
        sa.Column("span_from_us", sa.BigInteger(), nullable=True, comment="media time; null: the whole item"),
        sa.Column("span_to_us", sa.BigInteger(), nullable=True, comment="media time; null: the whole item"),
        sa.Column("score_percent", sa.Integer(), nullable=False, comment="how sure the author was, 0 to 100"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False),
        sa.Column("ended_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.Column("ended_by", sa.Text(), nullable=True, comment="actor label; null: in force"),
        sa.Column("ended_reason", sa.Text(), nullable=True, comment="null: in force"),
        sa.CheckConstraint(
            "span_from_us IS NULL OR span_to_us > span_from_us", name=op.f("ck_case_binding_span_forward")
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_case_binding_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_case_binding_case_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_case_binding_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_binding")),
    )
    op.create_index(
        op.f("ix_case_binding_agency_id_case_id_item_id"),
        "case_binding",
        ["agency_id", "case_id", "item_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_case_binding_agency_id_item_id"), "case_binding", ["agency_id", "item_id"], unique=False
    )
    _clips()
    _view_grants()
    _refuse_changes()


def _clips() -> None:
    op.create_table(
        "clip_set",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("account_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("case_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "form",
            sa.Text(),
            nullable=False,
            comment="zip, or a composite: side_by_side, picture_in_picture",
        ),
        sa.Column("window_from", storage.db.types.Instant(), nullable=False, comment="wall time, corrected"),
        sa.Column(
            "window_to",
            storage.db.types.Instant(),
            nullable=False,
            comment="wall time, corrected; not included",
        ),
        sa.Column(
            "layout",
            storage.db.types.Json(),
            nullable=False,
            comment="where its clips lay in wall time when asked for, the gaps, what was left out or not cut",
        ),
        sa.Column("requested_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "derivative_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="the set in one file; null until it is made",
        ),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_clip_set_account_id")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_clip_set_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_clip_set_case_id")),
        sa.ForeignKeyConstraint(["derivative_id"], ["derivative.id"], name=op.f("fk_clip_set_derivative_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clip_set")),
    )
    op.create_index(op.f("ix_clip_set_agency_id_case_id"), "clip_set", ["agency_id", "case_id"], unique=False)
    op.create_table(
        "clip",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("account_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("case_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "form",
            sa.Text(),
            nullable=False,
            comment="file; picture: the one that begins in the span; part: of a composite",
        ),
        sa.Column(
            "marked", sa.Boolean(), nullable=False, comment="false: no mark was drawn into the pictures"
        ),
        sa.Column("variant", sa.Text(), nullable=False, comment="redacted or original"),
        sa.Column("span_from_us", sa.BigInteger(), nullable=False, comment="media time"),
        sa.Column("span_to_us", sa.BigInteger(), nullable=False, comment="media time, not included"),
        sa.Column("purpose", sa.Text(), nullable=False, comment="RetrievalPurpose"),
        sa.Column("reason", sa.Text(), nullable=True, comment="asked for originals; null otherwise"),
        sa.Column("requested_at", storage.db.types.Instant(), nullable=False),
        sa.Column(
            "derivative_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="null until it is cut; of a part the composite",
        ),
        sa.Column(
            "set_id", storage.db.types.Id(length=16), nullable=True, comment="null: asked for by itself"
        ),
        sa.Column("place", sa.Integer(), nullable=True, comment="number in the set, from 1; null: no set"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_clip_account_id")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_clip_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_clip_case_id")),
        sa.ForeignKeyConstraint(["derivative_id"], ["derivative.id"], name=op.f("fk_clip_derivative_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_clip_item_id")),
        sa.ForeignKeyConstraint(["set_id"], ["clip_set.id"], name=op.f("fk_clip_set_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clip")),
    )
    op.create_index(op.f("ix_clip_agency_id_case_id"), "clip", ["agency_id", "case_id"], unique=False)
    op.create_index(op.f("ix_clip_agency_id_item_id"), "clip", ["agency_id", "item_id"], unique=False)
    op.create_index(op.f("ix_clip_agency_id_set_id"), "clip", ["agency_id", "set_id"], unique=False)


def _view_grants() -> None:
    op.create_table(
        "view_grant_set",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("account_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "kind", sa.Text(), nullable=False, comment="recording, or aligned: sources of a case side by side"
        ),
        sa.Column("variant", sa.Text(), nullable=False, comment="of each grant in it"),
        sa.Column(
            "window_from",
            storage.db.types.Instant(),
            nullable=True,
            comment="wall time, corrected; null: a recording",
        ),
        sa.Column(
            "window_to",
            storage.db.types.Instant(),
            nullable=True,
            comment="wall time, corrected; null: a recording",
        ),
        sa.Column(
            "left_out",
            storage.db.types.Json(),
            nullable=False,
            comment="[{item_id, lane, why}]: asked for and not granted",
        ),
        sa.Column("issued_at", storage.db.types.Instant(), nullable=False),
        sa.Column("expires_at", storage.db.types.Instant(), nullable=False),
        sa.Column("revoked_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_view_grant_set_account_id")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_view_grant_set_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_view_grant_set")),
    )
    op.create_table(
        "view_grant",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("account_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("case_id", storage.db.types.Id(length=16), nullable=True, comment="null: by item"),
        sa.Column("variant", sa.Text(), nullable=False, comment="redacted or original"),
        sa.Column("span_from_us", sa.BigInteger(), nullable=True, comment="media time; null: the whole item"),
        sa.Column("span_to_us", sa.BigInteger(), nullable=True, comment="media time; null: the whole item"),
        sa.Column("purpose", sa.Text(), nullable=False, comment="RetrievalPurpose"),
        sa.Column("reason", sa.Text(), nullable=True, comment="asked for originals; null otherwise"),
        sa.Column("issued_at", storage.db.types.Instant(), nullable=False),
        sa.Column("expires_at", storage.db.types.Instant(), nullable=False),
        sa.Column("revoked_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.Column(
            "set_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="null: asked for by itself",
        ),
        sa.Column("lane", sa.Integer(), nullable=True, comment="which playlist of the set; null: no set"),
        sa.Column("place", sa.Integer(), nullable=True, comment="order in the lane; null: no set"),
        sa.Column(
            "noted",
            storage.db.types.Json(),
            nullable=True,
            comment="custody actions that left their one leaf; null: nothing fetched yet",
        ),
        sa.Column(
            "told",
            storage.db.types.Json(),
            nullable=True,
            comment="how lists of what still grew were begun, to be gone on with; null: none was",
        ),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_view_grant_account_id")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_view_grant_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_view_grant_case_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_view_grant_item_id")),
        sa.ForeignKeyConstraint(["set_id"], ["view_grant_set.id"], name=op.f("fk_view_grant_set_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_view_grant")),
    )
    op.create_index(
        op.f("ix_view_grant_agency_id_item_id"), "view_grant", ["agency_id", "item_id"], unique=False
    )
    op.create_index(
        op.f("ix_view_grant_agency_id_set_id"), "view_grant", ["agency_id", "set_id"], unique=False
    )


def _refuse_changes() -> None:
    """Append-only tables: the database itself refuses UPDATE and DELETE (invariant 6)."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
        )
        for table in APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
        return
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def downgrade() -> None:
    """There is nothing before the first release, and evidence is not dropped."""
    raise RuntimeError("migrations: the first release cannot be taken back; restore a backup instead")
