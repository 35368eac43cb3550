"""What comes round by the clock: originals that are due to be read back again.

The relay looks every minute. What it wants are jobs like any other, behind all that footage waits for.
"""

from __future__ import annotations

from datetime import timedelta

from storage.db import agencies, alarms, jobs
from storage.db.jobs import Wanted
from storage.open import Storage

REREADS_AT_ONCE = 256
"""Re-reads that may wait at a time: 360,000 a day at one look a minute, and no flood after a long stop."""
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
                since = {"since": row.verified_at.isoformat() if row.verified_at else ""}
                jobs.want(
                    session, agency_id, Wanted("reread", "io", row.id, row.sha256, since, priority=LAST), now
                )
                wanted += 1
    return wanted
