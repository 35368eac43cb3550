"""The roster: officers, devices, accounts and upload tokens, each entry with its custody leaf.

What a command or a route does to the roster is done here, so that both leave the same trace. Callers
hold the transaction. Cases have a register of their own (`ingest.register`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound
from evidence.kinds import Role, SourceKind
from storage.db import accounts, agencies, credentials, custody
from storage.db.custody import Happening
from storage.db.tables import Account, Agency, Device, DeviceIssue, Officer, UploadToken


def register_officer(
    session: Session,
    agency: Agency,
    officer_no: str,
    name: str,
    *,
    certificate_no: str | None,
    actor: str,
    now: datetime,
) -> Officer:
    """Enter an officer.

    Raises:
        InvalidInput: An unusable number or an empty name.
        Conflict: The number is taken.
    """
    if not name.strip():
        raise InvalidInput("officer: expected a name, found none", code="name_missing")
    if agencies.officer_by_no(session, agency.id, officer_no.strip()) is not None:
        raise Conflict(
            f"officer {officer_no}: expected a free number, found it taken", code="officer_no_taken"
        )
    row = agencies.add_officer(session, agency.id, officer_no, name, now, certificate_no)
    private = {"officer_no": row.officer_no, "name": row.name, "certificate_no": row.certificate_no}
    happening = Happening(Action.OFFICER_REGISTERED, "officer", str(row.id), actor, {}, private)
    custody.record(session, agency, happening, now)
    return row


def officer(session: Session, agency: Agency, officer_no: str) -> Officer:
    """The officer of that number.

    Raises:
        NotFound: There is none.
    """
    row = agencies.officer_by_no(session, agency.id, officer_no.strip())
    if row is None:
        raise NotFound(f"officer {officer_no}: expected one registered, found none", code="officer_not_found")
    return row


def device(session: Session, agency: Agency, device_no: str) -> Device:
    """The device of that number, adopted or not.

    Raises:
        NotFound: There is none.
    """
    row = agencies.device_by_no(session, agency.id, device_no.strip())
    if row is None:
        raise NotFound(f"device {device_no}: expected one known, found none", code="device_not_found")
    return row


def register_device(
    session: Session,
    agency: Agency,
    device_no: str,
    *,
    kind: SourceKind,
    model: str | None,
    actor: str,
    now: datetime,
) -> Device:
    """Enter a device.

    Raises:
        InvalidInput: An unusable number.
        Conflict: The number is known already, registered or waiting to be adopted.
    """
    known = agencies.device_by_no(session, agency.id, device_no.strip())
    if known is not None:
        advice = "adopt it" if known.state == agencies.UNKNOWN else "nothing to do"
        raise Conflict(f"device {device_no}: expected a free number, found it {known.state}; {advice}",
                       code="device_no_taken")  # fmt: skip
    row = agencies.add_device(session, agency.id, device_no, now, kind=kind, model=model)
    facts = {"device_no": row.device_no, "kind": row.kind, "model": row.model}
    custody.record(
        session, agency, Happening(Action.DEVICE_REGISTERED, "device", str(row.id), actor, facts), now
    )
    return row


def adopt_device(session: Session, agency: Agency, device_no: str, *, actor: str, now: datetime) -> Device:
    """Make a device that showed up unregistered one of the agency's (6.2).

    Raises:
        NotFound: It never showed up.
        Conflict: It is registered already.
    """
    row = device(session, agency, device_no)
    if row.state != agencies.UNKNOWN:
        raise Conflict(f"device {device_no}: expected unknown, found {row.state}", code="device_adopted")
    row.state = agencies.REGISTERED
    facts = {"device_no": row.device_no}
    custody.record(
        session, agency, Happening(Action.DEVICE_ADOPTED, "device", str(row.id), actor, facts), now
    )
    return row


def issue_device(
    session: Session,
    agency: Agency,
    device_no: str,
    officer_no: str,
    *,
    issued_at: datetime,
    actor: str,
    now: datetime,
) -> DeviceIssue:
    """Put a device in an officer's hands (R13); whoever had it returned it at that instant.

    Raises:
        NotFound: No such device or officer.
        Conflict: The device is not adopted yet.
    """
    row, holder = device(session, agency, device_no), officer(session, agency, officer_no)
    if row.state == agencies.UNKNOWN:
        raise Conflict(
            f"device {device_no}: expected registered, found unknown; adopt it", code="device_unknown"
        )
    issue = agencies.issue_device(session, row, holder, issued_at)
    facts = {"issue": str(issue.id), "officer": str(holder.id)}
    custody.record(session, agency, Happening(Action.DEVICE_ISSUED, "device", str(row.id), actor, facts), now)
    return issue


def add_account(
    session: Session,
    agency: Agency,
    *,
    username: str,
    display_name: str,
    password: str,
    roles: frozenset[Role],
    officer_no: str | None = None,
    must_change: bool = True,
    actor: str,
    now: datetime,
) -> Account:
    """Make an account, whose holder changes the password at the first sign-in unless told otherwise.

    Raises:
        InvalidInput: Weak password, unusable name, or roles nobody may hold together (A7).
        NotFound: No officer of that number.
        Conflict: The name is taken.
    """
    person = officer(session, agency, officer_no) if officer_no else None
    row = credentials.create_account(
        session,
        agency,
        username=username,
        display_name=display_name,
        password=password,
        roles=roles,
        now=now,
        officer_id=person.id if person else None,
        must_change=must_change,
    )
    facts = {"roles": sorted(str(role) for role in roles)}
    private = {"username": row.username, "display_name": row.display_name}
    happening = Happening(Action.ACCOUNT_CREATED, "account", str(row.id), actor, facts, private)
    custody.record(session, agency, happening, now)
    return row


def change_password(
    session: Session,
    agency: Agency,
    row: Account,
    password_hash: str,
    *,
    actor: str,
    now: datetime,
    keep: str | None = None,
) -> None:
    """Give an account another password; its sessions end, but the one of the token in `keep`.

    Only its holder keeps a session, so a password that came without one has to be changed again.
    """
    row.password_hash = password_hash
    row.password_changed_at = now if keep is not None else None
    row.failed_logins, row.failed_at = 0, None
    credentials.end_sessions_of(session, agency.id, row.id, now, but=keep)
    facts = {"password": "chosen" if keep is not None else "given"}
    changed = Happening(Action.ACCOUNT_CHANGED, "account", str(row.id), actor, facts)
    custody.record(session, agency, changed, now)


def disable_account(session: Session, agency: Agency, username: str, *, actor: str, now: datetime) -> Account:
    """Bar an account from now on; its sessions end with it.

    Raises:
        NotFound: There is none.
        Conflict: It is disabled already.
    """
    row = accounts.account_by_name(session, agency.id, username)
    if row.disabled_at is not None:
        raise Conflict("account: expected enabled, found disabled", code="account_disabled")
    row.disabled_at = now
    facts = {"disabled": True}
    custody.record(
        session, agency, Happening(Action.ACCOUNT_CHANGED, "account", str(row.id), actor, facts), now
    )
    return row


def issue_token(
    session: Session,
    agency: Agency,
    *,
    dock_no: str,
    device_no: str | None,
    life: timedelta | None,
    actor: str,
    now: datetime,
) -> tuple[str, UploadToken]:
    """A new upload token, to be shown once, and its row.

    Raises:
        NotFound: No such device.
    """
    bound = device(session, agency, device_no) if device_no else None
    agencies.check_number("dock", dock_no)
    token, row = credentials.issue_upload_token(
        session, agency, dock_no=dock_no, device_id=bound.id if bound else None, now=now, life=life
    )
    facts = {"dock_no": row.dock_no, "device": str(bound.id) if bound else None}
    custody.record(session, agency, Happening(Action.TOKEN_ISSUED, "token", str(row.id), actor, facts), now)
    return token, row


def revoke_token(
    session: Session, agency: Agency, token_id: UUID, *, actor: str, now: datetime
) -> UploadToken:
    """End an upload token at once.

    Raises:
        NotFound: There is none.
    """
    row = credentials.revoke_upload_token(session, agency.id, token_id, now)
    facts = {"dock_no": row.dock_no}
    custody.record(session, agency, Happening(Action.TOKEN_REVOKED, "token", str(row.id), actor, facts), now)
    return row
