"""Docks and the tokens they upload with, each change with its custody leaf.

A token is bound to a dock, and to one device when it names one. Rotating gives the same binding a new
token; the old one goes on for an overlap, so that no dock stands still while it is told.

Whoever gives a token or takes a dock or a device out of use holds their rows first, the dock before the
device before its tokens: a token given while its dock is retired is refused, or ends with it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound
from ingest import roster
from storage.db import agencies, credentials, custody, ledger
from storage.db.custody import Happening
from storage.db.ledger_tables import Dock
from storage.db.tables import Agency, UploadToken

MAX_TEXT_CHARS = 500
MAX_OVERLAP = timedelta(days=90)


def register_dock(
    session: Session, agency: Agency, dock_no: str, *, place: str | None, actor: str, now: datetime
) -> Dock:
    """Enter a dock.

    Raises:
        InvalidInput: An unusable number or place.
        Conflict: The number is taken.
    """
    number = agencies.check_number("dock", dock_no)
    taken = Conflict(
        f"dock {number}: expected a free number, found it taken, as by the first token given for it; "
        "say where it stands with `liuhen dock set`",
        code="dock_no_taken",
    )
    if ledger.dock_by_no(session, agency.id, number) is not None:
        raise taken
    row = Dock(agency_id=agency.id, dock_no=number, place=line("place", place), created_at=now)
    with roster.unless_taken(session, taken):
        session.add(row)
    facts = {"dock_no": row.dock_no, "place": row.place}
    custody.record(session, agency, Happening(Action.DOCK_REGISTERED, "dock", str(row.id), actor, facts), now)
    return row


def dock(session: Session, agency: Agency, dock_no: str) -> Dock:
    """The dock of that number.

    Raises:
        NotFound: There is none.
    """
    row = ledger.dock_by_no(session, agency.id, dock_no.strip())
    if row is None:
        raise NotFound(f"dock {dock_no[:64]}: expected one registered, found none", code="dock_not_found")
    return row


def set_dock(
    session: Session, agency: Agency, dock_no: str, *, place: str | None, actor: str, now: datetime
) -> Dock:
    """Say where a dock stands, such as one entered by its first token; the same again changes nothing.

    Raises:
        InvalidInput: An unusable place.
        NotFound: No such dock.
        Conflict: It is out of use.
    """
    row = dock(session, agency, dock_no)
    ledger.lock_dock(session, row)
    if row.retired_at is not None:
        raise _retired(row)
    stands = line("place", place)
    if stands == row.place:
        return row
    row.place = stands
    facts = {"dock_no": row.dock_no, "place": row.place}
    custody.record(session, agency, Happening(Action.DOCK_CHANGED, "dock", str(row.id), actor, facts), now)
    return row


def retire_dock(session: Session, agency: Agency, dock_no: str, *, actor: str, now: datetime) -> Dock:
    """Take a dock out of use; its tokens end at once.

    Raises:
        NotFound: No such dock.
        Conflict: It is out of use already.
    """
    row = dock(session, agency, dock_no)
    ledger.lock_dock(session, row)
    if row.retired_at is not None:
        raise _retired(row)
    row.retired_at = now
    ended = ledger.tokens_not_revoked(session, agency.id, dock_no=row.dock_no)
    for token in ended:
        revoke_token(session, agency, token.id, actor=actor, now=now)
    facts = {"dock_no": row.dock_no, "tokens_ended": len(ended)}
    custody.record(session, agency, Happening(Action.DOCK_RETIRED, "dock", str(row.id), actor, facts), now)
    return row


def _retired(row: Dock) -> Conflict:
    return Conflict(f"dock {row.dock_no}: expected one in use, found it retired", code="dock_retired")


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
    """A new upload token, to be shown once, and its row. A dock nobody registered is registered by it.

    Raises:
        NotFound: No such device.
        Conflict: The dock or the device is retired.
    """
    number = agencies.check_number("dock", dock_no)
    held = _held(session, agency, number, actor=actor, now=now)
    if held.retired_at is not None:
        raise _retired(held)
    bound = roster.device(session, agency, device_no) if device_no else None
    if bound is not None:
        ledger.lock_device(session, bound)
        if bound.retired_at is not None:
            raise Conflict(
                f"device {bound.device_no}: expected one in use, found it retired", code="device_retired"
            )
    token, row = credentials.issue_upload_token(
        session, agency, dock_no=number, device_id=bound.id if bound else None, now=now, life=life
    )
    facts = {"dock_no": row.dock_no, "device": str(bound.id) if bound else None}
    custody.record(session, agency, Happening(Action.TOKEN_ISSUED, "token", str(row.id), actor, facts), now)
    return token, row


def _held(session: Session, agency: Agency, number: str, *, actor: str, now: datetime) -> Dock:
    """The dock of a number, locked; entered if nobody did, or just now did."""
    row = ledger.dock_by_no(session, agency.id, number)
    if row is None:
        try:
            return register_dock(session, agency, number, place=None, actor=actor, now=now)
        except Conflict:
            row = dock(session, agency, number)
    ledger.lock_dock(session, row)
    return row


def rotate_token(
    session: Session,
    agency: Agency,
    token_id: UUID,
    *,
    overlap: timedelta,
    life: timedelta | None,
    actor: str,
    now: datetime,
) -> tuple[str, UploadToken]:
    """A new token for the binding of an old one, which ends after the overlap.

    Args:
        session: The caller's transaction.
        agency: Whose token it is.
        token_id: The old one.
        overlap: How long both are taken; zero ends the old one at once.
        life: Of the new one; None: until revoked.
        actor: Who asks.
        now: The server's clock.

    Raises:
        NotFound: There is no such token.
        Conflict: It has ended, be it with its dock or its device.
        InvalidInput: An overlap below zero or over 90 days.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise InvalidInput(
            f"overlap: expected 0 to {MAX_OVERLAP.days} days, found {overlap}", code="overlap_invalid"
        )
    old = ledger.token_to_replace(session, agency.id, token_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise Conflict(
            f"upload token {token_id}: expected one in force, found it ended; issue a new one",
            code="token_ended",
        )
    token, row = credentials.issue_upload_token(
        session, agency, dock_no=old.dock_no, device_id=old.device_id, now=now, life=life
    )
    end = now + overlap
    old.expires_at = end if old.expires_at is None else min(old.expires_at, end)
    facts = {"dock_no": row.dock_no, "replaces": str(old.id), "old_ends_at": rfc3339(old.expires_at)}
    custody.record(session, agency, Happening(Action.TOKEN_ROTATED, "token", str(row.id), actor, facts), now)
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


def line(what: str, text: str | None) -> str | None:
    """One line that can be kept; None where nothing was said.

    Raises:
        InvalidInput: More than a line, or with characters that cannot be printed.
    """
    cleaned = (text or "").strip()
    if len(cleaned) > MAX_TEXT_CHARS or not cleaned.isprintable():
        raise InvalidInput(
            f"{what}: expected one line of at most {MAX_TEXT_CHARS} characters, found another",
            code="text_invalid",
        )
    return cleaned or None
