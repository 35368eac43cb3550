"""Grants and clips."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, model_validator

from api.issuing import Variant
from api.schemas.common import Input, Instant, Line, Micros, Output
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


class ClipRequest(Input):
    """Ask for a clip by case."""

    case_id: UUID | None = None
    case_no: str | None = Field(None, max_length=240, examples=["示执罚〔2026〕17号"])
    item_id: UUID | None = Field(
        None, description="案件仅有一件可调阅时可省 / Optional when there is only one"
    )
    from_ms: Micros | None = None
    to_ms: Micros | None = None
    variant: Literal[Variant.REDACTED, Variant.ORIGINAL] = Variant.REDACTED
    purpose: RetrievalPurpose = RetrievalPurpose.CASE_HANDLING
    reason: Line | None = None
    form: Literal["watch", "file", "picture"] = Field(
        "watch", description="在线观看、取走文件或单帧图片 / Watch, or take away a file or one picture"
    )
    at_us: Micros | None = Field(
        None, description="取此刻显示的一帧 / Of a picture: the one shown at this media time"
    )
    frame: Micros | None = Field(
        None, description="取第几帧,从 0 起 / Of a picture: its number, from 0", examples=[0]
    )
    marked: bool = Field(
        True,
        description="不加水印须设置允许、有权、有理由 / False needs media.unmarked_clips, a right, a reason",
    )
    time_of_day: bool = Field(
        False,
        description="取走的画面叠加当地时刻 / Burn the time of day into every picture taken away",
    )

    @model_validator(mode="after")
    def _one_case(self) -> ClipRequest:
        if (self.case_id is None) == (self.case_no is None):
            raise ValueError("expected case_id or case_no, one of them")
        if self.from_ms is not None and self.to_ms is not None and self.to_ms <= self.from_ms:
            raise ValueError("expected from_ms before to_ms")
        if self.form == "picture":
            if (
                (self.at_us is None) == (self.frame is None)
                or self.from_ms is not None
                or self.to_ms is not None
            ):
                raise ValueError("expected at_us or frame of a picture, one of them, and no from_ms or to_ms")
        elif self.at_us is not None or self.frame is not None:
            raise ValueError("expected at_us and frame with form picture alone")
        return self


class ClipShown(Output):
    """A clip: something to watch now, or a file or picture that is being made."""

    form: Literal["watch", "file", "picture"]
    state: Literal["ready", "growing", "pending", "working", "failed", "withdrawn"]
    item_id: UUID
    clip_id: UUID | None
    grant: GrantShown | None
    variant: Variant
    span_us: tuple[int, int] | None = Field(
        description="图片为该帧开始显示的那一微秒 / Of a picture the microsecond in which it begins"
    )
    file_url: str | None
    sha256: str | None
    size_bytes: int | None
    progress_permille: int
    quarantined: bool = Field(description="原件校验不符,内容存疑 / The original is in quarantine: doubt it")
    reason: str | None = Field(description="失败原因 / Why it failed")


class DigestsShown(Output):
    """Digests of some bytes."""

    sha256: str
    sm3: str | None = Field(description="未计算时为空 / Null where none was made")
    size_bytes: int


class LeafRef(Output):
    """Where a custody leaf is found."""

    leaf_id: UUID
    leaf_index: int | None = Field(description="入链前为空 / Null before it has its place")
    leaf_hash: str | None


class ClipSheet(Output):
    """What goes beside a clip or a picture that is taken away."""

    agency: str
    clip_id: UUID
    form: Literal["file", "picture"]
    item_id: UUID
    case_no: str
    av_record_no: str | None
    variant: Variant
    span_us: tuple[int, int]
    frame_count: int | None
    frame: int | None = Field(description="图片的帧号,从 0 起 / Number of a picture, from 0; null: a clip")
    marked: bool = Field(description="画面有水印 / A mark is drawn into the pictures")
    copied_frame_count: int = Field(
        description="未经重新编码、逐字节取自所据版本的帧数 / Copied byte for byte from the rendition"
    )
    purpose: RetrievalPurpose
    reason: str | None
    taken_by: str
    requested_at: datetime
    made_at: datetime
    clip: DigestsShown
    original: DigestsShown = Field(description="原件摘要 / Of the bytes as received")
    rendition_sha256: str = Field(description="所据版本 / What it was cut from")
    coverage: Coverage
    leaf: LeafRef | None = Field(description="流转记录 / The custody leaf written with it")


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
