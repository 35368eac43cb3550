"""One line to a sender: HTTP/1.1 read by llhttp, a bounded piece at a time.

Why not a general server: footage is most of what passes here. One that gives a body to Python through
buffers of its own either wakes us for every few kilobytes or holds megabytes for each of a thousand senders
(docs/adr/0015-uploads-on-our-own-listener.md has the figures). What holds here:

1. A line holds at most its allowance of bytes that nobody has taken yet; then it is not read, and the sender
   waits. The allowance shrinks as lines become many (`Allowance`).
2. A head has a size and a deadline. Larger ones are refused in words while they come, not kept.
3. Requests on a line are carried out one after another. A reply that does not wait for the body ends the
   line, and what still comes is thrown away for a moment, so that the reply is heard.
4. A sender that vanishes is seen at once, unless its line is not being read; then as soon as it is.

Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

import httptools
import structlog

from evidence.errors import EvidenceError, InvalidInput
from ingest.daemon.exchange import Exchange, encode
from ingest.daemon.head import HeadSize, length_of, path_of, require_few, require_framing
from ingest.daemon.tap import Tap
from ingest.tus import protocol

log = structlog.get_logger(__name__)

Application = Callable[..., Awaitable[None]]

READ_BYTES = 512 << 10
"""At most, in one go. Each piece is copied out once, so that all lines share one buffer."""
LEAST_READ_BYTES = 4 << 10
HEAD_S = 30.0
"""Who has not sent its next head by then is let go."""
REPLY_S = 30.0
"""Who has not read its reply by then is let go."""
LINGER_S = 5.0
LINGER_BYTES = 16 << 20
"""A refused body is read and thrown away that long, because a client that is still sending when the line
closes often loses the reply that says why."""
MAX_WAITING = 4
"""Requests sent ahead on one line."""
MAX_FRAME_BYTES = 64 << 10
"""Of frames and trailers of a body in chunks, without a byte of the body."""


@dataclass
class Allowance:
    """What lines may hold of bodies that nobody has taken yet, together and each."""

    total_bytes: int = 64 << 20
    most_bytes: int = 512 << 10
    least_bytes: int = 32 << 10
    lines: set[Connection] = field(default_factory=set)
    buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(READ_BYTES)))
    """Shared: filled and emptied within one call of the event loop."""

    @property
    def each_bytes(self) -> int:
        """What one line may hold."""
        return max(self.least_bytes, min(self.most_bytes, self.total_bytes // max(1, len(self.lines))))


def refusal_of(error: EvidenceError) -> bytes:
    """What is said to a sender that made no request anybody could carry out; it ends the line."""
    reply = protocol.refusal(error)
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in reply.headers.items()]
    headers.append((b"content-length", str(len(reply.body)).encode()))
    return encode(reply.status, headers, reply.body, keeps_line=False)


class Connection(asyncio.BufferedProtocol):
    """One line.

    Args:
        app: The ASGI application.
        allowance: Shared by all lines of a listener.
        is_stopping: Whether the listener is about to end: no further request is read.
    """

    def __init__(self, app: Application, allowance: Allowance, is_stopping: Callable[[], bool]) -> None:
        self._app, self._allowance, self._is_stopping = app, allowance, is_stopping
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._head = HeadSize()
        self._timer: asyncio.TimerHandle | None = None
        self._serving: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_paused = False
        self._is_tapped = False
        self._is_ending = False
        self._is_lost = False
        self._came_bytes = 0
        self._frame_bytes = 0
        self._lingered_bytes = 0
        self._transport: asyncio.Transport
        self._client: tuple[str, int] | None = None
        self._scheme = "http"

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self._waiting

    # --- the line -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._allowance.lines.add(self)
        self._limit(HEAD_S, self.close)

    def connection_lost(self, _: Exception | None) -> None:
        self._allowance.lines.discard(self)
        self._limit(None)
        self._is_lost = True
        self._writable.set()
        for exchange in self._waiting:
            exchange.lost()

    def eof_received(self) -> bool:
        """A sender that only has nothing more to say still hears its reply."""
        if self._waiting and all(each.is_whole for each in self._waiting) and self._scheme == "http":
            self._waiting[-1].keeps_line = False
            return True
        return False

    def close(self) -> None:
        """End the line once everything written is on its way; not if that takes for ever."""
        self._transport.close()
        self._limit(REPLY_S, self.abort)

    def abort(self) -> None:
        """End the line now."""
        self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _limit(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        """Let the line have that long for what it is at; None: as long as it likes."""
        if self._timer is not None:
            self._timer.cancel()
        is_none = seconds is None or then is None or self._is_lost
        self._timer = None if is_none else self._loop.call_later(seconds or 0, then or self.abort)

    # --- bytes in -----------------------------------------------------------------------------------

    def get_buffer(self, _: int) -> memoryview:
        room_bytes = self._allowance.each_bytes - self.held_bytes
        return self._allowance.buffer[: max(LEAST_READ_BYTES, room_bytes)]

    def buffer_updated(self, size_bytes: int) -> None:
        if self._is_ending:
            self._lingered_bytes += size_bytes
            if self._lingered_bytes > LINGER_BYTES:
                self.abort()
            return
        data = self._allowance.buffer[:size_bytes]
        try:
            body, before = self._incoming, self._came_bytes
            in_body = body is not None and body.has_head
            self._parser.feed_data(data)
            if self._incoming is not None and not self._incoming.has_head:
                self._head.grow(data)
            is_frame = in_body and body is self._incoming and self._came_bytes == before
            self._frame_bytes = self._frame_bytes + size_bytes if is_frame else 0
            if self._frame_bytes > MAX_FRAME_BYTES:
                raise InvalidInput(
                    "body: expected bytes of the file, found frames or trailers without end",
                    code="bad_request",
                )
        except httptools.HttpParserUpgrade:
            # Another protocol was offered; we answer in this one and end (RFC 9110, section 7.8).
            self._waiting[-1].keeps_line = False
        except httptools.HttpParserCallbackError as error:
            self._refuse(error.__context__)
        except httptools.HttpParserError:
            self._refuse(InvalidInput("request: expected HTTP/1.1, found something else", code="bad_request"))
        except EvidenceError as error:
            self._refuse(error)
        self._hold_back()

    @property
    def held_bytes(self) -> int:
        """What came over this line and nobody has taken yet."""
        ahead = sum(each.head_bytes for each in islice(self._waiting, 1, None))
        return ahead + sum(each.held_bytes for each in self._waiting)

    def _hold_back(self) -> None:
        """Read on once nothing waits to be taken: few large reads, not many small ones."""
        if self._is_tapped:
            return
        held_bytes = self.held_bytes
        is_full = held_bytes > 0 if self._is_paused else held_bytes >= self._allowance.each_bytes // 2
        if is_full != self._is_paused and not self._transport.is_closing():
            self._is_paused = is_full
            if is_full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _refuse(self, error: BaseException | None) -> None:
        """Answer what is no request, after those before it, and end the line."""
        if not isinstance(error, EvidenceError):
            log.error("upload:parser_failed", exc_info=error)
            error = InvalidInput("request: expected one we can read, found another", code="bad_request")
        incoming, self._incoming = self._incoming, None
        self._is_ending = True
        if incoming is not None and incoming.has_head:
            # In the middle of a body: whoever carries the request out ends it, with what came.
            incoming.cut()
        elif self.is_idle:
            self._write(refusal_of(error))
            self._linger()
        else:
            self._waiting[-1].keeps_line = False

    def _linger(self) -> None:
        """Say no more, throw away what still comes, and end soon (RFC 9112, section 9.6)."""
        self._is_ending = True
        self._is_tapped = False
        for exchange in self._waiting:
            exchange.drop_pieces()
        self._hold_back()
        self._limit(LINGER_S, self.close)
        if self._transport.can_write_eof() and not self._transport.is_closing():
            try:
                self._transport.write_eof()
            except OSError:
                self.abort()  # Reset by its sender, and not told to us yet.

    # --- what llhttp finds --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise InvalidInput(
                f"request: expected at most {MAX_WAITING} at once on one line, found more; wait for replies",
                code="bad_request",
            )
        self._incoming = Exchange(self._write, self._hold_back)

    def on_url(self, url: bytes) -> None:
        self._current.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._current.has_head:
            return  # Of a trailer nothing counts: it came after the request was let in.
        require_few(self._current.headers)
        self._head.add(name, value)
        self._current.headers.append((name.lower(), value))
        if name.lower() == b"expect" and value.lower() == b"100-continue":
            self._current.awaits_leave = True

    def on_headers_complete(self) -> None:
        exchange = self._current
        version = self._parser.get_http_version()
        require_framing(exchange.headers, version)
        if version == "1.0":
            exchange.awaits_leave = False
        exchange.method = self._parser.get_method().decode("ascii")
        exchange.target = path_of(exchange.target)
        exchange.keeps_line = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        exchange.left_bytes = length_of(exchange.headers)
        exchange.open_tap = self._tapped
        exchange.has_head = True
        exchange.head_bytes = self._head.size_bytes
        self._head = HeadSize()
        self._waiting.append(exchange)
        if self._serving is None:
            self._limit(None)
            self._serving = self._loop.create_task(self._serve())

    def on_body(self, piece: bytes) -> None:
        self._came_bytes += len(piece)
        self._current.came(piece)

    def on_message_complete(self) -> None:
        self._current.ended()
        self._incoming = None

    def _tapped(self) -> Tap | None:
        """Let the rest of the body that comes now be read off the socket by somebody else."""
        incoming = self._incoming
        if incoming is None or not incoming.left_bytes or self._scheme != "http":
            return None
        if self._transport.is_closing() or incoming is not self._waiting[0]:
            return None
        try:
            # Another number for the same socket: the loop watches the transport's own for nobody else.
            descriptor = os.dup(self._transport.get_extra_info("socket").fileno())
        except OSError:
            return None  # No more files can be opened: it comes in pieces.
        self._is_tapped = self._is_paused = True
        self._transport.pause_reading()
        return Tap(descriptor, incoming.left_bytes, self._untapped)

    def _untapped(self, tap: Tap) -> None:
        """Go on reading behind the body; llhttp, which saw only its beginning, begins anew."""
        incoming = self._current
        incoming.left_bytes = tap.left_bytes
        if not tap.left_bytes:
            self._is_tapped = False
            self._parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            self._hold_back()
        elif tap.is_cut:
            incoming.lost()
            self.close()
        # Else its reply ends the line, and is said before anything more is read.

    @property
    def _current(self) -> Exchange:
        if self._incoming is None:
            raise RuntimeError("request: expected its beginning first, found a part of it")
        return self._incoming

    # --- requests out -------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Carry out what waits, one after another."""
        try:
            while self._waiting:
                exchange = self._waiting[0]
                self._hold_back()  # Its head counts no more among those sent ahead.
                await self._app(exchange.scope(self._scheme, self._client), exchange.receive, exchange.send)
                async with asyncio.timeout(REPLY_S):
                    await self._writable.wait()
                self._waiting.popleft()
                if not exchange.is_answered:
                    self.abort()
                    return
                if not exchange.keeps_line or self._is_stopping():
                    if exchange.is_whole:
                        self.close()
                    else:
                        self._linger()
                    return
                exchange.drop_pieces()
                self._hold_back()
            self._limit(HEAD_S, self.close)
        except TimeoutError:
            self.abort()
        except BaseException:
            # Cancelled, or failed inside: a sender must not wait on a line nobody serves.
            self.abort()
            raise
        finally:
            self._serving = None

    async def finished(self) -> None:
        """Wait until no request is under way."""
        while self._serving is not None:
            await asyncio.wait({self._serving})

    def cancel(self) -> None:
        """Stop what is under way; for a listener that cannot wait longer."""
        if self._serving is not None:
            self._serving.cancel()
