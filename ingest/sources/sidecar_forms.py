"""The forms of sidecars: JSON, XML and CSV, each read into plain names and texts, hostile or not.

Sizes are bounded by the caller. XML with a document type is refused whole: nothing a dock has to say needs
entities, and they are how a kilobyte becomes gigabytes or another file's content.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from evidence.errors import InvalidInput

MAX_DEPTH = 16
MAX_FIELDS = 500
MAX_ROWS = 20_000
DELIMITERS = (",", ";", "\t")
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


@dataclass(frozen=True)
class Row:
    """What one sidecar, or one line of a table, says."""

    values: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    """Fields whose value is no text, number or truth, as JSON: kept as they were said, and nothing more."""


def plain_name(name: str) -> str:
    """A field's name as names are compared: without case, spaces, ``_`` and ``-``."""
    return re.sub(r"[\s_-]+", "", name).casefold()


def read_json(text: str) -> Row:
    """One object of plain values.

    Raises:
        ValueError, RecursionError: It is no JSON.
        InvalidInput: It is another value, or has too many fields.
    """
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise InvalidInput("sidecar: expected a JSON object, found another value")
    values = {str(key): said for key, value in raw.items() if (said := _text_of(value)) is not None}
    ignored = {
        str(key): json.dumps(value, ensure_ascii=False)
        for key, value in raw.items()
        if str(key) not in values
    }
    return _bounded(values, ignored)


def read_xml(text: str) -> Row:
    """Attributes, and elements that hold text alone, by their names without namespace; the first one counts.

    Raises:
        InvalidInput: It is no XML, has a document type, or is nested too deep.
    """
    try:
        # What was decoded is text; a declared encoding, which expat may not know, means nothing any more.
        root: Element = fromstring(_DECLARATION.sub("", text, count=1), forbid_dtd=True)
    except DefusedXmlException as error:
        raise InvalidInput(
            f"sidecar: expected XML without a document type, found {type(error).__name__}"
        ) from error
    except ParseError as error:
        raise InvalidInput(f"sidecar: expected readable XML, found: {error}") from error
    values: dict[str, str] = {}
    waiting = [(root, 1)]
    while waiting:
        element, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidInput(f"sidecar: expected XML at most {MAX_DEPTH} deep, found it deeper")
        for name, value in element.attrib.items():
            values.setdefault(_local(name), value)
        if len(element) == 0 and (element.text or "").strip():
            values.setdefault(_local(element.tag), (element.text or "").strip())
        waiting += [(child, depth + 1) for child in reversed(element)]
    return _bounded(values)


def read_csv(text: str) -> list[Row]:
    """The lines below the heads, with whichever of comma, semicolon and tab the heads have.

    Raises:
        InvalidInput: It has no heads, two of one name, or too many lines.
    """
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    rows: list[Row] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        heads = next((line for line in reader if any(cell.strip() for cell in line)), None)
        if heads is None:
            raise InvalidInput("sidecar: expected heads and lines, found an empty table")
        names = [head.strip() for head in heads]
        if len({plain_name(name) for name in names if name}) != len([name for name in names if name]):
            raise InvalidInput("sidecar: expected each head once, found one twice")
        for line in reader:
            if len(rows) == MAX_ROWS:
                raise InvalidInput(f"sidecar: expected at most {MAX_ROWS} lines, found more")
            if any(cell.strip() for cell in line):
                cells = {name: cell.strip() for name, cell in zip(names, line, strict=False) if name}
                rows.append(_bounded(cells))
    except csv.Error as error:
        raise InvalidInput(f"sidecar: expected readable CSV, found: {error}") from error
    return rows


def _bounded(values: dict[str, str], ignored: dict[str, str] | None = None) -> Row:
    found = len(values) + len(ignored or {})
    if found > MAX_FIELDS:
        raise InvalidInput(f"sidecar: expected at most {MAX_FIELDS} fields, found {found}")
    return Row(values, ignored or {})


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def _text_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return None
