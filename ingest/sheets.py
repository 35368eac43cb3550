"""Reading a table somebody filled in: CSV or XLSX, line by line, and taking its lines in.

A file is hostile until read: its size, sheets, lines, columns and what it unpacks to are bounded before
anything is parsed. Formulas are never evaluated: a cell that holds one is a finding. Each line that does
not fit is one finding; the others are taken, some hundred to a transaction, so that nobody who writes
waits for a whole file.
"""

from __future__ import annotations

import csv
import io
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound
from storage.db.tables import Agency

MAX_BYTES = 1 << 20
MAX_LINES = 5000
MAX_FIELD_CHARS = 500
MAX_COLUMNS = 64
MAX_SHEETS = 20
# Of an XLSX: files in it, bytes they unpack to, and elements in those.
MAX_PARTS = 200
MAX_UNPACKED_BYTES = 24 << 20
MAX_ELEMENTS = 1_500_000
# Lines taken in one transaction: a fraction of a second of the database's one writer.
BATCH_LINES = 200
# SQLite hands its lock to nobody in turn; who waits for it looks every tenth of a second.
BREATH_S = 0.15

# What is wrong with a line; anything else is wrong with the house, and stops the whole.
OF_A_LINE = (Conflict, InvalidInput, NotFound)

XLSX_MAGIC = b"PK\x03\x04"
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV_TYPES = frozenset({"text/csv", "application/csv", "application/vnd.ms-excel"})
TYPES = CSV_TYPES | {XLSX_TYPE}

Transactions = Callable[[], AbstractContextManager[tuple[Session, Agency]]]
"""Begins a write transaction; commits it at the end."""
Fields = dict[str, str]
Line = tuple[int, Fields | EvidenceError]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Form:
    """What columns a table has.

    Attributes:
        headings: What people write over a column, to its name in code; the name itself will do as well.
        required: Columns that must be there.
    """

    headings: Mapping[str, str]
    required: frozenset[str]

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self.headings.values())


@dataclass(frozen=True)
class LineFinding:
    """Why a line of a file was not taken."""

    line: int
    code: str
    message: str

    @classmethod
    def of(cls, line: int, error: EvidenceError) -> LineFinding:
        return cls(line, error.code, error.message)


def lines(body: bytes, form: Form) -> Iterator[Line]:
    """The lines of a table, each with its number and its fields that are not empty, or with what is wrong.

    Raises:
        InvalidInput: The file as a whole cannot be read: too large, no table, no or unknown headings.
    """
    if len(body) > MAX_BYTES:
        raise InvalidInput(
            f"table: expected at most {MAX_BYTES} bytes, found {len(body)}; split the file",
            code="csv_invalid",
        )
    return _xlsx_lines(body, form) if body.startswith(XLSX_MAGIC) else _csv_lines(body, form)


# --- CSV --------------------------------------------------------------------------------------


def _csv_lines(body: bytes, form: Form) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(_decoded(body), newline=""), strict=True)
    try:
        names = _names(next(reader, []), form, _csv)
    except csv.Error as error:
        raise _csv(f"expected readable headings, found: {error}") from error
    count = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            # What follows a broken quote cannot be told apart any more.
            yield reader.line_num, _csv(f"expected a readable line, found: {error}; the rest was not read")
            return
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        count += 1
        if count > MAX_LINES:
            yield reader.line_num, _csv(f"expected at most {MAX_LINES} lines; split the file")
            return
        yield reader.line_num, _fields(names, row, _csv)


def _decoded(body: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text
    raise _csv("expected UTF-8 or GB 18030 text, found other bytes; save the sheet as CSV UTF-8")


def _names(cells: Sequence[str], form: Form, bad: Callable[[str], InvalidInput]) -> list[str]:
    names = [form.headings.get(cell.strip(), cell.strip().lower()) for cell in cells]
    unknown = [name for name in names if name not in form.columns]
    if form.required - set(names) or unknown or len(set(names)) != len(names):
        raise bad(
            f"expected headings of {', '.join(sorted(form.columns))}, each once and "
            f"{', '.join(sorted(form.required))} among them, found {', '.join(names)[:200] or 'none'}"
        )
    return names


def _fields(names: list[str], row: list[str], bad: Callable[[str], InvalidInput]) -> Fields | EvidenceError:
    if len(row) != len(names):
        return bad(f"expected {len(names)} fields, found {len(row)}")
    if any(len(cell) > MAX_FIELD_CHARS for cell in row):
        return bad(f"expected at most {MAX_FIELD_CHARS} characters in a field, found more")
    return {name: cell.strip() for name, cell in zip(names, row, strict=True) if cell.strip()}


def _csv(message: str) -> InvalidInput:
    return InvalidInput(f"CSV: {message}", code="csv_invalid")


# --- XLSX -------------------------------------------------------------------------------------


def _xlsx_lines(body: bytes, form: Form) -> Iterator[Line]:
    """Lines of the first sheet that can be seen."""
    try:
        _weigh_parts(body)
        rows = _sheet_rows(body)
    except EvidenceError:
        raise
    except Exception as error:
        # Whatever a parser says of bytes somebody made up: the file is no workbook.
        raise _xlsx(f"expected a readable workbook, found {type(error).__name__}") from error
    heading = next(rows, (0, []))[1]
    if isinstance(heading, EvidenceError):
        raise heading
    names = _names(_trimmed(heading), form, _xlsx)
    for number, cells in rows:
        if isinstance(cells, EvidenceError):
            yield number, cells
        elif any(cells):
            if number > MAX_LINES + 1:
                yield number, _xlsx(f"expected at most {MAX_LINES} lines; split the file")
                return
            row = _trimmed(cells)
            yield number, _fields(names, row + [""] * (len(names) - len(row)), _xlsx)


def _weigh_parts(body: bytes) -> None:
    """Refuse what unpacks to too much. `zipfile` itself reads no more of a part than it declares."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        parts = archive.infolist()
        unpacked = sum(part.file_size for part in parts)
        if len(parts) > MAX_PARTS or unpacked > MAX_UNPACKED_BYTES:
            raise _xlsx(
                f"expected at most {MAX_PARTS} parts and {MAX_UNPACKED_BYTES} bytes unpacked, "
                f"found {len(parts)} and {unpacked}"
            )
        elements = 0
        for part in parts:
            with archive.open(part) as file:
                while chunk := file.read(1 << 16):
                    elements += chunk.count(b"<")
                    if elements > MAX_ELEMENTS:
                        raise _xlsx("expected a sheet of some thousand lines, found far more; split the file")


def _sheet_rows(body: bytes) -> Iterator[tuple[int, list[str] | EvidenceError]]:
    # Loaded by who reads a workbook alone: see `ledger_report.as_xlsx`.
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(body), read_only=True, data_only=False, keep_links=False)
    if len(book.worksheets) > MAX_SHEETS:
        raise _xlsx(f"expected at most {MAX_SHEETS} sheets, found {len(book.worksheets)}")
    shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
    if not shown:
        raise _xlsx("expected a sheet that can be seen, found none")
    found: list[tuple[int, list[str] | EvidenceError]] = []
    # Bounded, since a sheet may say that its only line is number 1048576.
    rows = shown[0].iter_rows(max_row=MAX_LINES + 2, max_col=MAX_COLUMNS + 1)
    for number, cells in enumerate(rows, start=1):
        try:
            texts = [_text_of(cell) for cell in cells]
            if len(texts) > MAX_COLUMNS and texts[MAX_COLUMNS]:
                raise _xlsx(f"expected at most {MAX_COLUMNS} columns, found more")
            found.append((number, texts))
        except EvidenceError as error:
            found.append((number, error))
    book.close()
    return iter(found)


def _text_of(cell: Any) -> str:
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "f":
        raise _xlsx("expected values, found a formula; paste it as a value")
    if cell.data_type == "e":
        raise _xlsx("expected values, found an error value")
    if isinstance(value, str) and len(value) > MAX_FIELD_CHARS:
        # Before anything copies it: cells share one text, however long, and a table has many.
        raise _xlsx(f"expected at most {MAX_FIELD_CHARS} characters in a field, found more")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime):
        is_day = value.time() == time_of_day()
        return value.date().isoformat() if is_day else value.isoformat(" ", "seconds")
    if isinstance(value, date | time_of_day):
        return value.isoformat()
    return str(value).strip()


def _trimmed(cells: list[str]) -> list[str]:
    """Without the empty cells at its end."""
    end = len(cells)
    while end and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _xlsx(message: str) -> InvalidInput:
    return InvalidInput(f"XLSX: {message}", code="xlsx_invalid")


# --- fields -----------------------------------------------------------------------------------


def instant(text: str | None, name: str, zone_name: str) -> datetime | None:
    """An instant; a day or a time without zone is the agency's.

    Raises:
        InvalidInput: It is none.
    """
    if text is None:
        return None
    try:
        plain = text.replace("/", "-")
        if len(text) <= 10:
            found = datetime.combine(_day(plain), time_of_day(), ZoneInfo(zone_name))
        else:
            found = datetime.fromisoformat(plain)
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZoneInfo(zone_name))
        return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{name}: expected a date such as 2026-03-01, or ISO 8601, found {text[:40]!r}",
            code="time_invalid",
        ) from error


def _day(text: str) -> date:
    """A day, also as spreadsheets write it, without leading zeros."""
    parts = text.split("-")
    if len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts):
        return date(*map(int, parts))
    return date.fromisoformat(text)


# --- taking lines -----------------------------------------------------------------------------


@dataclass
class Taken(Generic[R]):
    """What became of lines."""

    made: list[R]
    findings: list[LineFinding]


def take(
    begin: Transactions,
    ready: Sequence[tuple[int, T]],
    act: Callable[[Session, Agency, T], R],
    act_on_many: Callable[[Session, Agency, list[T]], list[R]] | None = None,
) -> Taken[R]:
    """Do something for each line, a batch a transaction.

    A batch that is committed stays, whatever becomes of the next. What was taken by somebody else since
    the file was read is a finding. A batch goes as one; where a line of it fails, it is gone through again
    line by line.

    Args:
        begin: Begins a transaction.
        ready: Lines with their numbers.
        act: What to do for one; raises one of `OF_A_LINE` for one that does not fit after all.
        act_on_many: The same for many at once, or an error and nothing done; faster, where there is one.
    """
    done: Taken[R] = Taken([], [])
    for start in range(0, len(ready), BATCH_LINES):
        if start:
            time.sleep(BREATH_S)
        batch = ready[start : start + BATCH_LINES]
        try:
            with begin() as (session, agency):
                values = [one for _, one in batch]
                if act_on_many is not None:
                    made = act_on_many(session, agency, values)
                else:
                    made = [act(session, agency, one) for one in values]
        except (*OF_A_LINE, IntegrityError):
            made, findings = _one_by_one(begin, batch, act)
            done.findings += findings
        done.made += made
    done.findings.sort(key=lambda found: found.line)
    return done


def _one_by_one(
    begin: Transactions, batch: Sequence[tuple[int, T]], act: Callable[[Session, Agency, T], R]
) -> tuple[list[R], list[LineFinding]]:
    made: list[R] = []
    findings: list[LineFinding] = []
    with begin() as (session, agency):
        for number, one in batch:
            try:
                with session.begin_nested():
                    made.append(act(session, agency, one))
            except OF_A_LINE as error:
                findings.append(LineFinding.of(number, error))
            except IntegrityError:
                taken = Conflict(
                    "line: expected something new, found it entered meanwhile", code="line_taken"
                )
                findings.append(LineFinding.of(number, taken))
    return made, findings
