"""Whether a process lives, by the lock it was begun with."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from media.live.journal import LOCK, is_held


def test_a_lock_says_whether_whoever_was_begun_with_it_lives(tmp_path: Path) -> None:
    lock = tmp_path / LOCK
    assert not is_held(lock)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    held = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(descriptor,)
    )
    os.close(descriptor)
    assert held.stdin is not None
    # Asked twice at once: neither takes the other for the holder, and neither takes the lock away.
    other = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    assert is_held(lock) and is_held(lock)
    held.kill()
    held.wait()
    held.stdin.close()
    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not is_held(lock)
    os.close(other)


def test_a_lock_that_cannot_be_asked_is_not_taken_for_a_free_one(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    with pytest.raises(OSError, match="directory"):
        is_held(tmp_path / "a folder")
