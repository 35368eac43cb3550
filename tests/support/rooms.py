"""A room of an installation: recorded for real, or files of its recorder handed in without any."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from config.rooms import RoomSettings, StreamSettings
from config.settings import Settings
from evidence.clock import to_micros
from evidence.fixity import hash_file
from evidence.ids import new_id
from evidence.session import Facts
from ingest.daemon.holding import Holder, hold
from ingest.daemon.rooms import Rooms
from ingest.recorder.handover import hold_no_more
from ingest.recorder.sessions import claims_of, note_part
from ingest.recorder.stream import Finished
from ingest.sources.base import StagedFile
from media.live.journal import NAME
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, items
from storage.db.room_tables import RoomSession, SessionNote, SessionPart
from storage.open import Storage

ROOM = RoomSettings(
    room_no="R-1",
    name="一号询问室",
    place="某区执法办案中心一层",
    pre_record_s=3600,
    streams=[
        StreamSettings(name="main", url="rtsp://192.0.2.1/main"),
        StreamSettings(name="room", url="rtsp://192.0.2.1/room"),
    ],
)


def finished_file(
    storage: Storage,
    folder: Path,
    from_at: datetime,
    to_at: datetime,
    *,
    stream: str = "main",
    run: str = "r1",
    number: int = 0,
    why: str = "length",
    ended: str | None = None,
    turns: tuple[dict[str, Any], ...] = (),
) -> Finished:
    """A file a recorder finished, with the journal of its run."""
    run = f"{stream}-{run}"
    run_folder = folder / run
    run_folder.mkdir(parents=True, exist_ok=True)
    name = f"{number:06d}.mp4"
    (run_folder / name).write_bytes(new_id().bytes * 3)
    begins, ends = to_micros(from_at), to_micros(to_at)
    lines = [
        {"kind": "file", "file": number, "name": name, "run": 0, "zero_us": 0, "monotonic_us": 0,
         "arrived_utc_us": begins},
        *turns,
        *([{"kind": "ended", "why": ended}] if ended else []),
    ]  # fmt: skip
    with (run_folder / NAME).open("a", encoding="utf-8") as journal:
        journal.writelines(json.dumps(line) + "\n" for line in lines)
    digests = hash_file(run_folder / name)
    return Finished(
        stream=stream, run=run, folder=run_folder, number=number, name=name, sha256=digests.sha256,
        size_bytes=digests.size_bytes, from_utc_us=begins, to_utc_us=ends, duration_us=ends - begins,
        open_us=0, pictures=1, playable_from_us=0, why=why, turns=turns, moments=((begins, ends),),
    )  # fmt: skip


def hand_in(storage: Storage, session_id: UUID, finished: Finished) -> UUID:
    """Take a finished file into custody and tie it to the session, as the daemon does; the item's id."""
    with storage.database.read() as session:
        agency = agencies.agency_by_code(session, "demo")
        row = session.get_one(RoomSession, session_id)
        claims = claims_of(session, agency, row, finished)
    staged = storage.objects.staging_dir / str(new_id())
    staged.write_bytes(finished.path.read_bytes())
    accepted = hold(
        storage,
        agency.id,
        StagedFile(
            path=staged, size_bytes=finished.size_bytes, sha256=finished.sha256,
            original_name_raw=finished.name.encode(), source="recorder", reception_key=finished.key,
            actor="system", claims=claims,
        ),
    )  # fmt: skip
    with storage.database.transaction() as session:
        held = agencies.agency_by_code(session, "demo")
        note_part(
            session,
            held,
            session.get_one(RoomSession, session_id),
            finished,
            accepted.item_id,
            storage.clock.now(),
        )
    return accepted.item_id


def all_in(storage: Storage, session_id: UUID) -> None:
    """As the daemon says once nothing of a session that ended is left in its folder."""
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        hold_no_more(session, agency, session_id, "one", storage.clock.now())


def read_back(storage: Storage, item_id: UUID) -> None:
    """As the worker leaves an original once its bytes were read back and matched."""
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        item = items.item_by_id(session, agency.id, item_id, lock=True)
        stored = items.object_of(session, item)
        stored.sm3, stored.verified_at = bytes(32), storage.clock.now()
        item.custody = "verified"


@contextmanager
def recorded_for_real(settings: Settings, storage: Storage, folder: Path) -> Iterator[Rooms]:
    """The rooms of the settings, looked after in a thread as the daemon does; its processes end with it."""
    publisher = EventPublisher(f"ipc://{folder / 'events'}")
    announcer = Announcer(f"redis+socket://{folder / 'nobody'}")
    holder = Holder(storage, publisher, announcer)
    rooms, stop = Rooms(settings, storage, holder), threading.Event()
    thread = threading.Thread(target=rooms.run, args=(stop,), name="rooms")
    thread.start()
    try:
        yield rooms
    finally:
        stop.set()
        thread.join()
        holder.close(1)
        publisher.close()
        announcer.close()
        for stream in (each for room in rooms._rooms for each in room.streams):
            for run in stream._runs.values():
                if run.child is not None:
                    run.child.kill()
                    run.child.wait()


def session_of(
    storage: Storage,
    begun_at: datetime,
    files: Sequence[tuple[UUID, datetime, datetime]],
    markers: Mapping[datetime, str],
    case_id: UUID | None = None,
    ended_at: datetime | None = None,
    *,
    open_us: int = 0,
) -> UUID:
    """A session that is over, of items that are there, with what was marked while it ran."""
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        row = RoomSession(
            agency_id=agency.id, room_no=ROOM.room_no, room_name=ROOM.name, device_no=ROOM.recorded_as,
            streams=["main"], state="ended", case_id=case_id, facts=Facts().to_json(), requested_at=begun_at,
            started_at=begun_at, ended_at=ended_at or files[-1][2], started_by="account:x",
            ended_by="account:x", leaf_id=new_id(),
        )  # fmt: skip
        session.add(row)
        session.flush()
        for number, (item_id, from_at, to_at) in enumerate(files):
            part = SessionPart(
                agency_id=agency.id, session_id=row.id, item_id=item_id, reception_key=str(item_id),
                stream="main", run="r1", file_no=number, sequence_no=number + 1, from_at=from_at, to_at=to_at,
                open_us=open_us, media_us=to_micros(to_at) - to_micros(from_at),
                turns=[], why="length", leaf_id=new_id(), noted_at=to_at,
            )  # fmt: skip
            session.add(part)
        for at, said in markers.items():
            note = SessionNote(
                agency_id=agency.id, session_id=row.id, kind="marker", at=at, by="account:x", text=said,
                leaf_id=new_id(),
            )  # fmt: skip
            session.add(note)
        return row.id
