"""Many entries of the ledger at once: the same rows and leaves as one by one, in a few statements.

Each function either does all of it or raises before anything is done; then its caller goes line by line
(`ingest.sheets.take`), which says what is wrong with which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.errors import Conflict
from evidence.ids import new_id
from ingest import duty, roster
from storage.db import agencies, custody, ledger, ledger_duty
from storage.db.ledger_tables import DutyPeriod
from storage.db.tables import Agency, Device, DeviceIssue, Officer

Lines = Sequence[Mapping[str, Any]]


def register_devices(
    session: Session, agency: Agency, lines: Lines, actor: str, now: datetime
) -> list[object]:
    """Enter devices nobody knew.

    Raises:
        Conflict: One of them is known.
    """
    numbers = [line["device_no"] for line in lines]
    if ledger.devices_numbered(session, agency.id, numbers):
        raise _apart("device")
    rows = [
        Device(
            id=new_id(),
            agency_id=agency.id,
            device_no=line["device_no"],
            kind=str(line["kind"]),
            state=agencies.REGISTERED,
            maker=line["maker"],
            model=line["model"],
            created_at=now,
        )
        for line in lines
    ]
    session.add_all(rows)
    session.flush()
    custody.record_all(session, agency, [roster.device_registered(row, actor) for row in rows], now)
    return list(rows)


def register_officers(
    session: Session, agency: Agency, lines: Lines, actor: str, now: datetime
) -> list[object]:
    """Enter officers nobody knew.

    Raises:
        Conflict: One of them is known.
    """
    if ledger.officers_numbered(session, agency.id, [line["officer_no"] for line in lines]):
        raise _apart("officer")
    rows = [
        Officer(
            id=new_id(),
            agency_id=agency.id,
            officer_no=line["officer_no"],
            name=line["name"],
            certificate_no=line["certificate_no"],
            created_at=now,
        )
        for line in lines
    ]
    session.add_all(rows)
    session.flush()
    custody.record_all(session, agency, [roster.officer_registered(row, actor) for row in rows], now)
    return list(rows)


def issue_devices(session: Session, agency: Agency, lines: Lines, actor: str, now: datetime) -> list[object]:
    """Put devices in hands that were in nobody's before.

    Raises:
        Conflict: One of them was, is named twice, or may not be issued; or a line ends its issue.
    """
    numbers = [line["device_no"] for line in lines]
    known = ledger.devices_numbered(session, agency.id, numbers, lock=True)
    people = ledger.officers_numbered(session, agency.id, [line["officer_no"] for line in lines])
    ids = [row.id for row in known.values()]
    if (
        len(set(numbers)) != len(numbers)
        or len(known) != len(numbers)
        or any(line["returned_at"] is not None or line["officer_no"] not in people for line in lines)
        or any(row.retired_at is not None or row.state == agencies.UNKNOWN for row in known.values())
        or any(line["issued_at"] > now for line in lines)
        or ledger.are_issued(session, agency.id, ids)
    ):
        raise _apart("issue")
    rows = [
        DeviceIssue(
            id=new_id(),
            agency_id=agency.id,
            device_id=known[line["device_no"]].id,
            officer_id=people[line["officer_no"]].id,
            issued_at=line["issued_at"],
        )
        for line in lines
    ]
    session.add_all(rows)
    session.flush()
    custody.record_all(session, agency, [roster.device_issued(row, actor) for row in rows], now)
    return list(rows)


def enter_duties(session: Session, agency: Agency, lines: Lines, actor: str, now: datetime) -> list[object]:
    """Enter duties that share no time with others of the same officer.

    Raises:
        Conflict: One of them does, or its officer is unknown.
    """
    people = ledger.officers_numbered(session, agency.id, [line["officer_no"] for line in lines], lock=True)
    if any(line["officer_no"] not in people for line in lines):
        raise _apart("duty")
    since = min(line["duty_from"] for line in lines)
    until = max(line["duty_to"] for line in lines)
    ids = [row.id for row in people.values()]
    there = ledger_duty.duties_of(session, agency.id, ids, since, until, withdrawn=True)
    spans: dict[UUID, list[tuple[datetime, datetime]]] = {}
    for row in there:
        # One that was withdrawn keeps its beginning taken; line by line it is revived.
        end = row.duty_to if row.withdrawn_at is None else row.duty_from
        spans.setdefault(row.officer_id, []).append((row.duty_from, end))
    for line in lines:
        spans.setdefault(people[line["officer_no"]].id, []).append((line["duty_from"], line["duty_to"]))
    for each in spans.values():
        each.sort()
        if any(later[0] < earlier[1] or later[0] == earlier[0] for earlier, later in pairwise(each)):
            raise _apart("duty")
    rows = [
        DutyPeriod(
            id=new_id(),
            agency_id=agency.id,
            officer_id=people[line["officer_no"]].id,
            duty_from=line["duty_from"],
            duty_to=line["duty_to"],
            author=actor,
            made_at=now,
        )
        for line in lines
    ]
    session.add_all(rows)
    session.flush()
    custody.record_all(session, agency, [duty.duty_entered(row, actor) for row in rows], now)
    return list(rows)


def _apart(what: str) -> Conflict:
    return Conflict(f"{what}: expected lines that fit together, found some that do not", code="line_taken")
