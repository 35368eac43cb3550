"""The checklist of a session, as the API takes and gives it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas.common import Input, Instant, Line, Output

PointCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]


class PointShowing(Input):
    """That a point is seen or heard."""

    point: PointCode = Field(examples=["certificates_shown"])
    at: Instant | None = Field(
        None, description="录像中的时刻,缺省为此刻 / When, in the recording; default now, while it runs"
    )
    text: Line | None = None
    key: UUID | None = Field(None, description="客户端生成;重发即同一条 / Sent again it is the same note")


class PointReason(Input):
    """Why a point is not in the recording."""

    point: PointCode = Field(examples=["recusal_asked"])
    statement: Line = Field(examples=["当事人中途离场,未及告知"])


class PointPlace(Output):
    """Where a moment is in a stream."""

    stream: str
    sequence_no: int
    item_id: UUID
    offset_ms: int = Field(description="距该文件开头 / After the file's beginning, by the server's clock")


class PointShown(Output):
    """A point of the checklist as it stands."""

    point: str
    zh: str
    en: str
    is_shown: bool
    at: datetime | None = Field(description="录像中的时刻 / When it is shown")
    offset_ms: int | None = Field(description="距会话开始 / After the session's beginning")
    places: list[PointPlace] = Field(description="文件入库后给出 / Once the files are in")
    text: str = Field(description="补充或未录入的理由 / Words, or why it is not shown")
    by: str | None
    noted_at: datetime | None = Field(description="空为无人登记 / Null: nobody noted anything")


class ChecklistShown(Output):
    """What must be said and seen in a session (R11)."""

    session_id: UUID
    points: list[PointShown]
    open: list[str] = Field(description="既未录入也未说明 / Neither shown nor explained")
