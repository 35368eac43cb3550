"""Open uploads on this host's disk: made, found again, recovered, dropped.

What holds (docs/design/storage.md, invariants 1 and 5):

1. `Upload.offset_bytes` is the last synced length. It never goes back.
2. An upload belongs to the token that made it; for every other token it is not there.
3. At most one `Writer` exists per upload; a new claimant interrupts the old one at once.
4. Only bytes whose upload is open can be dropped. Once all are there, they become an item.
5. A part is in one final upload at most. From the record of that upload on it is not dropped, until
   its bytes are durable there.
6. What one sender can make us remember is bounded: open uploads, their bytes, and tombstones.

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
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import ParamSpec, TypeVar
from uuid import UUID

from evidence.clock import Clock
from evidence.errors import Conflict, InvalidInput, NotFound, Unavailable
from ingest.tus.bounds import Holdings, spare_tombstones
from ingest.tus.protocol import require_size
from ingest.tus.recovery import left_uploads
from ingest.tus.state import Phase, UploadRecord, Watermark, boot_id, encode_watermark
from ingest.tus.upload import TOMBSTONES, Upload
from storage.db.credentials import Uploader
from storage.objects.durable import fsync_directory, require_space, translated

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
    """Of one token; of one device where tokens are bound to it."""
    expiry_s: int
    """An open upload nobody touches is dropped after this."""
    floor_bytes: int
    """Free space that uploads never use up."""
    max_open_bytes: int = 1 << 62
    """What the open uploads of one token, or of one device, may come to in all."""


def stopping() -> Unavailable:
    """What is said to whoever comes when this host is about to end."""
    return Unavailable("upload: the listener is stopping; try again in a moment", code="stopping")


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
        self._held = Holdings()
        self._final_of: dict[str, Upload] = {}
        """By id of a part: the upload it is, or was, joined into."""
        self.is_stopping = False
        self.writer_count = 0
        """Bodies that are being written at this moment."""
        self.joining = asyncio.Lock()
        """Held while a final upload is made, so that two requests never both take a part."""
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
        """Find the uploads a predecessor left."""
        for upload in left_uploads(self.folder, self.boot):
            self._remember(upload)
        for upload in self:
            if upload.record.source == "put" and not upload.is_to_settle and upload.is_open:
                # Its sender was never told where to go on: it sends the whole again.
                self._forget(upload)
                self._remove(upload)

    def _remember(self, upload: Upload) -> None:
        self._uploads[upload.record.upload_id] = upload
        self._held.add(upload)
        for part_id in upload.record.parts:
            self._final_of[part_id] = upload

    def _forget(self, upload: Upload) -> None:
        """Before the first await of who drops it: nobody finds it any more, nor joins it."""
        self._uploads.pop(upload.record.upload_id, None)
        self._held.discard(upload)
        for part_id in upload.record.parts:
            if self._final_of.get(part_id) is upload:
                del self._final_of[part_id]

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run disk work in a thread and never leave it running behind a caller that was cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():  # Also one that is cancelled twice.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    async def create(
        self,
        uploader: Uploader,
        length_bytes: int | None,
        metadata_raw: str,
        remote: str,
        *,
        source: str = "tus",
        is_partial: bool = False,
        parts: tuple[str, ...] = (),
    ) -> Upload:
        """Make room for a new upload, durably, before anyone is told of it.

        Args:
            uploader: Who sends.
            length_bytes: Size of the file; None when the sender does not know it yet.
            metadata_raw: The ``Upload-Metadata`` header.
            remote: Address of the sender.
            source: The protocol: ``tus``, ``draft`` or ``put``.
            is_partial: A part for a final upload.
            parts: Of a final upload: what it is joined of.

        Raises:
            InvalidInput: The sender has too many open uploads (``too_many_uploads``) or too many
                bytes in them (``too_many_open_bytes``).
            Unavailable: The file would not fit above the floor (``disk_full``).
        """
        if not parts:
            self._held.require_place(uploader, self.limits.max_open_uploads)
            self._held.require_allowance(uploader, length_bytes or 0, self.limits.max_open_bytes)
        self.require_space(length_bytes or 0)
        now = self.clock.now()
        upload_id = f"{self._host}.{secrets.token_urlsafe(24)}"
        record = UploadRecord(
            upload_id,
            uploader,
            length_bytes,
            metadata_raw,
            remote,
            now,
            source=source,
            is_partial=is_partial,
            parts=parts,
        )
        upload = Upload(record, self.folder, 0, now)
        # Counted before the first await, so that two requests cannot share the last place.
        self._remember(upload)
        try:
            await self.in_thread(self._write_new, upload)
        except BaseException:
            self._forget(upload)
            raise
        return upload

    def require_room(self, upload: Upload, wanted_bytes: int, written_bytes: int = 0) -> None:
        """Require room for more bytes of an upload: on the disk, and in what its sender may hold.

        Args:
            upload: Whose bytes.
            wanted_bytes: What is still to come.
            written_bytes: What is on disk already and not yet acknowledged.

        Raises:
            Unavailable: Not above the floor (``disk_full``).
            InvalidInput: Its length is not known, and its sender holds enough (``too_many_open_bytes``).
        """
        self.require_space(wanted_bytes)
        if upload.record.length_bytes is None:
            self._held.require_allowance(
                upload.record.uploader, written_bytes + wanted_bytes, self.limits.max_open_bytes
            )

    async def set_length(self, upload: Upload, length_bytes: int) -> None:
        """Fix the size of an upload that was made without one; the caller holds its claim.

        Raises:
            InvalidInput: It is fixed already and differs (``upload_length_changed``), is below what
                was received, or too large.
            Unavailable: It would not fit.
        """
        record = upload.record
        if record.length_bytes == length_bytes:
            return
        if record.length_bytes is not None or length_bytes < upload.offset_bytes:
            found = "another" if record.length_bytes is not None else f"{upload.offset_bytes} received"
            raise InvalidInput(
                f"Upload-Length: expected {length_bytes} bytes to be the size, found {found}; "
                "a size is set once, and not below what was sent",
                code="upload_length_changed",
            )
        require_size(length_bytes, self.limits.max_upload_bytes)
        self.require_room(upload, length_bytes - upload.offset_bytes)
        known = replace(record, length_bytes=length_bytes)
        await self.in_thread(known.write, upload.record_path)
        upload.record = known

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

    def final_of(self, part: Upload) -> Upload | None:
        """The final upload a part is promised to or joined into, as long as that is remembered."""
        return self._final_of.get(part.record.upload_id)

    def expires_at(self, upload: Upload) -> datetime:
        """When the upload, or the tombstone of a sealed one, is dropped if nobody touches it."""
        return upload.touched_at + timedelta(seconds=self.limits.expiry_s)

    def _is_expired(self, upload: Upload) -> bool:
        return not (upload.lock.locked() or upload.settling.locked()) and self._is_old(upload)

    def _is_promised(self, upload: Upload) -> bool:
        return upload.record.phase is not Phase.JOINED and upload.record.upload_id in self._final_of

    @contextlib.asynccontextmanager
    async def claimed(self, upload: Upload) -> AsyncIterator[int]:
        """Be the only one to change an upload: interrupts the present writer and waits for it.

        Yields:
            The claim, good until somebody else claims.

        Raises:
            Conflict: A newer request came (``upload_interrupted``), or the present writer did
                not let go in time (``upload_busy``).
            Unavailable: This host is about to end (``stopping``).
        """
        if self.is_stopping:
            # Every writer was interrupted; a claim made now, as for an upload made meanwhile, would never be.
            raise stopping()
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
            Conflict: All its bytes came: it is, or becomes, an item (``upload_whole``), or is a part
                of one (``part_taken``).
        """
        # Looked at before the claim too: a claim would interrupt the joining of a final upload.
        self._require_droppable(upload)
        async with self.claimed(upload):
            self._require_droppable(upload)
            await self._drop(upload)

    def _require_droppable(self, upload: Upload) -> None:
        if self._is_promised(upload) or upload.record.phase is Phase.JOINED:
            raise Conflict(
                "upload: expected an open one, found it joined into another; that one is kept",
                code="part_taken",
            )
        if upload.owes_item or upload.record.phase is Phase.SEALED:
            raise Conflict(
                "upload: expected an open one, found all its bytes received; it is kept as an item",
                code="upload_whole",
            )

    async def abandon(self, upload: Upload) -> None:
        """Drop an upload that came to nothing, where its sender will not go on with it; spare a whole one."""
        async with upload.lock:
            if not upload.is_whole:
                await self._drop(upload)

    async def drop_expired(self) -> int:
        """Drop what nobody touched for too long, and tombstones beyond the bound; how many that were."""
        due = [upload for upload in self if self._is_expired(upload)]
        dropped = 0
        for upload in [*due, *spare_tombstones(self)]:
            async with upload.lock:
                is_there = self._uploads.get(upload.record.upload_id) is upload
                if is_there and (self._is_old(upload) or upload.record.phase in TOMBSTONES):
                    await self._drop(upload)
                    dropped += 1
        return dropped

    def _is_old(self, upload: Upload) -> bool:
        kept = upload.owes_item or self._is_promised(upload)
        return not kept and self.clock.now() >= self.expires_at(upload)

    async def _drop(self, upload: Upload) -> None:
        self._forget(upload)
        await self.in_thread(self._remove, upload)

    def _remove(self, upload: Upload) -> None:
        with translated("upload"):
            upload.record_path.unlink(missing_ok=True)
            fsync_directory(self.folder)
            upload.part_path.unlink(missing_ok=True)
            upload.mark_path.unlink(missing_ok=True)

    def interrupt_all(self) -> None:
        """Stop every writer, as before a shutdown; each syncs what it has, and no join begins."""
        self.is_stopping = True
        for upload in self._uploads.values():
            upload.claim()
