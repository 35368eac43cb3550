"""FTP over TLS for docks that can only push: the commands that name files, over the dropbox.

Every command that names a file is ours, because a dock's names lead to no path. The line itself, logins and
TLS are `ingest.daemon.pushed_ftp_line`'s, the bytes `ingest.daemon.pushed_ftp_transfer`'s.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aioftp.common import Connection

from config.settings import FtpSettings
from evidence.errors import EvidenceError, NotFound, Unavailable
from ingest.daemon.pushed_disk import DiskThreads, in_background
from ingest.daemon.pushed_ftp_line import FtpLines, reply
from ingest.daemon.pushed_ftp_transfer import (
    RAW,
    FtpTransfer,
    machine_line,
    refusal,
    send_lines,
    unix_line,
)
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_shelf import Dock, Pushed, checked_folder
from ingest.sources.incoming import Incoming

PROTOCOL = "ftp"


class FtpDoor(FtpLines):
    """The listener. Start and close it in one event loop."""

    def __init__(
        self,
        settings: FtpSettings,
        box: Dropbox,
        tls: ssl.SSLContext | None,
        check_token: Callable[[str, str], Dock | None],
    ) -> None:
        super().__init__(settings, tls, check_token)
        self._box = box
        self._disk = DiskThreads(PROTOCOL)
        self._receiving: set[asyncio.Task[bool]] = set()
        self.answer(
            {
                "abor": self.abort,
                "allo": self.allo,
                "appe": self.append,
                "cdup": self.go_up,
                "cwd": self.go,
                "dele": self.delete,
                "list": self.listing,
                "mkd": self.make,
                "mlsd": self.machine_listing,
                "mlst": self.machine_look,
                "pwd": self.where,
                "rnfr": self.name_from,
                "rnto": self.name_to,
                "size": self.size,
                "stor": self.store,
                "xpwd": self.where,
            }
        )

    async def begin(self) -> None:
        """Listen.

        Raises:
            Unavailable: The port is taken.
        """
        try:
            await self.start(self._settings.host, self._settings.port)
        except OSError as error:
            raise Unavailable(
                f"ingest.ftp listener {self._settings.host}:{self._settings.port}: expected a free port, "
                f"found {error.strerror}",
                code="port_in_use",
            ) from error

    async def end(self) -> None:
        """Let every dock go; what they were sending stays to be gone on with."""
        for stream in list(self.connections):
            stream.writer.transport.abort()
        for line in self._lines.values():
            line.break_off()
        await asyncio.sleep(0.05)
        await self.close()
        # The library forgets a line before what it was sending has ended.
        if self._receiving:
            await asyncio.wait(self._receiving)
        self._disk.close()

    # --- files ------------------------------------------------------------------------------------

    async def allo(self, connection: Connection, rest: str) -> bool:
        line, said = self.line_of(connection), rest.split(" ", maxsplit=1)[0]
        if not said.isascii() or not said.isdecimal():
            return reply(connection, "501", "ALLO wants a size")
        if int(said) > self._box.max_file_bytes:
            return reply(connection, "552", "larger than is taken")
        line.declared_bytes = int(said)
        return reply(connection, "200", "noted; it must come to that")

    async def store(self, connection: Connection, rest: str) -> bool:
        return await self._take(connection, rest, appends=False)

    async def append(self, connection: Connection, rest: str) -> bool:
        return await self._take(connection, rest, appends=True)

    async def _take(self, connection: Connection, rest: str, *, appends: bool) -> bool:
        line = self.line_of(connection)
        declared, line.declared_bytes = line.declared_bytes, None
        offset, connection.restart_offset = connection.restart_offset, 0
        if not connection.future.passive_server.done():
            return reply(connection, "503", "PASV or EPSV first")
        if not (line.is_data_private or self._settings.allow_plain):
            return reply(connection, "522", "PROT P first")
        if len(connection.extra_workers) >= self._settings.max_open_files:
            return reply(connection, "450", "too many transfers")
        dock = self._dock(connection)
        try:
            name = self._name(connection, rest)
            incoming = await self._disk.do(
                dock,
                lambda: self._box.begin(dock, name, PROTOCOL, truncate=not appends, offset_bytes=offset),
                undo=Incoming.let_go,
            )
        except EvidenceError as error:
            return _refuse(connection, error)
        start = incoming.size_bytes if appends else offset
        transfer = FtpTransfer(self._disk, dock, incoming, start, declared)
        line.transfers.add(transfer)
        task = asyncio.create_task(self._receive(connection, transfer))
        # A task that is cancelled before its first step ends nothing.
        task.add_done_callback(lambda _: None if incoming.is_ended else in_background(incoming.let_go))
        self._receiving.add(task)
        task.add_done_callback(self._receiving.discard)
        connection.extra_workers.add(task)
        return reply(connection, "150", "send it")

    async def _receive(self, connection: Connection, transfer: FtpTransfer) -> bool:
        line = self.line_of(connection)
        try:
            return reply(connection, *await transfer.run(connection))
        finally:
            line.transfers.discard(transfer)

    async def abort(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        for transfer in list(self.line_of(connection).transfers):
            await transfer.abort()
        return reply(connection, "226", "nothing comes in any more")

    async def name_from(self, connection: Connection, rest: str) -> bool:
        try:
            name = self._name(connection, rest)
            found = self._box.find(self._dock(connection), name)
        except EvidenceError as error:
            return _refuse(connection, error)
        if found is None:
            return reply(connection, "550", "no such file")
        self.line_of(connection).rename_from = name
        return reply(connection, "350", "and to what?")

    async def name_to(self, connection: Connection, rest: str) -> bool:
        line = self.line_of(connection)
        old, line.rename_from = line.rename_from, None
        if old is None:
            return reply(connection, "503", "RNFR first")
        dock, new = self._dock(connection), self._name(connection, rest)
        return await self._done(connection, lambda: self._box.rename(dock, old, new))

    async def delete(self, connection: Connection, rest: str) -> bool:
        dock, name = self._dock(connection), self._name(connection, rest)
        return await self._done(connection, lambda: self._box.discard(dock, name))

    async def make(self, connection: Connection, rest: str) -> bool:
        try:
            self._box.make_folder(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        return reply(connection, "257", f'"{rest}" is part of names')

    async def _done(self, connection: Connection, work: Callable[[], None]) -> bool:
        try:
            await self._disk.do(self._dock(connection), work)
        except EvidenceError as error:
            return _refuse(connection, error)
        return reply(connection, "250", "done")

    # --- looking ----------------------------------------------------------------------------------

    async def where(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        shown = "/" + self.line_of(connection).folder.decode(RAW)
        return reply(connection, "257", '"' + shown.replace('"', '""') + '"')

    async def go(self, connection: Connection, rest: str) -> bool:
        try:
            name = checked_folder(self._name(connection, rest))
            if not self._box.has_folder(self._dock(connection), name):
                return reply(connection, "550", "no such folder")
        except EvidenceError as error:
            return _refuse(connection, error)
        self.line_of(connection).folder = name
        return reply(connection, "250", "there")

    async def go_up(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        self.line_of(connection).folder = self._above(connection)
        return reply(connection, "250", "there")

    async def size(self, connection: Connection, rest: str) -> bool:
        try:
            found = self._box.find(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        return (
            reply(connection, "213", str(found.size_bytes))
            if found
            else reply(connection, "550", "no such file")
        )

    async def machine_look(self, connection: Connection, rest: str) -> bool:
        try:
            found = self._box.find(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        if found is None:
            return reply(connection, "550", "no such file")
        connection.response("250", ["file", machine_line(found), "end"], True)
        return True

    async def machine_listing(self, connection: Connection, rest: str) -> bool:
        return await self._show(connection, rest, machine_line, lambda name: f"type=dir; {name}")

    async def listing(self, connection: Connection, rest: str) -> bool:
        wanted = " ".join(word for word in rest.split(" ") if not word.startswith("-"))
        return await self._show(
            connection, wanted, unix_line, lambda name: f"drwx------ 1 dock dock 0 Jan 1 1970 {name}"
        )

    async def _show(
        self, connection: Connection, rest: str, file: Callable[[Pushed], str], folder: Callable[[str], str]
    ) -> bool:
        line = self.line_of(connection)
        if not connection.future.passive_server.done():
            return reply(connection, "503", "PASV or EPSV first")
        if not (line.is_data_private or self._settings.allow_plain):
            return reply(connection, "522", "PROT P first")
        try:
            files, folders = self._box.within(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        lines = [*map(file, files), *(folder(name.decode(RAW)) for name in sorted(folders))]
        connection.extra_workers.add(asyncio.create_task(self._send(connection, lines)))
        return reply(connection, "150", "here it comes")

    async def _send(self, connection: Connection, lines: list[str]) -> bool:
        return reply(connection, *await send_lines(connection, lines))

    # --- names ------------------------------------------------------------------------------------

    def _dock(self, connection: Connection) -> Dock:
        dock = self.line_of(connection).dock
        if dock is None:
            raise NotFound("dock: expected one logged in, found none")
        return dock

    def _name(self, connection: Connection, rest: str) -> bytes:
        name = rest.encode(RAW)
        return name if name.startswith(b"/") else self.line_of(connection).folder + b"/" + name

    def _above(self, connection: Connection) -> bytes:
        return self.line_of(connection).folder.rpartition(b"/")[0]


def _refuse(connection: Connection, error: EvidenceError) -> bool:
    return reply(connection, *refusal(error))
