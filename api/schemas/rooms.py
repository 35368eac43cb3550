"""Interview rooms and their sessions, as the API takes and gives them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from api.schemas.common import Input, Instant, Line, Number, Output
from evidence.breaks import Cause
from evidence.kinds import GapReason
from evidence.session import MOST_OFFICERS, NoteKind, State
from ingest.recorder.stream import Phase

RoomNo = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,32}$")]
StreamName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,16}$")]


class RoomNow(Output):
    """The session a room has now."""

    session_id: UUID
    started_at: datetime
    paused_since: datetime | None = Field(description="暂停中自何时,空为未暂停 / Null: not paused")


class StreamShown(Output):
    """A stream of a room, as the host that records it said last, every three seconds."""

    name: str
    phase: Phase | None = Field(description="空为无主机报告 / Null: no host has said anything lately")
    away: bool = Field(description="应录而无信号,已告警 / Wanted and away; people were told")
    host: str | None
    since: datetime | None
    why: str | None = Field(description="上次断开原因 / Why the last connection ended")
    silent_ms: int | None = Field(description="距最近数据包毫秒数 / Since the last packet")
    bytes_s: int | None
    pictures_s: float | None
    waiting_bytes: int | None = Field(description="已收未写字节 / Received and not written yet")
    restarts: int | None = Field(description="本次值守以来断开次数 / Connections lost since the host began")
    free_bytes: int | None = Field(description="磁盘余量,不含保留 / Room on its disk above the floor")
    headroom_s: int | None = Field(description="按当前码率可录秒数 / How long that lasts at this rate")
    tracks: list[dict[str, Any]] | None = Field(description="信号内容 / What the source sends")
    copy_lag_bytes: int | None = Field(
        description="已录未入第二份存储的字节;空为无 / Not in the second store yet; null: there is none"
    )
    copy_why: str | None = Field(description="第二份未能复制的原因 / Why nothing is copied now")
    told_at: datetime | None


class GapsToday(Output):
    """What is missing of one stream since midnight, within sessions."""

    count: int
    missing_ms: int


class RoomShown(Output):
    """A room of the settings."""

    room_no: str
    name: str
    place: str
    device_no: str
    pre_record_s: int = Field(description="预录保留秒数,可据此补记开始 / How far back a start can be claimed")
    streams: list[StreamShown]
    session: RoomNow | None = Field(description="空为未在使用 / Null: not in use")
    copies_outstanding: int = Field(
        description="已入库而第二份尚未核对一致的文件数 / Files in custody without a sound second copy yet"
    )


class RoomDetail(RoomShown):
    """The same, with today's gaps by the name of the stream."""

    gaps_today: dict[str, GapsToday]


class SessionFacts(Input):
    """What is stated of a session (R6, R11); what is missing is listed, never refused."""

    case_no: Line | None = None
    place: Line | None = Field(None, description="缺省为该室地点 / Default: where the room is")
    officers: Annotated[list[Number], Field(max_length=MOST_OFFICERS)] | None = Field(
        None, description="人员编号,至少两名 / Officer numbers, two at least", examples=[["330101", "330102"]]
    )
    party: Line | None = Field(None, description="被询问人 / Who is heard")
    object_of_proof: Line | None = None


class SessionStart(Input):
    """Starting a session."""

    room_no: RoomNo = Field(examples=["R-1"])
    started_at: Instant | None = Field(
        None,
        description="由预录补记的实际开始时间;缺省为现在 / True start, claimed from pre-record; default now",
    )
    facts: SessionFacts = Field(default_factory=SessionFacts)


class Marking(Input):
    """A marker at this moment."""

    text: Line = Field(examples=["出示执法证件"])
    key: UUID | None = Field(
        None,
        description="客户端生成;重发即同一标记 / Made by the client; sent again it is the same marker",
    )


class Pausing(Input):
    """Why nothing is to be recorded from now on."""

    reason: GapReason
    statement: Line = Field(examples=["涉及国家秘密,按规定暂停"])


class BreakReason(Input):
    """Why there is a break in a stream."""

    stream: StreamName = Field(examples=["main"])
    from_at: Instant
    to_at: Instant
    reason: GapReason
    statement: Line = Field(examples=["网络设备断电"])


class SessionFactsShown(Output):
    """Facts as they were stated last."""

    case_no: str | None
    place: str | None
    officers: list[str]
    party: str | None
    object_of_proof: str | None


class Unregistered(Output):
    """What was stated and is not registered here: kept as stated, and said."""

    case_no: bool = Field(description="案号未在本机构登记,未关联案件 / No such case here; bound to none")
    officers: list[str] = Field(description="未在本机构登记的人员编号 / Numbers no officer here has")


class SessionShown(Output):
    """A session in a list."""

    id: UUID
    room_no: str
    room_name: str
    state: State
    requested_at: datetime = Field(description="登记开始的时间 / When somebody started it")
    started_at: datetime
    paused_since: datetime | None
    planned_until: datetime | None = Field(description="预定的结束时间 / When its plan says it ends")
    ended_at: datetime | None
    sealed_at: datetime | None
    started_by: str
    ended_by: str | None
    may_read: bool = Field(description="可查看内容 / Whether its content is yours to read")
    case_id: UUID | None
    facts: SessionFactsShown | None = Field(description="无权查看时为空 / Null where it is not yours")
    missing: list[str] = Field(description="未登记事项 / Facts that are missing")
    unregistered: Unregistered | None = Field(
        description="所登记而本机构没有的编号;无权查看时为空 / Null where it is not yours to read"
    )
    complete_at: datetime | None = Field(description="文件全部入库的时间;空为可能还有 / Null: more may come")
    held_by: list[str] = Field(description="可能还有文件的主机 / Hosts that may still have files of it")


class SessionFile(Output):
    """A file of a session's stream."""

    stream: str
    sequence_no: int
    item_id: UUID
    from_at: datetime
    to_at: datetime
    size_bytes: int
    sha256: str
    sm3: str | None = Field(description="校验回读后给出 / Null until it was read back")
    verified: bool
    after_seal: bool = Field(description="封存后补入 / Found after the seal")


class SessionNoteShown(Output):
    """What somebody noted."""

    id: UUID
    kind: NoteKind
    zh: str
    en: str
    at: datetime
    by: str
    text: str
    reason: GapReason | None
    stream: str | None
    from_at: datetime | None
    to_at: datetime | None
    point: str | None = Field(description="所涉核对事项 / Point of the checklist it is about")


class BreakReasonShown(Output):
    """Why a break is there, as somebody stated it."""

    reason: GapReason | None
    statement: str
    by: str
    at: datetime


class BreakShown(Output):
    """Something missing of a stream, or told of it, the end not included."""

    stream: str
    cause: Cause
    zh: str
    en: str
    from_at: datetime
    to_at: datetime
    length_ms: int = Field(description="缺失毫秒数 / Milliseconds that are missing")
    is_missing: bool = Field(description="假:仅提示 / False: told only")
    is_explained: bool
    track: int | None = Field(description="所涉画面或声音流,空为全部 / Picture or sound stream; null: all")
    count: int
    reasons: list[BreakReasonShown]


class BreakLogShown(Output):
    """The break log of a session."""

    session_id: UUID
    state: State
    started_at: datetime
    ended_at: datetime | None
    breaks: list[BreakShown]
    next_cursor: str | None = Field(description="下一页游标,空为末页 / For the next page; null on the last")
    missing_ms: dict[str, int] = Field(description="各流缺失合计 / By stream, no instant twice")
    unexplained: int = Field(description="尚未说明的条数 / How many nobody explained")


class SessionDetail(SessionShown):
    """A session with what belongs to it."""

    unregistered: Unregistered
    device_no: str
    streams: list[str]
    files: list[SessionFile]
    notes: list[SessionNoteShown]
    manifest_sha256: str | None = Field(description="封存清单摘要 / Of the sealed list; null: not sealed")
