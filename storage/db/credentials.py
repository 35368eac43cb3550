"""Proving who is asking: passwords, session tokens and upload tokens.

Tokens are 256 random bits with a readable prefix; only their SHA-256 is stored. Used by the API and
by the upload listener alike, so that neither imports the other.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.access import Actor, check_roles
from evidence.errors import Conflict, InvalidInput, NotAuthenticated, NotFound
from evidence.kinds import Role
from storage.db.tables import Account, Agency, Device, LoginSession, UploadToken

SESSION_PREFIX = "lhs_"
UPLOAD_PREFIX = "lhu_"
LOCKOUT = timedelta(minutes=15)
MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_CHARS = 256

_hasher = PasswordHasher()
# Verified when the account does not exist, so that the answer takes as long.
_nobody_hash = _hasher.hash(secrets.token_urlsafe(16))


@dataclass(frozen=True)
class Uploader:
    """A machine that has proved its token."""

    token_id: UUID
    agency_id: UUID
    agency_code: str
    dock_no: str
    device_no: str | None


def token_digest(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def create_account(
    session: Session,
    agency: Agency,
    *,
    username: str,
    display_name: str,
    password: str,
    roles: frozenset[Role],
    now: datetime,
    officer_id: UUID | None = None,
) -> Account:
    """A new account.

    Raises:
        InvalidInput: Weak password, empty name, or roles one person may not hold together (A7).
        Conflict: The name is taken.
    """
    check_roles(roles)
    name = username.strip()
    if not name or len(name) > 64 or any(char.isspace() for char in name):
        raise InvalidInput("username: expected 1 to 64 characters without spaces", code="username_invalid")
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidInput(
            f"password: expected {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters, "
            f"found {len(password)}",
            code="password_weak",
        )
    taken = session.scalar(select(Account.id).where(Account.agency_id == agency.id, Account.username == name))
    if taken is not None:
        raise Conflict(f"account {name}: expected a free name, found it taken", code="username_taken")
    account = Account(
        agency_id=agency.id,
        username=name,
        display_name=display_name,
        password_hash=_hasher.hash(password),
        roles=sorted(roles),
        officer_id=officer_id,
        failed_logins=0,
        created_at=now,
    )
    session.add(account)
    session.flush()
    return account


def check_password(
    session: Session, agency_code: str | None, username: str, password: str, now: datetime, attempts: int
) -> Account | None:
    """The account, when name and password belong together and it may sign in; else None.

    A wrong password is counted in the row: the caller commits also when the answer is None.
    """
    query = select(Account).join(Agency, Agency.id == Account.agency_id).where(Account.username == username)
    if agency_code is not None:
        query = query.where(Agency.code == agency_code)
    found = session.scalars(query.with_for_update()).all()
    account = found[0] if len(found) == 1 else None
    locked = (
        account is not None
        and account.failed_logins >= attempts
        and account.failed_at is not None
        and now < account.failed_at + LOCKOUT
    )
    stored = account.password_hash if account is not None else _nobody_hash
    try:
        _hasher.verify(stored, password[:MAX_PASSWORD_CHARS])
        matches = account is not None
    except (VerifyMismatchError, InvalidHashError):
        matches = False
    if account is None or locked or account.disabled_at is not None:
        return None
    if not matches:
        expired = account.failed_at is None or now >= account.failed_at + LOCKOUT
        account.failed_logins = 1 if expired else account.failed_logins + 1
        account.failed_at = now
        return None
    account.failed_logins, account.failed_at = 0, None
    return account


def open_session(
    session: Session, account: Account, now: datetime, life: timedelta
) -> tuple[str, LoginSession]:
    """A fresh session token and its row."""
    token = SESSION_PREFIX + secrets.token_urlsafe(32)
    row = LoginSession(
        agency_id=account.agency_id,
        account_id=account.id,
        token_digest=token_digest(token),
        created_at=now,
        expires_at=now + life,
    )
    session.add(row)
    session.flush()
    return token, row


def actor_of(session: Session, token: str, now: datetime) -> Actor:
    """Who holds the session token.

    Raises:
        NotAuthenticated: Unknown, expired or revoked token, or a disabled account.
    """
    row = session.execute(
        select(LoginSession, Account, Agency)
        .join(Account, Account.id == LoginSession.account_id)
        .join(Agency, Agency.id == LoginSession.agency_id)
        .where(LoginSession.token_digest == token_digest(token))
    ).one_or_none()
    if row is None:
        raise NotAuthenticated("session: expected a token in force, found none", code="session_unknown")
    login, account, agency = row
    if login.revoked_at is not None or now >= login.expires_at or account.disabled_at is not None:
        raise NotAuthenticated("session: expected a token in force, found an ended one; sign in again")
    return Actor(
        account_id=account.id,
        agency_id=agency.id,
        agency_code=agency.code,
        username=account.username,
        roles=frozenset(Role(role) for role in account.roles),
        officer_id=account.officer_id,
    )


def end_session(session: Session, token: str, now: datetime) -> None:
    """Revoke a session token; ending it twice is fine."""
    row = session.scalars(
        select(LoginSession).where(LoginSession.token_digest == token_digest(token))
    ).one_or_none()
    if row is not None and row.revoked_at is None:
        row.revoked_at = now


def issue_upload_token(
    session: Session,
    agency: Agency,
    *,
    dock_no: str,
    device_id: UUID | None,
    now: datetime,
    life: timedelta | None,
) -> tuple[str, UploadToken]:
    """A new upload token, shown once, and its row."""
    if not dock_no.strip():
        raise InvalidInput("dock: expected a number, found none", code="dock_no_invalid")
    token = UPLOAD_PREFIX + secrets.token_urlsafe(32)
    row = UploadToken(
        agency_id=agency.id,
        token_digest=token_digest(token),
        dock_no=dock_no.strip(),
        device_id=device_id,
        created_at=now,
        expires_at=None if life is None else now + life,
    )
    session.add(row)
    session.flush()
    return token, row


def uploader_of(session: Session, token: str, now: datetime) -> Uploader:
    """Which machine holds the upload token.

    Raises:
        NotAuthenticated: Unknown, expired or revoked token.
    """
    row = session.execute(
        select(UploadToken, Agency, Device.device_no)
        .join(Agency, Agency.id == UploadToken.agency_id)
        .outerjoin(Device, Device.id == UploadToken.device_id)
        .where(UploadToken.token_digest == token_digest(token))
    ).one_or_none()
    if row is None:
        raise NotAuthenticated("upload token: expected one in force, found none", code="token_unknown")
    held, agency, device_no = row
    if held.revoked_at is not None or (held.expires_at is not None and now >= held.expires_at):
        raise NotAuthenticated("upload token: expected one in force, found an ended one; issue a new one")
    return Uploader(held.id, agency.id, agency.code, held.dock_no, device_no)


def revoke_upload_token(session: Session, agency_id: UUID, token_id: UUID, now: datetime) -> UploadToken:
    """End an upload token at once.

    Raises:
        NotFound: The agency has no such token.
    """
    row = session.scalars(
        select(UploadToken).where(UploadToken.agency_id == agency_id, UploadToken.id == token_id)
    ).one_or_none()
    if row is None:
        raise NotFound(f"upload token {token_id}: expected one of this agency, found none")
    row.revoked_at = row.revoked_at or now
    return row
