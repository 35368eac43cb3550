"""Faults under the upload listener: no descriptor left, a line reset at the last word, a stop in between."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ingest.daemon.connection import Allowance, Connection
from tests.integration.test_upload_lines import head_of, heard
from tests.integration.tus_server import Running, running

LENGTH = 4 << 20
FDS = Path("/proc/self/fd")


def until(is_so: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reset(line: socket.socket) -> None:
    """End a line as a host does that has forgotten it."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def sockets_open_twice() -> int:
    """Sockets of this process that two descriptors stand for; looked for without opening anything."""
    names = []
    for number in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        with contextlib.suppress(OSError):
            names.append(str((FDS / str(number)).readlink()))
    found = [name for name in names if name.startswith("socket:")]
    return len(found) - len(set(found))


@contextlib.contextmanager
def files_left(count: int) -> Iterator[None]:
    """Leave this process to open so many files and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A descriptor is the lowest free number below the limit: no number may be free below the last one used.
    highest = max(int(each.name) for each in FDS.iterdir())
    filling = [os.open(os.devnull, os.O_RDONLY)]
    while filling[-1] < highest:
        filling.append(os.dup(filling[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (filling[-1] + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)


def part_bytes(server: Running, location: str) -> int:
    return server.part(location).stat().st_size


def test_body_comes_in_pieces_while_no_more_files_can_be_opened(tmp_path: Path) -> None:
    content = os.urandom(LENGTH)
    with running(tmp_path, sweep_every_s=60) as server, socket.socket() as late:
        location = server.create(LENGTH)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert heard(line).startswith(b"HTTP/1.1 200")
            # The two files of the upload, and not the socket once more.
            with files_left(2):
                line.sendall(head_of("PATCH", location, LENGTH, Upload_Offset="0") + content[: 1 << 20])
                until(lambda: part_bytes(server, location) >= 512 << 10)
                assert sockets_open_twice() == 0
                late.settimeout(10)
                late.connect(("127.0.0.1", server.port))
                late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                line.sendall(content[1 << 20 : 2 << 20])
                until(lambda: part_bytes(server, location) >= 1 << 20)
            line.sendall(content[2 << 20 :])
            assert heard(line).startswith(b"HTTP/1.1 204")
        assert heard(late).startswith(b"HTTP/1.1 200"), "who came meanwhile waits and is let in"
        (item,) = server.register.items()
        assert item["sha256"] == hashlib.sha256(content).hexdigest()


class Hasty:
    """An application that answers before the body came, and takes its time to end."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        await self.go_on.wait()


def test_line_that_was_reset_before_our_last_word_is_ended_at_once() -> None:
    """The reset is not seen while the line is not read; ending it is what meets it."""
    failures: list[dict[str, Any]] = []

    async def main() -> float:
        loop, app, allowance = asyncio.get_running_loop(), Hasty(), Allowance()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        listening = await loop.create_server(
            lambda: Connection(app, allowance, lambda: False), "127.0.0.1", 0
        )
        line = socket.socket()
        line.setblocking(False)
        await loop.sock_connect(line, listening.sockets[0].getsockname())
        await loop.sock_sendall(line, head_of("PUT", "/x", 1 << 30) + bytes(400 << 10))
        assert (await loop.sock_recv(line, 4096)).startswith(b"HTTP/1.1 401")
        (held,) = allowance.lines
        while not held._is_paused:
            await asyncio.sleep(0.01)
        reset(line)
        await asyncio.sleep(0.1)
        assert allowance.lines, "nobody has seen the reset yet"
        began = time.monotonic()
        app.go_on.set()
        while allowance.lines:
            await asyncio.sleep(0.01)
        listening.close()
        await listening.wait_closed()
        return time.monotonic() - began

    assert asyncio.run(main()) < 2, "nobody lingers for a sender that is gone"
    assert failures == []


def test_upload_made_while_the_listener_stops_holds_it_up_for_nobody(tmp_path: Path) -> None:
    """It was let in before the stop and is made after every writer was interrupted."""
    length, busy = 64 << 20, threading.Event()
    with socket.socket() as line:
        line.settimeout(20)
        with running(tmp_path) as server:
            for _ in range(16):  # Every thread that writes has work that takes its time.
                server.store._threads.submit(busy.wait, 20)
            line.connect(("127.0.0.1", server.port))
            line.sendall(head_of("POST", "/uploads/", length, Upload_Length=str(length)) + bytes(1 << 20))
            until(lambda: any(True for _ in server.store))

            def let_go() -> None:
                until(lambda: server.store.is_stopping)
                busy.set()

            threading.Thread(target=let_go).start()
            began = time.monotonic()
        assert time.monotonic() - began < 8, "its sender is told, not waited for"
        answer = b""
        while received := line.recv(4096):
            answer += received
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"code": "stopping"' in answer
    assert b"location: " in answer, "what was made is not lost to its sender"
    assert b"upload-offset: 0" in answer
