"""Damaged bytes found under a key: kept aside under a name of their own, never dropped.

They are evidence of what happened to the medium, and what can still be read of them may be all there is
of a part of the sound bytes, should those be lost as well. Nothing here is referred to by a row.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from evidence.fixity import hash_file
from storage.objects.base import parse_key
from storage.objects.durable import fsync_directory

ASIDE = "damaged"


def is_sound(path: Path, sha256: bytes, size: int) -> bool:
    """Whether a file holds exactly these bytes; one the medium cannot read does not."""
    try:
        return path.stat().st_size == size and hash_file(path).sha256 == sha256
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False


@contextlib.contextmanager
def alone(root: Path) -> Iterator[Path]:
    """The folder for damaged files, made durable, while nobody else of this host changes it."""
    folder = root / ASIDE
    folder.mkdir(mode=0o700, exist_ok=True)
    fsync_directory(root)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def keep(folder: Path, key: str, target: Path) -> Path:
    """Give the file under ``key`` a second, durable name; the first one may then be replaced.

    The name ends with the inode, which nothing else can have while the file is kept: a process that died
    before it replaced the first name finds this one made.
    """
    kept = folder / f"{_stem(key)}.{target.stat().st_ino:x}"
    with contextlib.suppress(FileExistsError):
        os.link(target, kept, follow_symlinks=False)
    fsync_directory(folder)
    return kept


def kept_of(root: Path, key: str) -> list[str]:
    """Names of what was kept of a key, in order."""
    folder = root / ASIDE
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(f"{_stem(key)}."))


def _stem(key: str) -> str:
    parsed = parse_key(key)
    return f"{parsed.agency}.{parsed.namespace.value}.{parsed.sha256.hex()}"
