"""Tables that come as a request's body: CSV or XLSX, taken line by line (`ingest.sheets`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from api.desk import Desk
from api.schemas.ledger import LineRefused, TableTaken
from evidence.errors import InvalidInput
from ingest import ledger_sheets, sheets
from ingest.ledger_sheets import Kind
from storage.db.tables import Agency


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in sheets.TYPES:
        raise InvalidInput(
            f"table: expected Content-Type text/csv or {sheets.XLSX_TYPE}, found another", code="csv_invalid"
        )
    return await request.body()


TableBody = Annotated[bytes, Depends(_body)]


def table_of(example: str) -> dict[str, Any]:
    """What OpenAPI says of such a body."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": example},
                sheets.XLSX_TYPE: {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }


def beginning(desk: Desk) -> sheets.Transactions:
    """Transactions on behalf of whoever asks, one for each batch of lines."""

    @contextmanager
    def begin() -> Iterator[tuple[Session, Agency]]:
        with desk.writing() as work:
            yield work.session, work.agency

    return begin


def take_table(desk: Desk, kind: Kind, body: bytes) -> TableTaken:
    """Read a table and take its good lines."""
    with desk.reading() as work:
        table = ledger_sheets.read(work.session, work.agency, kind, body)
    done = ledger_sheets.take(beginning(desk), table, actor=work.actor.label, now=work.now)
    return TableTaken(
        taken=len(done.made),
        not_taken=[
            LineRefused(line=found.line, code=found.code, message=found.message) for found in done.findings
        ],
    )
