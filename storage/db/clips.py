"""Clips, and numbered sets of them, somebody asked to take away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.clip_tables import Clip, ClipSet
from storage.db.tables import Derivative, Item, Job


def clip_by_id(session: Session, agency_id: UUID, clip_id: UUID) -> Clip:
    """The clip of that id, cut or not yet.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(select(Clip).where(Clip.agency_id == agency_id, Clip.id == clip_id)).one_or_none()
    if row is None:
        raise NotFound(f"clip {clip_id}: expected one of this agency, found none", code="clip_not_found")
    return row


def length_of_subject(session: Session, agency_id: UUID, subject_id: UUID) -> tuple[int, int]:
    """How long the recordings are, together, that a job is about: microseconds, and pictures.

    They are the item itself, or each that the clip or the set of clips is cut from. 0 is what nobody knows
    yet, and the length of what is none.
    """
    cut_from = select(Clip.item_id).where(
        Clip.agency_id == agency_id, or_(Clip.id == subject_id, Clip.set_id == subject_id)
    )
    duration_us, frame_count = session.execute(
        select(func.sum(Item.duration_us), func.sum(Item.frame_count)).where(
            Item.agency_id == agency_id, or_(Item.id == subject_id, Item.id.in_(cut_from))
        )
    ).one()
    return int(duration_us or 0), int(frame_count or 0)


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
    seat: tuple[UUID, int] | None = None,
    release_id: UUID | None = None,
) -> Clip:
    """A clip somebody asks for; it is cut by a job. Its seat is a set, and its number there.

    Args:
        release_id: The release it hangs on: without that it is served no longer.
    """
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
        set_id=seat[0] if seat is not None else None,
        place=seat[1] if seat is not None else None,
        release_id=release_id,
    )
    session.add(row)
    session.flush()
    return row


def clips_under(session: Session, agency_id: UUID, release_id: UUID) -> list[Clip]:
    """Clips that hang on a release, oldest first."""
    query = select(Clip).where(Clip.agency_id == agency_id, Clip.release_id == release_id)
    return list(session.scalars(query.order_by(Clip.id)))


def job_of(session: Session, agency_id: UUID, clip_id: UUID, kind: str = "clip") -> Job | None:
    """The job that cuts the clip, or makes the set."""
    return session.scalars(
        select(Job)
        .where(Job.agency_id == agency_id, Job.subject_id == clip_id, Job.kind == kind)
        .order_by(Job.created_at.desc())
        .limit(1)
    ).first()


def add_set(
    session: Session,
    agency_id: UUID,
    *,
    account_id: UUID,
    case_id: UUID,
    form: str,
    window: tuple[datetime, datetime],
    now: datetime,
) -> ClipSet:
    """A set of clips, before it has any."""
    row = ClipSet(
        agency_id=agency_id,
        account_id=account_id,
        case_id=case_id,
        form=form,
        window_from=window[0],
        window_to=window[1],
        layout={},
        requested_at=now,
    )
    session.add(row)
    session.flush()
    return row


def set_by_id(session: Session, agency_id: UUID, set_id: UUID, *, lock: bool = False) -> ClipSet:
    """The set of that id.

    Raises:
        NotFound: The agency has none.
    """
    query = select(ClipSet).where(ClipSet.agency_id == agency_id, ClipSet.id == set_id)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(
            f"clip set {set_id}: expected one of this agency, found none", code="clip_set_not_found"
        )
    return row


def source_ids_of(row: ClipSet) -> dict[UUID, UUID]:
    """Of a composite: the renditions its parts are shown from, by clip; nothing of any other set."""
    sources = row.layout.get("composite", {}).get("sources", {})
    return {UUID(clip): UUID(source) for clip, source in sources.items()}


def not_cut_of(row: ClipSet) -> dict[str, str]:
    """The clips that are not in the file of a set, since they could not be cut, and the code of the error."""
    found: dict[str, str] = row.layout.get("not_cut", {})
    return found


def still_not_cut(row: ClipSet, held: Sequence[Clip]) -> dict[str, str]:
    """Those of them that were not cut since either: what the next file of the set will not have."""
    cut = {str(each.id) for each in held if each.derivative_id is not None}
    return {id_: why for id_, why in not_cut_of(row).items() if id_ not in cut}


def clips_of_set(session: Session, agency_id: UUID, set_id: UUID) -> list[Clip]:
    """The clips of a set, by number."""
    query = select(Clip).where(Clip.agency_id == agency_id, Clip.set_id == set_id)
    return list(session.scalars(query.order_by(Clip.place)))


def withdrawn_of_set(session: Session, agency_id: UUID, set_id: UUID) -> list[Derivative]:
    """What was made of a set's clips and is served no longer."""
    query = select(Derivative).join(Clip, Clip.derivative_id == Derivative.id)
    return list(
        session.scalars(
            query.where(
                Derivative.agency_id == agency_id,
                Clip.agency_id == agency_id,
                Clip.set_id == set_id,
                Derivative.withdrawn_at.is_not(None),
            )
        )
    )
