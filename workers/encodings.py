"""Which jobs make the renditions of a recording."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from storage.db import jobs
from storage.db.jobs import Wanted
from transcode.ladder import Rung
from transcode.plan import RenditionPlan
from workers.context import QUICK, JobContext


def want_renditions(
    session: Session, context: JobContext, plans: Sequence[RenditionPlan], *, may_copy: bool
) -> None:
    """Want what browsers play as it is at once, and one job for all rungs that are encoded."""
    copies = [plan.rung.name for plan in plans if plan.rung.is_copy]
    encoded = [plan.rung.name for plan in plans if not plan.rung.is_copy]
    subject, digest = context.lease.subject_id, context.lease.input_digest
    now = context.storage.clock.now()
    for rungs, queue, priority in ((copies, QUICK, 20), (encoded, "media", 30)):
        if rungs:
            params = {"rungs": rungs, "may_copy": may_copy}
            wanted = Wanted("rendition", queue, subject, digest, params, priority)
            jobs.want(session, context.agency.id, wanted, now)


def best_rung(plans: Sequence[RenditionPlan]) -> Rung:
    """The rung redaction and clips are made from: the copy, else the largest."""
    copies = [plan.rung for plan in plans if plan.rung.copies_video]
    return copies[0] if copies else plans[-1].rung
