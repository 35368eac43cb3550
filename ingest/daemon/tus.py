"""The verbs of tus 1.0.0: what each answers. The rules are in `ingest.tus.protocol`."""

from __future__ import annotations

import asyncio

from evidence.errors import EvidenceError, InvalidInput
from ingest.daemon.receiving import Receiver, Request
from ingest.tus import protocol
from ingest.tus.checksums import Checksum
from ingest.tus.joining import find_parts, make_final
from ingest.tus.protocol import Reply
from ingest.tus.upload import Upload

VERBS = ("HEAD", "PATCH", "DELETE")
FINAL_WAIT_S = 20.0
"""How long a final upload is waited for before its sender is answered; joining goes on by itself."""


async def answer(receiver: Receiver, request: Request) -> Reply:
    """Carry out one request of tus.

    Raises:
        EvidenceError: It cannot be; `protocol.refusal` says it to the sender.
    """
    protocol.require_version(request.headers)
    if not request.path and request.method == "POST":
        is_partial, parts = protocol.concat(request.headers)
        if parts:
            return await _concatenate(receiver, request, parts)
        return await _create(receiver, request, is_partial=is_partial)
    if request.path and "/" not in request.path and request.method in VERBS:
        upload = receiver.store.find(request.path, request.uploader)
        if request.method == "HEAD":
            return await _head(receiver, request, upload)
        if request.method == "PATCH":
            return await _patch(receiver, request, upload)
        await receiver.store.terminate(upload)
        return Reply(204, {"Tus-Resumable": protocol.VERSION})
    raise InvalidInput(
        f"method: expected one of tus for this path, found {request.method[:16]!r}", code="method_not_allowed"
    )


async def _create(receiver: Receiver, request: Request, *, is_partial: bool) -> Reply:
    headers, store = request.headers, receiver.store
    length = protocol.upload_length(headers, store.limits.max_upload_bytes)
    metadata = headers.get("upload-metadata", "")
    protocol.parse_metadata(metadata)
    checksum = Checksum.read(headers)
    if request.has_body:
        protocol.require_octets(headers)
        protocol.require_within(headers, store.limits.max_upload_bytes if length is None else length)
    upload = await store.create(request.uploader, length, metadata, request.remote, is_partial=is_partial)
    location = {"Location": request.location(upload.record.upload_id)}
    try:
        if request.has_body and length != 0:
            async with store.claimed(upload) as claim:
                await receiver.receive(upload, claim, request, checksum)
    except EvidenceError as error:
        if not upload.is_whole:
            return protocol.refusal(error).with_headers(
                {**location, "Upload-Offset": str(upload.offset_bytes)}
            )
    # Where the item cannot be made now, the bytes are kept and the sweeper goes on. Anything but 201
    # would make the sender create it again, and one arrival would become two.
    await receiver.settle_for_now(upload)
    return Reply(201, {**location, **_state_of(receiver, upload)})


async def _concatenate(receiver: Receiver, request: Request, part_ids: tuple[str, ...]) -> Reply:
    metadata = request.headers.get("upload-metadata", "")
    protocol.parse_metadata(metadata)
    if request.has_body:
        raise InvalidInput(
            "body: expected none for a final upload, found one; its parts hold the bytes", code="bad_concat"
        )
    for part in find_parts(receiver.store, request.uploader, part_ids):
        if part.is_to_settle:
            await receiver.sealer.settle(part)
    final = await make_final(receiver.store, request.uploader, part_ids, metadata, request.remote)
    await asyncio.wait({receiver.sealer.start(final)}, timeout=FINAL_WAIT_S)
    location = {"Location": request.location(final.record.upload_id)}
    return Reply(201, {**location, **_state_of(receiver, final)})


async def _head(receiver: Receiver, request: Request, upload: Upload) -> Reply:
    if upload.is_final:
        if upload.is_whole and not upload.settling.locked():
            await receiver.settle_for_now(upload)
    elif upload.is_whole:
        await receiver.settle_for_now(upload)
    else:
        # A sender that asks has lost its last connection, even if we have not noticed yet:
        # that request ends here, so that the offset told is the one to go on from.
        async with receiver.store.claimed(upload):
            pass
    record = upload.record
    more = {"Cache-Control": "no-store"}
    if record.metadata_raw:
        more["Upload-Metadata"] = record.metadata_raw
    if record.length_bytes is None:
        more["Upload-Defer-Length"] = "1"
    else:
        more["Upload-Length"] = str(record.length_bytes)
    if record.is_partial:
        more["Upload-Concat"] = "partial"
    elif upload.is_final:
        more["Upload-Concat"] = "final;" + " ".join(map(request.location, record.parts))
    return Reply(200, {**_state_of(receiver, upload), **more})


async def _patch(receiver: Receiver, request: Request, upload: Upload) -> Reply:
    headers = request.headers
    upload.require_takes_bytes()
    protocol.require_octets(headers)
    checksum = Checksum.read(headers)
    try:
        if upload.is_whole:
            await _take(receiver, request, upload, 0, None)
        else:
            async with receiver.store.claimed(upload) as claim:
                await _take(receiver, request, upload, claim, checksum)
        await receiver.settle_if_whole(upload)
    except EvidenceError as error:
        return protocol.refusal(error).with_headers({"Upload-Offset": str(upload.offset_bytes)})
    return Reply(204, _state_of(receiver, upload))


async def _take(
    receiver: Receiver, request: Request, upload: Upload, claim: int, checksum: Checksum | None
) -> None:
    protocol.upload_offset(request.headers, upload.offset_bytes)
    length = protocol.later_length(request.headers)
    if length is not None:
        protocol.require_within(request.headers, max(length - upload.offset_bytes, 0))
        await receiver.store.set_length(upload, length)
    if upload.is_whole:
        protocol.require_within(request.headers, 0)
    else:
        await receiver.receive(upload, claim, request, checksum)


def _state_of(receiver: Receiver, upload: Upload) -> dict[str, str]:
    headers = {"Tus-Resumable": protocol.VERSION, **receiver.expires(upload), **receiver.kept(upload)}
    if upload.is_whole or not upload.is_final:
        headers["Upload-Offset"] = str(upload.offset_bytes)
    return headers
