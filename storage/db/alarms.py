"""Alarms: what a person must look at by name. One stands at a time for a thing and a code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict, NotFound
from storage.db import custody
from storage.db.custody import Happening
from storage.db.ledger_tables import Alarm
from storage.db.tables import Agency, Item, Job, StoredObject


@dataclass(frozen=True)
class NewAlarm:
    """Something wrong, about to be told.

    Attributes:
        message: One line: what is wrong and what to do.
        facts: Ids, digests, numbers; no personal details. They also stand in the custody leaf.
    """

    code: str
    subject: str
    subject_id: str
    message: str
    facts: Mapping[str, Any]


def raise_alarm(session: Session, agency: Agency, wanted: NewAlarm, *, actor: str, now: datetime) -> bool:
    """Raise an alarm in the caller's transaction; False when the same one stands already."""
    if standing_about(session, agency.id, wanted.subject, wanted.subject_id, wanted.code) is not None:
        return False
    row = Alarm(
        agency_id=agency.id,
        code=wanted.code,
        subject=wanted.subject,
        subject_id=wanted.subject_id,
        message=wanted.message,
        facts=dict(wanted.facts),
        raised_at=now,
    )
    session.add(row)
    session.flush()
    facts = {"alarm": str(row.id), "code": wanted.code, **wanted.facts}
    custody.record(
        session,
        agency,
        Happening(Action.ALARM_RAISED, wanted.subject, wanted.subject_id, actor, facts),
        now,
    )
    return True


def clear(
    session: Session,
    agency: Agency,
    alarm: Alarm,
    *,
    actor: str,
    reason: str,
    now: datetime,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """End an alarm, by evidence or by a person's word.

    Args:
        reason: Why it stands no longer; a person's words, so the leaf keeps them salted.
        evidence: What shows it, such as the leaf of the re-read that matched.

    Raises:
        Conflict: It was cleared before (``alarm_cleared``).
    """
    if alarm.cleared_at is not None:
        raise Conflict(f"alarm {alarm.id}: expected one that stands, found it cleared", code="alarm_cleared")
    alarm.cleared_at, alarm.cleared_by, alarm.cleared_reason = now, actor, reason
    facts = {"alarm": str(alarm.id), "code": alarm.code, **(evidence or {})}
    custody.record(
        session,
        agency,
        Happening(
            Action.ALARM_CLEARED, alarm.subject, alarm.subject_id, actor, facts, private={"reason": reason}
        ),
        now,
    )


def standing_about(
    session: Session, agency_id: UUID, subject: str, subject_id: str, code: str
) -> Alarm | None:
    """The alarm of that code that stands about a thing."""
    return session.scalars(
        select(Alarm).where(
            Alarm.agency_id == agency_id,
            Alarm.subject_id == subject_id,
            Alarm.subject == subject,
            Alarm.code == code,
            Alarm.cleared_at.is_(None),
        )
    ).first()


def standing_of(session: Session, agency_id: UUID, subject: str, codes: Collection[str]) -> list[Alarm]:
    """Alarms of these codes that stand about things of a kind, oldest first."""
    query = select(Alarm).where(
        Alarm.agency_id == agency_id,
        Alarm.subject == subject,
        Alarm.code.in_(codes),
        Alarm.cleared_at.is_(None),
    )
    return list(session.scalars(query.order_by(Alarm.raised_at, Alarm.id)))


def standing_subjects(session: Session, agency_id: UUID, subject: str, code: str) -> set[str]:
    """What an alarm of that code stands about, of all things of a kind."""
    query = select(Alarm.subject_id).where(
        Alarm.agency_id == agency_id,
        Alarm.subject == subject,
        Alarm.code == code,
        Alarm.cleared_at.is_(None),
    )
    return set(session.scalars(query))


def alarm_by_id(session: Session, agency_id: UUID, alarm_id: UUID, *, lock: bool = False) -> Alarm:
    """The alarm of that id.

    Raises:
        NotFound: The agency has none (``alarm_not_found``).
    """
    query = select(Alarm).where(Alarm.agency_id == agency_id, Alarm.id == alarm_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"alarm {alarm_id}: expected one of this agency, found none", code="alarm_not_found")
    return row


def alarms(session: Session, agency_id: UUID, *, cleared: bool = False, limit: int = 500) -> list[Alarm]:
    """Alarms that stand, oldest first; or, cleared too, the newest first."""
    query = select(Alarm).where(Alarm.agency_id == agency_id)
    if cleared:
        return list(session.scalars(query.order_by(Alarm.raised_at.desc(), Alarm.id.desc()).limit(limit)))
    query = query.where(Alarm.cleared_at.is_(None)).order_by(Alarm.raised_at, Alarm.id)
    return list(session.scalars(query.limit(limit)))


def page_of_alarms(
    session: Session, agency_id: UUID, *, cleared: bool, after: tuple[datetime, UUID] | None, limit: int
) -> list[Alarm]:
    """Alarms in the order of `alarms`, from behind one's instant and id on."""
    query = select(Alarm).where(Alarm.agency_id == agency_id)
    place = tuple_(Alarm.raised_at, Alarm.id)
    if not cleared:
        query = query.where(Alarm.cleared_at.is_(None))
    if after is not None:
        query = query.where(place < after if cleared else place > after)
    order = (Alarm.raised_at.desc(), Alarm.id.desc()) if cleared else (Alarm.raised_at, Alarm.id)
    return list(session.scalars(query.order_by(*order).limit(limit)))


def count_standing(session: Session, agency_id: UUID) -> int:
    """How many alarms stand."""
    query = select(func.count()).where(Alarm.agency_id == agency_id, Alarm.cleared_at.is_(None))
    return session.scalar(query) or 0


def items_of_object(session: Session, agency_id: UUID, object_id: UUID) -> list[Item]:
    """Every item whose bytes the object holds, locked for the caller's change."""
    return list(
        session.scalars(
            select(Item)
            .where(Item.agency_id == agency_id, Item.object_id == object_id)
            .order_by(Item.id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    )


def due_for_reread(
    session: Session, agency_id: UUID, now: datetime, every: timedelta, *, at_once: int
) -> list[StoredObject]:
    """Objects whose last sound re-read is too old, oldest first, as many as may wait at once."""
    waiting = session.scalar(
        select(func.count()).where(
            Job.agency_id == agency_id, Job.kind == "reread", Job.state.in_(("ready", "leased"))
        )
    )
    room = at_once - (waiting or 0)
    if room <= 0:
        return []
    already = select(Job.id).where(
        Job.agency_id == agency_id, Job.kind == "reread", Job.subject_id == StoredObject.id
    )
    # One that found damage does not move `verified_at`; the next round looks at those bytes again.
    already = already.where(Job.created_at > now - every)
    return list(
        session.scalars(
            select(StoredObject)
            .where(StoredObject.agency_id == agency_id, StoredObject.verified_at < now - every)
            .where(~already.exists())
            .order_by(StoredObject.verified_at)
            .limit(room)
        )
    )
