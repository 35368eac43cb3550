"""A dock that is an FTP server, in the clear or over TLS, fetched from with aioftp.

FTP says nothing of a transfer that broke off: the engine compares sizes, and a listing that rests says more
than a reply. Names are bytes here, because a dock may speak UTF-8 or GBK and does not tell: the client
decodes as Latin-1, which loses nothing, and listings are read without stripping what is no line end.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import aioftp
import structlog
from aioftp.client import BasicListInfo, DataConnectionThrottleStreamIO, UnixListInfo

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

READ_BYTES = 1 << 20
RAW = "latin-1"
"""Every byte is a character and comes back as the same byte."""


@dataclass(frozen=True)
class FtpAddress:
    """Where a dock is, who we are there, and how the line is kept private."""

    name: str
    host: str
    port: int
    username: str
    password: str = ""
    folder: bytes = b"/"
    tls: str | None = "explicit"
    """``explicit``, ``implicit``, or None for the clear."""
    tls_ca: Path | None = None
    timeout_s: float = 30.0


class FtpFolder:
    """A `RemoteFolder` over FTP or FTPS."""

    def __init__(self, address: FtpAddress) -> None:
        self._address = address
        self._what = f"ftp source {address.name}"
        self._loop = PrivateLoop(address.timeout_s)
        self._client: _Client | None = None

    def files(self) -> list[RemoteFile]:
        return self._asked(self._listed(), timeout_s=self._address.timeout_s * 10)

    def look(self, file: RemoteFile) -> RemoteFile | None:
        try:
            return self._asked(self._looked(file), file)
        except Unavailable as error:
            if error.code == GONE:
                return None
            raise

    def read(self, file: RemoteFile, offset_bytes: int) -> Generator[bytes, None, None]:
        stream = self._asked(self._retrieve(file.path, offset_bytes), file)
        is_over = False
        try:
            while chunk := self._asked(stream.read(READ_BYTES), file):
                yield chunk
            is_over = True
        finally:
            if is_over:
                self._asked(stream.finish(), file)
            else:
                # What the dock will say to a transfer we left cannot be told from the next reply.
                self.disconnect()

    def rename(self, file: RemoteFile, path: bytes) -> bool:
        return self._asked(self._rename(file.path, path), file)

    def remove(self, file: RemoteFile) -> None:
        self._asked(self._remove(file.path), file)

    def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._loop.run(client.leave())
        self._loop.close()

    # --- inside the loop --------------------------------------------------------------------------

    async def _connected(self) -> _Client:
        if self._client is not None:
            return self._client
        address = self._address
        context = _tls(address, self._what) if address.tls else None
        client = _Client(
            encoding=RAW,
            socket_timeout=address.timeout_s,
            connection_timeout=address.timeout_s,
            ssl=context if address.tls == "implicit" else None,
        )
        try:
            await client.connect(address.host, address.port)
            if address.tls == "explicit":
                await client.upgrade_to_tls(context)
            try:
                await client.login(_raw(address.username), _raw(address.password))
            except aioftp.StatusCodeError as error:
                raise NotAuthenticated(
                    f"{self._what}: expected to be let in, found {error.received_codes[-1]}; "
                    "check the account and its password",
                    code="source_login_refused",
                ) from error
            if address.tls == "implicit":
                # Some servers want to be told, some know no such command: data is private either way.
                await client.command("PBSZ 0", ("2xx", "5xx"))
                await client.command("PROT P", ("2xx", "5xx"))
        except BaseException:
            await client.leave()
            raise
        self._client = client
        return client

    async def _listed(self) -> list[RemoteFile]:
        client = await self._connected()
        found: list[RemoteFile] = []
        folders = [(self._address.folder.rstrip(b"/") or b"/", 0)]
        while folders:
            folder, depth = folders.pop()
            try:
                entries = [entry async for entry in _entries(client, folder)]
            except aioftp.StatusCodeError as error:
                if depth == 0 or not error.received_codes[-1].matches("5xx"):
                    raise
                log.warning("source:unreadable", name=display_name(folder), detail=error.received_codes[-1])
                continue
            for name, info in entries:
                path = folder.rstrip(b"/") + b"/" + name
                if info.get("type") == "dir" and depth < MAX_DEPTH:
                    folders.append((path, depth + 1))
                elif info.get("type") == "file" and "link_dst" not in info:
                    found.append(_file(path, info))
            if len(found) > MAX_FILES:
                raise unreachable(self._what, f"more than {MAX_FILES} files in it; clear the dock")
        return found

    async def _looked(self, file: RemoteFile) -> RemoteFile | None:
        client = await self._connected()
        # From a listing again: MLST and LIST of some docks disagree about times.
        async for name, info in _entries(client, file.folder or b"/"):
            if file.folder + b"/" + name == file.path:
                return _file(file.path, info)
        return None

    async def _retrieve(self, path: bytes, offset_bytes: int) -> DataConnectionThrottleStreamIO:
        client = await self._connected()
        return await client.get_stream(f"RETR {path.decode(RAW)}", "1xx", offset=offset_bytes)

    async def _rename(self, old: bytes, new: bytes) -> bool:
        client = await self._connected()
        for command, expected in ((b"RNFR " + old, "350"), (b"RNTO " + new, "2xx")):
            code, _ = await client.command(command.decode(RAW), (expected, "4xx", "5xx"))
            if not code.matches(expected):
                return False
        return True

    async def _remove(self, path: bytes) -> None:
        client = await self._connected()
        await client.command(f"DELE {path.decode(RAW)}", "2xx")

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
        except aioftp.StatusCodeError as error:
            code = error.received_codes[-1]
            if file is None:
                raise unreachable(self._what, f"reply {code}") from error
            if code.matches("55x") or code.matches("45x"):
                raise Unavailable(
                    f"{what}: expected it readable, found reply {code}; look at the dock", code=UNREADABLE
                ) from error
            raise cut(what, f"reply {code}") from error
        except ssl.SSLCertVerificationError as error:
            raise NotAuthenticated(
                f"{self._what}: expected a certificate that can be trusted, found {error.verify_message}; "
                "set tls_ca to the dock's own, if it is self-signed",
                code="source_certificate_refused",
            ) from error
        except (OSError, EOFError, TimeoutError, ValueError, aioftp.AIOFTPException) as error:
            raise (cut(what, error) if was_connected else unreachable(self._what, error)) from error


class _Client(aioftp.Client):
    """aioftp's client with names as they are, and no connection left behind by a refusal."""

    _data: asyncio.StreamWriter | None = None

    def parse_mlsx_line(self, b: bytes | str) -> tuple[PurePosixPath, BasicListInfo]:
        line = (b if isinstance(b, str) else b.decode(RAW)).rstrip("\r\n")
        facts, _, name = line.partition(" ")
        entry = dict(fact.lower().partition("=")[::2] for fact in facts.rstrip(";").split(";"))
        return PurePosixPath(name), entry  # type: ignore[return-value]

    async def get_stream(  # type: ignore[override]
        self,
        command: str | None = None,
        expected_codes: str | tuple[str, ...] = (),
        *,
        offset: int = 0,
    ) -> DataConnectionThrottleStreamIO:
        self._end_data()
        reader, self._data = await self.get_passive_connection("I")
        if offset:
            await self.command(f"REST {offset}", "350")
        await self.command(command, expected_codes)
        return DataConnectionThrottleStreamIO(
            self, reader, self._data, throttles={"_": self.throttle}, timeout=self.socket_timeout
        )

    async def leave(self) -> None:
        """Break every connection: nothing more is said on any of them."""
        self._end_data()
        if self._stream is not None:
            self._stream.writer.transport.abort()
        # The loop is about to end, and closes sockets only while it turns.
        await asyncio.sleep(0.001)

    def _end_data(self) -> None:
        """Break the data connection of the command before, which has all been said."""
        if self._data is not None:
            self._data.transport.abort()
            self._data = None


async def _entries(
    client: _Client, folder: bytes
) -> AsyncIterator[tuple[bytes, BasicListInfo | UnixListInfo]]:
    """Names and facts of one folder: by MLSD, or by LIST where the dock has no MLSD."""
    where = folder.decode(RAW)
    parse: Callable[[bytes], tuple[PurePosixPath, BasicListInfo | UnixListInfo]] = client.parse_mlsx_line
    try:
        stream = await client.get_stream(f"MLSD {where}", "1xx")
    except aioftp.StatusCodeError as error:
        if not error.received_codes[-1].matches("50x"):
            raise
        parse = client.parse_list_line
        stream = await client.get_stream(f"LIST {where}", "1xx")
    lines = []
    while line := await stream.readline():
        lines.append(line)
    await stream.finish()
    for line in lines:
        try:
            path, info = parse(line)
        except ValueError:
            continue  # "total 12", or a line of a kind of LIST nobody knows.
        name = str(path).encode(RAW)
        has_size = info.get("type") != "file" or str(info.get("size", "")).isdecimal()
        if is_plain_name(name) and has_size:
            yield name, info


def _file(path: bytes, info: BasicListInfo | UnixListInfo) -> RemoteFile:
    # Where the dock tells which file it is (RFC 3659, 7.5.2), another one of equal size and time is seen.
    version = str(info.get("unique", ""))[:200]
    return listed(path, int(info["size"]), _time_ns(str(info.get("modify", ""))), version)


def _time_ns(text: str) -> int | None:
    """``YYYYMMDDHHMMSS[.fff]`` in UTC, as MLSD writes it."""
    whole, _, _fraction = text.partition(".")
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 10**9


def _tls(address: FtpAddress, what: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(
            f"{what}: expected certificates in tls_ca, found {type(error).__name__}",
            code="source_key_unreadable",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _raw(text: str) -> str:
    """Text as the client must be given it, to send it as UTF-8."""
    return text.encode().decode(RAW)
