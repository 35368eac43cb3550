"""The checklist of a session: what must be said and seen in its recording (R11)."""

from __future__ import annotations

from uuid import UUID

from api.auth.gate import Gate
from api.auth.rights import require_session
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.conduct import ChecklistShown, PointPlace, PointReason, PointShowing, PointShown
from evidence.access import Act
from evidence.clock import from_micros
from ingest.recorder import conduct
from ingest.recorder.conduct import Checked
from storage.db import sessions as rows
from storage.db.room_tables import RoomSession

gate = Gate("办案场所 Rooms")


@gate.get(
    "/room-sessions/{session_id}/checklist", Act.READ_SESSIONS, problems=(404,), summary="核对清单 Checklist"
)
def get_checklist(session_id: UUID, desk: DeskOf) -> ChecklistShown:
    """应当录入的事项、各自的时刻与位置(R11)。What must be on record, when it is, and where (R11)."""
    with desk.reading() as work:
        return _checklist(work, rows.session_by_id(work.session, work.agency_id, session_id))


@gate.post(
    "/room-sessions/{session_id}/points",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="勾选已录入 Tick a point",
)
def tick(session_id: UUID, body: PointShowing, desk: DeskOf) -> ChecklistShown:
    """只增不改,以最新一条为准;封存前均可。Added, never changed; the newest counts. Until the seal."""
    with desk.writing() as work:
        row = _run(work, session_id)
        conduct.note_shown(
            work.session,
            work.agency,
            session_id,
            body.point,
            at=body.at,
            text=body.text,
            key=body.key,
            actor=work.actor.label,
            now=work.now,
        )
        return _checklist(work, row)


@gate.post(
    "/room-sessions/{session_id}/point-reasons",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="说明未录入的理由 Why a point is not shown",
)
def give_reason(session_id: UUID, body: PointReason, desk: DeskOf) -> ChecklistShown:
    """亦用于撤回误勾。Also takes back what was ticked by mistake."""
    with desk.writing() as work:
        row = _run(work, session_id)
        conduct.note_not_shown(
            work.session,
            work.agency,
            session_id,
            body.point,
            body.statement,
            actor=work.actor.label,
            now=work.now,
        )
        return _checklist(work, row)


def _run(work: Work, session_id: UUID) -> RoomSession:
    row = rows.session_by_id(work.session, work.agency_id, session_id, lock=True)
    require_session(work, row, Act.RUN_SESSIONS)
    return row


def _checklist(work: Work, row: RoomSession) -> ChecklistShown:
    require_session(work, row, Act.READ_SESSIONS)
    notes = rows.notes_of(work.session, work.agency_id, row.id)
    parts = rows.parts_of(work.session, work.agency_id, row.id)
    found = conduct.checklist(row, notes, parts)
    return ChecklistShown(
        session_id=row.id,
        points=[_point(each) for each in found],
        open=[each.noted.point.code for each in found if each.noted.note is None],
    )


def _point(each: Checked) -> PointShown:
    point, note = each.noted.point, each.noted.note
    return PointShown(
        point=point.code,
        zh=point.zh,
        en=point.en,
        is_shown=each.noted.is_shown,
        at=each.at,
        offset_ms=each.offset_ms,
        places=[PointPlace.model_validate(place.to_json()) for place in each.places],
        text="" if note is None else note.text,
        by=None if note is None else note.by,
        noted_at=None if note is None else from_micros(note.at_us),
    )
