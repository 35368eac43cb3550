"""Hiding a stretch of a session in all that is made of it.

Where two use cases meet: the mask is of the session (`ingest.recorder.masks`), what it hides is in the
redaction plans of the session's files (`storage.hiding`). One transaction: from its commit on
nothing that was made before is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from api.auth.gate import Gate
from api.auth.rights import require_session
from api.auth.seat import DeskOf
from api.desk import Work
from api.schemas.session_masks import Masking, MaskShown
from evidence.access import Act
from evidence.masks import HIDES_WORDS, Hides, Reason
from ingest.recorder import masks
from storage.db import sessions
from storage.db.room_tables import RoomSession, SessionMask
from storage.db.session_masks import ends_at, masks_of
from storage.hiding import hide

gate = Gate("办案场所 Rooms")


@gate.get(
    "/room-sessions/{session_id}/masks",
    Act.READ_SESSIONS,
    problems=(404,),
    summary="遮蔽时段 Masked stretches",
)
def list_masks(session_id: UUID, desk: DeskOf) -> list[MaskShown]:
    """按起始时间。By when they begin."""
    with desk.reading() as work:
        row = _session(work, session_id, Act.READ_SESSIONS)
        return [_shown(row, each) for each in masks_of(work.session, work.agency_id, [row.id])]


@gate.post(
    "/room-sessions/{session_id}/masks",
    Act.RUN_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="遮蔽 Mask",
)
def mask(session_id: UUID, body: Masking, desk: DeskOf) -> MaskShown:
    """会话中或结束后,遮蔽一段画面、声音或两者;原件不变。已提供的脱敏件立即停止提供,重新生成后恢复。

    While it runs or after: picture, sound or both of all streams. The original stays as it is; what was shown
    masked is withdrawn at once, and served again once it hides this too.
    """
    with desk.writing() as work:
        row = _session(work, session_id, Act.RUN_SESSIONS)
        made = masks.mask(
            work.session, work.agency, session_id, body.hides, body.reason, body.statement,
            from_at=body.from_at, to_at=body.to_at, actor=work.actor.label, now=work.now,
        )  # fmt: skip
        return _shown(row, made, hide(work.session, work.agency, session_id, work.actor.label, work.now))


@gate.post(
    "/room-sessions/{session_id}/masks/{mask_id}/end",
    Act.RUN_SESSIONS,
    problems=(404, 409),
    summary="结束遮蔽 End a mask",
)
def end(session_id: UUID, mask_id: UUID, desk: DeskOf) -> MaskShown:
    """至此刻为止;此前的遮蔽不变。Until now; what it hid stays hidden."""
    with desk.writing() as work:
        row = _session(work, session_id, Act.RUN_SESSIONS)
        actor, now = work.actor.label, work.now
        return _shown(row, masks.end(work.session, work.agency, session_id, mask_id, actor=actor, now=now))


def _session(work: Work, session_id: UUID, act: Act) -> RoomSession:
    row = sessions.session_by_id(work.session, work.agency_id, session_id, lock=act is Act.RUN_SESSIONS)
    require_session(work, row, act)
    return row


def _shown(of: RoomSession, row: SessionMask, items: Sequence[UUID] = ()) -> MaskShown:
    zh, en = HIDES_WORDS[Hides(row.hides)]
    return MaskShown(
        id=row.id, hides=Hides(row.hides), zh=zh, en=en, reason=Reason(row.reason), statement=row.text,
        from_at=row.from_at, to_at=ends_at(row, of), by=row.by, ended_by=row.ended_by, made_at=row.made_at,
        items=list(items),
    )  # fmt: skip
