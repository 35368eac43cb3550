"""What a predecessor left in the folder of uploads, and how far each upload really is.

After a process died the page cache is still right: what the file holds counts. After the machine
went down only what was marked counts, and what lies past the mark is cut off
(docs/design/storage.md, *Start after a crash*).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import structlog

from evidence.errors import FixityError
from ingest.tus.state import Phase, UploadRecord, Watermark, read_watermark, write_watermark
from ingest.tus.upload import Upload

log = structlog.get_logger(__name__)


def left_uploads(folder: Path, boot: UUID) -> Iterator[Upload]:
    """Every upload whose record is readable; bytes nobody was told of are removed."""
    for path in sorted(folder.glob("*.json")):
        try:
            record = UploadRecord.read(path)
        except FixityError as error:
            log.exception("upload:record_damaged", file=path.name, detail=error.message)
            continue
        yield _recovered(record, folder, boot)
    known = {path.stem for path in folder.glob("*.json")}
    for path in [*folder.glob("*.part"), *folder.glob("*.mark")]:
        # Made, but nobody was told of it before its record was durable.
        if path.stem not in known:
            path.unlink()


def _recovered(record: UploadRecord, folder: Path, boot: UUID) -> Upload:
    if record.phase is not Phase.OPEN:
        return Upload(record, folder, record.length_bytes or 0, record.finished_at or record.created_at)
    upload = Upload(record, folder, 0, record.created_at)
    try:
        mark = read_watermark(upload.mark_path)
    except FixityError as error:
        log.exception("upload:watermark_damaged", upload_id=record.upload_id[:8], detail=error.message)
        mark = Watermark(0, UUID(int=0), record.created_at)
    with upload.part_path.open("r+b" if upload.part_path.exists() else "w+b") as part:
        size = part.seek(0, os.SEEK_END)
        trusted = size if mark.boot_id == boot and not mark.provisional else mark.offset_bytes
        offset = min(trusted, size, size if record.length_bytes is None else record.length_bytes)
        if offset < mark.offset_bytes:
            log.error("upload:acknowledged_bytes_lost", upload_id=record.upload_id[:8], found_bytes=size)
        part.truncate(offset)
        os.fsync(part.fileno())
    with upload.mark_path.open("r+b" if upload.mark_path.exists() else "w+b") as file:
        write_watermark(file.fileno(), Watermark(offset, boot, mark.touched_at))
    return Upload(record, folder, offset, mark.touched_at)
