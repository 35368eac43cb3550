"""Items as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, model_validator

from api.schemas.common import Input, Instant, Line, Micros, Number, Output
from evidence.item import Binding, Custody, Media, Redaction
from evidence.kinds import MediaKind, ProcessStage
from evidence.offsets import Basis


class Facets(Output):
    """Where an item stands."""

    custody: Custody
    media: Media
    binding: Binding
    redaction: Redaction
    held: bool


class Flag(Output):
    """What is wrong or odd with an item, one line."""

    code: str
    message: str


class FiveFactsShown(Output):
    """The five facts of R6."""

    case_nos: list[str] = Field(description="案件编号 / Case numbers bound")
    captured_from: datetime | None
    captured_to: datetime | None
    captured_place: str | None
    collector: str | None
    object_of_proof: str | None
    missing: list[str] = Field(description="缺项 / Facts not there yet")
    is_complete: bool


class ItemShown(Output):
    """An item in a list."""

    id: UUID
    av_record_no: str | None = Field(description="音像记录编号(R5)/ AV record number")
    media_kind: MediaKind
    source_kind: str
    original_name: str
    device_no: str | None
    stage: str | None
    key_file: bool
    duration_us: int | None
    frame_count: int | None
    received_at: datetime
    facets: Facets
    is_reviewable: bool = Field(description="可调阅脱敏件 / A masked rendition can be watched")
    facts: FiveFactsShown
    flags: list[Flag]
    poster_url: str


class BindingShown(Output):
    """How an item is tied to a case."""

    id: UUID
    case_id: UUID
    case_no: str
    state: Binding
    span_us: tuple[int, int] | None = Field(description="媒体时间,空为全部 / Media time; null is all of it")
    score_percent: int
    reason: str
    author: str
    made_at: datetime
    ended_at: datetime | None
    ended_reason: str | None


class ItemInCase(ItemShown):
    """An item of a case, and what ties it there."""

    binding: BindingShown


class ReceptionShown(Output):
    """One arrival of an item."""

    id: UUID
    source: str
    dock_no: str | None
    original_name: str
    received_at: datetime
    has_receipt: bool


class ObjectShown(Output):
    """The original's bytes."""

    sha256: str
    sm3: str | None
    size_bytes: int
    verified_at: datetime | None


class DerivativeShown(Output):
    """Something made from an original."""

    id: UUID
    kind: str
    rung: str | None
    content_type: str
    size_bytes: int
    sha256: str
    masked: bool
    made_at: datetime


class Coverage(Output):
    """What masking has treated and what it has not."""

    treated: list[str]
    untreated: list[str]
    zh: str
    en: str


class SaidShown(Output):
    """One of several claims that disagree."""

    field: str
    value: str | None = Field(description="无原件权限时不显示 / Null where it is hidden")
    hidden: bool
    source: str
    clock: str | None
    corrected: datetime | None = Field(
        description="按时钟偏差校正后的时间 / The time with its clock's offset"
    )


class ConflictShown(Output):
    """What was said of one thing, where not all of it can be so."""

    subject: str = Field(description="所述事项 / What it is about: a field, `started`, `ended` or `location`")
    spread_us: int | None = Field(description="最早与最晚相差 / Between the earliest and the latest time")
    apart_m: int | None = Field(description="相距最远的两处 / Between the two places furthest apart")
    said: list[SaidShown]


class FindingShown(Output):
    """One thing that the check found in a redacted rendition, which is therefore not shown."""

    code: str
    zh: str
    en: str
    at_us: int | None = Field(
        description="媒体时间,与时刻无关者为空 / Media time; null where it is of no moment"
    )


class ItemDetail(ItemShown):
    """Everything about one item that the asker may know."""

    object: ObjectShown
    bindings: list[BindingShown]
    receptions: list[ReceptionShown]
    derivatives: list[DerivativeShown] = Field(
        description="无原件权限者仅见脱敏件 / Masked ones only without the right to the original"
    )
    coverage: Coverage
    conflicts: list[ConflictShown] = Field(description="互相矛盾的陈述 / Claims that disagree")
    check_findings: list[FindingShown] = Field(
        description="脱敏核验未通过之处,仅整件原件权限者可见 / Where the check of a redaction failed; "
        "for holders of the right to all of the original"
    )
    sees_original: bool


class ClaimShown(Output):
    """One thing said about an item."""

    field: str
    value: str | None = Field(description="无原件权限时不显示 / Null where it is hidden")
    hidden: bool = Field(description="位置、设备信息仅原件权限者可见 / For holders of the original's right")
    source: str
    clock: str | None
    made_at: datetime
    corrected: datetime | None = Field(
        description="校正后的时间;陈述不变 / Its time, corrected; the claim stays"
    )
    offset_us: int | None = Field(description="所用时钟偏差 / The offset that was added")
    offset_basis: Basis | None = Field(
        description="偏差依据:本次采集、前后读数之间、仅此前、仅此后 / What the offset rests on"
    )


class MemberShown(Output):
    """One file of a recording."""

    item_id: UUID
    original_name: str
    sequence_no: int | None
    captured_from: datetime | None
    captured_to: datetime | None
    duration_us: int | None
    frame_count: int | None


class JointShown(Output):
    """What lies between two files of a recording."""

    before: UUID
    after: UUID
    gap_us: int = Field(description="间隔,负数为重叠 / Negative where they overlap")
    gap_frames: int | None = Field(description="折合帧数 / The same in frames; null without picture")
    resolution_us: int = Field(description="所用时钟的最小刻度 / Known to within this, up or down")
    clock: Literal["timecode", "device"]
    is_certain: bool = Field(description="超出时钟刻度 / More than the clock's step")


class RecordingShown(Output):
    """The files of one press of the button."""

    by: Literal["sender", "time", "number"] | None = Field(
        description="归并依据,空为单个文件 / What put them together; null for a file on its own"
    )
    members: list[MemberShown] = Field(description="按先后 / In order")
    joints: list[JointShown] = Field(description="相邻文件之间 / Between neighbours, where both have a time")
    missing_sequence_nos: list[int] = Field(description="缺失的序号 / Numbers no file has")


class ReceiptShown(Output):
    """A reception and its signed receipt."""

    reception_id: UUID
    received_at: datetime
    receipt: str | None = Field(description="签名回执,校验前为空 / Signed receipt; null until verified")


class FactsChange(Input):
    """Facts a person states; a field that is left out stays as it is."""

    case_no: str | None = Field(None, max_length=240, description="案件编号,须有关联权限 / Binds the item")
    captured_from: Instant | None = None
    captured_to: Instant | None = None
    captured_place: Line | None = Field(None, examples=["人民路 12 号"])
    collector: Number | None = Field(None, description="采集人编号 / Officer number", examples=["330101"])
    object_of_proof: Line | None = Field(None, examples=["占道经营现场"])
    stage: ProcessStage | None = None


class SpanInput(Input):
    """A span of media time, the end not included."""

    from_us: Micros
    to_us: Micros

    @model_validator(mode="after")
    def _forward(self) -> SpanInput:
        if self.to_us <= self.from_us:
            raise ValueError("expected from_us before to_us")
        return self


class BindingRequest(Input):
    """Tie an item to a case: by id or by number."""

    case_id: UUID | None = None
    case_no: str | None = Field(None, max_length=240)
    span: SpanInput | None = None
    reason: Line

    @model_validator(mode="after")
    def _one_case(self) -> BindingRequest:
        if (self.case_id is None) == (self.case_no is None):
            raise ValueError("expected case_id or case_no, one of them")
        return self


class Ending(Input):
    """Why something ends."""

    reason: Line


class SplitPart(Input):
    """One span of a split and the case it belongs to."""

    case_id: UUID
    span: SpanInput


class Split(Input):
    """Replace a binding by spans of their own cases."""

    parts: list[SplitPart] = Field(min_length=2, max_length=100)
    reason: Line


BindingState = Literal["bound", "suggested", "unbound"]
