"""What docks pushed to this host: files on their way in under names of ours, and what proves them whole.

    pushed/<dock>/<id>.part    the bytes, as far as they came
                 <id>.json     whose they are, the name the dock gives them, state, proof

No name a dock gives is part of a path: to the dock there are names, to us ids. So there are no links to
follow, no ``..`` to climb and no name too long, and a dock sees its own files alone.

When is a pushed file whole? Neither SFTP nor FTP says that a transfer is all there: an interrupted OpenSSH
``put`` closes its half file politely, a cut FTP line looks like its end. So a close alone proves nothing:

1. It was renamed after its transfer was closed in order: ``put a.part``, ``rename a.part a``.
2. Its size is the one declared beforehand (FTP ``ALLO``).
3. A digest pushed beside it (``a.sha256``) is that of its bytes (`ingest.sources.settling`).
4. Only where the settings say so: it was closed in order and rested; then it is flagged.

A reply that a transfer is done is given after the bytes are synced. A whole file is never written again: the
next transfer under its name is another file. What came of a broken transfer stays, to be gone on with.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

import structlog

from evidence.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unavailable
from evidence.ids import new_id
from ingest.sources.partial import boot
from ingest.sources.remote import GONE, Origin, RemoteFile
from ingest.sources.settling import is_unfinished
from storage.objects.durable import fsync_directory, translated, write_durably

log = structlog.get_logger(__name__)

OPEN, CLOSED, TORN = "open", "closed", "torn"
MAX_NAMES = 10_000
MAX_PARTS = 16
MAX_PART_BYTES = 1000
MAX_GAPS = 1024
RESERVE_EVERY_BYTES = 64 << 20
READ_BYTES = 1 << 20


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
    boot: str = ""
    """Of an open one: the boot it was opened in; after another one only what was synced counts."""

    @property
    def name(self) -> bytes:
        """The name, with ``/`` between folders and none before."""
        return bytes.fromhex(self.name_hex)


class Dropbox:
    """All that was pushed to this host.

    Args:
        folder: Where it lies.
        reserve: Raises Unavailable when there is no room for that many bytes.
        max_file_bytes: Larger files are refused while they arrive.
    """

    def __init__(self, folder: Path, reserve: Callable[[int], None], max_file_bytes: int) -> None:
        self._folder = folder
        self._reserve = reserve
        self.max_file_bytes = max_file_bytes
        self._lock = threading.RLock()
        self._files: dict[str, Pushed] = {}
        self._folders: dict[str, set[bytes]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whoever made a folder may have died before its name was on disk.
        for each in (folder.parent, folder):
            fsync_directory(each)
        for record in sorted(folder.glob("*/*.json")):
            self._load(record)
        for part in folder.glob("*/*.part"):
            if part.stem not in self._files and not part.with_suffix(".json").exists():
                part.unlink()  # Made, and never told of.

    def _load(self, record: Path) -> None:
        try:
            found = Pushed(**json.loads(record.read_bytes()))
        except (ValueError, TypeError) as error:
            # Not one of ours, or a disk that lies: the rest is served, this is a person's to look at.
            log.error("push:record_unreadable", record=record.stem, error=type(error).__name__)  # noqa: TRY400
            return
        if found.state == OPEN:
            try:
                with translated("pushed file"):
                    found = self._torn(found)
            except Unavailable as error:
                log.error("push:torn_unreadable", record=record.stem, detail=error.message)  # noqa: TRY400
                return
        self._files[found.id] = found

    def _torn(self, found: Pushed) -> Pushed:
        """A file whose writer died with us: what it holds; after another boot what was synced."""
        descriptor = os.open(self._part(found), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if found.boot != boot():
                # A length may be there without its bytes.
                size = min(size, found.size_bytes)
                os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        torn = replace(found, state=TORN, size_bytes=size)
        self._save(torn)
        return torn

    # --- what a dock may do -----------------------------------------------------------------------

    def begin(
        self, dock: Dock, name: bytes, protocol: str, *, truncate: bool, offset_bytes: int = 0
    ) -> Incoming:
        """Open a file for writing: a new one, or what an earlier transfer left under that name.

        Args:
            truncate: Cut what is there to the offset: what comes is the rest of the file, and nothing of
                an older transfer lies behind it.

        Raises:
            Conflict: Another connection is writing it (``push_busy``).
            InvalidInput: No name that can be kept, or an offset beyond what is here.
            Unavailable: No room.
        """
        with self._lock, translated("pushed file"):
            clean = checked_name(name)
            self._reserve(0)
            found = self._find(dock, clean)
            if found is not None and found.state == OPEN:
                raise Conflict("file: expected it free, found another transfer writing it", code="push_busy")
            if found is None or found.proof is not None:
                if offset_bytes:
                    raise InvalidInput("offset: expected 0 for a new file, found more", code="push_offset")
                if sum(1 for each in self._files.values() if self._is_of(each, dock)) >= MAX_NAMES:
                    raise Unavailable("dock: expected fewer waiting files, found too many", code="push_limit")
                found = Pushed(
                    id=new_id().hex,
                    name_hex=clean.hex(),
                    agency_id=dock.agency_id.hex,
                    dock_no=dock.dock_no,
                    device_no=dock.device_no,
                    actor=dock.actor,
                    protocol=protocol,
                    state=OPEN,
                )
                self._make_home(found)
            descriptor = os.open(self._part(found), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if offset_bytes > os.fstat(descriptor).st_size:
                    raise InvalidInput(
                        "offset: expected what is here at most, found more", code="push_offset"
                    )
                synced = min(found.size_bytes, offset_bytes) if truncate else found.size_bytes
                found = replace(
                    found, state=OPEN, proof=None, protocol=protocol, actor=dock.actor,
                    device_no=dock.device_no, size_bytes=synced, boot=boot(),
                )  # fmt: skip
                # The record first: a crash or a full disk must not leave a closed record over cut bytes.
                self._save(found)
                if truncate:
                    os.ftruncate(descriptor, offset_bytes)
            except BaseException:
                os.close(descriptor)
                if found.id not in self._files:
                    self._part(found).unlink(missing_ok=True)
                raise
            return Incoming(self, found, descriptor)

    def rename(self, dock: Dock, old: bytes, new: bytes) -> None:
        """Give a file its name; after an orderly close that proves it whole.

        Raises:
            NotFound, Conflict, NotPermitted: No such file, one that is being written, one that is whole.
        """
        with self._lock:
            found = self._required(dock, checked_name(old))
            clean = checked_name(new)
            if found.state == OPEN:
                raise Conflict("file: expected it closed, found a transfer writing it", code="push_busy")
            if found.proof is not None:
                raise NotPermitted("file: whole files keep their names", code="push_whole")
            before = self._find(dock, clean)
            if before is not None and before.id != found.id and before.proof is None:
                if before.state == OPEN:
                    # Its sender will be told that its bytes are here: they must not go meanwhile.
                    raise Conflict("file: expected the name free, found a transfer writing it",
                                   code="push_busy")  # fmt: skip
                self._forget(before)
            last = clean.rpartition(b"/")[2]
            proof = "renamed" if found.state == CLOSED and not is_unfinished(last) else None
            self._save(replace(found, name_hex=clean.hex(), proof=proof))

    def discard(self, dock: Dock, name: bytes) -> None:
        """Drop a file that is not whole, at its dock's wish.

        Raises:
            NotFound, Conflict, NotPermitted: As `rename`.
        """
        with self._lock:
            found = self._required(dock, checked_name(name))
            if found.state == OPEN:
                raise Conflict("file: expected it closed, found a transfer writing it", code="push_busy")
            if found.proof is not None:
                raise NotPermitted("file: whole files are not a dock's to remove", code="push_whole")
            self._forget(found)

    def find(self, dock: Dock, name: bytes) -> Pushed | None:
        """The dock's newest file of that name, sizes as of now."""
        with self._lock:
            found = self._find(dock, checked_name(name))
            return None if found is None else self._sized(found)

    def within(self, dock: Dock, folder: bytes) -> tuple[list[Pushed], set[bytes]]:
        """The dock's files and folders right in one of its folders."""
        clean = checked_folder(folder)
        prefix = clean + b"/" if clean else b""
        with self._lock:
            own = [each for each in self._files.values() if self._is_of(each, dock)]
            inside = [each for each in own if each.name.startswith(prefix)]
            files = {each.name: each for each in inside if b"/" not in each.name[len(prefix) :]}
            known = [each.name for each in inside] + [
                name + b"/" for name in self._folders.get(dock.key, set())
            ]
            folders = {
                name[len(prefix) :].split(b"/")[0]
                for name in known
                if name.startswith(prefix) and b"/" in name[len(prefix) :]
            }
            return [self._sized(each) for each in files.values()], folders

    def has_folder(self, dock: Dock, name: bytes) -> bool:
        """Whether a dock may go into it: the root, one it made, or one with files of its own in it."""
        clean = checked_folder(name)
        if not clean:
            return True
        with self._lock:
            made = self._folders.get(dock.key, set())
            own = (each.name for each in self._files.values() if self._is_of(each, dock))
            return any(each == clean or each.startswith(clean + b"/") for each in (*made, *own)) and (
                self._find(dock, clean) is None
            )

    def make_folder(self, dock: Dock, name: bytes) -> None:
        """Remember a folder for this run: folders are part of names and lie nowhere."""
        with self._lock:
            made = self._folders.setdefault(dock.key, set())
            if len(made) >= MAX_NAMES:
                raise Unavailable("dock: expected fewer folders, found too many", code="push_limit")
            made.add(checked_name(name))

    # --- for Incoming -----------------------------------------------------------------------------

    def settle(self, found: Pushed, descriptor: int, *, in_order: bool, declared_bytes: int | None) -> Pushed:
        """End a transfer: sync the bytes, then say how it ended."""
        with self._lock, translated("pushed file"):
            try:
                try:
                    os.fdatasync(descriptor)
                except OSError:
                    # What a failed sync was to cover is never asked to be synced again: it goes.
                    os.ftruncate(descriptor, min(found.size_bytes, os.fstat(descriptor).st_size))
                    self._save(replace(found, state=TORN))
                    raise
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            proof = (
                "declared_size"
                if in_order and declared_bytes is not None and declared_bytes == size
                else None
            )
            is_named = not is_unfinished(found.name.rpartition(b"/")[2])
            ended = replace(
                found, state=CLOSED if in_order else TORN, proof=proof if is_named else None, size_bytes=size,
                mtime_s=int(time.time()),
            )  # fmt: skip
            self._save(ended)
            return ended

    def sync(self, found: Pushed, descriptor: int) -> Pushed:
        """Sync what came so far, and note how much that is: after a power cut so much counts."""
        with self._lock, translated("pushed file"):
            os.fdatasync(descriptor)
            synced = replace(found, size_bytes=os.fstat(descriptor).st_size)
            self._save(synced)
            return synced

    def require_room(self, more_bytes: int) -> None:
        """Raises Unavailable when there is none."""
        self._reserve(more_bytes)

    # --- for the engine ---------------------------------------------------------------------------

    def listed(self) -> list[Pushed]:
        """Everything that no transfer is writing, oldest first."""
        with self._lock:
            return [each for each in self._files.values() if each.state != OPEN]

    def by_id(self, identity: str) -> Pushed | None:
        """A file nobody writes."""
        with self._lock:
            found = self._files.get(identity)
            return found if found is not None and found.state != OPEN else None

    def opened(self, identity: str) -> int:
        """A descriptor of its bytes."""
        with self._lock:
            found = self.by_id(identity)
            if found is None:
                raise Unavailable("pushed file: expected it where it was, found it gone", code=GONE)
            with translated("pushed file"):
                return os.open(self._part(found), os.O_RDONLY | os.O_CLOEXEC)

    def free(self, identity: str) -> None:
        """Remove a file that is in custody."""
        with self._lock, translated("pushed file"):
            found = self.by_id(identity)
            if found is not None:
                self._forget(found)

    # --- inside -----------------------------------------------------------------------------------

    def _is_of(self, each: Pushed, dock: Dock) -> bool:
        return (each.agency_id, each.dock_no) == (dock.agency_id.hex, dock.dock_no)

    def _find(self, dock: Dock, name: bytes) -> Pushed | None:
        found = [each for each in self._files.values() if self._is_of(each, dock) and each.name == name]
        return found[-1] if found else None

    def _required(self, dock: Dock, name: bytes) -> Pushed:
        found = self._find(dock, name)
        if found is None:
            raise NotFound("file: expected one of that name, found none", code="push_not_found")
        return found

    def _sized(self, found: Pushed) -> Pushed:
        return replace(found, size_bytes=self._part(found).stat().st_size) if found.state == OPEN else found

    def _make_home(self, found: Pushed) -> None:
        home = self._part(found).parent
        if not home.exists():
            home.mkdir(mode=0o700)
            fsync_directory(self._folder)

    def _part(self, found: Pushed) -> Path:
        key = Dock(UUID(found.agency_id), found.dock_no, None, "").key
        return self._folder / key / f"{found.id}.part"

    def _save(self, found: Pushed) -> None:
        with translated("pushed file"):
            write_durably(self._part(found).with_suffix(".json"), json.dumps(asdict(found)).encode())
        self._files[found.id] = found

    def _forget(self, found: Pushed) -> None:
        part = self._part(found)
        part.with_suffix(".json").unlink(missing_ok=True)
        fsync_directory(part.parent)
        part.unlink(missing_ok=True)
        self._files.pop(found.id, None)


class Incoming:
    """One transfer into the dropbox. Written to by one connection."""

    def __init__(self, box: Dropbox, found: Pushed, descriptor: int) -> None:
        self._box = box
        self._found = found
        self._descriptor: int | None = descriptor
        self._reserved_to = 0
        self._end_bytes = os.fstat(descriptor).st_size
        self._gaps: list[tuple[int, int]] = []
        """Where nothing was written yet, because pieces came out of order."""
        self.declared_bytes: int | None = None
        """How long the whole file is, as the dock said beforehand."""
        self.appends = False
        """Whether each write goes to the end."""

    @property
    def size_bytes(self) -> int:
        """How long the file is now."""
        return os.fstat(self._file()).st_size

    def write(self, data: bytes, offset_bytes: int) -> None:
        """Write at an offset.

        Raises:
            InvalidInput: Beyond the largest size (``too_large``).
            Unavailable: No room.
        """
        end = offset_bytes + len(data)
        if end > self._box.max_file_bytes:
            raise InvalidInput(
                f"file: expected at most {self._box.max_file_bytes} bytes, found more", code="push_too_large"
            )
        if end > self._reserved_to:
            self._box.require_room(RESERVE_EVERY_BYTES)
            self._reserved_to = end + RESERVE_EVERY_BYTES
        self._note(offset_bytes, end)
        with translated("pushed file"):
            view = memoryview(data)
            while view:
                count = os.pwrite(self._file(), view, offset_bytes)
                offset_bytes += count
                view = view[count:]

    def _note(self, begin: int, end: int) -> None:
        """Keep account of what was jumped over: a hole would pass for footage."""
        if begin > self._end_bytes:
            if len(self._gaps) >= MAX_GAPS:
                raise InvalidInput("offset: expected pieces in order, found many gaps", code="push_offset")
            self._gaps.append((self._end_bytes, begin))
        self._end_bytes = max(self._end_bytes, end)
        if self._gaps:
            cut = [((low, min(high, begin)), (max(low, end), high)) for low, high in self._gaps]
            self._gaps = [(low, high) for pair in cut for low, high in pair if low < high]

    def truncate(self, size_bytes: int) -> None:
        """Cut it, or lengthen it by nothing: a hole would pass for footage."""
        if size_bytes > self.size_bytes:
            raise InvalidInput("size: expected what is here at most, found more", code="push_offset")
        with translated("pushed file"):
            os.ftruncate(self._file(), size_bytes)
        self._end_bytes = size_bytes
        self._gaps = [(low, min(high, size_bytes)) for low, high in self._gaps if low < size_bytes]

    def sync(self) -> None:
        """Sync what came so far."""
        self._found = self._box.sync(self._found, self._file())

    def end(self, *, in_order: bool) -> Pushed:
        """End the transfer; after this the bytes are on disk. What lies behind a gap is none of the file."""
        if self._gaps:
            in_order = False
            self.truncate(min(low for low, _ in self._gaps))
        descriptor, self._descriptor = self._file(), None
        return self._box.settle(
            self._found, descriptor, in_order=in_order, declared_bytes=self.declared_bytes
        )

    @property
    def is_ended(self) -> bool:
        """Whether `end` was called."""
        return self._descriptor is None

    def _file(self) -> int:
        if self._descriptor is None:
            raise Conflict("file: expected it open, found it closed", code="push_busy")
        return self._descriptor


class DropboxFolder:
    """A `RemoteFolder` over what was pushed: the same engine takes it as everything else."""

    def __init__(self, box: Dropbox) -> None:
        self._box = box

    def files(self) -> list[RemoteFile]:
        return [_remote(found) for found in self._box.listed()]

    def look(self, file: RemoteFile) -> RemoteFile | None:
        found = self._box.by_id(file.version)
        return None if found is None else _remote(found)

    def read(self, file: RemoteFile, offset_bytes: int) -> Generator[bytes, None, None]:
        descriptor = self._box.opened(file.version)
        try:
            while chunk := os.pread(descriptor, READ_BYTES, offset_bytes):
                offset_bytes += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    def remove(self, file: RemoteFile) -> None:
        self._box.free(file.version)

    def disconnect(self) -> None:
        """Nothing to let go of."""


def _remote(found: Pushed) -> RemoteFile:
    place = f"{found.agency_id}/{found.dock_no}/".encode()
    return RemoteFile(
        path=place + found.name,
        name=found.name.rpartition(b"/")[2],
        size_bytes=found.size_bytes,
        mtime_ns=found.mtime_s * 10**9,
        version=found.id,
        slot=found.id.encode(),
        proof=found.proof,
        may_settle=found.state == CLOSED,
        origin=Origin(UUID(found.agency_id), found.actor, found.dock_no, found.device_no),
        metadata={"pushed_over": found.protocol, "proof": found.proof or "rest or digest"},
    )


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
