"""A report: figures, and the rows they are counted from, as JSON values, CSV or XLSX.

Every figure can be counted again from the rows that stand beside it, and every row names what is stored.
Rows are drawn one after another and figures counted on the way: a report of a year needs no more memory than
one of a day. Texts that a spreadsheet would run as a formula are written as text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import IO, Any
from zoneinfo import ZoneInfo

from evidence.clock import rfc3339

Value = str | int | bool | datetime | None
Row = Mapping[str, Value]
# Wide ones too: spreadsheets set to Chinese or Japanese take them for the others.
FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Column:
    """A column: its name in code, and its heading."""

    key: str
    zh: str
    en: str

    @property
    def heading(self) -> str:
        return f"{self.zh} {self.en}"


@dataclass(frozen=True)
class Report:
    """Figures and rows over ``[since, until)``.

    Attributes:
        figures: Counts by name; what each counts is its row's `kind`, or is told in docs/design/ledger.md.
            They are whole when the last row was drawn.
        rows: To be drawn once, while the session they come from lives.
        policies: Name, version and source of the policies it was judged by at its end.
    """

    name: str
    title: str
    since: datetime
    until: datetime
    made_at: datetime
    figures: Mapping[str, int]
    columns: Sequence[Column]
    rows: Iterable[Row]
    policies: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def drawn(self) -> tuple[Report, list[Row]]:
        """The report with all of its rows in memory, and these."""
        rows = list(self.rows)
        return replace(self, rows=rows), rows

    def page(self, place: int, limit: int) -> tuple[list[Row], bool]:
        """Some rows from a place on, and whether there are more; all are drawn, for the figures."""
        shown: list[Row] = []
        count = 0
        for count, row in enumerate(self.rows, start=1):
            if place < count <= place + limit:
                shown.append(row)
        return shown, count > place + limit


def counted(rows: Iterable[Row], figures: dict[str, int], field_name: str) -> Iterator[Row]:
    """The rows, each counted by what one of its fields says."""
    for row in rows:
        figures[str(row[field_name])] += 1
        yield row


def json_row(row: Row) -> dict[str, str | int | bool | None]:
    """A row for JSON: instants in RFC 3339."""
    return {key: rfc3339(value) if isinstance(value, datetime) else value for key, value in row.items()}


def as_csv(report: Report, zone_name: str, out: IO[bytes]) -> None:
    """The rows as CSV in UTF-8 with a mark, which spreadsheets need to see it; times of the agency's zone."""
    text = io.TextIOWrapper(out, "utf-8-sig", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.heading for column in report.columns])
    for row in report.rows:
        writer.writerow([_plain(_shown(row[column.key], zone_name)) for column in report.columns])
    text.detach()


def _plain(value: str | int) -> str | int:
    """A text no spreadsheet takes for a formula."""
    # White space before it is dropped by some.
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(FORMULA_STARTS) else value


def as_xlsx(report: Report, zone_name: str, out: IO[bytes]) -> None:
    """Two sheets: the rows, and the figures with the period and the policies."""
    # Loaded by who makes a workbook alone: it is a sixth of the start of every process.
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet(report.name)
    sheet.append([_cell(sheet, column.heading) for column in report.columns])
    for row in report.rows:
        sheet.append([_cell(sheet, _shown(row[column.key], zone_name)) for column in report.columns])
    sums = book.create_sheet("figures")
    about: list[tuple[str, Value]] = [
        ("报表 report", report.title),
        ("起 since", report.since),
        ("止 until", report.until),
        ("生成 made", report.made_at),
        *report.figures.items(),
        *((f"policy {entry['name']}", _policy_line(entry)) for entry in report.policies),
    ]
    for name, value in about:
        sums.append([_cell(sums, name), _cell(sums, _shown(value, zone_name))])
    book.save(out)


def _policy_line(entry: Mapping[str, Any]) -> str:
    version = f"v{entry['version']}" if entry["version"] is not None else "preset"
    return f"{version}: {entry['source']}"


def _cell(sheet: Any, value: str | int) -> Any:
    from openpyxl.cell import WriteOnlyCell

    text = "".join(char for char in value if char.isprintable()) if isinstance(value, str) else value
    cell = WriteOnlyCell(sheet, value=text)
    if isinstance(value, str):
        # Said after the value, which would make a formula of what begins with an equals sign.
        cell.data_type = "s"
    return cell


def _shown(value: Value, zone_name: str) -> str | int:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(ZoneInfo(zone_name)).strftime("%Y-%m-%d %H:%M:%S")
    return value
