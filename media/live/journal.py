"""What a recorder's process writes down beside its footage: one JSON object a line, appended.

The journal is how the process speaks to whoever supervises it, now or after a crash of either: files that are
open and how far they are on the disk, files that are finished with digest and wall time, and everything that
happened to the stream. A line with `sync` is on the disk before what it announces begins.

A line is whole once its newline is there. What follows the last newline was cut off, and is left out.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"
LOCK = "lock"
MAX_LINE_BYTES = 64 << 10


class Journal:
    """The writing end."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            # What a power cut tore must not take the next line with it.
            self._append(b"\n")

    def write(self, kind: str, *, sync: bool = False, **facts: Any) -> None:
        """Append one line; with ``sync`` it is on the disk at the return."""
        line = json.dumps({"kind": kind, **facts}, ensure_ascii=True, separators=(",", ":")).encode()
        self._append(line[: MAX_LINE_BYTES - 1] + b"\n")
        if sync:
            os.fdatasync(self._descriptor)

    def _append(self, data: bytes) -> None:
        """All of it: a disk that is full takes a part without a word, and fails at the next."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)


def read(folder: Path, from_byte: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole lines from a place on, and the place after them. A line that is no JSON object is passed over:
    its block was not on the disk when the power went."""
    try:
        with (folder / NAME).open("rb") as file:
            file.seek(from_byte)
            data = file.read()
    except FileNotFoundError:
        return [], from_byte
    whole = data.rfind(b"\n") + 1
    return list(_parsed(data[:whole])), from_byte + whole


def _parsed(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and isinstance(said.get("kind"), str):
            yield said


def is_held(lock: Path) -> bool:
    """Whether a process that was begun with this lock lives: the kernel lets go of it when that is gone.

    Raises:
        OSError: It cannot be asked, for another reason than that it is not there.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who ask at once are not to take each other for whoever holds it.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
