"""Passwords: hashed, proved, counted when wrong, changed.

Proving one takes a core and 64 MiB for a moment, so it is done between two transactions and inside none:
`candidate` reads, `matches` computes, `settle` writes in a short transaction what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.errors import InvalidInput
from storage.db.tables import Account, Agency

LOCKOUT = timedelta(minutes=15)
MIN_CHARS = 10
MAX_CHARS = 256

_hasher = PasswordHasher()
# Verified when the account does not exist, so that the answer takes as long: of 32 random bytes that
# nobody kept. Made beforehand, since making one takes every program that is started a quarter second.
_NOBODY_HASH = (
    "$argon2id$v=19$m=65536,t=3,p=4$YHfHWgbQ172CN0t1TB9vdA$grdN+lljuzYaF/wR2vihYzNFsp5OZ0foJXuAjeSxwhM"
)


@dataclass(frozen=True)
class Candidate:
    """Whose password may be meant, and what to prove it against; nobody when `account_id` is None."""

    agency_id: UUID | None
    account_id: UUID | None
    password_hash: str


@dataclass(frozen=True)
class Settled:
    """What came of an attempt.

    Attributes:
        account: The account the attempt was at, its row locked; None when there is none.
        is_proved: Name and password belong together, and the account may sign in.
        is_first_miss: The first wrong password of a lock-out window.
    """

    account: Account | None
    is_proved: bool
    is_first_miss: bool = False


def check_strength(password: str) -> None:
    """Refuse what is too short or absurdly long.

    Raises:
        InvalidInput: Code ``password_weak``.
    """
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidInput(
            f"password: expected {MIN_CHARS} to {MAX_CHARS} characters, found {len(password)}",
            code="password_weak",
        )


def hashed(password: str) -> str:
    """What is stored of a password."""
    return _hasher.hash(password)


def candidate(session: Session, agency_code: str | None, username: str) -> Candidate:
    """The one account of that name, or nobody."""
    query = select(Account).join(Agency, Agency.id == Account.agency_id).where(Account.username == username)
    if agency_code is not None:
        query = query.where(Agency.code == agency_code)
    found = session.scalars(query.limit(2)).all()
    return _candidate(found[0]) if len(found) == 1 else Candidate(None, None, _NOBODY_HASH)


def candidate_by_id(session: Session, agency_id: UUID, account_id: UUID) -> Candidate:
    """A known account, to prove its password again."""
    query = select(Account).where(Account.agency_id == agency_id, Account.id == account_id)
    return _candidate(session.scalars(query).one())


def _candidate(account: Account) -> Candidate:
    return Candidate(account.agency_id, account.id, account.password_hash)


def matches(meant: Candidate, password: str) -> bool:
    """Whether the password is the candidate's. Slow on purpose: call it outside any transaction."""
    try:
        _hasher.verify(meant.password_hash, password[:MAX_CHARS])
    except (VerificationError, InvalidHashError):
        return False
    return meant.account_id is not None


def settle(session: Session, meant: Candidate, is_match: bool, now: datetime, attempts: int) -> Settled:
    """Decide about an attempt and count it: the account's row is locked, and no other.

    Args:
        session: A write transaction; the caller commits also when the attempt failed.
        meant: What the password was proved against.
        is_match: What `matches` said.
        now: The server's clock.
        attempts: Wrong passwords that lock the account for a while.
    """
    if meant.account_id is None:
        return Settled(None, is_proved=False)
    query = select(Account).where(Account.agency_id == meant.agency_id, Account.id == meant.account_id)
    account = session.scalars(query.with_for_update(of=Account, key_share=True)).one()
    is_recent = account.failed_at is not None and now < account.failed_at + LOCKOUT
    is_locked = is_recent and account.failed_logins >= attempts
    # Changed since it was read: what was proved is no longer the password.
    is_stale = account.password_hash != meant.password_hash
    if is_locked or is_stale or account.disabled_at is not None:
        return Settled(account, is_proved=False)
    if not is_match:
        account.failed_logins = account.failed_logins + 1 if is_recent else 1
        account.failed_at = now
        return Settled(account, is_proved=False, is_first_miss=account.failed_logins == 1)
    account.failed_logins, account.failed_at = 0, None
    return Settled(account, is_proved=True)
