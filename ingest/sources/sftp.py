"""A dock that is an SFTP server, fetched from with asyncssh.

The host key is pinned by settings: fingerprints, or an OpenSSH ``known_hosts`` file. An unknown or changed
key is refused before any secret of ours is sent. Nothing of the account we run under is used: no
``~/.ssh``, no agent.
"""

from __future__ import annotations

import stat
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import structlog
from asyncssh.sftp import SFTPAttrs

from evidence.errors import EvidenceError, InvalidInput, NotAuthenticated, Unavailable
from evidence.filenames import display_name
from ingest.sources.looped import PrivateLoop, Result
from ingest.sources.remote import (
    GONE,
    MAX_DEPTH,
    MAX_FILES,
    UNREADABLE,
    RemoteFile,
    cut,
    is_plain_name,
    listed,
    unreachable,
)

log = structlog.get_logger(__name__)

READ_BYTES = 2 << 20
"""Asked for at once; asyncssh splits it into parallel requests."""


@dataclass(frozen=True)
class SftpAddress:
    """Where a dock is, who we are there, and which key it must show."""

    name: str
    host: str
    port: int
    username: str
    folder: bytes = b"/"
    password: str | None = None
    key_file: Path | None = None
    host_key_sha256: tuple[str, ...] = ()
    known_hosts: Path | None = None
    timeout_s: float = 30.0


class SftpFolder:
    """A `RemoteFolder` over SFTP."""

    def __init__(self, address: SftpAddress) -> None:
        self._address = address
        self._what = f"sftp source {address.name}"
        self._loop = PrivateLoop(address.timeout_s)
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    def files(self) -> list[RemoteFile]:
        return self._asked(self._listed(), timeout_s=self._address.timeout_s * 10)

    def look(self, file: RemoteFile) -> RemoteFile | None:
        try:
            attributes = self._asked(self._lstat(file.path), file)
        except Unavailable as error:
            if error.code == GONE:
                return None
            raise
        return _file(file.path, attributes)

    def read(self, file: RemoteFile, offset_bytes: int) -> Generator[bytes, None, None]:
        opened = self._asked(self._open(file.path), file)
        try:
            position = offset_bytes
            while chunk := self._asked(_read(opened, position), file):
                position += len(chunk)
                yield chunk
        finally:
            if self._connection is not None:
                self._asked(opened.close(), file)

    def rename(self, file: RemoteFile, path: bytes) -> bool:
        try:
            # The plain request of version 3: servers refuse it where something has that path already.
            self._asked(self._rename(file.path, path), file)
        except Unavailable as error:
            if error.code == UNREADABLE:
                return False
            raise
        return True

    def remove(self, file: RemoteFile) -> None:
        self._asked(self._remove(file.path), file)

    def disconnect(self) -> None:
        connection, self._connection, self._client = self._connection, None, None
        if connection is not None:
            self._loop.run(_broken(connection))
        self._loop.close()

    # --- inside the loop --------------------------------------------------------------------------

    async def _sftp(self) -> asyncssh.SFTPClient:
        if self._client is None:
            self._connection = await _connected(self._address, self._what)
            # Names as bytes: a card written in GBK has names that are no UTF-8.
            self._client = await self._connection.start_sftp_client(path_encoding=None)
        return self._client

    async def _listed(self) -> list[RemoteFile]:
        sftp = await self._sftp()
        found: list[RemoteFile] = []
        folders = [(self._address.folder.rstrip(b"/") or b"/", 0)]
        while folders:
            folder, depth = folders.pop()
            try:
                entries = [entry async for entry in sftp.scandir(folder)]
            except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPNoSuchFile) as error:
                if depth == 0:
                    raise
                log.warning("source:unreadable", name=display_name(folder), detail=error.reason)
                continue
            for entry in entries:
                name = entry.filename
                if not isinstance(name, bytes) or not is_plain_name(name):
                    continue
                path = folder.rstrip(b"/") + b"/" + name
                if _is(entry.attrs, stat.S_IFDIR) and depth < MAX_DEPTH:
                    folders.append((path, depth + 1))
                elif _is(entry.attrs, stat.S_IFREG):
                    found.append(_file(path, entry.attrs))
            if len(found) > MAX_FILES:
                raise unreachable(self._what, f"more than {MAX_FILES} files in it; clear the dock")
        return found

    async def _lstat(self, path: bytes) -> SFTPAttrs:
        return await (await self._sftp()).lstat(path)

    async def _open(self, path: bytes) -> asyncssh.SFTPClientFile:
        return await (await self._sftp()).open(path, "rb", encoding=None)

    async def _rename(self, old: bytes, new: bytes) -> None:
        await (await self._sftp()).rename(old, new)

    async def _remove(self, path: bytes) -> None:
        await (await self._sftp()).remove(path)

    def _asked(
        self,
        answer: Coroutine[Any, Any, Result],
        file: RemoteFile | None = None,
        timeout_s: float | None = None,
    ) -> Result:
        """Wait for an answer; what the library raises becomes ours."""
        what = f"file {display_name(file.name)}" if file is not None else self._what
        was_connected = self._client is not None
        try:
            return self._loop.run(answer, timeout_s)
        except EvidenceError:
            raise
        except asyncssh.HostKeyNotVerifiable as error:
            raise NotAuthenticated(
                f"{self._what}: expected a host key that can be proved, found {error.reason}; "
                "set host_key_sha256",
                code="host_key_unknown",
            ) from error
        except asyncssh.PermissionDenied as error:
            raise NotAuthenticated(
                f"{self._what}: expected to be let in, found the account refused; check password or key",
                code="source_login_refused",
            ) from error
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
            if file is None:
                raise unreachable(self._what, "its folder gone") from error
            raise Unavailable(f"{what}: expected it where it was listed, found it gone", code=GONE) from error
        except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection) as error:
            raise cut(what, error) from error
        except asyncssh.SFTPError as error:
            if file is None:
                raise unreachable(self._what, error) from error
            raise Unavailable(
                f"{what}: expected it readable, found {error.reason or type(error).__name__}; "
                "look at the dock",
                code=UNREADABLE,
            ) from error
        except (OSError, asyncssh.Error, TimeoutError) as error:
            raise (cut(what, error) if was_connected else unreachable(self._what, error)) from error


async def _broken(connection: asyncssh.SSHClientConnection) -> None:
    connection.abort()
    await connection.wait_closed()


async def _read(opened: asyncssh.SFTPClientFile, position: int) -> bytes:
    chunk = await opened.read(READ_BYTES, position)
    return chunk if isinstance(chunk, bytes) else chunk.encode()


class _Pinning(asyncssh.SSHClient):
    """Takes the host keys that were told to us, and no other."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self.found: str | None = None

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002 -- the library's signature
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        self.found = key.get_fingerprint("sha256")
        return self.found in self._trusted


async def _connected(address: SftpAddress, what: str) -> asyncssh.SSHClientConnection:
    trusted, algorithms = _trusted_keys(address, what)
    client = _Pinning(trusted)
    try:
        return await asyncssh.connect(
            address.host,
            address.port,
            config=None,
            known_hosts=([], [], []),
            client_factory=lambda: client,
            server_host_key_algs=algorithms or "default",
            username=address.username,
            password=address.password,
            client_keys=[str(address.key_file)] if address.key_file else None,
            agent_path=None,
            preferred_auth=["publickey"] if address.password is None else ["publickey", "password"],
            connect_timeout=address.timeout_s,
            login_timeout=address.timeout_s,
            keepalive_interval=address.timeout_s,
        )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        if client.found is None and isinstance(error, asyncssh.KeyExchangeFailed):
            raise NotAuthenticated(
                f"{what}: expected one of the host keys in known_hosts, found a server without such a key; "
                "if the dock was replaced, enter its new key",
                code="host_key_changed",
            ) from error
        raise NotAuthenticated(
            f"{what}: expected host key {' or '.join(sorted(trusted))}, found {client.found}; if the dock "
            "was replaced, enter its new key, else someone stands in between",
            code="host_key_changed",
        ) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise InvalidInput(
            f"{what}: expected a private key without passphrase, found another file",
            code="source_key_unreadable",
        ) from error


def _trusted_keys(address: SftpAddress, what: str) -> tuple[frozenset[str], list[str]]:
    """Fingerprints we take, and the algorithms to ask for where they are known."""
    trusted = {pin if pin.startswith("SHA256:") else f"SHA256:{pin}" for pin in address.host_key_sha256}
    algorithms: list[str] = []
    if address.known_hosts is not None:
        try:
            port = None if address.port == 22 else address.port
            keys, _, revoked, *_ = asyncssh.match_known_hosts(
                str(address.known_hosts), address.host, "", port
            )
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{what}: expected a readable known_hosts file, found {type(error).__name__}",
                code="source_key_unreadable",
            ) from error
        usable = [key for key in keys if key not in revoked]
        trusted |= {key.get_fingerprint("sha256") for key in usable}
        if not address.host_key_sha256:
            algorithms = [each.decode() for key in usable for each in key.sig_algorithms]
    if not trusted:
        raise NotAuthenticated(
            f"{what}: expected a host key for {address.host}:{address.port} in known_hosts, found none; "
            "get it from the dock itself and enter it",
            code="host_key_unknown",
        )
    return frozenset(trusted), algorithms


def _is(attributes: SFTPAttrs, kind: int) -> bool:
    if attributes.permissions is not None:
        return stat.S_IFMT(attributes.permissions) == kind
    return attributes.type == (
        asyncssh.FILEXFER_TYPE_DIRECTORY if kind == stat.S_IFDIR else asyncssh.FILEXFER_TYPE_REGULAR
    )


def _file(path: bytes, attributes: SFTPAttrs) -> RemoteFile:
    mtime_ns = None if attributes.mtime is None else attributes.mtime * 10**9 + (attributes.mtime_ns or 0)
    return listed(path, attributes.size or 0, mtime_ns)
