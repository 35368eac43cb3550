"""Real places to fetch files from, on loopback: an SFTP, FTP, FTPS and HTTP server that can be cut off.

Each counts the bytes it serves, so that a resumed transfer can be told from a repeated one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import hashlib
import http.server
import io
import ipaddress
import json
import os
import shutil
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, unquote
from uuid import UUID

import aioftp
import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from config.settings import FtpSettings, SftpSettings
from ingest.daemon.pushed_ftp import FtpDoor
from ingest.daemon.pushed_sftp import SftpDoor
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_folder import DropboxFolder
from ingest.sources.dropbox_shelf import Dock
from ingest.sources.ftp import FtpAddress, FtpFolder
from ingest.sources.manifest import ManifestAddress, ManifestFolder
from ingest.sources.remote import RemoteFolder
from ingest.sources.sftp import SftpAddress, SftpFolder

Result = TypeVar("Result")
USER, PASSWORD = "dock", "correct horse"


class LoopThread:
    """An event loop in a thread, for servers."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_leave_out_cut_lines)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Have something done there and wait for it."""
        done: Future[Result] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return done.result(20)

    def close(self) -> None:
        """Cancel what still runs and end."""
        with contextlib.suppress(asyncio.CancelledError):
            self.run(_end_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


def _leave_out_cut_lines(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A server library that never asks how its transfer ended would have the line that a test cut
    # reported at any later collection of rubbish, in the middle of whatever test runs then.
    if not isinstance(context.get("exception"), ConnectionResetError):
        loop.default_exception_handler(context)


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0.01)


@dataclass
class Place:
    """A folder behind a server."""

    folder: Path
    port: int = 0
    served_bytes: int = 0
    slow_s: float = 0.0
    """Pause before each piece."""
    cut_after_bytes: int | None = None
    """Serve so many more bytes, then break the connection, once."""
    threads: list[LoopThread] = field(default_factory=list)
    while_serving: Callable[[], object] | None = None
    """Done once, after a first piece was served."""
    refuses_rename: bool = False
    hides_renamed: bool = False
    """Whether names this server does not know are left out of its listings."""
    tells_identity: bool = False
    """Whether listings say more of a file than its size and time."""

    kind: ClassVar[str] = ""
    has_raw_names: ClassVar[bool] = True
    can_free: ClassVar[bool] = True

    def serve(self) -> None:
        """Begin, or begin again on the same port."""
        raise NotImplementedError

    def stop(self) -> None:
        """Be gone."""
        raise NotImplementedError

    def remote(self) -> RemoteFolder:
        """A fresh client."""
        raise NotImplementedError

    def put(self, name: str | bytes, content: bytes) -> Path:
        """A file, as a recorder would leave it there."""
        path = self.folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def lock(self, name: str) -> None:
        """Make a file unreadable, also for root: a directory's stand-in cannot be opened by a reader."""
        self.locked = getattr(self, "locked", set()) | {name}

    def is_locked(self, path: object) -> bool:
        """Whether the server refuses to read it."""
        return os.path.basename(os.fsdecode(str(path))) in getattr(self, "locked", set())  # noqa: PTH119

    def is_hidden(self, name: object) -> bool:
        """Whether a listing leaves it out."""
        return self.hides_renamed and ".liuhen-" in os.fsdecode(str(name))

    def count(self, size: int) -> bool:
        """Note what is served; True when the line is to be cut now."""
        self.served_bytes += size
        if self.while_serving is not None:
            done, self.while_serving = self.while_serving, None
            done()
        if self.cut_after_bytes is not None:
            self.cut_after_bytes -= size
            if self.cut_after_bytes <= 0:
                self.cut_after_bytes = None
                return True
        return False


@dataclass
class SftpPlace(Place):
    kind = "sftp"
    passwords: list[str] = field(default_factory=list)
    """Every password it was ever sent."""

    def serve(self) -> None:
        self.thread = LoopThread()
        place = self
        if not hasattr(self, "host_key"):
            self.host_key = asyncssh.generate_private_key("ssh-ed25519")

        class Files(asyncssh.SFTPServer):
            def __init__(self, chan: asyncssh.SSHServerChannel) -> None:  # type: ignore[type-arg]
                super().__init__(chan, chroot=os.fsencode(place.folder))

            def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
                if place.is_locked(os.fsdecode(path)):
                    raise asyncssh.SFTPPermissionDenied("no")
                return super().open(path, pflags, attrs)

            def rename(self, oldpath: bytes, newpath: bytes) -> object:
                if place.refuses_rename:
                    raise asyncssh.SFTPPermissionDenied("no")
                if os.path.lexists(self.map_path(newpath)):
                    raise asyncssh.SFTPFailure("there is one")
                return super().rename(oldpath, newpath)

            def lstat(self, path: bytes) -> object:
                if place.is_hidden(path):
                    raise asyncssh.SFTPNoSuchFile("no")
                return super().lstat(path)

            async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
                async for entry in super().scandir(path):
                    if not place.is_hidden(entry.filename):
                        yield entry

            def read(self, file_obj: object, offset: int, size: int) -> bytes:
                time.sleep(place.slow_s)
                data = super().read(file_obj, offset, size)
                assert isinstance(data, bytes)
                if place.count(len(data)):
                    self.connection.abort()
                return data

        async def start() -> None:
            self.server = await asyncssh.listen(
                "127.0.0.1", self.port, server_host_keys=[self.host_key], sftp_factory=Files,
                server_factory=lambda: _PasswordServer(self.passwords),
            )  # fmt: skip
            self.port = self.server.get_port()

        self.thread.run(start())

    def stop(self) -> None:
        async def stop() -> None:
            self.server.close()
            for connection in _PasswordServer.connections:
                connection.abort()
            _PasswordServer.connections.clear()
            await self.server.wait_closed()

        self.thread.run(stop())
        self.thread.close()

    def remote(self, **changes: Any) -> RemoteFolder:
        pins = (self.host_key.get_fingerprint("sha256"),)
        told = {"username": USER, "host_key_sha256": pins, **changes}
        return SftpFolder(
            SftpAddress("place", "127.0.0.1", self.port, password=PASSWORD, timeout_s=5, **told)
        )


class _PasswordServer(asyncssh.SSHServer):
    connections: ClassVar[list[asyncssh.SSHServerConnection]] = []

    def __init__(self, passwords: list[str]) -> None:
        self._passwords = passwords

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connections.append(conn)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self._passwords.append(password)
        return (username, password) == (USER, PASSWORD)


class _RawNames(aioftp.PathIO):
    """Files whose names are bytes: on the line they are Latin-1, whatever they are on disk."""

    async def exists(self, path: Path) -> bool:
        return await super().exists(_on_disk(path))

    async def is_dir(self, path: Path) -> bool:
        return await super().is_dir(_on_disk(path))

    async def is_file(self, path: Path) -> bool:
        return await super().is_file(_on_disk(path))

    async def stat(self, path: Path) -> os.stat_result:
        return await super().stat(_on_disk(path))

    async def unlink(self, path: Path) -> None:
        await super().unlink(_on_disk(path))

    async def rename(self, source: Path, destination: Path) -> Path:
        renamed: Path = await super().rename(_on_disk(source), _on_disk(destination))
        return renamed

    async def _open(self, path: Path, **kwargs: Any) -> Any:
        return await super()._open(_on_disk(path), **kwargs)

    def list(self, path: Path) -> Any:
        async def entries() -> AsyncIterator[Path]:
            for entry in _on_disk(path).iterdir():
                yield Path(os.fsencode(entry).decode("latin-1"))

        return entries()


def _on_disk(path: Path) -> Path:
    return Path(os.fsdecode(str(path).encode("latin-1")))


class FtpPlace(Place):
    kind = "ftp"
    tls: ClassVar[str | None] = None

    def serve(self) -> None:
        self.thread = LoopThread()
        place = self

        class Files(_RawNames):
            async def read(self, file: Any, block_size: int) -> bytes:
                data: bytes = await super().read(file, block_size)
                if place.count(len(data)):
                    assert self.connection is not None
                    self.connection.command_connection.writer.transport.abort()
                    raise ConnectionResetError
                return data

            def list(self, path: Path) -> Any:
                async def entries() -> AsyncIterator[Path]:
                    async for entry in listed(path):
                        if not place.is_hidden(entry.name):
                            yield entry

                listed = super().list
                return entries()

        class Server(aioftp.Server):
            async def rnto(self, connection: Any, rest: Any) -> bool:
                if place.refuses_rename:
                    connection.response("553", "no")
                    return True
                return bool(await super().rnto(connection, rest))

            def _build_mlsx_facts_from_stats(self, stats: os.stat_result) -> Any:
                unique = {"Unique": f"{stats.st_dev:x}g{stats.st_ino:x}"} if place.tells_identity else {}
                return {**super()._build_mlsx_facts_from_stats(stats), **unique}

            async def retr(self, connection: Any, rest: Any) -> bool:
                if place.is_locked(rest):
                    connection.response("550", "no")
                    return True
                return bool(await super().retr(connection, rest))

        async def start() -> None:
            self.server = Server(
                [aioftp.User(USER, PASSWORD, base_path=self.folder)],
                path_io_factory=Files,
                ssl=server_tls() if self.tls else None,
                block_size=65536,
                encoding="latin-1",
            )
            await self.server.start("127.0.0.1", self.port)
            self.port = self.server.server_port

        self.thread.run(start())

    def stop(self) -> None:
        async def stop() -> None:
            for stream in self.server.connections:
                stream.writer.transport.abort()
            await asyncio.sleep(0.05)
            await self.server.close()

        self.thread.run(stop())
        self.thread.close()

    def remote(self) -> RemoteFolder:
        return FtpFolder(
            FtpAddress(
                "place",
                "127.0.0.1",
                self.port,
                USER,
                PASSWORD,
                tls=self.tls,
                tls_ca=certificate()[0] if self.tls else None,
                timeout_s=5,
            )
        )


class FtpsPlace(FtpPlace):
    kind = "ftps"
    tls = "implicit"


@dataclass
class HttpPlace(Place):
    kind = "http"
    extra: list[Any] = field(default_factory=list)
    """Entries of the manifest that no file stands behind."""
    redirects: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent instead of a manifest."""
    has_raw_names = False
    can_free = False
    token: ClassVar[str] = "lht_token"

    def serve(self) -> None:
        place = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                place.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)

    def manifest(self) -> dict[str, Any]:
        """What is there now; names that are no Unicode are not told of."""
        files = []
        for path in sorted(self.folder.rglob("*")):
            with contextlib.suppress(UnicodeEncodeError):
                relative = str(path.relative_to(self.folder))
                relative.encode()
                if path.is_file():
                    state = path.stat()
                    told = {"size_bytes": state.st_size, "modified_at": str(state.st_mtime_ns)}
                    if self.tells_identity:
                        told["etag"] = hashlib.sha256(path.read_bytes()).hexdigest()
                    files.append({"url": f"/files/{quote(relative)}", "name": path.name, **told})
        return {"files": [*files, *self.extra]}

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return request.send_error(401)
        if request.path == "/manifest.json":
            return self._send(request, 200, self.body or json.dumps(self.manifest()).encode(), {})
        if request.path in self.redirects:
            return self._send(request, 302, b"", {"Location": self.redirects[request.path]})
        path = self.folder / unquote(request.path).removeprefix("/files/")
        if self.is_locked(path):
            return request.send_error(500)
        if not path.is_file():
            return request.send_error(404)
        content, start = path.read_bytes(), 0
        headers: dict[str, str] = {}
        if wanted := request.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(request, 206 if wanted else 200, content[start:], headers, counted=True)
        return None

    def _send(
        self, request: http.server.BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str],
        *, counted: bool = False,
    ) -> None:  # fmt: skip
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        for at in range(0, len(body), 65536):
            piece = body[at : at + 65536]
            request.wfile.write(piece)
            if counted and self.count(len(piece)):
                request.wfile.flush()
                request.connection.close()
                return

    def remote(self) -> RemoteFolder:
        address = f"http://127.0.0.1:{self.port}/manifest.json"
        return ManifestFolder(ManifestAddress("place", address, token=self.token, timeout_s=5))


class PushedPlace(Place):
    """What a dock pushed to a listener of ours, over SFTP; `put` is its transfer, proved by a rename."""

    kind = "pushed"
    can_free = False

    def serve(self) -> None:
        self.box = Dropbox(self.folder, lambda _: None, 1 << 30, 1 << 40)
        self.thread = LoopThread()
        self.start_door()

    def start_door(self) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.door = SftpDoor(SftpSettings(enabled=True, port=0), self.box, key, _check, {})
        self.thread.run(self.door.start())

    def stop(self) -> None:
        self.thread.run(self.door.close())
        self.thread.close()

    def remote(self) -> RemoteFolder:
        return DropboxFolder(self.box)

    def put(self, name: str | bytes, content: bytes) -> Path:
        async def push() -> None:
            told = {"username": USER, "password": PASSWORD, "known_hosts": None, "config": None}
            async with (
                asyncssh.connect(
                    "127.0.0.1",
                    self.door.port,
                    client_keys=None,
                    agent_path=None,
                    **told,  # type: ignore[arg-type]
                ) as connection,
                connection.start_sftp_client(path_encoding=None) as client,
            ):
                async with client.open(os.fsencode(name) + b".part", "wb") as file:
                    await file.write(content)
                await client.rename(os.fsencode(name) + b".part", os.fsencode(name))

        asyncio.run(push())
        return self.folder


class PushedFtpPlace(PushedPlace):
    """The same over FTP with TLS, proved by the size declared beforehand."""

    def start_door(self) -> None:
        settings = FtpSettings(enabled=True, port=0)
        self.ftp = FtpDoor(settings, self.box, server_tls(), _check)
        self.thread.run(self.ftp.begin())

    def stop(self) -> None:
        self.thread.run(self.ftp.end())
        self.thread.close()

    def put(self, name: str | bytes, content: bytes) -> Path:
        context = ssl.create_default_context(cafile=certificate()[0])
        client = ftplib.FTP_TLS(context=context, timeout=10, encoding="latin-1")  # noqa: S321 -- docks speak it
        client.connect("127.0.0.1", self.ftp.server_port)
        client.login(USER, PASSWORD)
        client.prot_p()
        client.sendcmd(f"ALLO {len(content)}")
        client.storbinary(f"STOR {os.fsencode(name).decode('latin-1')}", io.BytesIO(content))
        client.quit()
        return self.folder


def _check(username: str, password: str) -> Dock | None:
    if (username, password) != (USER, PASSWORD):
        return None
    return Dock(UUID("0190a000-0000-7000-8000-0000000000aa"), username, None, "token:1")


@cache
def certificate() -> tuple[Path, Path]:
    """A self-signed certificate for loopback and its key, for this test run."""
    import atexit
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="liuhen-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(built.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, private


def server_tls() -> ssl.SSLContext:
    """A server's side of TLS with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    return context
