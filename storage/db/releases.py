"""Reviews of redacted renditions, releases of them, and checks that failed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from evidence.release import Recipient, ReleaseState
from storage.db.clip_tables import Clip
from storage.db.release_tables import CheckFailure, RedactionReview, Release
from storage.db.tables import Derivative, Grant


def release_by_id(session: Session, agency_id: UUID, release_id: UUID, *, lock: bool = False) -> Release:
    """The release of that id, whatever became of it.

    Raises:
        NotFound: The agency has none (``release_not_found``).
    """
    query = select(Release).where(Release.agency_id == agency_id, Release.id == release_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(
            f"release {release_id}: expected one of this agency, found none", code="release_not_found"
        )
    return row


def releases_of(session: Session, agency_id: UUID, item_id: UUID) -> list[Release]:
    """All of an item, oldest first."""
    query = select(Release).where(Release.agency_id == agency_id, Release.item_id == item_id)
    return list(session.scalars(query.order_by(Release.asked_at, Release.id)))


def page_of_releases(
    session: Session, agency_id: UUID, *, waiting: bool, after: tuple[datetime, UUID] | None, limit: int
) -> list[Release]:
    """A page of all there are, the newest first.

    Args:
        waiting: Only those with an open step.
        after: When the last one of the page before was asked for, and its id.
    """
    query = select(Release).where(Release.agency_id == agency_id)
    if waiting:
        query = query.where(Release.released_at.is_(None), Release.ended_at.is_(None))
    if after is not None:
        at, id_ = after
        query = query.where(or_(Release.asked_at < at, and_(Release.asked_at == at, Release.id < id_)))
    return list(session.scalars(query.order_by(Release.asked_at.desc(), Release.id.desc()).limit(limit)))


def state_of(session: Session, release: Release, now: datetime) -> ReleaseState:
    """Where a release stands; the rendition that it is of must be served, with the same bytes."""
    if release.ended_at is not None:
        return ReleaseState.REVOKED if release.released_at is not None else ReleaseState.REFUSED
    served = session.scalar(
        select(Derivative.id).where(
            Derivative.agency_id == release.agency_id,
            Derivative.id == release.derivative_id,
            Derivative.sha256 == release.rendition_sha256,
            Derivative.withdrawn_at.is_(None),
        )
    )
    if served is None:
        return ReleaseState.SUPERSEDED
    if release.expires_at is not None and now >= release.expires_at:
        return ReleaseState.EXPIRED
    if release.released_at is None:
        return ReleaseState.WAITING
    return ReleaseState.RELEASED


def require_in_force(session: Session, agency_id: UUID, release_id: UUID, now: datetime) -> Release:
    """The release of that id, if something may be shown because of it now.

    Raises:
        NotFound: It was revoked, has ended, or its rendition is served no longer (``release_ended``).
    """
    row = release_by_id(session, agency_id, release_id)
    state = state_of(session, row, now)
    if state is not ReleaseState.RELEASED:
        raise NotFound(
            f"release {row.id}: expected in force, found {state}; ask for another", code="release_ended"
        )
    return row


def require_of(session: Session, row: Grant | Clip, now: datetime) -> None:
    """Raise unless the release that a grant or a clip hangs on, if any, is in force.

    Raises:
        NotFound: As `require_in_force`.
    """
    if row.release_id is not None:
        require_in_force(session, row.agency_id, row.release_id, now)


def released_to(
    session: Session, agency_id: UUID, item_id: UUID, account_id: UUID, roles: Collection[str], now: datetime
) -> list[Release]:
    """Releases in force of an item to a person or one of their roles, the newest first."""
    to_them = or_(
        and_(Release.to_kind == str(Recipient.PERSON), Release.to_account_id == account_id),
        and_(Release.to_kind == str(Recipient.ROLE), Release.to_role.in_(list(roles))),
    )
    rows = session.scalars(
        select(Release)
        .join(Derivative, Derivative.id == Release.derivative_id)
        .where(
            Release.agency_id == agency_id,
            Release.item_id == item_id,
            Release.released_at.is_not(None),
            Release.ended_at.is_(None),
            or_(Release.expires_at.is_(None), Release.expires_at > now),
            to_them,
            Derivative.agency_id == agency_id,
            Derivative.withdrawn_at.is_(None),
            Derivative.sha256 == Release.rendition_sha256,
        )
        .order_by(Release.released_at.desc(), Release.id.desc())
    )
    return list(rows)


def grants_under(session: Session, agency_id: UUID, release_id: UUID, now: datetime) -> list[Grant]:
    """Grants that hang on a release and have not ended, locked."""
    return list(
        session.scalars(
            select(Grant)
            .where(
                Grant.agency_id == agency_id,
                Grant.release_id == release_id,
                Grant.revoked_at.is_(None),
                Grant.expires_at > now,
            )
            .order_by(Grant.id)
            .with_for_update()
        )
    )


def reviews_of(session: Session, rendition: Derivative) -> list[RedactionReview]:
    """Who watched what of a rendition, by the bytes it has now."""
    query = select(RedactionReview).where(
        RedactionReview.agency_id == rendition.agency_id,
        RedactionReview.derivative_id == rendition.id,
        RedactionReview.rendition_sha256 == rendition.sha256,
    )
    return list(session.scalars(query.order_by(RedactionReview.id)))


def review_by(session: Session, rendition: Derivative, account_id: UUID) -> RedactionReview | None:
    """One person's review of a rendition, also of bytes that it had before; locked."""
    return session.scalars(
        select(RedactionReview)
        .where(
            RedactionReview.agency_id == rendition.agency_id,
            RedactionReview.derivative_id == rendition.id,
            RedactionReview.account_id == account_id,
        )
        .with_for_update()
    ).one_or_none()


def check_failure(
    session: Session, agency_id: UUID, item_id: UUID, plan_number: int, *, lock: bool = False
) -> CheckFailure | None:
    """What the check of a version found, where it failed."""
    query = select(CheckFailure).where(
        CheckFailure.agency_id == agency_id,
        CheckFailure.item_id == item_id,
        CheckFailure.plan_number == plan_number,
    )
    return session.scalars(query.with_for_update() if lock else query).one_or_none()
