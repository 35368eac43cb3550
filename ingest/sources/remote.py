"""What a place files are fetched from must be able to do, and how its files are told apart.

A `RemoteFolder` lists, looks, reads from an offset, renames and removes. It decides nothing: when a file
is whole and what is kept of a cut transfer is the engine's (`ingest.sources.pulling`), when the dock's copy
may go is `ingest.sources.freeing`'s. Its names are data: no path of ours is made of them.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from evidence.errors import Conflict, Unavailable
from evidence.filenames import display_name

CUT = "source_cut"
UNREACHABLE = "source_unreachable"
GONE = "source_gone"
UNREADABLE = "source_unreadable"

MAX_FILES = 100_000
MAX_DEPTH = 16
MAX_NAME_BYTES = 255
_SET_ASIDE = re.compile(rb"(?s)\A(.+)[.]liuhen-[0-9a-f]{16}\Z")
"""A name of ours at a dock, behind the one the device gave. It does not begin with a dot: many servers hide
such names, and what was set aside by a process that died must be found again."""


class Stopped(Exception):
    """Told to stop in the middle of a file."""


@dataclass(frozen=True)
class Origin:
    """Whose a file is: the agency it goes to, and what is known of where it came from."""

    agency_id: UUID
    actor: str
    dock_no: str | None = None
    device_no: str | None = None


@dataclass(frozen=True)
class RemoteFile:
    """A file as a listing shows it."""

    path: bytes
    """What the place itself calls it; only ever sent back there."""
    name: bytes
    """Its last component, as on the device; also of a file that is set aside under another."""
    size_bytes: int
    mtime_ns: int | None = None
    """By the dock's clock, as coarse as the protocol tells it; None when it does not."""
    version: str = ""
    """Whatever else tells two states apart, such as an ETag."""
    declared_sha256: bytes | None = None
    """What the place says the whole file comes to."""
    proof: str | None = None
    """What proves it whole without settling; None when nothing does."""
    may_settle: bool = True
    """Whether rest may count at all: a transfer known to be torn rests for ever."""
    origin: Origin | None = None
    """Set where one place serves several docks."""
    slot: bytes = b""
    """Tells files of one path apart, where a place keeps several."""
    is_set_aside: bool = False
    """Whether it has a name of ours at the place, under which nobody else writes."""
    is_immutable: bool = False
    """Whether this state of it never has other bytes: nothing has to be read again to know them."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """Which file of the place it is, whatever its state."""
        return self.path + b"\0" + self.slot

    @property
    def folder(self) -> bytes:
        """Where it lies."""
        return self.path.rpartition(b"/")[0]

    @property
    def state(self) -> tuple[int, int | None, str]:
        """What must not change while it settles and is read."""
        return (self.size_bytes, self.mtime_ns, self.version)

    def identity(self, place: str) -> str:
        """The same for this state of this file at this place, and for no other."""
        parts = (place.encode(), self.path, b"%d" % self.size_bytes, str(self.mtime_ns).encode(),
                 self.version.encode())  # fmt: skip
        return hashlib.sha256(b"".join(b"%d:" % len(part) + part for part in parts)).hexdigest()


class RemoteFolder(Protocol):
    """A place to fetch files from. All methods are called from one thread.

    They raise Unavailable with ``source_unreachable`` or ``source_cut`` for the place as a whole, and
    ``source_gone`` or ``source_unreadable`` for one file; NotAuthenticated where either side cannot prove
    who it is.
    """

    def files(self) -> list[RemoteFile]:
        """Every regular file, markers and sidecars too; never through a link."""
        ...

    def look(self, file: RemoteFile) -> RemoteFile | None:
        """The file as it is now; None when it is gone."""
        ...

    def read(self, file: RemoteFile, offset_bytes: int) -> Generator[bytes, None, None]:
        """Its bytes from an offset on; may be closed early."""
        ...

    def rename(self, file: RemoteFile, path: bytes) -> bool:
        """Give it another path that nothing has; False where the place cannot or will not."""
        ...

    def remove(self, file: RemoteFile) -> None:
        """Remove it at the source."""
        ...

    def disconnect(self) -> None:
        """Let the connection go; the next call makes a new one."""
        ...


def listed(path: bytes, size_bytes: int, mtime_ns: int | None, version: str = "") -> RemoteFile:
    """A file of a place where files are set aside, under the name its device gave it."""
    name = path.rpartition(b"/")[2]
    aside = _SET_ASIDE.match(name)
    return RemoteFile(
        path, aside[1] if aside else name, size_bytes, mtime_ns, version, is_set_aside=aside is not None
    )


def aside_path(file: RemoteFile) -> bytes | None:
    """A path beside it that is ours alone; None when its name leaves no room for one."""
    name = file.name + b".liuhen-" + secrets.token_hex(8).encode()
    return file.folder + b"/" + name if len(name) <= MAX_NAME_BYTES else None


def is_plain_name(name: bytes) -> bool:
    """Whether a name from a listing is one component that can be asked for again."""
    return (
        bool(name)
        and name not in {b".", b".."}
        and not any(bad in name for bad in (b"/", b"\0", b"\r", b"\n"))
    )


def changed(file: RemoteFile) -> Conflict:
    """A file is not what it was when it was listed."""
    return Conflict(
        f"file {display_name(file.name)}: expected it to stay as it was, found it changed while it was "
        "read; it will be tried again",
        code="source_changed",
    )


def cut(what: str, error: BaseException | str) -> Unavailable:
    """The connection to a place broke."""
    return Unavailable(
        f"{what}: expected the connection to hold, found {_told(error)}; it will go on from there", code=CUT
    )


def unreachable(what: str, error: BaseException | str) -> Unavailable:
    """A place cannot be spoken to now."""
    return Unavailable(
        f"{what}: expected it to answer, found {_told(error)}; it will be asked again", code=UNREACHABLE
    )


def _told(error: BaseException | str) -> str:
    if isinstance(error, str):
        return error
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
