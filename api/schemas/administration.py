"""Devices, officers, tokens, accounts and jobs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Instant, Line, Number, Output
from evidence.kinds import Role, SourceKind


class DeviceRegistration(Input):
    """A device to register, or an unknown one to adopt."""

    device_no: Number = Field(examples=["BC-0001"])
    kind: SourceKind = SourceKind.BODY_CAM
    maker: Line | None = None
    model: Line | None = None


class DeviceShown(Output):
    """A device and whose hands it is in."""

    id: UUID
    device_no: str
    kind: str
    state: str = Field(description="registered,或待收编的 unknown / unknown until adopted")
    maker: str | None
    model: str | None
    firmware: str | None
    capacity_bytes: int | None
    retired_at: datetime | None
    officer_no: str | None


class DeviceIssuing(Input):
    """Put a device in an officer's hands."""

    officer_no: Number
    issued_at: Instant | None = Field(None, description="默认现在 / Default now")


class OfficerRegistration(Input):
    """An officer to register."""

    officer_no: Number = Field(examples=["330101"])
    name: Line
    certificate_no: Number | None = Field(None, description="执法证号 / Certificate")


class OfficerShown(Output):
    """An officer."""

    id: UUID
    officer_no: str
    name: str
    certificate_no: str | None


class TokenRequest(Input):
    """An upload token for a dock."""

    dock_no: Number = Field(examples=["DOCK-1"])
    device_no: Number | None = Field(None, description="仅限某设备 / For one device only")
    life_s: int | None = Field(
        None, ge=60, le=10 * 366 * 86400, description="空为不限期 / Null: until revoked"
    )


class TokenShown(Output):
    """An upload token; the token itself is shown once, when it is made."""

    id: UUID
    dock_no: str = Field(examples=["DOCK-1"])
    device_id: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenIssued(TokenShown):
    """A fresh token."""

    token: str = Field(description="仅显示一次 / Shown once")


class AccountRegistration(Input):
    """An account to open."""

    username: Number = Field(examples=["zhang.san"])
    display_name: Line = Field(examples=["张三"])
    password: str = Field(min_length=1, max_length=256)
    roles: list[Role] = Field(min_length=1, max_length=8)
    officer_no: Number | None = Field(None, description="对应的执法人员 / The officer this account is of")


class AccountShown(Output):
    """An account."""

    id: UUID
    username: str
    display_name: str
    roles: list[str]
    officer_id: UUID | None
    created_at: datetime
    disabled_at: datetime | None


class JobShown(Output):
    """A job, as far as an operator needs it."""

    id: UUID
    kind: str
    queue: str
    subject_id: UUID
    state: str
    attempt: int
    deaths: int
    progress_permille: int
    remaining_s: int | None = Field(
        description="按目前速度的剩余秒数,未知为空 / seconds left at this pace; null: not known"
    )
    last_error: str | None
    created_at: datetime
    started_at: datetime | None


class JobCounts(Output):
    """Jobs by state."""

    counts: dict[str, int]
    alarms: int = Field(description="未解除的告警 / Alarms that stand")
