"""Writing the body of one request into one upload, batch by batch.

Order of an acknowledgement: write, ``fdatasync`` of the bytes, then the watermark and its
``fdatasync``, then the offset in memory, which is what a sender may be told. Bytes are hashed
as they are written, so that digest and file never disagree. One batch is written while the
next arrives; when the disk is slower than the sender, the sender waits.

After one write that failed nothing more is written in the request, even if the disk would take
it: what follows a gap must not be acknowledged as if the gap were filled.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from evidence.errors import EvidenceError, InvalidInput
from evidence.fixity import StreamingDigest
from ingest.tus.checksums import Checksum
from ingest.tus.state import Watermark, write_watermark
from ingest.tus.upload import Upload
from ingest.tus.uploads import UploadStore
from storage.objects.durable import translated

log = structlog.get_logger(__name__)

BATCH_BYTES = 512 << 10
"""Below this the thread switches cost more than the writing; above it memory grows and speed does not."""
LEAST_BATCH_BYTES = 64 << 10
BATCHES_BYTES = 64 << 20
"""Of all bodies together: where many are written at once, each gets a smaller batch."""
SYNC_BYTES = 64 << 20
SYNC_S = 5.0
"""How much, or how long, an unbroken body goes on without a new watermark: it bounds what a
power cut costs. What is acknowledged is always below the watermark."""
PIECE_COSTS_BYTES = 64
"""What a piece takes beside its bytes."""
BLOCK_BYTES = 512 << 10
PUMP_BYTES = 8 << 20
"""What one turn in a thread takes at most, before others have theirs."""
_VECTOR = 512
"""Buffers handed to one system call, below IOV_MAX."""


_own = threading.local()


def _block() -> memoryview:
    """The calling thread's block."""
    if not hasattr(_own, "block"):
        _own.block = memoryview(bytearray(BLOCK_BYTES))
    found: memoryview = _own.block
    return found


@contextlib.asynccontextmanager
async def writing(
    store: UploadStore, upload: Upload, *, wanted_bytes: int, checksum: Checksum | None = None
) -> AsyncIterator[Writer]:
    """Write the body of one request; the caller holds the upload's claim.

    On a normal exit everything appended is acknowledged. On an exception everything written
    so far is, except under a checksum: then nothing of the body counts.

    Raises:
        FixityError: The body is not what its checksum says (``checksum_mismatch``).
        Unavailable: The disk is full (``disk_full``) or failing; what was acknowledged stays.
    """
    writer = Writer(store, upload, checksum)
    store.writer_count += 1
    try:
        await writer.open(wanted_bytes)
        try:
            yield writer
        except BaseException:
            await writer.keep_what_came()
            raise
        await writer.finish()
    finally:
        store.writer_count -= 1
        writer.close()


class Writer:
    """The one writer of an upload, inside `writing`."""

    def __init__(self, store: UploadStore, upload: Upload, checksum: Checksum | None) -> None:
        self._store = store
        self._upload = upload
        self._checksum = checksum
        self._digest = StreamingDigest()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        length = upload.record.length_bytes
        self._end_bytes = store.limits.max_upload_bytes if length is None else length
        self._left_bytes = self._end_bytes - upload.offset_bytes
        self._written_bytes = upload.offset_bytes
        self._in_flight: asyncio.Task[None] | None = None
        self._synced_at = time.monotonic()
        self._is_doubtful = False
        self._is_broken = False
        self._part = -1
        self._mark = -1

    async def open(self, wanted_bytes: int) -> None:
        """See that there is room, open the files, make the running digest where it is missing."""
        self._store.require_room(self._upload, wanted_bytes)
        await self._store.in_thread(self._open)

    def _open(self) -> None:
        upload = self._upload
        with translated("upload"):
            self._part = os.open(upload.part_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._mark = os.open(upload.mark_path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(self._part).st_size != upload.offset_bytes:
                # Left by a request whose roll-back failed; it was never acknowledged.
                os.ftruncate(self._part, upload.offset_bytes)
            if upload.digest is None:
                digest = StreamingDigest()
                digest.follow(self._part)
                upload.digest = digest
            self._digest = upload.digest.copy()
            if self._checksum is not None:
                mark = Watermark(upload.offset_bytes, self._store.boot, upload.touched_at, provisional=True)
                write_watermark(self._mark, mark, durable=False)

    async def append(self, data: bytes) -> None:
        """Take the next bytes of the body; returns at once unless the disk is behind.

        Raises:
            InvalidInput: The body is longer than the upload; what fits is kept (``body_too_long``).
        """
        fits = data[: self._left_bytes]
        self._left_bytes -= len(fits)
        self._batch.append(fits)
        self._batch_bytes += len(fits) + PIECE_COSTS_BYTES
        share_bytes = max(LEAST_BATCH_BYTES, BATCHES_BYTES // self._store.writer_count)
        is_due = time.monotonic() - self._synced_at >= SYNC_S
        if is_due or self._batch_bytes >= min(BATCH_BYTES, share_bytes):
            await self._send_batch()
        if len(fits) < len(data):
            raise self._too_long()

    async def pump(self, fill: Callable[[memoryview], int]) -> int:
        """Take the next bytes of the body from where they come, in the thread that writes them.

        Args:
            fill: Called in a thread: reads into a block as much as is there, and says how much.

        Returns:
            How many bytes; 0 when nothing was there.

        Raises:
            InvalidInput: As `append`.
        """
        await self._send_batch()
        await self._drained()
        came_bytes = await self._store.in_thread(self._pump, fill)
        await self._keep_up()
        return came_bytes

    def _pump(self, fill: Callable[[memoryview], int]) -> int:
        came_bytes = 0
        while came_bytes < PUMP_BYTES:
            if not self._left_bytes:
                raise self._too_long()
            block = _block()[: self._left_bytes]
            count = fill(block)
            if count:
                self._left_bytes -= count
                self._write([block[:count]])
                came_bytes += count
            if count < len(block) or not self._left_bytes:
                break
        return came_bytes

    def _too_long(self) -> InvalidInput:
        return InvalidInput(
            f"body: expected {self._end_bytes} bytes in all, found more", code="body_too_long"
        )

    async def _send_batch(self) -> None:
        """Hand the batch to a thread once the last one is done; after a failed write drop it."""
        await self._drained()
        if self._is_broken:
            self._batch, self._batch_bytes = [], 0
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._in_flight = asyncio.create_task(self._write_batch(batch))

    async def _drained(self) -> None:
        task, self._in_flight = self._in_flight, None
        if task is not None:
            await task

    async def _write_batch(self, batch: list[bytes]) -> None:
        await self._store.in_thread(self._write, batch)
        await self._keep_up()

    async def _keep_up(self) -> None:
        """Acknowledge what is written of a long body, and look at disk and bounds again."""
        is_due = (
            self._written_bytes - self._upload.offset_bytes >= SYNC_BYTES
            or time.monotonic() - self._synced_at >= SYNC_S
        )
        if is_due:
            if self._checksum is None:
                await self._acknowledge()
            self._store.require_room(self._upload, 0, self._written_bytes - self._upload.offset_bytes)

    def _write(self, batch: Sequence[bytes | memoryview]) -> None:
        views = [memoryview(data) for data in batch if data]
        first = 0
        with translated("upload"):
            while first < len(views):
                try:
                    count = os.pwritev(self._part, views[first : first + _VECTOR], self._written_bytes)
                    if count == 0:
                        raise OSError(errno.EIO, "the disk took no bytes")
                except OSError:
                    self._is_broken = True
                    raise
                self._written_bytes += count
                while count:
                    done = views[first][:count]
                    self._digest.update(done)
                    if self._checksum is not None:
                        self._checksum.update(done)
                    count -= len(done)
                    views[first] = views[first][len(done) :]
                    first += not views[first]

    async def finish(self) -> None:
        """Acknowledge the whole body, or under a checksum that fails nothing of it."""
        try:
            await self._send_batch()
            await self._drained()
            if self._checksum is not None:
                self._checksum.require_match()
            await self._acknowledge()
        except EvidenceError:
            await self.keep_what_came()
            raise

    async def keep_what_came(self) -> None:
        """Acknowledge what is written of a body that was cut off; under a checksum drop it all.

        After a write that failed only the bytes before it count, and the batch behind it is dropped.
        A failure here only means that less is acknowledged: the error that led here is the one to tell.
        """
        try:
            if self._checksum is None:
                await self._drained()
                await self._send_batch()
                await self._drained()
        except EvidenceError as error:
            log.warning("upload:rest_not_written", detail=error.message)
        try:
            # A sync that failed once must not be asked again: the kernel may have dropped the pages
            # and would say yes. What it was to cover is cut off, and the sender sends it again.
            if self._checksum is not None or self._is_doubtful:
                await self._roll_back()
            else:
                await self._acknowledge()
        except EvidenceError as error:
            log.warning("upload:rest_not_acknowledged", detail=error.message)

    async def _acknowledge(self) -> None:
        written, now = self._written_bytes, self._store.clock.now()
        await self._store.in_thread(self._sync, Watermark(written, self._store.boot, now))
        self._synced_at = time.monotonic()
        self._upload.touched_at = now
        self._upload.digest = self._digest.copy()
        self._upload.offset_bytes = written

    def _sync(self, mark: Watermark) -> None:
        with translated("upload"):
            try:
                if self._is_broken:
                    # Whatever the failed write left past what it reported is none of the upload.
                    os.ftruncate(self._part, mark.offset_bytes)
                os.fdatasync(self._part)
                write_watermark(self._mark, mark)
            except OSError:
                self._is_doubtful = True
                raise

    async def _roll_back(self) -> None:
        with contextlib.suppress(EvidenceError):  # Of a batch whose bytes go anyway.
            await self._drained()
        await self._store.in_thread(self._cut_back)

    def _cut_back(self) -> None:
        upload = self._upload
        with translated("upload"):
            os.ftruncate(self._part, upload.offset_bytes)
            write_watermark(self._mark, Watermark(upload.offset_bytes, self._store.boot, upload.touched_at))

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._part, self._mark):
            if descriptor >= 0:
                os.close(descriptor)
