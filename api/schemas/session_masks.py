"""What of a session is hidden in whatever is made of it, as the API takes and gives it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Instant, Line, Output
from evidence.masks import Hides, Reason


class Masking(Input):
    """Hide a stretch of a session in all that is made of it; the original stays as it is."""

    hides: Hides = Hides.BOTH
    reason: Reason
    statement: Line = Field(examples=["涉及国家秘密"])
    from_at: Instant | None = Field(None, description="缺省为现在 / Default: now")
    to_at: Instant | None = Field(
        None, description="缺省为持续至另行结束或会话结束 / Default: until it is ended, or the session is"
    )


class MaskShown(Output):
    """A stretch that is hidden."""

    id: UUID
    hides: Hides
    zh: str
    en: str
    reason: Reason
    statement: str
    from_at: datetime
    to_at: datetime | None = Field(description="空为持续中 / Null: it lasts")
    by: str
    ended_by: str | None
    made_at: datetime
    items: list[UUID] = Field(description="因此重新脱敏的文件 / Files that are redacted anew because of this")
