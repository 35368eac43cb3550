"""The tables of interview rooms: sessions, plans of them, their files, what people noted, and what may call.

They follow the rules of `storage.db.tables`: every row belongs to an agency, every column says unit,
clock and when it is null. All but the state of streams, which is overwritten at will, are witnessed. Rooms
themselves are settings of a host.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Float, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from evidence.ids import new_id
from storage.db.tables import Base
from storage.db.types import Digest

ONE_OPEN = "ix_room_session_one_open"
INCOMPLETE = "ix_room_session_incomplete"
TO_KEEP = "ix_planned_session_to_keep"
UNCOPIED = "ix_second_copy_uncopied"


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, default=new_id)


def _agency() -> Mapped[UUID]:
    return mapped_column(ForeignKey("agency.id"))


class RoomSession(Base):
    """What is recorded in a room from one start to one end (R9, L17)."""

    __tablename__ = "room_session"
    __table_args__ = (
        Index(None, "agency_id", "room_no", "started_at"),
        Index(None, "agency_id", "started_at"),
        # Two who start the same room at once: the second is told of the first.
        Index(
            ONE_OPEN,
            "agency_id",
            "room_no",
            unique=True,
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        # Asked every second by whoever records.
        Index(
            INCOMPLETE,
            "agency_id",
            "room_no",
            sqlite_where=text("complete_at IS NULL"),
            postgresql_where=text("complete_at IS NULL"),
        ),
        CheckConstraint("ended_at >= started_at", name="forward"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    room_no: Mapped[str] = mapped_column(comment="number of the room in the settings")
    room_name: Mapped[str] = mapped_column(comment="as the settings had it at the start")
    device_no: Mapped[str] = mapped_column(comment="device the room's files are from")
    streams: Mapped[list[Any]] = mapped_column(comment="names of the streams that were to be recorded")
    state: Mapped[str] = mapped_column(comment="evidence.session.State")
    case_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("case_file.id"), comment="null: no number stated, or none of the register"
    )
    facts: Mapped[dict[str, Any]] = mapped_column(comment="evidence.session.Facts as stated last")
    requested_at: Mapped[datetime] = mapped_column(comment="server clock, when somebody started it")
    started_at: Mapped[datetime] = mapped_column(
        comment="when it began; before requested_at where it was claimed from what is kept beforehand"
    )
    paused_since: Mapped[datetime | None] = mapped_column(comment="server clock; null: not paused")
    ended_at: Mapped[datetime | None] = mapped_column(comment="server clock; null: it lasts")
    started_by: Mapped[str] = mapped_column(comment="actor label")
    ended_by: Mapped[str | None] = mapped_column(comment="actor label; null: it lasts")
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf of the start")
    sealed_at: Mapped[datetime | None] = mapped_column(comment="null: not sealed")
    sealed_by: Mapped[str | None] = mapped_column(comment="actor label; null: not sealed")
    manifest: Mapped[str | None] = mapped_column(comment="signed list of its files; null: not sealed")
    held_by: Mapped[list[Any]] = mapped_column(
        default=list, comment="recorders' folders that may still have files of it, by the name in each"
    )
    complete_at: Mapped[datetime | None] = mapped_column(
        comment="server clock, when the last of them had none any more; null: files may still come"
    )
    points: Mapped[list[Any]] = mapped_column(
        default=list, comment="evidence.conduct.Point, what its checklist had at the start (R11)"
    )
    planned_until: Mapped[datetime | None] = mapped_column(
        comment="when its plan says that it ends; null: of no plan"
    )


class SessionPart(Base):
    """A file of a session's stream. Append-only."""

    __tablename__ = "session_part"
    __table_args__ = (
        UniqueConstraint("agency_id", "session_id", "reception_key"),
        UniqueConstraint("agency_id", "session_id", "stream", "sequence_no"),
        Index(None, "agency_id", "item_id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    session_id: Mapped[UUID] = mapped_column(ForeignKey("room_session.id"))
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    reception_key: Mapped[str] = mapped_column(comment="of the item's reception: the same file, the same key")
    stream: Mapped[str] = mapped_column(comment="name of the stream in the settings")
    run: Mapped[str] = mapped_column(comment="which connection to the source it is of")
    file_no: Mapped[int] = mapped_column(Integer, comment="place in that connection, from 0")
    sequence_no: Mapped[int] = mapped_column(Integer, comment="place in the session's stream, from 1")
    from_at: Mapped[datetime] = mapped_column(comment="server clock, by the least delayed packets")
    to_at: Mapped[datetime] = mapped_column(comment="server clock, by the least delayed packets")
    open_us: Mapped[int] = mapped_column(comment="by how much at most it ended later than is told")
    media_us: Mapped[int] = mapped_column(comment="what of that time its source's clock ran")
    turns: Mapped[list[Any]] = mapped_column(comment="evidence.breaks.Happened, in wall time")
    why: Mapped[str] = mapped_column(comment="why the file ended")
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf that ties the file to the session")
    noted_at: Mapped[datetime] = mapped_column(comment="server clock")


class SecondCopy(Base):
    """The copy of a room's file in a second store (D14): wanted since the file is in custody."""

    __tablename__ = "second_copy"
    __table_args__ = (
        UniqueConstraint("agency_id", "reception_key"),
        # Asked every second by whoever copies.
        Index(
            UNCOPIED,
            "agency_id",
            "room_no",
            sqlite_where=text("state <> 'copied'"),
            postgresql_where=text("state <> 'copied'"),
        ),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    room_no: Mapped[str] = mapped_column(comment="number of the room in the settings")
    reception_key: Mapped[str] = mapped_column(comment="of the item's reception: the same file, the same key")
    live_name: Mapped[str] = mapped_column(comment="its name among what is nobody's yet in the second store")
    path: Mapped[str] = mapped_column(comment="its place in the room's folder there: date and name")
    wanted_at: Mapped[datetime] = mapped_column(comment="server clock")
    state: Mapped[str] = mapped_column(comment="evidence.session.CopyState")
    store: Mapped[UUID | None] = mapped_column(comment="which second store it was read from; null: none yet")
    sha256: Mapped[bytes | None] = mapped_column(Digest, comment="as read back there; null: not read yet")
    settled_at: Mapped[datetime | None] = mapped_column(
        comment="server clock, of the reading; null: none yet"
    )
    leaf_id: Mapped[UUID | None] = mapped_column(comment="custody leaf of the reading; null: none yet")


class LiveGrant(Base):
    """A time-boxed right to watch a session while it is recorded."""

    __tablename__ = "live_grant"
    __table_args__ = (Index(None, "agency_id", "session_id"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    session_id: Mapped[UUID] = mapped_column(ForeignKey("room_session.id"))
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    purpose: Mapped[str] = mapped_column(comment="RetrievalPurpose")
    reason: Mapped[str] = mapped_column(comment="in words, one line")
    issued_at: Mapped[datetime] = mapped_column(comment="server clock")
    expires_at: Mapped[datetime] = mapped_column(comment="server clock")
    revoked_at: Mapped[datetime | None] = mapped_column(comment="null: in force")
    is_watched: Mapped[bool] = mapped_column(comment="bytes were fetched, and the leaf says so")
    is_unmasked: Mapped[bool] = mapped_column(comment="masked stretches are shown, as was asked for")
    is_masked: Mapped[bool] = mapped_column(comment="of the masked encode alone, never of what is recorded")
    told: Mapped[dict[str, Any]] = mapped_column(
        comment="by stream, the files its list has: [run, number, wall time of its first picture in us]"
    )


class SessionMask(Base):
    """A stretch of a session that is hidden in whatever is made of it; only its end is added later, once."""

    __tablename__ = "session_mask"
    __table_args__ = (
        Index(None, "agency_id", "session_id"),
        CheckConstraint("to_at > from_at", name="forward"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    session_id: Mapped[UUID] = mapped_column(ForeignKey("room_session.id"))
    from_at: Mapped[datetime] = mapped_column(comment="server clock")
    to_at: Mapped[datetime | None] = mapped_column(comment="server clock; null: until the session's end")
    hides: Mapped[str] = mapped_column(comment="evidence.masks.Hides")
    reason: Mapped[str] = mapped_column(comment="evidence.masks.Reason")
    text: Mapped[str] = mapped_column(comment="in words, one line")
    by: Mapped[str] = mapped_column(comment="actor label")
    ended_by: Mapped[str | None] = mapped_column(comment="actor label; null: it had an end, or has none")
    made_at: Mapped[datetime] = mapped_column(comment="server clock")
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf of the mask")


class LiveMaskRow(Base):
    """What of a session is shown live to people without the right to originals. Append-only."""

    __tablename__ = "live_mask"
    __table_args__ = (UniqueConstraint("agency_id", "session_id", "number"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    session_id: Mapped[UUID] = mapped_column(ForeignKey("room_session.id"))
    number: Mapped[int] = mapped_column(Integer, comment="from 1; the highest is in force")
    covers: Mapped[dict[str, Any]] = mapped_column(
        comment="by stream, evidence.live_masks.Cover; empty: what was before is lifted"
    )
    text: Mapped[str] = mapped_column(comment="why, in words, one line")
    by: Mapped[str] = mapped_column(comment="actor label")
    made_at: Mapped[datetime] = mapped_column(
        comment="server clock of the host that records; in force from then on"
    )
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf that says so")


class SessionNote(Base):
    """What somebody noted of a session. Append-only."""

    __tablename__ = "session_note"
    __table_args__ = (
        Index(None, "agency_id", "session_id", "at"),
        UniqueConstraint("agency_id", "session_id", "client_key"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    session_id: Mapped[UUID] = mapped_column(ForeignKey("room_session.id"))
    kind: Mapped[str] = mapped_column(comment="evidence.session.NoteKind")
    at: Mapped[datetime] = mapped_column(comment="server clock")
    by: Mapped[str] = mapped_column(comment="actor label")
    text: Mapped[str] = mapped_column(comment="in words, one line; empty where nothing was said")
    reason: Mapped[str | None] = mapped_column(comment="GapReason; null: of no pause and no break")
    stream: Mapped[str | None] = mapped_column(comment="whose break is explained; null: none is")
    from_at: Mapped[datetime | None] = mapped_column(comment="of that break; null: none is explained")
    to_at: Mapped[datetime | None] = mapped_column(comment="of that break; null: none is explained")
    point: Mapped[str | None] = mapped_column(
        comment="code of the point of its checklist that it is about; null: about none"
    )
    shown_at: Mapped[datetime | None] = mapped_column(
        comment="when that point is to be seen or heard in the recording; null: it is not, or about none"
    )
    client_key: Mapped[UUID | None] = mapped_column(
        comment="made by whoever asked, the same for the same note; null: none given"
    )
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf of the note")


class PlannedSession(Base):
    """A session that is to begin by itself (R9)."""

    __tablename__ = "planned_session"
    __table_args__ = (
        Index(None, "agency_id", "room_no", "starts_at"),
        # Asked every second by whoever records.
        Index(
            TO_KEEP,
            "agency_id",
            "room_no",
            sqlite_where=text("over_at IS NULL AND withdrawn_at IS NULL"),
            postgresql_where=text("over_at IS NULL AND withdrawn_at IS NULL"),
        ),
        CheckConstraint("ends_at > starts_at", name="forward"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    room_no: Mapped[str] = mapped_column(comment="number of the room in the settings")
    starts_at: Mapped[datetime] = mapped_column(comment="when it is to begin, by the server's clock")
    ends_at: Mapped[datetime] = mapped_column(comment="when it is to end, by the server's clock")
    time_zone: Mapped[str] = mapped_column(comment="IANA zone it was planned in")
    ends_itself: Mapped[bool] = mapped_column(comment="ended then; else people are told, and it goes on")
    case_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("case_file.id"), comment="null: no number stated, or none of the register then"
    )
    facts: Mapped[dict[str, Any]] = mapped_column(comment="evidence.session.Facts known beforehand")
    planned_by: Mapped[str] = mapped_column(comment="actor label")
    planned_at: Mapped[datetime] = mapped_column(comment="server clock")
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf of the plan")
    withdrawn_at: Mapped[datetime | None] = mapped_column(comment="server clock; null: not withdrawn")
    withdrawn_by: Mapped[str | None] = mapped_column(comment="actor label; null: not withdrawn")
    session_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("room_session.id"), comment="the session it became; null: none yet"
    )
    begun_at: Mapped[datetime | None] = mapped_column(
        comment="server clock, when it became that session; null: not yet"
    )
    missed_at: Mapped[datetime | None] = mapped_column(
        comment="server clock, when its end had passed and nothing had begun; null: it has not been"
    )
    end_told_at: Mapped[datetime | None] = mapped_column(
        comment="server clock, when people were told that its end had passed; null: not told"
    )
    over_at: Mapped[datetime | None] = mapped_column(
        comment="server clock, when its session was found ended; null: it is to be kept"
    )

    @property
    def started_by(self) -> str:
        """Whose session it becomes: who planned it."""
        return self.planned_by


class TriggerKey(Base):
    """What a room's recorder proves itself with when it calls: by a button, a contact, its own menu."""

    __tablename__ = "trigger_key"
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    room_no: Mapped[str] = mapped_column(comment="number of the room in the settings")
    name: Mapped[str] = mapped_column(comment="what people call the recorder")
    key_digest: Mapped[bytes] = mapped_column(Digest, unique=True, comment="SHA-256 of the key")
    created_at: Mapped[datetime] = mapped_column(comment="server clock")
    revoked_at: Mapped[datetime | None] = mapped_column(comment="server clock; null: in force")


class TriggerCall(Base):
    """What a recorder asked with a key of its own for the call. Append-only."""

    __tablename__ = "trigger_call"
    __table_args__ = (UniqueConstraint("agency_id", "trigger_id", "call_key"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    trigger_id: Mapped[UUID] = mapped_column(ForeignKey("trigger_key.id"))
    call_key: Mapped[str] = mapped_column(comment="made by the recorder, the same for the same call")
    action: Mapped[str] = mapped_column(comment="evidence.session.TriggerAction")
    session_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("room_session.id"), comment="session it was about; null: none was open"
    )
    changed: Mapped[bool] = mapped_column(comment="something was changed by it")
    at: Mapped[datetime] = mapped_column(comment="server clock")


class RoomStream(Base):
    """What a stream of a room is doing, as the host that records it said last. Not custody: overwritten."""

    __tablename__ = "room_stream"
    agency_id: Mapped[UUID] = mapped_column(ForeignKey("agency.id"), primary_key=True)
    room_no: Mapped[str] = mapped_column(primary_key=True, comment="number of the room in the settings")
    stream: Mapped[str] = mapped_column(primary_key=True, comment="name of the stream in the settings")
    host: Mapped[str] = mapped_column(comment="who records the room")
    phase: Mapped[str] = mapped_column(comment="ingest.recorder.stream.Phase")
    since: Mapped[datetime] = mapped_column(comment="server clock, when it came to that")
    why: Mapped[str | None] = mapped_column(comment="why the last connection ended; null: none has")
    silent_ms: Mapped[int | None] = mapped_column(comment="since the last packet; null: not connected")
    bytes_s: Mapped[int] = mapped_column(comment="bytes a second")
    pictures_s: Mapped[float] = mapped_column(Float(), comment="pictures a second")
    waiting_bytes: Mapped[int] = mapped_column(comment="received and not written yet")
    restarts: Mapped[int] = mapped_column(comment="connections that were lost since the host began to watch")
    free_bytes: Mapped[int] = mapped_column(comment="room on the host's disk above the floor")
    tracks: Mapped[list[Any]] = mapped_column(comment="what the source sends: kind, codec, size or rate")
    copy_lag_bytes: Mapped[int | None] = mapped_column(
        comment="written and not in the second store yet; null: none is wanted"
    )
    copy_why: Mapped[str | None] = mapped_column(
        comment="why nothing is copied now; null: it is, or is not wanted"
    )
    told_at: Mapped[datetime] = mapped_column(comment="server clock")
