"""What every command shares: options, settings, an open installation, output for people and programs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from zoneinfo import ZoneInfo

from rich.cells import cell_len
from sqlalchemy.orm import Session

from cli.printable import printable
from config.load import CONFIG_VARIABLE, PREFIX, load_settings
from config.settings import Settings
from evidence.errors import Conflict, InvalidInput
from storage.db import agencies
from storage.db.tables import Agency
from storage.open import Storage, open_storage

Parser = argparse.ArgumentParser
PAGE = 200
"""Rows of a list that are read at once."""
T = TypeVar("T")
K = TypeVar("K")


def add_common(parser: Parser) -> None:
    """The options every command takes."""
    group = parser.add_argument_group("公共选项 / common options")
    group.add_argument("--data", metavar="DIR", type=Path, help="数据目录 / data folder (data.dir)")
    group.add_argument("--config", metavar="FILE", type=Path, help="设置文件 / settings file (TOML)")
    group.add_argument(
        "--set",
        metavar="GROUP.NAME=VALUE",
        action="append",
        default=[],
        help="覆盖一项设置,可重复 / override one setting; repeatable",
    )
    group.add_argument(
        "--agency", metavar="CODE", help="机构代码,只有一个机构时可省 / agency, if there are several"
    )


def add_json(parser: Parser) -> None:
    """For commands that list things."""
    parser.add_argument("--json", action="store_true", help="输出 JSON / print JSON")


def overrides_of(options: argparse.Namespace) -> dict[str, object]:
    """Settings given on the command line, as `group.name` to value."""
    found: dict[str, object] = {}
    for text in options.set:
        name, is_there, value = text.partition("=")
        if not is_there or "." not in name:
            raise InvalidInput(f"--set: expected GROUP.NAME=VALUE, found {text!r}", code="option_invalid")
        found[name.strip().replace("-", "_")] = value
    if options.data is not None:
        found["data.dir"] = str(options.data.resolve())
    return found


def as_variables(overrides: Mapping[str, object]) -> dict[str, str]:
    """Settings as variables, for processes started from here."""
    return {PREFIX + name.upper().replace(".", "__"): str(value) for name, value in overrides.items()}


def environment_of(options: argparse.Namespace) -> dict[str, str]:
    """What the command line says of settings, as variables."""
    variables = as_variables(overrides_of(options))
    if options.config is not None:
        variables[CONFIG_VARIABLE] = str(options.config.resolve())
    return variables


def settings_of(options: argparse.Namespace) -> Settings:
    """Settings from defaults, file, environment and command line, the last winning."""
    return load_settings({**os.environ, **environment_of(options)})


@dataclass(frozen=True)
class Desk:
    """An open installation and the agency a command works for."""

    settings: Settings
    storage: Storage
    agency: Agency

    @contextmanager
    def write(self) -> Iterator[tuple[Session, Agency]]:
        """The command's one transaction."""
        with self.storage.database.transaction() as session:
            yield session, agencies.agency_by_id(session, self.agency.id)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent read."""
        with self.storage.database.read() as session:
            yield session

    def now(self) -> datetime:
        return self.storage.clock.now()

    def local(self, instant: datetime | None) -> str:
        """An instant as people of the agency see it."""
        if instant is None:
            return ""
        return instant.astimezone(ZoneInfo(self.agency.time_zone)).strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def at_desk(options: argparse.Namespace) -> Iterator[Desk]:
    """Open the installation for a command.

    Raises:
        InvalidInput: There are several agencies and none was named.
    """
    settings = settings_of(options)
    storage = open_storage(settings)
    try:
        with storage.database.read() as session:
            if options.agency:
                agency = agencies.agency_by_code(session, options.agency)
            else:
                found = agencies.agencies(session)
                if len(found) != 1:
                    codes = ", ".join(row.code for row in found)
                    raise InvalidInput(
                        f"--agency: expected one of {codes}, found none", code="agency_missing"
                    )
                agency = found[0]
        yield Desk(settings, storage, agency)
    finally:
        storage.database.dispose()


def operator() -> str:
    """How custody names whoever runs a command: the machine's account number, never a name."""
    return f"operator:{os.getuid()}"


def all_pages(page: Callable[[K | None], Sequence[T]], key: Callable[[T], K]) -> Iterator[T]:
    """Every row of a list that is read a page at a time.

    Args:
        page: The page after a key, or the first; it is the last when it has fewer rows than `PAGE`.
        key: Of a row, what the next page begins after.
    """
    after: K | None = None
    while True:
        rows = page(after)
        yield from rows
        if len(rows) < PAGE:
            return
        after = key(rows[-1])


def print_json(value: object) -> None:
    """One JSON text."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns that line up, Chinese characters counting two cells."""
    lines = [[_cell(value) for value in row] for row in [columns, *rows]]
    widths = [max(cell_len(line[at]) for line in lines) for at in range(len(columns))]
    for number, line in enumerate(lines):
        padded = [text + " " * (width - cell_len(text)) for text, width in zip(line, widths, strict=True)]
        print("  ".join(padded).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def _cell(value: object) -> str:
    return "" if value is None else printable(str(value))


def write_new(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """A new file, whole or not at all: what was handed on or signed is not written over.

    Raises:
        Conflict: There is a file of that name (``file_exists``).
    """
    try:
        file = path.open("xb")
    except FileExistsError as error:
        raise Conflict(f"{path}: expected a new file, found one there", code="file_exists") from error
    try:
        with file:
            fill(file)
    except BaseException:
        path.unlink()
        raise


def confirm_tty() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stderr.isatty()
