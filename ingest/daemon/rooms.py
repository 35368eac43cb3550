"""The rooms of this host: who records them, what is wanted of them, and where finished files go.

The rules:

1. One host records a room: it holds the room's lease, and renews it long before it ends. One that cannot
   reach the database goes on recording: twice is better than not at all. Who learns that the lease is
   another's ends what it records.
2. A room is recorded while a session is open and not paused, and always where it pre-records, save in a
   pause: what somebody asked not to be recorded is not there to be claimed, handed out or left behind.
3. When a session begins, ends, pauses or goes on, the file ends too, at the next keyframe: at an end or a
   pause a moment later, because what was seen before it is still on the line.
4. A finished file that a session reaches into outside of its pauses is taken into custody with what the
   session says of it (`ingest.recorder.claiming`). One that none does waits as long as the room pre-records,
   to be claimed, and is then dropped; that is logged. Where the host's clock was set, that is asked for every
   clock (`ingest.recorder.clocks`).
5. A session that is planned begins at its time (`evidence.schedule`), by whoever holds the lease.
6. Every host says of a session that ended when nothing of it is left there (`ingest.recorder.handover`).
   What cannot be looked into may be anything.
7. While the database is away, and before the first answer, nothing is decided: what records goes on, and
   files wait on the disk.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID

import structlog

from config.rooms import RoomSettings, StreamSettings
from config.settings import Settings
from evidence.clock import from_micros, to_micros
from evidence.errors import EvidenceError, Unavailable
from evidence.kinds import ClaimSource, SourceKind
from evidence.masks import Span
from ingest.daemon.holding import Holder
from ingest.daemon.plans import keep_plans
from ingest.daemon.pulled import agency_of
from ingest.daemon.room_state import RoomState
from ingest.daemon.second_copies import CopiedRoom, Copier, Verdict, copiers_of
from ingest.facts import Statement
from ingest.recorder import handover, places, second_copy
from ingest.recorder import sessions as use_case
from ingest.recorder.claiming import claimants, its_stretches
from ingest.recorder.registry import COPY_LOST, LOST, NOT_TAKEN_UP, lease_of
from ingest.recorder.stream import LEEWAY_US, Finished, Phase, StreamRecorder, written_us
from ingest.sources.base import StagedFile
from media.live.opening import Address
from media.live.recording import Bounds
from media.run import packaged_ffmpeg
from storage.db import agencies, room_streams, sessions
from storage.db.alarms import NewAlarm, clear, raise_alarm, standing_about, standing_subjects
from storage.db.leadership import lead, leader, resign
from storage.db.room_tables import RoomSession
from storage.open import Storage

LOOK_EVERY_S = 0.3
ASK_EVERY_S = 1.0
LATE_S = 0.3
"""What shows the last moment of a session is here after that: the line, and a picture's length."""
LEASE = timedelta(seconds=10)
RENEW_EVERY_S = 3.0
LOST_AFTER_S = 5.0
UNCLAIMED_S = 600
"""How long a file that no session reaches into is kept where the room does not pre-record."""
NOBODYS = ""
"""In place of a stream's name: what was recorded before agencies had folders, and no agency took up."""
RIGHT_AGAIN = "已恢复正常 it is right again"
log = structlog.get_logger(__name__)


@dataclass
class _Room:
    settings: RoomSettings
    agency_id: UUID
    folder: Path
    streams: list[StreamRecorder]
    state: RoomState
    copier: Copier | None
    """Who keeps its second store up; None: it has none."""
    lasting: frozenset[UUID] | None = None
    """Sessions that are open and not paused; None: not known yet."""
    is_paused: bool = False
    """A session that lasts is paused, and that is heeded."""
    less_since_s: float | None = None
    """Since when some of them do not last any more, while that is not heeded; None: all do."""
    is_ours: bool | None = None
    """Whether we hold the lease; None: not known yet."""
    renewed_at_s: float = float("-inf")
    asked_at_s: float = float("-inf")
    lost_since_s: dict[str, float] = field(default_factory=dict)
    told: dict[tuple[str, str], bool] = field(default_factory=dict)
    """By stream and code of an alarm, whether people were told last that something is wrong."""

    @property
    def is_wanted(self) -> bool | None:
        """Whether we are to record; None: what records goes on, and nothing is begun."""
        if not self.is_ours:
            return self.is_ours
        if self.lasting is None:
            return None
        return bool(self.lasting) or (self.settings.pre_record_s > 0 and not self.is_paused)


class Rooms:
    """Looks after the rooms of this host in a thread of its own.

    Args:
        owner: Of the leases: this process on this host.
        lost_after_s: How long a wanted stream may be away before people are told.
    """

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        holder: Holder,
        owner: str | None = None,
        *,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        self._lost_after_s = lost_after_s
        self._began_at_s = time.monotonic()
        self._storage = storage
        self._holder = holder
        self._owner = owner or f"{settings.ingest.host_id or socket.gethostname()}:{os.getpid()}"
        folder = self._folder = settings.recorder_dir
        self._name = handover.name_of(folder)
        ffmpeg = str(settings.media.ffmpeg) if settings.media.ffmpeg else packaged_ffmpeg()
        self.copiers = copiers_of(settings, storage)
        self._rooms = []
        found = [(room, agency_of(storage, room.agency)) for room in settings.recorder.rooms]
        for room, agency_id in found:
            if {of for other, of in found if other.room_no == room.room_no} == {agency_id}:
                self._take_up_before(room.room_no, agency_id)
            with storage.database.read() as session:
                agency = agency_id, agencies.agency_by_id(session, agency_id).code
            second = settings.recorder.second_copy_of(room)
            copier = None if second is None else self.copiers[second]
            if copier is not None:
                copier.rooms.append(CopiedRoom(room.room_no, *agency))
            state = RoomState(agency, room.room_no, self._owner, settings.data.free_floor_bytes, copier)
            own = places.room_folder(folder, agency_id, room.room_no)
            self._rooms.append(
                _Room(room, agency_id, own, _streams(room, settings, own, ffmpeg), state, copier)
            )

    def _take_up_before(self, room_no: str, agency_id: UUID) -> None:
        try:
            places.take_up_before(self._folder, agency_id, room_no)
        except OSError:
            # It is nobody's then, and told with the first session that ends.
            log.exception("recorder:not_taken_up", room=room_no)

    def run(self, stop: threading.Event) -> None:
        """Look after them until ``stop`` is set. What records goes on: the next daemon takes it over."""
        while not stop.wait(LOOK_EVERY_S):
            for room in self._rooms:
                try:
                    self.look(room)
                except Exception:
                    # One room must not cost the others their watch.
                    log.exception("recorder:not_looked_after", room=room.settings.room_no)
        self._resign()

    def look(self, room: _Room) -> None:
        """See to one room once."""
        at_s = time.monotonic()
        if at_s - room.renewed_at_s >= RENEW_EVERY_S:
            room.renewed_at_s = at_s
            self._renew(room)
        if at_s - room.asked_at_s >= (ASK_EVERY_S if room.less_since_s is None else LATE_S):
            room.asked_at_s = at_s
            self._ask(room)
        for stream in room.streams:
            try:
                for finished in stream.look(wanted=room.is_wanted):
                    self._settle(room, stream, finished)
                self._watch(room, stream)
            except Exception:
                # Nor one stream the others.
                log.exception("recorder:not_looked_after", room=room.settings.room_no, stream=stream.name)
        if room.is_ours:
            for event in room.state.news(room.streams, self._storage.clock.now()):
                self._holder.tell(event)
                # Whoever looks it up shall find the same.
                room.renewed_at_s = float("-inf")

    def _renew(self, room: _Room) -> None:
        """Keep the room's lease, and say what its streams do.

        While the database is away, whoever had it goes on. A lease found in other hands at our beginning may
        be that of this host's last daemon, which died: until it must have ended, what that one began goes on.
        """
        now = self._storage.clock.now()
        try:
            with self._storage.database.transaction() as session:
                is_ours = lead(session, _lease_of(room), self._owner, now, LEASE)
                if is_ours:
                    room_streams.say(session, room.state.rows(room.streams, now))
        except EvidenceError as error:
            log.warning("recorder:lease_not_renewed", room=room.settings.room_no, code=error.code)
            return
        if is_ours and not room.is_ours:
            # Whoever had it meanwhile may have said something else of its streams.
            room.told = {key: was for key, was in room.told.items() if key[1] != LOST}
        if is_ours or room.is_ours or time.monotonic() - self._began_at_s > LEASE.total_seconds():
            room.is_ours = is_ours

    def _resign(self) -> None:
        try:
            with self._storage.database.transaction() as session:
                for room in self._rooms:
                    resign(session, _lease_of(room), self._owner)
        except EvidenceError as error:
            # The lease ends by itself.
            log.warning("recorder:not_resigned", code=error.code)

    def _ask(self, room: _Room) -> None:
        """Which sessions last; where that changed, a file ends. What is planned for now is begun before."""
        if room.is_ours:
            keep_plans(self._storage, room.settings, room.agency_id)
        try:
            with self._storage.database.read() as session:
                found = sessions.incomplete_sessions(session, room.agency_id, room.settings.room_no)
                its_own = {each.id: its_stretches(session, each) for each in found}
                lost, left, behind = (
                    standing_subjects(session, room.agency_id, "room", code)
                    for code in (LOST, NOT_TAKEN_UP, COPY_LOST)
                )
        except EvidenceError as error:
            log.warning("recorder:sessions_not_known", room=room.settings.room_no, code=error.code)
            return
        is_ours = bool(room.is_ours)
        if is_ours:
            # First: what the disk does not answer must not keep the room from its sessions.
            lasting = frozenset(each.id for each in found if not (each.ended_at or each.paused_since))
            self._heed(room, lasting, is_paused=any(each.paused_since for each in found))
            begun = [each.id for each in found if each.ended_at is None and self._name not in each.held_by]
            self._say(room, begun, handover.begin_to_hold)
        over = [each for each in found if handover.is_due(each, self._name, is_ours=is_ours)]
        done = [each.id for each in over if not self._has_of(room, each, its_own[each.id])]
        self._say(room, done, handover.hold_no_more)
        self._look_again(room, lost, left, behind)

    def _heed(self, room: _Room, lasting: frozenset[UUID], *, is_paused: bool) -> None:
        known, at_s = room.lasting or frozenset(), time.monotonic()
        if known - lasting:
            room.less_since_s = at_s if room.less_since_s is None else room.less_since_s
            if at_s - room.less_since_s < LATE_S:
                return
        room.lasting, room.is_paused, room.less_since_s = lasting, is_paused, None
        # What is to end altogether needs no file of its own for the moment until it does.
        if lasting != known and room.is_wanted:
            for stream in room.streams:
                stream.cut()

    def _say(self, room: _Room, session_ids: Sequence[UUID], what: Callable[..., None]) -> None:
        for each in session_ids:
            try:
                with self._storage.database.transaction() as session:
                    agency = agencies.agency_by_id(session, room.agency_id)
                    what(session, agency, each, self._name, self._storage.clock.now())
            except EvidenceError as error:
                # It is asked again in a second.
                log.warning("recorder:not_said", room=room.settings.room_no, code=error.code)

    def _has_of(self, room: _Room, row: RoomSession, its_own: Sequence[Span]) -> bool:
        """Whether something of a session that ended may be here that is not in custody.

        Args:
            its_own: Its stretches, without its pauses: what lies in those alone is not waited for.
        """
        begins, ends = to_micros(row.started_at), to_micros(row.ended_at or row.started_at)
        watched = {stream.name for stream in room.streams}
        left = [self._has_left(room, str(name), begins) for name in row.streams if name not in watched]
        left.append(self._has_left(room, NOBODYS, begins))
        return any(left) or any(
            stream.holds(first, ends if last is None else last)
            for stream in room.streams
            for first, last in its_own or [(begins, ends)]
        )

    def _has_left(self, room: _Room, name: str, begins_us: int) -> bool:
        """Whether something written since a moment lies where no stream of the settings takes it up.

        Args:
            name: Of a stream that is in the settings no more; `NOBODYS`: from before agencies had folders.
        """
        number, file_s, now_us = room.settings.room_no, room.settings.file_s, time.time_ns() // 1000
        about = f"{number}/{name}" if name else number
        try:
            runs = _listed(room.folder / name) if name else places.nobodys(self._folder, number)
            found = str(runs[0].relative_to(self._folder)) if runs else None
            is_late = any(written_us(run, file_s, now_us) > begins_us - LEEWAY_US for run in runs)
        except OSError as error:
            found, is_late = error.strerror or str(error), True
        wrong = None if found is None else (
            f"room {about}: expected nothing that no stream of recorder.rooms takes up, found {found}; "
            "kept, move it to the folder of the stream whose it is"
        )  # fmt: skip
        self._tell(room, about, NOT_TAKEN_UP, wrong)
        return is_late

    def _look_again(self, room: _Room, lost: set[str], left: set[str], behind: set[str]) -> None:
        """See to alarms about streams that are in the settings no more: no other look comes by them."""
        number, known = room.settings.room_no, {stream.name for stream in room.streams}
        for subject_id in lost | left | behind:
            # With the folder's name behind it, or as it was once, without.
            room_no, _, name = subject_id.partition("@")[0].partition("/")
            if room_no != number or name in known:
                continue
            if subject_id in left:
                self._has_left(room, name, begins_us=0)
            if subject_id in behind:
                self._tell(room, f"{number}/{name}", COPY_LOST, None)
            if subject_id in lost and room.is_ours:
                self._tell(room, subject_id, LOST, None)

    def _settle(self, room: _Room, stream: StreamRecorder, finished: Finished) -> None:
        """Take a finished file into custody, let it wait, or drop it."""
        now, of = self._storage.clock.now(), (room.agency_id, room.settings.room_no)
        try:
            with self._storage.database.read() as session:
                over = claimants(session, *of, finished.moments, now)
            if over:
                self._hold(room, finished, [each.id for each in over])
                stream.settle(finished)
                return
        except EvidenceError as error:
            log.warning("recorder:file_waits", stream=stream.name, key=finished.key, code=error.code)
            return
        kept_until = from_micros(max(ends for _, ends in finished.moments)) + timedelta(
            seconds=max(room.settings.pre_record_s, UNCLAIMED_S)
        )
        if now > kept_until:
            log.info("recorder:unclaimed", stream=stream.name, key=finished.key, sha256=finished.sha256.hex())
            if room.copier is not None:
                room.copier.drop(room.folder.relative_to(self._folder), finished)
            stream.settle(finished)

    def _hold(self, room: _Room, finished: Finished, session_ids: Sequence[UUID]) -> None:
        with self._storage.database.read() as session:
            agency = agencies.agency_by_id(session, room.agency_id)
            found = [sessions.session_by_id(session, room.agency_id, each) for each in session_ids]
            said = use_case.claims_of(session, agency, found[0], finished)
        staged = _staged(room.settings, finished, said)
        accepted = self._holder.hold(room.agency_id, staged)
        with self._storage.database.transaction() as session:
            agency, now = agencies.agency_by_id(session, room.agency_id), self._storage.clock.now()
            for each in session_ids:
                row = sessions.session_by_id(session, room.agency_id, each)
                use_case.note_part(session, agency, row, finished, accepted.item_id, now)
            if room.copier is not None:
                second_copy.want(session, agency, room.settings.room_no, finished, accepted.item_id, now)

    def _watch(self, room: _Room, stream: StreamRecorder) -> None:
        """Have people told of what is wrong with a stream, and when it is right again."""
        at_s, about = time.monotonic(), f"{room.settings.room_no}/{stream.name}"
        if room.is_wanted and stream.state.phase in {Phase.WAITING, Phase.STARTING}:
            if at_s - room.lost_since_s.setdefault(stream.name, at_s) > self._lost_after_s:
                self._tell(
                    room, about, LOST,
                    f"room {about}: expected its stream, found none ({stream.state.why or 'no answer yet'}); "
                    "look at the recorder and the line",
                )  # fmt: skip
        else:
            room.lost_since_s.pop(stream.name, None)
            if room.is_ours and room.is_wanted is not None:
                self._tell(room, about, LOST, None)
        wrong = [f"{run}: {why}" for run, why in stream.troubles.items()]
        self._tell(
            room, about, NOT_TAKEN_UP,
            f"room {about}: expected folders that can be taken up, found {len(wrong)} that cannot, "
            f"{wrong[0]}; kept and tried again, look at the disk and the log" if wrong else None,
        )  # fmt: skip
        copied = Verdict(None) if room.copier is None else room.copier.verdict()
        if copied is not None:
            self._tell(
                room, about, COPY_LOST,
                f"room {about}: expected its second copy kept up, found that it is not: {copied.wrong}"
                if copied.wrong else None,
            )  # fmt: skip

    def _tell(self, room: _Room, stream: str, code: str, wrong: str | None) -> None:
        """Raise an alarm about a stream (its room and name), or end what stands, where that was not done yet.

        Whether it is away is for whoever holds the room to say, and to take back, whoever said it. What
        cannot be taken up is said of this host's folder alone.
        """
        if room.told.get((stream, code)) is (wrong is not None):
            return
        about = stream if code == LOST else f"{stream}@{self._name}"
        try:
            with self._storage.database.transaction() as session:
                agency, now = agencies.agency_by_id(session, room.agency_id), self._storage.clock.now()
                if code == LOST and leader(session, _lease_of(room), now) != self._owner:
                    return
                if wrong is not None:
                    facts = {"stream": stream, "folder": self._name}
                    wanted = NewAlarm(code, "room", about, wrong, facts)
                    raise_alarm(session, agency, wanted, actor="system", now=now)
                # Once a folder's alarms were about the stream.
                for each in {about, stream} if wrong is None else ():
                    standing = standing_about(session, agency.id, "room", each, code)
                    if standing is not None and (
                        code == LOST or standing.facts.get("folder", self._name) == self._name
                    ):
                        clear(session, agency, standing, actor="system", reason=RIGHT_AGAIN, now=now)
        except EvidenceError as error:
            log.warning("recorder:not_told", stream=stream, code=error.code)
            return
        room.told[stream, code] = wrong is not None


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _lease_of(room: _Room) -> str:
    return lease_of(room.agency_id, room.settings.room_no)


def start_rooms(
    settings: Settings, storage: Storage, holder: Holder, stop: threading.Event
) -> list[threading.Thread]:
    """The thread that looks after this host's rooms; none where none is set.

    Raises:
        NotFound: A room is set for an agency that is not there.
        Unavailable: The secret of a stream cannot be read.
    """
    if not settings.recorder.enabled or not settings.recorder.rooms:
        return []
    rooms = Rooms(settings, storage, holder)
    threads = [
        threading.Thread(target=run, args=(stop,), name=name, daemon=True)
        for name, run in [
            ("rooms", rooms.run),
            *(("second copy", each.run) for each in rooms.copiers.values()),
        ]
    ]
    for thread in threads:
        thread.start()
    return threads


def _streams(room: RoomSettings, settings: Settings, folder: Path, ffmpeg: str) -> list[StreamRecorder]:
    recorder = settings.recorder
    bounds = Bounds(
        file_s=room.file_s,
        sync_every_s=recorder.sync_every_s,
        stall_s=recorder.stall_s,
        queue_bytes=recorder.queue_bytes,
        floor_bytes=settings.data.free_floor_bytes,
    )
    return [
        StreamRecorder(
            stream.name,
            folder / stream.name,
            address_of(stream),
            bounds,
            ffmpeg,
            room=room.room_no,
        )
        for stream in room.streams
    ]


def address_of(stream: StreamSettings) -> Address:
    """The whole address, secrets and all.

    Raises:
        InvalidInput: It is of no kind that is known.
        Unavailable: A file or variable with a secret cannot be read.
    """
    url = _secret(stream, stream.url_file, None) if stream.url_file else stream.url
    password = _secret(stream, stream.password_file, stream.password_env)
    parts = urlsplit(url or "")
    if stream.username:
        account = quote(stream.username, safe="") + (f":{quote(password, safe='')}" if password else "")
        parts = parts._replace(netloc=f"{account}@{parts.netloc}")
    return Address(urlunsplit(parts), stream.transport, stream.options)


def _secret(stream: StreamSettings, file: Path | None, variable: str | None) -> str | None:
    if variable is not None:
        found = os.environ.get(variable)
        if not found:
            raise Unavailable(
                f"stream {stream.name}: expected its password in {variable}, found none; set the variable",
                code="source_secret_unreadable",
            )
        return found
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"stream {stream.name}: expected a secret in {file}, found none that can be read; write it there",
            code="source_secret_unreadable",
        ) from error


def _staged(room: RoomSettings, finished: Finished, said: tuple[Statement, ...]) -> StagedFile:
    name = f"{room.room_no}_{finished.stream}_{finished.from_utc_us}_{finished.name}"
    server = ClaimSource.SERVER
    assumed = (
        Statement("device_no", room.recorded_as, server),
        Statement("source_kind", str(SourceKind.INTERVIEW_ROOM), server),
        *((Statement("place", room.place, server),) if room.place else ()),
    )
    return StagedFile(
        path=finished.path,
        size_bytes=finished.size_bytes,
        sha256=finished.sha256,
        original_name_raw=name.encode(),
        source="recorder",
        reception_key=finished.key,
        actor=f"room:{room.room_no}",
        metadata={"room": room.room_no, "stream": finished.stream, "ended_by": finished.why},
        claims=said,
        assumed=assumed,
        findings=tuple(_findings(finished)),
    )


def _findings(finished: Finished) -> list[tuple[str, str]]:
    if finished.why == "salvaged":
        line = "file: expected a recorder that closes it, found one that died; its last half second is gone"
        return [("recorder_died", line)]
    return []
