"""What a source has taken already, kept across restarts in one small file.

It only saves work: a file taken again is the same item by its digest, and what is not known to have been read
is read. So the newest entries are enough, and a torn last line, as a crash leaves it, is simply not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from storage.objects.durable import translated, write_durably

MAX_ENTRIES = 200_000


@dataclass(frozen=True)
class Entry:
    """What is known of one arrival."""

    sha256: bytes
    said: frozenset[str] = frozenset()
    """What was read beside it and is in custody with it (`ingest.sources.companions`)."""


class Seen(Protocol):
    """Which arrivals were taken."""

    def entry_of(self, key: str) -> Entry | None:
        """What is known of an arrival, None when it was not taken."""
        ...

    def digest_of(self, key: str) -> bytes | None:
        """The digest under which an arrival was taken, None when it was not."""
        ...

    def remember(self, key: str, sha256: bytes, said: Iterable[str] = ()) -> None:
        """Note that an arrival was taken with what was said of it, durably."""
        ...

    def forget(self, key: str) -> None:
        """Note, durably, that what comes under this key from now on was not taken."""
        ...


class TakenJournal:
    """A `Seen` in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: dict[str, Entry] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["sha256"] is None:
                    self._taken.pop(str(entry["key"]), None)
                else:
                    said = frozenset(map(str, entry.get("said", ())))
                    self._taken[str(entry["key"])] = Entry(bytes.fromhex(entry["sha256"]), said)
            except (ValueError, KeyError, TypeError):
                continue
        is_torn = bool(lines) and not lines[-1].endswith(b"\n")
        if is_torn or len(lines) != len(self._taken) or len(lines) > MAX_ENTRIES:
            self._rewrite()

    def _rewrite(self) -> None:
        newest = list(self._taken.items())[-MAX_ENTRIES // 2 :] if len(self._taken) > MAX_ENTRIES else None
        if newest is not None:
            self._taken = dict(newest)
        with translated("folder journal"):
            write_durably(self._path, b"".join(_line(key, entry) for key, entry in self._taken.items()))

    def digest_of(self, key: str) -> bytes | None:
        entry = self._taken.get(key)
        return None if entry is None else entry.sha256

    def entry_of(self, key: str) -> Entry | None:
        return self._taken.get(key)

    def remember(self, key: str, sha256: bytes, said: Iterable[str] = ()) -> None:
        entry = Entry(sha256, frozenset(said))
        self._append(key, entry)
        self._taken[key] = entry

    def forget(self, key: str) -> None:
        if key in self._taken:
            self._append(key, None)
            del self._taken[key]

    def _append(self, key: str, entry: Entry | None) -> None:
        with translated("folder journal"), self._path.open("ab") as file:
            file.write(_line(key, entry))
            file.flush()
            os.fdatasync(file.fileno())


def _line(key: str, entry: Entry | None) -> bytes:
    fields: dict[str, object] = {"key": key, "sha256": None if entry is None else entry.sha256.hex()}
    if entry is not None and entry.said:
        fields["said"] = sorted(entry.said)
    return json.dumps(fields).encode() + b"\n"
