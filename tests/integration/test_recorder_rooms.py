"""Rooms of a daemon: what a session records becomes its items, who records, and what nobody claimed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import zmq
from sqlalchemy import inspect, select

from config.rooms import RecorderSettings, RoomSettings, StreamSettings
from config.settings import Settings
from evidence.clock import SystemClock, from_micros, to_micros
from evidence.errors import Unavailable
from evidence.events import Event, Topic
from evidence.fixity import hash_file
from evidence.ids import new_id
from ingest.daemon.holding import Holder
from ingest.daemon.rooms import Rooms, address_of
from ingest.recorder import sessions as use_case
from ingest.recorder.places import room_folder
from ingest.recorder.registry import LOST, NOT_TAKEN_UP
from media.live.journal import Journal
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, room_streams, sessions
from storage.db.alarms import NewAlarm, alarms, raise_alarm
from storage.db.room_tables import RoomStream
from storage.db.tables import Agency, Item, Reception
from storage.open import Storage
from storage.second_copy import prepare
from tests.support.clocks import SettableClock
from tests.support.media import frame_numbers, make_plain

OFFICER = "operator:1"


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("room") / "room.mp4"
    make_plain(path, seconds=12)
    return path


class House:
    """An installation with one room, whose camera is a file played at its own pace."""

    def __init__(self, storage: Storage, folder: Path, footage: Path, **options: Any) -> None:
        # The recorder's process tells the time of the host.
        self.storage, self.folder = replace(storage, clock=SystemClock()), folder
        stream = StreamSettings(name="main", url=f"file://{footage}")
        self.room = RoomSettings(room_no="R101", name="询问室一", streams=[stream], **options)
        self.settings = Settings(
            data={"dir": folder, "free_floor_bytes": 1}, recorder=RecorderSettings(rooms=[self.room])
        )
        self.publisher = EventPublisher(f"ipc://{folder / 'events'}")
        self.announcer = Announcer(f"redis+socket://{folder / 'nobody'}")
        self.holder = Holder(self.storage, self.publisher, self.announcer)
        self.hosts: list[Rooms] = []

    def host(self, owner: str = "one") -> Rooms:
        self.hosts.append(Rooms(self.settings, self.storage, self.holder, owner, lost_after_s=0.5))
        return self.hosts[-1]

    def write(self, do: Callable[..., Any], *given: Any, **named: Any) -> Any:
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            return do(session, agency, *given, actor=OFFICER, now=self.storage.clock.now(), **named)

    def start(self, **named: Any) -> UUID:
        row = self.write(use_case.start, self.room, facts={}, **named)
        return UUID(str(row.id))

    def told(self, session_id: UUID) -> use_case.Told:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            row = sessions.session_by_id(session, agency.id, session_id)
            return use_case.tell(session, agency.id, row)

    def until(self, host: Rooms, is_so: Callable[[], Any], patience_s: float = 20) -> None:
        deadline = time.monotonic() + patience_s
        while not is_so():
            assert time.monotonic() < deadline, [stream.state for stream in host._rooms[0].streams]
            host.look(host._rooms[0])
            time.sleep(0.05)

    def listen(self) -> zmq.Socket[bytes]:
        """The bus, once news of rooms comes through; "hello" is to be passed over."""
        bus = zmq.Context.instance().socket(zmq.SUB)
        bus.setsockopt(zmq.RCVTIMEO, 5000)
        bus.setsockopt(zmq.SUBSCRIBE, b"demo/room")
        bus.bind(f"ipc://{self.folder / 'events'}")
        deadline = time.monotonic() + 10
        while not bus.poll(50):
            assert time.monotonic() < deadline
            self.publisher.publish(Event(Topic.ROOM, "demo", "R101", "hello", self.storage.clock.now()))
        return bus

    def state(self) -> RoomStream:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            (found,) = room_streams.streams_of(session, agency.id)
            return found

    def alarms(self) -> list[tuple[str, str]]:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            return [(row.code, row.subject_id) for row in alarms(session, agency.id)]

    def follow(self, host: Rooms) -> None:
        """As a look does, and begins nothing."""
        room = host._rooms[0]
        host._renew(room)
        host._ask(room)
        for stream in room.streams:
            host._watch(room, stream)

    def phase(self, host: Rooms) -> str:
        return host._rooms[0].streams[0].state.phase

    def runs(self) -> list[Path]:
        return list((self.of_room() / "main").iterdir())

    def of_room(self, code: str = "demo") -> Path:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, code)
        return room_folder(self.settings.recorder_dir, agency.id, "R101")

    def close(self) -> None:
        self.holder.close(1)
        self.publisher.close()
        self.announcer.close()
        for host in self.hosts:
            for run in host._rooms[0].streams[0]._runs.values():
                if run.child is not None:
                    run.child.kill()
                    run.child.wait()


@pytest.fixture
def house(storage: Storage, tmp_path: Path, footage: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**options: Any) -> House:
        made.append(House(storage, tmp_path / "data", footage, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_what_a_session_records_becomes_its_item(house: Callable[..., House], tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    home = house(second_copy=second)
    with home.storage.database.read() as session:
        store_id = agencies.agency_by_code(session, "demo").store_id
    prepare(second, store_id, home.storage.clock.now())
    bus = home.listen()
    host = home.host()
    host.look(host._rooms[0])
    assert (home.phase(host), home.runs()) == ("off", [])
    assert home.state().phase == "off"
    began = home.storage.clock.now()
    session_id = home.start()
    home.until(host, lambda: home.phase(host) == "recording")
    home.until(host, lambda: home.state().pictures_s > 20)
    (copier,) = host.copiers.values()
    copier.look()
    (live,) = second.glob("demo/R101/live/main_*_000000.*")
    assert live.stat().st_size > 1000
    state = home.state()
    assert (state.phase, state.host, state.why) == ("recording", "one", None)
    assert (state.copy_lag_bytes, state.copy_why) == (0, None)
    assert state.bytes_s > 1000
    assert state.silent_ms is not None
    assert state.silent_ms < 1000
    assert state.free_bytes > 0
    assert [track["kind"] for track in state.tracks] == ["video", "audio"]
    home.write(use_case.stop, session_id)
    home.until(host, lambda: home.told(session_id).parts and not home.runs())
    home.until(host, lambda: home.state().phase == "off")
    home.until(host, lambda: home.told(session_id).row.complete_at)
    assert home.told(session_id).row.held_by == []
    heard: list[Any] = []
    while "off" not in [each["what"] for each in heard]:
        heard.append(json.loads(bus.recv_multipart()[1]))
    whats = [each["what"] for each in heard if each["what"] != "hello"]
    assert whats == ["starting", "recording", "ending", "off"]
    assert {each["subject_id"] for each in heard} == {"R101"}
    bus.close(0)
    told = home.told(session_id)
    with home.storage.database.read() as session:
        items = list(session.scalars(select(Item)))
        receptions = list(session.scalars(select(Reception)))
        paths = [home.storage.objects.path(key) for key in _keys(session)]
    assert {part.item_id for part in told.parts} == {item.id for item in items}
    assert {reception.source for reception in receptions} == {"recorder"}
    for item in items:
        assert item.source_kind == "interview_room"
        assert item.captured_from is not None and abs(item.captured_from - began) < timedelta(seconds=20)
    numbers = [number for path in paths if path for number in frame_numbers(path)]
    assert sorted(number for number in numbers if number is not None) == list(range(len(numbers)))
    assert len(numbers) >= 25
    assert home.phase(host) == "off"
    home.until(host, lambda: copier.look() is False and not live.exists())
    copies = sorted(second.glob("demo/R101/20*/*_main_*"))
    assert sorted(path.read_bytes() for path in copies) == sorted(path.read_bytes() for path in paths if path)


def _keys(session: Any) -> list[str]:
    from storage.db.tables import StoredObject

    return list(session.scalars(select(StoredObject.store_key).order_by(StoredObject.stored_at)))


def test_a_start_that_was_forgotten_is_claimed_with_its_true_time(house: Callable[..., House]) -> None:
    home = house(pre_record_s=600)
    host = home.host()
    home.until(host, lambda: home.phase(host) == "recording")
    time.sleep(1.5)
    claimed_from = home.storage.clock.now() - timedelta(seconds=1)
    host._rooms[0].streams[0].cut()
    home.until(host, lambda: host._rooms[0].streams[0].look(wanted=True))
    # Nobody's yet, and kept.
    with home.storage.database.read() as session:
        assert list(session.scalars(select(Item))) == []
    session_id = home.start(started_at=claimed_from)
    home.until(host, lambda: home.told(session_id).parts)
    told = home.told(session_id)
    assert told.row.started_at == claimed_from
    assert told.parts[0].from_at < claimed_from < told.parts[0].to_at


def test_one_host_records_a_room_and_another_takes_over(house: Callable[..., House]) -> None:
    home = house(pre_record_s=600)
    one, two = home.host("one"), home.host("two")
    home.until(one, lambda: home.phase(one) == "recording")
    two.look(two._rooms[0])
    assert not two._rooms[0].is_ours
    one._resign()
    two._rooms[0].renewed_at_s = float("-inf")
    two.look(two._rooms[0])
    assert two._rooms[0].is_ours
    one._rooms[0].renewed_at_s = float("-inf")
    home.until(one, lambda: home.phase(one) == "off")


def test_after_a_daemon_was_killed_the_next_leaves_what_records_alone(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = house()
    one = home.host("one")
    home.start()
    home.until(one, lambda: home.phase(one) == "recording")
    (run,) = home.runs()
    # Killed: its lease stands, and another number asks for it.
    two = home.host("two")
    room = two._rooms[0]
    for _ in range(3):
        room.renewed_at_s = float("-inf")
        two.look(room)
    assert (room.is_ours, room.streams[0].state.phase) == (None, "recording")
    one._resign()
    room.renewed_at_s = float("-inf")
    monkeypatch.setattr(sessions, "incomplete_sessions", _away)
    two.look(room)
    # Whether a session lasts is not known yet.
    assert (room.is_ours, room.is_wanted, room.streams[0].state.phase) == (True, None, "recording")
    monkeypatch.undo()
    room.asked_at_s = float("-inf")
    two.look(room)
    assert room.is_wanted and home.runs() == [run]
    # Another host's, for longer than the lease of a dead one lasts: not ours to record.
    three = home.host("three")
    three._began_at_s -= 11
    three.look(three._rooms[0])
    assert three._rooms[0].is_ours is False
    home.until(three, lambda: three._rooms[0].streams[0].state.phase == "ending" or not home.runs())


def _away(*_: Any) -> Any:
    raise Unavailable(
        "database: expected an answer, found none; it is asked again", code="database_unavailable"
    )


def test_a_stream_that_is_away_raises_an_alarm_that_ends_by_itself(
    house: Callable[..., House], tmp_path: Path
) -> None:
    home = house(pre_record_s=600)
    camera = tmp_path / "camera.mp4"
    home.room = home.room.model_copy(
        update={"streams": [StreamSettings(name="main", url=f"file://{camera}")]}
    )
    home.settings = home.settings.model_copy(update={"recorder": RecorderSettings(rooms=[home.room])})
    host = home.host()

    home.until(host, home.alarms)
    assert home.alarms() == [("recorder_lost", "R101/main")]
    make_plain(camera, seconds=8)
    home.until(host, lambda: not home.alarms(), 60)


@pytest.fixture
def home(sqlite_storage: Storage, tmp_path: Path, footage: Path) -> Iterator[House]:
    made = House(sqlite_storage, tmp_path / "data", footage)
    yield made
    made.close()


def test_that_a_stream_is_away_is_said_and_taken_back_by_whoever_records_the_room(home: House) -> None:
    one, two = home.host("one"), home.host("two")
    home.follow(one)
    home.follow(one)
    # Raised by a host that is gone since, or by an earlier version, which did not say which.
    for facts in ({"folder": "another-1"}, {}):
        home.write(raise_alarm, NewAlarm(LOST, "room", "R101/main", "away", {"stream": "R101/main", **facts}))
        one._resign()
        home.follow(two)
        home.follow(two)
        assert home.alarms() == []
        home.follow(one)
        two._resign()
        one, two = two, one
        home.follow(two)
        home.follow(one)
        one, two = two, one
    # One that had the room, and has not heard yet that another has it.
    two._rooms[0].is_ours = True
    two._tell(two._rooms[0], "main", LOST, "away")
    assert home.alarms() == []


def test_what_cannot_be_taken_up_is_an_alarm_and_keeps_its_sessions_incomplete(home: House) -> None:
    present = home.storage
    clock = SettableClock(present.clock.now() - timedelta(seconds=60))
    home.storage = replace(present, clock=clock)
    before = home.start()
    clock.advance(5)
    home.write(use_case.stop, before)
    lock = home.of_room() / "main" / "damaged" / "lock"
    lock.mkdir(parents=True)
    os.utime(lock, (clock.now().timestamp(),) * 2)
    home.storage = present
    after = home.start()
    home.write(use_case.stop, after)
    host = home.host()
    about = f"R101/main@{host._name}"
    # As an earlier version told of it, and as another host tells of its own.
    told = {"stream": "R101/main", "folder": host._name}
    home.write(raise_alarm, NewAlarm(NOT_TAKEN_UP, "room", "R101/main", "kept", told))
    elsewhere = {**told, "folder": "another-1"}
    home.write(raise_alarm, NewAlarm(NOT_TAKEN_UP, "room", "R101/main@another-1", "kept", elsewhere))
    home.follow(host)
    assert {each for _, each in home.alarms()} == {"R101/main", "R101/main@another-1", about}
    assert home.told(before).row.complete_at is None
    assert home.told(after).row.complete_at is not None
    assert [each.cause for each in home.told(before).breaks] == ["outstanding"]
    lock.rmdir()
    host._rooms[0].streams[0]._runs["damaged"].again_at_s = 0
    host.look(host._rooms[0])
    home.follow(host)
    assert (home.alarms(), home.runs()) == ([(NOT_TAKEN_UP, "R101/main@another-1")], [])
    assert home.told(before).row.complete_at is not None
    assert [each.cause for each in home.told(before).breaks] == ["nothing_recorded"]


def test_a_folder_that_cannot_be_looked_into_keeps_no_room_from_its_sessions(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = home.room
    home.room = room.model_copy(
        update={"streams": [*room.streams, StreamSettings(name="old", url="tcp://x:1")]}
    )
    over = home.start()
    home.write(use_case.stop, over)
    lasts = home.start()
    host = home.host()
    stray = home.of_room() / "old"
    stray.mkdir()
    listed = Path.iterdir

    def denied(path: Path) -> Iterator[Path]:
        if path == stray:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    with monkeypatch.context() as disk:
        # To whoever runs as root no folder is denied.
        disk.setattr(Path, "iterdir", denied)
        home.follow(host)
    assert host._rooms[0].lasting == {lasts}
    assert home.told(over).row.complete_at is None
    assert home.alarms() == [(NOT_TAKEN_UP, f"R101/old@{host._name}")]
    home.follow(host)
    assert home.told(over).row.complete_at is not None
    assert home.alarms() == []
    # What was written last before a session began has nothing of it, and is told all the same.
    (stray / "run").mkdir(parents=True)
    home.write(use_case.stop, lasts)
    home.follow(host)
    assert home.told(lasts).row.complete_at is None
    os.utime(stray / "run", (time.time() - 60,) * 2)
    home.follow(host)
    assert home.told(lasts).row.complete_at is not None
    assert home.alarms() == [(NOT_TAKEN_UP, f"R101/old@{host._name}")]
    # No session asks for that stream any more, and nobody waits for it; a daemon that begins sees to both.
    told = {"stream": "R101/old", "folder": host._name}
    home.write(raise_alarm, NewAlarm(LOST, "room", "R101/old", "away", {"stream": "R101/old"}))
    home.write(raise_alarm, NewAlarm("second_copy_lost", "room", f"R101/old@{host._name}", "away", told))
    shutil.rmtree(stray)
    home.follow(home.host("one"))
    assert home.alarms() == []


@pytest.mark.parametrize("by_s", [-600, 7200])
def test_where_the_clock_was_set_no_file_of_a_session_is_nobodys(home: House, by_s: int) -> None:
    """Set back, a session's later files are told before it begins; set ahead, what waits is at once old."""
    second_us, now_us = 1_000_000, to_micros(home.storage.clock.now())
    run, was_us = home.of_room() / "main" / "run", now_us - (by_s + 100) * second_us
    run.mkdir(parents=True)
    (run / "000000.mp4").write_bytes(b"recorded")
    file = {"file": 0, "name": "000000.mp4", "run": 0}
    told = {"kind": "closed", "why": "length", "size_bytes": 8, "sha256": sha256(b"recorded").hexdigest(),
            "duration_us": 80 * second_us, "pictures": 1, "playable_from_us": 0}  # fmt: skip
    begins_us = now_us - 90 * second_us if by_s < 0 else was_us
    begun = {"kind": "file", **file, "monotonic_us": 0, "arrived_utc_us": begins_us}
    closed = {**file, **told, "from_utc_us": begins_us, "to_utc_us": begins_us + 80 * second_us}
    step = {"kind": "turn", "turn": "host_step", "by_us": by_s * second_us, "monotonic_us": 0}
    lines = [{"kind": "begun", "pid": 1, "boot": "x", "utc_us": was_us, "monotonic_us": 0},
             *([step, begun, closed] if by_s < 0 else [begun, closed, step])]  # fmt: skip
    (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Set back, it cannot end before it began; set ahead, it began after that.
    from_us = was_us + 50 * second_us if by_s < 0 else now_us - 90 * second_us
    present, clock = home.storage, SettableClock(from_micros(from_us))
    home.storage = replace(present, clock=clock)
    session_id = home.start()
    clock.advance(by_s if by_s < 0 else 50)
    home.write(use_case.stop, session_id)
    home.storage = present
    host = home.host()
    (room,) = host._rooms
    (stream,) = room.streams
    (finished,) = stream.look(wanted=False)
    assert stream.holds(from_us, from_us + second_us)
    host._settle(room, stream, finished)
    assert [part.file_no for part in home.told(session_id).parts] == [0]
    assert (stream.look(wanted=False), home.runs()) == ([], [])


@pytest.mark.parametrize(("open_s", "is_its"), [(14, False), (16, True)])
def test_a_file_that_may_have_ended_later_than_told_is_of_the_sessions_until_then(
    home: House, open_s: int, is_its: bool
) -> None:
    """The source stood still just before a session began, and nobody had told that when the file ended."""
    second_us = 1_000_000
    left_long_ago(home.of_room() / "main" / "run", 100, 40 * second_us, open_s * second_us)
    present = home.storage
    clock = SettableClock(present.clock.now() - timedelta(seconds=45))
    home.storage = replace(present, clock=clock)
    session_id = home.start()
    clock.advance(5)
    home.write(use_case.stop, session_id)
    home.storage = present
    host = home.host()
    (stream,) = host._rooms[0].streams
    # Until it is in, nobody says that all is; what is certainly of before the session keeps it from nothing.
    home.follow(host)
    assert (home.told(session_id).row.complete_at is None) is is_its
    host.look(host._rooms[0])
    assert [part.file_no for part in home.told(session_id).parts] == [0] * is_its
    assert [each.number for each in stream.look(wanted=False)] == [0] * (not is_its)
    home.follow(host)
    assert home.told(session_id).row.complete_at is not None


def test_agencies_with_a_room_of_one_number_have_a_folder_each(home: House) -> None:
    before = home.settings.recorder_dir / "R101" / "main" / "dead"
    before.mkdir(parents=True)
    with home.storage.database.transaction() as session:
        demo = agencies.agency_by_code(session, "demo")
        columns = {each.key: getattr(demo, each.key) for each in inspect(Agency).columns}
        session.add(Agency(**columns | {"id": new_id(), "code": "other"}))
    alone, room = home.settings, home.room.model_copy(update={"agency": "other"})
    home.settings = alone.model_copy(update={"recorder": RecorderSettings(rooms=[home.room, room])})
    over = home.start()
    home.write(use_case.stop, over)
    host = home.host()
    assert [each.streams[0].folder.parent for each in host._rooms] == [home.of_room(), home.of_room("other")]
    assert home.of_room() != home.of_room("other")
    # Nobody knows whose it is.
    home.follow(host)
    assert before.exists() and home.told(over).row.complete_at is None
    assert home.alarms() == [(NOT_TAKEN_UP, f"R101@{host._name}")]
    # Where it is one agency's alone, it is taken up.
    shutil.rmtree(home.of_room())
    home.settings = alone
    host = home.host()
    home.follow(host)
    assert (before.exists(), home.alarms()) == (False, [])
    assert home.told(over).row.complete_at is not None


def test_a_second_store_that_is_away_is_an_alarm_and_what_nobody_claims_is_dropped_in_both(
    house: Callable[..., House], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = tmp_path / "second"
    home = house(second_copy=second)
    left = left_long_ago(home.of_room() / "main" / "r1")
    host = home.host()
    (room,), (copier,) = host._rooms, host.copiers.values()

    def watch() -> list[tuple[str, str]]:
        copier.look()
        host._watch(room, room.streams[0])
        with home.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            return [(row.code, row.subject_id) for row in alarms(session, agency.id)]

    assert watch() == []
    monkeypatch.setattr("ingest.daemon.second_copies.LOST_AFTER_S", -1)
    assert watch() == [("second_copy_lost", f"R101/main@{host._name}")]
    second.mkdir()
    with home.storage.database.read() as session:
        store_id = agencies.agency_by_code(session, "demo").store_id
    prepare(second, store_id, home.storage.clock.now())
    assert watch() == []
    live = second / "demo" / "R101" / "live" / "main_r1_000000.mp4"
    assert live.read_bytes() == left.read_bytes()
    host.look(room)
    assert not left.exists()
    copier.look()
    assert not live.exists()


def left_long_ago(run: Path, ago_s: int = 1800, lasts_us: int = 1, open_us: int = 0) -> Path:
    """A run that is over, with a file of half an hour ago that no session reaches into."""
    run.mkdir(parents=True)
    path = run / "000000.mp4"
    path.write_bytes(b"footage")
    begins = (time.time_ns() // 1000) - ago_s * 1_000_000
    journal = Journal(run)
    journal.write("begun", pid=0, boot="", utc_us=begins, monotonic_us=0)
    journal.write("file", file=0, name=path.name, container="mp4", run=0, zero_us=0, monotonic_us=0,
                  arrived_utc_us=begins, streams=[])  # fmt: skip
    journal.write("closed", file=0, name=path.name, run=0, why="length", size_bytes=7, duration_us=lasts_us,
                  sha256=hash_file(path).sha256.hex(), pictures=1, playable_from_us=0,
                  from_utc_us=begins, to_utc_us=begins + lasts_us, open_us=open_us)  # fmt: skip
    journal.write("ended", why="stopped")
    journal.close()
    return path


def test_secrets_of_an_address_come_from_files_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    stream = StreamSettings(
        name="main", url="rtsp://10.0.0.5/room", username="viewer", password_file=secret, transport="udp"
    )
    with pytest.raises(Unavailable, match="expected a secret in"):
        address_of(stream)
    secret.write_text("p@ss/word\n")
    address = address_of(stream)
    assert address.url == "rtsp://viewer:p%40ss%2Fword@10.0.0.5/room"
    assert (address.shown, address.transport) == ("rtsp://…@10.0.0.5/room", "udp")
    by_variable = stream.model_copy(update={"password_file": None, "password_env": "ROOM_PASSWORD"})
    with pytest.raises(Unavailable, match="expected its password in ROOM_PASSWORD"):
        address_of(by_variable)
    monkeypatch.setenv("ROOM_PASSWORD", "x")
    assert address_of(by_variable).url == "rtsp://viewer:x@10.0.0.5/room"
    secret.write_text("rtmp-listen://0.0.0.0:1935/live/s3cret")
    assert address_of(StreamSettings(name="push", url_file=secret)).waits
