"""Keeps a second store up with what rooms record, in a thread that nobody waits for (D14).

The rules:

1. Files of the recorders are only read here, while they grow: no recorder knows of it, so whatever a second
   store does (full, read-only, slow, hanging, gone) the first is written as if there were none. What was
   recorded and is not copied needs no queue: it is on the first disk.
2. What is in custody is made whole from there, read back and judged (`ingest.recorder.copying`), at most
   `recorder.second_copy_bytes_s` fast.
3. What the first drops because nobody claimed it is dropped in the second once it is gone from the first,
   by a note on the first disk. Nothing is removed for any other reason: a first disk that is gone, or
   empty, removes nothing.
4. A store is looked for anew each second, and may be unmounted in between: what takes longer is let go of,
   and gone on with at the next look.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog

from config.settings import Settings
from evidence.errors import EvidenceError
from evidence.session import CopyState
from ingest.recorder import places
from ingest.recorder.copying import Work, complete
from ingest.recorder.second_copy import live_name, note_reading
from ingest.recorder.stream import Finished
from media.live.recording import OPEN_SUFFIX
from storage.db import agencies, second_copies
from storage.db.alarms import NewAlarm, clear, raise_alarm, standing_about
from storage.db.room_tables import SecondCopy
from storage.db.tables import StoredObject
from storage.objects.durable import fsync_directory
from storage.open import Storage
from storage.second_copy import LIVE, SecondStore, attached, room_folder

LOOK_EVERY_S = 1.0
BUSY_EVERY_S = 0.1
SETTLE_S = 0.5
"""How long files in custody are worked on before what is being recorded has its turn."""
SLICE_BYTES, LEAST_BYTES = 8 << 20, 1 << 20
"""Of one file at each look: while there is something left of the second, and always."""
LOST_AFTER_S = 5.0
STUCK_S, BEHIND_S = 15.0, 60.0
"""How long it may say nothing, and how long never be where the recorders are."""
AGAIN_S, DIFFERS_AGAIN_S = 60.0, 3600.0
AT_ONCE = 20
DROPPED = "dropped.second"
"""No room can have that number."""
DIFFERS = "second_copy_differs"
"""Code of the alarm that what a second store reads of a file is not that file."""
_FILE = re.compile(r"[0-9]{6}\.[a-z0-9]{2,4}")
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CopiedRoom:
    """A room whose files go to a second store."""

    room_no: str
    agency_id: UUID
    agency_code: str

    @property
    def folder(self) -> str:
        """Its own in the second store."""
        return room_folder(self.agency_code, self.room_no)

    @property
    def own(self) -> Path:
        """Its own on this host, as seen from the folder of recordings."""
        return places.room_folder(Path(), self.agency_id, self.room_no)


class Verdict(NamedTuple):
    """Whether a second store is kept up."""

    wrong: str | None
    """Why not; None: it is."""


def copiers_of(settings: Settings, storage: Storage) -> dict[Path, Copier]:
    """A watch over each second store of this host's rooms; the rooms are the caller's to enter."""
    folders = [settings.recorder.second_copy_of(room) for room in settings.recorder.rooms]
    with storage.database.read() as session:
        store_id = agencies.agencies(session)[0].store_id
    bytes_s = settings.recorder.second_copy_bytes_s
    return {
        folder: Copier(folder, storage, settings.recorder_dir, store_id, bytes_s)
        for folder in folders
        if folder is not None
    }


class _File(NamedTuple):
    """A file that some recorder writes, or has written."""

    path: Path
    stream: str
    live_name: str
    size_bytes: int
    is_finished: bool


class Copier:
    """The watch over one second store.

    Args:
        recorder: This host's folder of recordings.
        store_id: Of the object store whose second it is.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        recorder: Path,
        store_id: str,
        bytes_s: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.rooms = folder, list[CopiedRoom]()
        self._storage, self._recorder, self._store_id = storage, recorder, store_id
        self._bytes_s, self._clock = bytes_s, clock
        self._copy_id: UUID | None = None
        self._copied: dict[Path, int] = {}
        self._whole: set[Path] = set()
        self._lag: dict[tuple[Path, str], int] = {}
        self._again_at_s: dict[UUID, float] = {}
        self._stuck: dict[UUID, str] = {}
        self._work: dict[tuple[UUID, UUID], Work] = {}
        self._looked_at_s = self._clock()
        self._why: str | None = None
        self._wrong_since_s = self._looked_at_s
        self._behind_since_s: float | None = None
        self._is_known = False

    def run(self, stop: threading.Event) -> None:
        """Look after the store until ``stop`` is set."""
        is_busy = False
        while not stop.wait(BUSY_EVERY_S if is_busy else LOOK_EVERY_S):
            try:
                is_busy = self.look()
            except Exception as error:
                # A bug too means that no second copy is kept: that is told, and looked at again.
                log.exception("second_copy:not_looked_after", folder=str(self.folder))
                self._note(f"{type(error).__name__}: {error}")
                is_busy = False

    def look(self) -> bool:
        """Copy what there is to copy; returns whether more waits."""
        at_s = self._clock()
        self._left_bytes = round(min(1.0, at_s - self._looked_at_s) * self._bytes_s)
        self._looked_at_s = at_s
        files = {room: list(self._files(room)) for room in self.rooms}
        is_busy, wrong = False, list[str]()
        try:
            with attached(self.folder, self._store_id) as second:
                if second.mark.copy_id != self._copy_id:
                    # Another disk than a moment ago has none of what that one had.
                    self._copy_id, self._copied, self._whole = second.mark.copy_id, {}, set()
                for room in self.rooms:
                    self._drop(second, room)
                    wrong += self._follow(second, room, files[room])
            is_busy = self._settle(at_s + SETTLE_S)
        except (EvidenceError, OSError) as error:
            wrong.append(str(error))
        self._note(next(iter([*wrong, *self._stuck.values()]), None))
        self._forget(files)
        is_behind = any(self._lag.values())
        if not is_behind:
            self._behind_since_s = None
        elif self._behind_since_s is None:
            self._behind_since_s = at_s
        return self._why is None and (is_busy or is_behind)

    def lag_bytes(self, own: Path, stream: str) -> int:
        """What of a stream was recorded, is not in custody yet, and not copied."""
        return self._lag.get((own, stream), 0)

    @property
    def why(self) -> str | None:
        """Why nothing is copied now; None: all is well."""
        if self._clock() - self._looked_at_s > STUCK_S:
            return (
                f"second store {self.folder}: expected an answer, found none for {STUCK_S:.0f} s; "
                "look at the disk"
            )
        if (
            self._why is None
            and self._behind_since_s is not None
            and self._clock() - self._behind_since_s > BEHIND_S
        ):
            return (
                f"second store {self.folder}: expected it to keep up, found it "
                f"{sum(self._lag.values())} bytes behind; look at its disk, and the line to it"
            )
        return self._why

    def verdict(self) -> Verdict | None:
        """What people are to be told; None: nothing else than was told last."""
        why = self.why
        if why is None:
            return Verdict(None) if self._is_known else None
        is_young = why == self._why and self._clock() - self._wrong_since_s <= LOST_AFTER_S
        return None if is_young else Verdict(why)

    def drop(self, own: Path, finished: Finished) -> None:
        """A file is dropped by the first store now; the second drops it once it is gone there."""
        folder = self._recorder / DROPPED / own
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / live_name(finished.stream, finished.run, finished.name)).touch()
            fsync_directory(folder)
        except OSError as error:
            # The first needs the room now; better a file too many in the second than none recorded here.
            log.warning("second_copy:kept", key=finished.key, error=str(error))

    def _note(self, wrong: str | None) -> None:
        if wrong is not None and self._why is None:
            self._wrong_since_s = self._clock()
            log.warning("second_copy:lost", folder=str(self.folder), why=wrong)
        elif wrong is None and self._why is not None:
            log.info("second_copy:back", folder=str(self.folder))
        self._why, self._is_known = wrong, True

    def _files(self, room: CopiedRoom) -> Iterator[_File]:
        for path in sorted((self._recorder / room.own).glob("*/*/*.*")):
            name = path.name.removesuffix(OPEN_SUFFIX)
            if not _FILE.fullmatch(name):
                continue
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                # Named, or taken into custody, in between.
                continue
            run = path.parent
            told = live_name(run.parent.name, run.name, name)
            yield _File(path, run.parent.name, told, size, name == path.name)

    def _follow(self, second: SecondStore, room: CopiedRoom, files: Sequence[_File]) -> list[str]:
        """Append what copies lack; returns what was wrong: one file that fails costs the others nothing."""
        wrong, dropped = [], self._recorder / DROPPED / room.own
        for file in files:
            if file.path in self._whole or (dropped / file.live_name).exists():
                continue
            try:
                source = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                self._append(second, f"{room.folder}/{LIVE}/{file.live_name}", file, source)
            except (EvidenceError, OSError) as error:
                wrong.append(str(error))
            finally:
                os.close(source)
        return wrong

    def _append(self, second: SecondStore, name: str, file: _File, source: int) -> None:
        most = SLICE_BYTES if self._left_bytes > 0 else LEAST_BYTES
        # What came since it was listed comes along.
        size = os.fstat(source).st_size
        copied = second.grow(name, source, size, most)
        self._left_bytes -= max(0, copied - self._copied.get(file.path, 0))
        self._copied[file.path] = copied
        if file.is_finished and copied >= size:
            self._whole.add(file.path)

    def _forget(self, files: dict[CopiedRoom, list[_File]]) -> None:
        """Keep in mind no file that is not there any more, and add up what is not copied."""
        there = {file.path for each in files.values() for file in each}
        self._copied = {path: size for path, size in self._copied.items() if path in there}
        self._whole &= there
        lag: dict[tuple[Path, str], int] = {}
        for room, each in files.items():
            for file in each:
                left = max(0, file.size_bytes - self._copied.get(file.path, 0))
                lag[room.own, file.stream] = lag.get((room.own, file.stream), 0) + left
        self._lag = lag

    def _drop(self, second: SecondStore, room: CopiedRoom) -> None:
        for note in sorted((self._recorder / DROPPED / room.own).glob("*_*_*.*")):
            stream, run, name = note.name.split("_", 2)
            if not (self._recorder / room.own / stream / run / name).exists():
                second.drop(f"{room.folder}/{LIVE}/{note.name}")
                note.unlink(missing_ok=True)

    def _settle(self, until_s: float) -> bool:
        """Work on files in custody for a while; returns whether some are left."""
        with closing(self._round()) as steps:
            for spent in steps:
                self._left_bytes -= spent
                if (spent and self._left_bytes <= 0) or self._clock() > until_s:
                    return True
        return False

    def _round(self) -> Generator[int, None, None]:
        wanting: list[tuple[CopiedRoom, SecondCopy, StoredObject]] = []
        for room in self.rooms:
            try:
                with self._storage.database.read() as session:
                    found = second_copies.uncopied(
                        session, room.agency_id, room.room_no, AT_ONCE + len(self._again_at_s)
                    )
            except EvidenceError as error:
                # Nobody knows what there is to do; asked again at the next look.
                log.warning("second_copy:not_known", room=room.room_no, code=error.code)
                continue
            wanting += [(room, row, held) for row, held in found]
        # What another host copied meanwhile is nobody's trouble any more.
        ids = {row.id for _, row, _ in wanting}
        self._stuck = {key: why for key, why in self._stuck.items() if key in ids}
        self._again_at_s = {key: at for key, at in self._again_at_s.items() if key in ids}
        self._work = {key: work for key, work in self._work.items() if key[0] in ids}
        # Each look begins anew: in the order of the rooms the last would get what the others leave.
        for room, row, held in sorted(wanting, key=lambda each: each[1].id):
            if self._clock() >= self._again_at_s.get(row.id, 0.0):
                yield from self._complete(room, row, held)

    def _complete(self, room: CopiedRoom, row: SecondCopy, held: StoredObject) -> Generator[int, None, None]:
        try:
            with attached(self.folder, self._store_id) as second, second.alone(room.folder) as is_alone:
                if not is_alone or self._is_done(room, row):
                    return
                key = row.id, second.mark.copy_id
                work = self._work.setdefault(key, Work())
                found = yield from complete(self._storage.objects, second, room.folder, row, held, work)
                state = self._take_down(room, row, second, held, found)
        except (EvidenceError, OSError) as error:
            log.warning("second_copy:not_made", room=room.room_no, key=row.reception_key, error=str(error))
            self._stuck[row.id] = str(error)
            self._again_at_s[row.id] = self._clock() + AGAIN_S
            self._forget_work(row.id)
            return
        self._forget_work(row.id)
        self._stuck.pop(row.id, None)
        self._again_at_s.pop(row.id, None)
        if state is CopyState.DIFFERS:
            self._again_at_s[row.id] = self._clock() + DIFFERS_AGAIN_S

    def _forget_work(self, copy_id: UUID) -> None:
        self._work = {key: work for key, work in self._work.items() if key[0] != copy_id}

    def _is_done(self, room: CopiedRoom, row: SecondCopy) -> bool:
        """Whether somebody else was faster: it is asked once nobody else can be at it."""
        with self._storage.database.read() as session:
            return second_copies.copy_by_id(session, room.agency_id, row.id).state == CopyState.COPIED

    def _take_down(
        self, room: CopiedRoom, row: SecondCopy, second: SecondStore, held: StoredObject, found: bytes
    ) -> CopyState:
        with self._storage.database.transaction() as session:
            agency, now = agencies.agency_by_id(session, room.agency_id), self._storage.clock.now()
            state = note_reading(session, agency, row.id, second.mark.copy_id, held.sha256, found, now)
            standing = standing_about(session, agency.id, "item", str(row.item_id), DIFFERS)
            if state is CopyState.DIFFERS:
                message = (
                    f"item {row.item_id}: expected its second copy {row.path} with SHA-256 "
                    f"{held.sha256.hex()[:16]}…, found {found.hex()[:16]}… after it was copied anew; "
                    f"look at the disk of {self.folder}"
                )
                facts = {"path": row.path, "sha256": found.hex()}
                wanted = NewAlarm(DIFFERS, "item", str(row.item_id), message, facts)
                raise_alarm(session, agency, wanted, actor="system", now=now)
            elif standing is not None:
                clear(
                    session,
                    agency,
                    standing,
                    actor="system",
                    reason="已回读一致 read back and matched",
                    now=now,
                )
        return state
