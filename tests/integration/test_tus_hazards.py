"""Uploads that go wrong: lost connections, killed servers, two senders, silent ones, full disks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from evidence.clock import SystemClock
from ingest.daemon.body import Patience
from ingest.tus.uploads import UploadLimits
from tests.integration.tus_server import (
    AUTH,
    LIMITS,
    OCTETS,
    Running,
    free_port,
    path_of,
    running,
    wait_for_port,
)

FOOTAGE = os.urandom(3 << 20)
DIGEST = hashlib.sha256(FOOTAGE).hexdigest()


def begin_patch(port: int, location: str, offset: int, announced: int, sent: bytes) -> socket.socket:
    """A PATCH that announces more than it has sent so far."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(
        f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
        f"Tus-Resumable: 1.0.0\r\nContent-Type: {OCTETS['Content-Type']}\r\n"
        f"Upload-Offset: {offset}\r\nContent-Length: {announced}\r\n\r\n".encode()
    )
    client.sendall(sent)
    return client


def wait_until(claim: object, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not claim():  # type: ignore[operator]
        assert time.monotonic() < deadline, "expected it to become true in time"
        time.sleep(0.01)


@contextlib.contextmanager
def process(data: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    server = subprocess.Popen([sys.executable, "-m", "tests.integration.tus_server", str(data), str(port)])
    try:
        wait_for_port(port)
        yield server
    finally:
        if server.poll() is None:
            server.kill()
        server.wait()


def test_lost_connection_keeps_every_byte_that_came(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location = server.create(len(FOOTAGE))
        begin_patch(server.port, location, 0, len(FOOTAGE), FOOTAGE[: 2 << 20]).close()
        # Asking with HEAD at once would end the request before all it sent is read.
        wait_until(lambda: server.part(location).stat().st_size == 2 << 20)
        assert server.head(location).headers["upload-offset"] == str(2 << 20)
        last = server.patch(location, 2 << 20, FOOTAGE[2 << 20 :])
        assert last.headers["liuhen-digest"] == f"sha-256={DIGEST}"


def test_server_killed_in_mid_patch_resumes_with_the_right_digest(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process(tmp_path, port) as server:
        created = httpx.post(f"{url}/uploads/", headers={**AUTH, "Upload-Length": str(len(FOOTAGE))})
        location = path_of(created)
        part = tmp_path / "uploads" / f"{location.rsplit('/', 1)[-1]}.part"
        with begin_patch(port, location, 0, len(FOOTAGE), FOOTAGE[: 2 << 20]):
            wait_until(lambda: part.stat().st_size >= 1 << 20)
            server.send_signal(signal.SIGKILL)
            server.wait()
    on_disk = part.stat().st_size
    with process(tmp_path, port):
        offset = int(httpx.head(url + location, headers=AUTH).headers["upload-offset"])
        assert offset == on_disk
        last = httpx.patch(
            url + location, headers={**AUTH, **OCTETS, "Upload-Offset": str(offset)}, content=FOOTAGE[offset:]
        )
        assert last.headers["liuhen-digest"] == f"sha-256={DIGEST}"


def test_sigterm_in_mid_patch_acknowledges_and_ends_cleanly(tmp_path: Path) -> None:
    port = free_port()
    with process(tmp_path, port) as server:
        created = httpx.post(
            f"http://127.0.0.1:{port}/uploads/", headers={**AUTH, "Upload-Length": str(len(FOOTAGE))}
        )
        location = path_of(created)
        with begin_patch(port, location, 0, len(FOOTAGE), FOOTAGE[: 2 << 20]) as client:
            time.sleep(0.3)
            server.send_signal(signal.SIGTERM)
            assert client.recv(4096).startswith(b"HTTP/1.1 423")
        assert server.wait(10) == 0
    part = tmp_path / "uploads" / f"{location.rsplit('/', 1)[-1]}.part"
    assert part.read_bytes() == FOOTAGE[: 2 << 20]


_TUSPY = """
import sys
from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

source, port, stop_at, urls = sys.argv[1:]
client = TusClient(f"http://127.0.0.1:{port}/uploads/", headers={"Authorization": "Bearer dock-1-secret"})
uploader = client.uploader(
    source,
    chunk_size=1 << 20,
    metadata={"filename": source.rsplit("/", 1)[-1]},
    store_url=True,
    url_storage=FileStorage(urls),
    upload_checksum=True,
)
assert uploader.offset == (0 if int(stop_at) == 1 << 20 else 1 << 20)
uploader.upload(stop_at=int(stop_at))
"""


def test_tuspy_uploads_pauses_and_resumes_across_a_killed_server(tmp_path: Path) -> None:
    source = tmp_path / "DSJ_0000001_123456_20240304_091530.mp4"
    source.write_bytes(FOOTAGE)
    port = free_port()

    def upload(stop_at: int) -> None:
        # In a process of its own: tuspy leaves its connections for the interpreter to close.
        subprocess.run(
            [sys.executable, "-c", _TUSPY, source, str(port), str(stop_at), tmp_path / "urls.json"],
            check=True,
        )

    with process(tmp_path, port) as server:
        upload(1 << 20)
        server.kill()
    with process(tmp_path, port):
        upload(len(FOOTAGE))
    items = list((tmp_path / "items").glob("*.json"))
    assert len(items) == 1
    assert DIGEST in items[0].read_text()


def test_second_sender_interrupts_the_first_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location = server.create(len(FOOTAGE))
        with begin_patch(server.port, location, 0, len(FOOTAGE), FOOTAGE[: 2 << 20]) as first:
            part = server.part(location)
            wait_until(lambda: part.stat().st_size >= 1 << 20)
            started = time.monotonic()
            offset = int(server.head(location).headers["upload-offset"])
            assert time.monotonic() - started < 3
            assert 1 << 20 <= offset <= 2 << 20
            last = server.patch(location, offset, FOOTAGE[offset:])
            assert last.headers["liuhen-digest"] == f"sha-256={DIGEST}"
            assert first.recv(4096).startswith(b"HTTP/1.1 423")


def test_many_senders_at_once_never_mix_their_bytes(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        footage = FOOTAGE[: 1 << 20]
        location = server.create(len(footage))

        def insist() -> None:
            while True:
                offset = int(server.head(location).headers.get("upload-offset", -1))
                if offset == len(footage):
                    return
                if offset >= 0:
                    server.patch(location, offset, footage[offset : offset + 100_000])

        senders = [threading.Thread(target=insist) for _ in range(3)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        digest = hashlib.sha256(footage).hexdigest()
        assert server.head(location).headers["liuhen-digest"] == f"sha-256={digest}"
        assert len(server.register.items()) == 1


def test_silent_sender_is_let_go_and_its_bytes_are_kept(tmp_path: Path) -> None:
    with running(tmp_path, patience=Patience(read_deadline_s=0.5)) as server:
        location = server.create(100)
        with begin_patch(server.port, location, 0, 100, b"0123") as client:
            for piece in (b"4", b"5", b"6"):
                time.sleep(0.2)
                client.sendall(piece)
            started = time.monotonic()
            assert client.recv(4096).startswith(b"HTTP/1.1 503")
            assert 0.3 < time.monotonic() - started < 3
            assert client.recv(4096) == b""
        assert server.part(location).read_bytes() == b"0123456"


def test_power_cut_goes_back_to_the_last_acknowledged_byte(tmp_path: Path) -> None:
    with running(tmp_path, boot=UUID(int=1)) as server:
        location = server.create(len(FOOTAGE))
        server.patch(location, 0, FOOTAGE[: 1 << 20])
    part = server.part(location)
    with part.open("ab") as file:
        file.write(bytes(4096))  # What a file system may show past the last sync after a power cut.
    with running(tmp_path, boot=UUID(int=2)) as server:
        assert server.head(location).headers["upload-offset"] == str(1 << 20)
        last = server.patch(location, 1 << 20, FOOTAGE[1 << 20 :])
        assert last.headers["liuhen-digest"] == f"sha-256={DIGEST}"


def test_expired_upload_is_gone(tmp_path: Path) -> None:
    class Later(SystemClock):
        ahead = timedelta()

        def now(self) -> datetime:
            return datetime.now(UTC) + self.ahead

    clock = Later()
    with running(tmp_path, clock=clock, sweep_every_s=60) as server:
        location = server.create(10)
        clock.ahead = timedelta(seconds=LIMITS.expiry_s + 1)
        assert server.head(location).status_code == 410


def test_disk_at_its_floor_answers_507_and_the_upload_goes_on_later(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location = server.create(4)
        server.patch(location, 0, b"01")
        server.store.limits = UploadLimits(1 << 40, 8, 3600, floor_bytes=1 << 60)
        refused = server.patch(location, 2, b"23")
        assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
        assert refused.headers["upload-offset"] == "2"
        with server.client() as client:
            assert client.post("/uploads/", headers={**AUTH, "Upload-Length": "5"}).status_code == 507
        assert server.head(location).headers["upload-offset"] == "2"
        server.store.limits = LIMITS
        assert "liuhen-item" in server.patch(location, 2, b"23").headers


def test_chunked_body_is_taken_and_a_broken_one_kept_to_its_last_byte(tmp_path: Path) -> None:
    with running(tmp_path) as server, server.client() as client:
        location = server.create(10)
        reply = client.patch(
            location, headers={**AUTH, **OCTETS, "Upload-Offset": "0"}, content=iter([b"01", b"23"])
        )
        assert (reply.status_code, reply.headers["upload-offset"]) == (204, "4")
        with socket.create_connection(("127.0.0.1", server.port)) as broken:
            broken.sendall(
                f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
                "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
                "Upload-Offset: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n456\r\n9\r\n78".encode()
            )
            time.sleep(0.2)
        wait_until(lambda: server.head(location).headers["upload-offset"] != "4")
        offset = int(server.head(location).headers["upload-offset"])
        assert server.part(location).read_bytes() == b"012345678"[:offset]
        over = client.patch(
            location,
            headers={**AUTH, **OCTETS, "Upload-Offset": str(offset)},
            content=iter([b"0123456789"[offset:], b"more"]),
        )
        assert (over.status_code, over.json()["code"]) == (413, "body_too_long")


def test_really_full_disk_keeps_what_fits_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """On a small file system where we may mount one, else under a limit of file size in the server."""
    mount, umount = shutil.which("mount") or "mount", shutil.which("umount") or "umount"
    data = tmp_path / "data"
    data.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m", "tmpfs"]
    mounted = subprocess.run([mount, *options, data], check=False, capture_output=True).returncode == 0
    try:
        with _full(data, mounted) as (server, make_room):
            location = server.create(len(FOOTAGE))
            refused = server.patch(location, 0, FOOTAGE)
            assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
            offset = int(refused.headers["upload-offset"])
            assert 0 < offset < 2 << 20
            assert server.part(location).read_bytes() == FOOTAGE[:offset]
            make_room()
            last = server.patch(location, offset, FOOTAGE[offset:])
            assert last.headers["liuhen-digest"] == f"sha-256={DIGEST}"
    finally:
        if mounted:
            subprocess.run([umount, data], check=True)


@contextlib.contextmanager
def _full(data: Path, mounted: bool) -> Iterator[tuple[Running, object]]:
    mount = shutil.which("mount") or "mount"
    with running(data) as server:
        # The floor would refuse earlier; here the disk itself is to say no.
        server.store.require_space = lambda _: None  # type: ignore[method-assign]
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if mounted:
            yield (
                server,
                lambda: subprocess.run([mount, "-o", "remount,size=16m", data], check=True),
            )
            return
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        try:
            yield server, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "junk", [b"\x00" * 100, b"PATCH / HTTP/9\r\n\r\n", b"GET /uploads/ HTTP/1.1\r\n" * 50]
)
def test_junk_on_the_line_does_not_stop_the_listener(tmp_path: Path, junk: bytes) -> None:
    with running(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(junk)
        with server.client() as client:
            assert client.get("/healthz").status_code == 200


def test_unknown_sender_is_never_asked_for_its_body(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        location = server.create(100)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(
                f"PATCH {location} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer stolen\r\n"
                "Tus-Resumable: 1.0.0\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            assert client.recv(4096).startswith(b"HTTP/1.1 401")


def test_listener_speaks_tls(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dock")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with running(tmp_path / "data", tls=paths) as server:
        trust = ssl.create_default_context(cafile=str(paths[0]))
        reply = httpx.post(f"{server.url}/uploads/", headers={**AUTH, "Upload-Length": "0"}, verify=trust)
        assert "liuhen-item" in reply.headers
        assert reply.headers["location"].startswith(f"{server.url}/uploads/")
