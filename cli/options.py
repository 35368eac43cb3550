"""Reading what people type: ids, instants, spans, and commands with sub-commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from cli.shell import Parser, add_common
from evidence.errors import InvalidInput

Run = Callable[[argparse.Namespace], int]


class Branch:
    """A command made of sub-commands.

    Args:
        parser: The command's own parser.
    """

    def __init__(self, parser: Parser) -> None:
        self._parsers = parser.add_subparsers(metavar="ACTION", required=True, title="动作 / actions")

    def add(self, name: str, text: str, run: Run, *, common: bool = True) -> Parser:
        """One sub-command, with its help in both languages."""
        parser = self._parsers.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        if common:
            add_common(parser)
        return parser


def read_id(text: str, name: str) -> UUID:
    """An id as lists print it.

    Raises:
        InvalidInput: It is none.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise InvalidInput(f"{name}: expected an id as lists print it, found {text[:60]!r}") from error


def read_instant(text: str, name: str, time_zone: str) -> datetime:
    """An instant in ISO 8601; without a zone it is in the agency's.

    Raises:
        InvalidInput: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{name}: expected ISO 8601 such as 2026-03-04T09:00, found {text[:40]!r}"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(time_zone))


def read_media_time(text: str, name: str) -> int:
    """Media time in microseconds, from `90`, `90.5`, `1:30` or `0:01:30.5`.

    Raises:
        InvalidInput: It is none.
    """
    try:
        parts = text.split(":")
        whole, _, fraction = parts[-1].partition(".")
        seconds = int(whole)
        for weight, part in zip((60, 3600), reversed(parts[:-1]), strict=False):
            seconds += weight * int(part)
        if len(parts) > 3 or len(fraction) > 6 or seconds < 0:
            raise ValueError
        return seconds * 1_000_000 + int(fraction.ljust(6, "0") or "0")
    except ValueError as error:
        raise InvalidInput(f"{name}: expected seconds or H:MM:SS, found {text[:40]!r}") from error
