"""The tables of the device ledger: docks, readings off devices, faults, duty, policies, lateness, alarms.

They follow the rules of `storage.db.tables`: every row belongs to an agency, every column says unit,
clock and when it is null, and all of them are witnessed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from evidence.ids import new_id
from storage.db.tables import Base


def _id() -> Mapped[UUID]:
    return mapped_column(primary_key=True, default=new_id)


def _agency() -> Mapped[UUID]:
    return mapped_column(ForeignKey("agency.id"))


class Dock(Base):
    """A docking station; the middle tier between recorder and centre (D6)."""

    __tablename__ = "dock"
    __table_args__ = (UniqueConstraint("agency_id", "dock_no"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    dock_no: Mapped[str]
    place: Mapped[str | None] = mapped_column(comment="where it stands; null: not told")
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None] = mapped_column(comment="out of use since; null: in use")


class DeviceReading(Base):
    """What was read off a device at one docking (R12, D4, D8). Append-only."""

    __tablename__ = "device_reading"
    __table_args__ = (
        Index(None, "agency_id", "device_id", "read_at"),
        Index(None, "agency_id", "device_id", "device_clock"),
        Index(None, "agency_id", "dock_no", "read_at"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id"))
    dock_no: Mapped[str | None] = mapped_column(comment="null: read without a dock")
    read_at: Mapped[datetime] = mapped_column(comment="server clock, when the reading arrived")
    device_clock: Mapped[datetime | None] = mapped_column(comment="device clock; null: not read")
    reference_clock: Mapped[datetime | None] = mapped_column(
        comment="clock of the dock at the same instant; null: not read"
    )
    offset_us: Mapped[int | None] = mapped_column(
        comment="reference minus device clock, before any setting of it; null: one of the two not read"
    )
    clock_set: Mapped[bool | None] = mapped_column(
        comment="whether the dock set the device clock after this reading; null: not told"
    )
    battery_percent: Mapped[int | None] = mapped_column(Integer, comment="null: not read")
    free_bytes: Mapped[int | None] = mapped_column(comment="null: not read")
    capacity_bytes: Mapped[int | None] = mapped_column(comment="null: not read")
    firmware: Mapped[str | None] = mapped_column(comment="null: not read")
    officer_no: Mapped[str | None] = mapped_column(
        comment="officer number held in the device; null: not read"
    )


class DeviceFault(Base):
    """A fault ticket of a device (R12, R15)."""

    __tablename__ = "device_fault"
    __table_args__ = (Index(None, "agency_id", "device_id", "reported_at"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    device_id: Mapped[UUID] = mapped_column(ForeignKey("device.id"))
    what: Mapped[str] = mapped_column(comment="what is wrong, in words")
    reported_by: Mapped[str] = mapped_column(comment="actor label")
    reported_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None] = mapped_column(comment="null: open")
    resolved_by: Mapped[str | None] = mapped_column(comment="actor label; null: open")
    resolution: Mapped[str | None] = mapped_column(comment="what was done; null: open")


class DutyPeriod(Base):
    """An officer on duty, so that silence can be told from absence (R14)."""

    __tablename__ = "duty_period"
    __table_args__ = (
        UniqueConstraint("agency_id", "officer_id", "duty_from"),
        Index(None, "agency_id", "duty_from"),
        CheckConstraint("duty_to > duty_from", name="forward"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    officer_id: Mapped[UUID] = mapped_column(ForeignKey("officer.id"))
    duty_from: Mapped[datetime]
    duty_to: Mapped[datetime]
    author: Mapped[str] = mapped_column(comment="actor label of who entered it")
    made_at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None] = mapped_column(comment="entered in error; null: stands")


class PolicyRow(Base):
    """A version of a policy: in force from its date until the next version's. Never edited."""

    __tablename__ = "policy"
    __table_args__ = (UniqueConstraint("agency_id", "name", "version"),)
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    name: Mapped[str] = mapped_column(comment="what it rules, such as upload_deadline")
    version: Mapped[int] = mapped_column(Integer, comment="counts up from 1 for each name")
    applies_from: Mapped[datetime] = mapped_column(comment="events from this instant on are judged by it")
    source: Mapped[str] = mapped_column(comment="name and article of the text it follows")
    body: Mapped[dict[str, Any]] = mapped_column(comment="its values; shape depends on the name")
    author: Mapped[str] = mapped_column(comment="actor label")
    made_at: Mapped[datetime]


class Lateness(Base):
    """An item handed in after its deadline: accepted, flagged, reason asked (4.2)."""

    __tablename__ = "lateness"
    __table_args__ = (UniqueConstraint("agency_id", "item_id"), Index(None, "agency_id", "noted_at"))
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    item_id: Mapped[UUID] = mapped_column(ForeignKey("item.id"))
    policy_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("policy.id"), comment="version it was judged by; null: the preset"
    )
    due_at: Mapped[datetime]
    late_by_us: Mapped[int]
    noted_at: Mapped[datetime]
    reason: Mapped[str | None] = mapped_column(comment="null: still asked for")
    reason_by: Mapped[str | None] = mapped_column(comment="actor label; null: still asked for")
    reason_at: Mapped[datetime | None] = mapped_column(comment="null: still asked for")


class Alarm(Base):
    """Something a person must look at by name, such as stored bytes found damaged after a receipt."""

    __tablename__ = "alarm"
    __table_args__ = (
        Index(None, "agency_id", "cleared_at", "raised_at"),
        Index(None, "agency_id", "subject_id"),
    )
    id: Mapped[UUID] = _id()
    agency_id: Mapped[UUID] = _agency()
    code: Mapped[str] = mapped_column(comment="stable word for its kind")
    subject: Mapped[str] = mapped_column(comment="kind of the thing: item, device, dock")
    subject_id: Mapped[str]
    message: Mapped[str] = mapped_column(comment="one line: what is wrong and what to do")
    facts: Mapped[dict[str, Any]] = mapped_column(comment="names and numbers; no personal details")
    raised_at: Mapped[datetime]
    cleared_at: Mapped[datetime | None] = mapped_column(comment="null: stands")
    cleared_by: Mapped[str | None] = mapped_column(comment="actor label; null: stands")
    cleared_reason: Mapped[str | None] = mapped_column(comment="null: stands")
