"""A real system call trace without any tool from outside: ptrace by way of libc, for x86-64 and aarch64.

`python -m tests.support.syscalls OUT MARK… -- COMMAND…` runs a command with every thread and child of it
traced, and writes one JSON line for each call that touches files or sockets, in the order in which the
calls *returned*. A call that begins before another has returned is thereby never taken for later work, and
`began` says when it was entered. Each line names the file behind a descriptor, and which of the MARKs
stand in the bytes that were written.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

TRACEME, CONT_SYSCALL, SETOPTIONS, SYSCALL_INFO, LISTEN = 0, 24, 0x4200, 0x420E, 0x4208
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
"""SYSGOOD, FORK, VFORK, CLONE, EXEC; and EXITKILL, so that nothing outlives the tracer."""
WALL = 0x40000000
ENTRY, EXIT = 1, 2
MOST_BYTES = 1 << 20
PAGE_BYTES = 4096
"""The smallest there are: reading to the end of one stays within any."""

_X86_64 = {
    0: "read", 1: "write", 17: "pread64", 18: "pwrite64", 20: "writev", 44: "sendto", 46: "sendmsg",
    74: "fsync", 75: "fdatasync", 77: "ftruncate", 82: "rename", 86: "link", 87: "unlink",
    221: "fadvise64", 257: "openat", 263: "unlinkat", 264: "renameat", 265: "linkat", 295: "preadv",
    296: "pwritev", 316: "renameat2", 327: "preadv2", 328: "pwritev2",
}  # fmt: skip
_AARCH64 = {
    35: "unlinkat", 37: "linkat", 38: "renameat", 46: "ftruncate", 56: "openat", 63: "read", 64: "write",
    66: "writev", 67: "pread64", 68: "pwrite64", 69: "preadv", 70: "pwritev", 82: "fsync",
    83: "fdatasync", 206: "sendto", 211: "sendmsg", 223: "fadvise64", 276: "renameat2", 286: "preadv2",
    287: "pwritev2",
}  # fmt: skip
NAMES = {"x86_64": _X86_64, "aarch64": _AARCH64}[platform.machine()]
BUFFER = frozenset({"write", "pwrite64", "sendto"})
VECTOR = frozenset({"writev", "pwritev", "pwritev2"})
ON_DESCRIPTOR = BUFFER | VECTOR | {
    "read", "pread64", "preadv", "preadv2", "fsync", "fdatasync", "fadvise64", "sendmsg", "ftruncate",
}  # fmt: skip
PATHS = {
    "openat": (1,), "link": (0, 1), "linkat": (1, 3), "rename": (0, 1), "renameat": (1, 3),
    "renameat2": (1, 3), "unlink": (0,), "unlinkat": (1,),
}  # fmt: skip

AT_OFFSET = frozenset({"pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "fadvise64"})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


@dataclass(frozen=True)
class Call:
    """One system call that returned.

    Attributes:
        began: Its place among the entries of all calls; `ended` among the returns. They share one count.
        path: The file behind the descriptor, or the first path given.
        to: The second path of a link or rename.
        marks: Which marks stand in the bytes it wrote.
        text: The head of what it sent to a socket.
    """

    began: int
    ended: int
    tid: int
    name: str
    path: str = ""
    to: str = ""
    result: int = 0
    flags: int = 0
    offset: int = 0
    marks: tuple[str, ...] = ()
    text: str = ""


def read_trace(path: Path) -> list[Call]:
    """What a traced command did, by return."""
    lines = path.read_text("utf-8").splitlines()
    return [Call(**{**one, "marks": tuple(one["marks"])}) for one in map(json.loads, lines)]


def _ptrace(request: int, pid: int, address: int = 0, data: Any = 0) -> int:
    ctypes.set_errno(0)
    result: int = _libc.ptrace(request, pid, address, data)
    if result == -1 and (number := ctypes.get_errno()):
        raise OSError(number, os.strerror(number))
    return result


@dataclass
class _Tracer:
    out: TextIO
    marks: list[str]
    count: int = 0
    entered: dict[int, dict[str, Any]] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)

    def run(self, command: list[str]) -> int:
        leader = os.fork()
        if leader == 0:
            _ptrace(TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execvp(command[0], command)  # noqa: S606 - the command of whoever traces
        os.waitpid(leader, WALL)
        _ptrace(SETOPTIONS, leader, 0, OPTIONS)
        self.known.add(leader)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: os.kill(leader, got))
        _ptrace(CONT_SYSCALL, leader)
        status = 0
        for tid, state in _stops():
            if os.WIFSTOPPED(state):
                self._stopped(tid, state)
            elif tid == leader:
                status = os.waitstatus_to_exitcode(state)
        return status

    def _stopped(self, tid: int, state: int) -> None:
        number = os.WSTOPSIG(state)
        deliver = 0
        try:
            if number == signal.SIGTRAP | 0x80:
                self._syscall(tid)
            elif state >> 16 == 0 and (number != signal.SIGSTOP or tid in self.known):
                deliver = number
            self.known.add(tid)
            _ptrace(CONT_SYSCALL, tid, 0, deliver)
        except ProcessLookupError:
            return  # Killed while it was stopped.

    def _syscall(self, tid: int) -> None:
        raw = ctypes.create_string_buffer(88)
        _ptrace(SYSCALL_INFO, tid, len(raw), ctypes.addressof(raw))
        self.count += 1
        if raw.raw[0] == ENTRY:
            number, *words = struct.unpack_from("=7Q", raw.raw, 24)
            name = NAMES.get(number)
            if name is not None:
                self.entered[tid] = {"began": self.count, **self._described(tid, name, words)}
        elif raw.raw[0] == EXIT and (call := self.entered.pop(tid, None)) is not None:
            result = struct.unpack_from("=q", raw.raw, 24)[0]
            if call["name"] == "openat" and result >= 0:
                call["path"] = _behind(tid, result) or call["path"]
            self.out.write(json.dumps({**call, "ended": self.count, "tid": tid, "result": result}) + "\n")
            self.out.flush()

    def _described(self, tid: int, name: str, words: list[int]) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "marks": []}
        if name in ON_DESCRIPTOR:
            found["path"] = _behind(tid, words[0] & 0xFFFFFFFF)
        if name in PATHS:
            texts = [text_at(tid, words[at]) for at in PATHS[name]]
            found["path"], found["to"] = texts[0], texts[1] if len(texts) > 1 else ""
        if name == "openat":
            found["flags"] = words[2]
        if name in AT_OFFSET:
            found["offset"] = words[3] if name != "fadvise64" else 0
            found["flags"] = words[3] if name == "fadvise64" else 0
        written = self._written(tid, name, words)
        if written:
            found["marks"] = [mark for mark in self.marks if mark.encode() in written]
            if found["path"].startswith("socket:"):
                found["text"] = written[:600].decode("latin-1")
        return found

    def _written(self, tid: int, name: str, words: list[int]) -> bytes:
        if name in BUFFER:
            return _memory(tid, words[1], words[2])
        if name in VECTOR:
            pairs = _memory(tid, words[1], min(words[2], 64) * 16)
            return b"".join(_memory(tid, *pair) for pair in struct.iter_unpack("=QQ", pairs))
        if name == "sendmsg":
            _, _, vector, count = struct.unpack_from("=QQQQ", _memory(tid, words[1], 56).ljust(56, b"\0"))
            pairs = _memory(tid, vector, min(count, 64) * 16)
            return b"".join(_memory(tid, *pair) for pair in struct.iter_unpack("=QQ", pairs))
        return b""


def _stops() -> Iterator[tuple[int, int]]:
    while True:
        try:
            yield os.waitpid(-1, WALL)
        except ChildProcessError:
            return
        except InterruptedError:
            continue


def _memory(tid: int, address: int, size: int) -> bytes:
    with Path(f"/proc/{tid}/mem").open("rb", buffering=0) as memory:
        try:
            memory.seek(address)
            return memory.read(min(size, MOST_BYTES))
        except (OSError, ValueError, OverflowError):
            return b""  # A bad pointer is the kernel's to refuse.


def text_at(tid: int, address: int) -> str:
    """A path, which may lie across the edge of a page: the next need not be there to be read with it."""
    on_page = PAGE_BYTES - address % PAGE_BYTES
    held = _memory(tid, address, on_page)
    if b"\0" not in held:
        held += _memory(tid, address + on_page, PAGE_BYTES)
    return held.split(b"\0")[0].decode("utf-8", "replace")


def _behind(tid: int, descriptor: int) -> str:
    try:
        return str(Path(f"/proc/{tid}/fd/{descriptor}").readlink())
    except OSError:
        return ""


def main() -> None:
    at = sys.argv.index("--")
    with Path(sys.argv[1]).open("w", encoding="utf-8") as out:
        status = _Tracer(out, sys.argv[2:at]).run(sys.argv[at + 1 :])
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
