"""Open uploads on this host's disk: made, found again, recovered, dropped.

What holds (docs/design/storage.md, invariants 1 and 5):

1. `Upload.offset_bytes` is the last synced length. It never goes back.
2. An upload belongs to the token that made it; for every other token it is not there.
3. At most one `Writer` exists per upload; a new claimant interrupts the old one at once.
4. Only bytes whose upload is open can be dropped. Once all are there, they become an item.

One process owns the folder, by a lock that its death releases. Everything here is called
from one event loop; disk work goes to threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import UUID

import structlog

from evidence.clock import Clock
from evidence.errors import Conflict, FixityError, InvalidInput, NotFound, Unavailable
from evidence.fixity import StreamingDigest
from ingest.tus.state import (
    Phase,
    UploadRecord,
    Watermark,
    boot_id,
    encode_watermark,
    read_watermark,
    write_watermark,
)
from storage.db.credentials import Uploader
from storage.objects.durable import fsync_directory, require_space, translated

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

CLAIM_WAIT_S = 3.0
"""How long a new writer waits for the interrupted one to sync and let go."""

_ID = re.compile(r"([a-z0-9]{1,16})\.[A-Za-z0-9_-]{32}")


@dataclass(frozen=True)
class UploadLimits:
    """What a sender may use up."""

    max_upload_bytes: int
    max_open_uploads: int
    """Of one token."""
    expiry_s: int
    """An open upload nobody touches is dropped after this."""
    floor_bytes: int
    """Free space that uploads never use up."""


class Upload:
    """One upload in this process."""

    def __init__(self, record: UploadRecord, folder: Path, offset_bytes: int, touched_at: datetime) -> None:
        self.record = record
        self.offset_bytes = offset_bytes
        self.touched_at = touched_at
        self.digest: StreamingDigest | None = StreamingDigest() if offset_bytes == 0 else None
        """Of exactly the acknowledged bytes; None when it must be made from the file."""
        self.part_path = folder / f"{record.upload_id}.part"
        self.mark_path = folder / f"{record.upload_id}.mark"
        self.record_path = folder / f"{record.upload_id}.json"
        self.lock = asyncio.Lock()
        self.settling = asyncio.Lock()
        self.failed_seals = 0
        self.retry_seal_at = 0.0
        self._claims = 0
        self._timer: asyncio.Timeout | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every byte is there and acknowledged."""
        return self.offset_bytes == self.record.length_bytes

    def claim(self) -> int:
        """Take the upload over: whoever writes now stops waiting for bytes at once."""
        self._claims += 1
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time())
        return self._claims

    def require_claim(self, claim: int) -> None:
        """Raises Conflict (``upload_interrupted``) when someone claimed the upload later."""
        if self._claims != claim:
            raise Conflict(
                "upload: expected to be its only sender, found a newer request for it; ask with HEAD "
                "and send from there",
                code="upload_interrupted",
            )

    @contextlib.asynccontextmanager
    async def waiting(self, claim: int, deadline_s: float) -> AsyncIterator[None]:
        """Wait for the sender inside this: not longer than the deadline, nor past the claim.

        Raises:
            Conflict: A newer request took the upload over.
            Unavailable: Nothing came for ``deadline_s``; code ``read_deadline``.
        """
        self.require_claim(claim)
        try:
            async with asyncio.timeout(deadline_s) as self._timer:
                yield
        except TimeoutError as error:
            self.require_claim(claim)
            raise Unavailable(
                f"body: expected more bytes within {deadline_s:g} s, found none; ask with HEAD and go on",
                code="read_deadline",
            ) from error
        finally:
            self._timer = None


class UploadStore:
    """All uploads of this host; use as a context manager around the server's life.

    Args:
        folder: ``uploads/`` of the data folder, on the object store's file system.
        limits: What a sender may use up.
        clock: For times in records and for expiry.
        host: This ingest host's short name. It begins every upload id, so that a host that is
            asked for another's upload answers "not here", never "not there".
        boot: Which boot of the machine this is.
        lock_wait_s: How long to wait for a predecessor to let go of the folder.
        threads: Threads for writing and hashing.
    """

    def __init__(
        self,
        folder: Path,
        limits: UploadLimits,
        clock: Clock,
        *,
        host: str = "h0",
        boot: UUID | None = None,
        lock_wait_s: float = 10.0,
        threads: int = 16,
    ) -> None:
        self.folder = folder
        self.limits = limits
        self.clock = clock
        self.boot = boot or boot_id()
        self._host = host
        self._lock_wait_s = lock_wait_s
        self._lock_descriptor = -1
        self._uploads: dict[str, Upload] = {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="upload-bytes")

    def __enter__(self) -> UploadStore:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_folder()
        self._load()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True)
        os.close(self._lock_descriptor)

    def __iter__(self) -> Iterator[Upload]:
        return iter(list(self._uploads.values()))

    def _take_folder(self) -> None:
        self._lock_descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + self._lock_wait_s
        while True:
            try:
                fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    os.close(self._lock_descriptor)
                    raise Unavailable(
                        f"uploads {self.folder}: expected to be their only owner, found another process; "
                        "stop it",
                        code="uploads_locked",
                    ) from error
                time.sleep(0.05)

    def _load(self) -> None:
        """Find the uploads a predecessor left, and how far each really is."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                record = UploadRecord.read(path)
            except FixityError as error:
                log.exception("upload:record_damaged", file=path.name, detail=error.message)
                continue
            self._uploads[record.upload_id] = self._recovered(record)
        known = {path.stem for path in self.folder.glob("*.json")}
        for path in [*self.folder.glob("*.part"), *self.folder.glob("*.mark")]:
            # Made, but nobody was told of it before its record was durable.
            if path.stem not in known:
                path.unlink()

    def _recovered(self, record: UploadRecord) -> Upload:
        upload = Upload(record, self.folder, record.length_bytes, record.finished_at or record.created_at)
        if record.phase is not Phase.OPEN:
            return upload
        try:
            mark = read_watermark(upload.mark_path)
        except FixityError as error:
            log.exception("upload:watermark_damaged", upload_id=record.upload_id[:8], detail=error.message)
            mark = Watermark(0, UUID(int=0), record.created_at)
        with upload.part_path.open("r+b" if upload.part_path.exists() else "w+b") as part:
            size = part.seek(0, os.SEEK_END)
            trusted = size if mark.boot_id == self.boot and not mark.provisional else mark.offset_bytes
            offset = min(trusted, size, record.length_bytes)
            if offset < mark.offset_bytes:
                log.error("upload:acknowledged_bytes_lost", upload_id=record.upload_id[:8], found_bytes=size)
            part.truncate(offset)
            os.fsync(part.fileno())
        with upload.mark_path.open("r+b" if upload.mark_path.exists() else "w+b") as file:
            write_watermark(file.fileno(), Watermark(offset, self.boot, mark.touched_at))
        return Upload(record, self.folder, offset, mark.touched_at)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run disk work in a thread and never leave it running behind a caller that was cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def create(self, uploader: Uploader, length_bytes: int, metadata_raw: str, remote: str) -> Upload:
        """Make room for a new upload, durably, before anyone is told of it.

        Raises:
            InvalidInput: The token has too many open uploads (``too_many_uploads``).
            Unavailable: The file would not fit above the floor (``disk_full``).
        """
        held = sum(
            upload.record.phase is Phase.OPEN and upload.record.uploader.token_id == uploader.token_id
            for upload in self._uploads.values()
        )
        if held >= self.limits.max_open_uploads:
            raise InvalidInput(
                f"upload: expected fewer than {self.limits.max_open_uploads} open ones, found {held}; "
                "finish or terminate one",
                code="too_many_uploads",
            )
        self.require_space(length_bytes)
        now = self.clock.now()
        upload_id = f"{self._host}.{secrets.token_urlsafe(24)}"
        record = UploadRecord(upload_id, uploader, length_bytes, metadata_raw, remote, now)
        upload = Upload(record, self.folder, 0, now)
        # Counted before the first await, so that two requests cannot share the last place.
        self._uploads[upload_id] = upload
        try:
            await self.in_thread(self._write_new, upload)
        except BaseException:
            del self._uploads[upload_id]
            raise
        return upload

    def _write_new(self, upload: Upload) -> None:
        with translated("upload"):
            upload.part_path.touch(mode=0o600, exist_ok=False)
            with upload.mark_path.open("xb") as mark:
                mark.write(encode_watermark(Watermark(0, self.boot, upload.touched_at)))
                mark.flush()
                os.fsync(mark.fileno())
            # Also syncs the folder, and so the two names above.
            upload.record.write(upload.record_path)

    def require_space(self, wanted_bytes: int) -> None:
        """Raises Unavailable (``disk_full``) when that much does not fit above the floor."""
        state = os.statvfs(self.folder)
        require_space(state.f_bavail * state.f_frsize, self.limits.floor_bytes, wanted_bytes, "uploads")

    def find(self, upload_id: str, uploader: Uploader) -> Upload:
        """The upload, for the token that made it.

        Raises:
            NotFound: Not there, not this token's, or expired (``upload_expired``).
            Unavailable: It lives on another ingest host.
        """
        match = _ID.fullmatch(upload_id)
        if match is not None and match[1] != self._host:
            raise Unavailable(
                f"upload: expected at its own host {match[1]}, found the request at {self._host}",
                code="upload_elsewhere",
            )
        upload = self._uploads.get(upload_id)
        if upload is None or upload.record.uploader.token_id != uploader.token_id:
            raise NotFound("upload: expected one of this token, found none; create it again")
        if self._is_expired(upload):
            raise NotFound(
                "upload: expected an open one, found it expired; create it again", code="upload_expired"
            )
        return upload

    def get(self, upload_id: str) -> Upload:
        """The upload, for us: without asking whose it is.

        Raises:
            NotFound: Not there.
        """
        upload = self._uploads.get(upload_id)
        if upload is None:
            raise NotFound("upload: expected one of this host, found none")
        return upload

    def expires_at(self, upload: Upload) -> datetime:
        """When the upload, or the tombstone of a sealed one, is dropped if nobody touches it."""
        return upload.touched_at + timedelta(seconds=self.limits.expiry_s)

    def _is_expired(self, upload: Upload) -> bool:
        if upload.lock.locked() or upload.settling.locked():
            return False
        if upload.record.phase is not Phase.SEALED and upload.is_whole:
            return False
        return self.clock.now() >= self.expires_at(upload)

    @contextlib.asynccontextmanager
    async def claimed(self, upload: Upload) -> AsyncIterator[int]:
        """Be the only one to change an upload: interrupts the present writer and waits for it.

        Yields:
            The claim, good until somebody else claims.

        Raises:
            Conflict: A newer request came (``upload_interrupted``), or the present writer did
                not let go in time (``upload_busy``).
        """
        claim = upload.claim()
        try:
            async with asyncio.timeout(CLAIM_WAIT_S):
                await upload.lock.acquire()
        except TimeoutError as error:
            raise Conflict(
                f"upload: expected its last request to end within {CLAIM_WAIT_S:g} s, "
                "found it still writing; try again",
                code="upload_busy",
            ) from error
        try:
            upload.require_claim(claim)
            yield claim
        finally:
            upload.lock.release()

    async def terminate(self, upload: Upload) -> None:
        """Drop an open upload at its sender's wish.

        Raises:
            Conflict: All its bytes came: it is, or becomes, an item (``upload_whole``).
        """
        async with self.claimed(upload):
            if upload.is_whole:
                raise Conflict(
                    "upload: expected an open one, found all its bytes received; it is kept as an item",
                    code="upload_whole",
                )
            await self.in_thread(self._drop, upload)

    async def drop_expired(self) -> int:
        """Drop what nobody touched for too long; how many that were."""
        dropped = 0
        for upload in self:
            if self._is_expired(upload):
                async with upload.lock:
                    if self._uploads.get(upload.record.upload_id) is upload and self._is_old(upload):
                        await self.in_thread(self._drop, upload)
                        dropped += 1
        return dropped

    def _is_old(self, upload: Upload) -> bool:
        return self.clock.now() >= self.expires_at(upload)

    def _drop(self, upload: Upload) -> None:
        self._uploads.pop(upload.record.upload_id, None)
        with translated("upload"):
            upload.record_path.unlink(missing_ok=True)
            fsync_directory(self.folder)
            upload.part_path.unlink(missing_ok=True)
            upload.mark_path.unlink(missing_ok=True)

    def interrupt_all(self) -> None:
        """Stop every writer, as before a shutdown; each syncs what it has."""
        for upload in self._uploads.values():
            upload.claim()
