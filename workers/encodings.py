"""Which jobs make the renditions of a recording.

Copies are quick. Rungs that are encoded have one job together; of a long recording, jobs for a `preview`, for
its `sound`, and for each `chunk`. Whoever commits the last of these wants the `rendition` that joins them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from media.report import ProbeReport
from storage.db import items, jobs
from storage.db.jobs import Lease, Wanted
from storage.db.tables import Agency, Derivative, Job
from transcode.chunks import chunk_count, cuts, may_be_long, why_whole
from transcode.encoders import SOFTWARE, Encoder
from transcode.ladder import Rung
from transcode.plan import CHUNK, PIECES, PREVIEW, SOUND, RenditionPlan
from workers.context import QUICK, JobContext
from workers.derivatives import withdraw

log = structlog.get_logger()
JOIN_PRIORITY, PREVIEW_PRIORITY, ENCODING_PRIORITY, CHUNK_PRIORITY = 28, 29, 30, 31

OF_ALL_PIECES = ("rungs", "may_copy", "chunks")

PLAYABLE_BY = frozenset({"rendition", "photo", CHUNK, SOUND})
"""Kinds of jobs that make an item playable, or lead to one that does."""


def want_renditions(
    session: Session,
    context: JobContext,
    report: ProbeReport,
    plans: Sequence[RenditionPlan],
    *,
    may_copy: bool,
) -> None:
    """Want what browsers play as it is at once, and whatever makes the rungs that are encoded."""
    copies = [plan.rung.name for plan in plans if plan.rung.is_copy]
    encoded = [plan for plan in plans if not plan.rung.is_copy]
    if copies:
        _want(session, context, "rendition", {"rungs": copies, "may_copy": may_copy}, 20, QUICK)
    if not encoded:
        return
    params = {"rungs": [plan.rung.name for plan in encoded], "may_copy": may_copy}
    whole = _wanted(context, "rendition", params, ENCODING_PRIORITY)
    count = chunk_count(report, encoded, context.settings.encoding)
    if not count and may_be_long(report, context.settings.encoding):
        why = why_whole(report, encoded, context.settings.encoding)
        log.info("encoded_whole", item=str(context.lease.subject_id), reason=why)
    # Its header may have called it short, and the job be under way.
    if not count or report.video is None or jobs.is_wanted(session, context.agency.id, whole):
        jobs.want(session, context.agency.id, whole, context.storage.clock.now())
        return
    params["chunks"] = count
    _want(session, context, PREVIEW, {**params, "rungs": [PREVIEW]}, PREVIEW_PRIORITY)
    if report.audio is not None:
        _want(session, context, SOUND, params, ENCODING_PRIORITY)
    # The smallest rung is x264's in any case.
    want_chunks(session, context, report, params, context.encoder if len(encoded) > 1 else SOFTWARE)


def want_chunks(
    session: Session, context: JobContext, report: ProbeReport, params: Mapping[str, Any], encoder: Encoder
) -> None:
    """Want every chunk of a recording, all of one encoder.

    Args:
        params: Of its encoding, or of another of its chunks.
    """
    assert report.video is not None  # noqa: S101 - only pictures are cut
    agreed = {"encoder": encoder.name} if encoder.is_hardware else {}
    common = {**{name: params[name] for name in OF_ALL_PIECES}, **agreed}
    for number, cut in enumerate(cuts(report.video, common["chunks"])):
        span = {"chunk": number, "from_pts": cut.from_pts, "to_pts": cut.to_pts}
        _want(session, context, CHUNK, {**common, **span}, CHUNK_PRIORITY)


def want_join_when_complete(session: Session, context: JobContext, report: ProbeReport) -> None:
    """Want the joining once every piece is there. The caller holds the item's lock, so somebody is last.

    Where the others will not come, as after a person requeued this one alone, it is encoded whole.
    """
    asked = context.lease.params
    made = pieces_of(session, context.agency.id, context.lease.subject_id, asked, light=True)
    there: dict[str, set[tuple[str, int]]] = {}
    for row in made:
        if row.kind == CHUNK:
            name = row.params.get("encoder", SOFTWARE.name)
            there.setdefault(name, set()).add((row.params["rung"]["name"], row.params["chunk"]))
    has_sound = report.audio is None or any(row.kind == SOUND for row in made)
    whole = [name for name, of_it in there.items() if len(of_it) == len(asked["rungs"]) * asked["chunks"]]
    if has_sound and whole:
        agreed = {} if SOFTWARE.name in whole else {"encoder": whole[0]}
        params = {**{name: asked[name] for name in OF_ALL_PIECES}, **agreed}
        _want(session, context, "rendition", params, JOIN_PRIORITY)
    elif not jobs.is_open(
        session, context.agency.id, context.lease.subject_id, PLAYABLE_BY, besides=context.lease.job_id
    ):
        want_whole(session, context.lease, context.storage.clock.now())


def want_whole(session: Session, job: Job | Lease, now: datetime) -> None:
    """Encode a long recording by one job after all, because a piece of it cannot be made or joined."""
    jobs.cancel_ready(session, job.agency_id, job.subject_id, PIECES)
    params = {"rungs": job.params["rungs"], "may_copy": job.params["may_copy"]}
    wanted = Wanted("rendition", "media", job.subject_id, job.input_digest, params, ENCODING_PRIORITY)
    # It may be done by other settings, which asked for another one in its place.
    jobs.want(session, job.agency_id, wanted, now, again=True)


def want_present_ladder(session: Session, context: JobContext, ladder: Sequence[RenditionPlan]) -> None:
    """Encode whole what the settings ask for by now, in place of what they asked for."""
    rungs = [plan.rung.name for plan in ladder if not plan.rung.is_copy]
    if rungs:
        lease = replace(context.lease, params={**context.lease.params, "rungs": rungs})
        want_whole(session, lease, context.storage.clock.now())


def pieces_of(
    session: Session, agency_id: UUID, item_id: UUID, params: Mapping[str, Any], *, light: bool = False
) -> list[Derivative]:
    """Chunks and sound that were made for one encoding of an item; there may be hundreds."""
    made = [
        row
        for kind in (CHUNK, SOUND)
        for row in items.derivatives_of(session, agency_id, item_id, kind=kind, light=light)
        if row.params["chunks"] == params["chunks"] and row.params["may_copy"] == params["may_copy"]
    ]
    return [row for row in made if row.kind == SOUND or row.params["rung"]["name"] in params["rungs"]]


def let_go_of_pieces(session: Session, job: Job | Lease, agency: Agency, reason: str, now: datetime) -> None:
    """Withdraw the pieces of an item whose renditions are there or will not come, and discard their bytes."""
    item_id = job.subject_id
    jobs.cancel_ready(session, agency.id, item_id, PIECES)
    rows = [
        row
        for kind in PIECES
        for row in items.derivatives_of(session, agency.id, item_id, kind=kind, light=True)
    ]
    for row in rows:
        withdraw(session, agency, row, reason, now)
    if rows:
        job_id = job.job_id if isinstance(job, Lease) else job.id
        jobs.want(
            session, agency.id, Wanted("discard", "io", item_id, params={"for": str(job_id)}), now, again=True
        )


def let_go_of_what_nobody_joins(session: Session, job: Job | Lease, agency: Agency, now: datetime) -> None:
    """Where no rendition will come any more, the preview must not go on promising one."""
    besides = job.job_id if isinstance(job, Lease) else job.id
    if not jobs.is_open(session, agency.id, job.subject_id, PLAYABLE_BY, besides=besides):
        let_go_of_pieces(session, job, agency, "not joined", now)


def best_rung(plans: Sequence[RenditionPlan]) -> Rung:
    """The rung redaction and clips are made from: the copy, else the largest."""
    copies = [plan.rung for plan in plans if plan.rung.copies_video]
    return copies[0] if copies else plans[-1].rung


def _want(
    session: Session,
    context: JobContext,
    kind: str,
    params: Mapping[str, Any],
    priority: int,
    queue: str = "media",
) -> None:
    wanted = _wanted(context, kind, params, priority, queue)
    jobs.want(session, context.agency.id, wanted, context.storage.clock.now())


def _wanted(
    context: JobContext, kind: str, params: Mapping[str, Any], priority: int, queue: str = "media"
) -> Wanted:
    # A copy: callers go on to say more in theirs.
    return Wanted(kind, queue, context.lease.subject_id, context.lease.input_digest, dict(params), priority)
