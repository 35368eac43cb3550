"""A whole file in one request, for devices too simple to resume: ``PUT /uploads/by-name/NAME``.

The engine is that of tus, with these differences:

1. The bytes count as a whole or not at all. What a broken or refused ``PUT`` brought is dropped;
   the sender puts the whole again.
2. ``Repr-Digest`` or ``Content-Digest`` (RFC 9530) with SHA-256 or SHA-512 is checked before
   anything counts. Without one the length of the body is all that vouches for it.
3. Nothing is replaced: a name says where a file comes from, not where it goes. The same bytes put
   again are the same item with one more reception.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from evidence.errors import InvalidInput
from ingest.daemon.receiving import Receiver, Request
from ingest.tus import protocol
from ingest.tus.checksums import Checksum
from ingest.tus.protocol import Reply
from ingest.tus.upload import Upload

BY_NAME = "by-name/"
MAX_NAME_BYTES = 1024


async def answer(receiver: Receiver, request: Request) -> Reply:
    """Take a file in.

    Raises:
        InvalidInput: No name, a range or coded body, or metadata or digest of another form.
        FixityError: The body is not what its digest says (``checksum_mismatch``).
        Unavailable: No room, or the sender was too slow; nothing was kept.
    """
    headers, limits = request.headers, receiver.store.limits
    metadata = _metadata(request)
    _require_whole(headers)
    checksum = Checksum.read_fields(headers)
    protocol.require_size(protocol.content_length(headers) or 0, limits.max_upload_bytes)
    # Its size counts once the body has ended as it should: until then nothing can come of it.
    upload = await receiver.store.create(request.uploader, None, metadata, request.remote, source="put")
    try:
        async with receiver.store.claimed(upload) as claim:
            await receiver.receive(upload, claim, request, checksum)
            await receiver.store.set_length(upload, upload.offset_bytes)
    finally:
        await receiver.store.abandon(upload)
    is_item = await receiver.settle_for_now(upload)
    return _told(receiver, request, upload, is_item=is_item)


def _metadata(request: Request) -> str:
    """The sender's metadata, with the name of the path where it gives none."""
    name = unquote_to_bytes(request.path.removeprefix(BY_NAME))
    if not name or b"/" in name or len(name) > MAX_NAME_BYTES:
        raise InvalidInput(
            f"path: expected one name of at most {MAX_NAME_BYTES} bytes after {BY_NAME}, found another",
            code="bad_name",
        )
    given = request.headers.get("upload-metadata", "").strip()
    if "filename" in protocol.parse_metadata(given):
        return given
    named = f"filename {base64.b64encode(name).decode()}"
    return f"{given},{named}" if given else named


def _require_whole(headers: Mapping[str, str]) -> None:
    if "content-range" in headers:
        raise InvalidInput(
            "Content-Range: expected the whole file in one body, found a range; use tus to go on",
            code="content_range",
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidInput("Content-Encoding: expected none, found one; send the file as it is",
                           code="content_type")  # fmt: skip


def _told(receiver: Receiver, request: Request, upload: Upload, *, is_item: bool) -> Reply:
    """201 with the item; 202 where the bytes are safe and the item follows."""
    location = request.location(upload.record.upload_id)
    body: dict[str, object] = {"may_erase": False, "receipt": f"{location}/receipt"}
    if sealed := upload.record.sealed:
        body |= {"item": str(sealed.item_id), "sha256": sealed.sha256.hex()}
    headers = {"Location": location, "Content-Type": "application/json", **receiver.kept(upload)}
    return Reply(201 if is_item else 202, headers, json.dumps(body).encode())
