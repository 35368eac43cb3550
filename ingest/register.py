"""The case register: opening cases one by one or from a CSV file, changing and closing them.

Whoever the register is fed by (API, command line), the number has the agency's form, is free in every
spelling, and each change is custody. A file is taken line by line: good lines become cases, each bad
line is one clear finding.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from evidence.case import check_case_no
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, EvidenceError, InvalidInput
from evidence.kinds import EnforcementKind
from storage.db import accounts, cases, custody
from storage.db.custody import Happening
from storage.db.tables import Agency, Case

MAX_CSV_BYTES = 1 << 20
MAX_LINES = 5000
MAX_FIELD_CHARS = 500
# Cases opened in one transaction: a fraction of a second of the database's one writer.
BATCH_LINES = 200
# SQLite hands its lock to nobody in turn; who waits for it looks every tenth of a second.
BREATH_S = 0.15

Transactions = Callable[[], AbstractContextManager[tuple[Session, Agency]]]
"""Begins a write transaction; commits it at the end."""

HEADINGS: Mapping[str, str] = {
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
COLUMNS = frozenset(HEADINGS.values())
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


@dataclass(frozen=True)
class LineFinding:
    """Why a line of a file was not taken."""

    line: int
    code: str
    message: str


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
    """Read a CSV file of cases and find all that is wrong with it; writes nothing.

    Raises:
        InvalidInput: The file as a whole cannot be read: too large, not text, no or unknown headings.
    """
    sheet = Sheet()
    handlers: dict[str, UUID] = {}
    keyed: list[tuple[int, str, NewCase]] = []
    for number, fields in _lines(body):
        try:
            if isinstance(fields, EvidenceError):
                raise fields
            new = _case_of(session, agency, fields, handlers)
            keyed.append((number, check_new(agency, new), new))
        except EvidenceError as error:
            sheet.findings.append(LineFinding(number, error.code, error.message))
    taken = cases.keys_taken(session, agency.id, [key for _, key, _ in keyed])
    for number, key, new in keyed:
        if key in taken:
            conflict = cases.number_taken(new.case_no)
            sheet.findings.append(LineFinding(number, conflict.code, conflict.message))
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
    done = Imported(findings=list(sheet.findings))
    for start in range(0, len(sheet.ready), BATCH_LINES):
        if start:
            time.sleep(BREATH_S)
        batch = Imported()
        with begin() as (session, agency):
            for number, new in sheet.ready[start : start + BATCH_LINES]:
                try:
                    with session.begin_nested():
                        batch.cases.append(open_case(session, agency, new, actor=actor, now=now))
                except EvidenceError as error:
                    batch.findings.append(LineFinding(number, error.code, error.message))
        done.cases += batch.cases
        done.findings += batch.findings
    done.findings.sort(key=lambda found: found.line)
    return done


def _lines(body: bytes) -> Iterator[tuple[int, dict[str, str] | EvidenceError]]:
    if len(body) > MAX_CSV_BYTES:
        raise _bad(f"expected at most {MAX_CSV_BYTES} bytes, found {len(body)}; split the file")
    reader = csv.reader(io.StringIO(_decoded(body), newline=""), strict=True)
    try:
        names = [HEADINGS.get(cell.strip(), cell.strip().lower()) for cell in next(reader, [])]
    except csv.Error as error:
        raise _bad(f"expected readable headings, found: {error}") from error
    unknown = [name for name in names if name not in COLUMNS]
    if "case_no" not in names or unknown or len(set(names)) != len(names):
        raise _bad(
            f"expected headings of {', '.join(sorted(COLUMNS))}, each once and case_no among them, "
            f"found {', '.join(names)[:200] or 'none'}"
        )
    count = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            # What follows a broken quote cannot be told apart any more.
            yield reader.line_num, _bad(f"expected a readable line, found: {error}; the rest was not read")
            return
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        count += 1
        if count > MAX_LINES:
            yield reader.line_num, _bad(f"expected at most {MAX_LINES} lines; split the file")
            return
        yield reader.line_num, _fields(names, row)


def _decoded(body: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise _bad("expected UTF-8 or GB 18030 text, found other bytes; save the sheet as CSV UTF-8")


def _fields(names: list[str], row: list[str]) -> dict[str, str] | EvidenceError:
    if len(row) != len(names):
        return _bad(f"expected {len(names)} fields, found {len(row)}")
    if any(len(cell) > MAX_FIELD_CHARS for cell in row):
        return _bad(f"expected at most {MAX_FIELD_CHARS} characters in a field, found more")
    return {name: cell.strip() for name, cell in zip(names, row, strict=True) if cell.strip()}


def _case_of(
    session: Session, agency: Agency, fields: Mapping[str, str], handlers: dict[str, UUID]
) -> NewCase:
    if "case_no" not in fields:
        raise InvalidInput("case number: expected one, found none", code="case_no_invalid")
    handler = fields.get("handler")
    if handler is not None and handler not in handlers:
        handlers[handler] = accounts.account_by_name(session, agency.id, handler).id
    zone = ZoneInfo(agency.time_zone)
    return NewCase(
        case_no=fields["case_no"],
        kind=_kind(fields.get("kind")),
        cause=fields.get("cause"),
        party=fields.get("party"),
        handler_id=handlers[handler] if handler is not None else None,
        officer_no=fields.get("officer_no"),
        opened_at=_instant(fields.get("opened_at"), "opened_at", zone),
        closed_at=_instant(fields.get("closed_at"), "closed_at", zone),
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


def _instant(text: str | None, name: str, zone: ZoneInfo) -> datetime | None:
    """An instant; a day or a time without zone is the agency's."""
    if text is None:
        return None
    try:
        if len(text) <= 10:
            found = datetime.combine(date.fromisoformat(text.replace("/", "-")), time_of_day(), zone)
        else:
            found = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError as error:
        raise InvalidInput(
            f"{name}: expected a date such as 2026-03-01, or ISO 8601, found {text[:40]!r}",
            code="time_invalid",
        ) from error
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone)
    return found.astimezone(UTC)


def _bad(message: str) -> InvalidInput:
    return InvalidInput(f"CSV: {message}", code="csv_invalid")
