"""What one sender can use up: places, bytes, memory, patience. And hostile requests that try."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from evidence.clock import SystemClock
from ingest.daemon.body import Patience
from ingest.tus import bounds
from storage.db.credentials import Uploader
from tests.integration import tus_server
from tests.integration.tus_server import AGENCY, AUTH, LIMITS, OCTETS, Running, path_of, running

DEFER = {"Upload-Defer-Length": "1"}


def post(server: Running, headers: dict[str, str] = AUTH, **more: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    with server.client() as client:
        return client.post("/uploads/", headers={**headers, **named})


def problem(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


def trickle(server: Running, location: str, framing: str, pieces: int, pause_s: float) -> bytes:
    """A PATCH that brings two bytes at a time; what it was answered."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
            f"Tus-Resumable: 1.0.0\r\nContent-Type: {OCTETS['Content-Type']}\r\nUpload-Offset: 0\r\n"
            f"{framing}\r\n\r\n".encode()
        )
        client.settimeout(pause_s)
        for _ in range(pieces):
            client.sendall(b"2\r\nxx\r\n" if "chunked" in framing else b"xx")
            try:
                return client.recv(4096)
            except TimeoutError:
                continue
        client.settimeout(10)
        return client.recv(4096)


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_sender_that_trickles_is_let_go_and_its_bytes_are_kept(tmp_path: Path, framing: str) -> None:
    patience = Patience(read_deadline_s=5, min_rate_bytes_s=1000, window_s=0.5)
    with running(tmp_path, patience=patience) as server:
        location = server.create(100_000)
        started = time.monotonic()
        reply = trickle(server, location, framing, pieces=100, pause_s=0.05)
        assert reply.startswith(b"HTTP/1.1 503")
        assert b"too_slow" in reply
        assert time.monotonic() - started < 4
        offset = int(server.head(location).headers["upload-offset"])
        assert offset >= 10
        assert server.part(location).read_bytes() == b"x" * offset


def test_slow_line_that_keeps_the_rate_is_let_be(tmp_path: Path) -> None:
    patience = Patience(read_deadline_s=5, min_rate_bytes_s=5, window_s=0.3)
    with running(tmp_path, patience=patience) as server:
        location = server.create(40)
        assert trickle(server, location, "Content-Length: 40", 20, 0.05).startswith(b"HTTP/1.1 204")


def test_body_that_never_ends_is_cut_at_the_size_of_the_file(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location = server.create(100)
        reply = trickle(server, location, "Transfer-Encoding: chunked", 1000, 0.0005)
        assert reply.startswith(b"HTTP/1.1 413")
        assert "liuhen-item" in server.head(location).headers


def test_file_larger_than_the_disk_is_refused_when_it_is_declared(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    with running(tmp_path) as server:
        assert problem(post(server, Upload_Length=str(free + (100 << 30)))) == (507, "disk_full")
        assert problem(post(server, Upload_Length=str(1 << 41))) == (413, "upload_too_large")
        assert list((tmp_path / "uploads").glob("h0.*")) == []


def test_length_that_lies_short_stays_open_and_one_that_lies_long_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        short, long = server.create(10), server.create(10)
        assert server.patch(short, 0, b"01234").headers["upload-offset"] == "5"
        assert "upload-expires" in server.head(short).headers
        assert problem(server.patch(long, 0, b"0123456789abc")) == (413, "body_too_long")
        assert server.head(long).headers["upload-offset"] == "0"
        assert server.register.items() == []


def test_uploads_made_without_end_are_bounded_and_leave_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        made = [path_of(post(server, Upload_Length="5")) for _ in range(LIMITS.max_open_uploads)]
        for asked in (
            {"Upload-Length": "5"},
            DEFER,
            {"Upload-Length": "0"},
            {"Upload-Concat": "partial", **DEFER},
        ):
            refused = post(server, {**AUTH, **asked})
            assert problem(refused) == (429, "too_many_uploads")
            assert "retry-after" in refused.headers
        assert len(list((tmp_path / "uploads").glob("*.json"))) == len(made)
        with server.client() as client:
            for location in made:
                assert client.delete(location, headers=AUTH).status_code == 204
        assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["lock"]
        assert post(server, Upload_Length="5").status_code == 201


def test_finished_uploads_are_remembered_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_TOMBSTONES", 3)
    with running(tmp_path, sweep_every_s=0.1) as server:
        made = [server.create(0) for _ in range(6)]
        deadline = time.monotonic() + 5
        while len(list((tmp_path / "uploads").glob("*.json"))) > 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [server.head(location).status_code for location in made] == [404] * 3 + [200] * 3
        assert len(server.register.items()) == 6


def test_bytes_of_open_uploads_are_bounded_whether_told_or_not(tmp_path: Path) -> None:
    with running(tmp_path, limits=replace(LIMITS, max_open_bytes=1000)) as server:
        told, untold = server.create(600), path_of(post(server, **{"Upload_Defer_Length": "1"}))
        assert problem(post(server, Upload_Length="401")) == (429, "too_many_open_bytes")
        assert server.patch(untold, 0, bytes(300)).status_code == 204
        beyond = server.patch(untold, 300, bytes(101))
        assert (problem(beyond), beyond.headers["upload-offset"]) == ((429, "too_many_open_bytes"), "300")
        size = server.patch(untold, 300, b"", Upload_Length="401")
        assert problem(size) == (429, "too_many_open_bytes")
        assert "liuhen-item" in server.patch(told, 0, bytes(600)).headers
        assert "liuhen-item" in server.patch(untold, 300, bytes(101), Upload_Length="401").headers


def test_device_with_a_new_token_holds_no_more_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = {
        **tus_server.TOKENS,
        "camera-renewed": Uploader(UUID(int=4), AGENCY, "CG01", "D3", device_no="0000007"),
    }
    monkeypatch.setattr(tus_server, "TOKENS", tokens)
    with running(tmp_path, limits=replace(LIMITS, max_open_uploads=2)) as server:
        old, new = ({**AUTH, "Authorization": f"Bearer camera-{which}"} for which in ("secret", "renewed"))
        first = server.create(5, old)
        server.create(5, new)
        assert problem(post(server, old, Upload_Length="5")) == (429, "too_many_uploads")
        assert problem(post(server, new, Upload_Length="5")) == (429, "too_many_uploads")
        assert server.head(first, new).status_code == 404


@pytest.mark.parametrize(
    "bomb",
    [
        b"".join(b"x-%d: y\r\n" % number for number in range(10_000)),
        b"x-long: " + b"y" * (4 << 20) + b"\r\n",
        b"upload-concat: final;" + b"/uploads/h0.a " * 100_000 + b"\r\n",
        b"upload-length: " + b"9" * 100_000 + b"\r\n",
        b": nameless\r\n",
    ],
    ids=["many", "long", "parts", "digits", "nameless"],
)
def test_header_bomb_is_refused_and_the_listener_goes_on(tmp_path: Path, bomb: bytes) -> None:
    with running(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            head = f"POST /uploads/ HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
            try:
                client.sendall(head.encode() + b"Tus-Resumable: 1.0.0\r\n" + bomb + b"\r\n")
                answer = client.recv(4096)
            except (ConnectionResetError, BrokenPipeError):
                answer = b""  # Refused before it was read to its end.
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert list((tmp_path / "uploads").glob("h0.*")) == []
        assert post(server, Upload_Length="1").status_code == 201


def test_clock_that_steps_back_in_mid_upload_costs_nothing(tmp_path: Path) -> None:
    class Stepping(SystemClock):
        ahead = timedelta()

        def now(self) -> datetime:
            return datetime.now(UTC) + self.ahead

    clock = Stepping()
    with running(tmp_path, clock=clock, sweep_every_s=0.1) as server:
        location = server.create(10)
        server.patch(location, 0, b"01234")
        clock.ahead = -timedelta(days=400)
        assert server.head(location).headers["upload-offset"] == "5"
        server.patch(location, 5, b"56")
        time.sleep(0.3)  # A few rounds of the sweeper.
    with running(tmp_path, clock=clock) as server:
        last = server.patch(location, 7, b"789")
        assert server.head(location).headers["liuhen-item"] == last.headers["liuhen-item"]
        assert len(server.register.items()) == 1
