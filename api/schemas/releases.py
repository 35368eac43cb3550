"""Reviews and releases of what is redacted."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from api.schemas.common import Input, Instant, Line, Output
from api.schemas.items import Coverage, SpanInput
from evidence.kinds import RetrievalPurpose
from evidence.release import Lack, Recipient, ReleaseState
from storage.db.release_tables import CheckFailure, RedactionDoubt

Span = tuple[int, int]


class Watched(Input):
    """What somebody watched of a masked rendition."""

    grant_id: UUID = Field(description="本人脱敏件的授权 / Own grant of the masked rendition")
    spans: list[SpanInput] = Field(
        max_length=1000, description="媒体时间,照片为空列表 / Media time; of a photo an empty list"
    )


class ReviewStatement(Input):
    """Say that one reviewed a version."""

    number: int = Field(ge=1, le=2**31 - 1, description="所观看的版本 / The version that was watched")
    note: Line | None = None


class ReviewerShown(Output):
    """What one person watched."""

    by: str
    watched_us: int
    spans: list[Span]
    reported_at: datetime
    signed_at: datetime | None = Field(description="声明已复核;未声明为空 / Said that they reviewed it")
    note: str | None


class LackShown(Output):
    """Something that keeps a version from being released."""

    code: Lack
    message: str


class ReviewShown(Output):
    """How far a version is reviewed, and what it lacks to be released."""

    number: int | None = Field(description="现提供的版本,无则为空 / The version served; null: none")
    sha256: str | None
    length_us: int
    coverage: Coverage
    people: list[ReviewerShown]
    unwatched: list[Span] = Field(
        description="已声明复核者均未观看的时段 / Watched by nobody who said they reviewed it"
    )
    unwatched_by_me: list[Span]
    lacks: list[LackShown] = Field(description="发布前尚缺 / Missing before it can be released within")
    lacks_for_party: list[LackShown] = Field(description="同上,对机关以外 / The same, to a party outside")


class DoubtShown(Output):
    """A doubtful span that nobody decided."""

    item_id: UUID
    original_name: str
    plan_number: int
    track: str | None = Field(description="空:整帧或整段声音 / Null: a frame or the sound hidden whole")
    track_class: str | None
    span_us: Span
    why: str
    area_permille: int
    score_permille: int
    risk_us: int = Field(description="时长×面积×得分 / length x area x score")

    @classmethod
    def of(cls, row: RedactionDoubt, original_name: str) -> DoubtShown:
        return cls(
            item_id=row.item_id,
            original_name=original_name,
            plan_number=row.plan_number,
            track=row.track,
            track_class=row.track_class,
            span_us=(row.from_us, row.to_us),
            why=row.why,
            area_permille=row.area_permille,
            score_permille=row.score_permille,
            risk_us=row.risk_us,
        )


class CheckShown(Output):
    """What the check of a version found."""

    number: int
    codes: list[str]
    finding_count: int
    findings: list[dict[str, Any]] = Field(description="前若干条 / The first of them")
    found_at: datetime
    overridden_at: datetime | None
    overridden_by: str | None
    override_reason: str | None

    @classmethod
    def of(cls, row: CheckFailure) -> CheckShown:
        return cls(
            number=row.plan_number,
            codes=row.codes,
            finding_count=row.finding_count,
            findings=row.findings,
            found_at=row.found_at,
            overridden_at=row.overridden_at,
            overridden_by=row.overridden_by,
            override_reason=row.override_reason,
        )


class Override(Input):
    """Let a version pass although its check failed."""

    reason: Line = Field(description="理由 / Why")


class ReleaseRequest(Input):
    """Ask that a version be released to somebody."""

    number: int = Field(ge=1, le=2**31 - 1, description="现提供的版本 / The version that is served")
    to: Recipient = Field(description="角色、人员或机关以外 / A role, a person, or a party outside")
    role: Literal["officer", "handler", "reviewer", "legal_reviewer", "archivist"] | None = None
    account_id: UUID | None = None
    party: Line | None = Field(None, description="机关以外对象的名称 / Name of who is outside")
    case_id: UUID | None = Field(
        None, description="仅限该案关联时段;对机关以外必填 / Its spans alone; a party needs one"
    )
    purpose: RetrievalPurpose
    reason: Line
    expires_at: Instant | None = None


class Step(Input):
    """Take the open step."""

    note: Line | None = None


class Ending(Input):
    """End a release."""

    reason: Line


class CopyRequest(Input):
    """Take a copy away for the party."""

    span: SpanInput | None = Field(None, description="时段,空为全部 / Null is all that is released")
    time_of_day: bool = False


class StepShown(Output):
    """A step that was taken."""

    role: str
    by: str
    at: datetime
    note: str | None


class ReleaseShown(Output):
    """A release, and where it stands."""

    id: UUID
    item_id: UUID
    case_id: UUID | None
    plan_number: int
    sha256: str = Field(description="所发布脱敏件的摘要 / Digest of what is released")
    state: ReleaseState
    to: Recipient
    role: str | None
    account_id: UUID | None
    party: str | None
    purpose: RetrievalPurpose
    reason: str
    coverage: Coverage = Field(description="发布时的覆盖说明 / As it was when it was asked for")
    terms: dict[str, Any] = Field(description="依据的规则与当时所见 / The policy, and what was found then")
    chain: list[str]
    approvals: list[StepShown]
    next_role: str | None = Field(description="下一步由谁 / Whose step is open; null: none")
    asked_by: UUID
    asked_at: datetime
    released_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None
    ended_reason: str | None
    copies: list[UUID] = Field(description="为其取走的片段 / Clips that were taken away for it")
