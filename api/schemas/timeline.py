"""A case over wall time, as the API gives it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.schemas.common import Output
from evidence.item import Binding
from evidence.kinds import MediaKind
from evidence.offsets import Basis


class TimelineEntry(Output):
    """An item of the case, or the span of it that is tied there."""

    binding_id: UUID
    item_id: UUID
    lane: str = Field(description="所属来源 / Its source; one of `lanes`")
    binding: Binding
    media_kind: MediaKind
    original_name: str
    av_record_no: str | None
    in_recording: bool = Field(description="与其他文件同次录制 / One of several files of a recording")
    span_us: tuple[int, int] | None = Field(description="媒体时间,空为全部 / Media time; null is all of it")
    starts_at: datetime | None = Field(description="校正后,时间不明为空 / Corrected; null: nobody knows")
    ends_at: datetime | None = Field(description="长度不明为空 / Null: nobody knows how long it is")
    clock: str | None = Field(description="时间出自谁的时钟 / Whose clock the start is from")
    offset_us: int | None = Field(description="所加时钟偏差,空为未校正 / What was added; null: not corrected")
    offset_basis: Basis | None = Field(description="偏差依据 / What the offset rests on")
    resolution_us: int | None = Field(description="时钟最小刻度 / The step of that clock")


class TimelineInterval(Output):
    """A gap or an overlap."""

    lane: str | None = Field(description="空为全部来源合计 / Null: over all sources")
    starts_at: datetime
    ends_at: datetime
    duration_us: int
    before: UUID = Field(description="其前(或被重叠)一件的关联 / Binding before it, or overlapped")
    after: UUID = Field(description="其后(或重叠)一件的关联 / Binding that ends it, or overlaps")
    resolution_us: int = Field(description="所用时钟的最小刻度 / Known to within this, up or down")
    is_certain: bool = Field(description="超出时钟刻度 / More than the clock's step")


class TimelineStretch(Output):
    """Time in which several sources record at once."""

    starts_at: datetime
    ends_at: datetime
    lane_count: int


class TimelineLane(Output):
    """One source: a device, else a place."""

    lane: str
    device_id: UUID | None
    device_no: str | None
    place: str | None
    source_kind: str
    piece_count: int
    covered_us: int = Field(description="有记录的时长 / Time it records")
    gap_count: int
    overlap_count: int
    starts_at: datetime
    ends_at: datetime


class TimelinePage(Output):
    """A page of a case's timeline."""

    case_id: UUID
    case_no: str
    starts_at: datetime | None
    ends_at: datetime | None
    piece_count: int = Field(description="有时间的件数 / Pieces that have a time")
    unplaced_count: int = Field(description="时间不明的件数 / Pieces nobody knows the time of")
    covered_us: int = Field(description="任一来源有记录的时长 / Time in which any source records")
    gap_count: int = Field(description="全部来源均无记录的空档数 / Gaps that no source covers")
    lanes: list[TimelineLane] = Field(description="全部来源 / Every source of the case, on each page")
    pieces: list[TimelineEntry]
    unplaced: list[TimelineEntry] = Field(description="时间不明,列于最后 / After all that have a time")
    gaps: list[TimelineInterval]
    overlaps: list[TimelineInterval]
    together: list[TimelineStretch] = Field(description="本页时段内的同时记录 / That begin on this page")
    next_cursor: str | None
