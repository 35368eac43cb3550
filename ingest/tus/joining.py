"""Concatenation: parts that came at the same time over several lines become one file.

Rules, in the order things happen:

1. Each part is an upload of its own, complete with its digest before it can be joined. No item
   ever comes of a part.
2. The record of the final upload is durable before anything moves, and names its parts. From then
   on they neither expire nor end, and belong to no other final upload.
3. Each part is written into the final file as a body under a checksum: it counts as a whole, once
   what was read of it comes to the digest made while it arrived, or not at all. A crash goes back
   to the end of the last part that counts.
4. The digest of the final file is made as it is written, and recorded like any upload's. Only then
   the bytes of the parts go; their records stay as tombstones, so that a sender that missed
   the answer finds its parts whole, asks for the same final upload again and is told of it.

Parts and final file lie side by side until step 4, so there must be room for both. They are read,
not cloned: the digest needs every byte anyway, and comparing it is the point.
"""

from __future__ import annotations

import os
from dataclasses import replace

from evidence.errors import Conflict, FixityError, InvalidInput, NotFound, Unavailable
from ingest.tus.checksums import Checksum
from ingest.tus.protocol import require_size
from ingest.tus.state import Phase
from ingest.tus.upload import Upload
from ingest.tus.uploads import UploadStore
from ingest.tus.writer import writing
from storage.db.credentials import Uploader
from storage.objects.durable import translated

READ_BYTES = 1 << 20


def find_parts(store: UploadStore, uploader: Uploader, part_ids: tuple[str, ...]) -> list[Upload]:
    """The parts a final upload names, each of this token.

    Raises:
        InvalidInput: One is not there, not of this token, expired (``part_unknown``), named twice
            (``part_repeated``), or an upload in its own right (``part_not_partial``).
        Unavailable: One lives on another ingest host.
    """
    if len(set(part_ids)) < len(part_ids):
        raise InvalidInput(
            "Upload-Concat: expected each part once, found one twice; name each once", code="part_repeated"
        )
    parts = []
    for number, part_id in enumerate(part_ids, 1):
        try:
            part = store.find(part_id, uploader)
        except NotFound as error:
            raise InvalidInput(
                f"Upload-Concat: expected part {number} to be an upload of this token, found none; "
                "upload it again",
                code="part_unknown",
            ) from error
        if not part.record.is_partial:
            raise InvalidInput(
                f"Upload-Concat: expected part {number} to be made with Upload-Concat: partial, "
                "found an upload in its own right",
                code="part_not_partial",
            )
        parts.append(part)
    return parts


async def make_final(
    store: UploadStore, uploader: Uploader, part_ids: tuple[str, ...], metadata_raw: str, remote: str
) -> Upload:
    """The final upload of these parts: made now, or found made when it is asked for again.

    Raises:
        Conflict: A part misses bytes (``part_unfinished``) or is in another final upload (``part_taken``).
        InvalidInput: As `find_parts`, or together they are larger than is taken.
        Unavailable: There is no room for the final file beside its parts.
    """
    async with store.joining:
        # Nothing is awaited from here to the place where the store notes whose parts they are.
        parts = find_parts(store, uploader, part_ids)
        known = store.final_of(parts[0])
        if known is not None and known.record.parts == part_ids:
            return known
        for number, part in enumerate(parts, 1):
            if part.record.phase is Phase.JOINED or store.final_of(part) is not None:
                raise Conflict(
                    f"Upload-Concat: expected part {number} to be free, found it in another final upload",
                    code="part_taken",
                )
            if part.record.phase is not Phase.COMPLETE:
                raise Conflict(
                    f"Upload-Concat: expected part {number} whole, found {part.offset_bytes} of "
                    f"{part.record.length_bytes} bytes; finish it, then ask again",
                    code="part_unfinished",
                )
        length = sum(part.offset_bytes for part in parts)
        require_size(length, store.limits.max_upload_bytes)
        return await store.create(uploader, length, metadata_raw, remote, parts=part_ids)


async def join(store: UploadStore, final: Upload) -> None:
    """Write what is missing of a final upload.

    Raises:
        Conflict: The listener is stopping, and interrupts it (``upload_interrupted``).
        FixityError: A part is no longer what arrived (``checksum_mismatch``, ``part_damaged``).
        Unavailable: The disk is full or failing; it goes on from the part it stopped at.
    """
    async with final.lock:
        if store.is_stopping:
            raise Unavailable("upload: the listener is stopping; it goes on after its start", code="stopping")
        claim = final.claim()
        begin = 0
        for part_id in final.record.parts:
            part = store.get(part_id)
            if begin == final.offset_bytes:
                await _append(store, final, part, claim)
            begin += part.offset_bytes
        if not final.is_whole:
            raise FixityError(
                f"final upload: expected {final.record.length_bytes} bytes joined, found "
                f"{final.offset_bytes} and no part that begins there; keep all files and report it",
                code="part_damaged",
            )


async def _append(store: UploadStore, final: Upload, part: Upload, claim: int) -> None:
    if part.record.sha256 is None:
        raise AssertionError("a complete part has its digest in the record")
    size = part.offset_bytes
    checksum = Checksum("sha256", part.record.sha256)
    async with writing(store, final, wanted_bytes=size, checksum=checksum) as writer:
        descriptor = await store.in_thread(_opened, part)
        try:
            position = 0
            while position < size:
                final.require_claim(claim)
                data = await store.in_thread(_read, descriptor, min(READ_BYTES, size - position), position)
                await writer.append(data)
                position += len(data)
        finally:
            os.close(descriptor)


def _opened(part: Upload) -> int:
    with translated("upload"):
        return os.open(part.part_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _read(descriptor: int, count: int, position: int) -> bytes:
    with translated("upload"):
        data = os.pread(descriptor, count, position)
    if not data:
        raise FixityError(
            f"part: expected {count} more bytes at {position}, found its end; keep the file and report it",
            code="part_damaged",
        )
    return data


async def let_parts_go(store: UploadStore, final: Upload) -> None:
    """Drop the bytes of parts whose final upload is complete; their records stay as tombstones.

    Raises:
        Unavailable: The disk is failing; called again it goes on.
    """
    for part_id in final.record.parts:
        try:
            part = store.get(part_id)
        except NotFound:
            continue  # Its tombstone was forgotten before this one's.
        if part.record.phase is not Phase.JOINED:
            joined = replace(part.record, phase=Phase.JOINED)
            await store.in_thread(joined.write, part.record_path)
            part.record = joined
            part.touched_at = store.clock.now()
        await store.in_thread(_remove_bytes, part)


def _remove_bytes(part: Upload) -> None:
    with translated("upload"):
        part.part_path.unlink(missing_ok=True)
        part.mark_path.unlink(missing_ok=True)
