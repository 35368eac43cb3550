"""What is known of one open upload, on disk beside its bytes.

Three files per upload in ``uploads/``, all named by the upload's unguessable id:

- ``<id>.part``: the bytes so far.
- ``<id>.mark``: one fixed record, overwritten in place: how many bytes were acknowledged, in
  which boot of the machine, and whether the bytes past them count.
- ``<id>.json``: everything that changes rarely; replaced as a whole. It is written last when
  an upload is created and removed first when one is dropped, so that bytes without it are
  bytes nobody was told of.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from evidence.clock import from_micros, to_micros
from evidence.errors import FixityError
from storage.db.credentials import Uploader
from storage.objects.durable import translated, write_durably


class Phase(StrEnum):
    """How far an upload is."""

    OPEN = "open"
    COMPLETE = "complete"
    """All bytes are durable and their digest is recorded; the item is not yet there."""
    SEALED = "sealed"
    """The item is there; the record stays as a tombstone for a sender that missed the answer."""
    JOINED = "joined"
    """A part whose bytes are in its final upload; a tombstone like the above."""


@dataclass(frozen=True)
class SealedUpload:
    """The item an upload became."""

    item_id: UUID
    reception_id: UUID
    sha256: bytes
    state: str
    """Custody state of the item, such as ``received`` or ``quarantined``."""


@dataclass(frozen=True)
class UploadRecord:
    """The slow facts of an upload."""

    upload_id: str
    uploader: Uploader
    length_bytes: int | None
    """None as long as the sender has not said (creation-defer-length)."""
    metadata_raw: str
    """The ``Upload-Metadata`` header as it came; it was valid when the upload was created."""
    remote: str
    created_at: datetime
    phase: Phase = Phase.OPEN
    sha256: bytes | None = None
    finished_at: datetime | None = None
    sealed: SealedUpload | None = None
    source: str = "tus"
    """The protocol it came by: ``tus``, ``draft`` or ``put``."""
    is_partial: bool = False
    """A part for a final upload: no item of its own comes of it."""
    parts: tuple[str, ...] = ()
    """Of a final upload: the ids of what it is joined of, in order."""

    def completed(self, sha256: bytes, finished_at: datetime) -> UploadRecord:
        """The record once the last byte is durable."""
        return replace(self, phase=Phase.COMPLETE, sha256=sha256, finished_at=finished_at)

    def became(self, sealed: SealedUpload) -> UploadRecord:
        """The record once the item is there."""
        return replace(self, phase=Phase.SEALED, sealed=sealed)

    def write(self, path: Path) -> None:
        """Replace the record on disk, durably.

        Raises:
            Unavailable: The disk is full or failing; the old record or the new one is there.
        """
        with translated("upload"):
            write_durably(path, json.dumps(asdict(self), default=_to_json, ensure_ascii=False).encode())

    @classmethod
    def read(cls, path: Path) -> UploadRecord:
        """The record on disk.

        Raises:
            FixityError: It cannot be read as one; code ``upload_record_damaged``.
        """
        try:
            raw = json.loads(path.read_bytes())
            uploader, sealed = raw["uploader"], raw["sealed"]
            return cls(
                upload_id=raw["upload_id"],
                uploader=Uploader(
                    UUID(uploader["token_id"]),
                    UUID(uploader["agency_id"]),
                    uploader["agency_code"],
                    uploader["dock_no"],
                    uploader["device_no"],
                ),
                length_bytes=None if raw["length_bytes"] is None else int(raw["length_bytes"]),
                metadata_raw=raw["metadata_raw"],
                remote=raw["remote"],
                created_at=from_micros(raw["created_at"]),
                phase=Phase(raw["phase"]),
                sha256=None if raw["sha256"] is None else bytes.fromhex(raw["sha256"]),
                finished_at=None if raw["finished_at"] is None else from_micros(raw["finished_at"]),
                sealed=None
                if sealed is None
                else SealedUpload(
                    UUID(sealed["item_id"]),
                    UUID(sealed["reception_id"]),
                    bytes.fromhex(sealed["sha256"]),
                    sealed["state"],
                ),
                source=raw.get("source", "tus"),
                is_partial=raw.get("is_partial", False),
                parts=tuple(raw.get("parts", ())),
            )
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise FixityError(
                f"upload record {path.name}: expected a readable record, found {type(error).__name__}; "
                "its bytes are kept",
                code="upload_record_damaged",
            ) from error


def _to_json(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return to_micros(value)
    raise TypeError(f"upload record: expected a plain value, found {type(value).__name__}")


@dataclass(frozen=True)
class Watermark:
    """How many bytes of a ``.part`` are acknowledged, and by whom."""

    offset_bytes: int
    boot_id: UUID
    """The boot of the machine it was written in: another boot cannot trust what lies past it."""
    touched_at: datetime
    provisional: bool = False
    """Bytes past the offset belong to a checksummed body not yet checked: they never count."""


# Magic, offset, boot, micros, provisional, CRC-32 of all before: far below one sector, so that
# an overwrite in place is either the old record or the new one, and the CRC would tell.
_MARK = struct.Struct(">4sQ16sq?")
_MAGIC = b"LHM1"


def encode_watermark(mark: Watermark) -> bytes:
    """The fixed record of a watermark."""
    body = _MARK.pack(
        _MAGIC, mark.offset_bytes, mark.boot_id.bytes, to_micros(mark.touched_at), mark.provisional
    )
    return body + zlib.crc32(body).to_bytes(4, "big")


def read_watermark(path: Path) -> Watermark:
    """The watermark on disk.

    Raises:
        FixityError: Missing or damaged; code ``watermark_damaged``.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""
    body, check = raw[: _MARK.size], raw[_MARK.size :]
    if len(raw) != _MARK.size + 4 or zlib.crc32(body).to_bytes(4, "big") != check or body[:4] != _MAGIC:
        raise FixityError(
            f"watermark {path.name}: expected a valid record, found {len(raw)} other bytes",
            code="watermark_damaged",
        )
    _, offset, boot, micros, provisional = _MARK.unpack(body)
    return Watermark(offset, UUID(bytes=boot), from_micros(micros), provisional)


def write_watermark(descriptor: int, mark: Watermark, *, durable: bool = True) -> None:
    """Overwrite the record in place.

    Args:
        descriptor: The open ``.mark`` file.
        mark: What to write.
        durable: Sync it. Without, it outlives the process but not a power cut, which is
            enough for ``provisional``: after another boot nothing past the offset counts anyway.
    """
    os.pwrite(descriptor, encode_watermark(mark), 0)
    if durable:
        os.fdatasync(descriptor)


def boot_id() -> UUID:
    """Which boot of the machine this is."""
    return UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
