"""Start a process, watch it, and leave nothing of it running.

A child gets a process group of its own, an environment by whitelist and a watchdog. When `supervise`
returns, for whatever reason, the child and what it started are dead and reaped.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from evidence.errors import Conflict, EvidenceError
from media.errors import media_error

STDERR_TAIL_BYTES = 4096
# A child may have been taken over by what it reads; its answer is bounded too.
LINE_LIMIT_BYTES = 64 << 20
POLL_S = 0.2
READS_BETWEEN_CHECKS = 256
GIB = 1 << 30
# Nothing else of the environment reaches a child: settings and secrets travel as LIUHEN_*.
PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "LIBVA_DRIVER_NAME",
    "LIBVA_DRIVERS_PATH",
    "IMAGEIO_FFMPEG_EXE",
)
# Set in every child: a command that it starts stays in its process group and dies with it at once.
INSIDE = "MEDIA_SANDBOX"


@dataclass(frozen=True)
class Limits:
    """What one child may use."""

    cpu_s: int = 3600
    """Processor seconds, of each process."""
    memory_bytes: int = 4 * GIB
    """Allocated memory."""
    address_space_factor: int = 4
    """How many times that is the fence around address space, for thread stacks and mapped models; 0: none."""
    wall_s: float = 7200.0
    stall_s: float = 120.0
    """How long it may go without a progress line."""
    file_size_bytes: int = 64 * GIB
    """The longest file it may write."""
    niceness: int = 10
    """How far it steps back behind listeners and the database; 0 where a person waits for it."""

    def for_child(self) -> str:
        """The part that the child applies to itself, as ``name=number`` with commas between."""
        names = ("cpu_s", "memory_bytes", "address_space_factor", "file_size_bytes", "niceness")
        return ",".join(f"{name}={getattr(self, name)}" for name in names)


@dataclass
class Ended:
    """How a supervised process ended."""

    returncode: int
    """As `subprocess` gives it: minus the signal when a signal ended it."""
    stderr_tail: str
    stopped_for: str | None = None
    """Why it was killed from here: ``decoder_hung``, ``decoder_over_time``, ``cancelled``, ``babble``."""


def supervise(
    argv: list[str],
    *,
    stdin: IO[bytes] | int,
    scratch: Path,
    limits: Limits,
    on_line: Callable[[bytes], bool],
    cancelled: Callable[[], bool] | None = None,
) -> Ended:
    """Start ``argv``, read its lines until it ends or must be ended, and leave nothing running.

    Blocks in the thread that creates the process, which is what makes its parent-death signal safe.
    ``on_line`` gets each line of standard output and says whether it counts as progress.
    """
    process = subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=scratch,
        env=environment(os.environ, scratch),
        process_group=0 if INSIDE not in os.environ else None,
    )
    watch = _Watch(process, limits, on_line, cancelled)
    try:
        stopped_for = watch.until_end()
    finally:
        # Kill before reaping: until it is reaped the number cannot name another process.
        _kill(process)
        process.wait()
        watch.close()
    return Ended(
        process.returncode if stopped_for is None else -signal.SIGKILL, watch.stderr_tail(), stopped_for
    )


def environment(whole: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """What of the environment a child sees."""
    kept = {name: whole[name] for name in PASSED_ON if name in whole}
    return {"LANG": "C.UTF-8", **kept, "HOME": str(scratch), "TMPDIR": str(scratch), INSIDE: "1"}


def raise_if_cancelled(cancelled: Callable[[], bool] | None) -> None:
    """For work in the worker itself, between two pieces of it.

    Raises:
        Conflict: ``cancelled``.
    """
    if cancelled is not None and cancelled():
        raise Conflict("media work was cancelled before it ended", code="cancelled")


def python_environment(scratch: Path) -> dict[str, str]:
    """What a child in Python sees that runs on without its parent: the same, and where our modules are."""
    places = os.pathsep.join(place for place in sys.path if place)
    return {**environment(os.environ, scratch), "PYTHONPATH": places}


def raise_if_stopped(ended: Ended) -> None:
    """Raise the error that belongs to having killed it."""
    raise_if_cancelled(lambda: ended.stopped_for == "cancelled")
    if ended.stopped_for == "babble":
        raise media_error("decoder_crashed", "it answered with more than can be read")
    if ended.stopped_for is not None:
        raise media_error(ended.stopped_for, stderr_tail=ended.stderr_tail)


def death_of(ended: Ended) -> EvidenceError:
    """The error that belongs to a process that died by itself."""
    by_signal = {
        -signal.SIGXCPU: "decoder_over_time",
        -signal.SIGXFSZ: "output_too_large",
        # Nobody here sent it, so it was the kernel: out of memory, or past the hard CPU limit.
        -signal.SIGKILL: "decoder_over_memory",
    }
    code = by_signal.get(ended.returncode, "decoder_crashed")
    if any(word in ended.stderr_tail for word in ("MemoryError", "std::bad_alloc", "Cannot allocate memory")):
        code = "decoder_over_memory"
    how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"exit code {ended.returncode}"
    return media_error(code, f"ended by {how}", returncode=ended.returncode, stderr_tail=ended.stderr_tail)


@dataclass
class _Watch:
    """Reads both pipes of a process and decides when it has to be ended."""

    process: subprocess.Popen[bytes]
    limits: Limits
    on_line: Callable[[bytes], bool]
    cancelled: Callable[[], bool] | None
    _partial: bytearray = field(default_factory=bytearray)
    _tail: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None  # noqa: S101 - both were asked for
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
        self._started = self._progressed = time.monotonic()

    def until_end(self) -> str | None:
        """Why the process has to be killed, or None when it ended by itself."""
        while True:
            ended = self._has_ended()
            self._read_what_is_there(0.0 if ended else POLL_S)
            now = time.monotonic()
            if len(self._partial) > LINE_LIMIT_BYTES:
                return "babble"
            if ended:
                return None
            if self.cancelled is not None and self.cancelled():
                return "cancelled"
            if now - self._started > self.limits.wall_s:
                return "decoder_over_time"
            if now - self._progressed > self.limits.stall_s:
                return "decoder_hung"

    def _has_ended(self) -> bool:
        flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self.process.pid, flags) is not None

    def _read_what_is_there(self, timeout_s: float) -> None:
        if not self._selector.get_map():
            # It closed both pipes and lives on: only its end or ours is left to wait for.
            time.sleep(timeout_s / 10)
            return
        for _ in range(READS_BETWEEN_CHECKS):
            events = self._selector.select(timeout_s)
            timeout_s = 0.0
            if not events or len(self._partial) > LINE_LIMIT_BYTES:
                return
            for key, _ in events:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    self._selector.unregister(key.fileobj)
                elif key.fileobj is self.process.stdout:
                    self._take(data)
                else:
                    self._tail = (self._tail + data)[-STDERR_TAIL_BYTES:]

    def _take(self, data: bytes) -> None:
        while (end := data.find(b"\n")) >= 0:
            line = bytes(self._partial) + data[:end]
            self._partial.clear()
            data = data[end + 1 :]
            if self.on_line(line):
                self._progressed = time.monotonic()
        self._partial += data

    def stderr_tail(self) -> str:
        return self._tail.decode("utf-8", "replace").strip()

    def close(self) -> None:
        self._selector.close()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return
    try:
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
