"""Every line of the media listener: taken, bounded in number, let go when idle too long or at the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter, OrderedDict
from functools import partial

import structlog

from api.line import READ_BYTES, Line, PlainLine, TlsLine, Turns
from api.wire import Application

HEAD_S = 30.0
"""Who has not sent its next request by then is let go."""
SWEEP_EVERY_S = 2.0
TELL_EVERY_S = 60.0
HANDSHAKE_S = 10.0
ACCEPT_AGAIN_S = 0.1
log = structlog.get_logger()


class Lines:
    """The lines of a listener.

    Args:
        app: What answers.
        most: Lines at once; when there are more, the one idle longest gives way, else the oldest handshake.
        stall_s: How long a reader may take nothing.
        least_bytes_s: What it takes at the least, on the average of each `stall_s`.
    """

    def __init__(self, app: Application, *, most: int, stall_s: float, least_bytes_s: float = 0) -> None:
        self._app, self._most, self._patience = app, most, (stall_s, least_bytes_s)
        self._turns = Turns(app)
        self._let_go: Counter[str] = Counter()
        self._lines: OrderedDict[Line, None] = OrderedDict()
        self._greeting: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        self._has_room = asyncio.Event()

    async def accept(self, door: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Take lines until cancelled."""
        loop = asyncio.get_running_loop()
        sweeping = loop.create_task(self._sweep())
        try:
            while True:
                try:
                    taken, _ = await loop.sock_accept(door)
                    taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                except OSError as error:
                    # Out of descriptors or memory, or gone before it was taken.
                    log.warning("line_not_taken", reason=error.strerror)
                    await asyncio.sleep(ACCEPT_AGAIN_S)
                    continue
                await self._make_room()
                if tls is None:
                    line = PlainLine(taken, self._turns, self._patience, self._turned, self._gone)
                    self._lines[line] = None
                else:
                    greeting = loop.create_task(self._greet(taken, tls))
                    self._greeting[greeting] = None
                    greeting.add_done_callback(partial(self._greeted, taken))
        finally:
            sweeping.cancel()

    async def close(self, wait_s: float) -> None:
        """Let go of idle lines at once, of the others when they are done or the wait is over."""
        for line in list(self._lines):
            if line.idle_since is not None:
                line.close()
        busy = [line.task for line in self._lines if line.task is not None]
        if busy:
            await asyncio.wait(busy, timeout=wait_s)
        for line in list(self._lines):
            line.close()
        for greeting in self._greeting:
            greeting.cancel()
        await asyncio.gather(*busy, *self._greeting, return_exceptions=True)

    async def _make_room(self) -> None:
        while len(self._lines) + len(self._greeting) >= self._most:
            idle = next((line for line in self._lines if line.idle_since is not None), None)
            if idle is not None:
                idle.close()
                continue
            if self._greeting:
                # Who connects and says nothing must not keep others out.
                next(iter(self._greeting)).cancel()
            self._has_room.clear()
            await self._has_room.wait()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        told_at = -TELL_EVERY_S
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            if self._let_go and loop.time() - told_at >= TELL_EVERY_S:
                log.warning("readers_let_go", lines=len(self._lines), **self._let_go)
                self._let_go.clear()
                told_at = loop.time()
            until = loop.time() - HEAD_S
            for line in list(self._lines):
                if line.idle_since is not None and line.idle_since < until:
                    line.close()

    async def _greet(self, taken: socket.socket, tls: ssl.SSLContext) -> None:
        """The handshake."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, taken, ssl=tls, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, TimeoutError):
            taken.close()
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._lines[TlsLine(reader, writer, self._app, self._patience, self._turned, self._gone)] = None

    def _greeted(self, taken: socket.socket, greeting: asyncio.Task[None]) -> None:
        if greeting.cancelled():
            taken.close()
        # Room is made before it is told of.
        self._greeting.pop(greeting, None)
        self._has_room.set()

    def _turned(self, line: Line) -> None:
        if line in self._lines:
            self._lines.move_to_end(line)

    def _gone(self, line: Line) -> None:
        self._lines.pop(line, None)
        if line.fault is not None:
            self._let_go[line.fault] += 1
            line.fault = None
        self._has_room.set()
