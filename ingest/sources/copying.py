"""Copying one file beside the object store, with its digest made while reading.

The copy counts only if the file was the same before and after: a recorder may still write,
a card may be pulled. What could not be read whole leaves nothing behind.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evidence.errors import Conflict, InvalidInput, Unavailable
from evidence.filenames import display_name
from evidence.fixity import CHUNK_BYTES, StreamingDigest
from storage.objects.durable import translated


@dataclass(frozen=True)
class FileState:
    """What tells one state of a file from another without reading it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    """Set by the kernel alone: a tool that puts an old ``mtime`` back moves it."""

    @classmethod
    def of(cls, state: os.stat_result) -> FileState:
        """The part of a ``stat`` that matters here."""
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@dataclass(frozen=True)
class CopiedFile:
    """A durable copy."""

    path: Path
    size_bytes: int
    sha256: bytes
    state: FileState
    """Of the source, the same before and after it was read."""


def copy_whole(
    source: Path,
    staged: Path,
    *,
    expected: FileState | None = None,
    reserve: Callable[[int], None] = lambda _: None,
) -> CopiedFile:
    """Copy a regular file and sync the copy.

    Args:
        source: The file; never followed if it is a link, never changed.
        staged: Where to; must not exist.
        expected: The state it was found in, when someone has looked before.
        reserve: Asked for room before anything is written.

    Raises:
        InvalidInput: It is no regular file (``not_a_file``).
        Conflict: It changed, or became another file (``source_changed``); try again later.
        Unavailable: It cannot be read (``source_unreadable``), is gone (``source_gone``), or the
            disk is full (``disk_full``).
    """
    name = display_name(source.name)
    reader = _open_regular(source, name)
    try:
        before = FileState.of(os.fstat(reader))
        if expected is not None and before != expected:
            raise _changed(name)
        reserve(before.size_bytes)
        try:
            digest = _copy(reader, staged, name)
            if FileState.of(os.fstat(reader)) != before or digest.size_bytes != before.size_bytes:
                raise _changed(name)
            _require_same_name(source, before, name)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    finally:
        os.close(reader)
    digests = digest.digests()
    return CopiedFile(staged, digests.size_bytes, digests.sha256, before)


def _open_regular(source: Path, name: str) -> int:
    # Non-blocking, or a FIFO put in a file's place would hold us for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        reader = os.open(source, flags)
    except FileNotFoundError as error:
        raise Unavailable(
            f"file {name}: expected it where it was found, found it gone", code="source_gone"
        ) from error
    except OSError as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(os.fstat(reader).st_mode):
        os.close(reader)
        raise InvalidInput(f"file {name}: expected a regular file, found another kind", code="not_a_file")
    return reader


def _copy(reader: int, staged: Path, name: str) -> StreamingDigest:
    digest = StreamingDigest()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with translated(f"staging of {name}"):
        writer = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                count = os.readv(reader, [buffer])
            except OSError as error:
                raise _unreadable(name, error) from error
            if not count:
                break
            digest.update(buffer[:count])
            with translated(f"staging of {name}"):
                _write_all(writer, buffer[:count])
        with translated(f"staging of {name}"):
            os.fsync(writer)
    finally:
        os.close(writer)
    return digest


def _write_all(writer: int, data: memoryview) -> None:
    while data:
        data = data[os.write(writer, data) :]


def _require_same_name(source: Path, before: FileState, name: str) -> None:
    try:
        if FileState.of(source.lstat()) != before:
            raise _changed(name)
    except FileNotFoundError as error:
        raise _changed(name) from error


def _changed(name: str) -> Conflict:
    return Conflict(
        f"file {name}: expected it to stay as it was, found it changed while it was read; "
        "it will be tried again",
        code="source_changed",
    )


def _unreadable(name: str, error: OSError) -> Unavailable:
    return Unavailable(
        f"file {name}: expected it readable, found {error.strerror}; check permissions or the card",
        code="source_unreadable",
    )
