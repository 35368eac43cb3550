"""The case register: opening cases one by one or from a table, changing and closing them.

Whoever the register is fed by (API, command line), the number has the agency's form, is free in every
spelling, and each change is custody. A table is taken line by line (`ingest.sheets`): good lines become
cases, each bad line is one clear finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.case import check_case_no
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, EvidenceError, InvalidInput
from evidence.kinds import EnforcementKind
from ingest import sheets
from ingest.sheets import LineFinding, Transactions
from storage.db import accounts, cases, custody
from storage.db.custody import Happening
from storage.db.tables import Agency, Case

_HEADINGS: Mapping[str, str] = {
    "案件编号": "case_no",
    "案号": "case_no",
    "案件类型": "kind",
    "类型": "kind",
    "案由": "cause",
    "当事人": "party",
    "承办人": "handler",
    "执法人员编号": "officer_no",
    "立案时间": "opened_at",
    "立案日期": "opened_at",
    "结案时间": "closed_at",
    "结案日期": "closed_at",
}
FORM = sheets.Form(_HEADINGS, frozenset({"case_no"}))
KIND_WORDS: Mapping[str, EnforcementKind] = {
    "行政许可": EnforcementKind.PERMIT,
    "行政处罚": EnforcementKind.PENALTY,
    "行政强制": EnforcementKind.COERCION,
    "行政检查": EnforcementKind.INSPECTION,
    "行政征收": EnforcementKind.LEVY,
    "行政征用": EnforcementKind.REQUISITION,
}


@dataclass(frozen=True)
class NewCase:
    """A case about to be opened."""

    case_no: str
    kind: EnforcementKind = EnforcementKind.PENALTY
    cause: str | None = None
    party: str | None = None
    handler_id: UUID | None = None
    officer_no: str | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None


@dataclass
class Sheet:
    """A file of cases as read: what can be opened, and what is wrong."""

    ready: list[tuple[int, NewCase]] = field(default_factory=list)
    findings: list[LineFinding] = field(default_factory=list)


@dataclass
class Imported:
    """What became of a file."""

    cases: list[Case] = field(default_factory=list)
    findings: list[LineFinding] = field(default_factory=list)


def open_case(session: Session, agency: Agency, new: NewCase, *, actor: str, now: datetime) -> Case:
    """Open a case.

    Raises:
        InvalidInput: The number has not the agency's form, or the times are the wrong way round.
        Conflict: The number is taken, in this or another spelling.
    """
    key = check_new(agency, new)
    opened_at = new.opened_at or now
    if new.closed_at is not None and new.closed_at < opened_at:
        raise _times()
    case = cases.add_case(
        session,
        agency.id,
        case_no=new.case_no,
        case_no_key=key,
        kind=new.kind,
        cause=new.cause,
        party=new.party,
        handler_id=new.handler_id,
        officer_no=new.officer_no,
        opened_at=opened_at,
        closed_at=new.closed_at,
        now=now,
    )
    facts = {
        "kind": case.kind,
        "handler": str(case.handler_id) if case.handler_id else None,
        "opened_at": rfc3339(case.opened_at),
        "closed_at": rfc3339(case.closed_at) if case.closed_at else None,
    }
    private = {
        "case_no": case.case_no,
        "cause": case.cause,
        "party": case.party,
        "officer_no": case.officer_no,
    }
    custody.record(
        session, agency, Happening(Action.CASE_OPENED, "case", str(case.id), actor, facts, private), now
    )
    return case


def check_new(agency: Agency, new: NewCase) -> str:
    """The key of a new case's number, if the case is sound in itself.

    Raises:
        InvalidInput: The number has not the agency's form, or the times are the wrong way round.
    """
    if new.closed_at is not None and new.opened_at is not None and new.closed_at < new.opened_at:
        raise _times()
    return check_case_no(new.case_no, agency.case_no_pattern)


def _times() -> InvalidInput:
    return InvalidInput("case: expected closed after opened, found before", code="case_times")


def close_case(
    session: Session, agency: Agency, case: Case, closed_at: datetime, *, actor: str, now: datetime
) -> None:
    """Close a case.

    Raises:
        Conflict: It is closed already.
        InvalidInput: Before it was opened.
    """
    if case.closed_at is not None:
        raise Conflict(f"case {case.case_no}: expected open, found closed", code="case_closed")
    if closed_at < case.opened_at:
        raise _times()
    case.closed_at = closed_at
    happening = Happening(Action.CASE_CLOSED, "case", str(case.id), actor, {"closed_at": rfc3339(closed_at)})
    custody.record(session, agency, happening, now)


def change_case(
    session: Session,
    agency: Agency,
    case: Case,
    changes: Mapping[str, str | UUID | None],
    *,
    actor: str,
    now: datetime,
) -> None:
    """Change cause, party, officer in charge or handler; what was there before stands in the log."""
    before = {name: getattr(case, name) for name in changes}
    changed = {name: value for name, value in changes.items() if before[name] != value}
    if not changed:
        return
    for name, value in changed.items():
        setattr(case, name, value)
    handler = (
        {"handler": str(case.handler_id) if case.handler_id else None} if "handler_id" in changed else {}
    )
    private = {
        name: {"before": _text(before[name]), "after": _text(value)} for name, value in changed.items()
    }
    happening = Happening(
        Action.CASE_CHANGED,
        "case",
        str(case.id),
        actor,
        {"changed": sorted(changed), **handler},
        private,
    )
    custody.record(session, agency, happening, now)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def read_sheet(session: Session, agency: Agency, body: bytes) -> Sheet:
    """Read a CSV or XLSX file of cases and find all that is wrong with it; writes nothing.

    Raises:
        InvalidInput: The file as a whole cannot be read: too large, not text, no or unknown headings.
    """
    sheet = Sheet()
    handlers: dict[str, UUID] = {}
    keyed: list[tuple[int, str, NewCase]] = []
    for number, fields in sheets.lines(body, FORM):
        try:
            if isinstance(fields, EvidenceError):
                raise fields
            new = _case_of(session, agency, fields, handlers)
            keyed.append((number, check_new(agency, new), new))
        except EvidenceError as error:
            sheet.findings.append(LineFinding.of(number, error))
    taken = cases.keys_taken(session, agency.id, [key for _, key, _ in keyed])
    for number, key, new in keyed:
        if key in taken:
            conflict = cases.number_taken(new.case_no)
            sheet.findings.append(LineFinding.of(number, conflict))
        else:
            taken.add(key)
            sheet.ready.append((number, new))
    sheet.findings.sort(key=lambda found: found.line)
    return sheet


def take_sheet(begin: Transactions, sheet: Sheet, *, actor: str, now: datetime) -> Imported:
    """Open the cases of a sheet, a batch a transaction: nobody who writes waits for a whole file.

    A batch that is committed stays, whatever becomes of the next. What was taken by somebody else since the
    sheet was read is a finding.
    """
    taken = sheets.take(
        begin,
        sheet.ready,
        lambda session, agency, new: open_case(session, agency, new, actor=actor, now=now),
    )
    findings = sorted([*sheet.findings, *taken.findings], key=lambda found: found.line)
    return Imported(taken.made, findings)


def _case_of(
    session: Session, agency: Agency, fields: Mapping[str, str], handlers: dict[str, UUID]
) -> NewCase:
    if "case_no" not in fields:
        raise InvalidInput("case number: expected one, found none", code="case_no_invalid")
    handler = fields.get("handler")
    if handler is not None and handler not in handlers:
        handlers[handler] = accounts.account_by_name(session, agency.id, handler).id
    return NewCase(
        case_no=fields["case_no"],
        kind=_kind(fields.get("kind")),
        cause=fields.get("cause"),
        party=fields.get("party"),
        handler_id=handlers[handler] if handler is not None else None,
        officer_no=fields.get("officer_no"),
        opened_at=sheets.instant(fields.get("opened_at"), "opened_at", agency.time_zone),
        closed_at=sheets.instant(fields.get("closed_at"), "closed_at", agency.time_zone),
    )


def _kind(word: str | None) -> EnforcementKind:
    if word is None:
        return EnforcementKind.PENALTY
    if word in KIND_WORDS:
        return KIND_WORDS[word]
    try:
        return EnforcementKind(word.lower())
    except ValueError as error:
        raise InvalidInput(
            f"kind: expected one of {', '.join(EnforcementKind)}, found {word[:40]!r}", code="kind_unknown"
        ) from error
