"""What lies on disk of pushed files, and in which order it is written.

    pushed/<dock>/<id>.part    the bytes, as far as they came
                 <id>.json     whose they are, the name the dock gives them, state, proof

No name a dock gives is part of a path: to the dock there are names, to us ids. So there are no links to
follow, no ``..`` to climb and no name too long. Each step here is of one file and waits for the disk; whose
turn it is with a file is for `ingest.sources.dropbox` to say.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

import structlog

from evidence.errors import InvalidInput, Unavailable
from ingest.sources.partial import boot
from storage.objects.durable import fsync_directory, translated, write_durably

log = structlog.get_logger(__name__)

OPEN, CLOSED, TORN, IN_CUSTODY = "open", "closed", "torn", "in_custody"
"""Being written; ended in order; broken off; the bytes are in custody and no receipt was earned: only the
name is left, which its dock may remove."""
MAX_PARTS = 16
MAX_PART_BYTES = 1000


@dataclass(frozen=True)
class Dock:
    """Who pushes."""

    agency_id: UUID
    dock_no: str
    device_no: str | None
    actor: str

    @property
    def key(self) -> str:
        """What its folder is called."""
        return hashlib.sha256(f"{self.agency_id.hex}\0{self.dock_no}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Pushed:
    """One file a dock is pushing or has pushed."""

    id: str
    name_hex: str
    """Its name as the dock gave it, folders and all."""
    agency_id: str
    dock_no: str
    device_no: str | None
    actor: str
    protocol: str
    state: str
    proof: str | None = None
    size_bytes: int = 0
    """While it is open: how much of it was synced before."""
    mtime_s: int = 0
    transfers: int = 0
    """How many were begun into it: two states of equal size and time are told apart."""
    boot: str = ""
    """Of an open one: the boot it was opened in; after another one only what was synced counts."""
    hole_at: int | None = None
    """Of an open one: from where on pieces came out of order, so that there may be holes."""

    @property
    def name(self) -> bytes:
        """The name, with ``/`` between folders and none before."""
        return bytes.fromhex(self.name_hex)

    @property
    def dock_key(self) -> str:
        """The folder of its dock."""
        return Dock(UUID(self.agency_id), self.dock_no, None, "").key

    @property
    def is_whole(self) -> bool:
        """Whether no transfer touches it any more: the next one under its name is another file."""
        return self.proof is not None or self.state == IN_CUSTODY


class Shelf:
    """The files of all docks on this host's disk.

    Args:
        folder: Where they lie.
        sync: Makes the bytes behind a descriptor durable.
    """

    def __init__(self, folder: Path, sync: Callable[[int], None]) -> None:
        self._folder = folder
        self._sync = sync
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever made a folder may have died before its name was on disk.
        for each in (folder.parent, folder):
            fsync_directory(each)

    # --- what an earlier process left -------------------------------------------------------------

    def load(self) -> list[Pushed]:
        """Every file that was told of, oldest first, with what a crash left half done brought to its end."""
        found = [each for path in sorted(self._folder.glob("*/*.json")) if (each := self._read(path))]
        kept_names = {each.id for each in found if each.state == IN_CUSTODY}
        for part in self._folder.glob("*/*.part"):
            if part.stem in kept_names or not part.with_suffix(".json").exists():
                part.unlink()  # In custody, or made and never told of.
        for half in self._folder.glob("*/.*.tmp"):
            half.unlink()
        return found

    def _read(self, record: Path) -> Pushed | None:
        try:
            found = Pushed(**json.loads(record.read_bytes()))
        except (ValueError, TypeError) as error:
            # Not one of ours, or a disk that lies: the rest is served, this is a person's to look at.
            log.error("push:record_unreadable", record=record.stem, error=type(error).__name__)  # noqa: TRY400
            return None
        if found.state != OPEN:
            return found
        try:
            return self._torn(found)
        except Unavailable as error:
            log.error("push:torn_unreadable", record=record.stem, detail=error.message)  # noqa: TRY400
            return None

    def _torn(self, found: Pushed) -> Pushed:
        """A file whose writer died with us: what it holds; after another boot what was synced."""
        with translated("pushed file"):
            descriptor = os.open(self._part(found), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                if found.boot != boot():
                    # A length may be there without its bytes.
                    size = min(size, found.size_bytes)
                if found.hole_at is not None:
                    size = min(size, found.hole_at)
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        torn = replace(
            found, state=TORN, size_bytes=size, hole_at=None, mtime_s=found.mtime_s or int(time.time())
        )
        self.save(torn)
        return torn

    # --- one transfer -----------------------------------------------------------------------------

    def open(self, begun: Pushed, before: Pushed | None, *, offset_bytes: int, truncate: bool) -> int:
        """A descriptor to write a file with, its record on disk as open.

        Args:
            before: What it was until now; None for a new file, of which nothing stays after a failure.
            truncate: Cut it to the offset.

        Raises:
            InvalidInput: The offset is beyond what is here (``push_offset``).
            Unavailable: The disk is full or fails; the file is as it was before.
        """
        with translated("pushed file"):
            part = self._part(begun)
            if before is None and not part.parent.exists():
                part.parent.mkdir(mode=0o700, exist_ok=True)
                fsync_directory(self._folder)
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                had_bytes = min(os.fstat(descriptor).st_size, 0 if before is None else before.size_bytes)
                if offset_bytes > had_bytes:
                    raise InvalidInput(
                        "offset: expected what is here at most, found more", code="push_offset"
                    )
                # The record first: a crash or a full disk must not leave a closed record over cut bytes.
                self.save(begun)
                # What is longer than its record is what a failed sync or cut left: never trusted again.
                os.ftruncate(descriptor, offset_bytes if truncate else had_bytes)
            except BaseException:
                os.close(descriptor)
                if before is None:
                    with contextlib.suppress(OSError):  # Then the next start finds it, torn and empty.
                        self._record(begun).unlink(missing_ok=True)
                        part.unlink(missing_ok=True)
                raise
            return descriptor

    def sync(self, found: Pushed, descriptor: int, whole_to: int | None) -> Pushed:
        """Sync what came so far, and note how much that is: after a power cut so much counts.

        Args:
            whole_to: Up to where every byte came; None: to the end.
        """
        with translated("pushed file"):
            self._sync(descriptor)
            size = os.fstat(descriptor).st_size
            synced = replace(found, size_bytes=size if whole_to is None else whole_to, hole_at=whole_to)
            self.save(synced)
            return synced

    def settle(self, found: Pushed, descriptor: int, *, is_sound: bool) -> int:
        """Make the bytes of a transfer durable; returns how many there are.

        Args:
            is_sound: False where a write or sync failed before: what that was to cover is never asked to be
                synced again, so it goes.
        """
        with translated("pushed file"):
            # Behind a hole may lie what an older transfer left.
            sure_bytes = found.size_bytes if found.hole_at is None else min(found.size_bytes, found.hole_at)
            if is_sound:
                try:
                    self._sync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, min(sure_bytes, os.fstat(descriptor).st_size))
                    raise
            else:
                os.ftruncate(descriptor, min(sure_bytes, os.fstat(descriptor).st_size))
            return os.fstat(descriptor).st_size

    # --- records ----------------------------------------------------------------------------------

    def save(self, found: Pushed) -> None:
        """Write a record, durably."""
        with translated("pushed file"):
            write_durably(self._record(found), json.dumps(asdict(found)).encode())

    def forget(self, found: Pushed) -> None:
        """Remove a file: first the record, so that a crash leaves bytes that nobody tells of."""
        with translated("pushed file"):
            self._record(found).unlink(missing_ok=True)
            fsync_directory(self._record(found).parent)
            self._part(found).unlink(missing_ok=True)

    def keep_name(self, found: Pushed) -> Pushed:
        """Remove the bytes of a file that is in custody and keep its name: first the record says so."""
        kept = replace(found, state=IN_CUSTODY)
        self.save(kept)
        with translated("pushed file"):
            self._part(found).unlink(missing_ok=True)
        return kept

    def reading(self, found: Pushed) -> int:
        """A descriptor of its bytes."""
        with translated("pushed file"):
            return os.open(self._part(found), os.O_RDONLY | os.O_CLOEXEC)

    def _part(self, found: Pushed) -> Path:
        return self._folder / found.dock_key / f"{found.id}.part"

    def _record(self, found: Pushed) -> Path:
        return self._part(found).with_suffix(".json")


def checked_name(name: bytes) -> bytes:
    """A name as docks write it, with ``.``, ``..`` and doubled slashes worked out inside the dock's own root.

    Raises:
        InvalidInput: It is empty, too long, or holds NUL or line ends (``push_name``).
    """
    clean = checked_folder(name)
    if not clean:
        raise InvalidInput("name: expected one that can be kept, found none", code="push_name")
    return clean


def checked_folder(name: bytes) -> bytes:
    """The same for a folder; nothing for the root.

    Raises:
        InvalidInput: It is too long, or holds NUL or line ends (``push_name``).
    """
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in {b"", b"."}:
            parts.append(part)
    is_odd = any(
        len(part) > MAX_PART_BYTES or any(bad in part for bad in (b"\0", b"\n", b"\r")) for part in parts
    )
    if len(parts) > MAX_PARTS or is_odd:
        raise InvalidInput(
            "name: expected at most 16 parts of at most 1000 bytes on one line, found another",
            code="push_name",
        )
    return b"/".join(parts)
