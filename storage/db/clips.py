"""Clips somebody asked to take away."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.tables import Clip, Job


def clip_by_id(session: Session, agency_id: UUID, clip_id: UUID) -> Clip:
    """The clip of that id, cut or not yet.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(select(Clip).where(Clip.agency_id == agency_id, Clip.id == clip_id)).one_or_none()
    if row is None:
        raise NotFound(f"clip {clip_id}: expected one of this agency, found none", code="clip_not_found")
    return row


def add_clip(
    session: Session,
    agency_id: UUID,
    *,
    account_id: UUID,
    item_id: UUID,
    case_id: UUID,
    form: str,
    marked: bool,
    variant: str,
    span_us: tuple[int, int],
    purpose: str,
    reason: str | None,
    now: datetime,
) -> Clip:
    """A clip somebody asks for; it is cut by a job."""
    row = Clip(
        agency_id=agency_id,
        account_id=account_id,
        item_id=item_id,
        case_id=case_id,
        form=form,
        marked=marked,
        variant=variant,
        span_from_us=span_us[0],
        span_to_us=span_us[1],
        purpose=purpose,
        reason=reason,
        requested_at=now,
    )
    session.add(row)
    session.flush()
    return row


def job_of(session: Session, agency_id: UUID, clip_id: UUID) -> Job | None:
    """The job that cuts the clip."""
    return session.scalars(
        select(Job)
        .where(Job.agency_id == agency_id, Job.subject_id == clip_id, Job.kind == "clip")
        .order_by(Job.created_at.desc())
        .limit(1)
    ).first()
