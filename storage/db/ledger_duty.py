"""Queries on policies, duty and lateness."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.ledger_tables import DutyPeriod, Lateness, PolicyRow
from storage.db.tables import Agency, Device, Item, Officer


def policy_at(session: Session, agency_id: UUID, name: str, at: datetime) -> PolicyRow | None:
    """The version of a policy in force at an instant: of those that apply by then the newest."""
    return session.scalars(
        select(PolicyRow)
        .where(PolicyRow.agency_id == agency_id, PolicyRow.name == name, PolicyRow.applies_from <= at)
        .order_by(PolicyRow.version.desc())
        .limit(1)
    ).first()


def newest_policy(session: Session, agency: Agency, name: str) -> PolicyRow | None:
    """The version with the largest number, with the agency's row locked: one writer of versions at a time."""
    session.execute(select(Agency.id).where(Agency.id == agency.id).with_for_update(key_share=True))
    return session.scalars(
        select(PolicyRow)
        .where(PolicyRow.agency_id == agency.id, PolicyRow.name == name)
        .order_by(PolicyRow.version.desc())
        .limit(1)
    ).first()


def policy_versions(
    session: Session, agency_id: UUID, name: str, *, after: int = 0, limit: int | None = None
) -> list[PolicyRow]:
    """Versions of a policy by number: all of them, or a page after the last number of the page before."""
    query = select(PolicyRow).where(
        PolicyRow.agency_id == agency_id, PolicyRow.name == name, PolicyRow.version > after
    )
    return list(session.scalars(query.order_by(PolicyRow.version).limit(limit)))


def duty_by_id(session: Session, agency_id: UUID, duty_id: UUID) -> DutyPeriod:
    """The duty of that id.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(
        select(DutyPeriod).where(DutyPeriod.agency_id == agency_id, DutyPeriod.id == duty_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"duty {duty_id}: expected one of this agency, found none", code="duty_not_found")
    return row


def duties_of(
    session: Session,
    agency_id: UUID,
    officer_ids: Sequence[UUID],
    since: datetime,
    until: datetime,
    *,
    withdrawn: bool = False,
) -> list[DutyPeriod]:
    """Duties of officers that touch ``[since, until]``, earliest first; those that stand, or all."""
    if not officer_ids:
        return []
    query = select(DutyPeriod).where(
        DutyPeriod.agency_id == agency_id,
        DutyPeriod.officer_id.in_(officer_ids),
        DutyPeriod.duty_from <= until,
        DutyPeriod.duty_to >= since,
    )
    if not withdrawn:
        query = query.where(DutyPeriod.withdrawn_at.is_(None))
    return list(session.scalars(query.order_by(DutyPeriod.duty_from, DutyPeriod.id)))


def overlapping_duty(
    session: Session, agency_id: UUID, officer_id: UUID, duty_from: datetime, duty_to: datetime
) -> DutyPeriod | None:
    """A duty of the officer that stands and shares time with a span."""
    return session.scalars(
        select(DutyPeriod)
        .where(
            DutyPeriod.agency_id == agency_id,
            DutyPeriod.officer_id == officer_id,
            DutyPeriod.withdrawn_at.is_(None),
            DutyPeriod.duty_from < duty_to,
            DutyPeriod.duty_to > duty_from,
        )
        .limit(1)
    ).first()


def duty_beginning(
    session: Session, agency_id: UUID, officer_id: UUID, duty_from: datetime
) -> DutyPeriod | None:
    """The duty of the officer that begins at an instant, also one that was withdrawn."""
    return session.scalars(
        select(DutyPeriod).where(
            DutyPeriod.agency_id == agency_id,
            DutyPeriod.officer_id == officer_id,
            DutyPeriod.duty_from == duty_from,
        )
    ).one_or_none()


def page_of_duties(
    session: Session,
    agency_id: UUID,
    *,
    officer_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[tuple[DutyPeriod, str]]:
    """Duties with the officer's number, latest first; those withdrawn too."""
    query = (
        select(DutyPeriod, Officer.officer_no)
        .join(Officer, Officer.id == DutyPeriod.officer_id)
        .where(DutyPeriod.agency_id == agency_id)
    )
    if officer_id is not None:
        query = query.where(DutyPeriod.officer_id == officer_id)
    if since is not None:
        query = query.where(DutyPeriod.duty_to >= since)
    if until is not None:
        query = query.where(DutyPeriod.duty_from < until)
    if after is not None:
        query = query.where(
            or_(
                DutyPeriod.duty_from < after[0],
                and_(DutyPeriod.duty_from == after[0], DutyPeriod.id < after[1]),
            )
        )
    query = query.order_by(DutyPeriod.duty_from.desc(), DutyPeriod.id.desc()).limit(limit)
    return [(row[0], row[1]) for row in session.execute(query).all()]


def lateness_of(session: Session, agency_id: UUID, item_id: UUID, *, lock: bool = False) -> Lateness | None:
    """Whether and how an item was late."""
    query = select(Lateness).where(Lateness.agency_id == agency_id, Lateness.item_id == item_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def page_of_lateness(
    session: Session,
    agency_id: UUID,
    *,
    collector: str | None = None,
    unanswered: bool = False,
    after: UUID | None = None,
    limit: int,
) -> list[tuple[Lateness, Item, str | None]]:
    """Late items with the number of their device, newest first."""
    query = (
        select(Lateness, Item, Device.device_no)
        .join(Item, and_(Item.id == Lateness.item_id, Item.agency_id == Lateness.agency_id))
        .outerjoin(Device, Device.id == Item.device_id)
        .where(Lateness.agency_id == agency_id)
    )
    if collector is not None:
        query = query.where(Item.collector == collector)
    if unanswered:
        query = query.where(Lateness.reason.is_(None))
    if after is not None:
        query = query.where(Lateness.id < after)
    rows = session.execute(query.order_by(Lateness.id.desc()).limit(limit)).all()
    return [(row[0], row[1], row[2]) for row in rows]
