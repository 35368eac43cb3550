"""The disk work of pushing docks, in threads: a slow sync holds up the transfer it is for, and nobody else.

A listener's event loop never waits for the disk. Work of one transfer is in order because each piece is
waited for before the next is begun. A dock has so many works in hand at once and no more, so that one dock
leaves threads to the others; logins are checked elsewhere. Work that was begun is done, also when the
connection it was for is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from ingest.sources.dropbox_shelf import Dock

Result = TypeVar("Result")
log = structlog.get_logger(__name__)

THREADS = 64
AT_ONCE_PER_DOCK = 8


class DiskThreads:
    """The threads of one listener; used from its event loop alone."""

    def __init__(self, listener: str) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"push-{listener}")
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def do(
        self, dock: Dock, work: Callable[[], Result], undo: Callable[[Result], object] | None = None
    ) -> Result:
        """Have something done that waits for the disk.

        Args:
            undo: Given the result where nobody is there any more to take it.
        """
        turn = self._turns.setdefault(dock.key, asyncio.Semaphore(AT_ONCE_PER_DOCK))
        await turn.acquire()
        loop = asyncio.get_running_loop()
        begun = self._pool.submit(work)
        begun.add_done_callback(lambda _: _release(loop, turn))
        try:
            return await asyncio.shield(asyncio.wrap_future(begun))
        except asyncio.CancelledError:
            if undo is not None:
                begun.add_done_callback(lambda done: _undo(done, undo))
            raise

    def close(self) -> None:
        """Take no more; what was begun is brought to its end."""
        self._pool.shutdown(wait=False)


def in_background(work: Callable[[], object]) -> None:
    """Have something tidied up that nobody waits for, wherever it is asked for."""

    def tidy() -> None:
        try:
            work()
        except Exception:
            # Nobody waits for it; the next start tidies what is left.
            log.exception("push:not_tidied")

    threading.Thread(target=tidy, name="push-tidy", daemon=True).start()


def _undo(done: Future[Result], undo: Callable[[Result], object]) -> None:
    if not done.cancelled() and done.exception() is None:
        result = done.result()
        in_background(lambda: undo(result))


def _release(loop: asyncio.AbstractEventLoop, turn: asyncio.Semaphore) -> None:
    with contextlib.suppress(RuntimeError):  # The loop has ended, and with it who waited.
        loop.call_soon_threadsafe(turn.release)
