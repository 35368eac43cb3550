"""Continuity reports and the reasons people give, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Line, Micros, Output
from evidence.continuity import Fault
from evidence.kinds import GapReason


class InterruptionReason(Input):
    """Why a span of a continuity report is there."""

    kind: Fault = Field(description="报告中该时段的类别 / Kind of the span, as the report has it")
    from_us: Micros
    to_us: Micros
    reason: GapReason = Field(description="中断原因类别 / What the reason is")
    statement: Line = Field(description="情况说明 / In words", examples=["进入涉密场所,按规定停止录制"])


class ReasonShown(Output):
    """A reason somebody gave; it stays, a later one stands beside it."""

    id: UUID
    kind: Fault
    from_us: int
    to_us: int
    reason: GapReason
    statement: str
    author: str
    made_at: datetime


class SpanShown(Output):
    """A break in the continuity of a recording, the end not included."""

    kind: Fault
    zh: str
    en: str
    from_us: int = Field(description="媒体时间 / Media time")
    to_us: int
    from_at: datetime | None = Field(description="采集时间换算,未知为空 / Wall time; null when unknown")
    to_at: datetime | None
    measured: float = Field(description="实测值 / What was measured")
    threshold: float = Field(description="所用阈值 / From which value on it is reported")
    unit: str = Field(description="ms、frames、percent、luma 或 dbfs / Of both")
    reasons: list[ReasonShown]


class ContinuityShown(Output):
    """What breaks the continuity of a recording, as a machine measured it."""

    item_id: UUID
    schema_version: str = Field(examples=["liuhen-continuity/1"])
    method: str
    sha256: str = Field(description="报告摘要 / Digest of the report")
    made_at: datetime
    captured_from: datetime | None
    duration_us: int
    frame_count: int | None
    has_picture: bool
    has_sound: bool
    is_whole: bool = Field(description="读至末尾 / It could be read to its end")
    undecodable_count: int = Field(description="无法解码的数据包 / Packets that do not decode")
    thresholds: dict[str, float] = Field(description="各项阈值,单位见设置 / Units as in the settings")
    counts: dict[str, int] = Field(description="各类数量,含未列出者 / By kind, those not listed included")
    spans: list[SpanShown] = Field(description="每类最多 1000 条 / At most 1000 of a kind")
    other_reasons: list[ReasonShown] = Field(description="针对较早报告 / About spans of an earlier report")
