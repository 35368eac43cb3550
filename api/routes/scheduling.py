"""What begins sessions besides people on the spot: plans that are kept, and recorders that call."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Body, Header, Query
from fastapi.responses import Response

from api.auth.calling import CallerOf
from api.auth.gate import Gate, Open
from api.auth.rights import SessionRights, require_session
from api.auth.seat import DeskOf
from api.desk import InstallationOf, Work
from api.schemas.common import PAGE_MOST
from api.schemas.rooms import RoomNo, SessionFactsShown
from api.schemas.scheduling import Planning, PlanShown, TriggerCalled, TriggerCalling
from evidence.access import Act
from evidence.schedule import instant_of
from evidence.session import TriggerAction
from ingest.recorder import registry, schedule, triggers
from storage.db import agencies, planned_sessions
from storage.db.room_tables import PlannedSession

gate = Gate("办案场所 Rooms")


@gate.post(
    "/planned-sessions",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="预定会话 Plan a session",
)
def plan(body: Planning, desk: DeskOf) -> PlanShown:
    """到时自行开始;该室已有预定人有权主持的会话的,即为该会话;缺项列出,不予拒绝。

    It begins by itself; one that runs then and that you may run is the one. What is missing of R6 and R11 is
    listed, never refused.
    """
    with desk.writing() as work:
        zone = body.time_zone or work.agency.time_zone
        row = schedule.plan(
            work.session,
            work.agency,
            registry.room_of(work.session, work.agency, work.settings.recorder.rooms, body.room_no),
            starts_at=instant_of(body.starts_at, zone, "starts_at"),
            ends_at=instant_of(body.ends_at, zone, "ends_at"),
            time_zone=zone,
            ends_itself=body.ends_itself,
            facts=body.facts.model_dump(exclude_none=True),
            actor=work.actor.label,
            now=work.now,
        )
        return _shown(work, row, SessionRights(work, [row]))


@gate.get("/planned-sessions", Act.SEE_ROOMS, summary="预定的会话 Planned sessions")
def list_plans(
    desk: DeskOf,
    room_no: RoomNo | None = None,
    days: Annotated[int, Query(ge=0, le=366, description="另含此前几天的 / And those of days before")] = 0,
) -> list[PlanShown]:
    """按时间先后,至多 200 条;非本人的不显示登记事项。

    By their time, 200 at most; facts only of what is yours.
    """
    with desk.reading() as work:
        found = planned_sessions.plans_from(
            work.session,
            work.agency_id,
            since=work.now - timedelta(days=days),
            room_no=room_no,
            limit=PAGE_MOST,
        )
        rights = SessionRights(work, found)
        return [_shown(work, row, rights) for row in found]


@gate.delete(
    "/planned-sessions/{plan_id}",
    Act.RUN_SESSIONS,
    status_code=204,
    problems=(404, 409),
    summary="撤销预定 Withdraw a plan",
)
def withdraw(plan_id: UUID, desk: DeskOf) -> Response:
    """已开始的不能撤销。Not one that has begun."""
    with desk.writing() as work:
        row = planned_sessions.plan_by_id(work.session, work.agency_id, plan_id, lock=True)
        require_session(work, row, Act.RUN_SESSIONS)
        schedule.withdraw(work.session, work.agency, plan_id, actor=work.actor.label, now=work.now)
    return Response(status_code=204)


@gate.post("/room-triggers/{action}", Open.TRIGGER, summary="录像机触发 A recorder calls")
def call(
    action: TriggerAction,
    installation: InstallationOf,
    caller: CallerOf,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=r"^[A-Za-z0-9._-]{1,64}$",
            description="录像机生成;重发不再执行 / Made by the recorder; sent again nothing is done again",
        ),
    ] = None,
    body: Annotated[TriggerCalling | None, Body()] = None,
) -> TriggerCalled:
    """以该室密钥开始、结束、暂停、继续或标记;留痕为录像机所为。正文可省略。

    By the room's key: starts, stops, pauses, resumes or marks; on record as the recorder's doing. The body
    may be left out.
    """
    said = body or TriggerCalling()
    with installation.storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, caller.agency_id)
        room = registry.room_of(session, agency, installation.settings.recorder.rooms, caller.room_no)
        came_to = triggers.call(
            session,
            agency,
            room,
            caller.trigger_id,
            action,
            call_key=key,
            reason=said.reason,
            text=said.text,
            now=installation.storage.clock.now(),
        )
    return TriggerCalled(
        action=action, room_no=room.room_no, session_id=came_to.session_id, changed=came_to.changed
    )


def _shown(work: Work, row: PlannedSession, rights: SessionRights) -> PlanShown:
    rooms = registry.rooms_of(work.session, work.agency, work.settings.recorder.rooms)
    room = next((each for each in rooms if each.room_no == row.room_no), None)
    may_read = rights.has(row, Act.READ_SESSIONS)
    return PlanShown(
        id=row.id,
        room_no=row.room_no,
        state=schedule.state_at(row, work.now),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        time_zone=row.time_zone,
        ends_itself=row.ends_itself,
        planned_by=row.planned_by,
        planned_at=row.planned_at,
        session_id=row.session_id,
        may_read=may_read,
        facts=SessionFactsShown(**row.facts) if may_read else None,
        missing=schedule.missing_of(row, room),
    )
