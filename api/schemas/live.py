"""Watching a session while it is recorded, as the API takes and gives it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from api.live import StreamNow
from api.schemas.common import Input, Line, Output
from api.schemas.rooms import Unregistered
from evidence.kinds import RetrievalPurpose
from evidence.session import State
from transcode.live_encodes import EncodeNow


class LiveRequest(Input):
    """Ask to watch a session while it is recorded."""

    purpose: RetrievalPurpose = Field(description="调阅目的 / Purpose", examples=["supervision"])
    reason: Line = Field(description="所见为原始影像,须说明理由 / What is shown is original: say why")
    unmasked: bool = Field(
        False, description="连同被遮蔽时段一并观看,计入流转 / Show masked stretches as well; custody says so"
    )
    masked: bool = Field(
        False,
        description="只看实时遮挡后的画面;无原件权限者总是如此 / "
        "Only what a live mask leaves; always so without the right to originals",
    )


class LiveStream(Output):
    """One stream of the room."""

    name: str
    lane: int
    state: StreamNow = Field(
        description=(
            "live 有信号;waiting 尚未录到;away 无信号;paused 暂停;over 已结束;not_playable 编码不能播放 / "
            "not_playable: its codec does not play in browsers; not_shown 未设实时遮挡,不予显示 / "
            "no live mask in force shows it"
        )
    )
    codecs: list[str] = Field(description="录制的编码 / As it is recorded", examples=[["h264", "aac"]])
    from_at: datetime | None = Field(description="可回看的起点,空为尚无 / How far one can go back")
    to_at: datetime | None = Field(description="已录到何时 / Up to when it is recorded")
    encode: EncodeNow | None = Field(
        description=(
            "浏览器不能播放的编码由共用的实时转码代为播放:running 转码中;starting 启动中;"
            "reduced 主机跟不上,已降低清晰度;restarting 中断后重启;"
            "busy 转码路数已满;full 磁盘空间留给录制;idle 无人观看。空为不需要 / "
            "The shared encode of what browsers do not play; null: it needs none"
        )
    )
    encode_px: int | None = Field(description="转码画面的行数,原样复制时为空 / Lines of the encoded picture")
    playlist_url: str | None = Field(description="HLS(EVENT);不能播放时为空 / Null where it does not play")


class LiveShown(Output):
    """A live grant, and where to look."""

    grant_id: UUID
    session_id: UUID
    room_no: str
    room_name: str
    session_state: State
    started_at: datetime
    ended_at: datetime | None
    paused_since: datetime | None
    unregistered: Unregistered
    complete_at: datetime | None = Field(description="文件全部入库的时间;空为可能还有 / Null: more may come")
    held_by: list[str] = Field(description="可能还有文件的主机 / Hosts that may still have files of it")
    expires_at: datetime
    unmasked: bool = Field(description="含被遮蔽时段 / Masked stretches are shown")
    masked: bool = Field(description="所见为实时遮挡后的画面 / What is shown is drawn over by live masks")
    masked_since: datetime | None = Field(description="遮蔽中自何时,空为未遮蔽 / Null: nothing is masked now")
    now: datetime = Field(description="服务器时间 / The server's clock, to tell the delay by")
    streams: list[LiveStream]
