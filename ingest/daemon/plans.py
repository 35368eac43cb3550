"""Planned sessions of a room, kept by the host that records it: asked about every second."""

from __future__ import annotations

from uuid import UUID

import structlog

from config.rooms import RoomSettings
from evidence.errors import EvidenceError
from ingest.recorder import schedule
from storage.db import agencies, planned_sessions
from storage.open import Storage

log = structlog.get_logger(__name__)


def keep_plans(storage: Storage, room: RoomSettings, agency_id: UUID) -> None:
    """Do what is due about the plans of a room; what fails is tried again the next time."""
    try:
        with storage.database.read() as session:
            due = planned_sessions.due(session, agency_id, room.room_no, storage.clock.now())
    except EvidenceError as error:
        log.warning("recorder:plans_not_known", room=room.room_no, code=error.code)
        return
    for plan in due:
        try:
            with storage.database.transaction() as session:
                agency, now = agencies.agency_by_id(session, agency_id), storage.clock.now()
                schedule.keep(session, agency, room, plan.id, now=now)
        except EvidenceError as error:
            log.warning("recorder:plan_not_kept", room=room.room_no, plan=str(plan.id), code=error.code)
        except Exception:
            # One plan must not cost the room its recording, nor the plan after it.
            log.exception("recorder:plan_not_kept", room=room.room_no, plan=str(plan.id))
