"""Plans of sessions, and recorders that call, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas.common import Input, Line, Output
from api.schemas.rooms import RoomNo, SessionFacts, SessionFactsShown
from evidence.kinds import GapReason
from evidence.schedule import PlanState
from evidence.session import TriggerAction

PlannedTime = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?$"
    ),
    Field(
        description="ISO 8601;无偏移量即 `time_zone` 当地时间 / Without an offset: local in `time_zone`",
        examples=["2026-03-04T09:00"],
    ),
]
ZoneName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$")]


class Planning(Input):
    """A session that is to begin by itself."""

    room_no: RoomNo = Field(examples=["R-1"])
    starts_at: PlannedTime
    ends_at: PlannedTime
    time_zone: ZoneName | None = Field(None, description="缺省为本机构时区 / Default: the agency's")
    ends_itself: bool = Field(
        False, description="到时自动结束;否则告警并继续录制 / Ended then; else people are told and it goes on"
    )
    facts: SessionFacts = Field(default_factory=SessionFacts)


class PlanShown(Output):
    """A planned session."""

    id: UUID
    room_no: str
    state: PlanState
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    ends_itself: bool
    planned_by: str
    planned_at: datetime
    session_id: UUID | None = Field(description="已成为的会话 / The session it became; null: none yet")
    may_read: bool = Field(description="可查看内容 / Whether its content is yours to read")
    facts: SessionFactsShown | None = Field(description="无权查看时为空 / Null where it is not yours")
    missing: list[str] = Field(description="尚未登记的事项 / Facts nobody stated yet")


class TriggerCalling(Input):
    """What a recorder says besides what it asks; all of it may be left out."""

    text: Line | None = Field(None, description="标记或暂停的说明 / Of a marker or a pause")
    reason: GapReason = Field(GapReason.OTHER, description="暂停原因 / Of a pause")


class TriggerCalled(Output):
    """What a call came to."""

    action: TriggerAction
    room_no: str
    session_id: UUID | None = Field(description="所涉会话,空为该室无会话 / Null: none is open")
    changed: bool = Field(description="假:本已如此 / False: the room was so already")
