"""HTTP as the media listener speaks it: requests read by llhttp, reply heads written, nothing of sockets.

Source: RFC 9112.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import httptools

MOST_HEAD_BYTES = 16 << 10
PROBE_EVERY_BYTES = 512 << 10
FETCH_BYTES = 128 << 10
MOST_AHEAD = 16
"""Requests sent ahead on one line."""
STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode("ascii") for each in HTTPStatus}
_probe = [bytearray(1)]


@dataclass(slots=True)
class Request:
    """A request, as far as a server of files looks."""

    method: str
    path: str
    """Without its query, still percent-encoded."""
    headers: dict[str, str]
    """Lower-case names; what came more than once is joined by commas."""
    is_last: bool = False
    """Whether the reader wants nothing more on this line, or sent what is not read here: a body."""


@dataclass(slots=True)
class FilePart:
    """Bytes of an open file that are still to be sent; whoever sends them closes it."""

    descriptor: int
    at: int
    left: int
    may_go_on: Callable[[], Awaitable[bool]]
    """Raises `Unavailable` where nobody can say."""
    done: Callable[[], None] | None = None
    """Told once, when nothing more of it is sent."""

    def is_cached(self, count: int) -> bool:
        """Whether the next bytes are in the page cache; a file system that cannot tell says no.

        One byte in `PROBE_EVERY_BYTES` is asked for, the last of all first: what was read before, or evicted
        since, has edges anywhere.
        """
        descriptor, at = self.descriptor, self.at
        try:
            for offset in (count - 1, *range(0, count - 1, PROBE_EVERY_BYTES)):
                if not os.preadv(descriptor, _probe, at + offset, os.RWF_NOWAIT):
                    return False
        except OSError:
            return False
        return True

    def fetch(self, count: int) -> None:
        """Bring the next bytes into the page cache; this waits for the disk."""
        buffer = [bytearray(FETCH_BYTES)]
        for at in range(self.at, self.at + count, FETCH_BYTES):
            os.preadv(self.descriptor, buffer, at)

    def moved(self, count: int) -> None:
        """So many were sent."""
        self.at += count
        self.left -= count

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            if self.done is not None:
                self.done()


@dataclass(slots=True)
class Reply:
    """What is answered.

    Attributes:
        lines: Header lines, each ended by CRLF, Content-Length among them.
    """

    status: int
    lines: bytes
    body: bytes = b""
    file: FilePart | None = None

    def head(self, *, is_last: bool) -> bytes:
        """Everything but the file."""
        closing = b"connection: close\r\n" if is_last else b""
        return b"".join((STATUS_LINES[self.status], _date.line(), closing, self.lines, b"\r\n", self.body))


class Application(Protocol):
    """What answers; no way of it raises."""

    def at_once(self) -> Callable[[Request], Reply | None]:
        """What replies, if that can be done without waiting, to requests that came before this was called."""
        ...

    async def __call__(self, request: Request) -> Reply:
        """The reply."""
        ...

    def refuse(self, status: int) -> Reply:
        """The reply to what was no request anybody could read."""
        ...


class Incoming:
    """What came on a line and was not answered yet."""

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        self._url = b""
        self._headers: dict[str, str] = {}
        self._host_count = 0
        self._refused: int | None = None
        self._head_bytes = 0
        self._parser = httptools.HttpRequestParser(self)

    def read(self, data: bytes) -> int | None:
        """Take bytes of the reader's; the status of a refusal when they are no request of ours."""
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            # An offer of another protocol is not taken up; of what cannot be read nothing more is read.
            if not self.waiting:
                return self._refused or 400
            self.waiting.append(replace(self.waiting.pop(), is_last=True))
            return None
        if len(self.waiting) > MOST_AHEAD:
            return 429
        return 431 if self._head_bytes > MOST_HEAD_BYTES else None

    # --- llhttp calls these ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._url, self._headers, self._host_count = b"", {}, 0

    def on_url(self, piece: bytes) -> None:
        self._url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._host_count += key == "host"
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        headers, parser = self._headers, self._parser
        version = parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            self._refuse(400 if version < "1.0" else 505)
        if self._host_count > 1 or (version == "1.1" and not self._host_count):
            self._refuse(400)
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        is_last = has_body or not parser.should_keep_alive() or version == "1.0"
        path = _path(self._url.decode("latin-1"))
        self.waiting.append(Request(parser.get_method().decode("latin-1"), path, headers, is_last))
        self._head_bytes = 0

    def _refuse(self, status: int) -> None:
        """Make llhttp end here; it carries no status of ours."""
        self._refused = status
        raise ValueError(f"request: expected one of HTTP/1.1 with one Host, found another; {status}")


def _path(target: str) -> str:
    """The path of a request target, in origin-form or in absolute-form (RFC 9112 section 3.2)."""
    plain = target.partition("?")[0]
    if plain.startswith("/"):
        return plain
    scheme, mark, rest = plain.partition("://")
    if mark and scheme.lower() in {"http", "https"}:
        return "/" + rest.partition("/")[2]
    return plain


class _Date:
    """The Date line, written once a second."""

    def __init__(self) -> None:
        self._second, self._line = 0, b""

    def line(self) -> bytes:
        now = int(time.time())
        if self._second != now:
            self._second, self._line = now, f"date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")
        return self._line


_date = _Date()
