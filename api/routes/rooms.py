"""Interview rooms: which there are, and their sessions, from the start to the seal."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from fastapi.responses import Response

from api.auth.gate import Gate
from api.auth.rights import SessionRights, require_session
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.common import PAGE_DEFAULT, Limit, Page, read_place_cursor, read_time_cursor, write_cursor
from api.schemas.rooms import (
    BreakLogShown,
    BreakReason,
    BreakReasonShown,
    BreakShown,
    GapsToday,
    Marking,
    Pausing,
    RoomDetail,
    RoomNo,
    RoomNow,
    RoomShown,
    SessionDetail,
    SessionFacts,
    SessionFactsShown,
    SessionFile,
    SessionNoteShown,
    SessionShown,
    SessionStart,
    StreamShown,
    Unregistered,
)
from config.rooms import RoomSettings
from evidence.access import Act
from evidence.breaks import CAUSE_WORDS, Break, missing_us
from evidence.clock import from_micros
from evidence.kinds import GapReason
from evidence.session import NOTE_WORDS, Facts, NoteKind, State
from ingest.recorder import registry, sealing, sessions
from ingest.recorder import sheet as sheets
from ingest.recorder.sessions import Told
from storage.db import second_copies
from storage.db import sessions as rows
from storage.db.room_tables import RoomSession, SessionNote

gate = Gate("办案场所 Rooms")
MOST_BREAKS = 1000
"""Of a page: a camera that loses a packet a second has thousands of them in a session."""


@gate.get("/rooms", Act.SEE_ROOMS, summary="询问室列表 Rooms")
def list_rooms(desk: DeskOf) -> list[RoomShown]:
    """设置中的询问室及是否在用;不含会话内容。Rooms of the settings and whether each is in use; no content."""
    with desk.reading() as work:
        return _rooms(work, registry.rooms_of(work.session, work.agency, work.settings.recorder.rooms))


@gate.get("/rooms/{room_no}", Act.SEE_ROOMS, problems=(404,), summary="询问室 A room")
def get_room(room_no: RoomNo, desk: DeskOf) -> RoomDetail:
    """各路信号状态,及当日会话中缺失的时段。What its streams do, and what today's sessions lack."""
    with desk.reading() as work:
        room = registry.room_of(work.session, work.agency, work.settings.recorder.rooms, room_no)
        (shown,) = _rooms(work, [room])
        gaps: dict[str, list[Break]] = {stream.name: [] for stream in shown.streams}
        for each in registry.gaps_today(work.session, work.agency, room_no, work.now):
            gaps.setdefault(each.stream, []).append(each)
        return RoomDetail(
            **dict(shown),
            gaps_today={
                name: GapsToday(count=len(found), missing_ms=sum(each.length_ms for each in found))
                for name, found in gaps.items()
            },
        )


@gate.post(
    "/room-sessions",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="开始会话 Start a session",
)
def start(body: SessionStart, desk: DeskOf) -> SessionDetail:
    """现在开始,或由预录补记实际开始时间;缺项列出,不予拒绝。

    From now, or with its true time from what the room keeps beforehand. What is missing of R6 and R11, or not
    registered here, is listed, never refused.
    """
    with desk.writing() as work:
        room = registry.room_of(work.session, work.agency, work.settings.recorder.rooms, body.room_no)
        row = sessions.start(
            work.session,
            work.agency,
            room,
            facts=body.facts.model_dump(exclude_none=True),
            started_at=body.started_at,
            actor=work.actor.label,
            now=work.now,
        )
        return _detail(work, row)


@gate.get("/room-sessions", Act.READ_SESSIONS, summary="会话列表 Sessions")
def list_sessions(
    desk: DeskOf,
    room_no: RoomNo | None = None,
    state: State | None = None,
    case_id: UUID | None = None,
    complete: Annotated[
        bool | None,
        Query(description="文件是否已全部入库,进行中的为否 / All of its files are in; no while it lasts"),
    ] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Page[SessionShown]:
    """新的在前;非本人的不显示登记事项。Newest first; facts only of what is yours to read."""
    after = read_time_cursor(cursor)
    with desk.reading() as work:
        found = rows.page_of_sessions(
            work.session,
            work.agency_id,
            room_no=room_no,
            state=state,
            case_id=case_id,
            is_complete=complete,
            after=after,
            limit=limit + 1,
        )
        shown = found[:limit]
        rights = SessionRights(work, shown)
        return Page(
            items=[SessionShown(**each) for each in _plain(work, shown, rights)],
            next_cursor=write_cursor(shown[-1].started_at, shown[-1].id) if len(found) > limit else None,
        )


@gate.get("/room-sessions/{session_id}", Act.READ_SESSIONS, problems=(404,), summary="会话 A session")
def get_session(session_id: UUID, desk: DeskOf) -> SessionDetail:
    """登记事项、文件及摘要、标记与暂停。Facts, files with digests, markers and pauses."""
    with desk.reading() as work:
        return _detail(work, _read(work, session_id))


@gate.get(
    "/room-sessions/{session_id}/breaks", Act.READ_SESSIONS, problems=(404,), summary="中断记录 Break log"
)
def breaks(
    session_id: UUID,
    desk: DeskOf,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_BREAKS, description="每页条数 / Rows a page")] = MOST_BREAKS,
) -> BreakLogShown:
    """会话起止之间未录到的时段,精确到毫秒,附原因(R2、L15);合计为全部,不限本页。

    What of each stream is missing between start and end, to the millisecond, and why (R2, L15). The totals
    are of all of it, not of the page.
    """
    first = read_place_cursor(cursor)
    with desk.reading() as work:
        told = sessions.tell(work.session, work.agency_id, _read(work, session_id))
        return _log(told, first, limit)


@gate.post("/room-sessions/{session_id}/stop", Act.RUN_SESSIONS, problems=(404, 409), summary="结束 Stop")
def stop(session_id: UUID, desk: DeskOf) -> SessionDetail:
    """暂停中亦可结束。One that is paused ends in its pause."""
    with desk.writing() as work:
        _run(work, session_id)
        row = sessions.stop(work.session, work.agency, session_id, actor=work.actor.label, now=work.now)
        return _detail(work, row)


@gate.post(
    "/room-sessions/{session_id}/markers",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="标记 Mark",
)
def mark(session_id: UUID, body: Marking, desk: DeskOf) -> SessionNoteShown:
    """按服务器时间记于此刻;带同一 `key` 重发返回首次的标记。

    At this moment, by the server's clock. Sent again with the same `key`, after a lost answer, it is the
    marker of the first time.
    """
    with desk.writing() as work:
        _run(work, session_id)
        return _note(
            sessions.mark(
                work.session,
                work.agency,
                session_id,
                body.text,
                key=body.key,
                actor=work.actor.label,
                now=work.now,
            )
        )


@gate.post("/room-sessions/{session_id}/pause", Act.RUN_SESSIONS, problems=(404, 409), summary="暂停 Pause")
def pause(session_id: UUID, body: Pausing, desk: DeskOf) -> SessionNoteShown:
    """须说明理由,计入中断记录。With a reason; it stands in the break log."""
    with desk.writing() as work:
        _run(work, session_id)
        return _note(
            sessions.pause(
                work.session,
                work.agency,
                session_id,
                body.reason,
                body.statement,
                actor=work.actor.label,
                now=work.now,
            )
        )


@gate.post("/room-sessions/{session_id}/resume", Act.RUN_SESSIONS, problems=(404, 409), summary="继续 Resume")
def resume(session_id: UUID, desk: DeskOf) -> SessionNoteShown:
    """结束暂停。Ends a pause."""
    with desk.writing() as work:
        _run(work, session_id)
        return _note(
            sessions.resume(work.session, work.agency, session_id, actor=work.actor.label, now=work.now)
        )


@gate.patch(
    "/room-sessions/{session_id}/facts",
    Act.RUN_SESSIONS,
    problems=(404, 409),
    summary="登记或更改事项 State facts",
)
def state_facts(session_id: UUID, body: SessionFacts, desk: DeskOf) -> SessionDetail:
    """封存前可随时登记;已入库文件的缺项随之补齐。

    Until the seal; what files that are in lack of them is filled in. A null takes one back.
    """
    with desk.writing() as work:
        _run(work, session_id)
        row = sessions.state_facts(
            work.session,
            work.agency,
            session_id,
            body.model_dump(exclude_unset=True),
            actor=work.actor.label,
            now=work.now,
        )
        return _detail(work, row)


@gate.post(
    "/room-sessions/{session_id}/reasons",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="说明中断原因 State the reason of a break",
)
def give_reason(session_id: UUID, body: BreakReason, desk: DeskOf) -> SessionNoteShown:
    """只增不改,留账号与时间。Added, never changed."""
    with desk.writing() as work:
        _run(work, session_id)
        return _note(
            sessions.give_reason(
                work.session,
                work.agency,
                session_id,
                stream=body.stream,
                from_at=body.from_at,
                to_at=body.to_at,
                reason=body.reason,
                text=body.statement,
                actor=work.actor.label,
                now=work.now,
            )
        )


@gate.post("/room-sessions/{session_id}/seal", Act.RUN_SESSIONS, problems=(404, 409), summary="封存 Seal")
def seal(session_id: UUID, desk: DeskOf) -> SessionDetail:
    """全部文件入库并回读一致后方可封存;清单由系统签名(L17)。

    Once every file is in and was read back; the list of files and digests is signed (L17).
    """
    with desk.writing() as work:
        _run(work, session_id)
        row = sealing.seal(
            work.session,
            work.agency,
            session_id,
            work.storage.keys,
            actor=work.actor.label,
            now=work.now,
        )
        return _detail(work, row)


@gate.get(
    "/room-sessions/{session_id}/sheet",
    Act.READ_SESSIONS,
    problems=(404, 409),
    response_model=dict[str, Any],
    responses={200: {"content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}}},
    summary="结束单 End sheet",
)
def end_sheet(
    session_id: UUID,
    desk: DeskOf,
    form: Annotated[
        Literal["json", "pdf"], Query(description="数据或可打印页面 / Data, or pages to print")
    ] = "json",
) -> Any:
    """录制与中断情况、全部摘要、检查点及签名栏(L16、L17);数据带签名。页面为图像。

    What was recorded, breaks, every digest, the checkpoint and lines to sign (L16, L17). The data is signed;
    the pages are pictures.
    """
    with desk.reading() as work:
        row = _read(work, session_id)
        sheet = sheets.end_sheet(work.session, work.agency, row.id, work.storage.keys, work.now)
        zone = work.agency.time_zone
    if form == "json":
        return sheet
    headers = {"Content-Disposition": f'attachment; filename="session-{row.id}.pdf"'}
    return Response(sheets.as_pages(sheet, zone, work.now), media_type="application/pdf", headers=headers)


def _read(work: Work, session_id: UUID) -> RoomSession:
    row = rows.session_by_id(work.session, work.agency_id, session_id)
    require_session(work, row, Act.READ_SESSIONS)
    return row


def _run(work: Work, session_id: UUID) -> None:
    """Hold a session that is the actor's to run: who conducts it is not changed meanwhile."""
    row = rows.session_by_id(work.session, work.agency_id, session_id, lock=True)
    require_session(work, row, Act.RUN_SESSIONS)


def _rooms(work: Work, found: Sequence[RoomSettings]) -> list[RoomShown]:
    lasting = {row.room_no: row for row in rows.all_open(work.session, work.agency_id)}
    streams = registry.streams_now(work.session, work.agency, found, work.now)
    uncopied = second_copies.count_uncopied(work.session, work.agency_id)
    return [
        RoomShown(
            room_no=room.room_no,
            name=room.name,
            place=room.place or room.name,
            device_no=room.recorded_as,
            pre_record_s=room.pre_record_s,
            streams=[StreamShown(**stream.facts()) for stream in streams[room.room_no]],
            session=_now(lasting.get(room.room_no)),
            copies_outstanding=uncopied.get(room.room_no, 0),
        )
        for room in found
    ]


def _now(row: RoomSession | None) -> RoomNow | None:
    if row is None:
        return None
    return RoomNow(session_id=row.id, started_at=row.started_at, paused_since=row.paused_since)


def _plain(work: Work, rows: Sequence[RoomSession], rights: SessionRights) -> list[dict[str, Any]]:
    """What a list shows of sessions, in their order."""
    readable = [row for row in rows if rights.has(row, Act.READ_SESSIONS)]
    unknown = registry.unregistered_of(work.session, work.agency, readable)
    return [_row(row, unknown.get(row.id)) for row in rows]


def _row(row: RoomSession, unknown: registry.Unregistered | None) -> dict[str, Any]:
    facts, may_read = Facts.from_json(row.facts), unknown is not None
    return {
        "id": row.id,
        "room_no": row.room_no,
        "room_name": row.room_name,
        "state": State(row.state),
        "requested_at": row.requested_at,
        "started_at": row.started_at,
        "paused_since": row.paused_since,
        "planned_until": row.planned_until,
        "ended_at": row.ended_at,
        "sealed_at": row.sealed_at,
        "started_by": row.started_by,
        "ended_by": row.ended_by,
        "may_read": may_read,
        "case_id": row.case_id if may_read else None,
        "facts": SessionFactsShown(**facts.to_json()) if may_read else None,
        "missing": facts.missing(),
        "unregistered": None if unknown is None else Unregistered(**unknown.to_json()),
        "complete_at": row.complete_at,
        "held_by": row.held_by,
    }


def _detail(work: Work, row: RoomSession) -> SessionDetail:
    told = sessions.tell(work.session, work.agency_id, row)
    return SessionDetail(
        **_plain(work, [row], SessionRights(work, [row]))[0],
        device_no=row.device_no,
        streams=row.streams,
        files=[
            SessionFile(item_id=UUID(each["item"]), **{name: each[name] for name in each if name != "item"})
            for each in sealing.files_of(work.session, work.agency_id, told)
        ],
        notes=[_note(note) for note in told.notes],
        manifest_sha256=sha256(row.manifest.encode()).hexdigest() if row.manifest else None,
    )


def _note(row: SessionNote) -> SessionNoteShown:
    zh, en = NOTE_WORDS[NoteKind(row.kind)]
    return SessionNoteShown(
        id=row.id,
        kind=NoteKind(row.kind),
        zh=zh,
        en=en,
        at=row.at,
        by=row.by,
        text=row.text,
        reason=GapReason(row.reason) if row.reason else None,
        stream=row.stream,
        from_at=row.from_at,
        to_at=row.to_at,
        point=row.point,
    )


def _log(told: Told, first: int, limit: int) -> BreakLogShown:
    last = first + limit
    return BreakLogShown(
        session_id=told.row.id,
        state=State(told.row.state),
        started_at=told.row.started_at,
        ended_at=told.row.ended_at,
        breaks=_breaks(told.breaks[first:last]),
        next_cursor=write_cursor(last) if last < len(told.breaks) else None,
        missing_ms={stream: us // 1000 for stream, us in missing_us(told.breaks).items()},
        unexplained=sum(not each.is_explained for each in told.breaks),
    )


def _breaks(found: Sequence[Break]) -> list[BreakShown]:
    return [
        BreakShown(
            stream=each.stream,
            cause=each.cause,
            zh=CAUSE_WORDS[each.cause][0],
            en=CAUSE_WORDS[each.cause][1],
            from_at=from_micros(each.from_us),
            to_at=from_micros(each.to_us),
            length_ms=each.length_ms,
            is_missing=each.is_missing,
            is_explained=each.is_explained,
            track=each.track,
            count=each.count,
            reasons=[
                BreakReasonShown(
                    reason=note.reason, statement=note.text, by=note.by, at=from_micros(note.at_us)
                )
                for note in each.reasons
            ],
        )
        for each in found
    ]
