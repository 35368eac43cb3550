"""Receipts by digest, and alarms."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Line, Output


class Arrival(Output):
    """One reception of the bytes."""

    reception_id: UUID
    item_id: UUID
    device_no: str | None
    dock_no: str | None
    received_at: datetime
    custody: str
    is_damaged: bool = Field(description="存储的字节已受损 / The stored bytes were found damaged since")
    may_erase: bool = Field(description="设备可否清除 / Whether a device may be wiped for it now")
    receipt: str | None = Field(description="签名回执,校验前为空 / Signed receipt; null until verified")


class ReceiptsOfDigest(Output):
    """Every reception of some bytes."""

    sha256: str
    may_erase: bool
    receptions: list[Arrival]


class AlarmShown(Output):
    """Something a person must look at by name."""

    id: UUID
    code: str
    subject: str
    subject_id: str
    original_name: str | None = Field(description="文件名,无调阅权者不可见 / Only for who may list items")
    message: str
    message_zh: str = Field(description="同一内容的中文 / The same in Chinese")
    facts: dict[str, Any]
    raised_at: datetime
    cleared_at: datetime | None
    cleared_by: str | None
    cleared_reason: str | None


class AlarmClearing(Input):
    """Why an alarm stands no longer."""

    reason: Line
