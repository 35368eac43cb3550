"""What a medium holds of a file, as far as an operating system lets one ask: past the page cache."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

_ALIGN_BYTES = 1 << 16


def read_medium(path: Path, chunk_bytes: int = 1 << 20, at: int = 0) -> Iterator[memoryview]:
    """The bytes of a file from ``at`` on, its pages dropped before; each view is good until the next.

    Raises:
        OSError: It is gone, or the disk fails.
    """
    chunk_bytes = max(_ALIGN_BYTES, chunk_bytes // _ALIGN_BYTES * _ALIGN_BYTES)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # Dirty pages cannot be dropped.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield from _read_uncached(path, descriptor, chunk_bytes, at)
    finally:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _read_uncached(path: Path, buffered: int, chunk_bytes: int, at: int) -> Iterator[memoryview]:
    """Read with O_DIRECT where the file system has it, else what is left after DONTNEED."""
    direct = at % _ALIGN_BYTES == 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        descriptor, direct = os.dup(buffered), False
    # Anonymous memory begins on a page, as O_DIRECT asks. It is freed with its last view.
    buffer = memoryview(mmap.mmap(-1, chunk_bytes))
    try:
        position = at
        while count := os.preadv(descriptor, [buffer], position):
            yield buffer[:count]
            position += count
            if direct and count % _ALIGN_BYTES:
                # The end of the file, or a read cut short: O_DIRECT cannot go on from either.
                os.close(descriptor)
                descriptor, direct = os.dup(buffered), False
    finally:
        os.close(descriptor)
