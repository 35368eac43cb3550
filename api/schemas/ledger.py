"""The device ledger: devices with their history, docks, readings, faults, duty, policies, reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Instant, Line, Number, Output
from evidence.kinds import SourceKind


class UnknownDevice(Output):
    """A device that showed up unregistered: what it brought, and whom its files name."""

    id: UUID
    device_no: str
    kind: str
    first_seen_at: datetime
    item_count: int = Field(description="已收文件数 / Items it brought; all of them are kept")
    last_item_at: datetime | None
    officer_nos: list[str] = Field(description="文件所述人员编号 / Officers its files name")


class Adoption(Input):
    """Make an unknown device the agency's, and issue it in the same step."""

    kind: SourceKind | None = Field(None, description="空为不改 / Null: as it is")
    maker: Line | None = None
    model: Line | None = None
    officer_no: Number | None = Field(None, description="同时领用 / Issue it as well", examples=["330101"])
    issued_at: Instant | None = Field(None, description="默认现在 / Default now")


class Returning(Input):
    """Take a device back."""

    returned_at: Instant | None = Field(None, description="默认现在 / Default now")


class IssueShown(Output):
    """A device in an officer's hands, from and to."""

    id: UUID
    officer_no: str
    issued_at: datetime
    returned_at: datetime | None


class FaultReport(Input):
    """What is wrong with a device."""

    what: Line = Field(examples=["按键失灵"])


class FaultResolution(Input):
    """What was done about it."""

    resolution: Line = Field(examples=["更换按键"])


class FaultShown(Output):
    """A fault ticket."""

    id: UUID
    device_id: UUID
    device_no: str
    what: str
    reported_by: str
    reported_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


class ReadingShown(Output):
    """What was read off a device at one docking."""

    id: UUID
    dock_no: str | None
    read_at: datetime
    device_clock: datetime | None
    reference_clock: datetime | None = Field(description="采集站时钟 / The dock's clock at that instant")
    offset_us: int | None = Field(description="采集站减设备,正为设备慢 / Dock less device; positive: slow")
    clock_set: bool | None = Field(description="读后是否校时 / Whether the dock set the clock afterwards")
    battery_percent: int | None
    free_bytes: int | None
    capacity_bytes: int | None
    firmware: str | None
    officer_no: str | None


class StretchShown(Output):
    """A time in which a device's clock ran freely, and how fast it ran away (D4)."""

    since: datetime
    until: datetime
    reading_count: int
    from_setting: bool
    last_offset_us: int
    drift_us_per_day: int
    finding: str | None = Field(description="`drift` 或空 / `drift`, or null")


class DeviceDetail(Output):
    """A device: who held it, what is wrong with it, how its clock runs."""

    id: UUID
    device_no: str
    kind: str
    state: str
    maker: str | None
    model: str | None
    firmware: str | None
    capacity_bytes: int | None
    created_at: datetime
    retired_at: datetime | None
    issues: list[IssueShown]
    open_faults: list[FaultShown]
    clock: list[StretchShown] = Field(description="近90天 / Of the last 90 days")


class DockRegistration(Input):
    """A docking station."""

    dock_no: Number = Field(examples=["DOCK-2"])
    place: Line | None = Field(None, examples=["一楼装备室"])


class DockChange(Input):
    """Say where a dock stands."""

    place: Line | None = Field(description="空为清除 / Null: not known", examples=["一楼装备室"])


class DockShown(Output):
    """A docking station."""

    id: UUID
    dock_no: str = Field(examples=["DOCK-2"])
    place: str | None = Field(examples=["一楼装备室"])
    created_at: datetime
    retired_at: datetime | None
    last_reading_at: datetime | None


class TokenRotation(Input):
    """Give a dock a new token; the old one goes on for a while."""

    overlap_s: int = Field(
        86400, ge=0, le=90 * 86400, description="旧令牌再用多久 / How long the old one goes on"
    )
    life_s: int | None = Field(
        None, ge=60, le=10 * 366 * 86400, description="空为不限期 / Null: until revoked"
    )


class DutyEntry(Input):
    """An officer on duty."""

    officer_no: Number = Field(examples=["330101"])
    duty_from: Instant = Field(examples=["2026-03-02T08:30:00+08:00"])
    duty_to: Instant = Field(examples=["2026-03-02T17:30:00+08:00"])


class DutyShown(Output):
    """A duty; one entered in error stays, withdrawn."""

    id: UUID
    officer_no: str
    duty_from: datetime
    duty_to: datetime
    author: str
    made_at: datetime
    withdrawn_at: datetime | None


class LineRefused(Output):
    """Why a line of a table was not taken."""

    line: int
    code: str
    message: str


class TableTaken(Output):
    """What became of a table."""

    taken: int
    not_taken: list[LineRefused]


class PolicySetting(Input):
    """The next version of a policy."""

    body: dict[str, Any] = Field(
        max_length=32,
        examples=[
            {
                "due": "hours_after",
                "counted_from": "duty",
                "hours": 48,
                "months": 0,
                "continuous_gap_hours": 0,
            }
        ],
    )
    source: Line = Field(description="依据名称与条款 / The text and its article", examples=["某局规定第九条"])
    applies_from: Instant = Field(description="自何时起适用 / Events from then on are judged by it")


class PolicyShown(Output):
    """A policy in one version, or the preset that stands in for one."""

    name: str = Field(examples=["upload_deadline"])
    version: int | None = Field(description="空为预设 / Null: the preset", examples=[2])
    applies_from: datetime | None
    source: str
    mark: str | None = Field(description="预设依据的可信程度 / How sure the preset's source is")
    body: dict[str, Any]
    author: str | None = None
    made_at: datetime | None = None


class PresetShown(Output):
    """Values that ship with the product."""

    name: str
    policy: str
    title: str
    source: str
    mark: str
    is_default: bool
    body: dict[str, Any]


class LatenessShown(Output):
    """An item that came after its deadline, and the reason."""

    item_id: UUID
    officer_no: str | None
    device_no: str | None
    captured_to: datetime | None
    due_at: datetime
    late_by_s: int
    reason: str | None
    reason_at: datetime | None


class LateReason(Input):
    """Why an item was late; said once."""

    reason: Line = Field(examples=["山区无信号,次日返回后上传"])


class ColumnShown(Output):
    """A column of a report."""

    key: str
    heading: str


class ReportShown(Output):
    """A report: figures, and one page of the rows they are counted from."""

    name: str
    title: str
    since: datetime
    until: datetime
    made_at: datetime
    figures: dict[str, int]
    policies: list[dict[str, Any]] = Field(description="所依据的规则版本 / By which versions it was judged")
    columns: list[ColumnShown]
    rows: list[dict[str, str | int | bool | None]]
    next_cursor: str | None
