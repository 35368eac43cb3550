"""A second store: what rooms recorded, once more on another disk, in folders that people can read.

    <root>/liuhen-second-copy.json            says whose second store this is
           <agency>/<room>/live/…             what is nobody's yet, or not read back yet
           <agency>/<room>/<date>/…           files in custody, as read back here
           <agency>/<room>/<date>/SHA256SUMS  their digests, for ``sha256sum -c``

Where the mark is missing nothing is written: a disk that is not mounted leaves an empty folder, on the disk
it is to be apart from. All is done through a handle of the root that had the mark, so a disk that is
exchanged meanwhile is not written to, and one that went away is noticed at the next look. No handle is kept
between two looks: the disk can be unmounted.

Nothing here decides what a file should hold; that is the first store's.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from evidence.clock import rfc3339
from evidence.errors import Conflict, NotFound, Unavailable
from evidence.ids import new_id
from storage.objects.durable import fsync_directory, translated, write_durably
from storage.objects.medium import read_medium

MARK = "liuhen-second-copy.json"
LIVE = "live"
LOCK = "lock"
SUMS = "SHA256SUMS"
CHUNK_BYTES = 1 << 20
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")


@dataclass(frozen=True)
class Mark:
    """Which second store a folder is."""

    copy_id: UUID
    store_id: str
    """Of the object store whose files it has."""
    made_at: str


def prepare(folder: Path, store_id: str, now: datetime) -> Mark:
    """Make an empty folder a second store; one that is ours already stays as it is.

    Raises:
        NotFound: There is no such folder (``second_store_missing``).
        Conflict: There is something else in it (``second_store_not_empty``).
        Unavailable: It cannot be written, or is another installation's (``second_store_wrong``).
    """
    if not folder.is_dir():
        raise NotFound(
            f"second store {folder}: expected a folder, found none; mount the disk and make it",
            code="second_store_missing",
        )
    if (folder / MARK).exists():
        return _mark_of(folder, folder, store_id)
    if found := sorted(entry.name for entry in folder.iterdir() if entry.name != "lost+found"):
        raise Conflict(
            f"second store {folder}: expected an empty folder, found {found[0]}; name another",
            code="second_store_not_empty",
        )
    mark = Mark(new_id(), store_id, rfc3339(now))
    told = {name: str(value) for name, value in asdict(mark).items()}
    with translated(f"second store {folder}"):
        write_durably(folder / MARK, (json.dumps(told, indent=2) + "\n").encode())
    return mark


@contextmanager
def attached(folder: Path, store_id: str) -> Iterator[SecondStore]:
    """The second store at a folder, for as long as the block lasts.

    Raises:
        Unavailable: The disk is away (``second_store_missing``), or it is another's (``second_store_wrong``).
    """
    try:
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _missing(folder) from error
    try:
        # Whatever is mounted there from now on, this is the folder that was looked at.
        held = Path(f"/proc/self/fd/{root}")
        yield SecondStore(folder, held, _mark_of(folder, held, store_id))
    finally:
        os.close(root)


class SecondStore:
    """A second store that was found in its place; see `attached`. Names are relative to its root.

    Every method raises `Unavailable` where the disk is full, read-only or failing.
    """

    def __init__(self, folder: Path, root: Path, mark: Mark) -> None:
        self._root, self._name = root, f"second store {folder}"
        self.mark = mark

    def size(self, name: str) -> int | None:
        """How much is there; None: no such file."""
        with translated(self._name):
            try:
                return (self._root / name).stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                return None

    def grow(self, name: str, source: int, until: int, most_bytes: int) -> int:
        """Append what a file lacks of another, and have it on the disk; returns how long it is then.

        The same bytes go to the same places, so two who do it at once do no harm.

        Args:
            source: Descriptor of the other, of which no byte before ``until`` changes any more.
            most_bytes: How much is appended at most.
        """
        with translated(self._name):
            target = self._opened(name)
        try:
            with translated(self._name):
                at = os.fstat(target).st_size
            end = min(until, at + most_bytes)
            begin = at
            while at < end:
                with translated("first store, for the second"):
                    data = os.pread(source, min(CHUNK_BYTES, end - at), at)
                if not data:
                    break
                with translated(self._name):
                    at += os.pwrite(target, data, at)
            if at > begin:
                with translated(self._name):
                    os.fdatasync(target)
            return at
        finally:
            os.close(target)

    def cut(self, name: str, size_bytes: int) -> None:
        """Take off what a file has beyond a length."""
        with translated(self._name):
            target = self._opened(name)
            try:
                os.ftruncate(target, size_bytes)
                os.fsync(target)
            finally:
                os.close(target)

    def stamp(self, name: str) -> tuple[int, int]:
        """Size and time of change: where they are what they were, nobody has written to a file meanwhile."""
        with translated(self._name):
            found = (self._root / name).stat(follow_symlinks=False)
            return found.st_size, found.st_mtime_ns

    def read_back(self, name: str, at: int = 0) -> Iterator[memoryview]:
        """What the medium holds from a place on; each view is good until the next."""
        with translated(self._name):
            yield from read_medium(self._root / name, CHUNK_BYTES, at)

    def move(self, name: str, to: str) -> None:
        """Give a file another name, durably. The caller knows that nothing has it."""
        with translated(self._name):
            self._make_folder((self._root / to).parent)
            (self._root / name).rename(self._root / to)
            fsync_directory((self._root / to).parent)
            fsync_directory((self._root / name).parent)

    def list_digest(self, path: str, sha256: bytes) -> None:
        """Enter a file into the list beside it; once more changes nothing."""
        folder, _, name = path.rpartition("/")
        place = self._root / folder / SUMS
        with translated(self._name):
            known = sums_of(place)
            if known.get(name) != sha256.hex():
                lines = sorted((name, digest) for name, digest in {**known, name: sha256.hex()}.items())
                write_durably(place, "".join(f"{digest}  {name}\n" for name, digest in lines).encode())

    def drop(self, name: str) -> None:
        """Remove what was nobody's; absent is fine."""
        with translated(self._name):
            (self._root / name).unlink(missing_ok=True)

    @contextmanager
    def alone(self, room: str) -> Iterator[bool]:
        """Whether nobody else settles files of a room now; as long as the block lasts nobody does."""
        with translated(self._name):
            lock = self._opened(f"{room}/{LIVE}/{LOCK}")
        try:
            try:
                with translated(self._name):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except Unavailable as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                yield False
            else:
                yield True
        finally:
            os.close(lock)

    def _opened(self, name: str) -> int:
        path = self._root / name
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            self._make_folder(path.parent)
            found = os.open(path, flags | os.O_CREAT, 0o640)
            fsync_directory(path.parent)
            return found

    def _make_folder(self, folder: Path) -> None:
        if folder != self._root and not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o750, exist_ok=True)
            fsync_directory(folder.parent)


def room_folder(agency: str, room_no: str) -> str:
    """Where a room's files are, from the root; a code may hold what no name of a folder can."""
    return f"{quote(agency, safe='').replace('.', '%2E')}/{room_no}"


def sums_of(path: Path) -> dict[str, str]:
    """What a list of digests says, by name."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    return {match[2]: match[1] for match in map(_SUM.fullmatch, text.splitlines()) if match}


def _mark_of(folder: Path, held: Path, store_id: str) -> Mark:
    try:
        told = json.loads((held / MARK).read_text(encoding="utf-8"))
        mark = Mark(UUID(str(told["copy_id"])), str(told["store_id"]), str(told["made_at"]))
    except FileNotFoundError as error:
        raise _missing(folder) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Unavailable(
            f"second store {folder}: expected a readable {MARK}, found {type(error).__name__}; "
            "look at the disk",
            code="second_store_unreadable",
        ) from error
    if mark.store_id != store_id:
        raise Unavailable(
            f"second store {folder}: expected one of store {store_id}, found one of {mark.store_id}; "
            "mount the right disk",
            code="second_store_wrong",
        )
    return mark


def _missing(folder: Path) -> Unavailable:
    return Unavailable(
        f"second store {folder}: expected {MARK} in it, found none; mount the disk, or make it one with "
        "`liuhen room prepare-copy`",
        code="second_store_missing",
    )
