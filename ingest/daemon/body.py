"""The body of one request as it arrives: no longer than its sender deserves to be waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from evidence.errors import Unavailable
from ingest.daemon.tap import Tap
from ingest.tus.upload import Upload
from ingest.tus.writer import Writer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

RATE_WINDOW_S = 60.0


def no_tap() -> Tap | None:
    """Of a server that has none: the body comes in pieces."""
    return None


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
    """The body of one request.

    Args:
        receive: Of the ASGI server.
        tap: The rest of it straight from the socket, where the server can; see `ingest.daemon.tap`.
    """

    def __init__(self, receive: Receive, tap: Callable[[], Tap | None] = no_tap) -> None:
        self._receive = receive
        self._tap = tap
        self._is_ended = False

    async def pour(self, upload: Upload, claim: int, patience: Patience, writer: Writer) -> None:
        """Write it, as long as the claim holds and bytes keep coming.

        The rate counts only time spent waiting for the sender: a slow disk of ours is not its fault.

        Raises:
            ClientGone: The connection ended first.
            Conflict: A newer request took the upload over.
            Unavailable: No byte came within the deadline (``read_deadline``), or too few over a
                window of waiting (``too_slow``).
            EvidenceError: As `Writer.append`.
        """
        rate = _Rate(patience)
        while not self._is_ended:
            tap = self._tap()
            if tap is not None:
                with contextlib.closing(tap):
                    await self._pour_from(tap, upload, claim, rate, writer)
                return
            async with upload.waiting(claim, patience.read_deadline_s), rate.waiting():
                piece = self._piece(await self._receive())
            await writer.append(piece)
            rate.require(len(piece))

    async def _pour_from(self, tap: Tap, upload: Upload, claim: int, rate: _Rate, writer: Writer) -> None:
        while tap.left_bytes:
            async with upload.waiting(claim, rate.patience.read_deadline_s), rate.waiting():
                await tap.readable()
            # Whoever takes the upload over is not kept waiting for a slow disk to have it all.
            came_bytes = await writer.pump(lambda into: tap.fill(into) if upload.is_held_by(claim) else 0)
            if tap.is_cut and tap.left_bytes:
                raise ClientGone
            rate.require(came_bytes)
        self._is_ended = True

    def _piece(self, message: Message) -> bytes:
        if message["type"] != "http.request":
            self._is_ended = True
            raise ClientGone
        self._is_ended = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


class _Rate:
    """How fast a sender is, over each window of waiting for it."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._waited_s, self._came_bytes = 0.0, 0

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        asked_at = time.monotonic()
        yield
        self._waited_s += time.monotonic() - asked_at

    def require(self, came_bytes: int) -> None:
        """Count what came.

        Raises:
            Unavailable: Too little over the window (``too_slow``).
        """
        self._came_bytes += came_bytes
        if self._waited_s < self.patience.window_s:
            return
        least = self.patience.min_rate_bytes_s
        if self._came_bytes < least * self._waited_s:
            raise Unavailable(
                f"body: expected {least} bytes a second, found {self._came_bytes} in {self._waited_s:.0f} s; "
                "what came is kept, ask with HEAD and go on",
                code="too_slow",
            )
        self._waited_s, self._came_bytes = 0.0, 0
