"""What the agent has done with each file, on its own disk, so that a power cut forgets nothing.

1. Append-only lines, each with a CRC, each synced before what it says is relied upon: the
   address of an upload before its first byte, the end of an upload before its receipt is
   asked for, a receipt (already in its own file) before anything is freed.
2. The last line of a file's key counts. A torn tail, as a power cut leaves it, is cut off; a
   damaged line in the middle is left out and counted, which costs an upload and never a file.
3. Keyed by device, path, size, time of change, and inode where the file system keeps inodes
   over a mount. A file that differs in any of them is another file.
"""

from __future__ import annotations

import io
import json
import os
import threading
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from liuhen_dock.durable import sync_folder, write_durably
from liuhen_dock.errors import ConfigError, DockError

SPARE_LINES = 1000


class Phase(StrEnum):
    """How far a file is."""

    OPEN = "open"
    """An upload has been made for it."""
    SENT = "sent"
    """Every byte is acknowledged and the digests agree; no receipt yet."""
    RECEIPTED = "receipted"
    """A verified receipt is kept."""
    FREED = "freed"
    """Deleted from the card, by its receipt."""
    DROPPED = "dropped"
    """Its upload is void: changed on the card, or gone on the server."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """Which file, as far as a card can tell."""

    device: str
    path: str
    """Relative to the volume, with ``/``; bytes that are no text stand as surrogates."""
    size_bytes: int
    mtime_ns: int
    inode: int
    """0 where the file system makes inodes up anew at each mount (FAT, exFAT)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file and how far it is."""

    key: FileKey
    phase: Phase
    location: str = ""
    """Address of its upload."""
    sha256: str = ""
    """Of what the agent read, hexadecimal; known once the file was read whole."""
    item: str = ""
    """What the server calls the item, as it said with the last byte."""
    device_no: str = ""
    """The device number that was sent; empty when it was not known."""
    is_key: bool = False
    prefix_bytes: int = 0
    """How much of the file had been read and acknowledged when this was written."""
    prefix_sha256: str = ""
    """Of that beginning: after a restart it must still be so, or the file is another."""


KEPT = {Phase.FREED: 20_000, Phase.DROPPED: 20_000, Phase.RECEIPTED: 200_000}
"""How many are remembered. A file that is forgotten and still on a card goes up once more: the same
item, one more reception."""


class Journal:
    """The journal file. Safe for several threads; one process at a time (see `liuhen_dock.lock`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[FileKey, Entry] = {}
        self._by_phase: dict[Phase, dict[FileKey, Entry]] = {phase: {} for phase in Phase}
        self.damaged_lines = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = self._load()
        self._open()
        if self._is_long():
            self._compact()

    def _open(self) -> None:
        existed = self._path.exists()
        try:
            # Without a buffer: what could not be written must not come back with the next line.
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"journal {self._path}: {error}", code="state_unwritable") from error
        if not existed:
            sync_folder(self._path.parent)

    def _is_long(self) -> bool:
        return self._lines > SPARE_LINES + 4 * len(self._entries)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def get(self, key: FileKey) -> Entry | None:
        """What is known of a file."""
        with self._lock:
            return self._entries.get(key)

    def in_phase(self, *phases: Phase) -> list[Entry]:
        """Every file that is so far, oldest word first."""
        with self._lock:
            return [entry for phase in phases for entry in self._by_phase[phase].values()]

    def put(self, entry: Entry) -> Entry:
        """Write down how far a file is; durable on return.

        Raises:
            DockError: Code ``state_unwritable``: the dock's own disk is full or failing. Nothing was noted.
        """
        with self._lock:
            end = self._file.seek(0, os.SEEK_END)
            try:
                _write_whole(self._file, _line(entry))
                os.fsync(self._file.fileno())
            except OSError as error:
                with suppress(OSError):  # half a line at the end is cut off by the next start anyway
                    self._file.truncate(end)
                raise DockError(f"journal: {error.strerror}", code="state_unwritable") from error
            self._note(entry)
            self._lines += 1
            if self._is_long():
                self._compact()
        return entry

    def advance(self, entry: Entry, phase: Phase, **facts: Any) -> Entry:
        """The same file, further on."""
        return self.put(replace(entry, phase=phase, **facts))

    def _note(self, entry: Entry) -> None:
        before = self._entries.pop(entry.key, None)
        if before is not None:
            del self._by_phase[before.phase][entry.key]
        same = self._by_phase[entry.phase]
        self._entries[entry.key] = same[entry.key] = entry
        if len(same) > KEPT.get(entry.phase, len(same)):
            del self._entries[next(iter(same))]
            del same[next(iter(same))]

    def _load(self) -> int:
        if not self._path.exists():
            return 0
        content = self._path.read_bytes()
        lines = content.splitlines(keepends=True)
        for line in lines:
            entry = _parsed(line)
            if entry is None:
                self.damaged_lines += 1
            else:
                self._note(entry)
        if lines and not lines[-1].endswith(b"\n"):
            # Without this the next line would be glued to the torn one and be lost with it.
            whole = content[: len(content) - len(lines[-1])]
            if (last := _parsed(lines[-1])) is not None:
                whole += _line(last)
            write_durably(self._path, whole)
        return len(lines)

    def _compact(self) -> None:
        """Write the last word of each file alone; the whole file is replaced at once."""
        self._file.close()
        write_durably(self._path, b"".join(_line(entry) for entry in self._entries.values()))
        self._lines = len(self._entries)
        self._open()


def _write_whole(file: io.RawIOBase, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) or 0 :]


def _line(entry: Entry) -> bytes:
    body = json.dumps(asdict(entry), ensure_ascii=True, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parsed(line: bytes) -> Entry | None:
    check, _, body = line.rstrip(b"\n").partition(b" ")
    try:
        if int(check, 16) != zlib.crc32(body):
            return None
        raw: dict[str, Any] = json.loads(body)
        return Entry(FileKey(**raw.pop("key")), Phase(raw.pop("phase")), **raw)
    except (ValueError, KeyError, TypeError):
        return None
