"""Requests that are cancelled, and cancelled again, while threads are at their bytes."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from ingest.tus.uploads import UploadStore
from ingest.tus.writer import writing
from tests.unit.ingest.test_tus_uploads import DOCK, Host

PIECE = bytes(range(256)) * 4096


def test_work_in_a_thread_is_waited_for_however_often_its_caller_is_cancelled(tmp_path: Path) -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)
        done.set()

    async def life(store: UploadStore) -> None:
        caller = asyncio.create_task(store.in_thread(work))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        for _ in range(3):
            caller.cancel()
            await asyncio.sleep(0.02)
            assert not caller.done(), "nobody may close a file that a thread still writes"
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert done.is_set()

    Host(tmp_path / "uploads").run(life)


@pytest.mark.parametrize("cancels", [1, 2, 3])
def test_body_cancelled_while_every_thread_is_busy_leaves_file_and_offset_agreed(
    tmp_path: Path, cancels: int
) -> None:
    go_on = threading.Event()

    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 8 * len(PIECE), "", "")

        async def send() -> None:
            async with store.claimed(upload), writing(store, upload, wanted_bytes=0) as writer:
                await writer.append(PIECE)
                for _ in range(16):
                    store._threads.submit(go_on.wait, 10)
                for _ in range(3):
                    await writer.append(PIECE)

        before = set(Path("/proc/self/fd").iterdir())
        sending = asyncio.create_task(send())
        await asyncio.sleep(0.1)
        for _ in range(cancels):
            sending.cancel()
            await asyncio.sleep(0.02)
            assert not sending.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert set(Path("/proc/self/fd").iterdir()) <= before
        assert not upload.lock.locked()
        kept = upload.offset_bytes
        assert kept % len(PIECE) == 0
        async with store.claimed(upload), writing(store, upload, wanted_bytes=0) as writer:
            for _ in range(8 - kept // len(PIECE)):
                await writer.append(PIECE)
        assert upload.is_whole
        assert upload.digest is not None
        whole = hashlib.sha256(PIECE * 8).digest()
        assert upload.digest.digests().sha256 == whole
        assert hashlib.sha256(upload.part_path.read_bytes()).digest() == whole

    Host(tmp_path / "uploads").run(life)
