"""A CVAT document as a request's body: for whoever may bring it, in a file that goes with the request.

A document of a recording of hours has many megabytes. It is taken only after the right to the item was asked,
never held in memory as a whole, and few are taken at a time.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote
from uuid import UUID

from fastapi import Depends, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter, ValidationError

from api.auth.seat import DeskOf
from api.desk import InstallationOf
from api.plan_versions import Ground, read_ground
from api.schemas.common import Line
from evidence.errors import InvalidInput, Unavailable
from redaction.cvat_xml import refusal
from storage.objects.durable import require_space, translated
from storage.passing import passing_folder

AT_ONCE = 2
TYPES = frozenset({"application/xml", "text/xml"})
NOTE = "Liuhen-Note"
MOST_NOTE_CHARS = 6_000
_LINE: TypeAdapter[str] = TypeAdapter(Line)
_places = threading.BoundedSemaphore(AT_ONCE)


def _ground(
    item_id: UUID,
    desk: DeskOf,
    base_number: Annotated[
        int, Query(ge=1, le=2**31 - 1, description="所依据的版本,须为最新 / Must be the newest")
    ],
) -> Ground:
    return read_ground(desk, item_id, base_number)


GroundOf = Annotated[Ground, Depends(_ground)]


async def _note(
    note: Annotated[
        str,
        Header(
            alias=NOTE,
            max_length=MOST_NOTE_CHARS,
            description="理由,UTF-8 百分号编码 / Why, percent-encoded UTF-8",
        ),
    ],
) -> str:
    # A header, since addresses stand in logs of proxies; percent-encoded, since headers are ASCII.
    try:
        return _LINE.validate_python(unquote(note, errors="strict"))
    except (UnicodeDecodeError, ValidationError) as error:
        raise InvalidInput(
            f"{NOTE}: expected one line of 1 to 500 characters as percent-encoded UTF-8, found another",
            code="note_invalid",
        ) from error


NoteOf = Annotated[str, Depends(_note)]


async def _document(
    request: Request, ground: GroundOf, note: NoteOf, installation: InstallationOf
) -> AsyncIterator[Path]:
    del ground, note  # Asked before: nothing is taken from whoever may not bring it, or says not why.
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in TYPES:
        raise refusal("document", "Content-Type application/xml", kind or "none")
    if not _places.acquire(blocking=False):
        raise Unavailable(
            f"CVAT: expected fewer than {AT_ONCE} documents at once, found as many; try again",
            code="cvat_busy",
        )
    try:
        scratch, floor = installation.storage.scratch, installation.settings.data.free_floor_bytes
        announced = int(request.headers.get("content-length") or installation.settings.api.cvat_body_bytes)
        with passing_folder(scratch) as folder:
            path = folder / "cvat.xml"
            with translated("CVAT"):
                require_space(shutil.disk_usage(folder).free, floor, announced, "CVAT")
                with path.open("wb") as file:
                    async for piece in request.stream():
                        await run_in_threadpool(file.write, piece)
            yield path
    finally:
        _places.release()


DocumentOf = Annotated[Path, Depends(_document)]
