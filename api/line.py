"""One line to a reader: requests read by llhttp, files sent by the kernel, nobody waited for without end.

Why not a general server: see docs/adr/0016-bytes-out-on-a-listener-of-our-own.md. What holds here:

1. A line holds one request head and one reply head. A file goes from the page cache to the socket
   (`sendfile`); what is not in the cache is read by a thread first, so that a slow disk holds up its own
   reader alone. Under TLS a line holds one piece.
2. A reader that takes nothing for `stall_s` is let go; until then it costs a descriptor or two and no
   thread. So is one that sends no head in time. When lines run out, the one idle longest gives way.
3. While a file is being sent, whether it may be is asked again every `RECHECK_S`; a no ends the line there
   and then. The reader sees a body shorter than was announced, which HTTP makes a failure.
4. A body is never longer or shorter than its Content-Length without the line ending. A request that brings a
   body of its own ends the line after the reply.

Source: RFC 9112.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import ssl
import termios
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import httptools
import structlog

READ_BYTES = 16 << 10
MOST_HEAD_BYTES = 16 << 10
MOST_AHEAD = 16
"""Requests sent ahead on one line."""
PIECE_BYTES = 512 << 10
TLS_PIECE_BYTES = 128 << 10
HEAD_S = 30.0
"""Who has not sent its next head by then is let go."""
RECHECK_S = 1.0
LINGER_S = 1.0
HANDSHAKE_S = 10.0
ACCEPT_AGAIN_S = 0.1
STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode("ascii") for each in HTTPStatus}
log = structlog.get_logger()


class LineEnded(Exception):
    """The line is of no more use; nothing is said on it."""


@dataclass(frozen=True, slots=True)
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
    """Bytes of an open file. Whoever sends it closes it."""

    descriptor: int
    offset: int
    length: int
    may_go_on: Callable[[], Awaitable[bool]]


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


Application = Callable[[Request], Awaitable[Reply]]


class Peer(Protocol):
    """A connection, in the clear or under TLS."""

    async def receive(self) -> bytes: ...
    async def send(self, data: bytes, *, more: bool = False) -> None: ...
    async def send_file(self, part: FilePart) -> None: ...
    async def end(self) -> None: ...
    def abort(self) -> None: ...


class PlainPeer:
    """A bare socket."""

    def __init__(self, line: socket.socket, stall_s: float) -> None:
        self._line, self._stall_s = line, stall_s
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> bytes:
        return await self._loop.sock_recv(self._line, READ_BYTES)

    async def send(self, data: bytes, *, more: bool = False) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[self._line.send(left, socket.MSG_MORE if more else 0) :]
            except BlockingIOError:
                await self._until_writable(None)

    async def send_file(self, part: FilePart) -> None:
        at, end = part.offset, part.offset + part.length
        checked = turned = self._loop.time()
        while at < end:
            now = self._loop.time()
            if now - checked > RECHECK_S:
                await _require(part)
                checked = now
            elif now - turned > 0.01:
                # A reader as fast as we are would keep the loop for itself.
                await asyncio.sleep(0)
                turned = now
            count = min(end - at, PIECE_BYTES)
            if not _is_cached(part.descriptor, at + count - 1):
                await asyncio.to_thread(os.pread, part.descriptor, count, at)
            try:
                sent = os.sendfile(self._line.fileno(), part.descriptor, at, count)
            except BlockingIOError:
                await self._until_writable(part)
                continue
            if sent == 0:
                raise LineEnded("the file is shorter than it was")
            at += sent

    async def _until_writable(self, part: FilePart | None) -> None:
        """Wait for the reader, asking again meanwhile whether it may have more."""
        line = self._line.fileno()
        queued, moved_at = _unsent(line), self._loop.time()
        while True:
            waiting: asyncio.Future[bool] = self._loop.create_future()
            self._loop.add_writer(line, _tell, waiting, True)
            timer = self._loop.call_later(min(RECHECK_S, self._stall_s), _tell, waiting, False)
            try:
                if await waiting:
                    return
            finally:
                timer.cancel()
                self._loop.remove_writer(line)
            now = self._loop.time()
            if (left := _unsent(line)) != queued:
                queued, moved_at = left, now
            if now - moved_at >= self._stall_s:
                raise LineEnded("the reader takes nothing")
            if part is not None:
                await _require(part)

    async def end(self) -> None:
        """Close so that the last reply is heard, though a request of the reader's may still come."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_S):
                while await self.receive():
                    pass
        self.abort()

    def abort(self) -> None:
        self._line.close()


class TlsPeer:
    """A socket under TLS: pieces are read, encrypted and written one at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stall_s: float) -> None:
        self._reader, self._writer, self._stall_s = reader, writer, stall_s

    async def receive(self) -> bytes:
        return await self._reader.read(READ_BYTES)

    async def send(self, data: bytes, *, more: bool = False) -> None:
        self._writer.write(data)
        if not more:
            await self._drained(None)

    async def send_file(self, part: FilePart) -> None:
        at, end = part.offset, part.offset + part.length
        checked = time.monotonic()
        while at < end:
            piece = await asyncio.to_thread(os.pread, part.descriptor, min(end - at, TLS_PIECE_BYTES), at)
            if not piece:
                raise LineEnded("the file is shorter than it was")
            at += len(piece)
            self._writer.write(piece)
            await self._drained(part)
            if time.monotonic() - checked > RECHECK_S:
                await _require(part)
                checked = time.monotonic()

    async def _drained(self, part: FilePart | None) -> None:
        began = time.monotonic()
        draining = asyncio.ensure_future(self._writer.drain())
        try:
            while not (await asyncio.wait({draining}, timeout=min(RECHECK_S, self._stall_s)))[0]:
                if time.monotonic() - began >= self._stall_s:
                    raise LineEnded("the reader takes nothing")
                if part is not None:
                    await _require(part)
            draining.result()
        finally:
            draining.cancel()

    async def end(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.close()
            async with asyncio.timeout(LINGER_S):
                await self._writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        self._writer.transport.abort()


async def _require(part: FilePart) -> None:
    if not await part.may_go_on():
        raise LineEnded("the right to it has ended")


def _tell(waiting: asyncio.Future[bool], is_writable: bool) -> None:
    if not waiting.done():
        waiting.set_result(is_writable)


def _unsent(line: int) -> int:
    """Bytes in the kernel that the reader has not acknowledged."""
    count = array.array("i", [0])
    fcntl.ioctl(line, termios.TIOCOUTQ, count)
    return count[0]


def _is_cached(descriptor: int, at: int) -> bool:
    """Whether the byte is in the page cache; a file system that cannot tell says no."""
    try:
        return bool(os.preadv(descriptor, [bytearray(1)], at, os.RWF_NOWAIT))
    except OSError:
        return False


@dataclass
class _Incoming:
    """What llhttp has read of the next request; its callbacks."""

    waiting: deque[Request] = field(default_factory=deque)
    url: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    head_bytes: int = 0
    parser: httptools.HttpRequestParser = field(init=False)

    def __post_init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.url, self.headers = b"", {}

    def on_url(self, piece: bytes) -> None:
        self.url += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        has_body = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        path = self.url.decode("latin-1").partition("?")[0]
        method = self.parser.get_method().decode("latin-1")
        is_last = has_body or self.parser.get_http_version() == "1.0" or not self.parser.should_keep_alive()
        self.waiting.append(Request(method, path, self.headers, is_last))
        self.head_bytes = 0


class Line:
    """The talk with one reader, request by request.

    Args:
        peer: The connection.
        app: What answers; it does not raise.
        refuse: The reply to what is no request: a status.
    """

    def __init__(self, peer: Peer, app: Application, refuse: Callable[[int], Reply]) -> None:
        self._peer, self._app, self._refuse = peer, app, refuse
        self._incoming = _Incoming()
        self.is_idle = True

    async def talk(self, turned: Callable[[], None]) -> None:
        """Answer until either side has had enough; `turned` is told whenever it becomes idle or busy."""
        try:
            while (request := await self._next()) is not None:
                self.is_idle = False
                turned()
                reply = await self._app(request)
                await self._send(reply, request.is_last)
                if request.is_last:
                    return await self._peer.end()
                self.is_idle = True
                turned()
        except (OSError, LineEnded, TimeoutError):
            pass  # Whom nobody can answer any more is not told anything.
        finally:
            self._peer.abort()

    async def _next(self) -> Request | None:
        """The next request; None when the reader has closed or sent what is none."""
        incoming = self._incoming
        if not incoming.waiting:
            async with asyncio.timeout(HEAD_S):
                while not incoming.waiting:
                    data = await self._peer.receive()
                    if not data:
                        return None
                    status = self._read(data)
                    if status is not None:
                        await self._send(self._refuse(status), is_last=True)
                        await self._peer.end()
                        return None
        return incoming.waiting.popleft()

    def _read(self, data: bytes) -> int | None:
        """Let llhttp read; the status of the refusal when that is no request of ours."""
        incoming = self._incoming
        incoming.head_bytes += len(data)
        try:
            incoming.parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            # An offer of another protocol is not taken up; of what cannot be read nothing more is read.
            if not incoming.waiting:
                return 400
            incoming.waiting.append(replace(incoming.waiting.pop(), is_last=True))
            return None
        if len(incoming.waiting) > MOST_AHEAD:
            return 429
        return 431 if incoming.head_bytes > MOST_HEAD_BYTES else None

    async def _send(self, reply: Reply, is_last: bool) -> None:
        closing = b"connection: close\r\n" if is_last else b""
        head = b"".join((STATUS_LINES[reply.status], _date_line(), closing, reply.lines, b"\r\n", reply.body))
        try:
            await self._peer.send(head, more=reply.file is not None)
            if reply.file is not None:
                await self._peer.send_file(reply.file)
        finally:
            if reply.file is not None:
                os.close(reply.file.descriptor)


def _date_line() -> bytes:
    now = int(time.time())
    if _dated[0] != now:
        _dated[:] = [now, f"date: {formatdate(now, usegmt=True)}\r\n".encode("ascii")]
    line: bytes = _dated[1]
    return line


_dated: list[Any] = [0, b""]


class Lines:
    """Every line of a listener.

    Args:
        app: What answers.
        refuse: The reply to what is no request.
        most: Lines at once.
        stall_s: How long a reader may take nothing.
    """

    def __init__(
        self, app: Application, refuse: Callable[[int], Reply], *, most: int, stall_s: float
    ) -> None:
        self._app, self._refuse, self._most, self._stall_s = app, refuse, most, stall_s
        self._talks: OrderedDict[asyncio.Task[None], Line | None] = OrderedDict()
        self._has_room = asyncio.Event()

    async def accept(self, door: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Take lines until cancelled; when there are too many, the one idle longest gives way."""
        loop = asyncio.get_running_loop()
        while True:
            await self._make_room()
            try:
                line, _ = await loop.sock_accept(door)
            except OSError as error:
                # Out of descriptors or memory, or gone before it was taken.
                log.warning("line_not_taken", reason=error.strerror)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            talk = asyncio.create_task(self._talk(line, tls))
            self._talks[talk] = None
            talk.add_done_callback(self._ended)

    async def close(self, wait_s: float) -> None:
        """Let go of idle lines at once, of the others when they are done or the wait is over."""
        for talk, line in list(self._talks.items()):
            if line is None or line.is_idle:
                talk.cancel()
        if self._talks:
            await asyncio.wait(set(self._talks), timeout=wait_s)
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _make_room(self) -> None:
        while len(self._talks) >= self._most:
            idle = next(
                (talk for talk, line in self._talks.items() if line is not None and line.is_idle), None
            )
            if idle is not None:
                idle.cancel()
            self._has_room.clear()
            await self._has_room.wait()

    async def _talk(self, taken: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            taken.setblocking(False)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = PlainPeer(taken, self._stall_s) if tls is None else await _agree(taken, tls, self._stall_s)
        except (OSError, TimeoutError):
            taken.close()
            return
        line, talk = Line(peer, self._app, self._refuse), asyncio.current_task()
        if talk is not None:
            self._talks[talk] = line
            await line.talk(lambda: self._talks.move_to_end(talk))

    def _ended(self, talk: asyncio.Task[None]) -> None:
        self._talks.pop(talk, None)
        self._has_room.set()
        if not talk.cancelled() and (error := talk.exception()) is not None:
            log.error("line_crashed", exc_info=error)


async def _agree(taken: socket.socket, tls: ssl.SSLContext, stall_s: float) -> TlsPeer:
    """The handshake."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, taken, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S
    )
    return TlsPeer(reader, asyncio.StreamWriter(transport, protocol, reader, loop), stall_s)
