"""The transaction of taking in: a staged file becomes an object, then rows, once; and who is told of it."""

from __future__ import annotations

import queue
import threading
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError

from evidence.events import Event, Topic
from ingest.intake import Accepted, accept, is_of_words
from ingest.naming import Vocabulary
from ingest.sources.base import StagedFile
from ingest.wording import without_words
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, jobs
from storage.objects.base import StoredObject
from storage.open import Storage

RACES = 5
MAX_UNTOLD = 1000
"""Arrivals that wait to be told; beyond, the relay alone announces their jobs."""
CLOSE_WAIT_S = 3.0
log = structlog.get_logger()


def hold(
    storage: Storage, agency_id: UUID, staged: StagedFile, vocabulary: Vocabulary | None = None
) -> Accepted:
    """Adopt the bytes, then commit object, item, reception, leaf and jobs.

    Words of the sender that the database refuses are left out, and the item says so: trying the
    same words again would fail for ever.

    Raises:
        Unavailable: Disk full, database or store away; the staged file is untouched.
        FixityError: What lies under the digest is not these bytes.
    """
    stored = storage.objects.adopt(staged.path, staged.sha256, staged.size_bytes, agency_id.hex)
    for race in range(RACES):
        try:
            return _entered(storage, agency_id, staged, stored, vocabulary)
        except IntegrityError:
            # Equal bytes came in twice at the same instant; the second look finds the first's rows.
            if race == RACES - 1:
                raise
    raise AssertionError("the last race returns or raises")


def _entered(
    storage: Storage,
    agency_id: UUID,
    staged: StagedFile,
    stored: StoredObject,
    vocabulary: Vocabulary | None,
) -> Accepted:
    try:
        return _committed(storage, agency_id, staged, stored, vocabulary)
    except Exception as error:
        # Which library refuses which words differs by database; all else goes on up.
        if not is_of_words(error):
            raise
        log.warning("ingest:words_refused", sha256=staged.sha256.hex(), error=type(error).__name__)
    return _committed(storage, agency_id, without_words(staged), stored, vocabulary)


def _committed(
    storage: Storage,
    agency_id: UUID,
    staged: StagedFile,
    stored: StoredObject,
    vocabulary: Vocabulary | None,
) -> Accepted:
    with storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, agency_id)
        return accept(session, agency, staged, stored, storage.clock.now(), vocabulary)


class Holder:
    """Takes staged files into custody and has it told, without the sender waiting for that.

    Args:
        publisher: Told after the commit.
        announcer: Told of the jobs, so that nobody waits for the relay's next round.
        vocabulary: What file names are read with; what is shipped when omitted.
    """

    def __init__(
        self,
        storage: Storage,
        publisher: EventPublisher,
        announcer: Announcer,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._storage = storage
        self._vocabulary = vocabulary
        self._publisher = publisher
        self._announcer = announcer
        self._untold: queue.Queue[tuple[UUID, Accepted] | None] = queue.Queue(MAX_UNTOLD)
        self._teller = threading.Thread(target=self._tell_all, name="holding-teller", daemon=True)
        self._teller.start()

    def hold(self, agency_id: UUID, staged: StagedFile) -> Accepted:
        """As `hold`; events and announcements follow by themselves.

        Raises:
            Unavailable, FixityError: As `hold`.
        """
        accepted = hold(self._storage, agency_id, staged, self._vocabulary)
        try:
            self._untold.put_nowait((agency_id, accepted))
        except queue.Full:
            # The rows are there: the relay finds the jobs, and a reader asks the API.
            log.warning("ingest:not_told", item=str(accepted.item_id), reason="too many wait")
        return accepted

    def tell(self, event: Event) -> None:
        """News of something else."""
        self._publisher.publish(event)

    def close(self, wait_s: float = CLOSE_WAIT_S) -> None:
        """Tell what is left, for a short while, and stop."""
        try:
            self._untold.put(None, timeout=wait_s)
        except queue.Full:
            log.warning("ingest:not_told", reason="the broker does not answer", count=self._untold.qsize())
            return
        self._teller.join(wait_s)

    def _tell_all(self) -> None:
        while (arrival := self._untold.get()) is not None:
            try:
                self._tell(*arrival)
            except Exception:
                # Nothing is lost by silence: the relay announces every job that waits.
                log.exception("ingest:not_told", item=str(arrival[1].item_id))

    def _tell(self, agency_id: UUID, accepted: Accepted) -> None:
        now = self._storage.clock.now()
        with self._storage.database.transaction() as session:
            code = agencies.agency_by_id(session, agency_id).code
            due = jobs.to_announce_of(session, accepted.item_id, now)
        facts = {"sha256": accepted.sha256.hex(), "size_bytes": accepted.size_bytes}
        what = "received" if accepted.is_new else "received_again"
        try:
            self._publisher.publish(Event(Topic.ITEM, code, str(accepted.item_id), what, now, facts))
        finally:
            self._announcer.announce_all(due)
