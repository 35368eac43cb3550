"""When a file at a remote place is whole, from its listings alone.

The rules, in order; one is enough:

1. The place proves it: a pushed file that was renamed to its name, or has the size that was declared.
2. Its marker is there (``X.ok`` or, for ``X.mp4``, ``X.ok`` by its stem), where markers are asked for.
3. A digest is declared, by a sidecar ``X.sha256`` / ``X.sha256sum`` or by the manifest: it is fetched, and
   counts if it comes to that digest.
4. Without markers: size, time and sidecars were the same in two listings at least ``settle_s`` apart, by our
   own monotonic clock. The table of its folder too, unless it never rests.

Names that programs give to unfinished files never count.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from evidence.errors import InvalidInput
from evidence.fixity import parse_sha256
from ingest.sources.remote import RemoteFile
from ingest.sources.sidecar import (
    MAX_SIDECAR_BYTES,
    TABLE_PATIENCE,
    is_companion,
    is_table,
    sidecar_of,
    spoken_of,
    stem_of,
    table_of,
)

UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", "~")
LONG_S = 6 * 3600.0
"""No transfer that is still going takes so long as a rule."""
MAX_TOLD = 10_000
DIGEST_SUFFIXES = (b".sha256", b".sha256sum")
MAX_DIGEST_BYTES = 4096
_DIGEST_LINE = re.compile(rb"\A(?:\xef\xbb\xbf)?\\?([0-9A-Fa-f]{64})(?:\s|\Z)")


def is_unfinished(name: bytes) -> bool:
    """Whether a program calls unfinished files so, or hides them."""
    return name.startswith(b".") or name.lower().endswith(tuple(ending.encode() for ending in UNFINISHED))


class Skipped:
    """When to speak of files with names of unfinished ones: each day brings some, and few of them stay."""

    def __init__(self) -> None:
        self._since_s: dict[object, float] = {}
        self._warned: set[object] = set()

    def level(self, file: object, now_s: float) -> int | None:
        """The level to log it with now: once when it is first seen, once more when it has stayed for long."""
        since_s = self._since_s.get(file)
        if since_s is None and len(self._since_s) < MAX_TOLD:
            self._since_s[file] = now_s
            return logging.INFO
        if since_s is None or file in self._warned or now_s - since_s < LONG_S:
            return None
        self._warned.add(file)
        return logging.WARNING


def parse_digest_file(content: bytes) -> bytes:
    """The digest in a file as ``sha256sum`` writes it, or the 64 digits alone.

    Raises:
        InvalidInput: It holds none (``bad_digest``).
    """
    found = _DIGEST_LINE.match(content.strip())
    if found is None:
        raise InvalidInput(
            "digest file: expected 64 hexadecimal digits first, found others", code="bad_digest"
        )
    return parse_sha256(found[1].decode("ascii"))


@dataclass
class Listing:
    """The files of one look, told apart: recordings, and what speaks of them."""

    files: Iterable[RemoteFile]
    marker_suffix: str | None = None
    recordings: list[RemoteFile] = field(init=False)
    skipped: list[RemoteFile] = field(init=False)

    def __post_init__(self) -> None:
        found = sorted(self.files, key=lambda file: file.key)
        self._marker = self.marker_suffix.encode() if self.marker_suffix else None
        self._folders = _by_folder(found)
        self.recordings, self.skipped = [], []
        names: dict[bytes, set[bytes]] = {}
        for file in found:
            if not self._is_mark(file.name):
                names.setdefault(file.folder, set()).add(file.name)
        spoken = {folder: spoken_of(inside) for folder, inside in names.items()}
        for file in found:
            if file.is_set_aside:  # It was taken for a recording once, whatever has come beside it since.
                self.recordings.append(file)
            elif not self._is_mark(file.name) and not is_companion(
                file.name, file.size_bytes, spoken[file.folder]
            ):
                (self.skipped if is_unfinished(file.name) else self.recordings).append(file)
        self._speaks_of: dict[bytes, set[bytes]] = {}
        # An unfinished file needs what its name will have beside it.
        coming = [replace(file, name=stem_of(file.name)) for file in self.skipped]
        for file in (*self.recordings, *self.skipped, *coming):
            for beside in self.companions_of(file):
                self._speaks_of.setdefault(beside.path, set()).add(file.key)

    def marker_of(self, file: RemoteFile) -> RemoteFile | None:
        """The marker beside it."""
        if self._marker is None:
            return None
        return self._beside(file, [file.name + self._marker, stem_of(file.name) + self._marker])

    def digest_of(self, file: RemoteFile) -> RemoteFile | None:
        """The digest sidecar beside it."""
        found = self._beside(file, [file.name + suffix for suffix in _cases(DIGEST_SUFFIXES)])
        return found if found is not None and found.size_bytes <= MAX_DIGEST_BYTES else None

    def sidecar_of(self, file: RemoteFile) -> RemoteFile | None:
        """What was said of it: its own sidecar, else the table of its folder."""
        inside = self._folders.get(file.folder, {})
        name = sidecar_of(file.name, inside.__contains__) or table_of(file.name, inside.__contains__)
        return None if name is None else inside[name]

    def beside(self, file: RemoteFile) -> list[RemoteFile]:
        """Everything beside it that speaks of it."""
        found = (self.digest_of(file), self.sidecar_of(file), self.marker_of(file))
        return [beside for beside in found if beside is not None]

    def companions_of(self, file: RemoteFile) -> list[RemoteFile]:
        """Everything beside it that speaks of it and of files of its name alone, and is no recording."""
        return [
            beside
            for beside in self.beside(file)
            if not is_table(beside.name) and beside.size_bytes <= MAX_SIDECAR_BYTES
        ]

    def words_of(self, file: RemoteFile) -> list[RemoteFile]:
        """Those of them that are read: a marker speaks by being there."""
        read = (self.digest_of(file), self.sidecar_of(file))
        return [each for each in self.companions_of(file) if each in read]

    def let_go(self, file: RemoteFile) -> list[RemoteFile]:
        """What speaks of nothing else once this file is removed."""
        left = []
        for beside in self.companions_of(file):
            spoken_of = self._speaks_of.get(beside.path, set())
            spoken_of.discard(file.key)
            if not spoken_of:
                left.append(beside)
        return left

    def _is_mark(self, name: bytes) -> bool:
        """Whether it is a marker or a digest."""
        return name.lower().endswith(DIGEST_SUFFIXES) or (
            self._marker is not None and name.endswith(self._marker)
        )

    def _beside(self, file: RemoteFile, names: list[bytes]) -> RemoteFile | None:
        inside = self._folders.get(file.folder, {})
        return next((inside[name] for name in names if name != file.name and name in inside), None)


def _by_folder(files: list[RemoteFile]) -> dict[bytes, dict[bytes, RemoteFile]]:
    """The files by folder and name; of several of one path the last, of one name at several paths none."""
    folders: dict[bytes, dict[bytes, RemoteFile]] = {}
    doubtful: set[tuple[bytes, bytes]] = set()
    for file in files:
        inside = folders.setdefault(file.folder, {})
        if file.is_set_aside:
            continue
        if file.name in inside and inside[file.name].path != file.path:
            doubtful.add((file.folder, file.name))
        inside[file.name] = file
    for folder, name in doubtful:
        del folders[folder][name]
    return folders


def _cases(suffixes: tuple[bytes, ...]) -> list[bytes]:
    return [spelled for suffix in suffixes for spelled in (suffix, suffix.upper())]


@dataclass
class _Watch:
    observed: tuple[object, ...]
    since_s: float
    first_scan: int
    failures: int = 0
    resume_at_scan: int = 0
    table: object = None
    """State of the folder's table, where that is what speaks of it."""
    table_since_s: float = 0.0


class Watched:
    """What was seen and not yet taken, over listings."""

    def __init__(self, settle_s: float | None, most_scans: int = 64) -> None:
        self._settle_s = settle_s
        self._most_scans = most_scans
        self._watches: dict[bytes, _Watch] = {}
        self._scans = 0

    def begin(self, listing: Listing, now_s: float) -> None:
        """Note a new listing; what is no longer in it is forgotten."""
        self._scans += 1
        watches: dict[bytes, _Watch] = {}
        for file in listing.recordings:
            beside = listing.beside(file)
            observed = (file.state, *(each.state for each in beside if not is_table(each.name)))
            watch = self._watches.get(file.key)
            if watch is None or watch.observed != observed:
                watch = _Watch(observed, now_s, self._scans)
            table = next((each.state for each in beside if is_table(each.name)), None)
            if watch.table != table:
                watch.table, watch.table_since_s = table, now_s
            watches[file.key] = watch
        self._watches = watches

    def forget_all(self) -> None:
        """The place is gone: nothing that was seen counts as rest."""
        self._watches.clear()

    def has_settled(self, file: RemoteFile, now_s: float) -> bool:
        """Whether rest proves it whole."""
        watch = self._watches.get(file.key)
        if self._settle_s is None or watch is None or not file.may_settle:
            return False
        has_table_rested = now_s - watch.table_since_s >= self._settle_s or watch.table is None
        return self.has_rested(file, now_s, self._settle_s) and (
            has_table_rested or now_s - watch.since_s >= self._settle_s * TABLE_PATIENCE
        )

    def has_rested(self, file: RemoteFile, now_s: float, for_s: float) -> bool:
        """Whether it and what speaks of it alone were the same in two listings so far apart."""
        watch = self._watches.get(file.key)
        return watch is not None and self._scans > watch.first_scan and now_s - watch.since_s >= for_s

    def is_backing_off(self, file: RemoteFile) -> bool:
        """Whether it failed and waits for a later listing."""
        watch = self._watches.get(file.key)
        return watch is not None and self._scans < watch.resume_at_scan

    def failed(self, file: RemoteFile, *, has_moved_on: bool = False) -> None:
        """Wait twice as long as the last time, unless the failure came with progress."""
        watch = self._watches.get(file.key)
        if watch is not None:
            watch.failures = 0 if has_moved_on else watch.failures + 1
            watch.resume_at_scan = self._scans + min(2**watch.failures, self._most_scans)

    def unsettle(self, file: RemoteFile) -> None:
        """It changed: it begins to settle anew."""
        self._watches.pop(file.key, None)
