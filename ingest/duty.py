"""Who was on duty when, so that silence can be told from absence (R14)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput
from ingest import roster
from ingest.facts import EARLIEST
from storage.db import custody, ledger_duty
from storage.db.custody import Happening
from storage.db.ledger_tables import DutyPeriod
from storage.db.tables import Agency

LONGEST = timedelta(days=31)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def check_times(duty_from: datetime, duty_to: datetime) -> None:
    """Raise unless a duty can be from one instant to the other.

    Raises:
        InvalidInput: It ends before it begins, lasts more than 31 days, or is of another age.
    """
    if not (timedelta(0) < duty_to - duty_from <= LONGEST and EARLIEST <= duty_from <= LATEST):
        raise InvalidInput(
            f"duty: expected an end after its beginning, within {LONGEST.days} days, found "
            f"{duty_to - duty_from} between them",
            code="duty_times",
        )


def enter_duty(
    session: Session,
    agency: Agency,
    officer_no: str,
    duty_from: datetime,
    duty_to: datetime,
    *,
    actor: str,
    now: datetime,
) -> DutyPeriod:
    """Enter that an officer is or was on duty. One that was withdrawn may be entered anew.

    Raises:
        NotFound: No such officer.
        InvalidInput: Times that cannot be.
        Conflict: The officer is on another duty for part of the time.
    """
    check_times(duty_from, duty_to)
    person = roster.officer(session, agency, officer_no)
    # Two who enter duties of one officer at once see each other's.
    session.refresh(person, with_for_update={"key_share": True})
    if ledger_duty.overlapping_duty(session, agency.id, person.id, duty_from, duty_to) is not None:
        raise Conflict(
            f"officer {officer_no}: expected no duty from {rfc3339(duty_from)} to {rfc3339(duty_to)}, found "
            "one entered; withdraw it first",
            code="duty_overlaps",
        )
    row = ledger_duty.duty_beginning(session, agency.id, person.id, duty_from)
    if row is None:
        row = DutyPeriod(agency_id=agency.id, officer_id=person.id, duty_from=duty_from, duty_to=duty_to,
                         author=actor, made_at=now)  # fmt: skip
        session.add(row)
    else:
        row.duty_to, row.author, row.made_at, row.withdrawn_at = duty_to, actor, now, None
    session.flush()
    custody.record(session, agency, duty_entered(row, actor), now)
    return row


def duty_entered(row: DutyPeriod, actor: str) -> Happening:
    """What custody says of a duty."""
    facts = {
        "officer": str(row.officer_id),
        "duty_from": rfc3339(row.duty_from),
        "duty_to": rfc3339(row.duty_to),
    }
    return Happening(Action.DUTY_ENTERED, "duty", str(row.id), actor, facts)


def withdraw_duty(
    session: Session, agency: Agency, duty_id: UUID, *, actor: str, now: datetime
) -> DutyPeriod:
    """Take back a duty that was entered in error; it stays on record.

    Raises:
        NotFound: There is none.
        Conflict: It was withdrawn already.
    """
    row = ledger_duty.duty_by_id(session, agency.id, duty_id)
    session.refresh(row, with_for_update={"key_share": True})
    if row.withdrawn_at is not None:
        raise Conflict(f"duty {duty_id}: expected one that stands, found it withdrawn", code="duty_withdrawn")
    row.withdrawn_at = now
    facts = {"officer": str(row.officer_id)}
    custody.record(session, agency, Happening(Action.DUTY_WITHDRAWN, "duty", str(row.id), actor, facts), now)
    return row
