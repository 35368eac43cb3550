"""One request and its reply on one line, as ASGI sees them: the body comes in pieces."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from ingest.daemon.body import Message
from ingest.daemon.tap import Tap

TAP = "liuhen.tap"
"""The extension of ASGI that `Exchange.tap` is."""
PIECE_COSTS_BYTES = 64
"""Chunks of a byte each would else cost many times what is counted."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Headers = list[tuple[bytes, bytes]]


@dataclass
class Exchange:
    """What one request has brought so far, and what became of its reply."""

    write: Callable[[bytes], None]
    make_room: Callable[[], None]
    """Told when a piece was taken: there may be room for more."""
    method: str = ""
    target: bytes = b""
    headers: Headers = field(default_factory=list)
    keeps_line: bool = False
    """Whether sender and version let the line go on afterwards."""
    has_head: bool = False
    is_whole: bool = False
    """Whether every byte of the request came."""
    is_cut: bool = False
    """Whether no more of the request can come."""
    is_gone: bool = False
    """Whether nobody is there to hear a reply."""
    is_answered: bool = False
    head_bytes: int = 0
    held_bytes: int = 0
    """Of pieces that came and were not taken yet, and what each costs beside its bytes."""
    left_bytes: int | None = None
    """What is to come of a body whose length is known; None of one in chunks."""
    open_tap: Callable[[], Tap | None] = lambda: None
    """The rest of the body straight from the socket, where that can be."""
    awaits_leave: bool = False
    _pieces: deque[bytes] = field(default_factory=deque)
    _waiting: asyncio.Future[None] | None = None
    _start: Message | None = None

    def came(self, piece: bytes) -> None:
        """A piece of the body arrived."""
        self._pieces.append(piece)
        self.held_bytes += len(piece) + PIECE_COSTS_BYTES
        if self.left_bytes is not None:
            self.left_bytes -= len(piece)
        self._wake()

    def ended(self) -> None:
        """The last byte of the request arrived."""
        self.is_whole = True
        self._wake()

    def cut(self) -> None:
        """The request broke off; what came before is still to be taken."""
        self.is_cut = True
        self._wake()

    def lost(self) -> None:
        """The line is gone, and with it the rest of the request."""
        self.is_gone = True
        self.cut()

    def drop_pieces(self) -> None:
        """Forget what nobody will take any more."""
        self._pieces.clear()
        self.held_bytes = 0

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def receive(self) -> Message:
        """The next piece of the body, or that the sender is gone; may be cancelled."""
        while not (self._pieces or self.is_whole or self.is_cut):
            self.give_leave()
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        if self._pieces:
            piece = self._pieces.popleft()
            self.held_bytes -= len(piece) + PIECE_COSTS_BYTES
            self.make_room()
            return {
                "type": "http.request",
                "body": piece,
                "more_body": bool(self._pieces) or not self.is_whole,
            }
        if self.is_cut and not self.is_whole:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    def give_leave(self) -> None:
        """Ask for the body, if its sender waits to be asked: one that nobody wants is never sent."""
        if self.awaits_leave and not self.is_answered:
            self.awaits_leave = False
            self.write(CONTINUE)

    def tap(self) -> Tap | None:
        """The rest of the body, to be read by whoever writes it; None where it comes in pieces alone.

        The pieces that came before are to be taken first. Whoever gets one closes it.
        """
        if self._pieces or self.is_whole or self.is_cut or not self.left_bytes:
            return None
        self.give_leave()
        return self.open_tap()

    async def send(self, message: Message) -> None:
        """Take the reply: one start, one body."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        if self._start is None or self.is_answered:
            raise RuntimeError("reply: expected one start and one body, found another order")
        if not self.is_whole:
            # What is still under way belongs to no request we would answer.
            self.keeps_line = False
        self.is_answered = True
        if not self.is_gone:
            self.write(
                encode(self._start["status"], self._start["headers"], message["body"], self.keeps_line)
            )

    def scope(self, scheme: str, client: tuple[str, int] | None) -> dict[str, Any]:
        """The request for an ASGI application."""
        return {
            "type": "http",
            "scheme": scheme,
            "client": client,
            "method": self.method,
            "path": self.target.decode("latin-1"),
            "raw_path": self.target,
            "headers": self.headers,
            "extensions": {TAP: self.tap},
        }


def encode(status: int, headers: Headers, body: bytes, keeps_line: bool) -> bytes:
    """A reply as it goes over the line (RFC 9112); a body goes out only with its length among the headers."""
    lines = [f"HTTP/1.1 {status} {_phrase(status)}".encode()]
    lines += [name + b": " + value for name, value in headers]
    lines.append(b"date: " + formatdate(usegmt=True).encode())
    lines.append(b"connection: keep-alive" if keeps_line else b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"  # 460 of tus is in no register.
