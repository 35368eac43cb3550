"""Which sessions a finished file is of.

A file is of every session that it shares a moment with, by any clock the host had (`ingest.recorder.clocks`).
A pause is no moment of a session: a file that lies wholly in one is nobody's, whatever was asked for
beforehand, and waits as long as any that nobody claims before it is dropped. A session that begins later may
not reach back over another; where such a file goes on into it nevertheless, what lies before its start is
hidden (`evidence.masks.outside`).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import from_micros, to_micros
from evidence.masks import Span
from evidence.session import Paused, stretches
from ingest.recorder.clocks import Moments
from storage.db import sessions
from storage.db.room_tables import RoomSession
from storage.db.session_masks import pauses_of


def claimants(
    session: Session, agency_id: UUID, room_no: str, moments: Moments, now: datetime
) -> list[RoomSession]:
    """The sessions of a room that a file is of, oldest first.

    Args:
        moments: When it may have been recorded.
    """
    touching: dict[UUID, RoomSession] = {}
    for begins_us, ends_us in moments:
        span = from_micros(begins_us), from_micros(ends_us)
        touching |= {each.id: each for each in sessions.sessions_over(session, agency_id, room_no, *span)}
    if not touching:
        # What lasts and begins later than now began before the clock was set back.
        found = sessions.incomplete_sessions(session, agency_id, room_no)
        return [each for each in found if each.ended_at is None and each.started_at > now]
    return sorted(
        (each for each in touching.values() if _has_of(session, each, moments)),
        key=lambda each: each.started_at,
    )


def its_stretches(session: Session, row: RoomSession) -> list[Span]:
    """What of time is a session's: not before it, not in a pause, not after it."""
    return stretches(to_micros(row.started_at), _ended_us(row), _stops(session, row))


def _has_of(session: Session, row: RoomSession, moments: Moments) -> bool:
    """Whether a file that shares a moment with a session shares one that is in no pause of it."""
    stops = _stops(session, row)
    # One of no length, because the clock was set back, has its files nevertheless.
    return not stops or any(
        first_us < ends_us and (last_us is None or begins_us < last_us)
        for first_us, last_us in stretches(to_micros(row.started_at), _ended_us(row), stops)
        for begins_us, ends_us in moments
    )


def _stops(session: Session, row: RoomSession) -> list[Paused]:
    return pauses_of(sessions.notes_of(session, row.agency_id, row.id), _ended_us(row))


def _ended_us(row: RoomSession) -> int | None:
    return None if row.ended_at is None else to_micros(row.ended_at)
