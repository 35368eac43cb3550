"""Start a recorder's process, and find one that an earlier daemon started.

The lock in a run's folder is held by the process that records into it and by nobody else: taken before the
process begins and handed on to it, it is let go by the kernel when the process is gone, however that came
about. So whether a folder is still written to is asked of the lock, never of a number that another process
may have by now.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evidence.errors import Conflict
from evidence.ids import new_id
from media.live.journal import LOCK, read
from media.live.opening import Address
from media.live.recording import Bounds
from media.supervise import python_environment

ENTRY = "ingest.recorder.child"
WORDS = "stderr"


@dataclass(frozen=True)
class Started:
    """A run that has begun."""

    folder: Path
    process: subprocess.Popen[bytes]


def start(stream_folder: Path, address: Address, bounds: Bounds, ffmpeg: str) -> Started:
    """Begin a run in a folder of its own under ``stream_folder``.

    Raises:
        OSError: The disk is full or read-only, or no process can be made.
    """
    folder = stream_folder / new_id().hex
    folder.mkdir(parents=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        told = {
            "url": address.url,
            "transport": address.transport,
            "options": dict(address.options),
            "carrier": ffmpeg,
            "folder": str(folder.resolve()),
            "lock": lock,
            "bounds": asdict(bounds),
        }
        with (folder / WORDS).open("wb") as words:
            process = subprocess.Popen(
                [sys.executable, "-m", ENTRY],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                cwd=Path(__file__).parents[2],
                env=python_environment(folder),
                pass_fds=(lock,),
                start_new_session=True,
            )
        stdin = process.stdin
        if stdin is not None:
            # A process that died at once says so by its lock.
            with suppress(BrokenPipeError):
                stdin.write(json.dumps(told).encode())
                stdin.close()
    finally:
        os.close(lock)
    return Started(folder, process)


def is_recording(folder: Path) -> bool:
    """Whether some process still records into a run's folder."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def ask_to_end(folder: Path, number: int = signal.SIGTERM) -> None:
    """Send a signal to whoever records into a folder.

    Raises:
        Conflict: It records, and has not said its number yet; ask again.
    """
    pid = _pid_of(folder)
    if not is_recording(folder):
        return
    if pid is None:
        raise Conflict(
            "recorder: expected its process number, found none yet; ask again", code="recorder_begins"
        )
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _pid_of(folder: Path) -> int | None:
    said, _ = read(folder)
    numbers: list[Any] = [line.get("pid") for line in said if line["kind"] == "begun"]
    return int(numbers[0]) if numbers else None
