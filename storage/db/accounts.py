"""Accounts, officers, devices and tokens by id, for those who look after them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from evidence.errors import NotFound
from storage.db.tables import Account, Device, DeviceIssue, Officer, UploadToken


def accounts(session: Session, agency_id: UUID) -> list[Account]:
    """All accounts of the agency by name."""
    return list(
        session.scalars(select(Account).where(Account.agency_id == agency_id).order_by(Account.username))
    )


def page_of_accounts(session: Session, agency_id: UUID, *, after: str | None, limit: int) -> list[Account]:
    """Accounts by name, those behind ``after``."""
    query = select(Account).where(Account.agency_id == agency_id)
    if after is not None:
        query = query.where(Account.username > after)
    return list(session.scalars(query.order_by(Account.username).limit(limit)))


def account_by_id(session: Session, agency_id: UUID, account_id: UUID) -> Account:
    """The account of that id.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(
        select(Account).where(Account.agency_id == agency_id, Account.id == account_id)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"account {account_id}: expected one of this agency, found none", code="account_not_found"
        )
    return row


def in_force(session: Session, agency_id: UUID, account_id: UUID) -> Account | None:
    """The account of that id, if its holder may sign in."""
    return session.scalars(
        select(Account).where(
            Account.agency_id == agency_id, Account.id == account_id, Account.disabled_at.is_(None)
        )
    ).one_or_none()


def account_by_name(session: Session, agency_id: UUID, username: str) -> Account:
    """The account of that name.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(
        select(Account).where(Account.agency_id == agency_id, Account.username == username.strip())
    ).one_or_none()
    if row is None:
        raise NotFound("account: expected one of that name, found none", code="account_not_found")
    return row


def device_by_id(session: Session, agency_id: UUID, device_id: UUID) -> Device:
    """The device of that id.

    Raises:
        NotFound: The agency has none.
    """
    row = session.scalars(
        select(Device).where(Device.agency_id == agency_id, Device.id == device_id)
    ).one_or_none()
    if row is None:
        raise NotFound(
            f"device {device_id}: expected one of this agency, found none", code="device_not_found"
        )
    return row


_NUMBERS = select(Device.id, Device.device_no).where(
    Device.agency_id == bindparam("agency"), Device.id.in_(bindparam("devices", expanding=True))
)


def device_numbers(session: Session, agency_id: UUID, device_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Device number by id."""
    if not device_ids:
        return {}
    rows = session.execute(_NUMBERS, {"agency": agency_id, "devices": list(device_ids)}).all()
    return {row[0]: row[1] for row in rows}


def holders(session: Session, agency_id: UUID) -> dict[UUID, str]:
    """Officer number by device, for devices that are in somebody's hands now."""
    rows = session.execute(
        select(DeviceIssue.device_id, Officer.officer_no)
        .join(Officer, Officer.id == DeviceIssue.officer_id)
        .where(DeviceIssue.agency_id == agency_id, DeviceIssue.returned_at.is_(None))
    ).all()
    return {row[0]: row[1] for row in rows}


def page_of_upload_tokens(
    session: Session, agency_id: UUID, *, after: UUID | None, limit: int
) -> list[UploadToken]:
    """Upload tokens of the agency, newest first; `after` is the last id of the page before."""
    query = select(UploadToken).where(UploadToken.agency_id == agency_id)
    if after is not None:
        query = query.where(UploadToken.id < after)
    return list(session.scalars(query.order_by(UploadToken.id.desc()).limit(limit)))
