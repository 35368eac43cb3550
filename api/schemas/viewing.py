"""Grants and clips."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, model_validator

from api.issuing import Variant
from api.schemas.common import Input, Instant, Line, Output
from api.schemas.items import Coverage, SpanInput
from evidence.kinds import RetrievalPurpose

State = Literal["ready", "growing", "pending"]


class GrantRequest(Input):
    """Ask to see an item."""

    variant: Variant = Field(
        Variant.REDACTED, description="脱敏件、原件或待审核件 / Masked, original, or awaiting approval"
    )
    purpose: RetrievalPurpose = Field(description="调阅目的 / Purpose", examples=["case_handling"])
    reason: Line | None = Field(
        None, description="调阅原件或待审核件须说明理由 / Needed unless masked and approved"
    )
    case_id: UUID | None = Field(None, description="在某案件范围内 / Within a case")
    span: SpanInput | None = Field(None, description="时段,空为全部 / Null is all that may be seen")


class GrantShown(Output):
    """A grant, and where to look."""

    grant_id: UUID
    item_id: UUID
    variant: Variant
    state: State = Field(description="pending:正在脱敏 / being redacted; growing: 边生成边播放")
    span_us: tuple[int, int] | None
    expires_at: datetime
    playlist_url: str | None = Field(description="HLS;照片为空 / Null for photos and while pending")
    variants_url: str | None = Field(
        description="HLS 主列表,另含供快速浏览的关键帧列表 / Multivariant, with keyframes for scrubbing"
    )
    file_url: str | None = Field(description="整个文件;限定时段时为空 / Null when limited to a span")
    poster_url: str
    track_url: str | None = Field(description="轨迹,仅整件原件调阅 / Route; of a whole original alone")
    thumbnails_url: str | None = Field(
        description="缩略图 WebVTT(#xywh=),仅整件调阅 / Of a whole item; null until they are made"
    )
    waveform_url: str | None = Field(description="波形,audiowaveform 第 2 版 JSON / For peaks.js")
    waveform_image_url: str | None = Field(description="波形图 PNG / The same as a picture")
    scenes_url: str | None = Field(description="场景变化 / Where the scene changes, JSON")
    placeholder_url: str | None = Field(description="脱敏完成前的占位图 / Shown until redaction is there")
    coverage: Coverage
    quarantined: bool = Field(description="原件校验不符,内容存疑 / The original is in quarantine: doubt it")


class SetRequest(Input):
    """Ask to see several items one after another or side by side."""

    variant: Literal[Variant.REDACTED, Variant.ORIGINAL] = Variant.REDACTED
    purpose: RetrievalPurpose = Field(description="调阅目的 / Purpose", examples=["case_handling"])
    reason: Line | None = Field(None, description="调阅原件须说明理由 / Needed for originals")


class RecordingRequest(SetRequest):
    """Ask to see all files of one press of the button."""

    case_id: UUID | None = Field(None, description="在某案件范围内 / Within a case")


class SetMember(Output):
    """An item, or a span of it, in a grant set."""

    grant_id: UUID
    item_id: UUID
    span_us: tuple[int, int] | None
    starts_at: datetime | None = Field(
        description="校正后的开始时间,未知为空 / When its media time 0 was, corrected; null: unknown"
    )
    state: Literal["ready", "growing", "pending", "ended"]
    why: str | None = Field(description="不能播放的原因代码 / Code of why it cannot be played")


class LeftOut(Output):
    """An item that was asked for and not granted: none of it is shown."""

    item_id: UUID
    why: str = Field(description="原因代码 / Code of the refusal", examples=["not_permitted"])


class RecordingGrant(Output):
    """A grant set over a recording: one playlist, its items in order."""

    set_id: UUID
    variant: Variant
    expires_at: datetime
    playlist_url: str = Field(description="各文件之间为不连续点 / A discontinuity between files, by date")
    variants_url: str
    members: list[SetMember]
    left_out: list[LeftOut]


class AlignedRequest(SetRequest):
    """Ask to see several sources of a case side by side."""

    from_at: Instant = Field(description="起,校正后的时间 / Wall time, corrected")
    to_at: Instant
    lanes: list[Annotated[str, Field(min_length=1, max_length=600)]] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="时间轴中的来源,空为时段内全部 / Of the timeline; null is all in the window",
    )

    @model_validator(mode="after")
    def _forward(self) -> AlignedRequest:
        if self.to_at <= self.from_at:
            raise ValueError("expected from_at before to_at")
        return self


class AlignedStretch(Output):
    """Footage of a source: when it shows, and where in its playlist."""

    from_us: int = Field(description="距时段起点,可为负 / After the window's start; may be negative")
    to_us: int
    position_us: int = Field(description="在播放列表中的位置 / Where in the playlist it begins")


class AlignedSource(Output):
    """One source on the clock of the window."""

    lane: str
    device_no: str | None
    place: str | None
    playlist_url: str | None = Field(description="暂无可播放影像时为空 / Null while nothing can be shown")
    variants_url: str | None = Field(
        description="HLS 主列表,另含标记字幕 / Multivariant: the same, with what was marked beside it"
    )
    seek_to_us: int = Field(
        description="对齐点在播放列表中的位置,精确到微秒 / The position that is the start of the window"
    )
    seek_to_s: float = Field(description="同上,秒 / The same in seconds, for currentTime")
    shown_us: int = Field(description="影像时长 / How much footage it has")
    stretches: list[AlignedStretch] = Field(description="各段影像,按先后 / In order; none overlap")
    members: list[SetMember]


class AlignedGrant(Output):
    """A grant set over several sources, each with its map from time to position."""

    set_id: UUID
    variant: Variant
    from_at: datetime
    to_at: datetime
    expires_at: datetime
    sources: list[AlignedSource]
    left_out: list[LeftOut]


class Reviewable(Output):
    """A masked rendition of a case that can be watched now."""

    item_id: UUID
    av_record_no: str | None
    original_name: str
    captured_from: datetime | None
    duration_us: int | None
    span_us: tuple[int, int] | None
    binding: Literal["bound", "suggested"]
    state: Literal["ready", "pending"]
    sha256: str | None = Field(description="脱敏件摘要 / Digest of the masked rendition")
    poster_url: str
    coverage: Coverage
