"""Agencies, officers and devices: who and what there is."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from evidence.errors import InvalidInput, NotFound
from evidence.kinds import SourceKind
from storage.db.tables import Agency, Device, DeviceIssue, Officer

REGISTERED = "registered"
UNKNOWN = "unknown"
MAX_NUMBER_CHARS = 64
MAX_NAME_CHARS = 120
_AGENCY_CODE = re.compile(rf"\w[\w.-]{{0,{MAX_NUMBER_CHARS - 1}}}")


def check_number(what: str, number: str) -> str:
    """A device, officer or dock number fit to store.

    Raises:
        InvalidInput: Empty, too long, or with characters that cannot be printed.
    """
    cleaned = number.strip()
    if not cleaned or len(cleaned) > MAX_NUMBER_CHARS or not cleaned.isprintable():
        raise InvalidInput(
            f"{what}: expected 1 to {MAX_NUMBER_CHARS} printable characters, found {number[:80]!r}",
            code="number_invalid",
        )
    return cleaned


def check_agency_code(code: str) -> str:
    """A code fit to stand in numbers, folder names and the log's origin, for good.

    Raises:
        InvalidInput: Empty, too long, or with spaces, separators or what cannot be printed.
    """
    if _AGENCY_CODE.fullmatch(code) is None or not code.isprintable():
        raise InvalidInput(
            f"agency code: expected 1 to {MAX_NUMBER_CHARS} letters, digits, . - or _, such as 110105-cg, "
            f"found {code[:80]!r}",
            code="agency_code_invalid",
        )
    return code


def check_agency_name(name: str) -> str:
    """A name fit to be printed on sheets.

    Raises:
        InvalidInput: Empty, too long, or with what cannot be printed.
    """
    cleaned = name.strip()
    if not cleaned or len(cleaned) > MAX_NAME_CHARS or not cleaned.isprintable():
        raise InvalidInput(
            f"agency name: expected 1 to {MAX_NAME_CHARS} printable characters, found {name[:80]!r}",
            code="agency_name_invalid",
        )
    return cleaned


def agency_by_code(session: Session, code: str) -> Agency:
    """The agency of that code.

    Raises:
        NotFound: There is none.
    """
    agency = session.scalars(select(Agency).where(Agency.code == code)).one_or_none()
    if agency is None:
        codes = ", ".join(row.code for row in agencies(session))
        raise NotFound(
            f"agency {code}: expected {codes or 'one'}, found none of that code; leave --agency out, "
            "or look at --data",
            code="agency_not_found",
        )
    return agency


def agency_by_id(session: Session, agency_id: UUID) -> Agency:
    """The agency of that id; it must be there."""
    agency = session.get(Agency, agency_id)
    if agency is None:
        raise NotFound(f"agency {agency_id}: expected one, found none", code="agency_not_found")
    return agency


def hold(session: Session, agency: Agency) -> None:
    """Have whoever else holds this agency wait until the transaction ends; nobody else does."""
    session.refresh(agency, with_for_update={"key_share": True})


def agencies(session: Session) -> list[Agency]:
    """All agencies, oldest first."""
    return list(session.scalars(select(Agency).order_by(Agency.id)))


def device_by_no(session: Session, agency_id: UUID, device_no: str) -> Device | None:
    """The device of that number, known or not yet adopted."""
    return session.scalars(
        select(Device).where(Device.agency_id == agency_id, Device.device_no == device_no)
    ).one_or_none()


def devices(session: Session, agency_id: UUID) -> list[Device]:
    """All devices of the agency by number."""
    return list(
        session.scalars(select(Device).where(Device.agency_id == agency_id).order_by(Device.device_no))
    )


def add_device(
    session: Session,
    agency_id: UUID,
    device_no: str,
    now: datetime,
    *,
    kind: SourceKind = SourceKind.BODY_CAM,
    state: str = REGISTERED,
    maker: str | None = None,
    model: str | None = None,
) -> Device:
    """A new device row; `state` `unknown` is one that showed up without being registered."""
    device = Device(
        agency_id=agency_id,
        device_no=check_number("device", device_no),
        kind=str(kind),
        state=state,
        maker=maker,
        model=model,
        created_at=now,
    )
    session.add(device)
    session.flush()
    return device


def officer_by_no(session: Session, agency_id: UUID, officer_no: str) -> Officer | None:
    """The officer of that number."""
    return session.scalars(
        select(Officer).where(Officer.agency_id == agency_id, Officer.officer_no == officer_no)
    ).one_or_none()


def known_officers(session: Session, agency_id: UUID, numbers: Collection[str]) -> set[str]:
    """Which of these numbers an officer of the agency has."""
    query = select(Officer.officer_no).where(
        Officer.agency_id == agency_id, Officer.officer_no.in_(list(numbers))
    )
    return set(session.scalars(query))


def officers(session: Session, agency_id: UUID) -> list[Officer]:
    """All officers of the agency by number."""
    return list(
        session.scalars(select(Officer).where(Officer.agency_id == agency_id).order_by(Officer.officer_no))
    )


def page_of_officers(session: Session, agency_id: UUID, *, after: str | None, limit: int) -> list[Officer]:
    """Officers by number; `after` is the last number of the page before."""
    query = select(Officer).where(Officer.agency_id == agency_id)
    if after is not None:
        query = query.where(Officer.officer_no > after)
    return list(session.scalars(query.order_by(Officer.officer_no).limit(limit)))


def add_officer(
    session: Session,
    agency_id: UUID,
    officer_no: str,
    name: str,
    now: datetime,
    certificate_no: str | None = None,
) -> Officer:
    """A new officer."""
    officer = Officer(
        agency_id=agency_id,
        officer_no=check_number("officer", officer_no),
        name=name.strip(),
        certificate_no=certificate_no,
        created_at=now,
    )
    session.add(officer)
    session.flush()
    return officer


def issue_device(session: Session, device: Device, officer: Officer, issued_at: datetime) -> DeviceIssue:
    """Put a device in an officer's hands; whoever had it before returned it at that instant."""
    for issue in session.scalars(
        select(DeviceIssue).where(
            DeviceIssue.agency_id == device.agency_id,
            DeviceIssue.device_id == device.id,
            DeviceIssue.returned_at.is_(None),
        )
    ):
        issue.returned_at = max(issued_at, issue.issued_at)
    row = DeviceIssue(
        agency_id=device.agency_id, device_id=device.id, officer_id=officer.id, issued_at=issued_at
    )
    session.add(row)
    session.flush()
    return row


def officers_holding(
    session: Session, agency_id: UUID, device_id: UUID, since: datetime, until: datetime
) -> list[Officer]:
    """Officers who held the device at some instant of ``[since, until]``."""
    return list(
        session.scalars(
            select(Officer)
            .join(DeviceIssue, DeviceIssue.officer_id == Officer.id)
            .where(
                DeviceIssue.agency_id == agency_id,
                DeviceIssue.device_id == device_id,
                DeviceIssue.issued_at <= until,
                or_(DeviceIssue.returned_at.is_(None), DeviceIssue.returned_at > since),
            )
            .distinct()
        )
    )
