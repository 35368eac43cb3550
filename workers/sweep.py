"""Taking back the jobs of workers that fell silent, each in a transaction of its own.

A job is counted dead, quarantined where that was one death too many, and settled with its item, or nothing of
it happens: then it stays as it was and the next round takes it again. What fails round after round is an
alarm, which ends when the job is settled. One transaction holds one job and what is about it, so a round
never holds one item while it waits for another (docs/design/jobs.md, "Order of locks").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from config.settings import WorkerSettings
from evidence.errors import EvidenceError
from evidence.events import Event, Topic
from messaging.events import EventPublisher
from storage.db import agencies, alarms, jobs
from storage.db.alarms import NewAlarm
from storage.db.tables import Agency, Job
from storage.open import Storage
from workers.context import WORKER
from workers.quarantine import settle_quarantined

UNSETTLED = "job_unsettled"
ALARM_AFTER = 4
"""Rounds in a row that could not take a job back before a person is told."""
log = structlog.get_logger()


@dataclass(frozen=True)
class _Taken:
    """A job as it is once taken back."""

    job_id: UUID
    subject_id: UUID
    kind: str
    state: str
    agency_code: str
    is_late: bool
    was_unsettled: bool


class Sweep:
    """The relay's sweep; it remembers how often a job could not be taken back."""

    def __init__(self, storage: Storage, worker: WorkerSettings, publisher: EventPublisher) -> None:
        self._storage = storage
        self._worker = worker
        self._publisher = publisher
        self._failures: Counter[UUID] = Counter()

    def round(self) -> int:
        """Take back the leases that ran out; the number taken back."""
        now = self._storage.clock.now()
        with self._storage.database.read() as session:
            silent = jobs.silent(session, now)
        self._failures = Counter({job_id: self._failures[job_id] for _, job_id in silent})
        taken = [each for found in silent if (each := self._try(*found, now)) is not None]
        for each in taken:
            self._tell(each, now)
        return len(taken)

    def _try(self, agency_id: UUID, job_id: UUID, now: datetime) -> _Taken | None:
        """A job that cannot be settled keeps no other from being taken back."""
        try:
            return self._take(agency_id, job_id, now)
        except Exception as error:
            # Counted, logged and, if it goes on, an alarm.
            times = self._failures[job_id] = self._failures[job_id] + 1
            if times & (times - 1) == 0:  # After 1, 2, 4, 8 … times: the next round is half a second away.
                log.exception("settle_failed", job=str(job_id), times=times)
                if times >= ALARM_AFTER:
                    self._raise_alarm(agency_id, job_id, error, now)
            return None

    def _take(self, agency_id: UUID, job_id: UUID, now: datetime) -> _Taken | None:
        with self._storage.database.transaction() as session:
            job = jobs.take_back(
                session,
                agency_id,
                job_id,
                now,
                max_deaths=self._worker.max_deaths,
                isolate_after_deaths=self._worker.isolate_after_deaths,
            )
            if job is None:
                return None
            agency = agencies.agency_by_id(session, agency_id)
            is_late = job.state == "quarantined" and settle_quarantined(session, job.id, "worker_died", now)
            cleared = _clear_alarm(session, agency, job, now)
            return _Taken(job.id, job.subject_id, job.kind, job.state, agency.code, is_late, cleared)

    def _tell(self, taken: _Taken, now: datetime) -> None:
        job_id, subject_id = str(taken.job_id), str(taken.subject_id)
        log.warning("lease_taken_back", job=job_id, kind=taken.kind, state=taken.state)
        events = [(Topic.JOB, job_id, "lease_taken_back", {"kind": taken.kind})]
        if taken.is_late:
            events.append((Topic.ITEM, subject_id, "late", {}))
        if taken.was_unsettled:
            events.append((Topic.ALARM, job_id, "cleared", {"code": UNSETTLED}))
        for topic, about, what, facts in events:
            self._publisher.publish(Event(topic, taken.agency_code, about, what, now, facts))

    def _raise_alarm(self, agency_id: UUID, job_id: UUID, error: Exception, now: datetime) -> None:
        try:
            with self._storage.database.transaction() as session:
                job = jobs.job_by_id(session, agency_id, job_id)
                agency = agencies.agency_by_id(session, agency_id)
                is_new = alarms.raise_alarm(session, agency, _unsettled(job, error), actor=WORKER, now=now)
        except Exception:
            # The others of the round come first; it is tried again with the next line in the log.
            log.exception("alarm_failed", job=str(job_id))
            return
        if is_new:
            self._publisher.publish(
                Event(Topic.ALARM, agency.code, str(job_id), "raised", now, {"code": UNSETTLED})
            )


def _unsettled(job: Job, error: Exception) -> NewAlarm:
    # What other libraries say may carry values of rows; the log of the relay has it.
    found = error.code if isinstance(error, EvidenceError) else type(error).__name__
    message = (
        f"job {job.id} ({job.kind}) of {job.subject_id}: expected to be taken back from a worker that fell "
        f"silent, found {found} {ALARM_AFTER} times; look for settle_failed in the log of the relay, which "
        "goes on trying"
    )
    facts = {"job": str(job.id), "kind": job.kind, "about": str(job.subject_id), "found": found}
    return NewAlarm(UNSETTLED, "job", str(job.id), message, facts)


def _clear_alarm(session: Session, agency: Agency, job: Job, now: datetime) -> bool:
    alarm = alarms.standing_about(session, agency.id, "job", str(job.id), UNSETTLED)
    if alarm is None:
        return False
    facts = {"state": job.state}
    reason = "已收回 / taken back"
    alarms.clear(session, agency, alarm, actor=WORKER, reason=reason, now=now, evidence=facts)
    return True
