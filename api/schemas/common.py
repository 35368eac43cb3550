"""What schemas share: strict input, instants with a zone, pages, digests in hexadecimal."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from evidence.clock import from_micros, to_micros
from evidence.errors import InvalidInput

PAGE_DEFAULT = 50
PAGE_MOST = 200
MOST_CURSOR_CHARS = 64

Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
Number = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Micros = Annotated[int, Field(ge=0, le=2**53 - 1)]


def _in_any_zone(instant: datetime) -> datetime:
    if not EARLIEST <= instant <= LATEST:
        raise ValueError("expected an instant that has a date in every zone")
    return instant


EARLIEST, LATEST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
Instant = Annotated[AwareDatetime, AfterValidator(_in_any_zone)]
Limit = Annotated[int, Field(ge=1, le=PAGE_MOST, description="每页条数 / Rows a page")]


class Input(BaseModel):
    """A request body: a field nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


T = TypeVar("T")


class Page(Output, Generic[T]):
    """One page of a list, and how to ask for the next."""

    items: list[T]
    next_cursor: str | None = Field(
        description="下一页游标,空为末页 / For the next page; null on the last", examples=["WyJET0NLLTIiXQ"]
    )


def write_cursor(*parts: object) -> str:
    """A cursor over the sort key of a page's last row; opaque to clients."""
    plain: list[Any] = [to_micros(part) if isinstance(part, datetime) else str(part) for part in parts]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).rstrip(b"=").decode("ascii")


def _read(cursor: str, count: int) -> list[Any]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        parts = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise _unknown() from error
    if not isinstance(parts, list) or len(parts) != count:
        raise _unknown()
    return parts


def read_id_cursor(cursor: str | None) -> UUID | None:
    """The id a cursor continues after.

    Raises:
        InvalidInput: It is not a cursor of this list.
    """
    if cursor is None:
        return None
    (text,) = _read(cursor, 1)
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError) as error:
        raise _unknown() from error


def read_pair_cursor(cursor: str | None) -> tuple[UUID, UUID] | None:
    """The two ids a cursor continues after.

    Raises:
        InvalidInput: It is not a cursor of this list.
    """
    if cursor is None:
        return None
    first, second = _read(cursor, 2)
    try:
        return UUID(first), UUID(second)
    except (ValueError, TypeError, AttributeError) as error:
        raise _unknown() from error


def read_time_cursor(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The instant and id a cursor continues after.

    Raises:
        InvalidInput: It is not a cursor of this list.
    """
    if cursor is None:
        return None
    micros, text = _read(cursor, 2)
    try:
        return from_micros(micros), UUID(text)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _unknown() from error


def read_text_cursor(cursor: str | None) -> str | None:
    """The number or name a cursor continues after.

    Raises:
        InvalidInput: It is not a cursor of this list.
    """
    if cursor is None:
        return None
    (text,) = _read(cursor, 1)
    if not isinstance(text, str) or not text.isprintable() or len(text) > MOST_CURSOR_CHARS:
        raise _unknown()
    return text


def read_place_cursor(cursor: str | None) -> int:
    """The place in a list a cursor continues at; 0 without one.

    Raises:
        InvalidInput: It is not a cursor of this list.
    """
    text = read_text_cursor(cursor)
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise _unknown()
    return int(text)


def _unknown() -> InvalidInput:
    return InvalidInput(
        "cursor: expected one from the page before, found another text; start again without",
        code="cursor_invalid",
    )
