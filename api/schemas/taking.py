"""What is taken away: clips, single pictures, numbered sets, and the sheets beside them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, model_validator

from api.issuing import Variant
from api.schemas.common import Input, Instant, Line, Micros, Output
from api.schemas.items import Coverage
from api.schemas.viewing import GrantShown, LeftOut, SetRequest
from evidence.kinds import RetrievalPurpose


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

    form: Literal["watch", "file", "picture", "part"] = Field(
        description="part:合成画面的一部分 / Of a composite, and only in its file"
    )
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
    release_id: UUID | None = Field(description="所依据的发布 / The release it hangs on; null: none")
    released_to: str | None = Field(description="提供给的机关以外的对象 / The party it was made for")
    requested_at: datetime
    made_at: datetime
    clip: DigestsShown
    original: DigestsShown = Field(description="原件摘要 / Of the bytes as received")
    rendition_sha256: str = Field(description="所据版本 / What it was cut from")
    coverage: Coverage
    leaf: LeafRef | None = Field(description="流转记录 / The custody leaf written with it")


class ClipSetRequest(SetRequest):
    """Ask for every recording of a case in a window of wall time, cut to it and numbered."""

    case_id: UUID | None = None
    case_no: str | None = Field(None, max_length=240, examples=["示执罚〔2026〕17号"])
    from_at: Instant = Field(description="起,校正后的时间 / Wall time, corrected")
    to_at: Instant
    lanes: list[Annotated[str, Field(min_length=1, max_length=600)]] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="时间轴中的来源,空为时段内全部 / Of the timeline; null is all in the window",
    )
    marked: bool = Field(
        True,
        description="不加水印须设置允许、有权、有理由 / False needs media.unmarked_clips, a right, a reason",
    )
    time_of_day: bool = Field(False, description="画面叠加当地时刻 / Burn the time of day into every picture")
    layout: Literal["side_by_side", "picture_in_picture"] | None = Field(
        None,
        description="各来源合成一个画面:并排,或以首个来源为主画面;空为逐段片段 / "
        "All sources in one picture, side by side or the first of lanes large; null is clips in a ZIP",
    )
    sound: str | None = Field(
        None,
        min_length=1,
        max_length=600,
        description="合成画面所用声音的来源,none 为无声,空为首个有声者 / "
        "Of a composite: the lane that is heard, none, or null for the first with sound",
    )

    @model_validator(mode="after")
    def _whole(self) -> ClipSetRequest:
        if self.layout is None and self.sound is not None:
            raise ValueError("expected sound with a layout alone")
        if (self.case_id is None) == (self.case_no is None):
            raise ValueError("expected case_id or case_no, one of them")
        if self.to_at <= self.from_at:
            raise ValueError("expected from_at before to_at")
        return self


class ClipSetMember(Output):
    """One clip of a set."""

    number: int = Field(description="按校正后的时间编号,从 1 起 / In order of corrected time, from 1")
    lane: str
    starts_at: datetime
    ends_at: datetime
    clip: ClipShown


class ClipSetGap(Output):
    """Time of the window of which the set shows nothing."""

    lane: str | None = Field(description="空为全部来源合计 / Null: over all sources")
    starts_at: datetime
    ends_at: datetime
    duration_us: int
    resolution_us: int = Field(description="所用时钟的最小刻度 / Known to within this, up or down")
    is_certain: bool = Field(description="超出时钟刻度 / More than the clock's step")


class ClipSetShown(Output):
    """A numbered set of clips."""

    set_id: UUID
    form: Literal["zip", "side_by_side", "picture_in_picture"]
    state: Literal["ready", "working", "failed", "withdrawn"] = Field(
        description="failed:无一能裁剪;withdrawn:各段仍可单独下载 / "
        "failed: none could be cut; withdrawn: what there is can be had singly"
    )
    variant: Variant
    from_at: datetime
    to_at: datetime
    members: list[ClipSetMember]
    gaps: list[ClipSetGap]
    left_out: list[LeftOut]
    unplaced_count: int = Field(description="时间不明、未列入的记录 / Recordings whose time nobody knows")
    file_url: str | None = Field(
        description="整集 ZIP,不压缩;合成画面为 MP4 / ZIP, stored; MP4 of a composite"
    )
    sha256: str | None
    size_bytes: int | None
    progress_permille: int
