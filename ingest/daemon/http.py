"""The upload listener's HTTP: tus requests in, replies out, as a bare ASGI application.

Bare, because every byte of footage passes here: no framework reads, copies or buffers a body.
Nothing of a body reaches the disk before its sender is known. The rules of tus are in
`ingest.tus.protocol`, what is on disk in `ingest.tus.uploads`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog

from evidence.errors import (
    EvidenceError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from ingest.daemon import receipts as by_digest
from ingest.tus import protocol
from ingest.tus.protocol import Checksum, Reply
from ingest.tus.sealing import Sealer
from ingest.tus.state import Phase, UploadRecord
from ingest.tus.uploads import Upload, UploadStore
from ingest.tus.writer import writing
from storage.db.credentials import Uploader

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BASE = "/uploads"
DRAIN_BYTES = 4 << 20
DRAIN_S = 2.0
"""A refused body up to this size is read and thrown away, because a client that is still
sending when the connection closes often loses the answer that says why."""


class ClientGone(Exception):
    """The sender closed the connection before its body ended; nobody is there to answer."""


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive, headers: Mapping[str, str]) -> None:
        self._receive = receive
        self._announced = protocol.content_length(headers)
        self._awaits_leave = "expect" in headers
        self._is_silent = False
        self.ended = False

    async def chunks(self, upload: Upload, claim: int, deadline_s: float) -> AsyncIterator[bytes]:
        """The body piece by piece, as long as the claim holds and bytes keep coming.

        Raises:
            ClientGone: The connection ended first.
            Conflict: A newer request took the upload over.
            Unavailable: No byte came within the deadline.
        """
        while not self.ended:
            try:
                async with upload.waiting(claim, deadline_s):
                    message = await self._receive()
            except EvidenceError:
                self._is_silent = True
                raise
            yield self._piece(message)

    async def drain(self) -> None:
        """Throw away a small rest, so that the reply is heard."""
        if self.ended or self._is_silent or self._awaits_leave or (self._announced or 0) > DRAIN_BYTES:
            return
        drained = 0
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(DRAIN_S):
                while not self.ended and drained <= DRAIN_BYTES:
                    drained += len(self._piece(await self._receive()))

    def _piece(self, message: Message) -> bytes:
        if message["type"] != "http.request":
            self.ended = True
            raise ClientGone
        self.ended = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


class UploadApp:
    """The ASGI application.

    Args:
        store: Open uploads.
        sealer: Makes items of whole ones.
        authenticate: Who a bearer token stands for; raises NotAuthenticated or NotPermitted.
        receipts: The signed receipt of an upload as JSON text, None until there is one.
        receipts_of: Receptions of some bytes that a token may know of.
        problems: What keeps this host from taking uploads now, one line each.
        read_deadline_s: A connection that brings no byte this long is closed.
        public_url: Base URL senders reach this host under; None makes ``Location`` relative.
        behind_proxy: A trusted proxy names the sender in ``X-Forwarded-For``.
    """

    def __init__(
        self,
        store: UploadStore,
        sealer: Sealer,
        *,
        authenticate: Callable[[str], Uploader],
        receipts: Callable[[UploadRecord], str | None],
        receipts_of: by_digest.ReceiptsOf = by_digest.nothing,
        problems: Callable[[], list[str]] = list,
        read_deadline_s: float = 30.0,
        public_url: str | None = None,
        behind_proxy: bool = False,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._authenticate = authenticate
        self._receipts = receipts
        self._receipts_of = receipts_of
        self._problems = problems
        self._read_deadline_s = read_deadline_s
        self._public_url = (public_url or "").rstrip("/")
        self._behind_proxy = behind_proxy
        self.is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body: Body | None = None
        try:
            headers = protocol.read_headers(scope["headers"])
            body = Body(receive, headers)
            reply = await self._answer(scope, headers, body)
        except EvidenceError as error:
            reply = protocol.refusal(error)
        except ClientGone:
            reply = Reply(400)
        except Exception:
            log.exception("upload:request_failed", method=scope["method"])
            reply = protocol.refusal(
                EvidenceError("upload: failed inside; the log says why", code="internal")
            )
        if body is not None:
            await body.drain()
        await _send(send, reply, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, headers: Mapping[str, str], body: Body) -> Reply:
        method, path = scope["method"], scope["path"].rstrip("/")
        if method == "POST" and "x-http-method-override" in headers:
            method = headers["x-http-method-override"].upper()
        if path in {"/healthz", "/readyz"}:
            return await self._health(path)
        if path.startswith(f"{by_digest.PATH}/") and method == "GET":
            return await by_digest.answer(self._receipts_of, await self._who(headers), path)
        if path != BASE and not path.startswith(f"{BASE}/"):
            raise NotFound(f"path: expected {BASE}, found something else")
        if method == "OPTIONS":
            return protocol.options(self._store.limits.max_upload_bytes)
        if self.is_stopping:
            raise Unavailable("upload: the listener is stopping; try again in a moment", code="stopping")
        uploader = await self._who(headers)
        upload_id, _, rest = path.removeprefix(BASE).lstrip("/").partition("/")
        if upload_id and rest == "receipt" and method == "GET":
            return await self._receipt(self._store.find(upload_id, uploader))
        protocol.require_version(headers)
        if not upload_id and method == "POST":
            return await self._create(uploader, headers, body, self._remote(scope, headers))
        if upload_id and not rest and method in {"HEAD", "PATCH", "DELETE"}:
            upload = self._store.find(upload_id, uploader)
            if method == "HEAD":
                return await self._head(upload)
            if method == "PATCH":
                return await self._patch(upload, headers, body)
            await self._store.terminate(upload)
            return Reply(204, {"Tus-Resumable": protocol.VERSION})
        raise InvalidInput(
            f"method: expected one of tus for this path, found {method[:16]!r}", code="method_not_allowed"
        )

    async def _who(self, headers: Mapping[str, str]) -> Uploader:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotAuthenticated("authorization: expected a bearer token of a dock or device, found none")
        return await asyncio.to_thread(self._authenticate, token.strip())

    def _remote(self, scope: Scope, headers: Mapping[str, str]) -> str:
        if self._behind_proxy and "x-forwarded-for" in headers:
            return headers["x-forwarded-for"].rsplit(",", 1)[-1].strip()[:64]
        client = scope.get("client")
        return f"{client[0]}:{client[1]}" if client else "local"

    async def _create(self, uploader: Uploader, headers: Mapping[str, str], body: Body, remote: str) -> Reply:
        length = protocol.upload_length(headers, self._store.limits.max_upload_bytes)
        metadata = headers.get("upload-metadata", "")
        protocol.parse_metadata(metadata)
        checksum = Checksum.read(headers)
        has_body = "transfer-encoding" in headers or bool(protocol.content_length(headers))
        if has_body:
            protocol.require_octets(headers)
            protocol.require_within(headers, length)
        upload = await self._store.create(uploader, length, metadata, remote)
        location = {"Location": f"{self._public_url}{BASE}/{upload.record.upload_id}"}
        try:
            if has_body and length:
                async with self._store.claimed(upload) as claim:
                    await self._receive(upload, claim, headers, body, checksum)
            if upload.is_whole:
                await self._sealer.settle(upload)
        except EvidenceError as error:
            if not upload.is_whole:
                return protocol.refusal(error).with_headers(
                    {**location, "Upload-Offset": str(upload.offset_bytes)}
                )
            # The bytes are kept and the sweeper goes on. Anything but 201 would make the sender
            # create it again, and one arrival would become two.
            log.warning("upload:not_sealed", upload_id=upload.record.upload_id[:8], detail=error.message)
        return Reply(201, {**location, **self._state_of(upload)})

    async def _head(self, upload: Upload) -> Reply:
        if upload.is_whole:
            try:
                await self._sealer.settle(upload)
            except EvidenceError as error:
                log.warning("upload:not_sealed", upload_id=upload.record.upload_id[:8], detail=error.message)
        else:
            # A sender that asks has lost its last connection, even if we have not noticed yet:
            # that request ends here, so that the offset told is the one to go on from.
            async with self._store.claimed(upload):
                pass
        record = upload.record
        metadata = {"Upload-Metadata": record.metadata_raw} if record.metadata_raw else {}
        return Reply(
            200,
            {
                **self._state_of(upload),
                **metadata,
                "Upload-Length": str(record.length_bytes),
                "Cache-Control": "no-store",
            },
        )

    async def _patch(self, upload: Upload, headers: Mapping[str, str], body: Body) -> Reply:
        protocol.require_octets(headers)
        checksum = Checksum.read(headers)
        length = upload.record.length_bytes
        try:
            if upload.is_whole:
                protocol.upload_offset(headers, length, length)
            else:
                async with self._store.claimed(upload) as claim:
                    protocol.upload_offset(headers, upload.offset_bytes, length)
                    if not upload.is_whole:
                        await self._receive(upload, claim, headers, body, checksum)
            if upload.is_whole:
                await self._sealer.settle(upload)
        except EvidenceError as error:
            return protocol.refusal(error).with_headers({"Upload-Offset": str(upload.offset_bytes)})
        return Reply(204, self._state_of(upload))

    async def _receive(
        self,
        upload: Upload,
        claim: int,
        headers: Mapping[str, str],
        body: Body,
        checksum: Checksum | None,
    ) -> None:
        left = upload.record.length_bytes - upload.offset_bytes
        announced = protocol.content_length(headers)
        wanted = left if announced is None else announced
        async with writing(self._store, upload, wanted_bytes=wanted, checksum=checksum) as writer:
            async for piece in body.chunks(upload, claim, self._read_deadline_s):
                await writer.append(piece)

    async def _receipt(self, upload: Upload) -> Reply:
        phase = upload.record.phase
        if phase is Phase.SEALED:
            receipt = await asyncio.to_thread(self._receipts, upload.record)
            if receipt is not None:
                return Reply(200, {"Content-Type": "application/json"}, receipt.encode())
        state = "open" if phase is Phase.OPEN else "stored"
        return _json(202, {"state": state, "may_erase": False})

    async def _health(self, path: str) -> Reply:
        if path == "/healthz":
            return _json(200, {"status": "ok"})
        problems = await asyncio.to_thread(self._problems)
        if self.is_stopping:
            problems = [*problems, "the listener is stopping"]
        return _json(503 if problems else 200, {"ready": not problems, "problems": problems})

    def _state_of(self, upload: Upload) -> dict[str, str]:
        headers = {"Tus-Resumable": protocol.VERSION, "Upload-Offset": str(upload.offset_bytes)}
        if not upload.is_whole:
            headers["Upload-Expires"] = protocol.http_date(self._store.expires_at(upload))
        elif sealed := upload.record.sealed:
            headers["Liuhen-Item"] = str(sealed.item_id)
            headers["Liuhen-Digest"] = f"sha-256={sealed.sha256.hex()}"
            headers["Liuhen-May-Erase"] = "false"
        return headers


def _json(status: int, body: dict[str, object]) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


async def _send(send: Send, reply: Reply, *, with_body: bool) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body) if with_body else 0).encode()))
    headers.append((b"x-content-type-options", b"nosniff"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})
