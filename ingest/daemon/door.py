"""Letting lines in: counted before anything is spent on them, TLS handshakes included."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import structlog

from evidence.errors import Unavailable
from evidence.listening import Listener
from ingest.daemon.connection import Allowance, Connection, refusal_of
from messaging.tls import tls_of

log = structlog.get_logger(__name__)

BACKLOG = 512
HANDSHAKE_S = 10.0
MAX_LINES = 2048
MAX_TLS_LINES = 512
"""Each has buffers of its own for what is not deciphered yet, about half a megabyte."""
PAUSE_S = 0.5
"""When no more files can be opened, lines wait that long to be let in."""


class Door:
    """The listening socket of one listener.

    Args:
        listener: Where to listen, and with which certificate.
        allowance: What the lines that are let in may hold; counts them.
        make: A protocol for a new line.

    Raises:
        Unavailable: The port is taken (``port_in_use``) or the certificate cannot be read.
    """

    def __init__(self, listener: Listener, allowance: Allowance, make: Callable[[], Connection]) -> None:
        self._allowance = allowance
        self._make = make
        self._tls = tls_of(listener)
        self._socket = _listening(listener)
        self._opening: set[asyncio.Task[None]] = set()
        self._letting_in = asyncio.create_task(self._let_in())

    async def close(self) -> None:
        """Let nobody in any more."""
        self._letting_in.cancel()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(self._letting_in, *self._opening, return_exceptions=True)
        self._socket.close()

    async def _let_in(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                line, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                # Those who wait stay in the backlog.
                log.warning("upload:not_let_in", reason=error.strerror)
                await asyncio.sleep(PAUSE_S)
                continue
            most = MAX_LINES if self._tls is None else MAX_TLS_LINES
            if len(self._allowance.lines) + len(self._opening) >= most:
                self._turn_away(line, most)
                continue
            task = asyncio.create_task(self._open(line))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, line: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        handshake_s = HANDSHAKE_S if self._tls else None
        try:
            await loop.connect_accepted_socket(
                self._make, line, ssl=self._tls, ssl_handshake_timeout=handshake_s
            )
        except (OSError, ssl.SSLError) as error:
            # No sender yet: a scan, a dock that does not trust our certificate, a line that was cut.
            log.info("upload:handshake_failed", reason=type(error).__name__)
            line.close()

    def _turn_away(self, line: socket.socket, most: int) -> None:
        error = Unavailable(
            f"listener: expected at most {most} lines at once, found more; try again in a moment",
            code="too_many_lines",
        )
        with line, contextlib.suppress(OSError):
            if self._tls is None:
                line.send(refusal_of(error))
                line.shutdown(socket.SHUT_WR)


def _listening(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    try:
        found = socket.create_server((listener.host, listener.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unavailable(
            f"{listener.name} listener {listener.host}:{listener.port}: expected to listen there, found "
            f"{error.strerror}",
            code="port_in_use",
        ) from error
    found.setblocking(False)
    return found
