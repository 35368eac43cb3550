"""Queries of the device ledger: docks, readings, faults, who held what (R12, R13)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.ledger_tables import DeviceFault, DeviceReading, Dock
from storage.db.tables import Claim, Device, DeviceIssue, Item, Officer, UploadToken

# --- docks ------------------------------------------------------------------------------------


def dock_by_no(session: Session, agency_id: UUID, dock_no: str) -> Dock | None:
    """The dock of that number."""
    return session.scalars(
        select(Dock).where(Dock.agency_id == agency_id, Dock.dock_no == dock_no)
    ).one_or_none()


def dock_by_id(session: Session, agency_id: UUID, dock_id: UUID) -> Dock:
    """The dock of that id.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(select(Dock).where(Dock.agency_id == agency_id, Dock.id == dock_id)).one_or_none()
    if row is None:
        raise NotFound(f"dock {dock_id}: expected one of this agency, found none", code="dock_not_found")
    return row


def page_of_docks(
    session: Session, agency_id: UUID, *, after: str | None, limit: int
) -> list[tuple[Dock, datetime | None]]:
    """Docks by number, also those out of use, with when each last told the state of a device.

    `after` is the last number of the page before.
    """
    last = (
        select(func.max(DeviceReading.read_at))
        .where(DeviceReading.agency_id == agency_id, DeviceReading.dock_no == Dock.dock_no)
        .scalar_subquery()
    )
    query = select(Dock, last).where(Dock.agency_id == agency_id)
    if after is not None:
        query = query.where(Dock.dock_no > after)
    return [(row[0], row[1]) for row in session.execute(query.order_by(Dock.dock_no).limit(limit))]


def last_read_at(session: Session, agency_id: UUID, dock: Dock) -> datetime | None:
    """When a dock last told the state of a device."""
    of_dock = (DeviceReading.agency_id == agency_id, DeviceReading.dock_no == dock.dock_no)
    return session.scalar(select(func.max(DeviceReading.read_at)).where(*of_dock))


def tokens_not_revoked(
    session: Session, agency_id: UUID, *, dock_no: str | None = None, device_id: UUID | None = None
) -> list[UploadToken]:
    """Upload tokens of a dock, or bound to a device, that a clock stepped back could bring back to life."""
    query = select(UploadToken).where(UploadToken.agency_id == agency_id, UploadToken.revoked_at.is_(None))
    if dock_no is not None:
        query = query.where(UploadToken.dock_no == dock_no)
    if device_id is not None:
        query = query.where(UploadToken.device_id == device_id)
    return list(session.scalars(query.order_by(UploadToken.id)))


def lock_dock(session: Session, dock: Dock) -> None:
    """Wait for whoever gives a token of the dock or retires it now; what they wrote is then seen."""
    session.refresh(dock, with_for_update={"key_share": True})


def token_to_replace(session: Session, agency_id: UUID, token_id: UUID) -> UploadToken:
    """The upload token of that id, locked after its dock and its device, so that it ends with them or after.

    Raises:
        NotFound: The agency has none.
    """
    query = select(UploadToken).where(UploadToken.agency_id == agency_id, UploadToken.id == token_id)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(
            f"upload token {token_id}: expected one of this agency, found none", code="token_not_found"
        )
    dock = dock_by_no(session, agency_id, found.dock_no)
    if dock is not None:
        lock_dock(session, dock)
    if found.device_id is not None:
        bound = select(Device).where(Device.agency_id == agency_id, Device.id == found.device_id)
        lock_device(session, session.scalars(bound).one())
    session.refresh(found, with_for_update={"key_share": True})
    return found


# --- readings ---------------------------------------------------------------------------------


def lock_device(session: Session, device: Device) -> None:
    """Wait for whoever writes of the device now; what they wrote is then seen."""
    session.refresh(device, with_for_update={"key_share": True})


def readings_since(
    session: Session, agency_id: UUID, device_id: UUID, since: datetime
) -> list[DeviceReading]:
    """Readings of a device that arrived at or after an instant, newest first."""
    return list(
        session.scalars(
            select(DeviceReading)
            .where(
                DeviceReading.agency_id == agency_id,
                DeviceReading.device_id == device_id,
                DeviceReading.read_at >= since,
            )
            .order_by(DeviceReading.read_at.desc(), DeviceReading.id.desc())
        )
    )


def page_of_readings(
    session: Session,
    agency_id: UUID,
    device_id: UUID,
    *,
    after: tuple[datetime, UUID] | None = None,
    limit: int,
) -> list[DeviceReading]:
    """Readings of a device, newest first."""
    query = select(DeviceReading).where(
        DeviceReading.agency_id == agency_id, DeviceReading.device_id == device_id
    )
    if after is not None:
        query = query.where(
            or_(
                DeviceReading.read_at < after[0],
                and_(DeviceReading.read_at == after[0], DeviceReading.id < after[1]),
            )
        )
    query = query.order_by(DeviceReading.read_at.desc(), DeviceReading.id.desc())
    return list(session.scalars(query.limit(limit)))


def readings_between(
    session: Session,
    agency_id: UUID,
    since: datetime,
    until: datetime,
    device_ids: Sequence[UUID] | None = None,
) -> list[DeviceReading]:
    """Readings that arrived in ``[since, until)``, by device and time."""
    query = select(DeviceReading).where(
        DeviceReading.agency_id == agency_id, DeviceReading.read_at >= since, DeviceReading.read_at < until
    )
    if device_ids is not None:
        query = query.where(DeviceReading.device_id.in_(device_ids))
    return list(
        session.scalars(query.order_by(DeviceReading.device_id, DeviceReading.read_at, DeviceReading.id))
    )


def largest_capacity(session: Session, agency_id: UUID, until: datetime) -> dict[UUID, int]:
    """The largest capacity ever read of each device before an instant."""
    rows = session.execute(
        select(DeviceReading.device_id, func.max(DeviceReading.capacity_bytes))
        .where(
            DeviceReading.agency_id == agency_id,
            DeviceReading.capacity_bytes.is_not(None),
            DeviceReading.read_at < until,
        )
        .group_by(DeviceReading.device_id)
    ).all()
    return {row[0]: row[1] for row in rows if row[1] is not None}


# --- faults -----------------------------------------------------------------------------------


def fault_by_id(session: Session, agency_id: UUID, fault_id: UUID, *, lock: bool = False) -> DeviceFault:
    """The fault ticket of that id.

    Raises:
        NotFound: The agency has none.
    """
    query = select(DeviceFault).where(DeviceFault.agency_id == agency_id, DeviceFault.id == fault_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(f"fault {fault_id}: expected one of this agency, found none", code="fault_not_found")
    return row


def page_of_faults(
    session: Session,
    agency_id: UUID,
    *,
    device_id: UUID | None = None,
    is_open: bool | None = None,
    after: UUID | None = None,
    limit: int,
) -> list[tuple[DeviceFault, str]]:
    """Fault tickets with the number of their device, newest first."""
    query = (
        select(DeviceFault, Device.device_no)
        .join(Device, Device.id == DeviceFault.device_id)
        .where(DeviceFault.agency_id == agency_id)
    )
    if device_id is not None:
        query = query.where(DeviceFault.device_id == device_id)
    if is_open is not None:
        query = query.where(
            DeviceFault.resolved_at.is_(None) if is_open else DeviceFault.resolved_at.is_not(None)
        )
    if after is not None:
        query = query.where(DeviceFault.id < after)
    rows = session.execute(query.order_by(DeviceFault.id.desc()).limit(limit)).all()
    return [(row[0], row[1]) for row in rows]


def faults_before(session: Session, agency_id: UUID, until: datetime) -> list[DeviceFault]:
    """Every fault reported before an instant, oldest first."""
    return list(
        session.scalars(
            select(DeviceFault)
            .where(DeviceFault.agency_id == agency_id, DeviceFault.reported_at < until)
            .order_by(DeviceFault.reported_at, DeviceFault.id)
        )
    )


# --- who held what ----------------------------------------------------------------------------


def issues_of(session: Session, agency_id: UUID, device_id: UUID) -> list[tuple[DeviceIssue, Officer]]:
    """Everybody who held a device, with dates, latest first."""
    rows = session.execute(
        select(DeviceIssue, Officer)
        .join(Officer, Officer.id == DeviceIssue.officer_id)
        .where(DeviceIssue.agency_id == agency_id, DeviceIssue.device_id == device_id)
        .order_by(DeviceIssue.issued_at.desc(), DeviceIssue.id.desc())
    ).all()
    return [(row[0], row[1]) for row in rows]


def open_issues(session: Session, agency_id: UUID, device_id: UUID) -> list[DeviceIssue]:
    """Issues of a device that nobody ended."""
    return list(
        session.scalars(
            select(DeviceIssue).where(
                DeviceIssue.agency_id == agency_id,
                DeviceIssue.device_id == device_id,
                DeviceIssue.returned_at.is_(None),
            )
        )
    )


def issue_after(session: Session, agency_id: UUID, device_id: UUID, at: datetime) -> DeviceIssue | None:
    """An issue that begins after an instant, or ended after it."""
    return session.scalars(
        select(DeviceIssue)
        .where(
            DeviceIssue.agency_id == agency_id,
            DeviceIssue.device_id == device_id,
            or_(DeviceIssue.issued_at > at, DeviceIssue.returned_at > at),
        )
        .limit(1)
    ).first()


def issues_between(session: Session, agency_id: UUID, since: datetime, until: datetime) -> list[DeviceIssue]:
    """Issues in force at some instant of ``[since, until]``."""
    return list(
        session.scalars(
            select(DeviceIssue)
            .where(
                DeviceIssue.agency_id == agency_id,
                DeviceIssue.issued_at <= until,
                or_(DeviceIssue.returned_at.is_(None), DeviceIssue.returned_at > since),
            )
            .order_by(DeviceIssue.issued_at, DeviceIssue.id)
        )
    )


# --- devices ----------------------------------------------------------------------------------


def page_of_devices(
    session: Session,
    agency_id: UUID,
    *,
    state: str | None = None,
    in_use: bool | None = None,
    after: str | None = None,
    limit: int,
) -> list[Device]:
    """Devices by number; `after` is the last number of the page before."""
    query = select(Device).where(Device.agency_id == agency_id)
    if state is not None:
        query = query.where(Device.state == state)
    if in_use is not None:
        query = query.where(Device.retired_at.is_(None) if in_use else Device.retired_at.is_not(None))
    if after is not None:
        query = query.where(Device.device_no > after)
    return list(session.scalars(query.order_by(Device.device_no).limit(limit)))


def items_by_device(
    session: Session, agency_id: UUID, device_ids: Sequence[UUID] | None = None
) -> dict[UUID, tuple[int, datetime, datetime]]:
    """Of devices: how many items came, when the first and the last."""
    query = (
        select(Item.device_id, func.count(), func.min(Item.received_at), func.max(Item.received_at))
        .where(Item.agency_id == agency_id, Item.device_id.is_not(None))
        .group_by(Item.device_id)
    )
    if device_ids is not None:
        query = query.where(Item.device_id.in_(device_ids))
    rows = session.execute(query).all()
    return {row[0]: (int(row[1]), row[2], row[3]) for row in rows if row[0] is not None}


def officers_said(session: Session, agency_id: UUID, device_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Officer numbers that files of devices name, by device."""
    if not device_ids:
        return {}
    rows = session.execute(
        select(Item.device_id, Claim.value)
        .join(Claim, and_(Claim.item_id == Item.id, Claim.agency_id == Item.agency_id))
        .where(Item.agency_id == agency_id, Item.device_id.in_(device_ids), Claim.field == "officer_no")
        .distinct()
        .order_by(Item.device_id, Claim.value)
    ).all()
    found: dict[UUID, list[str]] = {}
    for device_id, value in rows:
        if device_id is not None:
            found.setdefault(device_id, []).append(value)
    return found


def numbers_known(session: Session, agency_id: UUID) -> tuple[dict[str, Device], dict[str, Officer]]:
    """Every device and officer by number, for a file of many lines."""
    known_devices = session.scalars(select(Device).where(Device.agency_id == agency_id))
    known_officers = session.scalars(select(Officer).where(Officer.agency_id == agency_id))
    return {row.device_no: row for row in known_devices}, {row.officer_no: row for row in known_officers}


def devices_numbered(
    session: Session, agency_id: UUID, numbers: Sequence[str], *, lock: bool = False
) -> dict[str, Device]:
    """Devices of some numbers, by number; locked in one order where that is asked for."""
    query = select(Device).where(Device.agency_id == agency_id, Device.device_no.in_(numbers))
    if lock:
        query = query.order_by(Device.device_no).with_for_update(key_share=True)
    return {row.device_no: row for row in session.scalars(query)}


def officers_numbered(
    session: Session, agency_id: UUID, numbers: Sequence[str], *, lock: bool = False
) -> dict[str, Officer]:
    """Officers of some numbers, by number; locked in one order where that is asked for."""
    query = select(Officer).where(Officer.agency_id == agency_id, Officer.officer_no.in_(numbers))
    if lock:
        query = query.order_by(Officer.officer_no).with_for_update(key_share=True)
    return {row.officer_no: row for row in session.scalars(query)}


def are_issued(session: Session, agency_id: UUID, device_ids: Sequence[UUID]) -> bool:
    """Whether one of the devices ever was in somebody's hands."""
    query = select(DeviceIssue.id).where(
        DeviceIssue.agency_id == agency_id, DeviceIssue.device_id.in_(device_ids)
    )
    return session.scalars(query.limit(1)).first() is not None


def officer_number(session: Session, agency_id: UUID, officer_id: UUID) -> str:
    """The number of an officer of the agency."""
    return session.scalars(
        select(Officer.officer_no).where(Officer.agency_id == agency_id, Officer.id == officer_id)
    ).one()
