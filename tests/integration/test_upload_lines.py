"""Lines to the upload listener, before any protocol of uploads is spoken: RFC 9112 over real sockets."""

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
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.daemon import connection, door
from ingest.daemon.connection import Allowance, Connection
from tests.integration.tus_server import AUTH, LIMITS, OCTETS, Running, running
from tests.support.places import certificate

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("lines")) as server:
        yield server


def talk(server: Running, said: bytes, *, half_closes: bool = False) -> bytes:
    """Everything that is answered until the line ends, or nothing came for a second."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as line:
        with contextlib.suppress(ConnectionError):
            line.sendall(said)
        if half_closes:
            line.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while received := line.recv(65536):
                answer += received
    return answer


def test_line_serves_one_request_after_another(server: Running) -> None:
    answers = talk(server, HEALTH * 4)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.count(b"connection: keep-alive") == 4


def test_requests_sent_far_ahead_end_the_line_after_those_before_them(server: Running) -> None:
    answers = talk(server, HEALTH * 500)
    assert 1 <= answers.count(b"HTTP/1.1 200 OK") <= 500
    assert answers.count(b"connection: close") == 1
    assert answers.rindex(b"connection: close") > answers.rindex(b"HTTP/1.1")


def test_junk_after_a_request_costs_that_request_nothing(server: Running) -> None:
    answers = talk(server, HEALTH + b"\x00\xff junk\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answers


@pytest.mark.parametrize(
    ("said", "keeps"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET /healthz HTTP/1.0\r\n\r\n", False),
        (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_line_ends_as_the_sender_says(server: Running, said: bytes, keeps: bool) -> None:
    began = time.monotonic()
    answer = talk(server, said)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert (b"connection: keep-alive" in answer) is keeps
    assert (time.monotonic() - began >= 1) is keeps, "a line that ends is seen to end at once"


def test_sender_that_has_said_everything_still_hears_the_reply(server: Running) -> None:
    assert talk(server, HEALTH, half_closes=True).startswith(b"HTTP/1.1 200 OK")


def test_offer_of_another_protocol_is_answered_in_this_one(server: Running) -> None:
    said = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
    answer = talk(server, said + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.count(b"HTTP/1.1") == 1


def test_absolute_address_of_a_proxy_is_understood(server: Running) -> None:
    assert talk(server, b"GET http://dock.example/healthz HTTP/1.1\r\nHost: x\r\n\r\n").startswith(
        b"HTTP/1.1 200"
    )


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /heal\x00thz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: a\rb\r\n\r\n",
    ],
    ids=[
        "tls",
        "http2",
        "two-framings",
        "old-chunks",
        "no-host",
        "two-hosts",
        "two-lengths",
        "negative",
        "unframed",
        "space",
        "nul",
        "bare-cr",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(server: Running, said: bytes) -> None:
    answer = talk(server, said)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"code": "bad_request"' in answer
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    ("bomb", "code"),
    [
        (b"upload-metadata: filename " + b"QUJD" * 400_000, b"metadata_too_large"),
        (b"x-long: " + b"y" * (4 << 20), b"head_too_large"),
        (b"".join(b"x-%d: y\r\n" % number for number in range(10_000)), b"head_too_large"),
    ],
    ids=["metadata", "long", "many"],
)
def test_head_too_large_is_refused_in_words_while_it_comes(server: Running, bomb: bytes, code: bytes) -> None:
    # Never ended: a listener that waits for the end of the head would answer nothing.
    answer = talk(server, b"POST /uploads/ HTTP/1.1\r\nHost: x\r\n" + bomb)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b'"code": "%s"' % code in answer


def test_head_of_a_final_upload_of_a_thousand_parts_fits(server: Running) -> None:
    parts = b" ".join(b"https://dock.example/uploads/h0.%032d" % number for number in range(1000))
    head = f"POST /uploads/ HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n".encode()
    answer = talk(server, head + b"Tus-Resumable: 1.0.0\r\nUpload-Concat: final;" + parts + b"\r\n\r\n")
    assert b'"code": "part_unknown"' in answer, "read whole, and none of its parts is there"


def test_refusal_is_heard_by_a_sender_of_a_body_too_large_to_read(server: Running) -> None:
    length = 64 << 20
    head = f"POST /uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(head + bytes(1 << 20))
        while received := line.recv(65536):
            answer += received
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer


def test_silent_line_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.5)
    with running(tmp_path) as server:
        for said in (b"", b"GET /healthz HT", HEALTH):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
                line.sendall(said)
                began, answer = time.monotonic(), b""
                while received := line.recv(65536):
                    answer += received
                assert 0.3 < time.monotonic() - began < 4
                assert answer.startswith(b"HTTP/1.1 200") is (said == HEALTH)


def test_line_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_LINES", 3)
    with running(tmp_path) as server:
        with contextlib.ExitStack() as lines:
            held, deadline = 0, time.monotonic() + 5
            while held < 3:  # The line that saw the listener start may take a moment to end.
                assert time.monotonic() < deadline
                line = lines.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                line.sendall(HEALTH)
                held += line.recv(65536).startswith(b"HTTP/1.1 200")
            answer = talk(server, HEALTH)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"too_many_lines" in answer
            assert b"retry-after" in answer
        deadline = time.monotonic() + 5
        while not talk(server, HEALTH).startswith(b"HTTP/1.1 200"):
            assert time.monotonic() < deadline, "expected places to be free once lines end"


class Stuck:
    """An application that takes one piece and then no more until it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.taken = 0
        self.largest = 0

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        is_more = True
        while is_more:
            message = await receive()
            self.taken += len(message["body"])
            self.largest = max(self.largest, len(message["body"]))
            is_more = message["more_body"]
            await self.go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("line_count", [1, 40])
def test_lines_hold_no_more_than_their_allowance(line_count: int) -> None:
    body = os.urandom(8 << 20)
    held: list[int] = []
    answers: list[bytes] = []

    def send(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
            line.sendall(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            answers.append(line.recv(4096))

    async def main() -> None:
        allowance = Allowance(total_bytes=4 << 20, most_bytes=512 << 10, least_bytes=32 << 10)
        apps: list[Stuck] = []

        def made() -> Connection:
            apps.append(Stuck())
            return Connection(apps[-1], allowance, lambda: False)

        listening = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        senders = [threading.Thread(target=send, args=(port,)) for _ in range(line_count)]
        for sender in senders:
            sender.start()
        for _ in range(100):
            await asyncio.sleep(0.01)
            held.append(sum(line.held_bytes for line in allowance.lines))
        assert all(app.taken < len(body) for app in apps), "senders are made to wait"
        for app in apps:
            app.go_on.set()
        while len(answers) < line_count:
            await asyncio.sleep(0.01)
        listening.close()
        assert [app.taken for app in apps] == [len(body)] * line_count
        assert max(app.largest for app in apps) <= 512 << 10

    asyncio.run(main())
    # Those that came first held their larger share already when the others came.
    assert 0 < max(held) <= (4 << 20) + (1 << 20)
    assert all(answer.startswith(b"HTTP/1.1 204") for answer in answers)


def test_chunked_body_whose_frame_breaks_keeps_what_came(server: Running) -> None:
    location = server.create(1000)
    head = (
        f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
        f"Tus-Resumable: 1.0.0\r\nContent-Type: {OCTETS['Content-Type']}\r\nUpload-Offset: 0\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    talk(server, head.encode() + b"64\r\n" + bytes(100) + b"\r\nnonsense\r\n")
    deadline = time.monotonic() + 5
    while server.head(location).headers["upload-offset"] != "100":
        assert time.monotonic() < deadline


def test_many_more_senders_than_files_a_service_may_open_are_served(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Beside what this process has open already: other tests in it keep connections and logs.
    have = sum(1 for _ in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (have + 40, hard))
    try:
        with running(tmp_path, limits=replace(LIMITS, max_open_uploads=200)) as server:
            locations = [server.create(10) for _ in range(100)]
            lines = []
            for location in locations:
                line = socket.create_connection(("127.0.0.1", server.port), timeout=10)
                lines.append(line)
                line.sendall(
                    f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
                    f"Tus-Resumable: 1.0.0\r\nContent-Type: {OCTETS['Content-Type']}\r\n"
                    "Upload-Offset: 0\r\nContent-Length: 10\r\n\r\n01234".encode()
                )
            for line in lines:
                line.sendall(b"56789")
            answers = [line.recv(4096) for line in lines]
            for line in lines:
                line.close()
            assert all(answer.startswith(b"HTTP/1.1 204") for answer in answers)
            assert len(server.register.items()) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def head_of(method: str, path: str, length: int, **more: str) -> bytes:
    said = {"Host": "x", **AUTH, **OCTETS, "Content-Length": str(length)}
    said |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def heard(line: socket.socket) -> bytes:
    """One reply without a body, or with all of it in the same piece."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = line.recv(65536)
        if not received:
            break
        answer += received
    return answer


def test_long_bodies_and_short_requests_take_turns_on_one_line(server: Running) -> None:
    content = os.urandom(5 << 20)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        for _ in range(3):
            location = server.create(len(content) + 5)
            line.sendall(head_of("PATCH", location, len(content), Upload_Offset="0") + content)
            answer = heard(line)
            assert answer.startswith(b"HTTP/1.1 204")
            assert b"upload-offset: %d" % len(content) in answer
            line.sendall(HEALTH)
            assert heard(line).startswith(b"HTTP/1.1 200")
            line.sendall(head_of("PATCH", location, 5, Upload_Offset=str(len(content))) + b"12345" + HEALTH)
            answers = heard(line)
            assert answers.startswith(b"HTTP/1.1 204")
            while answers.count(b"HTTP/1.1") < 2:
                answers += line.recv(65536)
            stored = server.register.items()[-1]
            assert stored["sha256"] == hashlib.sha256(content + b"12345").hexdigest()


def test_request_sent_ahead_of_the_reply_to_a_long_body_is_carried_out(server: Running) -> None:
    content = os.urandom(3 << 20)
    location = server.create(len(content))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(head_of("PATCH", location, len(content), Upload_Offset="0") + content + HEALTH)
        answers = b""
        while answers.count(b"HTTP/1.1") < 2:
            answers += line.recv(65536)
    assert answers.startswith(b"HTTP/1.1 204")
    assert b"HTTP/1.1 200 OK" in answers


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_sender_that_goes_in_the_middle_of_a_long_body_keeps_what_it_sent(server: Running, how: str) -> None:
    location = server.create(64 << 20)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(head_of("PATCH", location, 64 << 20, Upload_Offset="0") + bytes(4 << 20))
        deadline = time.monotonic() + 10
        while server.part(location).stat().st_size < 4 << 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if how == "rst":
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    began = time.monotonic()
    assert server.head(location).headers["upload-offset"] == str(4 << 20)
    assert time.monotonic() - began < 3


def test_refusal_in_the_middle_of_a_long_body_is_heard(server: Running) -> None:
    location = server.create(64 << 20)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(head_of("PATCH", location, 64 << 20, Upload_Offset="0") + bytes(2 << 20))
        deadline = time.monotonic() + 10
        while server.part(location).stat().st_size < 2 << 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert server.head(location).headers["upload-offset"] == str(2 << 20)  # Takes the upload over.
        line.sendall(bytes(8 << 20))
        answer = heard(line)
        assert answer.startswith(b"HTTP/1.1 423")
        assert b"connection: close" in answer


def test_stopping_listener_lets_a_long_body_go_with_what_came(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location = server.create(64 << 20)
        line = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        line.sendall(head_of("PATCH", location, 64 << 20, Upload_Offset="0") + bytes(2 << 20))
        deadline = time.monotonic() + 10
        while server.part(location).stat().st_size < 2 << 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 8, "nobody is waited for who has nothing to say"
    answer = heard(line)
    line.close()
    assert b"upload-offset: %d" % (2 << 20) in answer


def test_no_descriptor_is_left_behind_by_long_bodies(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(12):
            location = server.create(2 << 20)
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
                sent = 2 << 20 if number % 2 else 1 << 20
                line.sendall(head_of("PATCH", location, 2 << 20, Upload_Offset="0") + bytes(sent))
                if number % 2:
                    assert heard(line).startswith(b"HTTP/1.1 204")
        deadline = time.monotonic() + 5
        while len(list(Path("/proc/self/fd").iterdir())) > before:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_trickle_after_a_burst_holds_neither_thread_nor_upload(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location, over = server.create(64 << 20), threading.Event()
        line = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        line.sendall(head_of("PATCH", location, 64 << 20, Upload_Offset="0") + bytes(700_000))

        def trickle() -> None:
            with contextlib.suppress(OSError):
                while not over.wait(0.001):
                    line.sendall(b"\0")

        trickling = threading.Thread(target=trickle)
        trickling.start()
        try:
            # The rest of the burst fills a block in part; the trickle would fill it in minutes.
            time.sleep(0.5)
            began = time.monotonic()
            assert server.head(location).status_code == 200
            assert time.monotonic() - began < 1.5
        finally:
            over.set()
            trickling.join()
            line.close()


def test_trailer_says_nothing_of_who_sends_or_what(server: Running) -> None:
    said = b"POST /uploads/ HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 3\r\n"
    said += b"Content-Type: application/offset+octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    said += b"3\r\nabc\r\n0\r\n"
    answer = talk(server, said + f"Authorization: {AUTH['Authorization']}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401")


def test_trailer_without_end_is_refused(server: Running) -> None:
    location = server.create(1000)
    head = head_of("PATCH", location, 0, Upload_Offset="0").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(head + b"64\r\n" + bytes(100) + b"\r\n0\r\n")
        time.sleep(0.2)
        sent = 0
        with contextlib.suppress(ConnectionError):
            line.sendall(b"x-endless: ")
            while sent < 8 << 20:
                line.sendall(b"y" * 65536)
                sent += 65536
        with contextlib.suppress(ConnectionError):
            assert heard(line).startswith(b"HTTP/1.1 4")
    deadline = time.monotonic() + 5
    while server.head(location).headers["upload-offset"] != "100":
        assert time.monotonic() < deadline


def test_sender_that_never_reads_its_replies_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REPLY_S", 0.5)
    monkeypatch.setattr(connection, "HEAD_S", 0.5)
    with running(tmp_path) as server, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", server.port))
        line.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(100_000):  # Until nothing more is taken.
                line.sendall(HEALTH)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(TimeoutError):
                try:
                    line.sendall(b"x")
                except ConnectionError:
                    break
            assert time.monotonic() < deadline, "expected the line to be ended"
            time.sleep(0.05)


def test_heads_sent_ahead_stop_the_reading() -> None:
    large = (
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n" + b"x-fill: " + b"y" * 150_000 + b"\r\n\r\n"
    )
    held: list[int] = []

    async def main() -> None:
        allowance, app = Allowance(), Stuck()
        listening = await asyncio.get_running_loop().create_server(
            lambda: Connection(app, allowance, lambda: False), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(large * 4)
        for _ in range(50):
            await asyncio.sleep(0.01)
            held.append(sum(each.held_bytes for each in allowance.lines))
        app.go_on.set()
        answers = b""
        while answers.count(b"HTTP/1.1 204") < 4:
            received = await reader.read(65536)
            assert received
            answers += received
        writer.close()
        await writer.wait_closed()
        listening.close()

    asyncio.run(main())
    assert 150_000 < max(held) < (512 << 10) + 150_000


def test_chunks_of_a_byte_are_counted_for_what_they_cost() -> None:
    held: list[int] = []

    async def main() -> None:
        allowance, app = Allowance(), Stuck()
        listening = await asyncio.get_running_loop().create_server(
            lambda: Connection(app, allowance, lambda: False), "127.0.0.1", 0
        )
        _, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(
            b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 200_000
        )
        pieces = 0
        for _ in range(100):
            await asyncio.sleep(0.01)
            for line in allowance.lines:
                held.append(line.held_bytes)
                pieces = sum(len(each._pieces) for each in line._waiting)
        assert 0 < pieces < 100_000
        app.go_on.set()
        writer.close()
        await writer.wait_closed()
        listening.close()
        await asyncio.sleep(0.1)

    asyncio.run(main())
    assert max(held) > 256 << 10


def test_handshakes_are_counted_among_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_TLS_LINES", 4)
    monkeypatch.setattr(door, "HANDSHAKE_S", 1.0)
    with (
        running(tmp_path / "data", tls=certificate()) as server,
        contextlib.ExitStack() as lines,
    ):
        held = [
            lines.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
            for _ in range(10)
        ]
        ended = 0
        began = time.monotonic()
        for line in held:
            ended += line.recv(1) == b""
        assert ended == 10, "turned away at once, or let go when the handshake did not come"
        assert time.monotonic() - began < 4
