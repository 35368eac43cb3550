"""The queue of record: a job is a row with input digest, lease, attempt and fence (invariant 5).

A message on the broker only says "look at job N". Whoever looks must win the lease here; each lease
raises the fence, and only the newest fence may commit. A failure counts as an attempt; a dead worker
counts as a death. Past the caps a job is quarantined with its reason and waits for a person.

``now`` is the caller's own time everywhere. What is stored and compared is `shared_now`: on PostgreSQL the
database's clock, so that hosts whose clocks differ agree on when a lease ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from evidence.canonical import canonical_json
from evidence.errors import Conflict, NotFound
from evidence.ids import new_id
from storage.db.shared_clock import shared_now
from storage.db.tables import Job

NO_INPUT = bytes(32)
ASKED_MOST = timedelta(minutes=10)
"""More footage than this is long work, whoever waits for it."""
ASKED_FIRST, ASKED_LAST = 20, 30
"""Priorities: what is shortest first, so that a picture is not behind a set of a hundred clips."""
SURE_FROM_PERMILLE = 20
"""Before this share is done nothing is said of the rest."""


@dataclass(frozen=True)
class Wanted:
    """A job somebody wants done.

    Attributes:
        kind: Name of the task, such as ``verify``.
        queue: ``io``; ``quick``, what makes new footage playable in moments; ``asked``, what somebody waits
            for and is made in minutes; or ``media``, what takes long.
        subject_id: What it is about.
        input_digest: Of the bytes it reads; with kind, subject and parameters it makes a job unique.
        priority: Lower first.
        after_s: How long it waits at least before a worker takes it.
    """

    kind: str
    queue: str
    subject_id: UUID
    input_digest: bytes = NO_INPUT
    params: Mapping[str, Any] | None = None
    priority: int = 50
    after_s: float = 0


def wanted_by_people(
    kind: str, subject_id: UUID, input_digest: bytes, params: Mapping[str, Any], footage: timedelta
) -> Wanted:
    """What somebody waits for: its queue has a worker of its own, which no long work ever takes.

    Args:
        footage: How much footage is drawn anew for it.
    """
    queue = "asked" if footage <= ASKED_MOST else "media"
    priority = min(ASKED_FIRST + footage // timedelta(minutes=1), ASKED_LAST)
    return Wanted(kind, queue, subject_id, input_digest, params, priority)


@dataclass(frozen=True)
class Lease:
    """The right to do a job until it is taken back."""

    job_id: UUID
    agency_id: UUID
    kind: str
    queue: str
    subject_id: UUID
    input_digest: bytes
    params: dict[str, Any]
    fence: int
    attempt: int
    deaths: int
    owner: str


def want(session: Session, agency_id: UUID, wanted: Wanted, now: datetime, *, again: bool = False) -> None:
    """Put a job on the queue in the caller's transaction; wanting it twice makes it once.

    One that was let go comes back, under a higher fence as soon as it is leased.

    Args:
        again: One that is done comes back too, since what it made is not there any more.
    """
    params = dict(wanted.params or {})
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    at, run_after = shared_now(session, now), shared_now(session, now, timedelta(seconds=wanted.after_s))
    is_new = session.execute(
        insert(Job)
        .values(
            id=new_id(),
            agency_id=agency_id,
            kind=wanted.kind,
            queue=wanted.queue,
            subject_id=wanted.subject_id,
            input_digest=wanted.input_digest,
            params_digest=hashlib.sha256(canonical_json(params)).digest(),
            params=params,
            state="ready",
            priority=wanted.priority,
            run_after=run_after,
            created_at=at,
            attempt=0,
            deaths=0,
            fence=0,
            progress_permille=0,
        )
        .on_conflict_do_nothing()
        .returning(Job.id)
    ).scalar_one_or_none()
    if is_new is None:
        # Only rows in these states are touched: a job at work is not waited for.
        states = ("cancelled", "done") if again else ("cancelled",)
        session.execute(
            update(Job)
            .where(*_same(agency_id, wanted), Job.state.in_(states))
            .values(
                state="ready",
                priority=wanted.priority,
                run_after=run_after,
                attempt=0,
                deaths=0,
                announced_at=None,
                finished_at=None,
                progress_permille=0,
            )
        )


def _same(agency_id: UUID, wanted: Wanted) -> tuple[ColumnElement[bool], ...]:
    """The job there can be one of."""
    params = canonical_json(dict(wanted.params or {}))
    return (
        Job.agency_id == agency_id,
        Job.kind == wanted.kind,
        Job.subject_id == wanted.subject_id,
        Job.input_digest == wanted.input_digest,
        Job.params_digest == hashlib.sha256(params).digest(),
    )


def is_wanted(session: Session, agency_id: UUID, wanted: Wanted) -> bool:
    """Whether such a job was wanted before, whatever became of it."""
    return session.scalar(select(Job.id).where(*_same(agency_id, wanted))) is not None


def take_next_lease(
    session: Session, queues: Sequence[str], owner: str, now: datetime, lease: timedelta
) -> Lease | None:
    """Win the lease of the most urgent ready job of these queues, or None when there is none."""
    ready = (
        select(Job.id)
        .where(Job.state == "ready", Job.run_after <= shared_now(session, now), Job.queue.in_(queues))
        .order_by(Job.priority, Job.created_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job_id = session.scalar(ready)
    if job_id is None:
        return None
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == "ready")
        .values(
            state="leased",
            fence=Job.fence + 1,
            lease_owner=owner,
            lease_until=shared_now(session, now, lease),
            started_at=shared_now(session, now),
            progress_permille=0,
        )
        .returning(Job)
    ).scalar_one()
    return Lease(
        job_id=row.id,
        agency_id=row.agency_id,
        kind=row.kind,
        queue=row.queue,
        subject_id=row.subject_id,
        input_digest=row.input_digest,
        params=row.params,
        fence=row.fence,
        attempt=row.attempt,
        deaths=row.deaths,
        owner=owner,
    )


def _held(lease: Lease) -> ColumnElement[bool]:
    return and_(
        Job.agency_id == lease.agency_id,
        Job.id == lease.job_id,
        Job.fence == lease.fence,
        Job.state == "leased",
    )


def extend_lease(
    session: Session, lease: Lease, now: datetime, by: timedelta, progress_permille: int
) -> bool:
    """Heartbeat. False when the lease was lost: the holder must stop."""
    result = session.execute(
        update(Job)
        .where(_held(lease))
        .values(lease_until=shared_now(session, now, by), progress_permille=progress_permille)
        .returning(Job.id)
    )
    return result.scalar_one_or_none() is not None


def hold_fence(session: Session, lease: Lease) -> None:
    """Check, and lock, the fence in the committing transaction.

    Raises:
        Conflict: Somebody else has the job by now; nothing of this attempt may be kept.
    """
    held = session.execute(select(Job.id).where(_held(lease)).with_for_update()).scalar_one_or_none()
    if held is None:
        raise Conflict(
            f"job {lease.job_id}: expected fence {lease.fence} in force, found a newer one",
            code="lease_lost",
        )


def finish(session: Session, lease: Lease, now: datetime) -> None:
    """Mark the job done; call after `hold_fence` in the same transaction."""
    session.execute(
        update(Job)
        .where(_held(lease))
        .values(
            state="done",
            finished_at=shared_now(session, now),
            progress_permille=1000,
            lease_owner=None,
            lease_until=None,
        )
    )


def note(session: Session, lease: Lease, what: str) -> None:
    """Keep with a job in one line what went otherwise than it was meant to, though it succeeds."""
    session.execute(update(Job).where(_held(lease)).values(last_error=what[:1000]))


def put_back(
    session: Session,
    lease: Lease,
    now: datetime,
    *,
    reason: str,
    counts: bool,
    max_attempts: int,
    quarantine: bool = False,
) -> str | None:
    """Return a job after a failure: ready again with back-off, or quarantined.

    Args:
        counts: Whether this was the job's own failure (an attempt) rather than the surroundings'.
        quarantine: The failure will not go away: no further attempt.

    Returns:
        The new state, or None when the lease was lost meanwhile.
    """
    attempt = lease.attempt + (1 if counts else 0)
    state = "quarantined" if quarantine or attempt >= max_attempts else "ready"
    delay = timedelta(seconds=min(300, 2**attempt if counts else 5))
    changed = session.execute(
        update(Job)
        .where(_held(lease))
        .values(
            state=state,
            attempt=attempt,
            last_error=reason[:1000],
            run_after=shared_now(session, now, delay),
            lease_owner=None,
            lease_until=None,
            announced_at=None,
            finished_at=shared_now(session, now) if state == "quarantined" else None,
        )
        .returning(Job.id)
    ).scalar_one_or_none()
    return state if changed else None


def silent(session: Session, now: datetime) -> list[tuple[UUID, UUID]]:
    """Jobs whose workers let their leases run out, as (agency, id), the longest silent first."""
    over = (Job.state == "leased", Job.lease_until < shared_now(session, now))
    rows = session.execute(select(Job.agency_id, Job.id).where(*over).order_by(Job.lease_until))
    return [(row[0], row[1]) for row in rows]


def take_back(
    session: Session,
    agency_id: UUID,
    job_id: UUID,
    now: datetime,
    *,
    max_deaths: int,
    isolate_after_deaths: int,
) -> Job | None:
    """Count the death of a job's worker: ready again, isolated, or quarantined.

    Returns:
        The row as it is now; None when its worker spoke again, or somebody else is at it.
    """
    at = shared_now(session, now)
    found = session.execute(
        select(Job, at)
        .where(Job.agency_id == agency_id, Job.id == job_id, Job.state == "leased", Job.lease_until < at)
        .with_for_update(skip_locked=True, of=Job)
    ).one_or_none()
    if found is None:
        return None
    job, swept_at = found[0], found[1]
    job.deaths += 1
    job.last_error = f"worker {job.lease_owner} fell silent ({job.deaths})"
    job.lease_owner, job.lease_until, job.announced_at = None, None, None
    if job.deaths >= max_deaths:
        job.state, job.finished_at = "quarantined", swept_at
    else:
        job.state, job.run_after = "ready", swept_at
        if job.deaths >= isolate_after_deaths:
            job.queue = "isolated"
    session.flush()
    return job


def leases_in_force(session: Session, job_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
    """Which of these jobs are leased now, each with the fence that holds."""
    if not job_ids:
        return set()
    rows = session.execute(select(Job.id, Job.fence).where(Job.id.in_(job_ids), Job.state == "leased")).all()
    return {(row[0], row[1]) for row in rows}


def to_announce(
    session: Session, now: datetime, again_after: timedelta, queue: str, limit: int = 32
) -> list[tuple[UUID, str]]:
    """Ready jobs of a queue nobody has been told of lately, as (id, queue), marked as announced.

    A message makes a worker look until nothing is left, so a few under way are enough for any backlog:
    never more than ``limit`` are told within ``again_after``.
    """
    at, long_ago = shared_now(session, now), shared_now(session, now, -again_after)
    under_way = select(func.count()).where(
        Job.state == "ready", Job.queue == queue, Job.announced_at >= long_ago
    )
    room = limit - (session.scalar(under_way) or 0)
    if room <= 0:
        return []
    due = (
        select(Job.id)
        .where(
            Job.state == "ready",
            Job.queue == queue,
            Job.run_after <= at,
            or_(Job.announced_at.is_(None), Job.announced_at < long_ago),
        )
        .order_by(Job.priority, Job.created_at)
        .limit(room)
    )
    ids = list(session.scalars(due))
    if not ids:
        return []
    told = update(Job).where(Job.id.in_(ids), Job.state == "ready").values(announced_at=at)
    return [(job_id, queue) for job_id in session.scalars(told.returning(Job.id))]


def to_announce_of(session: Session, subject_id: UUID, now: datetime) -> list[tuple[UUID, str]]:
    """Jobs about one subject nobody has been told of, as (id, queue), marked as announced."""
    at = shared_now(session, now)
    rows = session.execute(
        update(Job)
        .where(
            Job.subject_id == subject_id,
            Job.state == "ready",
            Job.run_after <= at,
            Job.announced_at.is_(None),
        )
        .values(announced_at=at)
        .returning(Job.id, Job.queue)
    ).all()
    return [(row[0], row[1]) for row in rows]


def has_waited(session: Session, queues: Sequence[str], now: datetime, longer_than: timedelta) -> bool:
    """Whether a job of these queues has been ready and announced for longer than that."""
    found = session.scalar(
        select(Job.id)
        .where(
            Job.state == "ready",
            Job.queue.in_(queues),
            Job.run_after < shared_now(session, now, -longer_than),
            Job.announced_at.is_not(None),
        )
        .limit(1)
    )
    return found is not None


def job_by_id(session: Session, agency_id: UUID, job_id: UUID) -> Job:
    """The job of that id.

    Raises:
        NotFound: The agency has none.
    """
    job = session.scalars(select(Job).where(Job.agency_id == agency_id, Job.id == job_id)).one_or_none()
    if job is None:
        raise _no_job(job_id)
    return job


def _no_job(job_id: UUID) -> NotFound:
    return NotFound(f"job {job_id}: expected a job of this agency, found none", code="job_not_found")


def requeue(session: Session, agency_id: UUID, job_id: UUID, now: datetime) -> Job:
    """Give a quarantined job fresh attempts.

    Raises:
        NotFound: The agency has no such job.
        Conflict: It is not quarantined.
    """
    query = select(Job, shared_now(session, now)).where(Job.agency_id == agency_id, Job.id == job_id)
    found = session.execute(query.with_for_update(of=Job)).one_or_none()
    if found is None:
        raise _no_job(job_id)
    job, at = found[0], found[1]
    if job.state != "quarantined":
        raise Conflict(f"job {job_id}: expected quarantined, found {job.state}", code="job_not_quarantined")
    job.state, job.attempt, job.deaths, job.run_after = "ready", 0, 0, at
    job.announced_at, job.finished_at = None, None
    return job


def is_open(
    session: Session,
    agency_id: UUID,
    subject_id: UUID,
    kinds: Collection[str],
    *,
    besides: UUID | None = None,
) -> bool:
    """Whether a job of these kinds about the subject is still to be done, `besides` left out."""
    query = select(Job.id).where(
        Job.agency_id == agency_id,
        Job.subject_id == subject_id,
        Job.kind.in_(kinds),
        Job.state.in_(("ready", "leased")),
    )
    if besides is not None:
        query = query.where(Job.id != besides)
    return session.scalar(query.limit(1)) is not None


def cancel_ready(session: Session, agency_id: UUID, subject_id: UUID, kinds: Collection[str]) -> None:
    """Let go of jobs of these kinds about the subject that nobody works on: what they are for is there."""
    session.execute(
        update(Job)
        .where(
            Job.agency_id == agency_id,
            Job.subject_id == subject_id,
            Job.kind.in_(kinds),
            Job.state == "ready",
        )
        .values(state="cancelled")
    )


def time_left_s(elapsed: timedelta, progress_permille: int) -> int | None:
    """Seconds until a job is done if it goes on as so far; None while that would be a guess."""
    if progress_permille < SURE_FROM_PERMILLE or elapsed <= timedelta(0):
        return None
    return round(elapsed.total_seconds() * (1000 - progress_permille) / progress_permille)


def stuck(session: Session, agency_id: UUID, now: datetime, older_than: timedelta) -> Sequence[Job]:
    """Jobs a person should look at: quarantined, or waiting or running for too long."""
    long_ago = shared_now(session, now, -older_than)
    return session.scalars(
        select(Job)
        .where(
            Job.agency_id == agency_id,
            or_(
                Job.state == "quarantined",
                and_(Job.state == "ready", Job.created_at < long_ago),
                and_(Job.state == "leased", Job.started_at < long_ago),
            ),
        )
        .order_by(Job.created_at)
        .limit(500)
    ).all()


def counts(session: Session, agency_id: UUID) -> dict[str, int]:
    """Number of jobs by state."""
    rows = session.execute(
        select(Job.state, func.count()).where(Job.agency_id == agency_id).group_by(Job.state)
    ).all()
    return dict(rows)
