"""Viewing grants: time-boxed rights to bytes, in force until their end, their revoking or their holder's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ScalarSelect, func, literal, select
from sqlalchemy.orm import Session, defer

from evidence.errors import NotFound
from evidence.ids import new_id
from storage.db.tables import Account, CaseBinding, Derivative, Grant, GrantSet, Item, Job


@dataclass(frozen=True)
class Seat:
    """Where in a set a grant stands."""

    set_id: UUID
    lane: int
    place: int


def new_grant(
    agency_id: UUID,
    *,
    account_id: UUID,
    item_id: UUID,
    case_id: UUID | None,
    variant: str,
    span_us: tuple[int, int] | None,
    purpose: str,
    reason: str | None,
    now: datetime,
    expires_at: datetime,
    seat: Seat | None = None,
) -> Grant:
    """A new grant, not written yet; in a set, when it is given a seat there."""
    return Grant(
        id=new_id(),
        agency_id=agency_id,
        account_id=account_id,
        item_id=item_id,
        case_id=case_id,
        variant=variant,
        span_from_us=span_us[0] if span_us else None,
        span_to_us=span_us[1] if span_us else None,
        purpose=purpose,
        reason=reason,
        issued_at=now,
        expires_at=expires_at,
        set_id=seat.set_id if seat else None,
        lane=seat.lane if seat else None,
        place=seat.place if seat else None,
    )


def grant_by_id(session: Session, agency_id: UUID, grant_id: UUID, *, lock: bool = False) -> Grant:
    """The grant of that id, in force or not.

    Raises:
        NotFound: The agency has none.
    """
    query = select(Grant).where(Grant.agency_id == agency_id, Grant.id == grant_id)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise _no_grant(grant_id)
    return row


def _no_grant(grant_id: UUID) -> NotFound:
    return NotFound(f"grant {grant_id}: expected one of this agency, found none", code="grant_not_found")


def grant_in_force(
    session: Session, agency_id: UUID, grant_id: UUID, now: datetime, *, lock: bool = False
) -> Grant:
    """The grant of that id, if bytes may be handed out under it now.

    Raises:
        NotFound: There is none, or it has ended, was revoked, or its holder may no longer sign in
            (``grant_ended``).
    """
    query = (
        select(Grant, Account.disabled_at)
        .join(Account, (Account.agency_id == Grant.agency_id) & (Account.id == Grant.account_id))
        .where(Grant.agency_id == agency_id, Grant.id == grant_id)
    )
    found = session.execute(query.with_for_update(of=Grant) if lock else query).one_or_none()
    if found is None:
        raise _no_grant(grant_id)
    row, disabled_at = found
    if row.revoked_at is not None or now >= row.expires_at or disabled_at is not None:
        raise NotFound("grant: expected one in force, found it ended; ask again", code="grant_ended")
    return row


def add_set(
    session: Session,
    agency_id: UUID,
    *,
    account_id: UUID,
    kind: str,
    variant: str,
    window: tuple[datetime, datetime] | None,
    now: datetime,
    expires_at: datetime,
) -> GrantSet:
    """A new set, without grants yet."""
    row = GrantSet(
        agency_id=agency_id,
        account_id=account_id,
        kind=kind,
        variant=variant,
        window_from=window[0] if window else None,
        window_to=window[1] if window else None,
        left_out=[],
        issued_at=now,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row


def set_by_id(session: Session, agency_id: UUID, set_id: UUID, *, lock: bool = False) -> GrantSet:
    """The grant set of that id, in force or not.

    Raises:
        NotFound: The agency has none.
    """
    query = select(GrantSet).where(GrantSet.agency_id == agency_id, GrantSet.id == set_id)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"grant set {set_id}: expected one of this agency, found none", code="grant_not_found")
    return row


def set_in_force(session: Session, agency_id: UUID, set_id: UUID, now: datetime) -> GrantSet:
    """The grant set of that id, if anything may be handed out under it now.

    Raises:
        NotFound: There is none, or it has ended, was revoked, or its holder may no longer sign in
            (``grant_ended``).
    """
    row = set_by_id(session, agency_id, set_id)
    has_ended = row.revoked_at is not None or now >= row.expires_at
    if has_ended or not may_hold(session, agency_id, row.account_id):
        raise NotFound("grant set: expected one in force, found it ended; ask again", code="grant_ended")
    return row


def grants_of_set(
    session: Session, agency_id: UUID, set_id: UUID, *, lane: int | None = None, lock: bool = False
) -> list[Grant]:
    """Grants of a set, or of one lane of it, by lane and order, those that have ended too."""
    query = select(Grant).where(Grant.agency_id == agency_id, Grant.set_id == set_id)
    if lane is not None:
        query = query.where(Grant.lane == lane)
    # Locked by id, as wherever several are, so that no two wait for each other: their ids have another order.
    rows = session.scalars(query.order_by(Grant.id).with_for_update() if lock else query)
    return sorted(rows, key=lambda row: (row.lane or 0, row.place or 0))


def may_hold(session: Session, agency_id: UUID, account_id: UUID) -> bool:
    """Whether the account may still sign in."""
    found = session.scalar(
        select(Account.id).where(
            Account.agency_id == agency_id, Account.id == account_id, Account.disabled_at.is_(None)
        )
    )
    return found is not None


class Standing(NamedTuple):
    """Everything about a grant and what is shown under it that can still change."""

    revoked_at: datetime | None
    disabled_at: datetime | None
    custody: str
    withdrawn_at: datetime | None
    sha256: bytes | None
    """Of the derivative that is served, which is remade in its place."""
    made_count: int
    """Derivatives of that kind there ever were: a newer one may take the name of the one shown."""


def standing(
    session: Session, agency_id: UUID, grant_id: UUID, derivative_id: UUID | None, kind: str | None
) -> Standing | None:
    """How a grant stands now, in one question; None when it is not there."""
    shown = (Derivative.agency_id == agency_id, Derivative.id == derivative_id)
    withdrawn: ScalarSelect[datetime | None] = select(Derivative.withdrawn_at).where(*shown).scalar_subquery()
    digest: ScalarSelect[bytes] = select(Derivative.sha256).where(*shown).scalar_subquery()
    made = (
        select(func.count())
        .where(
            Derivative.agency_id == agency_id, Derivative.item_id == Grant.item_id, Derivative.kind == kind
        )
        .correlate(Grant)
        .scalar_subquery()
    )
    row = session.execute(
        select(
            Grant.revoked_at,
            Account.disabled_at,
            Item.custody,
            literal(None) if derivative_id is None else withdrawn,
            literal(None) if derivative_id is None else digest,
            literal(0) if kind is None else made,
        )
        .join(Account, Account.id == Grant.account_id)
        .join(Item, Item.id == Grant.item_id)
        .where(
            Grant.agency_id == agency_id,
            Grant.id == grant_id,
            Account.agency_id == agency_id,
            Item.agency_id == agency_id,
        )
    ).one_or_none()
    return Standing(*row) if row is not None else None


def grants_of_item(session: Session, agency_id: UUID, item_id: UUID, now: datetime) -> list[Grant]:
    """Grants on the item that have not ended, oldest first, locked."""
    return list(
        session.scalars(
            select(Grant)
            .where(
                Grant.agency_id == agency_id,
                Grant.item_id == item_id,
                Grant.revoked_at.is_(None),
                Grant.expires_at > now,
            )
            .order_by(Grant.id)
            .with_for_update()
        )
    )


def grants_of_handler(
    session: Session, agency_id: UUID, case_id: UUID, account_id: UUID, now: datetime
) -> list[Grant]:
    """An account's grants of originals on items tied to the case that have not ended, locked."""
    tied = select(CaseBinding.item_id).where(
        CaseBinding.agency_id == agency_id, CaseBinding.case_id == case_id, CaseBinding.ended_at.is_(None)
    )
    return list(
        session.scalars(
            select(Grant)
            .where(
                Grant.agency_id == agency_id,
                Grant.account_id == account_id,
                Grant.variant.in_(("original", "awaiting")),
                Grant.item_id.in_(tied),
                Grant.revoked_at.is_(None),
                Grant.expires_at > now,
            )
            .order_by(Grant.id)
            .with_for_update()
        )
    )


def rendition_jobs(session: Session, agency_id: UUID, item_id: UUID) -> list[Job]:
    """Jobs that made, make or will make a rung of the item's ladder."""
    return list(
        session.scalars(
            select(Job)
            .where(
                Job.agency_id == agency_id,
                Job.subject_id == item_id,
                Job.kind.in_(("rendition", "preview")),
                Job.state.in_(("ready", "leased", "done")),
            )
            .order_by(Job.priority, Job.created_at)
        )
    )


def holders_of_preview(session: Session, agency_id: UUID, item_id: UUID, now: datetime) -> list[Grant]:
    """Grants on the item in force whose lists began while it was being made: its preview is held for them."""
    rows = session.scalars(
        select(Grant).where(
            Grant.agency_id == agency_id,
            Grant.item_id == item_id,
            Grant.revoked_at.is_(None),
            Grant.expires_at > now,
            Grant.told.is_not(None),
        )
    )
    # A grant of a set is told when it began before any list of it was.
    return [row for row in rows if row.told is not None and row.told.get("limits_s")]


def derivatives_ever(session: Session, agency_id: UUID, item_id: UUID, kind: str) -> list[Derivative]:
    """Derivatives of a kind, withdrawn ones too, oldest first; their `info` stays unread until asked for."""
    return list(
        session.scalars(
            select(Derivative)
            .where(Derivative.agency_id == agency_id, Derivative.item_id == item_id, Derivative.kind == kind)
            .options(defer(Derivative.info))
            .order_by(Derivative.id)
        )
    )
