"""The inside of a sandboxed child: what runs before, around and after code that meets hostile bytes.

This file is started by its path (``python -I child.py …``), in one of two ways:

``call PARENT_PID LIMITS ENTRY``
    Limits itself, reads one JSON object from standard input (``{"sys_path", "request"}``), imports
    ``package.module:function`` and calls it. On standard output it writes JSON lines: any number of
    ``{"progress": 0..1}``, then one ``{"result": …}`` or ``{"error": …}``.
``exec PARENT_PID LIMITS -- COMMAND…``
    Limits itself the same way and becomes COMMAND. FFmpeg is started so.

**It dies with its parent.** PR_SET_PDEATHSIG asks the kernel for SIGKILL when the *thread* that
created this process ends. Three things make that safe: `media.sandbox` blocks in the creating thread
until the child is reaped, so the thread cannot end first unless its whole process dies; the parent
may have died before the request was made, so the parent's pid is compared afterwards; and the setting
survives ``execve``, so an FFmpeg started from here, or by code running here, carries its own.

It is set here and not in a ``preexec_fn``, because running Python between fork and exec deadlocks in
a process with threads. Only the standard library is imported until the limits are in place, and of it no
more than they take: every FFmpeg pays for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
OPEN_FILES = 256
PROGRESS_EVERY_S = 0.1
# The hard limit comes after the soft one, so that the cause of death is SIGXCPU and can be told.
CPU_GRACE_S = 5
ORPHANED = 120


def apply_limits(parent_pid: int, limits: dict[str, int]) -> None:
    """Tie this process to its parent and take away what it does not need.

    Args:
        parent_pid: Who must still be the parent afterwards.
        limits: ``cpu_s``, ``memory_bytes``, ``address_space_factor``, ``file_size_bytes``, ``niceness``.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(ORPHANED)
    confine(limits)


def confine(limits: dict[str, int]) -> None:
    """Take away what this process does not need.

    Args:
        limits: As `apply_limits`.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.nice(limits["niceness"])
    memory = limits["memory_bytes"]
    wanted = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + CPU_GRACE_S),
        (resource.RLIMIT_DATA, memory, memory),
        (resource.RLIMIT_FSIZE, limits["file_size_bytes"], limits["file_size_bytes"]),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
    ]
    # RLIMIT_DATA counts what is really allocated; RLIMIT_AS also counts address space that thread stacks,
    # allocator arenas and mapped model files only reserve, so it is a second and much wider fence.
    if reserved := memory * limits["address_space_factor"]:
        wanted.append((resource.RLIMIT_AS, reserved, reserved))
    for what, soft, hard in wanted:
        _, ceiling = resource.getrlimit(what)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)  # noqa: PLW2901
        resource.setrlimit(what, (soft, hard))


def _become(command: list[str]) -> None:
    # Python ignores these two, and an ignored signal stays ignored across execve.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606


class _Lines:
    """The protocol channel: standard output as it was, kept from whatever a library prints."""

    def __init__(self) -> None:
        import json

        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._said_at = 0.0

    def send(self, message: dict[str, object]) -> None:
        self._out.write(self._encode(message) + "\n")
        self._out.flush()

    def progress(self, fraction: float) -> None:
        now = time.monotonic()
        if now - self._said_at >= PROGRESS_EVERY_S:
            self._said_at = now
            self.send({"progress": max(0.0, min(1.0, float(fraction)))})


def _describe(error: BaseException) -> dict[str, object]:
    """An exception as data; deliberate ones keep kind, code and facts."""
    from evidence.errors import EvidenceError
    from media.errors import is_out_of_memory

    if isinstance(error, EvidenceError):
        facts = {key: value for key, value in error.facts.items() if _is_plain(value)}
        kind = type(error).__name__
        return {"kind": kind, "code": error.code, "message": error.message, "facts": facts}
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        message = "derived files: the disk is full; free some space"
        return {"kind": "Unavailable", "code": "disk_full", "message": message, "facts": {}}
    code = "decoder_over_memory" if is_out_of_memory(error) else "decoder_crashed"
    return {
        "kind": "MediaError",
        "code": code,
        "message": f"{type(error).__name__}: {error}"[:500],
        "facts": {},
    }


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _call(entry: str) -> int:
    import importlib
    import json
    import traceback

    lines = _Lines()
    envelope: dict[str, Any] = json.load(sys.stdin)
    sys.path[:] = envelope["sys_path"]
    try:
        module, _, function = entry.partition(":")
        target: Callable[[dict[str, object], Callable[[float], None]], dict[str, object]] = getattr(
            importlib.import_module(module), function
        )
        result = target(envelope["request"], lines.progress)
    except Exception as error:  # the one place where everything must become data
        traceback.print_exc()
        lines.send({"error": _describe(error)})
        return 1
    lines.send({"result": result})
    return 0


def _pairs(limits: str) -> list[list[str]]:
    return [pair.split("=") for pair in limits.split(",")]


def main(argv: list[str]) -> int:
    """Run one of the two modes; ``exec`` does not return."""
    mode, parent_pid, limits, *rest = argv
    apply_limits(int(parent_pid), {name: int(most) for name, most in _pairs(limits)})
    if mode == "exec":
        _become(rest[1:])
    return _call(rest[0])


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # No interpreter shutdown: threads of a decoder library may not let go, and nothing is left to flush.
    os._exit(code)
