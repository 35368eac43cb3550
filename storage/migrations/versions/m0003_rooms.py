"""The tables of interview rooms: sessions, plans of them, their files, what people noted, and what may call

Revision: 0003, after: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import storage.db.types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APPEND_ONLY = ("live_mask", "session_note", "session_part", "trigger_call")
# What is added to a row later; every other column is written with the row, and no row goes.
ADDED_LATER = {
    "room_session": (
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
    ),
    "planned_session": (
        "withdrawn_at",
        "withdrawn_by",
        "session_id",
        "begun_at",
        "missed_at",
        "end_told_at",
        "over_at",
    ),
    "trigger_key": ("revoked_at",),
    "second_copy": ("state", "store", "sha256", "settled_at", "leaf_id"),
    "session_mask": ("to_at", "ended_by"),
}


def upgrade() -> None:
    op.create_table(
        "room_session",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("room_no", sa.Text(), nullable=False, comment="number of the room in the settings"),
        sa.Column("room_name", sa.Text(), nullable=False, comment="as the settings had it at the start"),
        sa.Column("device_no", sa.Text(), nullable=False, comment="device the room's files are from"),
        sa.Column(
            "streams",
            storage.db.types.Json(),
            nullable=False,
            comment="names of the streams that were to be recorded",
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="evidence.session.State"),
        sa.Column(
            "case_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="null: no number stated, or none of the register",
        ),
        sa.Column(
            "facts", storage.db.types.Json(), nullable=False, comment="evidence.session.Facts as stated last"
        ),
        sa.Column(
            "requested_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock, when somebody started it",
        ),
        sa.Column(
            "started_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="when it began; before requested_at where it was claimed from what is kept beforehand",
        ),
        sa.Column(
            "paused_since",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock; null: not paused",
        ),
        sa.Column(
            "ended_at", storage.db.types.Instant(), nullable=True, comment="server clock; null: it lasts"
        ),
        sa.Column("started_by", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("ended_by", sa.Text(), nullable=True, comment="actor label; null: it lasts"),
        sa.Column(
            "leaf_id", storage.db.types.Id(length=16), nullable=False, comment="custody leaf of the start"
        ),
        sa.Column("sealed_at", storage.db.types.Instant(), nullable=True, comment="null: not sealed"),
        sa.Column("sealed_by", sa.Text(), nullable=True, comment="actor label; null: not sealed"),
        sa.Column("manifest", sa.Text(), nullable=True, comment="signed list of its files; null: not sealed"),
        sa.Column(
            "held_by",
            storage.db.types.Json(),
            nullable=False,
            comment="recorders' folders that may still have files of it, by the name in each",
        ),
        sa.Column(
            "complete_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock, when the last of them had none any more; null: files may still come",
        ),
        sa.Column(
            "points",
            storage.db.types.Json(),
            nullable=False,
            comment="evidence.conduct.Point, what its checklist had at the start (R11)",
        ),
        sa.Column(
            "planned_until",
            storage.db.types.Instant(),
            nullable=True,
            comment="when its plan says that it ends; null: of no plan",
        ),
        sa.CheckConstraint("ended_at >= started_at", name=op.f("ck_room_session_forward")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_room_session_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_room_session_case_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_room_session")),
    )
    op.create_index(
        op.f("ix_room_session_agency_id_room_no_started_at"),
        "room_session",
        ["agency_id", "room_no", "started_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_room_session_agency_id_started_at"),
        "room_session",
        ["agency_id", "started_at"],
        unique=False,
    )
    op.create_index(
        "ix_room_session_one_open",
        "room_session",
        ["agency_id", "room_no"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_room_session_incomplete",
        "room_session",
        ["agency_id", "room_no"],
        unique=False,
        sqlite_where=sa.text("complete_at IS NULL"),
        postgresql_where=sa.text("complete_at IS NULL"),
    )
    op.create_table(
        "session_note",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("session_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="evidence.session.NoteKind"),
        sa.Column("at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column("by", sa.Text(), nullable=False, comment="actor label"),
        sa.Column(
            "text", sa.Text(), nullable=False, comment="in words, one line; empty where nothing was said"
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="GapReason; null: of no pause and no break"),
        sa.Column("stream", sa.Text(), nullable=True, comment="whose break is explained; null: none is"),
        sa.Column(
            "from_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="of that break; null: none is explained",
        ),
        sa.Column(
            "to_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="of that break; null: none is explained",
        ),
        sa.Column(
            "point",
            sa.Text(),
            nullable=True,
            comment="code of the point of its checklist that it is about; null: about none",
        ),
        sa.Column(
            "shown_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="when that point is to be seen or heard in the recording; null: it is not, or about none",
        ),
        sa.Column(
            "client_key",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="made by whoever asked, the same for the same note; null: none given",
        ),
        sa.Column(
            "leaf_id", storage.db.types.Id(length=16), nullable=False, comment="custody leaf of the note"
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_session_note_agency_id")),
        sa.ForeignKeyConstraint(["session_id"], ["room_session.id"], name=op.f("fk_session_note_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_note")),
        sa.UniqueConstraint(
            "agency_id",
            "session_id",
            "client_key",
            name=op.f("uq_session_note_agency_id_session_id_client_key"),
        ),
    )
    op.create_index(
        op.f("ix_session_note_agency_id_session_id_at"),
        "session_note",
        ["agency_id", "session_id", "at"],
        unique=False,
    )
    op.create_table(
        "session_mask",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("session_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("from_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column(
            "to_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock; null: until the session's end",
        ),
        sa.Column("hides", sa.Text(), nullable=False, comment="evidence.masks.Hides"),
        sa.Column("reason", sa.Text(), nullable=False, comment="evidence.masks.Reason"),
        sa.Column("text", sa.Text(), nullable=False, comment="in words, one line"),
        sa.Column("by", sa.Text(), nullable=False, comment="actor label"),
        sa.Column(
            "ended_by", sa.Text(), nullable=True, comment="actor label; null: it had an end, or has none"
        ),
        sa.Column("made_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column(
            "leaf_id", storage.db.types.Id(length=16), nullable=False, comment="custody leaf of the mask"
        ),
        sa.CheckConstraint("to_at > from_at", name=op.f("ck_session_mask_forward")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_session_mask_agency_id")),
        sa.ForeignKeyConstraint(["session_id"], ["room_session.id"], name=op.f("fk_session_mask_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_mask")),
    )
    op.create_index(
        op.f("ix_session_mask_agency_id_session_id"),
        "session_mask",
        ["agency_id", "session_id"],
        unique=False,
    )
    op.create_table(
        "live_mask",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("session_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1; the highest is in force"),
        sa.Column(
            "covers",
            storage.db.types.Json(),
            nullable=False,
            comment="by stream, evidence.live_masks.Cover; empty: what was before is lifted",
        ),
        sa.Column("text", sa.Text(), nullable=False, comment="why, in words, one line"),
        sa.Column("by", sa.Text(), nullable=False, comment="actor label"),
        sa.Column(
            "made_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock of the host that records; in force from then on",
        ),
        sa.Column(
            "leaf_id", storage.db.types.Id(length=16), nullable=False, comment="custody leaf that says so"
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_live_mask_agency_id")),
        sa.ForeignKeyConstraint(["session_id"], ["room_session.id"], name=op.f("fk_live_mask_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_live_mask")),
        sa.UniqueConstraint(
            "agency_id", "session_id", "number", name=op.f("uq_live_mask_agency_id_session_id_number")
        ),
    )
    op.create_table(
        "live_grant",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("session_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("account_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False, comment="RetrievalPurpose"),
        sa.Column("reason", sa.Text(), nullable=False, comment="in words, one line"),
        sa.Column("issued_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column("expires_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column("revoked_at", storage.db.types.Instant(), nullable=True, comment="null: in force"),
        sa.Column(
            "is_watched", sa.Boolean(), nullable=False, comment="bytes were fetched, and the leaf says so"
        ),
        sa.Column(
            "is_unmasked",
            sa.Boolean(),
            nullable=False,
            comment="masked stretches are shown, as was asked for",
        ),
        sa.Column(
            "is_masked",
            sa.Boolean(),
            nullable=False,
            comment="of the masked encode alone, never of what is recorded",
        ),
        sa.Column(
            "told",
            storage.db.types.Json(),
            nullable=False,
            comment="by stream, the files its list has: [run, number, wall time of its first picture in us]",
        ),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_live_grant_account_id")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_live_grant_agency_id")),
        sa.ForeignKeyConstraint(["session_id"], ["room_session.id"], name=op.f("fk_live_grant_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_live_grant")),
    )
    op.create_index(
        op.f("ix_live_grant_agency_id_session_id"), "live_grant", ["agency_id", "session_id"], unique=False
    )
    op.create_table(
        "session_part",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("session_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "reception_key",
            sa.Text(),
            nullable=False,
            comment="of the item's reception: the same file, the same key",
        ),
        sa.Column("stream", sa.Text(), nullable=False, comment="name of the stream in the settings"),
        sa.Column("run", sa.Text(), nullable=False, comment="which connection to the source it is of"),
        sa.Column("file_no", sa.Integer(), nullable=False, comment="place in that connection, from 0"),
        sa.Column(
            "sequence_no", sa.Integer(), nullable=False, comment="place in the session's stream, from 1"
        ),
        sa.Column(
            "from_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock, by the least delayed packets",
        ),
        sa.Column(
            "to_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="server clock, by the least delayed packets",
        ),
        sa.Column(
            "open_us",
            sa.BigInteger(),
            nullable=False,
            comment="by how much at most it ended later than is told",
        ),
        sa.Column(
            "media_us",
            sa.BigInteger(),
            nullable=False,
            comment="what of that time its source's clock ran",
        ),
        sa.Column(
            "turns", storage.db.types.Json(), nullable=False, comment="evidence.breaks.Happened, in wall time"
        ),
        sa.Column("why", sa.Text(), nullable=False, comment="why the file ended"),
        sa.Column(
            "leaf_id",
            storage.db.types.Id(length=16),
            nullable=False,
            comment="custody leaf that ties the file to the session",
        ),
        sa.Column("noted_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_session_part_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_session_part_item_id")),
        sa.ForeignKeyConstraint(["session_id"], ["room_session.id"], name=op.f("fk_session_part_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_part")),
        sa.UniqueConstraint(
            "agency_id",
            "session_id",
            "reception_key",
            name=op.f("uq_session_part_agency_id_session_id_reception_key"),
        ),
        sa.UniqueConstraint(
            "agency_id",
            "session_id",
            "stream",
            "sequence_no",
            name=op.f("uq_session_part_agency_id_session_id_stream_sequence_no"),
        ),
    )
    op.create_index(
        op.f("ix_session_part_agency_id_item_id"), "session_part", ["agency_id", "item_id"], unique=False
    )
    op.create_table(
        "second_copy",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("item_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("room_no", sa.Text(), nullable=False, comment="number of the room in the settings"),
        sa.Column(
            "reception_key",
            sa.Text(),
            nullable=False,
            comment="of the item's reception: the same file, the same key",
        ),
        sa.Column(
            "live_name",
            sa.Text(),
            nullable=False,
            comment="its name among what is nobody's yet in the second store",
        ),
        sa.Column(
            "path", sa.Text(), nullable=False, comment="its place in the room's folder there: date and name"
        ),
        sa.Column("wanted_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column("state", sa.Text(), nullable=False, comment="evidence.session.CopyState"),
        sa.Column(
            "store",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="which second store it was read from; null: none yet",
        ),
        sa.Column(
            "sha256",
            storage.db.types.Digest(length=32),
            nullable=True,
            comment="as read back there; null: not read yet",
        ),
        sa.Column(
            "settled_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock, of the reading; null: none yet",
        ),
        sa.Column(
            "leaf_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="custody leaf of the reading; null: none yet",
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_second_copy_agency_id")),
        sa.ForeignKeyConstraint(["item_id"], ["item.id"], name=op.f("fk_second_copy_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_second_copy")),
        sa.UniqueConstraint(
            "agency_id", "reception_key", name=op.f("uq_second_copy_agency_id_reception_key")
        ),
    )
    op.create_index(
        "ix_second_copy_uncopied",
        "second_copy",
        ["agency_id", "room_no"],
        unique=False,
        sqlite_where=sa.text("state <> 'copied'"),
        postgresql_where=sa.text("state <> 'copied'"),
    )
    op.create_table(
        "room_stream",
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("room_no", sa.Text(), nullable=False, comment="number of the room in the settings"),
        sa.Column("stream", sa.Text(), nullable=False, comment="name of the stream in the settings"),
        sa.Column("host", sa.Text(), nullable=False, comment="who records the room"),
        sa.Column("phase", sa.Text(), nullable=False, comment="ingest.recorder.stream.Phase"),
        sa.Column(
            "since", storage.db.types.Instant(), nullable=False, comment="server clock, when it came to that"
        ),
        sa.Column("why", sa.Text(), nullable=True, comment="why the last connection ended; null: none has"),
        sa.Column(
            "silent_ms", sa.BigInteger(), nullable=True, comment="since the last packet; null: not connected"
        ),
        sa.Column("bytes_s", sa.BigInteger(), nullable=False, comment="bytes a second"),
        sa.Column("pictures_s", sa.Float(), nullable=False, comment="pictures a second"),
        sa.Column("waiting_bytes", sa.BigInteger(), nullable=False, comment="received and not written yet"),
        sa.Column(
            "restarts",
            sa.BigInteger(),
            nullable=False,
            comment="connections that were lost since the host began to watch",
        ),
        sa.Column(
            "free_bytes", sa.BigInteger(), nullable=False, comment="room on the host's disk above the floor"
        ),
        sa.Column(
            "tracks",
            storage.db.types.Json(),
            nullable=False,
            comment="what the source sends: kind, codec, size or rate",
        ),
        sa.Column(
            "copy_lag_bytes",
            sa.BigInteger(),
            nullable=True,
            comment="written and not in the second store yet; null: none is wanted",
        ),
        sa.Column(
            "copy_why",
            sa.Text(),
            nullable=True,
            comment="why nothing is copied now; null: it is, or is not wanted",
        ),
        sa.Column("told_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_room_stream_agency_id")),
        sa.PrimaryKeyConstraint("agency_id", "room_no", "stream", name=op.f("pk_room_stream")),
    )
    _plans_and_triggers()
    _refuse_changes()


def _plans_and_triggers() -> None:
    op.create_table(
        "planned_session",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("room_no", sa.Text(), nullable=False, comment="number of the room in the settings"),
        sa.Column(
            "starts_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="when it is to begin, by the server's clock",
        ),
        sa.Column(
            "ends_at",
            storage.db.types.Instant(),
            nullable=False,
            comment="when it is to end, by the server's clock",
        ),
        sa.Column("time_zone", sa.Text(), nullable=False, comment="IANA zone it was planned in"),
        sa.Column(
            "ends_itself",
            sa.Boolean(),
            nullable=False,
            comment="ended then; else people are told, and it goes on",
        ),
        sa.Column(
            "case_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="null: no number stated, or none of the register then",
        ),
        sa.Column(
            "facts",
            storage.db.types.Json(),
            nullable=False,
            comment="evidence.session.Facts known beforehand",
        ),
        sa.Column("planned_by", sa.Text(), nullable=False, comment="actor label"),
        sa.Column("planned_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column(
            "leaf_id", storage.db.types.Id(length=16), nullable=False, comment="custody leaf of the plan"
        ),
        sa.Column(
            "withdrawn_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock; null: not withdrawn",
        ),
        sa.Column("withdrawn_by", sa.Text(), nullable=True, comment="actor label; null: not withdrawn"),
        sa.Column(
            "session_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="the session it became; null: none yet",
        ),
        sa.Column(
            "begun_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock, when it became that session; null: not yet",
        ),
        sa.Column(
            "missed_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock, when its end had passed and nothing had begun; null: it has not been",
        ),
        sa.Column(
            "end_told_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock, when people were told that its end had passed; null: not told",
        ),
        sa.Column(
            "over_at",
            storage.db.types.Instant(),
            nullable=True,
            comment="server clock, when its session was found ended; null: it is to be kept",
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_planned_session_forward")),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_planned_session_agency_id")),
        sa.ForeignKeyConstraint(["case_id"], ["case_file.id"], name=op.f("fk_planned_session_case_id")),
        sa.ForeignKeyConstraint(
            ["session_id"], ["room_session.id"], name=op.f("fk_planned_session_session_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_planned_session")),
    )
    op.create_index(
        op.f("ix_planned_session_agency_id_room_no_starts_at"),
        "planned_session",
        ["agency_id", "room_no", "starts_at"],
        unique=False,
    )
    op.create_index(
        "ix_planned_session_to_keep",
        "planned_session",
        ["agency_id", "room_no"],
        unique=False,
        sqlite_where=sa.text("over_at IS NULL AND withdrawn_at IS NULL"),
        postgresql_where=sa.text("over_at IS NULL AND withdrawn_at IS NULL"),
    )
    op.create_table(
        "trigger_key",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("room_no", sa.Text(), nullable=False, comment="number of the room in the settings"),
        sa.Column("name", sa.Text(), nullable=False, comment="what people call the recorder"),
        sa.Column(
            "key_digest",
            storage.db.types.Digest(length=32),
            nullable=False,
            comment="SHA-256 of the key",
        ),
        sa.Column("created_at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.Column(
            "revoked_at", storage.db.types.Instant(), nullable=True, comment="server clock; null: in force"
        ),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_trigger_key_agency_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger_key")),
        sa.UniqueConstraint("key_digest", name=op.f("uq_trigger_key_key_digest")),
    )
    op.create_table(
        "trigger_call",
        sa.Column("id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("agency_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column("trigger_id", storage.db.types.Id(length=16), nullable=False),
        sa.Column(
            "call_key",
            sa.Text(),
            nullable=False,
            comment="made by the recorder, the same for the same call",
        ),
        sa.Column("action", sa.Text(), nullable=False, comment="evidence.session.TriggerAction"),
        sa.Column(
            "session_id",
            storage.db.types.Id(length=16),
            nullable=True,
            comment="session it was about; null: none was open",
        ),
        sa.Column("changed", sa.Boolean(), nullable=False, comment="something was changed by it"),
        sa.Column("at", storage.db.types.Instant(), nullable=False, comment="server clock"),
        sa.ForeignKeyConstraint(["agency_id"], ["agency.id"], name=op.f("fk_trigger_call_agency_id")),
        sa.ForeignKeyConstraint(["session_id"], ["room_session.id"], name=op.f("fk_trigger_call_session_id")),
        sa.ForeignKeyConstraint(["trigger_id"], ["trigger_key.id"], name=op.f("fk_trigger_call_trigger_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger_call")),
        sa.UniqueConstraint(
            "agency_id",
            "trigger_id",
            "call_key",
            name=op.f("uq_trigger_call_agency_id_trigger_id_call_key"),
        ),
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
    _refuse_another_end(is_postgresql)


def _refuse_another_end(is_postgresql: bool) -> None:
    """A mask that has its end keeps it: another would show what was hidden."""
    event = "CREATE TRIGGER session_mask_ended BEFORE UPDATE OF to_at, ended_by ON session_mask FOR EACH ROW"
    if is_postgresql:
        op.execute(f"{event} WHEN (OLD.to_at IS NOT NULL) EXECUTE FUNCTION refuse_change()")
        return
    op.execute(
        f"{event} WHEN OLD.to_at IS NOT NULL "
        "BEGIN SELECT RAISE(ABORT, 'session_mask is append-only once it has its end'); END"
    )


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
    raise RuntimeError("migrations: sessions of rooms cannot be taken back; restore a backup instead")
