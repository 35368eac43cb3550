"""The tables of reviewing and releasing what is redacted. They follow the rules of `storage.db.tables`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from evidence.ids import new_id
from storage.db.tables import Base
from storage.db.types import Digest


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, default=new_id)


def _agency() -> Mapped[UUID]:
    return mapped_column(ForeignKey("agency.id"))


class RedactionReview(Base):
    """What one person watched of one redacted rendition, and whether they say that they reviewed it.

    Where the rendition was made again, with other bytes, it begins anew.
    """

    __tablename__ = "redaction_review"
    __table_args__ = (
        UniqueConstraint("agency_id", "derivative_id", "account_id"),
        Index(None, "agency_id", "item_id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    derivative_id: Mapped[UUID] = mapped_column(ForeignKey("derivative.id"))
    rendition_sha256: Mapped[bytes] = mapped_column(Digest, comment="of the bytes that were watched")
    plan_number: Mapped[int] = mapped_column(Integer, comment="version of the plan they show")
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    watched: Mapped[list[Any]] = mapped_column(comment="[[from_us, to_us]]: media time, in order, merged")
    reported_at: Mapped[datetime] = mapped_column(comment="server clock, of the newest report")
    signed_at: Mapped[datetime | None] = mapped_column(
        comment="when they said that they reviewed it; null: not yet"
    )
    note: Mapped[str | None] = mapped_column(comment="what they said; null: nothing")


class Release(Base):
    """One version of a redacted rendition released to somebody, or on its way to be."""

    __tablename__ = "redaction_release"
    __table_args__ = (
        Index(None, "agency_id", "item_id"),
        Index(None, "agency_id", "asked_at", "id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    case_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("case_file.id"), comment="whose spans alone are released; null: all that may be seen"
    )
    plan_number: Mapped[int] = mapped_column(Integer, comment="version of the plan")
    derivative_id: Mapped[UUID] = mapped_column(ForeignKey("derivative.id"))
    rendition_sha256: Mapped[bytes] = mapped_column(Digest, comment="these bytes and no others")
    to_kind: Mapped[str] = mapped_column(comment="evidence.release.Recipient")
    to_role: Mapped[str | None] = mapped_column(comment="Role; null: to no role")
    to_account_id: Mapped[UUID | None] = mapped_column(ForeignKey("account.id"), comment="null: to no person")
    to_party: Mapped[str | None] = mapped_column(comment="name of who is outside; null: to nobody outside")
    purpose: Mapped[str] = mapped_column(comment="RetrievalPurpose")
    reason: Mapped[str]
    chain: Mapped[list[Any]] = mapped_column(comment="role of each step, as the policy had it when asked for")
    terms: Mapped[dict[str, Any]] = mapped_column(
        comment="the policy, and what was found when it was asked for: coverage, reviewers, unwatched"
    )
    asked_by: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    asked_at: Mapped[datetime]
    approvals: Mapped[list[Any]] = mapped_column(comment="[{role, by, at, note}]: the steps that were taken")
    released_at: Mapped[datetime | None] = mapped_column(comment="null: steps are open, or it was refused")
    expires_at: Mapped[datetime | None] = mapped_column(comment="null: until it is revoked or superseded")
    ended_at: Mapped[datetime | None] = mapped_column(comment="null: neither refused nor revoked")
    ended_by: Mapped[str | None] = mapped_column(comment="actor label; null: nobody ended it")
    ended_reason: Mapped[str | None] = mapped_column(comment="null: nobody ended it")


class CheckFailure(Base):
    """What the check of a version found, and who lets it pass all the same."""

    __tablename__ = "check_failure"
    __table_args__ = (UniqueConstraint("agency_id", "item_id", "plan_number"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    plan_number: Mapped[int] = mapped_column(Integer)
    codes: Mapped[list[Any]] = mapped_column(comment="codes of all findings, each once")
    findings: Mapped[list[Any]] = mapped_column(comment="the first of them, as `redaction.findings` has them")
    finding_count: Mapped[int]
    found_at: Mapped[datetime] = mapped_column(comment="server clock, of the newest check")
    overridden_codes: Mapped[list[Any] | None] = mapped_column(
        comment="findings that somebody lets pass, and no others; null: nobody does"
    )
    overridden_at: Mapped[datetime | None] = mapped_column(comment="null: nobody does")
    overridden_by: Mapped[str | None] = mapped_column(comment="actor label; null: nobody does")
    override_reason: Mapped[str | None] = mapped_column(comment="null: nobody does")


class RedactionDoubt(Base):
    """A doubtful span of the newest version of an item's plan, made from it: the gravest of each item."""

    __tablename__ = "redaction_doubt"
    __table_args__ = (Index(None, "agency_id", "risk_us", "id"), Index(None, "agency_id", "item_id"))
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    plan_number: Mapped[int] = mapped_column(Integer)
    track: Mapped[str | None] = mapped_column(comment="null: the frame or the sound is hidden whole")
    track_class: Mapped[str | None] = mapped_column(comment="null: as above")
    from_us: Mapped[int] = mapped_column(comment="media time")
    to_us: Mapped[int] = mapped_column(comment="media time, not included")
    why: Mapped[str]
    area_permille: Mapped[int] = mapped_column(Integer, comment="share of the picture, 1 to 1000")
    score_permille: Mapped[int] = mapped_column(Integer, comment="of the track's best sighting")
    risk_us: Mapped[int] = mapped_column(comment="evidence.doubts: length x area x score")
