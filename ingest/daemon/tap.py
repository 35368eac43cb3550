"""A body whose length is known, read off its socket by the thread that hashes and writes it.

The event loop only waits until there is something to read. Bytes then go from the socket through one block
of the thread's own (`ingest.tus.writer`) to digest and disk, warm in its cache, without a queue between
threads: what uploads hold in memory is one block for each thread, whatever the number of senders.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable

LINGER_S = 0.02
"""A fast sender is waited for in the thread that long in all: going back to the loop for every few kilobytes
costs more than they do, and a thread is not to be had for a trickle."""
FAST_BYTES = 64 << 10
"""What must have come at once for a sender to be fast."""


class Tap:
    """The rest of one body, straight from the socket.

    Args:
        descriptor: A descriptor of the socket, not blocking, that is ours to close.
        left_bytes: How much of the body is to come.
        closed: Told once, when nobody will read from here any more.
    """

    def __init__(self, descriptor: int, left_bytes: int, closed: Callable[[Tap], None]) -> None:
        self._descriptor = descriptor
        self._closed = closed
        self.left_bytes = left_bytes
        self.is_cut = False
        """Whether the sender went before the end."""

    async def readable(self) -> None:
        """Wait until bytes came or the sender went; may be cancelled."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_reader(self._descriptor, came.set)
        try:
            await came.wait()
        finally:
            loop.remove_reader(self._descriptor)

    def fill(self, into: memoryview) -> int:
        """Read what is there, and of a fast sender what comes in a moment, up to the block or the body's end.

        Called in a thread.

        Returns:
            How many bytes; 0 when nothing is there, or the sender is gone.
        """
        most_bytes = min(len(into), self.left_bytes)
        have_bytes = 0
        waits_until: float | None = None
        while have_bytes < most_bytes and not self.is_cut:
            try:
                count = os.readv(self._descriptor, [into[have_bytes:most_bytes]])
            except BlockingIOError:
                now = time.monotonic()
                waits_until = waits_until or now + LINGER_S
                if have_bytes < FAST_BYTES or not self._comes_within(waits_until - now):
                    break
                continue
            except OSError:
                count = 0  # Reset, timed out, no way there any more: it is gone.
            self.is_cut = count == 0
            have_bytes += count
        self.left_bytes -= have_bytes
        return have_bytes

    def _comes_within(self, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return seconds > 0 and bool(waiting.poll(seconds * 1000))

    def close(self) -> None:
        """Let go of the socket, at the end of the body or before."""
        os.close(self._descriptor)
        self._closed(self)
