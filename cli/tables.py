"""Taking a CSV or XLSX file in from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from cli.shell import Parser, at_desk, operator
from evidence.errors import InvalidInput
from ingest import ledger_sheets
from ingest.ledger_sheets import FORMS, Kind
from ingest.sheets import MAX_BYTES, LineFinding


def add_import(parser: Parser) -> None:
    """The options of a command that takes a table."""
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV(UTF-8 或 / or GB 18030), XLSX")
    parser.add_argument(
        "--skip-bad", action="store_true", help="跳过有误的行,默认一行有误则全不导入 / skip bad lines"
    )


def take_file(options: argparse.Namespace, kind: Kind) -> int:
    """Take the good lines of a file, or none if one is bad and that was not allowed for.

    Raises:
        InvalidInput: The file cannot be read, or lines of it are bad.
    """
    with options.file.open("rb") as file:
        body = file.read(MAX_BYTES + 1)
    with at_desk(options) as desk:
        with desk.read() as session:
            table = ledger_sheets.read(session, desk.agency, kind, body)
        if table.findings and not options.skip_bad:
            tell(table.findings)
            raise InvalidInput(
                f"file: expected good lines only, found {len(table.findings)} bad; nothing was "
                f"imported, mend them or add --skip-bad (columns: {', '.join(sorted(FORMS[kind].columns))})",
                code="csv_lines_bad",
            )
        done = ledger_sheets.take(desk.write, table, actor=operator(), now=desk.now())
    tell(done.findings)
    print(f"已导入 / imported: {len(done.made)}; 有误 / bad: {len(done.findings)}")
    return 0


def tell(findings: Iterable[LineFinding]) -> None:
    """What is wrong, line by line."""
    for found in findings:
        print(f"第{found.line}行 / line {found.line}: {found.message} [{found.code}]", file=sys.stderr)
