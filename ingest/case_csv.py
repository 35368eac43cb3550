"""Cases from a spreadsheet: CSV in UTF-8 or GB 18030, one case a line, headed in English or Chinese."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from evidence.errors import InvalidInput
from evidence.kinds import EnforcementKind
from ingest.register import CaseDraft

HEADERS = {
    "案号": "case_no",
    "类别": "kind",
    "案由": "cause",
    "当事人": "party",
    "承办人": "handler",
    "执法人员": "officer_no",
    "立案时间": "opened_at",
    "结案时间": "closed_at",
}
COLUMNS = ("case_no", "kind", "cause", "party", "handler", "officer_no", "opened_at", "closed_at")
KINDS = {
    "行政许可": EnforcementKind.PERMIT,
    "行政处罚": EnforcementKind.PENALTY,
    "行政强制": EnforcementKind.COERCION,
    "行政检查": EnforcementKind.INSPECTION,
    "行政征收": EnforcementKind.LEVY,
    "行政征用": EnforcementKind.REQUISITION,
}
MAX_LINES = 100_000


@dataclass(frozen=True)
class Line:
    """A line of the file: a draft, or why it is none."""

    number: int
    draft: CaseDraft | None
    problem: str | None = None


def read_cases(content: bytes, *, time_zone: str, now: datetime) -> list[Line]:
    """Every line of the file, good or bad.

    Args:
        time_zone: Zone of dates without one.
        now: Opening time of a case whose line has none.

    Raises:
        InvalidInput: No CSV, no column of case numbers, or too long.
    """
    reader = csv.DictReader(io.StringIO(_decode(content), newline=""), strict=True)
    try:
        names = {name: HEADERS.get(name.strip(), name.strip().lower()) for name in reader.fieldnames or []}
        unknown = sorted(set(names.values()) - set(COLUMNS))
        if "case_no" not in names.values() or unknown:
            raise InvalidInput(
                f"case file: expected columns of {', '.join(COLUMNS)}, found {', '.join(names) or 'none'}",
                code="csv_columns",
            )
        lines: list[Line] = []
        for row in reader:
            if len(lines) >= MAX_LINES:
                raise InvalidInput(f"case file: expected at most {MAX_LINES} lines", code="csv_too_long")
            lines.append(_line(reader.line_num, row, names, ZoneInfo(time_zone), now))
    except csv.Error as error:
        raise InvalidInput(f"case file line {reader.line_num}: {error}", code="csv_unreadable") from error
    return lines


def _decode(content: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InvalidInput("case file: expected UTF-8 or GB 18030 text, found other bytes", code="csv_unreadable")


def _line(
    number: int, row: Mapping[str, str | None], names: Mapping[str, str], zone: ZoneInfo, now: datetime
) -> Line:
    if None in row or None in row.values():
        return Line(number, None, "expected as many fields as there are columns, found another number")
    values = {names[name]: (text or "").strip() for name, text in row.items()}
    try:
        draft = CaseDraft(
            case_no=values["case_no"],
            opened_at=_instant(values.get("opened_at", ""), zone) or now,
            kind=_kind(values.get("kind", "")),
            cause=values.get("cause") or None,
            party=values.get("party") or None,
            handler=values.get("handler") or None,
            officer_no=values.get("officer_no") or None,
            closed_at=_instant(values.get("closed_at", ""), zone),
        )
    except InvalidInput as error:
        return Line(number, None, error.message)
    return Line(number, draft)


def _kind(text: str) -> EnforcementKind:
    if not text:
        return EnforcementKind.PENALTY
    try:
        return KINDS.get(text) or EnforcementKind(text.lower())
    except ValueError as error:
        known = ", ".join([*EnforcementKind, *KINDS])
        raise InvalidInput(f"kind: expected one of {known}, found {text[:40]!r}") from error


def _instant(text: str, zone: ZoneInfo) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError as error:
        raise InvalidInput(f"date: expected ISO 8601 such as 2026-03-04, found {text[:40]!r}") from error
    return found if found.tzinfo else found.replace(tzinfo=zone)
