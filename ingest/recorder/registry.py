"""The rooms of an agency, as the settings of this host have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from config.rooms import RoomSettings
from evidence.breaks import Break
from evidence.clock import from_micros
from evidence.errors import NotFound
from evidence.session import Facts
from ingest.policy import start_of_day
from ingest.recorder.sessions import tell
from ingest.recorder.stream import Phase
from storage.db import agencies, room_streams, sessions
from storage.db.alarms import standing_subjects
from storage.db.room_tables import RoomSession, RoomStream
from storage.db.tables import Agency

STALE = timedelta(seconds=12)
"""A host that records says so every three seconds; one that has not for so long may be gone."""


def rooms_of(session: Session, agency: Agency, rooms: Sequence[RoomSettings]) -> list[RoomSettings]:
    """The agency's rooms, in the order of the settings; a room without an agency is the first one's."""
    is_first = agencies.agencies(session)[0].id == agency.id
    return [room for room in rooms if room.agency == agency.code or (room.agency is None and is_first)]


def lease_of(agency_id: UUID, room_no: str) -> str:
    """Name of the lease that whoever records a room has."""
    return f"room:{agency_id.hex}:{room_no}"


LOST = "recorder_lost"
"""Code of the alarm that a stream is wanted and away; its subject is the room and the stream."""


NOT_TAKEN_UP = "recorder_not_taken_up"
"""Code of the alarm that something a recorder left can be neither read nor salvaged."""


COPY_LOST = "second_copy_lost"
"""Code of the alarm that a second store is not kept up with what is recorded."""


def away(session: Session, agency: Agency, room: RoomSettings) -> list[str]:
    """The streams of a room that people were told are away."""
    lost = standing_subjects(session, agency.id, "room", LOST)
    return [stream.name for stream in room.streams if f"{room.room_no}/{stream.name}" in lost]


def room_of(session: Session, agency: Agency, rooms: Sequence[RoomSettings], room_no: str) -> RoomSettings:
    """The agency's room of that number.

    Raises:
        NotFound: The settings have none (``room_not_found``).
    """
    for room in rooms_of(session, agency, rooms):
        if room.room_no == room_no:
            return room
    raise NotFound(
        f"room {room_no[:64]}: expected one of recorder.rooms, found none; add it to the settings",
        code="room_not_found",
    )


@dataclass(frozen=True)
class Unregistered:
    """What was stated of a session and the agency's registers do not have; it is kept as stated."""

    is_case: bool
    """Its case number, which ties nothing then."""
    officers: tuple[str, ...]

    def names(self) -> list[str]:
        """As facts that are said of a person: which, and for officers whose."""
        return [*(["case_no"] if self.is_case else []), *(f"officer {number}" for number in self.officers)]

    def to_json(self) -> dict[str, Any]:
        return {"case_no": self.is_case, "officers": list(self.officers)}


def unregistered(session: Session, agency: Agency, row: RoomSession) -> Unregistered:
    """Look up what is stated of a session."""
    return unregistered_of(session, agency, [row])[row.id]


def unregistered_of(
    session: Session, agency: Agency, rows: Sequence[RoomSession]
) -> dict[UUID, Unregistered]:
    """Look up what is stated of sessions, by their ids."""
    facts = {row.id: Facts.from_json(row.facts) for row in rows}
    known = agencies.known_officers(
        session, agency.id, {number for each in facts.values() for number in each.officers}
    )
    return {
        row.id: Unregistered(
            facts[row.id].case_no is not None and row.case_id is None,
            tuple(number for number in facts[row.id].officers if number not in known),
        )
        for row in rows
    }


@dataclass(frozen=True)
class StreamNow:
    """What people see of a stream."""

    name: str
    phase: Phase | None
    """None: no host has said anything lately."""
    is_away: bool
    """People were told that it is wanted and away."""
    said: RoomStream | None
    """What the host that records it said last; None: nothing ever."""

    @property
    def headroom_s(self) -> int | None:
        """How long the disk lasts at this rate; None: nothing is written."""
        if self.phase is not Phase.RECORDING or self.said is None or self.said.bytes_s == 0:
            return None
        return self.said.free_bytes // self.said.bytes_s

    @property
    def is_seen(self) -> bool:
        """Pictures of it are recorded now; sound, where it has none."""
        if self.phase is not Phase.RECORDING or self.said is None:
            return False
        return self.said.pictures_s > 0 or all(track["kind"] != "video" for track in self.said.tracks)

    def facts(self) -> dict[str, Any]:
        """As data: null where nobody knows, or nothing flows."""
        names = ("host", "since", "why", "silent_ms", "bytes_s", "pictures_s", "waiting_bytes", "restarts",
                 "free_bytes", "tracks", "copy_lag_bytes", "copy_why", "told_at")  # fmt: skip
        said = {name: getattr(self.said, name, None) for name in names}
        phase = None if self.phase is None else str(self.phase)
        return {
            "name": self.name,
            "phase": phase,
            "away": self.is_away,
            "headroom_s": self.headroom_s,
            **said,
        }


def streams_now(
    session: Session, agency: Agency, rooms: Sequence[RoomSettings], now: datetime
) -> dict[str, list[StreamNow]]:
    """What the streams of these rooms do, by number of the room, in the order of the settings."""
    said = {(row.room_no, row.stream): row for row in room_streams.streams_of(session, agency.id)}
    lost = standing_subjects(session, agency.id, "room", LOST)
    found = {}
    for room in rooms:
        rows = [(stream.name, said.get((room.room_no, stream.name))) for stream in room.streams]
        found[room.room_no] = [
            StreamNow(name, _phase(row, now), f"{room.room_no}/{name}" in lost, row) for name, row in rows
        ]
    return found


def _phase(row: RoomStream | None, now: datetime) -> Phase | None:
    return Phase(row.phase) if row is not None and now - row.told_at < STALE else None


def gaps_today(session: Session, agency: Agency, room_no: str, now: datetime) -> list[Break]:
    """What is missing of the room's sessions since midnight, by the clock on the agency's wall."""
    today = now.astimezone(ZoneInfo(agency.time_zone)).date()
    midnight = start_of_day(today, agency.time_zone)
    found = []
    for row in sessions.sessions_over(session, agency.id, room_no, midnight, now):
        told = tell(session, agency.id, row)
        found += [each for each in told.breaks if each.is_missing and from_micros(each.to_us) > midnight]
    return found
