"""A machine that stops before any system call of a concatenation loses nothing and doubles nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from evidence.errors import Conflict, EvidenceError, NotFound
from ingest.tus import joining
from ingest.tus.joining import make_final
from ingest.tus.sealing import Sealer
from ingest.tus.uploads import UploadLimits, UploadStore
from ingest.tus.writer import writing
from storage.db.credentials import Uploader
from tests.integration.tus_server import Register, open_objects

DOCK = Uploader(UUID(int=1), UUID("0190a000-0000-7000-8000-0000000000aa"), "CG01", "D1")
LIMITS = UploadLimits(max_upload_bytes=1 << 30, max_open_uploads=8, expiry_s=100, floor_bytes=0)
PARTS = (os.urandom(70_000), os.urandom(90_000))
DIGEST = hashlib.sha256(b"".join(PARTS)).hexdigest()
BOOT, NEXT_BOOT = UUID(int=11), UUID(int=12)
CALLS = ("pwritev", "pwrite", "fdatasync", "fsync", "ftruncate", "replace", "unlink", "link")


class SettableClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 4, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@dataclass
class Dock:
    """A sender, and what it was told so far: all it may go by after a crash."""

    told: dict[int, str] = field(default_factory=dict)

    async def hand_in(self, store: UploadStore, sealer: Sealer) -> None:
        """Everything from the first part to the item, going on from wherever it is."""
        for number, data in enumerate(PARTS):
            with contextlib.suppress(NotFound):
                store.find(self.told.get(number, "h0.none"), DOCK)
                await self._send(store, sealer, number, data)
                continue
            upload = await store.create(DOCK, len(data), "", "", is_partial=True)
            self.told[number] = upload.record.upload_id
            await self._send(store, sealer, number, data)
        parts = tuple(self.told[number] for number in range(len(PARTS)))
        final = await make_final(store, DOCK, parts, "filename YQ==", "")
        await sealer.settle(final)

    async def _send(self, store: UploadStore, sealer: Sealer, number: int, data: bytes) -> None:
        upload = store.find(self.told[number], DOCK)
        if not upload.is_whole:
            rest = data[upload.offset_bytes :]
            async with store.claimed(upload), writing(store, upload, wanted_bytes=len(rest)) as writer:
                await writer.append(rest)
        await sealer.settle(upload)


def live(data: Path, work: Callable[[UploadStore, Sealer], object], boot: UUID = BOOT) -> list[str]:
    """One life of the process; the digests of all items there are at its end."""
    register = Register(data / "items", open_objects(data))

    async def life() -> None:
        with UploadStore(data / "uploads", LIMITS, SettableClock(), boot=boot) as store:
            sealer = Sealer(store, register.seal)
            await work(store, sealer)  # type: ignore[misc]
            sealer.close()

    asyncio.run(life())
    return [item["sha256"] for item in register.items()]


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what syncs cost: here it matters when they are asked for, not what the kernel does."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _descriptor: None)


@contextlib.contextmanager
def before_each_call(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], None]) -> Iterator[None]:
    """Have ``act`` run before each system call that changes the disk."""

    def watched(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            act(name)
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for name in CALLS:
            patched.setattr(os, name, watched(name, getattr(os, name)))
        yield


@pytest.mark.parametrize("boot", [BOOT, NEXT_BOOT], ids=["process killed", "machine restarted"])
def test_stop_before_any_call_ends_in_exactly_one_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: UUID
) -> None:
    dock, snapshots = Dock(), list[tuple[Path, dict[int, str]]]()
    data = tmp_path / "data"
    data.mkdir()
    open_objects(data)

    def snapshot(_: str) -> None:
        folder = tmp_path / f"stopped-{len(snapshots)}"
        shutil.copytree(data, folder)
        snapshots.append((folder, dict(dock.told)))

    # Copying uses none of the calls that are watched.
    with before_each_call(monkeypatch, snapshot):
        assert live(data, dock.hand_in) == [DIGEST]
    assert len(snapshots) > 40
    for folder, told in snapshots:
        assert live(folder, Dock(told).hand_in, boot) == [DIGEST], folder.name
        left = {path.name for path in (folder / "uploads").iterdir() if path.suffix in {".part", ".mark"}}
        spare = {f"{name}{suffix}" for name in _unfinished(folder, told) for suffix in (".part", ".mark")}
        assert left <= spare, folder.name
        shutil.rmtree(folder)


def _unfinished(folder: Path, told: dict[int, str]) -> set[str]:
    """Uploads nobody was told of before the stop: they expire."""
    return {path.stem for path in (folder / "uploads").glob("*.json")} - set(told.values())


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_error_of_any_call_is_told_and_the_next_try_ends_in_exactly_one_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """One upload after another; in each the next call fails, until one gets through without."""
    calls, failing = 0, 0

    def fail(name: str) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(number, os.strerror(number))

    async def all_tries(store: UploadStore, sealer: Sealer) -> None:
        nonlocal calls, failing
        while True:
            dock, calls, failing = Dock(), 0, failing + 1
            offsets: dict[str, int] = {}
            with before_each_call(monkeypatch, fail):
                try:
                    await dock.hand_in(store, sealer)
                except (EvidenceError, OSError):
                    offsets = {name: store.get(name).offset_bytes for name in dock.told.values()}
            if calls < failing:
                return
            for name, offset in offsets.items():
                assert store.get(name).offset_bytes >= offset
            await dock.hand_in(store, sealer)

    assert set(live(tmp_path, all_tries)) == {DIGEST}
    assert failing > 40


def test_parts_wait_for_their_final_upload_and_no_longer(tmp_path: Path) -> None:
    async def work(store: UploadStore, sealer: Sealer) -> None:
        clock = store.clock
        assert isinstance(clock, SettableClock)
        kept, lost = [await store.create(DOCK, 0, "", "", is_partial=True) for _ in range(2)]
        for part in (kept, lost):
            await sealer.settle(part)
        final = await make_final(store, DOCK, (kept.record.upload_id,), "", "")
        clock.at += timedelta(seconds=101)
        assert await store.drop_expired() == 1
        with pytest.raises(NotFound):
            store.get(lost.record.upload_id)
        assert store.find(kept.record.upload_id, DOCK) is kept
        await sealer.settle(final)
        clock.at += timedelta(seconds=101)
        assert await store.drop_expired() == 2

    assert live(tmp_path, work) == [hashlib.sha256(b"").hexdigest()]


def test_stopping_host_does_not_wait_for_a_long_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "READ_BYTES", 4096)
    dock = Dock()

    async def stopped(store: UploadStore, sealer: Sealer) -> None:
        reads, real = 0, os.pread

        def pread(descriptor: int, count: int, offset: int) -> bytes:
            nonlocal reads
            reads += 1
            if reads == 20:  # In the middle of the second part.
                loop.call_soon_threadsafe(store.interrupt_all)
                time.sleep(0.1)
            return real(descriptor, count, offset)

        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", pread)
            with pytest.raises(Conflict):
                await dock.hand_in(store, sealer)
        final = store.final_of(store.get(dock.told[0]))
        assert final is not None
        assert final.offset_bytes == len(PARTS[0])
        assert final.part_path.read_bytes() == PARTS[0]

    assert live(tmp_path, stopped) == []
    assert live(tmp_path, dock.hand_in) == [DIGEST]


def test_final_upload_left_by_a_stop_is_joined_without_its_sender(tmp_path: Path) -> None:
    async def promised(store: UploadStore, sealer: Sealer) -> None:
        part = await store.create(DOCK, 3, "", "", is_partial=True)
        async with store.claimed(part), writing(store, part, wanted_bytes=3) as writer:
            await writer.append(b"abc")
        await sealer.settle(part)
        await make_final(store, DOCK, (part.record.upload_id,), "", "")

    async def swept(store: UploadStore, sealer: Sealer) -> None:
        assert await sealer.sweep() == 0
        await sealer.stopped()

    assert live(tmp_path, promised) == []
    assert live(tmp_path, swept) == [hashlib.sha256(b"abc").hexdigest()]
