"""What is sent of a file, and whether it can be sent without waiting for a disk."""

from __future__ import annotations

import os
from pathlib import Path

from api.wire import FilePart

SIZE_BYTES = 2 << 20


async def always() -> bool:
    return True


def test_one_byte_in_the_cache_does_not_speak_for_the_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE_BYTES))
    part = FilePart(os.open(path, os.O_RDONLY), 0, SIZE_BYTES, always)
    os.fsync(part.descriptor)
    os.posix_fadvise(part.descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    os.posix_fadvise(part.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    # A file system that lives in memory has all of it, always.
    cold = part.is_cached(SIZE_BYTES)
    for at in (SIZE_BYTES - 1, 0):
        os.pread(part.descriptor, 1, at)
        assert part.is_cached(SIZE_BYTES) == cold
    os.pread(part.descriptor, SIZE_BYTES, 0)
    assert part.is_cached(SIZE_BYTES)
    part.close()
