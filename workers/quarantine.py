"""What a quarantined job means for its item: nothing is left waiting for work that will not come."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.item import Media
from ingest import lateness
from ingest.binding import bind_by_claims
from ingest.correction import set_times
from ingest.damage import Damage, note_damage
from storage.db import agencies, custody, items, jobs
from storage.db.custody import Happening
from storage.db.jobs import Wanted
from storage.db.tables import Agency, Derivative, Item, Job
from transcode.plan import PIECES, PREVIEW
from workers.context import WORKER
from workers.derivatives import want_followers
from workers.encodings import PLAYABLE_BY, let_go_of_what_nobody_joins, want_whole
from workers.packing import note_not_cut

UNREADABLE = "object_unreadable"
READINGS = frozenset({"probe", "examine"})
MEDIA_JOBS = READINGS | PLAYABLE_BY


def settle_quarantined(session: Session, job_id: UUID, code: str, now: datetime) -> bool:
    """Record the quarantine and move the item where a person will find it; in the caller's transaction.

    Returns:
        Whether the item is late, as is found here for the first time: a file that cannot be read is judged by
        what was said of it, like any other.
    """
    job = session.scalars(select(Job).where(Job.id == job_id)).one()
    agency = agencies.agency_by_id(session, job.agency_id)
    if code == UNREADABLE:
        # First of all, because it locks every item of the object in one order.
        _alarm(session, agency, job, now)
    item = session.scalars(
        select(Item).where(Item.agency_id == agency.id, Item.id == job.subject_id).with_for_update()
    ).one_or_none()
    facts = {"job": str(job.id), "kind": job.kind, "code": code, "attempt": job.attempt, "deaths": job.deaths}
    custody.record(
        session,
        agency,
        Happening(Action.JOB_QUARANTINED, "item" if item else "job", str(job.subject_id), WORKER, facts),
        now,
    )
    if job.kind == "clip":
        # Whoever asked for a set is handed the others.
        note_not_cut(session, agency.id, job.subject_id, code, now)
    if item is None:
        return False
    if job.kind in PIECES or (job.kind == "rendition" and "chunks" in job.params):
        # The recording is as sound as before: what one piece could not be made of is encoded whole.
        if job.kind != PREVIEW:
            want_whole(session, job, now)
    else:
        items.flag(
            item, f"{job.kind}_quarantined", f"{job.kind}: {job.last_error or code}; requeue it once mended"
        )
    if job.kind == "rendition" and "chunks" not in job.params and len(job.params["rungs"]) > 1:
        # One rung may be what no worker survives: each gets a job of its own, so that the others come.
        _want_one_by_one(session, job, now)
    is_waiting = item.media in {Media.UNPROBED, Media.PROBED}
    if job.kind in MEDIA_JOBS and is_waiting and not jobs.is_open(session, agency.id, item.id, PLAYABLE_BY):
        mark_unplayable(session, agency, item, code, now)
    elif job.kind == "rendition" and not jobs.is_open(session, agency.id, item.id, PLAYABLE_BY):
        # The largest rung will not come: what there is gets its poster and its masks.
        largest = largest_rendition(session, agency.id, item.id)
        if largest is not None:
            want_after_rendition(session, agency.id, largest, now)
    if job.kind in MEDIA_JOBS:
        let_go_of_what_nobody_joins(session, job, agency, now)
    if job.kind not in READINGS:
        return False
    set_times(session, item, now)
    return lateness.judge(session, agency, item, now) is not None


def _want_one_by_one(session: Session, job: Job, now: datetime) -> None:
    for rung in job.params["rungs"]:
        params = {"rungs": [rung], "may_copy": job.params["may_copy"]}
        wanted = Wanted(job.kind, job.queue, job.subject_id, job.input_digest, params, job.priority)
        jobs.want(session, job.agency_id, wanted, now)


def _alarm(session: Session, agency: Agency, job: Job, now: datetime) -> None:
    """The medium gave nothing back at any attempt: that is damage, and is told by name."""
    about = select(Item).where(Item.agency_id == agency.id, Item.id == job.subject_id)
    item = session.scalars(about).one_or_none()
    stored = (
        items.object_of(session, item) if item else items.object_by_id(session, agency.id, job.subject_id)
    )
    damage = Damage("unreadable", "the medium gives an error")
    note_damage(session, agency, stored, damage, actor=WORKER, now=now)


def largest_rendition(session: Session, agency_id: UUID, item_id: UUID) -> Derivative | None:
    """The rendition with the most pixels; None where none was made."""
    made = items.derivatives_of(session, agency_id, item_id, kind="rendition")
    return max(made, key=lambda row: row.info["width_px"] * row.info["height_px"], default=None)


def want_after_rendition(session: Session, agency_id: UUID, row: Derivative, now: datetime) -> None:
    """Poster, redaction and what helps to find one's way; wanting them twice makes them once."""
    for kind, queue, priority in (("poster", "quick", 35), ("redact", "media", 40)):
        params = {"derivative": str(row.id)}
        jobs.want(session, agency_id, Wanted(kind, queue, row.item_id, row.sha256, params, priority), now)
    want_followers(session, agency_id, row, now)


def mark_unplayable(session: Session, agency: Agency, item: Item, code: str, now: datetime) -> None:
    """The item cannot be played: kept, listed, and bound like any other (L15, R10)."""
    item.media = str(Media.UNPLAYABLE)
    custody.record(
        session, agency, Happening(Action.ITEM_UNPLAYABLE, "item", str(item.id), WORKER, {"code": code}), now
    )
    bind_by_claims(session, agency, item, now)
