"""What comes round by the clock: originals due to be read back, planned sessions nobody begins, absence.

The relay looks every minute. What it wants are jobs like any other, behind all that footage waits for.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from evidence.clock import rfc3339
from evidence.events import Event
from ingest import absence
from ingest.recorder import schedule as plans
from storage.db import agencies, alarms, jobs
from storage.db.jobs import Wanted
from storage.open import Storage

log = structlog.get_logger(__name__)

REREADS_AT_ONCE = 256
"""Re-reads that may wait at a time: 360,000 a day at one look a minute, and no flood after a long stop."""
LOOK_BACK_DAYS = 2
"""The hand-in deadline of that day is past."""
LAST = 90
"""Behind every other job of the queue."""


def want_rereads(storage: Storage, every: timedelta) -> int:
    """Put the originals on the queue whose last sound re-read is older than that; how many."""
    now = storage.clock.now()
    wanted = 0
    with storage.database.read() as session:
        owners = [row.id for row in agencies.agencies(session)]
    for agency_id in owners:
        with storage.database.transaction() as session:
            for row in alarms.due_for_reread(session, agency_id, now, every, at_once=REREADS_AT_ONCE):
                asked = {"asked": rfc3339(now)}
                wanted_job = Wanted("reread", "io", row.id, row.sha256, asked, priority=LAST)
                jobs.want(session, agency_id, wanted_job, now)
                wanted += 1
    return wanted


def tell_unkept_plans(storage: Storage) -> int:
    """Have people told of planned sessions that no host begins; how many were not told of before."""
    with storage.database.read() as session:
        owners = [row.id for row in agencies.agencies(session)]
    told = 0
    for agency_id in owners:
        with storage.database.transaction() as session:
            agency = agencies.agency_by_id(session, agency_id)
            told += plans.tell_unkept(session, agency, storage.clock.now())
    return told


def check_absence(storage: Storage, done: dict[UUID, date]) -> list[Event]:
    """Check each agency's day before yesterday once: who was on duty and left nothing, what is missing (R14).

    Args:
        done: The newest day checked by this process, by agency; kept up to date.

    Returns:
        An event for each agency where something was found for the first time.
    """
    now = storage.clock.now()
    found = []
    with storage.database.read() as session:
        owners = [(row.id, row.time_zone) for row in agencies.agencies(session)]
    for agency_id, zone in owners:
        day = now.astimezone(ZoneInfo(zone)).date() - timedelta(days=LOOK_BACK_DAYS)
        if done.get(agency_id) == day:
            continue
        try:
            told = _absence_of(storage, agency_id, day, now)
        except Exception:
            # One agency's rows must not keep the others from being checked; the next look tries again.
            log.exception("absence_check_failed", agency=str(agency_id), day=day.isoformat())
            continue
        done[agency_id] = day
        if told is not None:
            found.append(told)
    return found


def _absence_of(storage: Storage, agency_id: UUID, day: date, now: datetime) -> Event | None:
    with storage.database.read() as session:
        daily = absence.look(session, agencies.agency_by_id(session, agency_id), day, now)
    if not daily.counts:
        return None
    with storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, agency_id)
        return absence.note(session, agency, daily, now).event(agency, now)
