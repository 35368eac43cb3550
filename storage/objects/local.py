"""Objects in a local directory, on one file system, safe against power cuts and wrong disks.

The order of every step is in ``docs/design/storage.md``. What each one is for stands here:
an identity file tells this store's disk from an empty mount point, another disk or an old
copy; hard links publish a name without ever replacing one; every new directory entry is
made durable by an fsync of the directory that holds it.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

import structlog

from evidence.clock import Clock, SystemClock, rfc3339
from evidence.errors import Conflict, FixityError, NotFound, Unavailable
from evidence.fixity import compare, compare_size, hash_file
from evidence.ids import new_id
from storage.objects import aside
from storage.objects.base import (
    DisposalOrder,
    Namespace,
    StoredObject,
    object_key,
    parse_key,
    require_deletable,
)
from storage.objects.durable import fsync_directory, require_space, translated, write_durably
from storage.objects.medium import read_medium

IDENTITY_FILE = "store.json"
STAGING = "staging"
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class StoreIdentity:
    """Which store a directory is."""

    store_id: UUID
    created_at: str
    generation: int
    """Raised by a restore, so that the disk that was replaced is known as stale."""


class LocalObjectStore:
    """An `ObjectStore` in a directory; open it with `create` or `attach`."""

    def __init__(self, root: Path, identity: StoreIdentity, floor_bytes: int) -> None:
        self._root = root
        self._floor_bytes = floor_bytes
        self.identity = identity
        self._inode = _inode_of(root)
        self._durable: set[Path] = set()

    @classmethod
    def create(cls, root: Path, *, floor_bytes: int = 0, clock: Clock | None = None) -> LocalObjectStore:
        """Make a new store in an empty or absent directory.

        Raises:
            Conflict: There is something in the directory already.
        """
        root.mkdir(parents=True, exist_ok=True)
        if any(entry.name != "lost+found" for entry in root.iterdir()):
            raise Conflict(
                f"object store {root}: expected an empty directory, found files; choose another",
                code="store_not_empty",
            )
        identity = StoreIdentity(new_id(), rfc3339((clock or SystemClock()).now()), 1)
        (root / STAGING).mkdir(mode=0o700)
        write_durably(root / IDENTITY_FILE, encode_identity(identity))
        fsync_directory(root.parent)
        return cls(root, identity, floor_bytes)

    @classmethod
    def attach(
        cls, root: Path, store_id: UUID, *, min_generation: int = 1, floor_bytes: int = 0
    ) -> LocalObjectStore:
        """Open the store that the database knows.

        Raises:
            Unavailable: The disk is not mounted (``store_missing``), another one
                (``store_wrong``), or an old copy (``store_stale``).
        """
        identity = read_identity(root)
        if identity.store_id != store_id:
            raise Unavailable(
                f"object store {root}: expected store {store_id}, found {identity.store_id}; "
                "mount the right disk",
                code="store_wrong",
                expected=str(store_id),
                found=str(identity.store_id),
            )
        if identity.generation < min_generation:
            raise Unavailable(
                f"object store {root}: expected generation {min_generation}, found {identity.generation}; "
                "this is an old copy, mount the current disk",
                code="store_stale",
                expected=min_generation,
                found=identity.generation,
            )
        (root / STAGING).mkdir(mode=0o700, exist_ok=True)
        return cls(root, identity, floor_bytes)

    def raise_generation(self) -> StoreIdentity:
        """Write a higher generation into the identity file; the caller records it as the least to accept."""
        self._require_mounted()
        identity = StoreIdentity(
            self.identity.store_id, self.identity.created_at, self.identity.generation + 1
        )
        write_durably(self._root / IDENTITY_FILE, encode_identity(identity))
        self.identity = identity
        return identity

    @property
    def root(self) -> Path:
        return self._root

    @property
    def staging_dir(self) -> Path:
        return self._root / STAGING

    def adopt(
        self,
        staged: Path,
        sha256: bytes,
        size: int,
        agency: str,
        namespace: Namespace = Namespace.ORIGINAL,
    ) -> StoredObject:
        key = object_key(agency, namespace, sha256)
        target = self._root / key
        self._require_mounted()
        with translated(f"object {key}"):
            if not os.path.lexists(staged):
                return self._adopted_before(key, target, size)
            _make_durable(staged, size, key)
            self._make_directories(target.parent)
            reused = not self._publish(staged, target)
            # The staged copy may be the only good one: it goes only after the other was read.
            if reused and not aside.is_sound(target, sha256, size):
                self._heal(staged, key, sha256, size)
                reused = False
            fsync_directory(target.parent)
            staged.unlink()
        return StoredObject(key, size, reused)

    def _heal(self, staged: Path, key: str, sha256: bytes, size: int) -> None:
        """Put the sound bytes of ``staged`` in the place of damaged ones, which are kept aside.

        The name of the object is there at every instant; a process that dies on the way does it again.
        """
        compare(sha256, hash_file(staged).sha256, f"staged file of object {key}")
        target = self._root / key
        with aside.alone(self._root) as folder:
            if aside.is_sound(target, sha256, size):
                return  # Somebody else brought the bytes while we waited.
            kept = aside.keep(folder, key, target)
            sound = self.staging_dir / f"{sha256.hex()}.sound"
            sound.unlink(missing_ok=True)
            self._publish(staged, sound)
            sound.replace(target)
            fsync_directory(target.parent)
        log.error("store:damaged_bytes_replaced", key=key, kept=kept.name)

    def kept_aside(self, key: str) -> builtins.list[str]:
        return aside.kept_of(self._root, key)

    def _adopted_before(self, key: str, target: Path, size: int) -> StoredObject:
        if not target.exists():
            raise NotFound(
                f"object {key}: expected a staged file or the object, found neither; "
                "the sender must send again",
                code="staged_file_missing",
                key=key,
            )
        compare_size(size, target.stat().st_size, f"object {key}")
        fsync_directory(target.parent)
        return StoredObject(key, size, reused=True)

    def _publish(self, staged: Path, target: Path) -> bool:
        """Give ``staged`` the name ``target`` unless something has it; True when it did."""
        try:
            os.link(staged, target, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._publish_copy(staged, target)
        return True

    def _publish_copy(self, staged: Path, target: Path) -> bool:
        """The same from another file system, by way of our own staging directory."""
        copy = self.staging_dir / f"{new_id().hex}.copy"
        try:
            with staged.open("rb") as source, copy.open("xb") as sink:
                while chunk := source.read(1 << 20):
                    sink.write(chunk)
                sink.flush()
                os.fchmod(sink.fileno(), 0o444)
                os.fsync(sink.fileno())
            compare(hash_file(staged).sha256, hash_file(copy).sha256, f"copy of {target.name}")
            os.link(copy, target, follow_symlinks=False)
        except FileExistsError:
            return False
        finally:
            copy.unlink(missing_ok=True)
        return True

    def _make_directories(self, directory: Path) -> None:
        # A directory that exists may be one whose maker died before syncing the parent, so each is
        # made durable once by this process, no matter who made it.
        chain = [path for path in (directory, *directory.parents) if path.is_relative_to(self._root)]
        for path in reversed(chain):
            if path == self._root or path in self._durable:
                continue
            path.mkdir(mode=0o750, exist_ok=True)
            fsync_directory(path.parent)
            self._durable.add(path)

    def open(self, key: str) -> BinaryIO:
        return self.path(key).open("rb")

    def path(self, key: str) -> Path:
        parse_key(key)
        path = self._root / key
        if not path.is_file():
            self._require_mounted()
            raise NotFound(f"object {key}: expected a file in the store, found none", key=key)
        return path

    def size(self, key: str) -> int:
        return self.path(key).stat().st_size

    def exists(self, key: str) -> bool:
        parse_key(key)
        if (self._root / key).is_file():
            return True
        self._require_mounted()
        return False

    def delete(self, key: str, *, order: DisposalOrder | None = None) -> None:
        require_deletable(key, order)
        self._require_mounted()
        path = self._root / key
        with translated(f"object {key}"):
            path.unlink(missing_ok=True)
            if path.parent.exists():
                fsync_directory(path.parent)

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        self._require_mounted()
        yield from _walk(self._root, "", prefix)

    def read_back(self, key: str, chunk_bytes: int = 1 << 20, at: int = 0) -> Iterator[memoryview]:
        path = self.path(key)
        with translated(f"object {key}"):
            yield from read_medium(path, chunk_bytes, at)

    def reserve(self, size: int) -> None:
        require_space(self.free_bytes(), self._floor_bytes, size, f"object store {self._root}")

    def free_bytes(self) -> int:
        self._require_mounted()
        state = os.statvfs(self._root)
        return state.f_bavail * state.f_frsize

    def _require_mounted(self) -> None:
        """Notice a disk that went away under us: its mount point is then another directory."""
        if not self._root.is_dir() or _inode_of(self._root) != self._inode:
            raise Unavailable(
                f"object store {self._root}: expected the disk of store {self.identity.store_id}, "
                "found another directory; mount it again",
                code="store_missing",
            )


def read_identity(root: Path) -> StoreIdentity:
    """Which store lies at ``root``.

    Raises:
        Unavailable: No identity file, or an unreadable one.
    """
    try:
        raw = json.loads((root / IDENTITY_FILE).read_text())
        return StoreIdentity(UUID(raw["store_id"]), str(raw["created_at"]), int(raw["generation"]))
    except FileNotFoundError as error:
        raise Unavailable(
            f"object store {root}: expected {IDENTITY_FILE}, found none; is the disk mounted?",
            code="store_missing",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            f"object store {root}: expected a readable {IDENTITY_FILE}, found {type(error).__name__}; "
            "check the disk",
            code="store_unreadable",
        ) from error


def _make_durable(staged: Path, size: int, key: str) -> None:
    """Sync a staged file and take away the right to write it."""
    descriptor = os.open(staged, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise FixityError(f"object {key}: expected a regular staged file, found another kind", key=key)
        compare_size(size, state.st_size, f"staged file of object {key}")
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(directory: Path, done: str, prefix: str) -> Iterator[tuple[str, int]]:
    entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    for entry in entries:
        key = f"{done}{entry.name}"
        if not done and entry.name in {IDENTITY_FILE, STAGING, aside.ASIDE, "lost+found"}:
            continue
        if entry.is_dir(follow_symlinks=False):
            if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                yield from _walk(Path(entry.path), f"{key}/", prefix)
        elif key.startswith(prefix):
            with contextlib.suppress(FileNotFoundError):  # A derivative deleted while we walk.
                yield key, entry.stat(follow_symlinks=False).st_size


def _inode_of(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def encode_identity(identity: StoreIdentity) -> bytes:
    """The identity file of a store."""
    fields = {name: str(value) if name == "store_id" else value for name, value in asdict(identity).items()}
    return (json.dumps(fields, indent=2) + "\n").encode()
