"""Small steps that make files survive a power cut, and what a full or failing disk is called."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from evidence.errors import EvidenceError, Unavailable
from evidence.ids import new_id

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def require_space(free_bytes: int, floor_bytes: int, wanted_bytes: int, name: str) -> None:
    """Require room above the floor.

    Raises:
        Unavailable: Code ``disk_full``.
    """
    if free_bytes < floor_bytes + wanted_bytes:
        raise Unavailable(
            f"{name}: expected {wanted_bytes} bytes above the floor of {floor_bytes}, "
            f"found {free_bytes} free; make room, nothing was lost",
            code="disk_full",
            free_bytes=free_bytes,
            floor_bytes=floor_bytes,
            wanted_bytes=wanted_bytes,
        )


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file so that after a power cut either the old or the new one is there."""
    temporary = path.with_name(f".{path.name}.{new_id().hex}.tmp")
    try:
        with temporary.open("wb") as sink:
            sink.write(content)
            sink.flush()
            os.fsync(sink.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def fsync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what the operating system raises about ``name`` into Unavailable, with a code."""
    try:
        yield
    except OSError as error:
        raise _translate(error, name) from error


def _translate(error: OSError, name: str) -> EvidenceError:
    if error.errno in _NO_SPACE:
        return Unavailable(f"{name}: no space left; make room, nothing was lost", code="disk_full")
    if error.errno in {errno.EPERM, errno.EOPNOTSUPP}:
        return Unavailable(
            f"{name}: the file system refuses hard links or modes; use ext4 or XFS", code="store_unfit"
        )
    return Unavailable(
        f"{name}: {error.strerror or error}; check the disk", code="store_io", errno=error.errno
    )
