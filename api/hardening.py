"""What holds for every request, before any route: limits of size and time, security headers, counts.

A plain ASGI layer, so that a refusal costs no parsing and a stream is not buffered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException

from api.problems import MEDIA_TYPE, Problem, http_problem, problem_of, route_of
from evidence.errors import NotAuthenticated

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1 << 20
MAX_HEADER_BYTES = 32 << 10
MAX_PATH_BYTES = 8 << 10
# All that anybody without a token has to say is a name and a password.
MAX_ANONYMOUS_BODY_BYTES = 8 << 10
SIGN_IN_PATH = "/api/v1/sessions"
CVAT_PATH = re.compile(r"/api/v1/items/[^/]+/redaction/plans/cvat")
# From the first look at a body to its last byte.
BODY_DEADLINE_S = 30.0
# What is more than others may bring has as long as a slow line takes.
LEAST_BYTES_PER_S = 1 << 20
# A refused body is read and thrown away up to that, because a client that is still sending when the line
# closes often loses the answer that says why.
DRAIN_BYTES = 4 << 20
DRAIN_S = 2.0
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Counts and times of requests, by route template."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "liuhen_api_requests", "Requests", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "liuhen_api_request_seconds", "Seconds a request took", ["route"], registry=self.registry
        )

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """One finished request. What is unknown shares one label, or anybody could make labels."""
        route = route_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)


class Hardening:
    """Wraps the application.

    Args:
        media_origin: Origin of the media listener, which pages may load media from.
        cvat_body_bytes: What the one route may be sent that takes documents of hours (`api.cvat_body`).
    """

    def __init__(self, app: App, metrics: Metrics, media_origin: str, cvat_body_bytes: int) -> None:
        self._app = app
        self._cvat_body_bytes = cvat_body_bytes
        self._metrics = metrics
        self._headers = security_headers(media_origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                held = {name.lower() for name, _ in message.get("headers", [])}
                message["headers"] = [
                    *message.get("headers", []),
                    *(entry for entry in self._headers if entry[0] not in held),
                ]
            await send(message)

        try:
            most = self._most(scope)
            refused = _refusal(scope, most)
            if refused is not None:
                await _throw_away(scope, receive)
                await _answer(refused, sending)
                return
            await self._app(scope, _bounded(scope, receive, most), sending)
        finally:
            self._metrics.count(scope, status, time.perf_counter() - started)

    def _most(self, scope: Scope) -> int:
        """Largest body; what is larger than that of other routes is for whoever shows a token."""
        if not _is_signed_in(scope):
            return MAX_ANONYMOUS_BODY_BYTES
        is_cvat = scope["method"] == "POST" and CVAT_PATH.fullmatch(scope["path"]) is not None
        return self._cvat_body_bytes if is_cvat else MAX_BODY_BYTES


def security_headers(media_origin: str) -> list[tuple[bytes, bytes]]:
    """Headers of every answer; a route may set its own in their place."""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' blob: {media_origin}; media-src 'self' blob: {media_origin}; "
        f"connect-src 'self' {media_origin}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-frame-options", b"DENY"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
        (b"cache-control", b"no-store"),
    ]


def _refusal(scope: Scope, most: int) -> Problem | None:
    headers = scope["headers"]
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        return http_problem(431)
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MAX_PATH_BYTES:
        return http_problem(414)
    if _has_body(scope) and not _is_signed_in(scope) and scope["path"] != SIGN_IN_PATH:
        missing = "session: expected a bearer token before a body, found none; sign in"
        return problem_of(NotAuthenticated(missing, code="session_missing"))
    announced = _header(headers, b"content-length") or b"0"
    if not announced.isdigit() or int(announced) > most:
        return http_problem(413, detail=_too_large(most))
    return None


def _header(headers: list[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)


def _has_body(scope: Scope) -> bool:
    headers = scope["headers"]
    is_chunked = _header(headers, b"transfer-encoding") is not None
    return is_chunked or _header(headers, b"content-length") not in {None, b"0"}


def _is_signed_in(scope: Scope) -> bool:
    """Whether a token is shown; whether it holds is for the route to find out."""
    return _header(scope["headers"], b"authorization") is not None


def _too_large(most: int) -> str:
    return f"body: expected at most {most} bytes, found more / 正文至多 {most} 字节"


def _bounded(scope: Scope, receive: Receive, most: int) -> Receive:
    """A body of bounded size that comes within a bounded time; after it, the plain `receive`."""
    if not _has_body(scope):
        return receive
    taken = 0
    lasts_s = BODY_DEADLINE_S + max(0, most - MAX_BODY_BYTES) / LEAST_BYTES_PER_S
    deadline: float | None = None
    is_whole = False

    async def receiving() -> Message:
        nonlocal taken, deadline, is_whole
        if is_whole:
            return await receive()
        deadline = deadline or asyncio.get_running_loop().time() + lasts_s
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, headers={"Connection": "close"}) from error
        is_whole = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > most:
            # A chunked body tells its size only by coming; whoever reads it passes this on.
            if not is_whole:
                await _throw_away(scope, receive)
            raise HTTPException(413, _too_large(most))
        return message

    return receiving


async def _throw_away(scope: Scope, receive: Receive) -> None:
    """Read a small rest of a refused body; not one whose sender waits to be asked for it."""
    if not _has_body(scope) or _header(scope["headers"], b"expect") is not None:
        return
    left, is_more = DRAIN_BYTES, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while is_more and left > 0:
                message = await receive()
                is_more = message["type"] == "http.request" and message.get("more_body", False)
                left -= len(message.get("body", b""))


async def _answer(problem: Problem, send: Send) -> None:
    body = json.dumps(problem.body(), ensure_ascii=False).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
