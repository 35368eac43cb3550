"""From the last byte to the item: an upload whose bytes are all there is handed to intake.

The order, which makes every crash repeatable:

1. The bytes are acknowledged (synced, marked) by the writer.
2. Digest and time are recorded in the upload's record, durably. From here the part file may
   move: a retry names the same digest without having to read it.
3. ``seal`` adopts the file into the object store, then commits row, custody leaf and jobs in
   one transaction. It is idempotent by upload id; the store by digest.
4. The record becomes a tombstone with the item's id, so that a sender who missed the answer
   is told that all is there, until the tombstone expires.
5. The watermark goes.

A failure before step 4 is tried again: on each request for the upload, and by the sweeper.

Of a part only steps 1 and 2 are done. A final upload is joined of its parts before step 2, and lets
them go before step 3 (`ingest.tus.joining`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from evidence.errors import EvidenceError, InvalidInput
from evidence.filenames import decode_name
from evidence.fixity import StreamingDigest, parse_sha256
from evidence.kinds import ClaimSource
from ingest.facts import statements_from
from ingest.sources.base import StagedFile
from ingest.tus.joining import join, let_parts_go
from ingest.tus.protocol import parse_metadata
from ingest.tus.state import Phase, SealedUpload, UploadRecord
from ingest.tus.upload import Upload
from ingest.tus.uploads import UploadStore
from storage.db.credentials import Uploader
from storage.objects.durable import translated

log = structlog.get_logger(__name__)

RETRY_FIRST_S = 5.0
RETRY_MOST_S = 300.0
NAME_KEYS = ("filename", "name")
DIGEST_KEY = "sha256"


@dataclass(frozen=True)
class FinishedUpload:
    """An upload whose bytes are all durable."""

    upload_id: str
    path: Path
    size_bytes: int
    sha256: bytes
    metadata_raw: str
    """The header as it came."""
    uploader: Uploader
    created_at: datetime
    finished_at: datetime
    remote: str
    source: str = "tus"

    @property
    def metadata(self) -> dict[str, str]:
        """The sender's pairs as text; bytes that are neither UTF-8 nor GB 18030 are escaped."""
        return {key: decode_name(value) for key, value in parse_metadata(self.metadata_raw).items()}

    def staged(self) -> StagedFile:
        """The same as intake takes it.

        A ``sha256`` that is no digest is a finding, not a reason to refuse the footage.
        """
        pairs = parse_metadata(self.metadata_raw)
        metadata = self.metadata
        findings: list[tuple[str, str]] = []
        declared = None
        if metadata.get(DIGEST_KEY, "").strip():
            try:
                declared = parse_sha256(metadata[DIGEST_KEY])
            except InvalidInput as error:
                findings.append(("declared_digest_unreadable", error.message))
        said = dict(metadata)
        if self.uploader.device_no is not None:
            # A token bound to one device speaks for no other.
            if said.get("device_no", self.uploader.device_no) != self.uploader.device_no:
                findings.append(
                    (
                        "device_contradicts_token",
                        "device: expected the one the token is bound to, found another in the metadata",
                    )
                )
            said["device_no"] = self.uploader.device_no
        return StagedFile(
            path=self.path,
            size_bytes=self.size_bytes,
            sha256=self.sha256,
            original_name_raw=next((pairs[key] for key in NAME_KEYS if pairs.get(key)), b""),
            source=self.source,
            # One word for all that comes over the listener: the id is what tells arrivals apart.
            reception_key=f"tus:{self.upload_id}",
            actor=f"token:{self.uploader.token_id}",
            metadata=metadata,
            claims=tuple(statements_from(said, ClaimSource.DOCK)),
            findings=tuple(findings),
            dock_no=self.uploader.dock_no,
            declared_sha256=declared,
        )


class Sealer:
    """Makes items of whole uploads.

    Args:
        store: The uploads.
        seal: Adopts the file and commits its rows; called in a thread, idempotent by upload id.
        threads: How many may be under way at once.
    """

    def __init__(
        self, store: UploadStore, seal: Callable[[FinishedUpload], SealedUpload], *, threads: int = 4
    ) -> None:
        self._store = store
        self._seal = seal
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="upload-seal")
        self._started: set[asyncio.Task[None]] = set()

    async def settle(self, upload: Upload) -> SealedUpload | None:
        """Make the item of a whole upload, or find it made; of a part only its digest.

        Raises:
            Unavailable: Not now; the bytes are safe and it will be tried again.
        """
        async with upload.settling:
            if upload.record.sealed is not None or not upload.is_to_settle:
                return upload.record.sealed
            try:
                return await self._to_the_end(upload)
            except Exception:
                delay_s = min(RETRY_FIRST_S * 2**upload.failed_seals, RETRY_MOST_S)
                upload.failed_seals += 1
                upload.retry_seal_at = time.monotonic() + delay_s
                raise

    async def _to_the_end(self, upload: Upload) -> SealedUpload | None:
        """Settle even if the caller is cancelled: a second attempt must not start beside it."""
        task = asyncio.create_task(self._settle(upload))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise

    async def _settle(self, upload: Upload) -> SealedUpload | None:
        if upload.record.phase is Phase.OPEN:
            if not upload.is_whole:
                await join(self._store, upload)
            upload.record = await self._completed(upload)
        record = upload.record
        if record.is_partial:
            return None
        await let_parts_go(self._store, upload)
        if record.sha256 is None or record.finished_at is None:
            raise AssertionError("a complete upload has its digest and time in the record")
        finished = FinishedUpload(
            upload_id=record.upload_id,
            path=upload.part_path,
            size_bytes=upload.offset_bytes,
            sha256=record.sha256,
            metadata_raw=record.metadata_raw,
            uploader=record.uploader,
            created_at=record.created_at,
            finished_at=record.finished_at,
            remote=record.remote,
            source=record.source,
        )
        sealed = await asyncio.get_running_loop().run_in_executor(self._threads, self._seal, finished)
        became = record.became(sealed)
        await self._store.in_thread(became.write, upload.record_path)
        upload.record = became
        upload.touched_at = self._store.clock.now()
        upload.digest = None
        upload.mark_path.unlink(missing_ok=True)
        return sealed

    async def _completed(self, upload: Upload) -> UploadRecord:
        if upload.digest is None:
            upload.digest = await self._store.in_thread(_digest_of, upload.part_path)
        completed = upload.record.completed(upload.digest.digests().sha256, self._store.clock.now())
        await self._store.in_thread(completed.write, upload.record_path)
        return completed

    async def sweep(self) -> int:
        """Seal what is whole and not yet an item; how many of them could not be.

        One upload that fails never keeps the others from their turn.
        """
        failed = 0
        for upload in self._store:
            if not upload.is_to_settle:
                continue
            if upload.settling.locked() or time.monotonic() < upload.retry_seal_at:
                continue
            if upload.is_final and not upload.is_whole:
                self.start(upload)
            elif not await self.settle_if_possible(upload):
                failed += 1
        return failed

    def start(self, upload: Upload) -> asyncio.Task[None]:
        """Settle a final upload beside everything else, since joining may take minutes.

        Returns:
            The task; it raises nothing. What fails is logged and tried again by the sweeper.
        """
        task = asyncio.create_task(self._settle_aside(upload))
        self._started.add(task)
        task.add_done_callback(self._started.discard)
        return task

    async def _settle_aside(self, upload: Upload) -> None:
        await self.settle_if_possible(upload)

    async def settle_if_possible(self, upload: Upload) -> bool:
        """As `settle`, but what fails is logged and tried again by the sweeper; whether it went well."""
        try:
            await self.settle(upload)
        except EvidenceError as error:
            log.warning("upload:not_sealed", upload_id=upload.record.upload_id[:8], detail=error.message)
            return False
        except Exception:
            # The bytes are on the disk; the sweeper comes back to them whatever stood in the way.
            log.exception("upload:seal_crashed", upload_id=upload.record.upload_id[:8])
            return False
        return True

    async def stopped(self) -> None:
        """Wait for what was started; the store has interrupted it."""
        await asyncio.gather(*self._started)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown(wait=True)


def _digest_of(part: Path) -> StreamingDigest:
    digest = StreamingDigest()
    with translated("upload"):
        descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            digest.follow(descriptor)
        finally:
            os.close(descriptor)
    return digest
