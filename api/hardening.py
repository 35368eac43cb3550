"""What holds for every request, before any route: size limits, security headers, counts.

A plain ASGI layer, so that a refusal costs no parsing and a stream is not buffered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException

from api.problems import MEDIA_TYPE, Problem, http_problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 1 << 20
MAX_HEADER_BYTES = 32 << 10
MAX_PATH_BYTES = 8 << 10


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
        """One finished request. Unknown addresses share one label, or anybody could make labels."""
        route = getattr(scope.get("route"), "path", "unknown")
        self._requests.labels(scope["method"], route, status).inc()
        self._seconds.labels(route).observe(seconds)


class Hardening:
    """Wraps the application.

    Args:
        media_origin: Origin of the media listener, which pages may load media from.
    """

    def __init__(self, app: App, metrics: Metrics, media_origin: str) -> None:
        self._app = app
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
            refused = _refusal(scope)
            if refused is not None:
                await _answer(refused, sending)
                return
            await self._app(scope, _counted(receive), sending)
        finally:
            self._metrics.count(scope, status, time.perf_counter() - started)


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


def _refusal(scope: Scope) -> Problem | None:
    headers = scope["headers"]
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        return http_problem(431)
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > MAX_PATH_BYTES:
        return http_problem(414)
    announced = next((value for name, value in headers if name == b"content-length"), b"0")
    if not announced.isdigit() or int(announced) > MAX_BODY_BYTES:
        return http_problem(413)
    return None


def _counted(receive: Receive) -> Receive:
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            # A chunked body tells its size only by coming; whoever reads it passes this on.
            raise HTTPException(413)
        return message

    return receiving


async def _answer(problem: Problem, send: Send) -> None:
    body = json.dumps(problem.body(), ensure_ascii=False).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
