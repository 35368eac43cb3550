"""Alarms of rooms that left the settings end by themselves, and say why."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from config.rooms import RecorderSettings, RoomSettings, StreamSettings
from config.settings import Settings
from evidence.custody import Action
from ingest.daemon.holding import Holder
from ingest.daemon.rooms_gone import GONE, RoomsGone, start_rooms_gone
from ingest.daemon.sources import Sources
from ingest.recorder.handover import name_of
from ingest.recorder.places import room_folder
from ingest.recorder.registry import COPY_LOST, LOST, NOT_TAKEN_UP, lease_of
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, custody
from storage.db.alarms import NewAlarm, alarms, raise_alarm
from storage.db.leadership import lead, resign
from storage.db.ledger_tables import Alarm
from storage.open import Storage

STAYS = RoomSettings(room_no="R1", name="一号", streams=[StreamSettings(name="main", url="tcp://x:1")])


class House:
    """A host that had rooms R1 to R3, and has R1 alone by now."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage = storage
        self.settings = Settings(
            data={"dir": folder, "free_floor_bytes": 1}, recorder=RecorderSettings(rooms=[STAYS])
        )
        self.folder = self.settings.recorder_dir
        self.name = name_of(self.folder)
        with storage.database.read() as session:
            self.agency_id = agencies.agency_by_code(session, "demo").id

    def told(self, code: str, about: str, folder: str | None = None) -> tuple[str, str]:
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_id(session, self.agency_id)
            facts = {"stream": about.partition("@")[0], "folder": folder or self.name}
            wanted = NewAlarm(code, "room", about, "wrong", facts)
            raise_alarm(session, agency, wanted, actor="system", now=self.storage.clock.now())
        return code, about

    def standing(self) -> set[tuple[str, str]]:
        with self.storage.database.read() as session:
            return {(row.code, row.subject_id) for row in alarms(session, self.agency_id)}


@pytest.fixture
def house(sqlite_storage: Storage, tmp_path: Path) -> House:
    return House(sqlite_storage, tmp_path)


def test_alarms_of_a_room_that_left_the_settings_end_and_say_why(house: House) -> None:
    own, storage = f"@{house.name}", house.storage
    left = room_folder(house.folder, house.agency_id, "R2") / "old" / "run"
    left.mkdir(parents=True)
    before = house.folder / "R2" / "main" / "run"
    before.mkdir(parents=True)
    stay = {
        house.told(LOST, "R1/main"),
        house.told(COPY_LOST, f"R1/main{own}"),
        # Another host's, which may have the room still.
        house.told(LOST, "R2/other", "another-1"),
        house.told(NOT_TAKEN_UP, "R2/main@another-1", "another-1"),
    }
    lies = house.told(NOT_TAKEN_UP, f"R2/old{own}")
    lay = house.told(NOT_TAKEN_UP, f"R2{own}")
    recorded = house.told(LOST, "R3/main")
    for code, about in ((LOST, "R2/main"), (COPY_LOST, f"R2/main{own}"), (NOT_TAKEN_UP, f"R2/main{own}")):
        house.told(code, about)
    with storage.database.transaction() as session:
        # The daemon before this one was killed, or another host has the room: whoever records it will say.
        held = lease_of(house.agency_id, "R3")
        assert lead(session, held, "another", storage.clock.now(), timedelta(hours=1))
    gone = RoomsGone(house.settings, storage)
    assert gone.look() == 3 and house.standing() == {*stay, lies, lay, recorded}
    assert gone.look() == 0
    with storage.database.read() as session:
        (row,) = session.scalars(select(Alarm).where(Alarm.subject_id == "R2/main"))
        assert row.cleared_by == "system" and "settings no more" in (row.cleared_reason or "")
        *_, leaf = custody.leaves_about(session, house.agency_id, "R2/main")
    told = json.loads(leaf.body or b"{}")
    assert (told["action"], told["facts"]["why"]) == (Action.ALARM_CLEARED, GONE)
    # What lies there goes, and so does the lease.
    left.rmdir()
    assert gone.look() == 1 and house.standing() == {*stay, lay, recorded}
    before.rmdir()
    with storage.database.transaction() as session:
        resign(session, held, "another")
    assert gone.look() == 2 and house.standing() == stay


def test_a_room_taken_between_the_look_and_the_end_keeps_its_alarm(house: House) -> None:
    about, storage = house.told(LOST, "R2/main"), house.storage
    gone = RoomsGone(house.settings, storage)
    with storage.database.read() as session:
        (alarm_id,) = session.scalars(select(Alarm.id).where(Alarm.subject_id == "R2/main"))
    held = lease_of(house.agency_id, "R2")
    with storage.database.transaction() as session:
        assert lead(session, held, "another", storage.clock.now(), timedelta(hours=1))
    assert not gone.end(house.agency_id, alarm_id) and house.standing() == {about}
    with storage.database.transaction() as session:
        resign(session, held, "another")
    assert gone.end(house.agency_id, alarm_id) and house.standing() == set()
    assert not gone.end(house.agency_id, alarm_id)


def test_a_host_that_has_no_room_any_more_ends_its_alarms(house: House, tmp_path: Path) -> None:
    house.told(LOST, "R1/main")
    none = house.settings.model_copy(update={"recorder": RecorderSettings()})
    publisher, announcer = (
        EventPublisher(f"ipc://{tmp_path / 'events'}"),
        Announcer(f"redis+socket://{tmp_path / 'nobody'}"),
    )
    with closing(publisher), closing(announcer):
        holder = Holder(house.storage, publisher, announcer)
        with Sources(none, house.storage, holder) as sources:
            deadline = time.monotonic() + 10
            while house.standing():
                assert time.monotonic() < deadline and len(sources) == 1
                time.sleep(0.02)
        holder.close(1)
    # One that records nothing says nothing of rooms, whatever its settings were.
    about = house.told(LOST, "R1/main")
    off = none.model_copy(update={"recorder": RecorderSettings(enabled=False)})
    assert start_rooms_gone(off, house.storage, threading.Event()) == [] and house.standing() == {about}
