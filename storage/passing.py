"""Folders for what is looked at once: footage in clear, gone with whoever asked for it.

Each lies under ``scratch/previews`` and is locked as long as it is used. The lock ends with the process,
however that ends, so a folder that nobody holds was left by the dead: whoever starts clears it away. Earlier
versions made theirs beside that one, without a lock; none was used longer than some minutes.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

PREVIEWS = "previews"
EARLIER = re.compile(r"preview-[a-z0-9_]{8}")
EARLIER_LASTED_S = 3600.0
log = structlog.get_logger()


@contextmanager
def passing_folder(scratch: Path) -> Iterator[Path]:
    """A folder of one's own, removed at the end.

    Raises:
        OSError: It cannot be made.
    """
    root = scratch / PREVIEWS
    root.mkdir(mode=0o700, exist_ok=True)
    with _locked(root, fcntl.LOCK_EX):
        # Nobody clears between the two steps.
        folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
        handle = _open(folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder)
        finally:
            os.close(handle)


def clear_passed(scratch: Path) -> int:
    """Remove the folders that nobody holds; how many there were."""
    count = _clear_locked(scratch / PREVIEWS) + _clear_earlier(scratch)
    if count:
        log.info("previews_cleared", count=count)
    return count


def _clear_locked(root: Path) -> int:
    if not root.is_dir():
        return 0
    count = 0
    with _locked(root, fcntl.LOCK_EX):
        for folder in sorted(root.iterdir()):
            try:
                with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    # A child of the dead may still write here; the next one to clear takes the rest.
                    shutil.rmtree(folder, ignore_errors=True)
            except (BlockingIOError, FileNotFoundError, NotADirectoryError):
                # Somebody looks at it, or has just ended; what is no folder is not ours to remove.
                continue
            count += not folder.exists()
    return count


def _clear_earlier(scratch: Path) -> int:
    """Those of an earlier version, once no process of it can be at them: while one is replaced it may."""
    count = 0
    for folder in sorted(scratch.glob("preview-*")):
        # What is a link, or was not named by us, is not ours to remove.
        if EARLIER.fullmatch(folder.name) is None or folder.is_symlink() or not folder.is_dir():
            continue
        try:
            is_left = time.time() - folder.stat().st_mtime > EARLIER_LASTED_S
        except FileNotFoundError:
            # Another process clears at the same time.
            continue
        if is_left:
            shutil.rmtree(folder, ignore_errors=True)
            count += not folder.exists()
    return count


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    handle = _open(folder)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
