"""The rooms of an agency, as the settings of this host have them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from config.settings import RoomSettings
from evidence.errors import NotFound
from storage.db import agencies
from storage.db.alarms import standing_about
from storage.db.tables import Agency


def rooms_of(session: Session, agency: Agency, rooms: Sequence[RoomSettings]) -> list[RoomSettings]:
    """The agency's rooms, in the order of the settings; a room without an agency is the first one's."""
    is_first = agencies.agencies(session)[0].id == agency.id
    return [room for room in rooms if room.agency == agency.code or (room.agency is None and is_first)]


LOST = "recorder_lost"
"""Code of the alarm that a stream is wanted and away; its subject is the room and the stream."""


def away(session: Session, agency: Agency, room: RoomSettings) -> list[str]:
    """The streams of a room that people were told are away."""
    return [
        stream.name
        for stream in room.streams
        if standing_about(session, agency.id, "room", f"{room.room_no}/{stream.name}", LOST) is not None
    ]


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
