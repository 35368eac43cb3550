"""The roster: officers, devices, who holds them, and accounts, each entry with its custody leaf.

What a command or a route does to the roster is done here, so that both leave the same trace. Callers
hold the transaction. Cases have a register of their own (`ingest.register`), docks and tokens are
`ingest.docks`', readings and faults `ingest.ledger`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound
from evidence.kinds import Role, SourceKind
from ingest.facts import EARLIEST
from storage.db import accounts, agencies, credentials, custody, items, ledger
from storage.db.custody import Happening
from storage.db.tables import Account, Agency, Device, DeviceIssue, Item, Officer

CLOCKS_DIFFER = timedelta(minutes=5)
UNKNOWN_DEVICE = "device_unknown"
"""The flag of what a device brought before it was adopted."""


@contextmanager
def unless_taken(session: Session, conflict: Conflict) -> Iterator[None]:
    """Enter a row whose number somebody else may be entering now: theirs stays, and ours is the conflict."""
    try:
        with session.begin_nested():
            yield
    except IntegrityError as error:
        raise conflict from error


def rename_agency(session: Session, agency: Agency, name: str, *, actor: str, now: datetime) -> bool:
    """Correct the name people read; the code stands in numbers and stays. False: it was called so already.

    Raises:
        InvalidInput: No name to print.
    """
    was, agency.name = agency.name, agencies.check_agency_name(name)
    if agency.name == was:
        return False
    private = {"name": agency.name, "was": was}
    renamed = Happening(
        Action.AGENCY_RENAMED, "agency", str(agency.id), actor, {"code": agency.code}, private
    )
    custody.record(session, agency, renamed, now)
    return True


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
    taken = Conflict(f"officer {officer_no}: expected a free number, found it taken", code="officer_no_taken")
    if agencies.officer_by_no(session, agency.id, officer_no.strip()) is not None:
        raise taken
    with unless_taken(session, taken):
        row = agencies.add_officer(session, agency.id, officer_no, name, now, certificate_no)
    custody.record(session, agency, officer_registered(row, actor), now)
    return row


def officer_registered(row: Officer, actor: str) -> Happening:
    """What custody says of a new officer."""
    private = {"officer_no": row.officer_no, "name": row.name, "certificate_no": row.certificate_no}
    return Happening(Action.OFFICER_REGISTERED, "officer", str(row.id), actor, {}, private)


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
    maker: str | None = None,
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
    taken = Conflict(
        f"device {device_no}: expected a free number, found it entered meanwhile", code="device_no_taken"
    )
    with unless_taken(session, taken):
        row = agencies.add_device(session, agency.id, device_no, now, kind=kind, model=model, maker=maker)
    custody.record(session, agency, device_registered(row, actor), now)
    return row


def device_registered(row: Device, actor: str) -> Happening:
    """What custody says of a new device."""
    facts = {"device_no": row.device_no, "kind": row.kind, "maker": row.maker, "model": row.model}
    return Happening(Action.DEVICE_REGISTERED, "device", str(row.id), actor, facts)


def adopt_device(
    session: Session,
    agency: Agency,
    device_no: str,
    *,
    kind: SourceKind | None = None,
    maker: str | None = None,
    model: str | None = None,
    officer_no: str | None = None,
    issued_at: datetime | None = None,
    actor: str,
    now: datetime,
) -> Device:
    """Make a device that showed up unregistered one of the agency's (6.2), and issue it in the same step.

    What it brought so far is of a known device from then on: the flag that said otherwise ends with it.

    Raises:
        NotFound: It never showed up, or there is no such officer.
        Conflict: It is registered already.
    """
    row = device(session, agency, device_no)
    ledger.lock_device(session, row)
    if row.state != agencies.UNKNOWN:
        raise Conflict(f"device {device_no}: expected unknown, found {row.state}", code="device_adopted")
    row.state = agencies.REGISTERED
    row.kind = str(kind) if kind is not None else row.kind
    row.maker, row.model = maker or row.maker, model or row.model
    facts = {"device_no": row.device_no}
    custody.record(
        session, agency, Happening(Action.DEVICE_ADOPTED, "device", str(row.id), actor, facts), now
    )
    for batch in items.flagged_of_device(session, agency.id, row.id, UNKNOWN_DEVICE):
        for item in batch:
            items.unflag(item, UNKNOWN_DEVICE)
        custody.record_all(session, agency, [_unflagged(item, row, actor) for item in batch], now)
    if officer_no is not None:
        issue_device(
            session, agency, row.device_no, officer_no, issued_at=issued_at or now, actor=actor, now=now
        )
    return row


def _unflagged(item: Item, row: Device, actor: str) -> Happening:
    facts = {"flag": UNKNOWN_DEVICE, "device": str(row.id)}
    return Happening(Action.ITEM_UNFLAGGED, "item", str(item.id), actor, facts)


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
        Conflict: The device is not adopted yet or is retired, or the instant is before the end of another
            issue of it.
        InvalidInput: The instant is still to come.
    """
    row, holder = device(session, agency, device_no), officer(session, agency, officer_no)
    ledger.lock_device(session, row)
    if row.state == agencies.UNKNOWN:
        raise Conflict(
            f"device {device_no}: expected registered, found unknown; adopt it", code="device_unknown"
        )
    if row.retired_at is not None:
        raise Conflict(f"device {device_no}: expected one in use, found it retired", code="device_retired")
    _happened("issued_at", issued_at, now)
    if ledger.issue_after(session, agency.id, row.id, issued_at) is not None:
        raise Conflict(
            f"device {device_no}: expected nobody's hands from {rfc3339(issued_at)} on, found a later issue; "
            "look at its history",
            code="issue_overlaps",
        )
    for held in ledger.open_issues(session, agency.id, row.id):
        end_issue(session, agency, row, held, issued_at, actor=actor, now=now)
    issue = agencies.issue_device(session, row, holder, issued_at)
    custody.record(session, agency, device_issued(issue, actor), now)
    return issue


def device_issued(issue: DeviceIssue, actor: str) -> Happening:
    """What custody says of a device in an officer's hands."""
    facts = {
        "issue": str(issue.id),
        "officer": str(issue.officer_id),
        "issued_at": rfc3339(issue.issued_at),
    }
    return Happening(Action.DEVICE_ISSUED, "device", str(issue.device_id), actor, facts)


def return_device(
    session: Session, agency: Agency, device_no: str, *, returned_at: datetime, actor: str, now: datetime
) -> DeviceIssue:
    """Take a device back from whoever holds it (R12).

    Raises:
        NotFound: No such device.
        Conflict: Nobody holds it.
        InvalidInput: The instant is still to come, or before it was issued.
    """
    row = device(session, agency, device_no)
    ledger.lock_device(session, row)
    held = ledger.open_issues(session, agency.id, row.id)
    if not held:
        raise Conflict(
            f"device {device_no}: expected it in somebody's hands, found nobody's", code="device_not_issued"
        )
    _happened("returned_at", returned_at, now)
    if returned_at < held[0].issued_at:
        raise InvalidInput(
            f"returned_at: expected after {rfc3339(held[0].issued_at)}, found before", code="issue_times"
        )
    for issue in held:
        end_issue(session, agency, row, issue, returned_at, actor=actor, now=now)
    return held[0]


def end_issue(
    session: Session,
    agency: Agency,
    row: Device,
    issue: DeviceIssue,
    returned_at: datetime,
    *,
    actor: str,
    now: datetime,
) -> None:
    """End one issue, with its leaf; never before it began."""
    issue.returned_at = max(returned_at, issue.issued_at)
    facts = {
        "issue": str(issue.id),
        "officer": str(issue.officer_id),
        "returned_at": rfc3339(issue.returned_at),
    }
    happening = Happening(Action.DEVICE_RETURNED, "device", str(row.id), actor, facts)
    custody.record(session, agency, happening, now)


def _happened(what: str, instant: datetime, now: datetime) -> None:
    """Raise for an instant that is still to come, or of another age; clocks may differ by minutes."""
    if not EARLIEST <= instant <= now + CLOCKS_DIFFER:
        raise InvalidInput(
            f"{what}: expected a time from {EARLIEST.year} until now, found {instant.isoformat()}",
            code="time_in_future",
        )


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
