"""What of a session may be watched live without the right to originals: set, lifted, looked at.

Whoever sets it has that right: it decides what others see. Whoever runs the session may lift it.
"""

from __future__ import annotations

from uuid import UUID

from api import live
from api.auth.gate import Gate
from api.auth.rights import SessionRights, require_live, require_session
from api.auth.seat import DeskOf
from api.schemas.live_masks import CoverShown, LiveMasking, LiveMaskLifting, LiveMaskShown
from evidence.access import Act
from ingest.recorder import live_masks
from storage.db import sessions
from storage.db.live_masks import covers_of, live_masks_of
from storage.db.room_tables import LiveMaskRow

gate = Gate("办案场所 Rooms")


@gate.get(
    "/room-sessions/{session_id}/live-masks",
    Act.READ_SESSIONS,
    problems=(404,),
    summary="实时遮挡 Live masks",
)
def list_live_masks(session_id: UUID, desk: DeskOf) -> list[LiveMaskShown]:
    """按设置先后,最后一条有效。In the order they were set; the last is in force."""
    with desk.reading() as work:
        row = sessions.session_by_id(work.session, work.agency_id, session_id)
        require_session(work, row, Act.READ_SESSIONS)
        return [_shown(each) for each in live_masks_of(work.session, work.agency_id, row.id)]


@gate.post(
    "/room-sessions/{session_id}/live-masks",
    Act.READ_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="设实时遮挡 Set a live mask",
)
def set_live_mask(session_id: UUID, body: LiveMasking, desk: DeskOf) -> LiveMaskShown:
    """从现在起,无原件权限者可实时观看所列各路遮挡后的画面,取代先前的遮挡;声音缺省静音。须有原件权限,并在录制的主机上设置。

    From now on; it takes the place of the one before. By the right to originals, on the host that records:
    its clock says from when on. Nothing recorded before is shown.
    """
    with desk.writing() as work:
        row = sessions.session_by_id(work.session, work.agency_id, session_id, lock=True)
        require_live(work, row)
        live.require_here(work.session, desk.installation, row, work.now)
        covers = {name: each.cover() for name, each in body.streams.items()}
        return _shown(
            live_masks.set_live_mask(
                work.session,
                work.agency,
                session_id,
                covers,
                body.statement,
                actor=work.actor.label,
                now=work.now,
            )
        )


@gate.post(
    "/room-sessions/{session_id}/live-masks/lift",
    Act.READ_SESSIONS,
    status_code=201,
    problems=(404, 409),
    summary="取消实时遮挡观看 Lift it",
)
def lift_live_mask(session_id: UUID, body: LiveMaskLifting, desk: DeskOf) -> LiveMaskShown:
    """无原件权限者立即不能再观看,已录部分亦然。有原件权限者或会话的办理人均可。

    At once, also what was recorded under it. By whoever may set one, or runs the session.
    """
    with desk.writing() as work:
        row = sessions.session_by_id(work.session, work.agency_id, session_id, lock=True)
        if not SessionRights(work, [row]).has(row, Act.RUN_SESSIONS):
            require_live(work, row)
        actor, now = work.actor.label, work.now
        return _shown(
            live_masks.lift_live_mask(
                work.session, work.agency, session_id, body.statement, actor=actor, now=now
            )
        )


def _shown(row: LiveMaskRow) -> LiveMaskShown:
    covers = {
        name: CoverShown(
            width_px=each.width_px, height_px=each.height_px, areas=list(each.areas), heard=each.is_heard
        )
        for name, each in covers_of(row).items()
    }
    return LiveMaskShown(
        id=row.id, number=row.number, streams=covers, statement=row.text, by=row.by, made_at=row.made_at
    )
