"""Proving who is asking: session tokens and upload tokens; passwords are `storage.db.passwords`.

Tokens are 256 random bits with a readable prefix; only their SHA-256 is stored. Used by the API and
by the upload listener alike, so that neither imports the other.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from evidence.access import Actor, check_roles
from evidence.errors import Conflict, InvalidInput, NotAuthenticated, NotFound, NotPermitted
from evidence.kinds import Role
from storage.db import passwords
from storage.db.tables import Account, Agency, Device, LoginSession, UploadToken

SESSION_PREFIX = "lhs_"
UPLOAD_PREFIX = "lhu_"


@dataclass(frozen=True)
class Uploader:
    """A machine that has proved its upload token."""

    token_id: UUID
    agency_id: UUID
    agency_code: str
    dock_no: str
    device_no: str | None = None
    """The device the token is bound to; None for a dock that serves many."""


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
    must_change: bool = True,
) -> Account:
    """A new account; unless told otherwise its holder changes the password before anything else.

    Raises:
        InvalidInput: Weak password, empty name, or roles one person may not hold together (A7).
        Conflict: The name is taken.
    """
    check_roles(roles)
    name = username.strip()
    if not name or len(name) > 64 or any(char.isspace() for char in name):
        raise InvalidInput("username: expected 1 to 64 characters without spaces", code="username_invalid")
    passwords.check_strength(password)
    taken = session.scalar(select(Account.id).where(Account.agency_id == agency.id, Account.username == name))
    if taken is not None:
        raise Conflict(f"account {name}: expected a free name, found it taken", code="username_taken")
    account = Account(
        agency_id=agency.id,
        username=name,
        display_name=display_name,
        password_hash=passwords.hashed(password),
        password_changed_at=None if must_change else now,
        roles=sorted(roles),
        officer_id=officer_id,
        failed_logins=0,
        created_at=now,
    )
    session.add(account)
    session.flush()
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


# Every request begins with it: written once, and only what is looked at.
_HOLDER = (
    select(
        LoginSession.revoked_at,
        LoginSession.expires_at,
        Account.id.label("account_id"),
        Account.username,
        Account.roles,
        Account.officer_id,
        Account.disabled_at,
        Account.password_changed_at,
        Agency.id.label("agency_id"),
        Agency.code,
    )
    .join(Account, Account.id == LoginSession.account_id)
    .join(Agency, Agency.id == LoginSession.agency_id)
    .where(LoginSession.token_digest == bindparam("digest"))
)


def actor_of(session: Session, token: str, now: datetime, *, before_change: bool = False) -> Actor:
    """Who holds the session token.

    Args:
        session: To read with.
        token: The bearer token.
        now: The server's clock.
        before_change: Take also who has not yet chosen a password of their own.

    Raises:
        NotAuthenticated: Unknown, expired or revoked token, or a disabled account.
        NotPermitted: The password has to be changed first (``password_change_required``).
    """
    row = session.execute(_HOLDER, {"digest": token_digest(token)}).one_or_none()
    if row is None:
        raise NotAuthenticated("session: expected a token in force, found none", code="session_unknown")
    if row.revoked_at is not None or now >= row.expires_at or row.disabled_at is not None:
        raise NotAuthenticated("session: expected a token in force, found an ended one; sign in again")
    if row.password_changed_at is None and not before_change:
        raise NotPermitted(
            "account: expected a password of its holder's own, found the one it was made with; change it",
            code="password_change_required",
        )
    return Actor(
        account_id=row.account_id,
        agency_id=row.agency_id,
        agency_code=row.code,
        username=row.username,
        roles=frozenset(Role(role) for role in row.roles),
        officer_id=row.officer_id,
    )


def end_session(session: Session, token: str, now: datetime) -> None:
    """Revoke a session token; ending it twice is fine."""
    row = session.scalars(
        select(LoginSession).where(LoginSession.token_digest == token_digest(token))
    ).one_or_none()
    if row is not None and row.revoked_at is None:
        row.revoked_at = now


def end_sessions_of(
    session: Session, agency_id: UUID, account_id: UUID, now: datetime, *, but: str | None = None
) -> None:
    """Revoke every session of an account, but the one of a token when that is given."""
    rows = session.scalars(
        select(LoginSession).where(
            LoginSession.agency_id == agency_id,
            LoginSession.account_id == account_id,
            LoginSession.revoked_at.is_(None),
        )
    )
    kept = token_digest(but) if but is not None else None
    for row in rows:
        if row.token_digest != kept:
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


def is_upload_token_in_force(session: Session, uploader: Uploader, now: datetime) -> bool:
    """Whether a token that was proved some time ago still holds."""
    row = session.scalars(
        select(UploadToken).where(
            UploadToken.agency_id == uploader.agency_id, UploadToken.id == uploader.token_id
        )
    ).one_or_none()
    return row is not None and row.revoked_at is None and (row.expires_at is None or now < row.expires_at)


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
