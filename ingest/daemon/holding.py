"""The transaction of the ingest daemon: a staged file becomes an object, then rows, once."""

from __future__ import annotations

from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from evidence.events import Event, Topic
from ingest.intake import Accepted, accept
from ingest.sources.base import StagedFile
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, jobs
from storage.open import Storage

RACES = 5
log = structlog.get_logger()


class Holder:
    """Takes staged files into custody.

    Args:
        publisher: Told after the commit.
        announcer: Told of the jobs, so that nobody waits for the relay's next round.
    """

    def __init__(self, storage: Storage, publisher: EventPublisher, announcer: Announcer) -> None:
        self._storage = storage
        self._publisher = publisher
        self._announcer = announcer

    def hold(self, agency_id: UUID, staged: StagedFile) -> Accepted:
        """Adopt the bytes, then commit object, item, reception, leaf and jobs.

        Raises:
            Unavailable: Disk full, database or store away; the staged file is untouched.
            FixityError: What lies under the digest is not these bytes.
        """
        stored = self._storage.objects.adopt(staged.path, staged.sha256, staged.size_bytes, agency_id.hex)
        for race in range(RACES):
            try:
                with self._storage.database.transaction() as session:
                    agency = agencies.agency_by_id(session, agency_id)
                    accepted = accept(session, agency, staged, stored, self._storage.clock.now())
                    code = agency.code
                break
            except IntegrityError:
                # Equal bytes came in twice at the same instant; the second look finds the first's rows.
                if race == RACES - 1:
                    raise
        self._tell(code, accepted)
        return accepted

    def _tell(self, agency_code: str, accepted: Accepted) -> None:
        now = self._storage.clock.now()
        facts = {"sha256": accepted.sha256.hex(), "size_bytes": accepted.size_bytes}
        what = "received" if accepted.is_new else "received_again"
        self._publisher.publish(Event(Topic.ITEM, agency_code, str(accepted.item_id), what, now, facts))
        with self._storage.database.transaction() as session:
            due = jobs.to_announce_of(session, accepted.item_id, now)
        self._announcer.announce_all(due)
