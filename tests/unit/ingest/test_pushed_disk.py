"""Threads for disk work of pushing docks: one dock takes them from no other, and nothing begun is lost."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from uuid import UUID

import pytest

from ingest.daemon.pushed_disk import AT_ONCE_PER_DOCK, DiskThreads
from ingest.sources.dropbox_shelf import Dock

DOCK = Dock(UUID("0190a000-0000-7000-8000-0000000000aa"), "D-1", None, "token:1")
OTHER = replace(DOCK, dock_no="D-2")


def test_dock_whose_disk_hangs_takes_no_threads_from_another() -> None:
    hanging = threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        assert hanging.wait(20)

    async def run() -> None:
        disk = DiskThreads("test")
        stuck = [asyncio.create_task(disk.do(DOCK, hang)) for _ in range(10 * AT_ONCE_PER_DOCK)]
        for _ in range(AT_ONCE_PER_DOCK):
            assert await asyncio.to_thread(begun.acquire, timeout=5)
        assert await asyncio.wait_for(disk.do(OTHER, lambda: "done"), 5) == "done"
        assert not begun.acquire(blocking=False), "no more at once than a dock may have"
        # A dock that goes and comes again gets no more either: what was begun is still in hand.
        for each in stuck:
            each.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        again = asyncio.create_task(disk.do(DOCK, lambda: "again"))
        await asyncio.sleep(0.05)
        assert not again.done()
        hanging.set()
        assert await asyncio.wait_for(again, 5) == "again"
        disk.close()

    asyncio.run(run())


def test_result_nobody_is_there_to_take_is_undone() -> None:
    going, undone = threading.Event(), threading.Event()

    def begin() -> str:
        assert going.wait(10)
        return "opened"

    async def run() -> None:
        disk = DiskThreads("test")
        waiting = asyncio.create_task(
            disk.do(DOCK, begin, undo=lambda result: undone.set() if result == "opened" else None)
        )
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        disk.close()
        going.set()
        assert await asyncio.to_thread(undone.wait, 5)

    asyncio.run(run())
