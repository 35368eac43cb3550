"""`GET /receipts/{sha256}` on the upload listener: a dock asks again, any time, by digest.

A dock that lost its journal, or was replaced, still holds the file and so its digest. It is told of the
receptions of its own dock, or, where the token is bound to a device, of that device's; of nobody else's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from evidence.fixity import parse_sha256
from ingest.tus.protocol import Reply
from storage.db import receipts
from storage.db.credentials import Uploader
from storage.open import Storage

PATH = "/receipts"
ReceiptsOf = Callable[[Uploader, bytes], list[dict[str, Any]]]


def receipts_of(storage: Storage) -> ReceiptsOf:
    """The receptions of some bytes that a token may know of, newest first."""

    def find(uploader: Uploader, sha256: bytes) -> list[dict[str, Any]]:
        with storage.database.read() as session:
            found = receipts.by_digest(
                session,
                uploader.agency_id,
                sha256,
                dock_no=None if uploader.device_no else uploader.dock_no,
                device_no=uploader.device_no,
            )
            return [one.as_json() for one in found]

    return find


def nothing(_uploader: Uploader, _sha256: bytes) -> list[dict[str, Any]]:
    """What a listener without a register knows."""
    return []


async def answer(find: ReceiptsOf, uploader: Uploader, path: str) -> Reply:
    """200 with every reception; nothing may be wiped unless ``may_erase`` says so.

    Raises:
        InvalidInput: What follows the path is no SHA-256 (``bad_digest``).
    """
    sha256 = parse_sha256(path.removeprefix(f"{PATH}/"))
    found = await asyncio.to_thread(find, uploader, sha256)
    body = {
        "sha256": sha256.hex(),
        "may_erase": any(one["may_erase"] for one in found),
        "receptions": found,
    }
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Reply(200, headers, json.dumps(body, ensure_ascii=False).encode())
