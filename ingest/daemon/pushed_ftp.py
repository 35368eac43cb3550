"""FTP over TLS for docks that can only push: aioftp's server over the dropbox.

aioftp gives connections, replies and data streams; every command that names a file is ours, because a dock's
names lead to no path. Nobody logs in before TLS, and nothing that was sent along with ``AUTH`` is heard: a
command slipped in before the handshake must not count after it. A data connection is taken only from the
address of its control connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aioftp
import structlog
from aioftp.common import Connection, StreamIO

from config.settings import FtpSettings
from evidence.errors import EvidenceError, NotFound, Unavailable
from evidence.filenames import display_name
from ingest.daemon.pushed_logins import Doorkeeper
from ingest.sources.dropbox import Dock, Dropbox, Incoming, Pushed, checked_folder

log = structlog.get_logger(__name__)

PROTOCOL = "ftp"
RAW = "latin-1"
"""Names are bytes: every byte is a character and comes back as the same byte."""
BLOCK_BYTES = 256 << 10
FEATURES = [
    "AUTH TLS",
    "EPSV",
    "MLST type*;size*;modify*;",
    "PASV",
    "PBSZ",
    "PROT",
    "REST STREAM",
    "SIZE",
    "TVFS",
]
_BEFORE_LOGIN = {"auth", "feat", "noop", "opts", "pass", "pbsz", "prot", "quit", "syst", "user"}
HANDLED, STRANGER, GONE = "handled-", "stranger-", "gone-"
"""No client can say these: a command ends at its first blank and these are made by `parse_command`."""
_IAC = "\xff\xf4\xf2"


class _Line:
    """What is known of one control connection."""

    def __init__(self) -> None:
        self.is_private = False
        self.is_data_private = False
        self.username: str | None = None
        self.dock: Dock | None = None
        self.folder = b""
        self.rename_from: bytes | None = None
        self.declared_bytes: int | None = None


class FtpDoor(aioftp.Server):
    """The listener. Start and close it in one event loop."""

    def __init__(
        self,
        settings: FtpSettings,
        box: Dropbox,
        tls: ssl.SSLContext | None,
        check_token: Callable[[str, str], Dock | None],
    ) -> None:
        super().__init__(
            [],
            block_size=BLOCK_BYTES,
            socket_timeout=settings.idle_s,
            idle_timeout=settings.idle_s,
            wait_future_timeout=10,
            ipv4_pasv_forced_response_address=settings.public_ip,
            encoding=RAW,
            ssl=tls if settings.tls == "implicit" else None,
            welcome_message="ready",
        )
        self._settings = settings
        self._box = box
        self._tls = tls
        self._check_token = check_token
        self.doorkeeper = Doorkeeper(settings)
        self._lines: dict[StreamIO, _Line] = {}
        self.commands_mapping = {
            "abor": self.abor,
            "allo": self.allo,
            "appe": self.append,
            "cdup": self.go_up,
            "cwd": self.go,
            "dele": self.delete,
            "epsv": self.epsv,
            "feat": self.features,
            "list": self.listing,
            "mkd": self.make,
            "mlsd": self.machine_listing,
            "mlst": self.machine_look,
            "noop": self.nothing,
            "opts": self.options,
            "pass": self.password,
            "pasv": self.pasv,
            "pbsz": self.buffer,
            "prot": self.protect,
            "pwd": self.where,
            "quit": self.quit,
            "rest": self.rest,
            "rnfr": self.name_from,
            "rnto": self.name_to,
            "size": self.size,
            "stor": self.store,
            "syst": self.syst,
            "type": self.kind,
            "user": self.username,
            "xpwd": self.where,
            HANDLED: self.handled,
            STRANGER: self.stranger,
            GONE: self.gone,
        }

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
        await asyncio.sleep(0.05)
        await self.close()

    # --- the line ---------------------------------------------------------------------------------

    async def greeting(self, connection: Connection, rest: Any) -> bool:  # noqa: ARG002 -- the library's signature
        line = self._lines[connection.command_connection] = _Line()
        line.is_private = line.is_data_private = self._settings.tls == "implicit" and self._tls is not None
        if not self.doorkeeper.may_enter(connection.client_host):
            log.warning("push:refused", listener="ftp", address=connection.client_host, reason="too many")
            connection.response("421", "too many connections")
            return False
        connection.response("220", self.welcome_message)
        return True

    async def dispatcher(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.doorkeeper.connections += 1
        try:
            await super().dispatcher(reader, writer)
        finally:
            self.doorkeeper.connections -= 1
            for stream in [each for each in self._lines if each.reader is reader]:
                line = self._lines.pop(stream)
                if line.dock is not None:
                    self.doorkeeper.leave(line.dock)

    async def parse_command(
        self, stream: StreamIO, censor_commands: tuple[str] = ("pass",)  # noqa: ARG002
    ) -> tuple[str, str]:  # fmt: skip
        while True:
            try:
                raw = await stream.readline()
                break
            except TimeoutError:
                connection = self.connections.get(stream)
                if connection is None or not connection.extra_workers:
                    return GONE, ""
                # Silent, because it sends a file.
            except OSError:
                return GONE, ""
        if not raw:
            return GONE, ""
        command, _, rest = raw.decode(RAW).rstrip("\r\n").lstrip(_IAC).partition(" ")
        command = command.lower().rstrip("-")
        line = self._lines.get(stream)
        if command == "auth" and line is not None:
            # Here, and not in a command of its own: nothing else reads the line during the handshake.
            await self._begin_tls(stream, line, rest)
            return HANDLED, ""
        if line is None or (line.dock is None and command not in _BEFORE_LOGIN):
            return STRANGER, ""
        return command, rest

    async def _begin_tls(self, stream: StreamIO, line: _Line, kind: str) -> None:
        is_known = kind.upper() in {"TLS", "TLS-C", "SSL"}
        if self._tls is None or line.is_private or not is_known or line.username is not None:
            await self.write_response(stream, "504", "not now")
            return
        transport = stream.writer.transport
        if not isinstance(transport, asyncio.ReadTransport):
            raise ConnectionResetError
        # What comes after the reply is the handshake: it must wait for whoever understands it.
        transport.pause_reading()
        if getattr(stream.reader, "_buffer", None):
            # Sent along with AUTH in the clear, by whoever: it must not count as said under TLS.
            raise ConnectionResetError
        await self.write_response(stream, "234", "begin TLS")
        await stream.writer.start_tls(self._tls)
        line.is_private = True

    async def handled(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return True

    async def gone(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return False

    async def stranger(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return _reply(connection, "530", "log in first")

    def _line_of(self, connection: Connection) -> _Line:
        return self._lines[connection.command_connection]

    # --- coming in --------------------------------------------------------------------------------

    async def username(self, connection: Connection, rest: str) -> bool:
        line = self._line_of(connection)
        if line.dock is not None:
            return _reply(connection, "503", "already logged in")
        if not (line.is_private or self._settings.allow_plain):
            return _reply(connection, "530", "AUTH TLS first")
        line.username = rest
        return _reply(connection, "331", "password required")

    async def password(self, connection: Connection, rest: str) -> bool:
        line = self._line_of(connection)
        if line.username is None or line.dock is not None:
            return _reply(connection, "503", "USER first")
        if not self.doorkeeper.may_try(connection.client_host):
            connection.response("421", "too many wrong passwords")
            return False
        try:
            dock = await asyncio.to_thread(self._check_token, _text(line.username), _text(rest))
        except EvidenceError as error:
            log.warning("push:login_failed", listener="ftp", code=error.code)
            return _reply(connection, "421", "not now")
        if dock is None:
            self.doorkeeper.failed(connection.client_host)
            log.warning(
                "push:login_refused",
                listener="ftp",
                address=connection.client_host,
                dock=display_name(line.username.encode(RAW))[:64],
            )
            return _reply(connection, "530", "wrong user or password")
        if not self.doorkeeper.enter(dock):
            connection.response("421", "too many connections")
            return False
        line.dock = dock
        connection.logged = True
        return _reply(connection, "230", "welcome")

    async def buffer(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return _reply(connection, "200", "PBSZ=0")

    async def protect(self, connection: Connection, rest: str) -> bool:
        line = self._line_of(connection)
        if rest.upper() == "P" and line.is_private:
            line.is_data_private = True
            return _reply(connection, "200", "data will be private")
        if rest.upper() == "C" and self._settings.allow_plain and self.ssl is None:
            line.is_data_private = False
            return _reply(connection, "200", "data will be in the clear")
        return _reply(connection, "534", "PROT P")

    async def features(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        connection.response("211", ["features", *FEATURES, "end"], True)
        return True

    async def options(self, connection: Connection, rest: str) -> bool:
        is_known = rest.upper().startswith(("UTF8", "MLST"))
        return _reply(connection, "200" if is_known else "501", "noted" if is_known else "unknown option")

    async def nothing(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return _reply(connection, "200", "here")

    async def kind(self, connection: Connection, rest: str) -> bool:
        is_known = rest.upper()[:1] in {"I", "A", "L"}
        return _reply(connection, "200" if is_known else "504", "bytes are kept as they come")

    # --- data connections -------------------------------------------------------------------------

    async def _start_passive_server(
        self,
        connection: Connection,
        handler_callback: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> asyncio.Server:
        control = connection.client_host

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = writer.get_extra_info("peername")
            if peer is None or peer[0] != control:
                log.warning("push:data_refused", listener="ftp", address=peer[0] if peer else None)
                writer.transport.abort()
                return
            await handler_callback(reader, writer)

        settings = self._settings
        ports = list(range(settings.passive_from, settings.passive_to + 1)) if settings.passive_from else [0]
        random.shuffle(ports)
        tls = self._tls if self._line_of(connection).is_data_private else None
        for port in ports:
            with contextlib.suppress(OSError):
                return await asyncio.start_server(accept, connection.server_host, port, ssl=tls)
        raise aioftp.errors.NoAvailablePort

    # --- files ------------------------------------------------------------------------------------

    async def allo(self, connection: Connection, rest: str) -> bool:
        line, said = self._line_of(connection), rest.split(" ", maxsplit=1)[0]
        if not said.isascii() or not said.isdecimal():
            return _reply(connection, "501", "ALLO wants a size")
        if int(said) > self._box.max_file_bytes:
            return _reply(connection, "552", "larger than is taken")
        line.declared_bytes = int(said)
        return _reply(connection, "200", "noted; it must come to that")

    async def store(self, connection: Connection, rest: str) -> bool:
        return await self._take(connection, rest, appends=False)

    async def append(self, connection: Connection, rest: str) -> bool:
        return await self._take(connection, rest, appends=True)

    async def _take(self, connection: Connection, rest: str, *, appends: bool) -> bool:
        line = self._line_of(connection)
        declared, line.declared_bytes = line.declared_bytes, None
        offset, connection.restart_offset = connection.restart_offset, 0
        if not connection.future.passive_server.done():
            return _reply(connection, "503", "PASV or EPSV first")
        if not (line.is_data_private or self._settings.allow_plain):
            return _reply(connection, "522", "PROT P first")
        if len(connection.extra_workers) >= self._settings.max_open_files:
            return _reply(connection, "450", "too many transfers")
        dock = self._dock(connection)
        try:
            begun = await asyncio.to_thread(
                self._box.begin, dock, self._name(connection, rest), PROTOCOL,
                truncate=not appends, offset_bytes=offset,
            )  # fmt: skip
        except EvidenceError as error:
            return _refuse(connection, error)
        start = begun.size_bytes if appends else offset
        connection.extra_workers.add(asyncio.create_task(self._receive(connection, begun, start, declared)))
        return _reply(connection, "150", "send it")

    async def _receive(
        self, connection: Connection, begun: Incoming, start: int, declared: int | None
    ) -> bool:
        """Take a transfer to its end, however it ends; the reply leaves after the sync."""
        position = start
        reply = ("426", "transfer broke off; what came is kept")
        in_order = False
        stream = None
        try:
            stream = await asyncio.wait_for(
                asyncio.shield(connection.future.data_connection), connection.wait_future_timeout
            )
            del connection.data_connection
            while data := await stream.read(BLOCK_BYTES):
                begun.write(data, position)
                position += len(data)
            in_order = True
        except (OSError, EOFError):  # Cut, or silent for too long.
            pass
        except EvidenceError as error:
            reply = ("452" if isinstance(error, Unavailable) else "552", error.message)
        finally:
            if stream is not None:
                # Nothing is said to who broke off, and nobody waits for their answer.
                stream.close() if in_order else stream.writer.transport.abort()
            if in_order and declared is not None and declared not in {position - start, position}:
                in_order = False
                reply = ("451", f"expected {declared} bytes, found {position - start}; send it again")
            elif in_order and declared is not None:
                begun.declared_bytes = position
            # No pause to be cancelled in: the bytes are synced before anything is said.
            ended = begun.end(in_order=in_order)
            log.info(
                "push:ended",
                listener="ftp",
                name=display_name(ended.name),
                state=ended.state,
                proof=ended.proof,
                size_bytes=ended.size_bytes,
            )
        if in_order:
            reply = (
                "226",
                "stored and synced" if ended.proof else "stored and synced; rename it when it is whole",
            )
        return _reply(connection, *reply)

    async def name_from(self, connection: Connection, rest: str) -> bool:
        try:
            name = self._name(connection, rest)
            found = self._box.find(self._dock(connection), name)
        except EvidenceError as error:
            return _refuse(connection, error)
        if found is None:
            return _reply(connection, "550", "no such file")
        self._line_of(connection).rename_from = name
        return _reply(connection, "350", "and to what?")

    async def name_to(self, connection: Connection, rest: str) -> bool:
        line = self._line_of(connection)
        old, line.rename_from = line.rename_from, None
        if old is None:
            return _reply(connection, "503", "RNFR first")
        return await self._done(
            connection, lambda: self._box.rename(self._dock(connection), old, self._name(connection, rest))
        )

    async def delete(self, connection: Connection, rest: str) -> bool:
        return await self._done(
            connection, lambda: self._box.discard(self._dock(connection), self._name(connection, rest))
        )

    async def make(self, connection: Connection, rest: str) -> bool:
        try:
            self._box.make_folder(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        return _reply(connection, "257", f'"{rest}" is part of names')

    async def _done(self, connection: Connection, work: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(work)
        except EvidenceError as error:
            return _refuse(connection, error)
        return _reply(connection, "250", "done")

    # --- looking ----------------------------------------------------------------------------------

    async def where(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        shown = "/" + self._line_of(connection).folder.decode(RAW)
        return _reply(connection, "257", '"' + shown.replace('"', '""') + '"')

    async def go(self, connection: Connection, rest: str) -> bool:
        try:
            name = checked_folder(self._name(connection, rest))
            if not self._box.has_folder(self._dock(connection), name):
                return _reply(connection, "550", "no such folder")
        except EvidenceError as error:
            return _refuse(connection, error)
        self._line_of(connection).folder = name
        return _reply(connection, "250", "there")

    async def go_up(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        self._line_of(connection).folder = self._above(connection)
        return _reply(connection, "250", "there")

    async def size(self, connection: Connection, rest: str) -> bool:
        try:
            found = self._box.find(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        return (
            _reply(connection, "213", str(found.size_bytes))
            if found
            else _reply(connection, "550", "no such file")
        )

    async def machine_look(self, connection: Connection, rest: str) -> bool:
        try:
            found = self._box.find(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        if found is None:
            return _reply(connection, "550", "no such file")
        connection.response("250", ["file", _mlsx(found), "end"], True)
        return True

    async def machine_listing(self, connection: Connection, rest: str) -> bool:
        return await self._show(connection, rest, _mlsx, lambda name: f"type=dir; {name}")

    async def listing(self, connection: Connection, rest: str) -> bool:
        wanted = " ".join(word for word in rest.split(" ") if not word.startswith("-"))
        return await self._show(
            connection, wanted, _unix, lambda name: f"drwx------ 1 dock dock 0 Jan 1 1970 {name}"
        )

    async def _show(
        self, connection: Connection, rest: str, file: Callable[[Pushed], str], folder: Callable[[str], str]
    ) -> bool:
        line = self._line_of(connection)
        if not connection.future.passive_server.done():
            return _reply(connection, "503", "PASV or EPSV first")
        if not (line.is_data_private or self._settings.allow_plain):
            return _reply(connection, "522", "PROT P first")
        try:
            files, folders = self._box.within(self._dock(connection), self._name(connection, rest))
        except EvidenceError as error:
            return _refuse(connection, error)
        lines = [*map(file, files), *(folder(name.decode(RAW)) for name in sorted(folders))]
        connection.extra_workers.add(asyncio.create_task(self._send(connection, lines)))
        return _reply(connection, "150", "here it comes")

    async def _send(self, connection: Connection, lines: list[str]) -> bool:
        try:
            stream = await asyncio.wait_for(
                asyncio.shield(connection.future.data_connection), connection.wait_future_timeout
            )
            del connection.data_connection
            try:
                await stream.write("".join(f"{each}\r\n" for each in lines).encode(RAW))
            finally:
                stream.close()
        except OSError:
            return _reply(connection, "426", "broke off")
        return _reply(connection, "226", "that is all")

    # --- names ------------------------------------------------------------------------------------

    def _dock(self, connection: Connection) -> Dock:
        dock = self._line_of(connection).dock
        if dock is None:
            raise NotFound("dock: expected one logged in, found none")
        return dock

    def _name(self, connection: Connection, rest: str) -> bytes:
        name = rest.encode(RAW)
        return name if name.startswith(b"/") else self._line_of(connection).folder + b"/" + name

    def _above(self, connection: Connection) -> bytes:
        return self._line_of(connection).folder.rpartition(b"/")[0]


def _reply(connection: Connection, code: str, text: str) -> bool:
    connection.response(code, text)
    return True


def _refuse(connection: Connection, error: EvidenceError) -> bool:
    return _reply(connection, "452" if isinstance(error, Unavailable) else "550", error.message)


def _text(raw: str) -> str:
    return raw.encode(RAW).decode("utf-8", "replace")


def _mlsx(found: Pushed) -> str:
    name = found.name.rpartition(b"/")[2].decode(RAW)
    modified = time.strftime("%Y%m%d%H%M%S", time.gmtime(found.mtime_s))
    return f"type=file;size={found.size_bytes};modify={modified}; {name}"


def _unix(found: Pushed) -> str:
    name = found.name.rpartition(b"/")[2].decode(RAW)
    modified = time.strftime("%b %d %Y", time.gmtime(found.mtime_s))
    return f"--w------- 1 dock dock {found.size_bytes} {modified} {name}"


def server_tls(cert: Path, key: Path) -> ssl.SSLContext:
    """Our side of TLS.

    Raises:
        Unavailable: Certificate or key cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(
            f"ingest.ftp listener: expected a certificate and its key, found {type(error).__name__}; "
            "check tls_cert and tls_key",
            code="listener_tls_unreadable",
        ) from error
    return context
