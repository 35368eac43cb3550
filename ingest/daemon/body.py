"""The body of one request as it arrives: no longer than its sender deserves to be waited for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from evidence.errors import Unavailable
from ingest.tus.upload import Upload

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

RATE_WINDOW_S = 60.0


class ClientGone(Exception):
    """The sender closed the connection before its body ended; nobody is there to answer."""


@dataclass(frozen=True)
class Patience:
    """How long a sender is waited for."""

    read_deadline_s: float = 30.0
    """Without a byte."""
    min_rate_bytes_s: int = 0
    """Over each window of waiting; 0 lets any rate be."""
    window_s: float = RATE_WINDOW_S


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False

    async def chunks(self, upload: Upload, claim: int, patience: Patience) -> AsyncIterator[bytes]:
        """The body piece by piece, as long as the claim holds and bytes keep coming.

        The rate counts only time spent waiting for the sender: a slow disk of ours is not its fault.

        Raises:
            ClientGone: The connection ended first.
            Conflict: A newer request took the upload over.
            Unavailable: No byte came within the deadline (``read_deadline``), or too few over a
                window of waiting (``too_slow``).
        """
        waited_s, came_bytes = 0.0, 0
        while not self.ended:
            asked_at = time.monotonic()
            async with upload.waiting(claim, patience.read_deadline_s):
                message = await self._receive()
            waited_s += time.monotonic() - asked_at
            piece = self._piece(message)
            came_bytes += len(piece)
            yield piece
            if waited_s < patience.window_s:
                continue
            if came_bytes < patience.min_rate_bytes_s * waited_s:
                raise Unavailable(
                    f"body: expected {patience.min_rate_bytes_s} bytes a second, found {came_bytes} in "
                    f"{waited_s:.0f} s; what came is kept, ask with HEAD and go on",
                    code="too_slow",
                )
            waited_s, came_bytes = 0.0, 0

    def _piece(self, message: Message) -> bytes:
        if message["type"] != "http.request":
            self.ended = True
            raise ClientGone
        self.ended = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece
