"""Jobs: what is stuck, and giving a mended job fresh attempts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Query

from api.auth.gate import Gate
from api.auth.seat import DeskOf
from api.schemas.administration import JobCounts, JobShown
from evidence.access import Act
from evidence.custody import Action
from storage.db import alarms, jobs
from storage.db.tables import Job

gate = Gate("作业 Jobs")


@gate.get("/jobs/counts", Act.MANAGE_JOBS, summary="作业数量 Counts")
def counts(desk: DeskOf) -> JobCounts:
    """按状态。By state."""
    with desk.reading() as work:
        return JobCounts(
            counts=jobs.counts(work.session, work.agency_id),
            alarms=alarms.count_standing(work.session, work.agency_id),
        )


@gate.get("/jobs/stuck", Act.MANAGE_JOBS, summary="需关注的作业 Stuck jobs")
def stuck(
    desk: DeskOf,
    older_than_s: Annotated[int, Query(ge=1, le=366 * 86400)] = 3600,
) -> list[JobShown]:
    """已隔离的,以及等待或运行过久的。Quarantined ones, and those waiting or running for too long."""
    with desk.reading() as work:
        rows = jobs.stuck(work.session, work.agency_id, work.now, timedelta(seconds=older_than_s))
        return [_shown(row, work.now) for row in rows]


@gate.post("/jobs/{job_id}/requeue", Act.MANAGE_JOBS, problems=(404, 409), summary="重新排队 Requeue")
def requeue(job_id: UUID, desk: DeskOf) -> JobShown:
    """仅限已隔离的作业。Only a quarantined one."""
    with desk.writing() as work:
        row = jobs.requeue(work.session, work.agency_id, job_id, work.now)
        facts = {"job": str(row.id), "kind": row.kind}
        work.record(Action.JOB_REQUEUED, "job", row.id, facts)
        return _shown(row, work.now)


def _remaining_s(row: Job, now: datetime) -> int | None:
    if row.state != "leased" or row.started_at is None:
        return None
    return jobs.time_left_s(now - row.started_at, row.progress_permille)


def _shown(row: Job, now: datetime) -> JobShown:
    return JobShown(
        id=row.id,
        kind=row.kind,
        queue=row.queue,
        subject_id=row.subject_id,
        state=row.state,
        attempt=row.attempt,
        deaths=row.deaths,
        progress_permille=row.progress_permille,
        remaining_s=_remaining_s(row, now),
        last_error=row.last_error,
        created_at=row.created_at,
        started_at=row.started_at,
    )
