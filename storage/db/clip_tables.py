"""The tables of what is taken away: clips, single pictures, and numbered sets of clips.

They follow the rules of `storage.db.tables`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from evidence.ids import new_id
from storage.db.tables import Base


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, default=new_id)


def _agency() -> Mapped[UUID]:
    return mapped_column(ForeignKey("agency.id"))


class ClipSet(Base):
    """Clips of a case over a window of wall time, asked for together; each is decided by itself.

    They are cut and packed, or shown at once in one picture.
    """

    __tablename__ = "clip_set"
    __table_args__ = (Index(None, "agency_id", "case_id"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    case_id: Mapped[UUID] = mapped_column(ForeignKey("case_file.id"))
    form: Mapped[str] = mapped_column(comment="zip, or a composite: side_by_side, picture_in_picture")
    window_from: Mapped[datetime] = mapped_column(comment="wall time, corrected")
    window_to: Mapped[datetime] = mapped_column(comment="wall time, corrected; not included")
    layout: Mapped[dict[str, Any]] = mapped_column(
        comment="where its clips lay in wall time when asked for, the gaps, what was left out or not cut"
    )
    requested_at: Mapped[datetime]
    derivative_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("derivative.id"), comment="the set in one file; null until it is made"
    )


class Clip(Base):
    """A clip, or one picture, somebody asked to take away."""

    __tablename__ = "clip"
    __table_args__ = (
        Index(None, "agency_id", "item_id"),
        Index(None, "agency_id", "case_id"),
        Index(None, "agency_id", "set_id"),
        Index(None, "agency_id", "release_id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    account_id: Mapped[UUID] = mapped_column(ForeignKey("account.id"))
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    case_id: Mapped[UUID] = mapped_column(ForeignKey("case_file.id"))
    form: Mapped[str] = mapped_column(
        comment="file; picture: the one that begins in the span; part: of a composite"
    )
    marked: Mapped[bool] = mapped_column(comment="false: no mark was drawn into the pictures")
    variant: Mapped[str] = mapped_column(comment="redacted or original")
    span_from_us: Mapped[int] = mapped_column(comment="media time")
    span_to_us: Mapped[int] = mapped_column(comment="media time, not included")
    purpose: Mapped[str] = mapped_column(comment="RetrievalPurpose")
    reason: Mapped[str | None] = mapped_column(comment="asked for originals; null otherwise")
    requested_at: Mapped[datetime]
    derivative_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("derivative.id"), comment="null until it is cut; of a part the composite"
    )
    set_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("clip_set.id"), comment="null: asked for by itself"
    )
    place: Mapped[int | None] = mapped_column(Integer, comment="number in the set, from 1; null: no set")
    release_id: Mapped[UUID | None] = mapped_column(
        comment="redaction_release that it hangs on; null: on none"
    )
