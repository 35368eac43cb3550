"""Watching the session of a room while it is recorded."""

from __future__ import annotations

import time
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Query, Request, Response

from api import live
from api.auth.capability import Use, mint, unfold
from api.auth.gate import Gate, Open
from api.auth.seat import DeskOf
from api.desk import InstallationOf, Work
from api.routes.playlists import PLAYLIST, PlaylistResponse, Token, answer_playlist
from api.schemas.live import LiveRequest, LiveShown, LiveStream
from api.schemas.rooms import Unregistered
from evidence.access import Act, may
from evidence.errors import NotFound, NotPermitted
from evidence.session import State
from ingest.recorder import registry
from storage.db import sessions
from storage.db.room_tables import LiveGrant, RoomSession

gate = Gate("办案场所 Rooms")
LiveLane = Annotated[int, Path(ge=0, le=99)]


@gate.post(
    "/room-sessions/{session_id}/live-grants",
    Act.WATCH_LIVE,
    status_code=201,
    problems=(404, 409),
    summary="申请实时观看 Ask to watch a session live",
)
def ask(session_id: UUID, body: LiveRequest, desk: DeskOf) -> LiveShown:
    """录制中(或文件尚未全部入库)的会话;须有目的与理由;每路一个播放列表,可回看至开头。无原件权限者仅在设有实时遮挡时可看遮挡后的画面。

    A session that is recorded, or whose files are not all items yet; by the right to originals, purpose and
    reason. A playlist for each stream, from the session's beginning until now; of what browsers do not play
    from where its shared encode began. Without that right: what a live mask leaves, drawn over and encoded
    anew, from when it was set. The recording is untouched.
    """
    with desk.writing() as work:
        row = sessions.session_by_id(work.session, work.agency_id, session_id)
        grant_id = live.issue(
            work, row, body.purpose, body.reason, is_unmasked=body.unmasked, is_masked=body.masked
        ).id
    read_ns = time.monotonic_ns()
    with desk.reading() as work:
        grant, row = live.in_force(work.session, work.agency_id, grant_id, work.now)
        live.begin_encodes(work, row, grant, read_ns)
        return _show(work, row, grant)


@gate.get("/live-grants/{grant_id}", Act.WATCH_LIVE, problems=(404, 410), summary="实时观看状态 A live grant")
def get_live_grant(grant_id: UUID, desk: DeskOf) -> LiveShown:
    """本人的授权,含各路当前状态。One's own, with each stream as it stands now."""
    with desk.reading() as work:
        _require_own(work, live.own(work, grant_id))
        grant, row = live.in_force(work.session, work.agency_id, grant_id, work.now)
        return _show(work, row, grant)


@gate.delete(
    "/live-grants/{grant_id}",
    Act.WATCH_LIVE,
    status_code=204,
    problems=(404,),
    summary="结束实时观看 End it",
)
def revoke(grant_id: UUID, desk: DeskOf) -> Response:
    """本人、法制审核或档案人员可撤销,立即生效。Its holder, legal review or the archive; at once."""
    with desk.writing() as work:
        grant = live.own(work, grant_id, lock=True)
        _require_own(work, grant, also=Act.SEE_ORIGINAL)
        live.revoke(work, grant)
    return Response(status_code=204)


@gate.get(
    "/playlists/{token}/live-{lane}.m3u8",
    Open.CAPABILITY,
    problems=(404, 410, 503),
    response_class=PlaylistResponse,
    responses=PLAYLIST,
    summary="实时播放列表 Playlist of a stream that is recorded",
)
def playlist(
    token: Token,
    lane: LiveLane,
    request: Request,
    installation: InstallationOf,
    skip: Annotated[
        Literal["YES"] | None,
        Query(alias="_HLS_skip", description="只取新增部分 / What is new alone (RFC 8216bis, 6.2.5.1)"),
    ] = None,
) -> Response:
    """EVENT 列表,自会话开始起,只增不改;中断处为不连续点并注明时刻。`_HLS_skip=YES` 只列最近部分。

    An EVENT list from the session's beginning on. What was not recorded is a discontinuity with a date. With
    `_HLS_skip=YES` segments older than CAN-SKIP-UNTIL are counted instead of listed.
    """
    now = installation.storage.clock.now()
    capability = unfold(installation.storage.keys, token, now)
    if capability.use is not Use.LIVE:
        raise NotFound("address: expected one of a live grant, found another", code="capability_unknown")
    text = live.playlist(
        installation,
        capability.agency_id,
        capability.subject_id,
        lane,
        now,
        is_update=skip is not None,
    )
    return answer_playlist(text, request)


def _require_own(work: Work, grant: LiveGrant, also: Act | None = None) -> None:
    if grant.account_id != work.actor.account_id and not (also is not None and may(work.actor, also)):
        raise NotPermitted("grant: expected your own, found another's", code="grant_not_yours")


def _show(work: Work, row: RoomSession, grant: LiveGrant) -> LiveShown:
    token = mint(work.storage.keys, Use.LIVE, work.agency_id, grant.id, grant.expires_at)
    return LiveShown(
        grant_id=grant.id,
        session_id=row.id,
        room_no=row.room_no,
        room_name=row.room_name,
        session_state=State(row.state),
        started_at=row.started_at,
        ended_at=row.ended_at,
        paused_since=row.paused_since,
        unregistered=Unregistered(**registry.unregistered(work.session, work.agency, row).to_json()),
        complete_at=row.complete_at,
        held_by=row.held_by,
        expires_at=grant.expires_at,
        unmasked=grant.is_unmasked,
        masked=grant.is_masked,
        masked_since=live.masked_since(work, row),
        now=work.now,
        streams=[
            LiveStream(
                name=each.name,
                lane=each.lane,
                state=each.state,
                codecs=list(each.codecs),
                from_at=each.from_at,
                to_at=each.to_at,
                playlist_url=None
                if each.state in {"not_playable", "not_shown"}
                else f"/api/v1/playlists/{token}/live-{each.lane}.m3u8",
                encode=each.encode,
                encode_px=each.encode_px,
            )
            for each in live.standings(work, row, grant)
        ],
    )
