"""Lines without an installation behind them: crowds, slow readers, and questions nobody answers."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from api.lines import Lines
from api.wire import FilePart, Reply, Request
from evidence.errors import Unavailable
from tests.integration.test_api_process import certificate

BIG_BYTES = 16 << 20
"""More than the kernel's buffers of a stalled reader take."""


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(1 << 20) * (BIG_BYTES >> 20)


class Fine:
    """An application that is content with everything."""

    def at_once(self) -> Callable[[Request], Reply | None]:
        return self._reply

    async def __call__(self, request: Request) -> Reply:
        return self._reply(request)

    def _reply(self, request: Request) -> Reply:
        return Reply(200 if request.method == "GET" else 405, b"content-length: 0\r\n")

    def refuse(self, status: int) -> Reply:
        return Reply(status, b"content-length: 0\r\n")


def test_a_body_under_way_waits_while_nobody_can_say_whether_it_may_be_sent(
    big: bytes, tmp_path: Path
) -> None:
    """The database is away for a moment; the reader gets everything, a little later."""
    answers = [False, False, False, True]
    path = tmp_path / "big"
    path.write_bytes(big)

    async def may_go_on() -> bool:
        if not (answers.pop(0) if answers else True):
            raise Unavailable("database: expected an answer, found none; try again")
        return True

    class Big(Fine):
        async def __call__(self, request: Request) -> Reply:
            file = FilePart(os.open(path, os.O_RDONLY), 0, len(big), may_go_on)
            assert request.method == "GET"
            return Reply(200, f"content-length: {len(big)}\r\n".encode(), file=file)

    async def read_late(stall_s: float) -> int:
        door = socket.create_server(("127.0.0.1", 0))
        door.setblocking(False)
        lines = Lines(Big(), most=4, stall_s=stall_s)
        accepting = asyncio.create_task(lines.accept(door, None))
        loop = asyncio.get_running_loop()
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(door.getsockname())
            peer.setblocking(False)
            await loop.sock_sendall(peer, b"GET / HTTP/1.0\r\n\r\n")
            await asyncio.sleep(1.2)
            got = 0
            with suppress(ConnectionResetError):
                while piece := await loop.sock_recv(peer, 1 << 20):
                    got += len(piece)
        accepting.cancel()
        await lines.close(1)
        door.close()
        return got

    assert asyncio.run(read_late(8)) > len(big)
    assert answers == []
    answers[:] = [False] * 20
    assert asyncio.run(read_late(1.5)) < len(big)


def test_a_reader_slower_than_the_least_rate_is_let_go_and_counted(tmp_path: Path, big: bytes) -> None:
    path = tmp_path / "big"
    path.write_bytes(big)

    async def always() -> bool:
        return True

    async def broken() -> bool:
        raise ValueError("nobody meant this")

    class OnSlowDisk(FilePart):
        def is_cached(self, count: int) -> bool:
            return self.at > 0 and super().is_cached(count)

        def fetch(self, count: int) -> None:
            time.sleep(0.7)
            super().fetch(count)

    class Big(Fine):
        def __init__(self, part: type[FilePart], may_go_on: Callable[[], Awaitable[bool]]) -> None:
            self.part, self.may_go_on = part, may_go_on

        def _reply(self, request: Request) -> Reply:
            file = self.part(
                os.open(path, os.O_RDONLY), 0, len(big), self.may_go_on, partial(ended.append, 1)
            )
            assert request.method == "GET"
            return Reply(200, f"content-length: {len(big)}\r\n".encode(), file=file)

    ended: list[int] = []

    async def read(
        pause_s: float,
        part: type[FilePart] = FilePart,
        may_go_on: Callable[[], Awaitable[bool]] = always,
    ) -> tuple[int, dict[str, int]]:
        door = socket.create_server(("127.0.0.1", 0))
        door.setblocking(False)
        lines = Lines(Big(part, may_go_on), most=4, stall_s=0.5, least_bytes_s=1 << 20)
        accepting = asyncio.create_task(lines.accept(door, None))
        loop, got, head = asyncio.get_running_loop(), 0, 0
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            peer.connect(door.getsockname())
            peer.setblocking(False)
            await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with suppress(ConnectionResetError):
                async with asyncio.timeout(8):
                    while got - head < len(big) and (piece := await loop.sock_recv(peer, 1 << 20)):
                        head = head or piece.index(b"\r\n\r\n") + 4
                        got += len(piece)
                        await asyncio.sleep(pause_s)
        async with asyncio.timeout(2):
            while lines._lines:
                await asyncio.sleep(0.01)
        accepting.cancel()
        await lines.close(1)
        door.close()
        return got - head, dict(lines._let_go)

    # It takes something every moment, so that it never stalls.
    got, counted = asyncio.run(read(0.1))
    assert got < len(big)
    assert counted == {"slow": 1}
    got, counted = asyncio.run(read(0))
    assert got == len(big)
    assert counted == {}
    # A disk that takes longer than its patience is not held against it.
    got, counted = asyncio.run(read(0, OnSlowDisk))
    assert got == len(big)
    assert counted == {}
    # What nobody meant ends the line too, and gives back what was counted.
    got, counted = asyncio.run(read(2.5, may_go_on=broken))
    assert got < len(big)
    assert len(ended) == 4


def test_all_who_ask_together_share_one_look_and_what_fails_for_one_harms_no_other() -> None:
    looks = []

    class Counting(Fine):
        def at_once(self) -> Callable[[Request], Reply | None]:
            looks.append(1)
            return self._reply

        def _reply(self, request: Request) -> Reply:
            if request.path == "/3":
                raise ValueError("nobody meant this")
            return super()._reply(request)

    async def ask() -> list[bytes]:
        door = socket.create_server(("127.0.0.1", 0))
        door.setblocking(False)
        lines = Lines(Counting(), most=8, stall_s=5)
        accepting = asyncio.create_task(lines.accept(door, None))
        peers = [await asyncio.open_connection(*door.getsockname()) for _ in range(6)]
        await asyncio.sleep(0.1)
        for number, (_, writer) in enumerate(peers):
            writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        firsts = await asyncio.gather(*(reader.read(15) for reader, _ in peers), return_exceptions=True)
        for _, writer in peers:
            writer.close()
        accepting.cancel()
        await lines.close(1)
        door.close()
        return [b"" if isinstance(first, BaseException) else first for first in firsts]

    answers = asyncio.run(ask())
    assert [bool(answer) for answer in answers] == [True, True, True, False, True, True]
    assert len(looks) == 1


def test_the_line_idle_longest_gives_way_to_a_new_one() -> None:
    async def crowd() -> list[bool]:
        door = socket.create_server(("127.0.0.1", 0))
        door.setblocking(False)
        lines = Lines(Fine(), most=4, stall_s=5)
        accepting = asyncio.create_task(lines.accept(door, None))
        peers = []
        for _ in range(7):
            reader, writer = await asyncio.open_connection(*door.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            peers.append((reader, writer))
        ended = []
        for reader, writer in peers:
            try:
                ended.append(await asyncio.wait_for(reader.read(1), 0.2) == b"")
            except TimeoutError:
                ended.append(False)
            writer.close()
        accepting.cancel()
        await lines.close(1)
        door.close()
        return ended

    assert asyncio.run(crowd()) == [True, True, True, False, False, False, False]


def test_under_tls_a_crowd_that_says_nothing_keeps_nobody_out(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    trusted = ssl.create_default_context(cafile=str(cert))

    async def crowd() -> list[bytes]:
        door = socket.create_server(("127.0.0.1", 0), backlog=32)
        door.setblocking(False)
        port = door.getsockname()[1]
        lines = Lines(Fine(), most=4, stall_s=5)
        accepting = asyncio.create_task(lines.accept(door, tls))
        heard = []

        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            heard.append(await reader.readuntil(b"\r\n"))
            writer.close()

        # Silent ones, then ones that speak no TLS, each more than there are lines.
        for said in (b"", b"x" * 64):
            silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
            await asyncio.sleep(0.1)
            for peer in silent:
                if said:
                    peer.sendall(said)
            async with asyncio.timeout(4):
                await ask()
            for peer in silent:
                peer.close()
        async with asyncio.timeout(4):
            await ask()
        accepting.cancel()
        await lines.close(1)
        door.close()
        assert not lines._greeting
        return heard

    assert asyncio.run(crowd()) == [b"HTTP/1.1 200 OK\r\n"] * 3


def test_a_file_is_read_though_every_question_to_the_database_waits(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)

    async def always() -> bool:
        return True

    class OnDisk(FilePart):
        def is_cached(self, count: int) -> bool:
            return count < 0

    class One(Fine):
        async def __call__(self, request: Request) -> Reply:
            file = OnDisk(os.open(path, os.O_RDONLY), 0, 1000, always)
            assert request.method == "GET"
            return Reply(200, b"content-length: 1000\r\n", file=file)

    async def ask() -> bytes:
        door = socket.create_server(("127.0.0.1", 0))
        door.setblocking(False)
        lines = Lines(One(), most=4, stall_s=5)
        accepting = asyncio.create_task(lines.accept(door, None))
        answered = threading.Event()
        questions = [asyncio.create_task(asyncio.to_thread(answered.wait)) for _ in range(64)]
        try:
            reader, writer = await asyncio.open_connection(*door.getsockname())
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            answered.set()
            await asyncio.gather(*questions)
            writer.close()
            accepting.cancel()
            await lines.close(1)
            door.close()

    assert asyncio.run(ask()).endswith(b"\r\n\r\n" + b"x" * 1000)
