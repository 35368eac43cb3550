"""Tables of strangers: CSV and XLSX made to break what reads them."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from openpyxl import Workbook

from evidence.errors import EvidenceError, InvalidInput
from ingest import sheets
from ingest.sheets import Form

FORM = Form({"编号": "no", "姓名": "name", "日期": "day"}, frozenset({"no"}))
HEADING = ["编号", "姓名", "日期"]


def xlsx(*rows: list[Any], change: Callable[[Workbook], None] | None = None) -> bytes:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(row)
    if change is not None:
        change(book)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def patched(body: bytes, part: str, content: bytes) -> bytes:
    """The same workbook with one part replaced."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, content if name == part else old.read(name))
    return out.getvalue()


def read(body: bytes) -> list[Any]:
    """Fields of good lines and codes of bad ones, with their numbers."""
    return [
        (number, found.code if isinstance(found, EvidenceError) else found)
        for number, found in sheets.lines(body, FORM)
    ]


SHEET = "xl/worksheets/sheet1.xml"
NAMESPACE = b'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def sheet_xml(rows: bytes) -> bytes:
    return b"<worksheet " + NAMESPACE + b"><sheetData>" + rows + b"</sheetData></worksheet>"


def test_a_workbook_and_a_csv_of_the_same_table_read_the_same() -> None:
    book = xlsx(HEADING, [330101, "王五", date(2026, 3, 1)], [None, None, None], ["A-7 ", "x", "2026/3/1"])
    text = "编号,姓名,日期\r\n330101,王五,2026-03-01\r\n,,\r\nA-7 ,x,2026/3/1\r\n".encode("gb18030")
    assert read(book) == read(text)
    assert read(book)[0] == (2, {"no": "330101", "name": "王五", "day": "2026-03-01"})


def test_a_formula_is_a_finding_and_never_a_value() -> None:
    body = xlsx(HEADING, ["1", '=HYPERLINK("http://x","y")', None], ["2", "=1+1", None], ["3", "ok", None])
    assert read(body) == [(2, "xlsx_invalid"), (3, "xlsx_invalid"), (4, {"no": "3", "name": "ok"})]


def test_a_text_that_looks_like_a_formula_in_csv_is_a_text() -> None:
    assert read("编号,姓名\n1,=1+1\n".encode()) == [(2, {"no": "1", "name": "=1+1"})]


def test_the_first_sheet_that_can_be_seen_is_read() -> None:
    def hide(book: Workbook) -> None:
        book.worksheets[0].sheet_state = "hidden"
        shown = book.create_sheet("b")
        shown.append(["编号"])
        shown.append(["7"])

    assert read(xlsx(HEADING, ["1"], change=hide)) == [(2, {"no": "7"})]


def many_sheets(book: Workbook) -> None:
    for number in range(30):
        book.create_sheet(str(number))


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SHEET, b" " * (sheets.MAX_UNPACKED_BYTES + 1))
    return out.getvalue()


def shared_bomb() -> bytes:
    """A long text that stands once in the file and in every cell of the sheet."""
    kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    part = b'<Override PartName="/xl/sharedStrings.xml" ContentType="' + kind + b'"/></Types>'
    text = b'<si><t xml:space="preserve"> ' + b"A" * (8 << 20) + b"</t></si>"
    row = b'<row><c t="inlineStr"><is><t>no</t></is></c></row>' + b'<row><c t="s"><v>0</v></c></row>' * 100
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(xlsx(HEADING))) as old, zipfile.ZipFile(out, "w", 8) as new:
        for name in old.namelist():
            content = sheet_xml(row) if name == SHEET else old.read(name)
            new.writestr(name, content.replace(b"</Types>", part) if "Types" in name else content)
        new.writestr("xl/sharedStrings.xml", b"<sst " + NAMESPACE + b">" + text + b"</sst>")
    return out.getvalue()


def test_a_text_shared_by_every_cell_is_not_copied_into_each() -> None:
    body = shared_bomb()
    assert len(body) < 1 << 16
    tracemalloc.start()
    try:
        assert read(body) == [(number, "xlsx_invalid") for number in range(2, 102)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20


def many_parts() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(sheets.MAX_PARTS + 1):
            archive.writestr(f"a{number}", b"")
    return out.getvalue()


GOOD = xlsx(HEADING, ["1", "x", None])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"PK\x03\x04" + b"\x00" * 100, id="no archive"),
        pytest.param(GOOD[: len(GOOD) // 2], id="cut off"),
        pytest.param(bomb(), id="unpacks to far more"),
        pytest.param(many_parts(), id="thousands of parts"),
        pytest.param(xlsx(HEADING, change=many_sheets), id="too many sheets"),
        pytest.param(patched(GOOD, SHEET, sheet_xml(b"<c/>" * (sheets.MAX_ELEMENTS + 1))), id="cell bomb"),
        pytest.param(patched(GOOD, SHEET, b"<worksheet"), id="broken XML"),
        pytest.param(
            patched(
                GOOD,
                SHEET,
                b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
                + sheet_xml(b'<row><c t="inlineStr"><is><t>&c;&c;&c;</t></is></c></row>'),
            ),
            id="entities",
        ),
        pytest.param(
            patched(
                GOOD,
                SHEET,
                b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
                + sheet_xml(b'<row><c t="inlineStr"><is><t>&b;</t></is></c></row>'),
            ),
            id="a file from outside",
        ),
        pytest.param(patched(GOOD, "xl/workbook.xml", b"<a/>"), id="no workbook"),
        pytest.param(xlsx(["编号", "编号"]), id="a heading twice"),
        pytest.param(xlsx(["姓名"]), id="required heading missing"),
        pytest.param(xlsx([None]), id="empty"),
        pytest.param(xlsx(["=1+1", "编号"]), id="a formula for a heading"),
        pytest.param(xlsx(["编号"] + ["x"] * 100), id="too wide"),
        pytest.param(b"x" * (sheets.MAX_BYTES + 1), id="too large"),
    ],
)
def test_a_file_that_is_no_table_is_refused_whole(body: bytes) -> None:
    with pytest.raises(InvalidInput) as refused:
        list(sheets.lines(body, FORM))
    assert refused.value.code in {"csv_invalid", "xlsx_invalid"}


def test_a_line_far_down_or_far_right_costs_nothing() -> None:
    heading = b'<row r="1"><c r="A1" t="inlineStr"><is><t>no</t></is></c></row>'
    deep = b'<row r="1048576"><c r="A1048576" t="inlineStr"><is><t>1</t></is></c></row>'
    assert read(patched(GOOD, SHEET, sheet_xml(heading + deep))) == []


def test_lines_beyond_the_limit_are_one_finding() -> None:
    rows = "".join(f"{number}\n" for number in range(sheets.MAX_LINES + 5))
    *good, last = read(f"编号\n{rows}".encode())
    assert (len(good), last[1]) == (sheets.MAX_LINES, "csv_invalid")


def test_a_field_that_is_too_long_is_a_finding_of_its_line() -> None:
    body = f"编号,姓名\n1,{'x' * 501}\n2,y\n".encode()
    assert read(body) == [(2, "csv_invalid"), (3, {"no": "2", "name": "y"})]


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-01", datetime(2026, 2, 28, 16, tzinfo=UTC)),
        ("2026/3/1", datetime(2026, 2, 28, 16, tzinfo=UTC)),
        ("2026-03-01 08:30", datetime(2026, 3, 1, 0, 30, tzinfo=UTC)),
        ("2026-03-01T08:30:00+02:00", datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
    ],
)
def test_a_day_or_a_time_without_zone_is_the_agencys(text: str, instant: datetime) -> None:
    assert sheets.instant(text, "day", "Asia/Shanghai") == instant


@pytest.mark.parametrize("text", ["soon", "2026-02-30", "0001-01-01", "2026-03-01 25:00", "9999-99-99 00:00"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        sheets.instant(text, "day", "Asia/Shanghai")
    assert refused.value.code == "time_invalid"
