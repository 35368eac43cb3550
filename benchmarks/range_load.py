"""What asks for ranges in `bench-serve`: bare sockets in processes of their own, so that asking is cheap.

Each process keeps its share of the connections busy, one request on each at a time. Bodies are counted and
thrown away in the kernel (``MSG_TRUNC``), because copying them out would cost more than sending them; heads
are read, and an answer that is not exactly the range asked for ends the measurement.
"""

from __future__ import annotations

import multiprocessing
import re
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

READ_BYTES = 1 << 20
HEAD_BYTES = 8 << 10
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """What is asked for.

    Attributes:
        paths: One connection after another takes the next: a grant may have a few lines at once, not all.
        ranges: First byte and length of each; they are asked for in random order.
    """

    port: int
    paths: Sequence[str]
    ranges: Sequence[tuple[int, int]]
    clients: int
    seconds: float
    processes: int


@dataclass
class Taken:
    """What came of it."""

    body_bytes: int
    wire_bytes: int
    asked_bytes: int
    latencies_s: list[float]
    cpu_s: float
    wall_s: float


class _Client:
    """One connection and what it waits for."""

    def __init__(self, load: Load, path: str, random: Random) -> None:
        self._load, self._path, self._random = load, path, random
        self.line = socket.create_connection(("127.0.0.1", load.port))
        self.ask()

    def ask(self) -> None:
        first, self.length = self._random.choice(self._load.ranges)
        self.left = -1
        self.began = time.perf_counter()
        asked = f"Host: bench\r\nRange: bytes={first}-{first + self.length - 1}\r\n\r\n"
        self.line.sendall(f"GET {self._path} HTTP/1.1\r\n{asked}".encode("ascii"))

    def take(self, buffer: bytearray) -> tuple[int, int]:
        """Bytes of heads and of bodies that came; `left` is 0 at the end of an answer."""
        head = 0
        if self.left < 0:
            seen = self.line.recv(HEAD_BYTES, socket.MSG_PEEK)
            end = seen.find(b"\r\n\r\n") + 4
            if end < 4:
                if not seen:
                    raise ConnectionError("expected an answer, found the line closed")
                return 0, 0
            head = len(self.line.recv(end))
            said = _LENGTH.search(seen[:end])
            if not seen.startswith(b"HTTP/1.1 206 ") or said is None or int(said[1]) != self.length:
                raise ConnectionError(f"expected 206 and {self.length} bytes, found {seen[:end]!r}")
            self.left = self.length
        try:
            body = self.line.recv_into(
                buffer, min(self.left, READ_BYTES), socket.MSG_TRUNC | socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return head, 0
        if body == 0:
            raise ConnectionError(f"expected {self.left} more bytes, found the line closed")
        self.left -= body
        return head, body


def _run(load: Load, seed: int, count: int, answers: multiprocessing.Queue[Taken | str]) -> None:
    try:
        answers.put(_taken(load, Random(seed), count))
    except OSError as error:
        answers.put(str(error))


def _taken(load: Load, random: Random, count: int) -> Taken:
    waiting, buffer = selectors.DefaultSelector(), bytearray(READ_BYTES)
    for number in range(count):
        client = _Client(load, load.paths[number % len(load.paths)], random)
        waiting.register(client.line, selectors.EVENT_READ, client)
    taken = Taken(0, 0, 0, [], time.process_time(), time.perf_counter())
    end = taken.wall_s + load.seconds
    while time.perf_counter() < end:
        for key, _ in waiting.select(1.0):
            client = key.data
            head, body = client.take(buffer)
            taken.body_bytes += body
            taken.wire_bytes += head + body
            if client.left == 0:
                taken.latencies_s.append(time.perf_counter() - client.began)
                taken.asked_bytes += client.length
                client.ask()
    taken.wall_s = time.perf_counter() - taken.wall_s
    taken.cpu_s = time.process_time() - taken.cpu_s
    # What was on its way belongs to answers that are not counted.
    for key in list(waiting.get_map().values()):
        if key.data.left > 0:
            taken.wire_bytes -= key.data.length - key.data.left
        key.data.line.close()
    return taken


def run(load: Load) -> Taken:
    """Put the load on; all processes together.

    Raises:
        ConnectionError: An answer was not the range asked for.
    """
    answers: multiprocessing.Queue[Taken | str] = multiprocessing.Queue()
    shares = [load.clients // load.processes + (at < load.clients % load.processes)
              for at in range(load.processes)]  # fmt: skip
    children = [
        multiprocessing.Process(target=_run, args=(load, seed, share, answers))
        for seed, share in enumerate(shares)
    ]
    for child in children:
        child.start()
    found = [answers.get() for _ in children]
    for child in children:
        child.join()
    total = Taken(0, 0, 0, [], 0.0, 0.0)
    for each in found:
        if isinstance(each, str):
            raise ConnectionError(each)
        total.body_bytes += each.body_bytes
        total.wire_bytes += each.wire_bytes
        total.asked_bytes += each.asked_bytes
        total.latencies_s += each.latencies_s
        total.cpu_s += each.cpu_s
        total.wall_s = max(total.wall_s, each.wall_s)
    return total
