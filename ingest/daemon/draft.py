"""Resumable uploads as the IETF drafts have them, in the two interop versions clients speak.

Interop version 5 is draft-ietf-httpbis-resumable-upload-03, version 6 is -05; tus-js-client calls them
``ietf-draft-03`` and ``ietf-draft-05``. The engine is that of tus, so everything about disks,
claims, digests and receipts is the same. Kept small on purpose:

1. Informational answers (104) are not sent: a client that lost the answer to its first request
   creates the upload again. Both drafts leave them optional.
2. An upload whose size is known is complete with its last byte, whatever ``Upload-Complete`` said.
3. ``Upload-Metadata`` is understood as in tus; the drafts have no word for it.

Source: https://datatracker.ietf.org/doc/draft-ietf-httpbis-resumable-upload/ versions 03 and 05.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from evidence.errors import EvidenceError, InvalidInput
from ingest.daemon.receiving import Receiver, Request
from ingest.tus import protocol
from ingest.tus.protocol import Reply
from ingest.tus.upload import Upload

INTEROP = "upload-draft-interop-version"
INTEROP_VERSIONS = ("5", "6")
PARTIAL_UPLOAD = "application/partial-upload"
MISMATCHING_OFFSET = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"


def speaks_draft(headers: Mapping[str, str]) -> bool:
    """Whether a request is of a draft, and not of tus."""
    return INTEROP in headers and "tus-resumable" not in headers


async def answer(receiver: Receiver, request: Request) -> Reply:
    """Carry out one request of a draft; refusals are answered here, in the draft's words."""
    version = request.headers[INTEROP]
    if version not in INTEROP_VERSIONS:
        error = InvalidInput(
            f"Upload-Draft-Interop-Version: expected one of {', '.join(INTEROP_VERSIONS)}, "
            f"found {version[:16]!a}",
            code="draft_version",
        )
        return _refusal(error, None).with_headers({"Upload-Draft-Interop-Version": INTEROP_VERSIONS[-1]})
    upload: Upload | None = None
    try:
        if not request.path and request.method == "POST":
            upload = await _created(receiver, request)
            reply = await _received(receiver, request, upload)
        else:
            upload = receiver.store.find(request.path, request.uploader)
            upload.require_takes_bytes()
            reply = await _verb(receiver, request, upload)
    except EvidenceError as error:
        reply = _refusal(error, upload)
        if upload is not None and request.method == "POST":
            reply = reply.with_headers({"Location": request.location(upload.record.upload_id)})
    return reply.with_headers({"Upload-Draft-Interop-Version": version})


async def _verb(receiver: Receiver, request: Request, upload: Upload) -> Reply:
    if request.method == "HEAD":
        if upload.is_whole:
            await receiver.settle_for_now(upload)
        else:
            async with receiver.store.claimed(upload):  # Ends a request its sender has lost.
                pass
        return Reply(204, {**_state_of(receiver, upload), "Cache-Control": "no-store"})
    if request.method == "PATCH":
        if request.headers[INTEROP] == "6" and _media_type(request.headers) != PARTIAL_UPLOAD:
            raise InvalidInput(f"Content-Type: expected {PARTIAL_UPLOAD}, found another", code="content_type")
        return await _received(receiver, request, upload)
    if request.method == "DELETE":
        await receiver.store.terminate(upload)
        return Reply(204)
    raise InvalidInput(
        f"method: expected HEAD, PATCH or DELETE, found {request.method[:16]!r}", code="method_not_allowed"
    )


async def _created(receiver: Receiver, request: Request) -> Upload:
    headers, limits = request.headers, receiver.store.limits
    length = protocol.later_length(headers)
    if length is None and _completes(headers) and "transfer-encoding" not in headers:
        length = protocol.content_length(headers) or 0
    if length is not None:
        protocol.require_size(length, limits.max_upload_bytes)
        protocol.require_within(headers, length)
    metadata = headers.get("upload-metadata", "")
    protocol.parse_metadata(metadata)
    return await receiver.store.create(request.uploader, length, metadata, request.remote, source="draft")


async def _received(receiver: Receiver, request: Request, upload: Upload) -> Reply:
    """Take the body of a creating or appending request."""
    headers, is_append = request.headers, request.method == "PATCH"
    completes = _completes(headers)
    if is_append and upload.is_whole:
        protocol.upload_offset(headers, upload.offset_bytes)
        protocol.require_within(headers, 0)
    elif not upload.is_whole:
        async with receiver.store.claimed(upload) as claim:
            if is_append:
                protocol.upload_offset(headers, upload.offset_bytes)
            await _set_length(receiver, request, upload, is_complete=completes)
            if request.has_body:
                await receiver.receive(upload, claim, request)
            if completes:
                await receiver.store.set_length(upload, upload.offset_bytes)
    if is_append:
        await receiver.settle_if_whole(upload)
        return Reply(204, _state_of(receiver, upload))
    await receiver.settle_for_now(upload)
    location = {"Location": request.location(upload.record.upload_id)}
    return Reply(201, {**location, **_state_of(receiver, upload)})


async def _set_length(receiver: Receiver, request: Request, upload: Upload, *, is_complete: bool) -> None:
    """Fix the size before the body where the head tells it, so that a body that lies is refused first."""
    length = protocol.later_length(request.headers)
    announced = protocol.content_length(request.headers)
    if is_complete and announced is not None:
        length = upload.offset_bytes + announced
    if length is not None:
        await receiver.store.set_length(upload, length)


def _completes(headers: Mapping[str, str]) -> bool:
    """Whether the body ends the upload.

    Raises:
        InvalidInput: ``Upload-Complete`` is there and no boolean of RFC 9651.
    """
    found = headers.get("upload-complete")
    if found is not None and found not in {"?0", "?1"}:
        raise InvalidInput(f"Upload-Complete: expected ?0 or ?1, found {found[:16]!a}", code="bad_header")
    return found == "?1"


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _state_of(receiver: Receiver, upload: Upload) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(upload.offset_bytes),
        "Upload-Complete": "?1" if upload.is_whole else "?0",
        "Upload-Limit": f"max-size={receiver.store.limits.max_upload_bytes}",
        **receiver.expires(upload),
        **receiver.kept(upload),
    }
    if upload.record.length_bytes is not None:
        headers["Upload-Length"] = str(upload.record.length_bytes)
    return headers


def _refusal(error: EvidenceError, upload: Upload | None) -> Reply:
    reply = protocol.refusal(error)
    headers = {name: value for name, value in reply.headers.items() if not name.startswith("Tus-")}
    body = reply.body
    if upload is not None:
        headers["Upload-Offset"] = str(upload.offset_bytes)
        headers["Upload-Complete"] = "?1" if upload.is_whole else "?0"
        if error.code == "offset_mismatch":
            problem = {**json.loads(body), "type": MISMATCHING_OFFSET, "expected-offset": upload.offset_bytes}
            body = json.dumps(problem).encode()
    return Reply(reply.status, headers, body)
