"""Alarms about rooms that are in the settings no more, ended: no look at a room comes by them.

The rules:

1. A host ends what it told itself, by the name of its recorders' folder. What another host told is for that
   one, which may have the room still.
2. That a stream is away is for whoever records the room: while anybody has its lease, it is left alone.
   All of this is asked again in the transaction that ends an alarm: a host may have taken the room meanwhile.
3. What lies in the folder and nobody takes up is told until nothing lies there.
"""

from __future__ import annotations

import threading
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from config.settings import Settings
from evidence.errors import EvidenceError
from ingest.recorder import places
from ingest.recorder.handover import name_of
from ingest.recorder.registry import COPY_LOST, LOST, NOT_TAKEN_UP, lease_of, rooms_of
from storage.db import agencies
from storage.db.alarms import alarm_by_id, clear, standing_of
from storage.db.leadership import leader
from storage.db.ledger_tables import Alarm
from storage.db.tables import Agency
from storage.open import Storage

LOOK_EVERY_S = 30.0
GONE = "room_gone"
"""Why, in the leaf of an alarm that is ended here."""
REASON = "房间已不在设置中 the room is in the settings no more"
log = structlog.get_logger(__name__)


class RoomsGone:
    """Looks after alarms of rooms that this host had once.

    Raises:
        OSError: The folder of its recorders cannot be read.
    """

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._storage, self._folder = storage, settings.recorder_dir
        self._name = name_of(self._folder)
        self._rooms = settings.recorder.rooms

    def run(self, stop: threading.Event) -> None:
        """Look now and every half minute until told to stop."""
        while True:
            try:
                self.look()
            except EvidenceError as error:
                log.warning("recorder:rooms_gone_not_known", code=error.code)
            except Exception:
                # A bug must not end the thread: alarms would stand for ever, and nobody would know why.
                log.exception("recorder:rooms_gone_not_looked_after")
            if stop.wait(LOOK_EVERY_S):
                return

    def look(self) -> int:
        """End what is over; how many that were."""
        with self._storage.database.read() as session:
            found = [
                (agency.id, alarm.id)
                for agency in agencies.agencies(session)
                for alarm in standing_of(session, agency.id, "room", (LOST, NOT_TAKEN_UP, COPY_LOST))
                if self._is_over(session, agency, alarm)
            ]
        return sum(self.end(agency_id, alarm_id) for agency_id, alarm_id in found)

    def _is_over(self, session: Session, agency: Agency, alarm: Alarm) -> bool:
        room_no, _, stream = alarm.subject_id.partition("@")[0].partition("/")
        is_known = room_no in {each.room_no for each in rooms_of(session, agency, self._rooms)}
        if is_known or alarm.facts.get("folder", self._name) != self._name:
            return False
        if alarm.code == LOST:
            now = self._storage.clock.now()
            return leader(session, lease_of(agency.id, room_no), now) is None
        return alarm.code == COPY_LOST or not self._lies_there(agency.id, room_no, stream)

    def _lies_there(self, agency_id: UUID, room_no: str, stream: str) -> bool:
        try:
            if not stream:
                return bool(places.nobodys(self._folder, room_no))
            folder = places.room_folder(self._folder, agency_id, room_no) / stream
            return any(folder.iterdir())
        except FileNotFoundError:
            return False
        except OSError as error:
            log.warning("recorder:not_looked_into", room=room_no, stream=stream, why=error.strerror)
            return True

    def end(self, agency_id: UUID, alarm_id: UUID) -> bool:
        """End an alarm that is still over; whether it was."""
        with self._storage.database.transaction() as session:
            agency, now = agencies.agency_by_id(session, agency_id), self._storage.clock.now()
            alarm = alarm_by_id(session, agency.id, alarm_id, lock=True)
            # Meanwhile somebody ended it, or took the room's lease, or something came to lie there.
            if alarm.cleared_at is not None or not self._is_over(session, agency, alarm):
                return False
            evidence = {"why": GONE, "folder": self._name}
            clear(session, agency, alarm, actor="system", reason=REASON, now=now, evidence=evidence)
            log.info("recorder:alarm_ended", alarm=alarm.code, about=alarm.subject_id, why=GONE)
            return True


def start_rooms_gone(settings: Settings, storage: Storage, stop: threading.Event) -> list[threading.Thread]:
    """The thread that looks after alarms of rooms that are gone; none where this host records none."""
    if not settings.recorder.enabled:
        return []
    thread = threading.Thread(
        target=RoomsGone(settings, storage).run, args=(stop,), name="rooms gone", daemon=True
    )
    thread.start()
    return [thread]
