"""Doing a job: win the lease, work outside any transaction, commit once under the fence.

The rules (docs/design/jobs.md):

1. The lease is won in a transaction of its own; from then on a heartbeat keeps it.
2. A task reads rows, makes bytes durable in the object store, and returns what it wants written.
3. One transaction checks the fence, writes all of it and ends the job. A stale fence writes nothing.
4. What fails is sorted by kind: the surroundings' fault waits and returns, the job's own failure counts,
   fixity and custody errors are quarantined at once.
"""

from __future__ import annotations

import errno
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import structlog

from config.settings import Settings
from evidence.errors import (
    Conflict,
    CustodyError,
    EvidenceError,
    FixityError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from evidence.events import Event, Topic
from messaging.events import EventPublisher
from messaging.jobs import QUEUES, Announcer
from storage.db import agencies, clips, jobs
from storage.db.jobs import Lease
from storage.open import Storage
from transcode.encoders import SOFTWARE, Encoder
from workers.context import JobContext, Outcome, event, portions_of, worker_label
from workers.heartbeat import Heartbeat
from workers.quarantine import settle_quarantined
from workers.scratch import scratch_folder

Task = Callable[[JobContext], Outcome]
log = structlog.get_logger()

WRITES_NOTHING = frozenset({"verify", "reread", "discard", "discard_pack"})
SURROUNDINGS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EIO,
    }
)
# Trying again cannot help: the same bytes would fail the same way.
FINAL = (FixityError, CustodyError, InvalidInput, NotFound)


class Runner:
    """A worker process's hands.

    Args:
        tasks: Job kind to task.
        queues: The queues this process serves.
        encoder: What pictures are encoded with.
    """

    def __init__(
        self,
        storage: Storage,
        settings: Settings,
        tasks: Mapping[str, Task],
        queues: tuple[str, ...],
        publisher: EventPublisher,
        announcer: Announcer,
        encoder: Encoder = SOFTWARE,
    ) -> None:
        self._encoder = encoder
        self._storage = storage
        self._settings = settings
        self._tasks = tasks
        self._queues = queues
        self._publisher = publisher
        self._announcer = announcer
        self._owner = worker_label()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Give the job at hand back unharmed, and take no other; safe in a signal handler."""
        self._stopping.set()

    def look(self) -> bool:
        """Do the most urgent ready job of these queues; False when there is none, or it was told to stop."""
        if self._stopping.is_set():
            return False
        with self._storage.database.transaction() as session:
            lease = jobs.take_next_lease(
                session,
                self._queues,
                self._owner,
                self._storage.clock.now(),
                timedelta(seconds=self._settings.worker.lease_s),
            )
        if lease is None:
            return False
        self._do(lease)
        return True

    def _do(self, lease: Lease) -> None:
        scratch = scratch_folder(self._storage.scratch, lease)
        try:
            with Heartbeat(self._storage, lease, self._settings.worker.lease_s) as heartbeat:
                self._attempt(lease, heartbeat, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _attempt(self, lease: Lease, heartbeat: Heartbeat, scratch: Path) -> None:
        try:
            self._work(lease, heartbeat, scratch)
        except EvidenceError as error:
            self._failed(lease, error)
        except OSError as error:
            # The machine's fault, not the file's: a full disk must never make footage unplayable.
            kind = Unavailable if error.errno in SURROUNDINGS else EvidenceError
            log.exception("task_failed", job=str(lease.job_id), kind=lease.kind)
            self._failed(lease, kind(f"{type(error).__name__}: {error}", code="machine_fault"))
        except Exception as error:
            # A bug is the job's failure, with its trace in the log; the worker lives on.
            log.exception("task_failed", job=str(lease.job_id), kind=lease.kind)
            self._failed(lease, EvidenceError(f"{type(error).__name__}: {error}", code="internal"))

    def _work(self, lease: Lease, heartbeat: Heartbeat, scratch: Path) -> None:
        with self._storage.database.read() as session:
            agency = agencies.agency_by_id(session, lease.agency_id)
            length = clips.length_of_subject(session, lease.agency_id, lease.subject_id)
        if lease.kind not in WRITES_NOTHING:
            self._storage.objects.reserve(0)
        scratch.mkdir(mode=0o700)
        told, begun = [0], time.monotonic()

        def progress(fraction: float) -> None:
            heartbeat.progress(fraction)
            if heartbeat.permille - told[0] >= 50:
                told[0] = heartbeat.permille
                left = jobs.time_left_s(timedelta(seconds=time.monotonic() - begun), told[0])
                facts = {"kind": lease.kind, "permille": told[0], "remaining_s": left}
                self._tell(context, Topic.JOB, "progress", facts)

        def is_cancelled() -> bool:
            return self._stopping.is_set() or heartbeat.is_lost()

        context = JobContext(
            lease, agency, self._storage, self._settings, scratch, progress, is_cancelled, self._encoder,
            portions_of(*length),
        )  # fmt: skip
        self._commit(context, self._tasks[lease.kind](context))

    def _commit(self, context: JobContext, outcome: Outcome) -> None:
        with self._storage.database.transaction() as session:
            jobs.hold_fence(session, context.lease)
            outcome.commit(session, context.agency)
            jobs.finish(session, context.lease, self._storage.clock.now())
        log.info("job_done", job=str(context.lease.job_id), kind=context.lease.kind)
        for topic, subject, what, facts in outcome.events:
            self._publisher.publish(
                Event(topic, context.agency.code, subject, what, self._storage.clock.now(), facts)
            )
        self._tell(context, Topic.JOB, "done", {"kind": context.lease.kind})
        announce_due(self._storage, self._announcer, self._settings.worker.announce_again_s)

    def _failed(self, lease: Lease, error: EvidenceError) -> None:
        if isinstance(error, Conflict) and error.code == "lease_lost":
            self._note_lost(lease)
            return
        # A cancelled job is nobody's failure: lost, where nothing is written, or this worker stops.
        is_fault = not isinstance(error, Unavailable) and error.code != "cancelled"
        now = self._storage.clock.now()
        with self._storage.database.transaction() as session:
            state = jobs.put_back(
                session,
                lease,
                now,
                reason=f"{error.code}: {error.message}",
                counts=is_fault,
                max_attempts=self._settings.worker.max_attempts,
                quarantine=isinstance(error, FINAL),
            )
            is_late = state == "quarantined" and settle_quarantined(session, lease.job_id, error.code, now)
        if state is None:
            self._note_lost(lease)
            return
        log.warning("job_failed", job=str(lease.job_id), kind=lease.kind, state=state, reason=error.message)
        with self._storage.database.read() as session:
            code = agencies.agency_by_id(session, lease.agency_id).code
        facts = {"kind": lease.kind, "reason": error.code}
        self._publisher.publish(Event(Topic.JOB, code, str(lease.subject_id), state, now, facts))
        if is_late:
            self._publisher.publish(Event(Topic.ITEM, code, str(lease.subject_id), "late", now, {}))

    @staticmethod
    def _note_lost(lease: Lease) -> None:
        log.warning("lease_lost", job=str(lease.job_id), kind=lease.kind, fence=lease.fence)

    def _tell(self, context: JobContext, topic: Topic, what: str, facts: Mapping[str, object]) -> None:
        self._publisher.publish(event(context, topic, what, facts))


def announce_due(storage: Storage, announcer: Announcer, again_s: float) -> int:
    """Tell workers of ready jobs they have not been told of lately; the number told.

    Raises:
        Unavailable: The database does not answer. A silent broker is only logged: jobs wait.
    """
    due: list[tuple[UUID, str]] = []
    with storage.database.transaction() as session:
        for queue in QUEUES:
            due += jobs.to_announce(session, storage.clock.now(), timedelta(seconds=again_s), queue)
    return announcer.announce_all(due)
