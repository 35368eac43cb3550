"""Data connections of pushing docks over FTP: a file that comes in, a listing that goes out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import aioftp
import structlog
from aioftp.common import Connection, StreamIO

from evidence.errors import EvidenceError, Unavailable
from ingest.daemon.pushed_disk import DiskThreads
from ingest.sources.dropbox_shelf import Dock, Pushed
from ingest.sources.incoming import Incoming

log = structlog.get_logger(__name__)

RAW = "latin-1"
"""Names are bytes: every byte is a character and comes back as the same byte."""
BLOCK_BYTES = 256 << 10
Reply = tuple[str, str]
BROKEN_OFF = ("426", "transfer broke off; what came is kept")
_TOO_MUCH = {"push_too_large", "push_full"}


class FtpTransfer:
    """One file on its way in.

    Args:
        start_bytes: Where its first byte goes.
        declared_bytes: What the dock said beforehand: the size of the file, or of what is to come.
    """

    def __init__(
        self,
        disk: DiskThreads,
        dock: Dock,
        incoming: Incoming,
        start_bytes: int,
        declared_bytes: int | None,
    ) -> None:
        self._disk = disk
        self._dock = dock
        self._incoming = incoming
        self._start = self._position = start_bytes
        self._declared = declared_bytes
        self._stream: StreamIO | None = None
        self._is_aborted = False
        self._ended = asyncio.Event()

    def break_off(self) -> None:
        """Let it end as if the line had been cut. Cancelling would not do: a read that has just got its bytes
        takes no notice of it before Python 3.12."""
        self._is_aborted = True
        if self._stream is not None:
            self._stream.writer.transport.abort()

    async def abort(self) -> None:
        """Break it off, as `ABOR` asks for, and wait for the end."""
        self.break_off()
        await self._ended.wait()

    async def run(self, connection: Connection) -> Reply:
        """Take it to its end, however it ends; the reply is for after the sync."""
        reply: Reply | None = BROKEN_OFF
        try:
            self._stream = await _data_connection(connection)
            await self._receive(self._stream)
            reply = None
        except (OSError, EOFError) as error:  # Cut, or silent for too long.
            why = "told to" if self._is_aborted else type(error).__name__
            log.info("push:broke_off", listener="ftp", dock=self._dock.dock_no, why=why)
        except EvidenceError as error:
            reply = refusal(error)
        finally:
            if self._stream is not None:
                # Nothing is said to who broke off, and nobody waits for their answer.
                self._stream.close() if reply is None else self._stream.writer.transport.abort()
            try:
                reply = await self._end(reply)
            finally:
                self._ended.set()
        return reply

    async def _receive(self, stream: StreamIO) -> None:
        while not self._is_aborted and (data := await stream.read(BLOCK_BYTES)):
            await self._disk.do(self._dock, partial(self._incoming.write, data, self._position))
            self._position += len(data)
        if self._is_aborted:
            raise ConnectionAbortedError

    async def _end(self, reply: Reply | None) -> Reply:
        came = self._position - self._start
        if reply is None and self._declared is not None:
            if self._declared not in {came, self._position}:
                reply = ("451", f"expected {self._declared} bytes, found {came}; send it again")
            else:
                self._incoming.declared_bytes = self._position
        is_in_order = reply is None
        try:
            ended = await self._disk.do(self._dock, lambda: self._incoming.end(in_order=is_in_order))
        except EvidenceError as error:
            log.error("push:not_ended", listener="ftp", code=error.code, detail=error.message)  # noqa: TRY400
            return refusal(error)
        if reply is not None:
            return reply
        return "226", "stored and synced" + ("" if ended.proof else "; rename it when it is whole")


async def passive_server(
    connection: Connection,
    taken: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ports: tuple[int, int],
    tls: ssl.SSLContext | None,
) -> asyncio.Server:
    """Listen for the data of a line, for its own dock alone.

    Args:
        ports: First and last to choose from; 0 for any.

    Raises:
        NoAvailablePort: All of them are taken.
    """

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if peer is None or peer[0] != connection.client_host:
            log.warning("push:data_refused", listener="ftp", address=peer[0] if peer else None)
            writer.transport.abort()
            return
        await taken(reader, writer)

    first, last = ports
    choice = list(range(first, last + 1)) if first else [0]
    random.shuffle(choice)
    for port in choice:
        with contextlib.suppress(OSError):
            return await asyncio.start_server(accept, connection.server_host, port, ssl=tls)
    raise aioftp.errors.NoAvailablePort


async def send_lines(connection: Connection, lines: Sequence[str]) -> Reply:
    """Send a listing over the data connection."""
    try:
        stream = await _data_connection(connection)
        try:
            await stream.write("".join(f"{each}\r\n" for each in lines).encode(RAW))
        finally:
            stream.close()
    except OSError:
        return "426", "broke off"
    return "226", "that is all"


async def _data_connection(connection: Connection) -> StreamIO:
    stream: StreamIO = await asyncio.wait_for(
        asyncio.shield(connection.future.data_connection), connection.wait_future_timeout
    )
    del connection.data_connection
    return stream


def refusal(error: EvidenceError) -> Reply:
    """How an error of ours is told: try later, too much, or never."""
    if error.code in _TOO_MUCH:
        return "552", error.message
    return "452" if isinstance(error, Unavailable) else "550", error.message


def machine_line(found: Pushed) -> str:
    """A file as `MLST` and `MLSD` tell of it."""
    modified = time.strftime("%Y%m%d%H%M%S", time.gmtime(found.mtime_s))
    return f"type=file;size={found.size_bytes};modify={modified}; {_last(found)}"


def unix_line(found: Pushed) -> str:
    """A file as `LIST` tells of it."""
    modified = time.strftime("%b %d %Y", time.gmtime(found.mtime_s))
    return f"--w------- 1 dock dock {found.size_bytes} {modified} {_last(found)}"


def _last(found: Pushed) -> str:
    return found.name.rpartition(b"/")[2].decode(RAW)
