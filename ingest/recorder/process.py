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
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evidence.errors import Conflict
from evidence.ids import new_id
from media.live.journal import LOCK, is_held, read
from media.live.opening import Address
from media.live.recording import Bounds
from media.supervise import python_environment

ENTRY = "ingest.recorder.child"
WORDS = "stderr"
PATIENCE_S = 10.0
KILLED_S = 5.0
"""How long the kernel may take to end a process that was killed."""
LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Ended:
    """What became of recorders that were told to end."""

    count: int
    forced: int
    """Of those, how many had to be killed; what they recorded is salvaged by the next daemon."""
    left: tuple[Path, ...]
    """Runs that are still recorded into."""


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
    return is_held(folder / LOCK)


def ask_to_end(folder: Path, number: int = signal.SIGTERM) -> None:
    """Send a signal to whoever records into a folder, and to no other that got its number since.

    Raises:
        Conflict: It records, and has not said its number yet; ask again.
    """
    pid = _pid_of(folder)
    if pid is None:
        if not is_recording(folder):
            return
        raise Conflict(
            "recorder: expected its process number, found none yet; ask again", code="recorder_begins"
        )
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            # The handle is of the process that has the number now. Held after that, the lock says that it is
            # still the recorder, whose number nobody else can have had.
            if is_recording(folder):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def end_all(runs: Iterable[Path], patience_s: float = PATIENCE_S) -> Ended:
    """End the recorders of these runs: in order, and by force after ``patience_s``.

    What they recorded stays where it is, and the next daemon takes it into custody.
    """
    left = [run for run in runs if is_recording(run)]
    found, forced, until = len(left), 0, time.monotonic() + patience_s
    for number in (signal.SIGTERM, signal.SIGKILL):
        forced = len(left) if number is signal.SIGKILL else 0
        asked: set[Path] = set()
        while left and time.monotonic() < until:
            for run in left:
                # One that has just begun and has not said its number yet is asked again.
                with suppress(Conflict):
                    if run not in asked:
                        ask_to_end(run, number)
                        asked.add(run)
            time.sleep(LOOK_EVERY_S)
            left = [run for run in left if is_recording(run)]
        until = time.monotonic() + KILLED_S
    return Ended(found - len(left), forced, tuple(left))


def _pid_of(folder: Path) -> int | None:
    said, _ = read(folder)
    numbers: list[Any] = [line.get("pid") for line in said if line["kind"] == "begun"]
    return int(numbers[0]) if numbers else None
