"""What a place files are fetched from must be able to do, and how its files are told apart.

A `RemoteFolder` lists, looks, reads from an offset and removes. It decides nothing: when a file is
whole, what is kept of a cut transfer and when the dock's copy may go is the engine's
(`ingest.sources.pulling`). Its names are data: no path of ours is made of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from evidence.errors import Unavailable

CUT = "source_cut"
UNREACHABLE = "source_unreachable"
GONE = "source_gone"
UNREADABLE = "source_unreadable"

MAX_FILES = 100_000
MAX_DEPTH = 16


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
    """Its last component, as on the device."""
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
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """Which file of the place it is, whatever its state."""
        return self.path + b"\0" + self.slot

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

    def remove(self, file: RemoteFile) -> None:
        """Remove it at the source."""
        ...

    def disconnect(self) -> None:
        """Let the connection go; the next call makes a new one."""
        ...


def is_plain_name(name: bytes) -> bool:
    """Whether a name from a listing is one component that can be asked for again."""
    return (
        bool(name)
        and name not in {b".", b".."}
        and not any(bad in name for bad in (b"/", b"\0", b"\r", b"\n"))
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
