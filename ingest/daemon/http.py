"""The upload listener's HTTP: requests in, replies out, as a bare ASGI application.

Bare, because every byte of footage passes here: no framework reads, copies or buffers a body.
Nothing of a body reaches the disk before its sender is known. What a request means is decided by
the protocol it speaks (`ingest.daemon.tus`, `draft`, `put`); what is on disk by `ingest.tus`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

import structlog

from evidence.errors import EvidenceError, InvalidInput, NotAuthenticated, NotFound
from ingest.daemon import draft, put, tus
from ingest.daemon import receipts as by_digest
from ingest.daemon.body import Body, ClientGone, Message, Patience, Receive, no_tap
from ingest.daemon.cors import Origins
from ingest.daemon.exchange import TAP
from ingest.daemon.receiving import BASE, Receiver, Request
from ingest.tus import protocol
from ingest.tus.protocol import Reply
from ingest.tus.sealing import Sealer
from ingest.tus.state import Phase, UploadRecord
from ingest.tus.upload import Upload
from ingest.tus.uploads import UploadStore, stopping
from storage.db.credentials import Uploader

log = structlog.get_logger(__name__)

_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class UploadApp:
    """The ASGI application.

    Args:
        store: Open uploads.
        sealer: Makes items of whole ones.
        authenticate: Who a bearer token stands for; raises NotAuthenticated or NotPermitted.
        receipts: The signed receipt of an upload as JSON text, None until there is one.
        receipts_of: Receptions of some bytes that a token may know of.
        problems: What keeps this host from taking uploads now, one line each.
        patience: How long a sender is waited for.
        public_url: Base URL senders reach this host under; None takes it from each request.
        behind_proxy: A trusted proxy names the sender in ``X-Forwarded-For``, its scheme in
            ``X-Forwarded-Proto``.
        cors_origins: Origins whose pages may upload.
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
        patience: Patience | None = None,
        public_url: str | None = None,
        behind_proxy: bool = False,
        cors_origins: Iterable[str] = (),
    ) -> None:
        self._store = store
        self._receiver = Receiver(store, sealer, patience or Patience())
        self._authenticate = authenticate
        self._receipts = receipts
        self._receipts_of = receipts_of
        self._problems = problems
        self._public_url = (public_url or "").rstrip("/")
        self._behind_proxy = behind_proxy
        self._origins = Origins(cors_origins)
        self.is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            headers = protocol.read_headers(scope["headers"])
            reply = await self._answer(
                scope, headers, Body(receive, scope.get("extensions", {}).get(TAP, no_tap))
            )
        except EvidenceError as error:
            reply = protocol.refusal(error)
        except ClientGone:
            reply = Reply(400)
        except Exception:
            # The last place: a dock must be answered, by what makes it ask again.
            log.exception("upload:request_failed", method=scope["method"])
            reply = protocol.refusal(
                EvidenceError("upload: failed inside; the log says why", code="internal")
            )
        reply = self._origins.applied(reply, scope["headers"])
        await _send(send, reply, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, headers: Mapping[str, str], body: Body) -> Reply:
        method, path = scope["method"], _path(scope)
        if method == "POST" and "x-http-method-override" in headers:
            method = headers["x-http-method-override"].upper()
        if path in {"/healthz", "/readyz"}:
            return await self._health(path)
        is_asking = path.startswith(f"{by_digest.PATH}/")
        if not is_asking and path != BASE and not path.startswith(f"{BASE}/"):
            raise NotFound(f"path: expected {BASE}, found something else")
        if method == "OPTIONS":
            return protocol.options(self._store.limits.max_upload_bytes)
        if is_asking:
            if method != "GET":
                raise InvalidInput(
                    f"method: expected GET for {by_digest.PATH}, found {method[:16]!r}",
                    code="method_not_allowed",
                )
            return await by_digest.answer(self._receipts_of, await self._who(headers), path)
        self._require_running()
        uploader = await self._who(headers)
        self._require_running()  # Those that are under way when it stops are interrupted once.
        below = path.removeprefix(BASE).lstrip("/")
        request = Request(
            method,
            below,
            headers,
            body,
            uploader,
            self._remote(scope, headers),
            self._base_url(scope, headers),
        )
        if method == "PUT" and below.startswith(put.BY_NAME):
            return await put.answer(self._receiver, request)
        upload_id, _, rest = below.partition("/")
        if upload_id and rest == "receipt" and method == "GET":
            return await self._receipt(self._store.find(upload_id, uploader))
        if draft.speaks_draft(headers):
            return await draft.answer(self._receiver, request)
        return await tus.answer(self._receiver, request)

    async def _who(self, headers: Mapping[str, str]) -> Uploader:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise NotAuthenticated("authorization: expected a bearer token of a dock or device, found none")
        return await asyncio.to_thread(self._authenticate, token.strip())

    def _require_running(self) -> None:
        if self.is_stopping:
            raise stopping()

    def _remote(self, scope: Scope, headers: Mapping[str, str]) -> str:
        if self._behind_proxy and "x-forwarded-for" in headers:
            return headers["x-forwarded-for"].rsplit(",", 1)[-1].strip()[:64]
        client = scope.get("client")
        return f"{client[0]}:{client[1]}" if client else "local"

    def _base_url(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """What stands before the path for this sender; it is told to nobody else."""
        if self._public_url:
            return self._public_url
        scheme = headers.get("x-forwarded-proto") if self._behind_proxy else scope.get("scheme")
        host = headers.get("host", "")
        return f"{scheme}://{host}" if scheme in {"http", "https"} and _HOST.fullmatch(host) else ""

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


def _path(scope: Scope) -> str:
    """The path as it was sent, still percent-encoded where the server tells it: names may not be UTF-8."""
    raw: bytes = scope.get("raw_path") or b""
    return (raw.decode("latin-1").partition("?")[0] or str(scope["path"])).rstrip("/")


def _json(status: int, body: dict[str, object]) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


async def _send(send: Send, reply: Reply, *, with_body: bool) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    if reply.status != 204:
        headers.append((b"content-length", str(len(reply.body) if with_body else 0).encode()))
    headers.append((b"x-content-type-options", b"nosniff"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})
