"""The control connection of a pushing dock over FTP: who is there, how private the line is, what it asks.

aioftp gives connections, replies and data streams. Nobody logs in before TLS, and nothing that was sent
along with ``AUTH`` is heard: a command slipped in before the handshake must not count after it. A data
connection is taken only from the address of its control connection. Commands of one line are done one after
the other, in the order they came, however many were sent ahead. What they do with files is
`ingest.daemon.pushed_ftp`'s.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aioftp
import structlog
from aioftp.common import Connection, StreamIO

from config.settings import FtpSettings
from evidence.errors import EvidenceError
from evidence.filenames import display_name
from ingest.daemon.pushed_ftp_transfer import BLOCK_BYTES, RAW, FtpTransfer, passive_server
from ingest.daemon.pushed_logins import Doorkeeper
from ingest.sources.dropbox_shelf import Dock

log = structlog.get_logger(__name__)

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
HANDLED, STRANGER, UNKNOWN, GONE = "handled-", "stranger-", "unknown-", "gone-"
"""No client can say these: a command ends at its first blank and these are made by `parse_command`."""
_IAC = "\xff\xf4\xf2"
Command = Callable[[Connection, str], Awaitable[bool]]


class Line:
    """What is known of one control connection."""

    def __init__(self) -> None:
        self.is_private = False
        self.is_data_private = False
        self.username: str | None = None
        self.dock: Dock | None = None
        self.folder = b""
        self.rename_from: bytes | None = None
        self.declared_bytes: int | None = None
        self.transfers: set[FtpTransfer] = set()
        self.turn = asyncio.Lock()
        """Held from when a command is read until it is done."""

    def break_off(self) -> None:
        """Let every transfer end as if its line had been cut."""
        for transfer in self.transfers:
            transfer.break_off()


class FtpLines(aioftp.Server):
    """A server that knows its docks; `answer` adds what they may ask for."""

    def __init__(
        self,
        settings: FtpSettings,
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
        self._tls = tls
        self._check_token = check_token
        self.doorkeeper = Doorkeeper(settings)
        self._lines: dict[StreamIO, Line] = {}
        self.commands_mapping = {GONE: self.gone}
        self.answer(
            {
                "epsv": self.epsv,
                "feat": self.features,
                "noop": self.nothing,
                "opts": self.options,
                "pass": self.password,
                "pasv": self.pasv,
                "pbsz": self.buffer,
                "prot": self.protect,
                "quit": self.quit,
                "rest": self.rest,
                "syst": self.syst,
                "type": self.kind,
                "user": self.username,
                HANDLED: self.handled,
                STRANGER: self.stranger,
                UNKNOWN: self.unknown,
            }
        )

    def answer(self, commands: dict[str, Command]) -> None:
        """Know these commands too; each begins when the one before it is done."""
        self.commands_mapping.update({name: self._in_turn(each) for name, each in commands.items()})

    def _in_turn(self, command: Command) -> Command:
        async def done(connection: Connection, rest: str) -> bool:
            line = self._lines.get(connection.command_connection)
            try:
                return await command(connection, rest)
            finally:
                if line is not None and line.turn.locked():
                    line.turn.release()

        return done

    # --- the line ---------------------------------------------------------------------------------

    async def greeting(self, connection: Connection, rest: Any) -> bool:  # noqa: ARG002 -- the library's signature
        line = self._lines[connection.command_connection] = Line()
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
        raw = await self._next_line(stream)
        line = self._lines.get(stream)
        if not raw or line is None:
            return GONE, ""
        # One line is read ahead and waits: a dock that sends many at once is held back by its own socket.
        await line.turn.acquire()
        command, _, rest = raw.decode(RAW).rstrip("\r\n").lstrip(_IAC).partition(" ")
        command = command.lower().rstrip("-")
        if command == "auth":
            # Here, and not in a command of its own: nothing else reads the line during the handshake.
            try:
                await self._begin_tls(stream, line, rest)
            except BaseException:
                line.turn.release()
                raise
            return HANDLED, ""
        if line.dock is None and command not in _BEFORE_LOGIN:
            return STRANGER, ""
        return (command, rest) if command in self.commands_mapping else (UNKNOWN, repr(command))

    async def _next_line(self, stream: StreamIO) -> bytes:
        while True:
            try:
                return await stream.readline()
            except TimeoutError:
                connection, line = self.connections.get(stream), self._lines.get(stream)
                is_at_work = line is not None and line.turn.locked()
                if connection is None or not (connection.extra_workers or is_at_work):
                    return b""
                # Silent, because it sends a file or waits for an answer.
            except (OSError, ValueError):  # Cut, or a line without an end.
                return b""

    async def _begin_tls(self, stream: StreamIO, line: Line, kind: str) -> None:
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
        self.line_of(connection).break_off()
        return False

    async def stranger(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return reply(connection, "530", "log in first")

    async def unknown(self, connection: Connection, rest: str) -> bool:
        return reply(connection, "502", f"{rest} not implemented")

    def line_of(self, connection: Connection) -> Line:
        return self._lines[connection.command_connection]

    # --- coming in --------------------------------------------------------------------------------

    async def username(self, connection: Connection, rest: str) -> bool:
        line = self.line_of(connection)
        if line.dock is not None:
            return reply(connection, "503", "already logged in")
        if not (line.is_private or self._settings.allow_plain):
            return reply(connection, "530", "AUTH TLS first")
        line.username = rest
        return reply(connection, "331", "password required")

    async def password(self, connection: Connection, rest: str) -> bool:
        line = self.line_of(connection)
        if line.username is None or line.dock is not None:
            return reply(connection, "503", "USER first")
        if not self.doorkeeper.may_try(connection.client_host):
            connection.response("421", "too many wrong passwords")
            return False
        try:
            dock = await asyncio.to_thread(self._check_token, _text(line.username), _text(rest))
        except EvidenceError as error:
            log.warning("push:login_failed", listener="ftp", code=error.code)
            return reply(connection, "421", "not now")
        if dock is None:
            self.doorkeeper.failed(connection.client_host)
            log.warning(
                "push:login_refused",
                listener="ftp",
                address=connection.client_host,
                dock=display_name(line.username.encode(RAW))[:64],
            )
            return reply(connection, "530", "wrong user or password")
        if not self.doorkeeper.enter(dock):
            connection.response("421", "too many connections")
            return False
        line.dock = dock
        connection.logged = True
        return reply(connection, "230", "welcome")

    async def buffer(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return reply(connection, "200", "PBSZ=0")

    async def protect(self, connection: Connection, rest: str) -> bool:
        line = self.line_of(connection)
        if rest.upper() == "P" and line.is_private:
            line.is_data_private = True
            return reply(connection, "200", "data will be private")
        if rest.upper() == "C" and self._settings.allow_plain and self.ssl is None:
            line.is_data_private = False
            return reply(connection, "200", "data will be in the clear")
        return reply(connection, "534", "PROT P")

    async def features(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        connection.response("211", ["features", *FEATURES, "end"], True)
        return True

    async def options(self, connection: Connection, rest: str) -> bool:
        is_known = rest.upper().startswith(("UTF8", "MLST"))
        return reply(connection, "200" if is_known else "501", "noted" if is_known else "unknown option")

    async def nothing(self, connection: Connection, rest: str) -> bool:  # noqa: ARG002
        return reply(connection, "200", "here")

    async def kind(self, connection: Connection, rest: str) -> bool:
        is_known = rest.upper()[:1] in {"I", "A", "L"}
        return reply(connection, "200" if is_known else "504", "bytes are kept as they come")

    # --- data connections -------------------------------------------------------------------------

    async def _start_passive_server(
        self,
        connection: Connection,
        handler_callback: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> asyncio.Server:
        tls = self._tls if self.line_of(connection).is_data_private else None
        settings = self._settings
        return await passive_server(
            connection, handler_callback, (settings.passive_from, settings.passive_to), tls
        )


def reply(connection: Connection, code: str, text: str) -> bool:
    """Answer; the line stays."""
    connection.response(code, text)
    return True


def _text(raw: str) -> str:
    return raw.encode(RAW).decode("utf-8", "replace")
