"""The tables. Every row belongs to an agency; every column says unit, clock and when it is null.

`agency_id` stands in every unique key and every query (a test holds the queries to it). Ids are
UUIDv7. Instants are UTC microseconds. Digests are 32 raw bytes. State words come from `evidence`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from evidence.ids import new_id
from storage.db.types import Digest, Id, Instant, Json

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        UUID: Id,
        datetime: Instant,
        dict[str, Any]: Json,
        list[Any]: Json,
        str: Text,
        bytes: LargeBinary,
        int: BigInteger,
    }


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, default=new_id)


def _agency() -> Mapped[UUID]:
    return mapped_column(ForeignKey("agency.id"))


class Agency(Base):
    """An enforcement agency: the owner of everything."""

    __tablename__ = "agency"
    id: Mapped[UUID] = _id()
    code: Mapped[str] = mapped_column(unique=True, comment="short name used in numbers and log origins")
    name: Mapped[str]
    time_zone: Mapped[str] = mapped_column(comment="IANA zone people see times in")
    case_no_pattern: Mapped[str] = mapped_column(comment="regular expression a case number matches")
    numbering_template: Mapped[str] = mapped_column(comment="form of AV record numbers (R5)")
    store_id: Mapped[str] = mapped_column(comment="identity of the object store these rows speak of")
    created_at: Mapped[datetime]


class Officer(Base):
    """An enforcement officer, who may or may not have an account."""

    __tablename__ = "officer"
    __table_args__ = (UniqueConstraint("agency_id", "officer_no"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    officer_no: Mapped[str]
    name: Mapped[str]
    certificate_no: Mapped[str | None] = mapped_column(comment="enforcement certificate; null when not told")
    created_at: Mapped[datetime]


class Account(Base):
    """Somebody who signs in."""

    __tablename__ = "account"
    __table_args__ = (UniqueConstraint("agency_id", "username"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    username: Mapped[str]
    display_name: Mapped[str]
    password_hash: Mapped[str] = mapped_column(comment="argon2id, PHC string")
    password_changed_at: Mapped[datetime | None] = mapped_column(
        comment="when its holder chose the password; null: somebody else knows it, change it first"
    )
    roles: Mapped[list[Any]] = mapped_column(comment="list of role words")
    officer_id: Mapped[UUID | None] = mapped_column(ForeignKey("officer.id"), comment="null: no officer")
    failed_logins: Mapped[int] = mapped_column(Integer, default=0)
    failed_at: Mapped[datetime | None] = mapped_column(comment="last wrong password, server clock")
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None] = mapped_column(comment="null: may sign in")


class LoginSession(Base):
    """A signed-in session; the token itself is never stored."""

    __tablename__ = "login_session"
    __table_args__ = (UniqueConstraint("agency_id", "token_digest"), Index(None, "token_digest"))
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    token_digest: Mapped[bytes] = mapped_column(Digest, comment="SHA-256 of the bearer token")
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(comment="null: in force")


class Device(Base):
    """A recorder: body camera, room recorder, phone."""

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("agency_id", "device_no"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    device_no: Mapped[str]
    kind: Mapped[str] = mapped_column(comment="SourceKind")
    state: Mapped[str] = mapped_column(comment="registered, or unknown until adopted (6.2)")
    maker: Mapped[str | None] = mapped_column(comment="null: not told")
    model: Mapped[str | None] = mapped_column(comment="null: not told")
    firmware: Mapped[str | None] = mapped_column(comment="as last read; null: never told")
    capacity_bytes: Mapped[int | None] = mapped_column(comment="as last read; null: never told")
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None] = mapped_column(comment="out of use since; null: in use")


class DeviceIssue(Base):
    """A device in an officer's hands, with dates (R13)."""

    __tablename__ = "device_issue"
    __table_args__ = (Index(None, "agency_id", "device_id", "issued_at"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id"))
    officer_id: Mapped[UUID] = mapped_column(ForeignKey("officer.id"))
    issued_at: Mapped[datetime]
    returned_at: Mapped[datetime | None] = mapped_column(comment="null: still in the officer's hands")


class UploadToken(Base):
    """A machine's right to upload: bound to a dock, and to one device when it names one."""

    __tablename__ = "upload_token"
    __table_args__ = (UniqueConstraint("agency_id", "token_digest"), Index(None, "token_digest"))
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    token_digest: Mapped[bytes] = mapped_column(Digest, comment="SHA-256 of the bearer token")
    dock_no: Mapped[str]
    device_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("device.id"), comment="null: any device of the dock"
    )
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(comment="null: until revoked")
    revoked_at: Mapped[datetime | None] = mapped_column(comment="null: in force")


class StoredObject(Base):
    """Bytes in the object store. Equal bytes of one agency share a row."""

    __tablename__ = "object"
    __table_args__ = (UniqueConstraint("agency_id", "sha256"), Index(None, "agency_id", "verified_at"))
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    sha256: Mapped[bytes] = mapped_column(Digest, comment="made while the bytes arrived")
    sm3: Mapped[bytes | None] = mapped_column(Digest, comment="made on the verifying re-read; null before")
    size_bytes: Mapped[int]
    store_key: Mapped[str] = mapped_column(comment="where the object store keeps them")
    stored_at: Mapped[datetime]
    verified_at: Mapped[datetime | None] = mapped_column(comment="last re-read that matched; null before")


class Item(Base):
    """What an officer or a room recorded: one original and what is known of it."""

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("agency_id", "identity_key"),
        UniqueConstraint("agency_id", "av_record_no"),
        Index(None, "agency_id", "captured_from", "id"),
        Index(None, "agency_id", "device_id", "captured_from", "received_at"),
        Index(None, "agency_id", "device_id", "received_at"),
        Index(None, "agency_id", "binding", "id"),
        Index(None, "agency_id", "object_id"),
        Index(None, "agency_id", "recording_key"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    object_id: Mapped[UUID] = mapped_column(ForeignKey("object.id"))
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("device.id"), comment="null: nobody said")
    identity_key: Mapped[str] = mapped_column(
        comment="digest and device; the item's own id for empty files, which are never merged"
    )
    source_kind: Mapped[str] = mapped_column(comment="SourceKind")
    media_kind: Mapped[str] = mapped_column(comment="MediaKind, by content; unknown until probed")
    original_name: Mapped[str] = mapped_column(comment="as received, made safe to show; never a path")
    custody: Mapped[str]
    media: Mapped[str]
    binding: Mapped[str]
    redaction: Mapped[str]
    held: Mapped[bool] = mapped_column(default=False, comment="a hold stops disposal")
    key_file: Mapped[bool] = mapped_column(default=False, comment="marked by the recorder's button (D3)")
    flags: Mapped[list[Any]] = mapped_column(comment="[{code, message}]: what is wrong or odd, one line each")
    captured_from: Mapped[datetime | None] = mapped_column(
        comment="fact, device clock corrected; null: unknown"
    )
    captured_to: Mapped[datetime | None] = mapped_column(comment="fact; null: unknown")
    captured_place: Mapped[str | None] = mapped_column(comment="fact; null: unknown")
    collector: Mapped[str | None] = mapped_column(comment="fact, officer number; null: unknown")
    object_of_proof: Mapped[str | None] = mapped_column(comment="fact; null: unknown")
    stage: Mapped[str | None] = mapped_column(comment="ProcessStage; null: unknown")
    duration_us: Mapped[int | None] = mapped_column(comment="by probe; null: not probed or no time in it")
    frame_count: Mapped[int | None] = mapped_column(comment="counted by probe; null: no video")
    recording_key: Mapped[str | None] = mapped_column(comment="items of one press of the button share it")
    sequence_no: Mapped[int | None] = mapped_column(Integer, comment="place in the recording; null: alone")
    av_record_no: Mapped[str | None] = mapped_column(comment="R5; null until filed into a case")
    probe: Mapped[dict[str, Any] | None] = mapped_column(comment="probe report; null before")
    received_at: Mapped[datetime] = mapped_column(comment="server clock")


class Reception(Base):
    """Each time an item's bytes arrived."""

    __tablename__ = "reception"
    __table_args__ = (
        UniqueConstraint("agency_id", "reception_key"),
        Index(None, "agency_id", "item_id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    reception_key: Mapped[str] = mapped_column(comment="upload id or source file identity; once only")
    source: Mapped[str] = mapped_column(
        comment="how it came: tus, put, draft, folder, take, sftp, ftp, ftps, http or pushed"
    )
    dock_no: Mapped[str | None] = mapped_column(comment="null: no dock")
    original_name: Mapped[str]
    original_name_raw: Mapped[bytes] = mapped_column(comment="the name's bytes as received")
    metadata_received: Mapped[dict[str, Any]] = mapped_column(comment="what the sender said, verbatim")
    leaf_id: Mapped[UUID] = mapped_column(comment="custody leaf of this reception")
    received_at: Mapped[datetime] = mapped_column(comment="server clock")
    receipt: Mapped[str | None] = mapped_column(comment="signed receipt; null until the re-read matched")


class Claim(Base):
    """One thing someone or something said about an item. Never edited, never merged."""

    __tablename__ = "claim"
    __table_args__ = (Index(None, "agency_id", "item_id"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    field: Mapped[str]
    value: Mapped[str]
    source: Mapped[str] = mapped_column(comment="ClaimSource")
    clock: Mapped[str | None] = mapped_column(comment="whose clock, for times; null otherwise")
    made_at: Mapped[datetime] = mapped_column(comment="server clock")


class Case(Base):
    """A case of the agency."""

    __tablename__ = "case_file"
    __table_args__ = (
        UniqueConstraint("agency_id", "case_no_key"),
        Index(None, "agency_id", "handler_id", "opened_at"),
        Index(None, "agency_id", "opened_at", "id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    case_no: Mapped[str] = mapped_column(comment="as the agency writes it")
    case_no_key: Mapped[str] = mapped_column(comment="normalised")
    kind: Mapped[str] = mapped_column(comment="EnforcementKind")
    cause: Mapped[str | None] = mapped_column(comment="cause of action; null: not told")
    party: Mapped[str | None] = mapped_column(comment="null: not told")
    handler_id: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"), comment="null: nobody yet")
    officer_no: Mapped[str | None] = mapped_column(comment="officer in charge, for suggestions; null: none")
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None] = mapped_column(comment="null: open")
    created_at: Mapped[datetime]


class CaseBinding(Base):
    """An item, or a span of it, tied to a case. Ended, never deleted."""

    __tablename__ = "case_binding"
    __table_args__ = (
        Index(None, "agency_id", "case_id", "item_id"),
        Index(None, "agency_id", "item_id"),
        CheckConstraint("span_from_us IS NULL OR span_to_us > span_from_us", name="span_forward"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    case_id: Mapped[UUID] = mapped_column(ForeignKey("case_file.id"))
    state: Mapped[str] = mapped_column(comment="bound or suggested")
    span_from_us: Mapped[int | None] = mapped_column(comment="media time; null: the whole item")
    span_to_us: Mapped[int | None] = mapped_column(comment="media time; null: the whole item")
    score_percent: Mapped[int] = mapped_column(Integer, comment="how sure the author was, 0 to 100")
    reason: Mapped[str]
    author: Mapped[str] = mapped_column(comment="actor label")
    made_at: Mapped[datetime]
    ended_at: Mapped[datetime | None] = mapped_column(comment="null: in force")
    ended_by: Mapped[str | None] = mapped_column(comment="actor label; null: in force")
    ended_reason: Mapped[str | None] = mapped_column(comment="null: in force")


class AvNumberSeries(Base):
    """The last number drawn of each sequence; its row lock makes the sequence gap-free."""

    __tablename__ = "av_number_series"
    agency_id: Mapped[UUID] = mapped_column(ForeignKey("agency.id"), primary_key=True)
    class_code: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int] = mapped_column(Integer, primary_key=True)
    last_seq: Mapped[int]


class AvNumber(Base):
    """The register of AV record numbers (R5)."""

    __tablename__ = "av_number"
    __table_args__ = (UniqueConstraint("agency_id", "number"),)
    agency_id: Mapped[UUID] = mapped_column(ForeignKey("agency.id"), primary_key=True)
    class_code: Mapped[str] = mapped_column(primary_key=True)
    year: Mapped[int] = mapped_column(Integer, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    case_id: Mapped[UUID] = mapped_column(ForeignKey("case_file.id"))
    drawn_at: Mapped[datetime]
    voided_at: Mapped[datetime | None] = mapped_column(comment="null: in force")
    void_reason: Mapped[str | None] = mapped_column(comment="null: in force")


class Derivative(Base):
    """Anything made from an original; can be made again."""

    __tablename__ = "derivative"
    __table_args__ = (
        UniqueConstraint("agency_id", "item_id", "kind", "params_digest"),
        Index(None, "agency_id", "sha256"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    kind: Mapped[str] = mapped_column(comment="rendition, redacted, poster, redacted_poster, clip")
    source_sha256: Mapped[bytes] = mapped_column(Digest, comment="what it was made from")
    params_digest: Mapped[bytes] = mapped_column(Digest, comment="of the canonical parameters")
    params: Mapped[dict[str, Any]] = mapped_column(comment="parameters, tools and model digests")
    sha256: Mapped[bytes] = mapped_column(Digest)
    size_bytes: Mapped[int]
    store_key: Mapped[str]
    content_type: Mapped[str]
    masked: Mapped[bool] = mapped_column(comment="true: safe without the right to the original")
    info: Mapped[dict[str, Any]] = mapped_column(comment="duration, frames, size, fragment index")
    made_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None] = mapped_column(
        comment="null: served; else its address is gone, or not open yet (info.awaits_approval)"
    )


class RedactionPlanRow(Base):
    """A version of what is hidden, by whom and why. Never edited in place."""

    __tablename__ = "redaction_plan"
    __table_args__ = (UniqueConstraint("agency_id", "item_id", "number"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    number: Mapped[int] = mapped_column(Integer, comment="1, 2, 3 … within the item")
    parent_number: Mapped[int | None] = mapped_column(Integer, comment="null: the first")
    plan_sha256: Mapped[bytes] = mapped_column(Digest, comment="of the canonical plan")
    plan: Mapped[dict[str, Any]]
    author: Mapped[str] = mapped_column(comment="actor label")
    note: Mapped[str | None] = mapped_column(comment="why; null: made by the pipeline")
    made_at: Mapped[datetime]
    reveals: Mapped[bool] = mapped_column(
        default=False, comment="true: shows something the version in force hid; served only when approved"
    )
    approved_at: Mapped[datetime | None] = mapped_column(comment="null: nobody approved it")
    approved_by: Mapped[str | None] = mapped_column(comment="actor label; null: nobody")

    @property
    def awaits_approval(self) -> bool:
        """Whether nothing made from it may be served yet."""
        return self.reveals and self.approved_at is None


class ContinuityReason(Base):
    """Why a recording was interrupted or shows nothing for a while, as somebody stated it. Append-only."""

    __tablename__ = "continuity_reason"
    __table_args__ = (Index(None, "agency_id", "item_id"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    report_sha256: Mapped[bytes] = mapped_column(Digest, comment="of the report that lists the span")
    fault: Mapped[str] = mapped_column(comment="Fault")
    from_us: Mapped[int] = mapped_column(comment="media time")
    to_us: Mapped[int] = mapped_column(comment="media time; not before from_us")
    reason: Mapped[str] = mapped_column(comment="GapReason")
    statement: Mapped[str] = mapped_column(comment="in words, one line")
    author: Mapped[str] = mapped_column(comment="actor label")
    made_at: Mapped[datetime] = mapped_column(comment="server clock")


class GrantSet(Base):
    """Grants that were asked for together and are opened by one address; each decides for itself."""

    __tablename__ = "view_grant_set"
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    kind: Mapped[str] = mapped_column(comment="recording, or aligned: sources of a case side by side")
    variant: Mapped[str] = mapped_column(comment="of each grant in it")
    window_from: Mapped[datetime | None] = mapped_column(comment="wall time, corrected; null: a recording")
    window_to: Mapped[datetime | None] = mapped_column(comment="wall time, corrected; null: a recording")
    left_out: Mapped[list[Any]] = mapped_column(comment="[{item_id, lane, why}]: asked for and not granted")
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(comment="null: in force")


class Grant(Base):
    """A time-boxed right to bytes of derivatives, or of an original."""

    __tablename__ = "view_grant"
    __table_args__ = (
        Index(None, "agency_id", "item_id"),
        Index(None, "agency_id", "set_id"),
        Index(None, "agency_id", "release_id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    case_id: Mapped[UUID | None] = mapped_column(ForeignKey("case_file.id"), comment="null: by item")
    variant: Mapped[str] = mapped_column(comment="redacted or original")
    span_from_us: Mapped[int | None] = mapped_column(comment="media time; null: the whole item")
    span_to_us: Mapped[int | None] = mapped_column(comment="media time; null: the whole item")
    purpose: Mapped[str] = mapped_column(comment="RetrievalPurpose")
    reason: Mapped[str | None] = mapped_column(comment="asked for originals; null otherwise")
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None] = mapped_column(comment="null: in force")
    set_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("view_grant_set.id"), comment="null: asked for by itself"
    )
    lane: Mapped[int | None] = mapped_column(Integer, comment="which playlist of the set; null: no set")
    place: Mapped[int | None] = mapped_column(Integer, comment="order in the lane; null: no set")
    noted: Mapped[list[Any] | None] = mapped_column(
        comment="custody actions that left their one leaf; null: nothing fetched yet"
    )
    told: Mapped[dict[str, Any] | None] = mapped_column(
        comment="how lists of what still grew were begun, to be gone on with; null: none was"
    )
    release_id: Mapped[UUID | None] = mapped_column(
        comment="redaction_release that it hangs on; null: on none"
    )


class Job(Base):
    """Work to be done: the queue of record."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("agency_id", "kind", "subject_id", "input_digest", "params_digest"),
        Index(None, "state", "queue", "priority", "created_at"),
        Index(None, "state", "lease_until"),
        Index(None, "agency_id", "subject_id"),
        CheckConstraint("fence >= 0 AND attempt >= 0 AND deaths >= 0", name="counters"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    kind: Mapped[str]
    queue: Mapped[str] = mapped_column(comment="io, quick, asked, media or isolated")
    subject_id: Mapped[UUID] = mapped_column(comment="item or request the job is about")
    input_digest: Mapped[bytes] = mapped_column(Digest, comment="of what it reads")
    params_digest: Mapped[bytes] = mapped_column(Digest, comment="of the canonical parameters")
    params: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(comment="ready, leased, done, quarantined, cancelled")
    priority: Mapped[int] = mapped_column(Integer, comment="lower first")
    attempt: Mapped[int] = mapped_column(Integer, default=0, comment="failures so far")
    deaths: Mapped[int] = mapped_column(Integer, default=0, comment="workers found dead over it")
    fence: Mapped[int] = mapped_column(default=0, comment="grows with each lease; only the newest commits")
    lease_owner: Mapped[str | None] = mapped_column(comment="worker label; null: not leased")
    lease_until: Mapped[datetime | None] = mapped_column(comment="server clock; null: not leased")
    run_after: Mapped[datetime] = mapped_column(comment="server clock; back-off")
    announced_at: Mapped[datetime | None] = mapped_column(comment="last message sent; null: none")
    progress_permille: Mapped[int] = mapped_column(Integer, default=0)
    last_error: Mapped[str | None] = mapped_column(comment="one line; null: none")
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None] = mapped_column(comment="newest lease; null: never leased")
    finished_at: Mapped[datetime | None] = mapped_column(comment="null: not finished")


class CustodyLeaf(Base):
    """A custody leaf, written in the transaction of what it records. Append-only."""

    __tablename__ = "custody_leaf"
    __table_args__ = (Index(None, "agency_id", "subject_id"),)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    agency_id: Mapped[UUID] = _agency()
    subject_id: Mapped[str] = mapped_column(comment="as in the leaf, for look-up")
    action: Mapped[str] = mapped_column(comment="as in the leaf, for look-up")
    body: Mapped[bytes] = mapped_column(comment="canonical JSON; exactly what is hashed")
    payload: Mapped[bytes | None] = mapped_column(comment="salted personal details; null: none")
    made_at: Mapped[datetime]


class CustodyPending(Base):
    """Leaves that wait for a place, so that the sequencer never searches the whole log."""

    __tablename__ = "custody_pending"
    agency_id: Mapped[UUID] = mapped_column(ForeignKey("agency.id"), primary_key=True)
    leaf_id: Mapped[UUID] = mapped_column(ForeignKey("custody_leaf.id"), primary_key=True)


class CustodySequence(Base):
    """A leaf's place in the agency's tree. Append-only, written by the one sequencer."""

    __tablename__ = "custody_sequence"
    __table_args__ = (UniqueConstraint("agency_id", "leaf_id"),)
    agency_id: Mapped[UUID] = mapped_column(ForeignKey("agency.id"), primary_key=True)
    leaf_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    leaf_id: Mapped[UUID] = mapped_column(ForeignKey("custody_leaf.id"))
    leaf_hash: Mapped[bytes] = mapped_column(Digest)


class CustodyCheckpoint(Base):
    """A signed statement of the tree at a size. Append-only."""

    __tablename__ = "custody_checkpoint"
    agency_id: Mapped[UUID] = mapped_column(ForeignKey("agency.id"), primary_key=True)
    tree_size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root: Mapped[bytes] = mapped_column(Digest)
    frontier: Mapped[bytes] = mapped_column(comment="hashes of the complete subtrees, for the next append")
    note: Mapped[str] = mapped_column(comment="signed note (C2SP tlog-checkpoint)")
    made_at: Mapped[datetime]


class SigningKey(Base):
    """A public key and what it signs; the private half is a file."""

    __tablename__ = "signing_key"
    id: Mapped[str] = mapped_column(primary_key=True, comment="stands in every signature made with it")
    agency_id: Mapped[UUID] = _agency()
    purpose: Mapped[str] = mapped_column(comment="receipt, checkpoint or grant")
    public_key: Mapped[bytes] = mapped_column(comment="Ed25519, 32 bytes; empty for symmetric keys")
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None] = mapped_column(comment="null: in use")


class Leadership(Base):
    """Who is the one relay now. Not custody: overwritten at will."""

    __tablename__ = "leadership"
    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    fence: Mapped[int]
    until: Mapped[datetime]
