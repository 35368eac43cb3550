"""What is on disk of an upload, and what each kind of crash leaves of it."""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import os
import resource
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from evidence.errors import Conflict, FixityError, InvalidInput, NotFound, Unavailable
from ingest.tus import writer as writer_module
from ingest.tus.checksums import Checksum
from ingest.tus.sealing import FinishedUpload, Sealer
from ingest.tus.state import (
    Phase,
    SealedUpload,
    UploadRecord,
    Watermark,
    encode_watermark,
    read_watermark,
)
from ingest.tus.upload import Upload
from ingest.tus.uploads import UploadLimits, UploadStore
from ingest.tus.writer import writing
from storage.db.credentials import Uploader

AGENCY = UUID("0190a000-0000-7000-8000-0000000000aa")
DOCK = Uploader(UUID(int=1), AGENCY, "CG01", dock_no="D1")
OTHER = Uploader(UUID(int=2), AGENCY, "CG01", dock_no="D2")
BOOT, NEXT_BOOT = UUID(int=11), UUID(int=12)
START = datetime(2026, 3, 4, 8, 0, tzinfo=UTC)


class SettableClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at


LIMITS = UploadLimits(max_upload_bytes=1 << 30, max_open_uploads=3, expiry_s=100, floor_bytes=0)


class Host:
    """An ingest host that can be stopped, killed and powered off, over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = SettableClock()
        self.limits = LIMITS
        self.boot = BOOT

    def run(self, work: Callable[[UploadStore], Awaitable[None]]) -> None:
        """One life of the process."""

        async def life() -> None:
            with UploadStore(self.folder, self.limits, self.clock, boot=self.boot, lock_wait_s=0.1) as store:
                await work(store)

        asyncio.run(life())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "uploads")


async def send(store: UploadStore, upload: Upload, data: bytes, checksum: Checksum | None = None) -> None:
    async with store.claimed(upload), writing(store, upload, wanted_bytes=len(data), checksum=checksum) as w:
        await w.append(data)


def test_record_and_watermark_come_back_as_written(tmp_path: Path) -> None:
    record = UploadRecord("h0.x", DOCK, 5, "filename YQ==", "127.0.0.1:5", START)
    sealed = SealedUpload(UUID(int=5), UUID(int=6), bytes(32), "received")
    for written in (record, record.completed(bytes(32), START).became(sealed)):
        written.write(tmp_path / "r.json")
        assert UploadRecord.read(tmp_path / "r.json") == written
    mark = Watermark(1 << 40, BOOT, START, provisional=True)
    (tmp_path / "m").write_bytes(encode_watermark(mark))
    assert read_watermark(tmp_path / "m") == mark


@pytest.mark.parametrize("damage", [b"", b"x" * 41, None])
def test_damaged_watermark_is_found(tmp_path: Path, damage: bytes | None) -> None:
    if damage is None:
        raw = bytearray(encode_watermark(Watermark(5, BOOT, START)))
        raw[7] ^= 1
        damage = bytes(raw)
    (tmp_path / "m").write_bytes(damage)
    with pytest.raises(FixityError):
        read_watermark(tmp_path / "m")


def test_stopped_host_goes_on_where_it_was(host: Host) -> None:
    ids: list[str] = []

    async def first(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        ids.append(upload.record.upload_id)
        await send(store, upload, b"01234")

    async def second(store: UploadStore) -> None:
        upload = store.find(ids[0], DOCK)
        assert upload.offset_bytes == 5
        await send(store, upload, b"56789")
        assert upload.is_whole
        assert upload.digest is not None
        assert upload.digest.digests().sha256 == hashlib.sha256(b"0123456789").digest()

    host.run(first)
    host.run(second)


def _leave(host: Host, *, on_disk: bytes, marked: int, provisional: bool = False) -> str:
    """What a host leaves that died with this much in the file and in the watermark."""
    ids: list[str] = []

    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        ids.append(upload.record.upload_id)

    host.run(life)
    (host.folder / f"{ids[0]}.part").write_bytes(on_disk)
    mark = Watermark(marked, host.boot, START, provisional)
    (host.folder / f"{ids[0]}.mark").write_bytes(encode_watermark(mark))
    return ids[0]


@pytest.mark.parametrize(
    ("next_boot", "provisional", "expected"),
    [(BOOT, False, 7), (NEXT_BOOT, False, 4), (BOOT, True, 4), (NEXT_BOOT, True, 4)],
    ids=["dead process", "power cut", "dead in a checksummed body", "power cut in one"],
)
def test_what_counts_after_a_crash(host: Host, next_boot: UUID, provisional: bool, expected: int) -> None:
    upload_id = _leave(host, on_disk=b"0123456", marked=4, provisional=provisional)
    host.boot = next_boot

    async def life(store: UploadStore) -> None:
        upload = store.find(upload_id, DOCK)
        assert upload.offset_bytes == expected
        assert upload.part_path.read_bytes() == b"0123456"[:expected]
        await send(store, upload, b"0123456789"[expected:])
        assert upload.digest is not None
        assert upload.digest.digests().sha256 == hashlib.sha256(b"0123456789").digest()

    host.run(life)


def test_bytes_past_the_length_never_count(host: Host) -> None:
    upload_id = _leave(host, on_disk=b"0123456789abc", marked=4)

    async def life(store: UploadStore) -> None:
        assert store.find(upload_id, DOCK).offset_bytes == 10

    host.run(life)


def test_files_nobody_was_told_of_are_cleared_and_damaged_records_are_kept(host: Host) -> None:
    upload_id = _leave(host, on_disk=b"01", marked=2)
    (host.folder / f"{upload_id}.json").write_bytes(b"{")
    (host.folder / "h0.orphan.part").write_bytes(b"x")

    async def life(store: UploadStore) -> None:
        with pytest.raises(NotFound):
            store.find(upload_id, DOCK)

    host.run(life)
    assert not (host.folder / "h0.orphan.part").exists()
    assert (host.folder / f"{upload_id}.part").read_bytes() == b"01"


def test_only_one_process_owns_the_folder(host: Host) -> None:
    async def life(_: UploadStore) -> None:
        with pytest.raises(Unavailable) as caught:
            UploadStore(host.folder, LIMITS, host.clock, lock_wait_s=0.1).__enter__()
        assert caught.value.code == "uploads_locked"

    host.run(life)


def test_other_token_finds_nothing_and_other_host_is_named(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload_id = (await store.create(DOCK, 10, "", "")).record.upload_id
        assert len(upload_id) > 32
        with pytest.raises(NotFound) as caught:
            store.find(upload_id, OTHER)
        with pytest.raises(NotFound) as absent:
            store.find("h0." + "x" * 32, OTHER)
        assert caught.value.message == absent.value.message
        with pytest.raises(Unavailable):
            store.find("h9." + "x" * 32, DOCK)
        for hostile in ("", "../lock", "lock", "h0.\x00"):
            with pytest.raises(NotFound):
                store.find(hostile, DOCK)

    host.run(life)


def test_token_has_a_bounded_number_of_open_uploads(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        made = await asyncio.gather(
            *(store.create(DOCK, 10, "", "") for _ in range(4)), return_exceptions=True
        )
        assert [type(result) for result in made].count(InvalidInput) == 1
        await store.create(OTHER, 10, "", "")
        first = next(upload for upload in made if isinstance(upload, Upload))
        await store.terminate(first)
        await store.create(DOCK, 10, "", "")

    host.run(life)


def test_expired_upload_is_gone_and_a_touched_one_stays(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        idle = await store.create(DOCK, 10, "", "")
        used = await store.create(DOCK, 10, "", "")
        host.clock.at += timedelta(seconds=60)
        await send(store, used, b"0")
        host.clock.at += timedelta(seconds=60)
        with pytest.raises(NotFound) as caught:
            store.find(idle.record.upload_id, DOCK)
        assert caught.value.code == "upload_expired"
        assert await store.drop_expired() == 1
        assert not idle.part_path.exists()
        assert not idle.record_path.exists()
        assert store.find(used.record.upload_id, DOCK) is used

    host.run(life)


def test_whole_upload_never_expires(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 1, "", "")
        await send(store, upload, b"0")
        host.clock.at += timedelta(days=9)
        assert await store.drop_expired() == 0
        with pytest.raises(Conflict):
            await store.terminate(upload)
        assert upload.part_path.read_bytes() == b"0"

    host.run(life)


def test_checksum_that_fails_leaves_nothing_of_the_body(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        await send(store, upload, b"01234")
        with pytest.raises(FixityError):
            await send(store, upload, b"56789", Checksum("sha1", bytes(20)))
        assert upload.offset_bytes == 5
        assert upload.part_path.read_bytes() == b"01234"
        good = Checksum("sha256", hashlib.sha256(b"56789").digest())
        await send(store, upload, b"56789", good)
        assert upload.digest is not None
        assert upload.digest.digests().sha256 == hashlib.sha256(b"0123456789").digest()

    host.run(life)


def test_cut_off_body_is_kept_but_not_one_under_a_checksum(host: Host) -> None:
    async def cut_off(store: UploadStore, upload: Upload, checksum: Checksum | None) -> None:
        with pytest.raises(ConnectionError):
            async with store.claimed(upload), writing(store, upload, wanted_bytes=3, checksum=checksum) as w:
                await w.append(b"01")
                raise ConnectionError

    async def life(store: UploadStore) -> None:
        plain, checked = await store.create(DOCK, 10, "", ""), await store.create(DOCK, 10, "", "")
        await cut_off(store, plain, None)
        await cut_off(store, checked, Checksum("sha1", bytes(20)))
        assert (plain.offset_bytes, checked.offset_bytes) == (2, 0)
        assert read_watermark(plain.mark_path).offset_bytes == 2
        assert not read_watermark(checked.mark_path).provisional

    host.run(life)


def test_long_body_is_acknowledged_on_the_way(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "BATCH_BYTES", 4)
    monkeypatch.setattr(writer_module, "SYNC_BYTES", 8)

    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 100, "", "")
        async with store.claimed(upload), writing(store, upload, wanted_bytes=100) as writer:
            for _ in range(20):
                await writer.append(b"0123")
            assert upload.offset_bytes >= 60
            assert read_watermark(upload.mark_path).offset_bytes == upload.offset_bytes
        assert upload.offset_bytes == 80

    host.run(life)


def test_body_longer_than_the_upload_is_cut_at_its_end(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 4, "", "")
        with pytest.raises(InvalidInput) as caught:
            await send(store, upload, b"012345")
        assert caught.value.code == "body_too_long"
        assert upload.part_path.read_bytes() == b"0123"
        assert upload.is_whole

    host.run(life)


def test_newer_claim_ends_the_wait_of_the_older_at_once(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        waiting = asyncio.Event()

        async def first() -> str:
            try:
                async with store.claimed(upload) as claim, upload.waiting(claim, 60):
                    waiting.set()
                    await asyncio.sleep(60)
            except Conflict as error:
                return error.code
            return "not interrupted"

        task = asyncio.create_task(first())
        await waiting.wait()
        async with asyncio.timeout(2), store.claimed(upload):
            pass
        assert await task == "upload_interrupted"

    host.run(life)


def test_only_the_newest_of_many_claims_gets_the_upload(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        got: list[int] = []

        async def contend(number: int) -> None:
            async with store.claimed(upload):
                got.append(number)
                await asyncio.sleep(0.01)

        outcomes = await asyncio.gather(*(contend(n) for n in range(5)), return_exceptions=True)
        assert got[-1] == 4
        assert all(outcome is None or isinstance(outcome, Conflict) for outcome in outcomes)

    host.run(life)


def test_low_disk_refuses_before_writing_and_the_upload_goes_on_later(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        await send(store, upload, b"01")
        store.limits = UploadLimits(1 << 30, 3, 100, floor_bytes=1 << 60)
        with pytest.raises(Unavailable) as caught:
            await send(store, upload, b"23")
        assert caught.value.code == "disk_full"
        store.limits = LIMITS
        await send(store, upload, b"23456789")
        assert upload.part_path.read_bytes() == b"0123456789"

    host.run(life)


def _sealer(store: UploadStore, seen: list[FinishedUpload], failures: list[Exception]) -> Sealer:
    def seal(finished: FinishedUpload) -> SealedUpload:
        seen.append(finished)
        if failures:
            raise failures.pop()
        return SealedUpload(UUID(int=7), UUID(int=8), finished.sha256, "received")

    return Sealer(store, seal)


def test_digest_is_recorded_before_the_bytes_may_move(host: Host) -> None:
    seen: list[FinishedUpload] = []
    ids: list[str] = []

    async def first(store: UploadStore) -> None:
        upload = await store.create(DOCK, 3, "", "")
        ids.append(upload.record.upload_id)
        await send(store, upload, b"abc")
        with pytest.raises(Unavailable):
            await _sealer(store, seen, [Unavailable("database: busy")]).settle(upload)
        on_disk = UploadRecord.read(upload.record_path)
        assert (on_disk.phase, on_disk.sha256) == (Phase.COMPLETE, hashlib.sha256(b"abc").digest())
        # The process dies here, after intake adopted the file and before it committed.
        upload.part_path.unlink()

    async def second(store: UploadStore) -> None:
        upload = store.find(ids[0], DOCK)
        assert upload.is_whole
        sealer = _sealer(store, seen, [])
        assert await sealer.sweep() == 0
        assert upload.record.sealed is not None
        assert (await sealer.settle(upload)).item_id == UUID(int=7)

    async def third(store: UploadStore) -> None:
        assert store.find(ids[0], DOCK).record.phase is Phase.SEALED

    host.run(first)
    host.run(second)
    host.run(third)
    assert len(seen) == 2
    assert {finished.sha256 for finished in seen} == {hashlib.sha256(b"abc").digest()}


def test_crash_after_the_last_byte_still_becomes_an_item(host: Host) -> None:
    upload_id = _leave(host, on_disk=b"0123456789", marked=10)
    seen: list[FinishedUpload] = []

    async def life(store: UploadStore) -> None:
        assert await _sealer(store, seen, []).sweep() == 0
        assert store.find(upload_id, DOCK).record.phase is Phase.SEALED

    host.run(life)
    assert seen[0].sha256 == hashlib.sha256(b"0123456789").digest()


def test_one_upload_that_cannot_be_sealed_does_not_hold_up_the_rest(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        uploads = [await store.create(DOCK, 1, "", "") for _ in range(3)]
        for upload in uploads:
            await send(store, upload, b"x")
        assert await _sealer(store, [], [ValueError("broken intake"), Unavailable("busy")]).sweep() == 2
        assert [upload.record.phase for upload in uploads].count(Phase.SEALED) == 1

    host.run(life)


def finished(metadata_raw: str, uploader: Uploader = DOCK) -> FinishedUpload:
    return FinishedUpload("h0.x", Path("x"), 3, bytes(32), metadata_raw, uploader, START, START, "")


def test_metadata_becomes_claims_of_the_dock() -> None:
    # case_no=2024-1, filename=城.mp4 in GBK, sha256=zeros
    staged = finished(
        "case_no MjAyNC0x,filename s8cubXA0,sha256 " + _b64("00" * 32) + ",vendor eA=="
    ).staged()
    assert [(said.field, said.value) for said in staged.claims] == [("case_no", "2024-1")]
    assert staged.original_name_raw == "城.mp4".encode("gbk")
    assert staged.declared_sha256 == bytes(32)
    assert staged.metadata["vendor"] == "x"
    assert staged.reception_key == "tus:h0.x"
    assert staged.dock_no == "D1"


def test_declared_digest_that_is_none_is_a_finding_not_a_refusal() -> None:
    staged = finished("sha256 " + _b64("nonsense")).staged()
    assert staged.declared_sha256 is None
    assert [code for code, _ in staged.findings] == ["declared_digest_unreadable"]


def test_token_of_one_device_speaks_for_no_other() -> None:
    camera = Uploader(UUID(int=3), AGENCY, "CG01", "D1", device_no="0000007")
    staged = finished("device_no " + _b64("0000009"), camera).staged()
    assert [(said.field, said.value) for said in staged.claims] == [("device_no", "0000007")]
    assert [code for code, _ in staged.findings] == ["device_contradicts_token"]
    assert staged.metadata["device_no"] == "0000009"


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_write_error_on_the_way_keeps_what_was_acknowledged(host: Host) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 1 << 20, "", "")
        await send(store, upload, b"01")
        # A file size limit makes the kernel refuse the rest, as a full disk does.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(Unavailable) as caught:
                await send(store, upload, bytes(5000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.code == "disk_full"
        assert upload.offset_bytes == upload.part_path.stat().st_size == 1000
        await send(store, upload, bytes((1 << 20) - 1000))
        assert upload.digest is not None
        assert upload.digest.digests().sha256 == hashlib.sha256(b"01" + bytes((1 << 20) - 2)).digest()

    host.run(life)


def test_sync_that_failed_once_is_never_asked_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error of fdatasync the kernel may drop the pages and report success the next time."""
    real, failures = os.fdatasync, [OSError(errno.EIO, "Input/output error")]

    def fdatasync(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        real(descriptor)

    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 10, "", "")
        await send(store, upload, b"01")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", fdatasync)
            with pytest.raises(Unavailable) as caught:
                await send(store, upload, b"234")
        assert caught.value.code == "store_io"
        assert upload.offset_bytes == 2
        assert upload.part_path.read_bytes() == b"01"
        await send(store, upload, b"23456789")
        assert upload.digest is not None
        assert upload.digest.digests().sha256 == hashlib.sha256(b"0123456789").digest()

    host.run(life)


def test_part_file_that_was_lost_does_not_stop_the_host(host: Host) -> None:
    upload_id = _leave(host, on_disk=b"0123", marked=4)
    (host.folder / f"{upload_id}.part").unlink()

    async def life(store: UploadStore) -> None:
        assert store.find(upload_id, DOCK).offset_bytes == 0

    host.run(life)


@pytest.mark.parametrize(("written_first", "expected"), [(0, 4), (2, 6)], ids=["failed write", "short write"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_after_one_failed_write_nothing_behind_it_is_written_or_acknowledged(
    host: Host, monkeypatch: pytest.MonkeyPatch, number: int, written_first: int, expected: int
) -> None:
    """The disk fails once and would take the next batch again: that batch must not fill the gap."""
    monkeypatch.setattr(writer_module, "BATCH_BYTES", 4)
    real, calls = os.pwritev, 0

    def pwritev(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2 and written_first:
            return real(descriptor, [buffers[0][:written_first]], offset)
        if calls == 2 + bool(written_first):
            raise OSError(number, os.strerror(number))
        return real(descriptor, buffers, offset)

    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 16, "", "")
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwritev", pwritev)
            with pytest.raises(Unavailable):
                async with store.claimed(upload), writing(store, upload, wanted_bytes=16) as w:
                    for piece in (b"0123", b"4567", b"89ab", b"cdef"):
                        await w.append(piece)
        assert upload.offset_bytes == expected == read_watermark(upload.mark_path).offset_bytes
        assert upload.part_path.read_bytes() == b"0123456789abcdef"[:expected]
        await send(store, upload, b"0123456789abcdef"[expected:])
        assert upload.digest is not None
        assert upload.digest.digests().sha256 == hashlib.sha256(b"0123456789abcdef").digest()
        assert upload.part_path.read_bytes() == b"0123456789abcdef"

    host.run(life)


def test_disk_that_takes_no_bytes_without_an_error_ends_the_request(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def life(store: UploadStore) -> None:
        upload = await store.create(DOCK, 4, "", "")
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwritev", lambda *_: 0)
            with pytest.raises(Unavailable):
                await send(store, upload, b"0123")
        assert upload.offset_bytes == 0
        await send(store, upload, b"0123")

    host.run(life)
