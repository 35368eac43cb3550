"""SFTP for docks that can only push: asyncssh's server over the dropbox.

One account a dock. It may write, list its own waiting files, rename and remove those that are not whole;
it may not read, link, run, forward or look elsewhere.
"""

from __future__ import annotations

import asyncio
import posixpath
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import asyncssh
import structlog
from asyncssh.sftp import SFTPAttrs, SFTPName

from config.settings import SftpSettings
from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound, NotPermitted, Unavailable
from evidence.filenames import display_name
from ingest.daemon.pushed_disk import DiskThreads
from ingest.daemon.pushed_logins import Doorkeeper
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_shelf import Dock, Pushed, checked_folder
from ingest.sources.incoming import Incoming

log = structlog.get_logger(__name__)

PROTOCOL = "sftp"
_WRITING = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND


class SftpDoor:
    """The listener. Start and close it in one event loop."""

    def __init__(
        self,
        settings: SftpSettings,
        box: Dropbox,
        host_key: asyncssh.SSHKey,
        check_token: Callable[[str, str], Dock | None],
        keys: Mapping[str, Sequence[tuple[asyncssh.SSHKey, Dock]]],
    ) -> None:
        self.settings = settings
        self.box = box
        self.check_token = check_token
        self.keys = keys
        self.doorkeeper = Doorkeeper(settings)
        self.disk = DiskThreads(PROTOCOL)
        self._host_key = host_key
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self.sessions: set[_Files] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        return 0 if self._acceptor is None else self._acceptor.get_port()

    async def start(self) -> None:
        """Listen.

        Raises:
            Unavailable: The port is taken.
        """
        try:
            self._acceptor = await asyncssh.listen(
                self.settings.host,
                self.settings.port,
                config=None,
                server_factory=lambda: _Server(self),
                server_host_keys=[self._host_key],
                sftp_factory=lambda channel: _Files(channel, self),
                sftp_version=3,
                allow_scp=False,
                agent_forwarding=False,
                x11_forwarding=False,
                allow_pty=False,
                line_editor=False,
                encoding=None,
                compression_algs=None,
                login_timeout=30,
                keepalive_interval=self.settings.idle_s / 2,
                keepalive_count_max=2,
            )
        except OSError as error:
            raise Unavailable(
                f"ingest.sftp listener {self.settings.host}:{self.settings.port}: expected a free port, "
                f"found {error.strerror}",
                code="port_in_use",
            ) from error

    async def close(self) -> None:
        """Let every dock go; what they were sending stays to be gone on with."""
        if self._acceptor is None:
            return
        self._acceptor.close()
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(each.wait_closed() for each in connections), return_exceptions=True)
        await self._acceptor.wait_closed()
        await asyncio.gather(*(each.let_go() for each in list(self.sessions)), return_exceptions=True)
        self.disk.close()

    def made(self, connection: asyncssh.SSHServerConnection) -> bool:
        """Note a connection; False when it is not to be spoken to."""
        is_welcome = self.doorkeeper.may_enter(address_of(connection))
        self._connections.add(connection)
        self.doorkeeper.connections += 1
        return is_welcome

    def lost(self, connection: asyncssh.SSHServerConnection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self.doorkeeper.connections -= 1


def address_of(connection: asyncssh.SSHServerConnection) -> str:
    """Where a connection is from, without its port."""
    peer = connection.get_extra_info("peername")
    return str(peer[0]) if peer else ""


class _Server(asyncssh.SSHServer):
    def __init__(self, door: SftpDoor) -> None:
        self._door = door
        self._connection: asyncssh.SSHServerConnection | None = None
        self.dock: Dock | None = None
        self._is_counted = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        conn.set_extra_info(liuhen_server=self)
        if not self._door.made(conn):
            log.warning("push:refused", listener="sftp", address=address_of(conn), reason="too many")
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the library's signature
        if self._connection is not None:
            self._door.lost(self._connection)
        if self.dock is not None and self._is_counted:
            self._door.doorkeeper.leave(self.dock)
            self._is_counted = False

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 -- everyone proves who they are
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        address = self._address()
        if not self._door.doorkeeper.may_try(address):
            return False
        try:
            found = await asyncio.to_thread(self._door.check_token, username, password)
        except EvidenceError as error:
            log.warning("push:login_failed", listener="sftp", code=error.code)
            return False
        if found is None:
            self._door.doorkeeper.failed(address)
            log.warning(
                "push:login_refused", listener="sftp", address=address, dock=display_name(username)[:64]
            )
            return False
        return self._enter(found)

    def public_key_auth_supported(self) -> bool:
        return bool(self._door.keys)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        for known, dock in self._door.keys.get(username, ()):
            if known == key:
                # The signature is checked by the library right after; no session begins without it.
                self.dock = dock
                return True
        return False

    def auth_completed(self) -> None:
        if self.dock is not None and not self._is_counted and not self._enter(self.dock) and self._connection:
            self._connection.abort()

    def _enter(self, dock: Dock) -> bool:
        if self._is_counted:
            return True
        self.dock = dock
        self._is_counted = self._door.doorkeeper.enter(dock)
        if not self._is_counted:
            log.warning("push:refused", listener="sftp", dock=dock.dock_no, reason="too many connections")
        return self._is_counted

    def _address(self) -> str:
        return "" if self._connection is None else address_of(self._connection)


class _Files(asyncssh.SFTPServer):
    """What a dock sees: its own waiting files, and folders that are part of names."""

    def __init__(self, channel: asyncssh.SSHServerChannel, door: SftpDoor) -> None:  # type: ignore[type-arg]
        super().__init__(channel)
        server = channel.get_connection().get_extra_info("liuhen_server")
        if not isinstance(server, _Server) or server.dock is None:
            raise asyncssh.SFTPPermissionDenied("no dock has logged in")
        self._dock = server.dock
        self._box = door.box
        self._disk = door.disk
        self._most_open = door.settings.max_open_files
        self._open: set[Incoming] = set()
        door.sessions.add(self)
        self._sessions = door.sessions

    async def let_go(self) -> None:
        """End what is open: nobody will."""
        for incoming in list(self._open):
            with _Told():
                await self._disk.do(self._dock, incoming.let_go)

    def exit(self) -> None:
        self._sessions.discard(self)

    # --- writing ----------------------------------------------------------------------------------

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:  # noqa: ARG002
        if not pflags & _WRITING:
            raise asyncssh.SFTPPermissionDenied("files can be pushed, not read")
        if len(self._open) >= self._most_open:
            raise asyncssh.SFTPFailure("too many open files")
        with _Told():
            incoming = await self._disk.do(
                self._dock,
                lambda: self._box.begin(
                    self._dock, path, PROTOCOL, truncate=bool(pflags & asyncssh.FXF_TRUNC)
                ),
                undo=Incoming.let_go,
            )
        incoming.appends = bool(pflags & asyncssh.FXF_APPEND)
        self._open.add(incoming)
        return incoming

    async def close(self, file_obj: object) -> None:
        incoming = _incoming(file_obj)
        if incoming.is_ended:
            return  # By the listener, which closes.
        # A client that is gone closes nothing: the library does it for it, when the channel has ended.
        channel = self.channel
        is_gone = channel.is_closing() or channel.get_connection().is_closed() or self._is_at_end()
        try:
            with _Told():
                await self._disk.do(self._dock, lambda: incoming.end(in_order=not is_gone))
        except asyncssh.SFTPError as error:
            log.error("push:not_ended", listener="sftp", dock=self._dock.dock_no, detail=error.reason)  # noqa: TRY400
            if is_gone:
                return  # Nobody hears of it, and the library is about to close the next one.
            raise
        finally:
            self._open.discard(incoming)

    def _is_at_end(self) -> bool:
        session = getattr(self.channel, "_session", None)
        return session is None or bool(getattr(session, "_eof_received", False))

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        incoming = _incoming(file_obj)
        at = None if incoming.appends else offset
        with _Told():
            await self._disk.do(self._dock, lambda: incoming.write(data, at))
        return len(data)

    async def fsync(self, file_obj: object) -> None:
        """Everything is synced at its close; a dock that asks sooner is not lied to."""
        with _Told():
            await self._disk.do(self._dock, _incoming(file_obj).sync)

    async def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        size = attrs.size
        if size is not None:
            incoming = _incoming(file_obj)
            with _Told():
                await self._disk.do(self._dock, lambda: incoming.truncate(size))

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Times and modes are taken and kept nowhere; a size cannot be set from afar."""
        if attrs.size is not None:
            raise asyncssh.SFTPPermissionDenied("open it to change its size")
        self.stat(path)

    lsetstat = setstat

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        with _Told():
            await self._disk.do(self._dock, lambda: self._box.rename(self._dock, oldpath, newpath))

    posix_rename = rename

    async def remove(self, path: bytes) -> None:
        with _Told():
            await self._disk.do(self._dock, lambda: self._box.discard(self._dock, path))

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:  # noqa: ARG002
        with _Told():
            self._box.make_folder(self._dock, path)

    # --- looking ----------------------------------------------------------------------------------

    def realpath(self, path: bytes) -> bytes:
        return posixpath.normpath(posixpath.join(b"/", path))

    def stat(self, path: bytes) -> SFTPAttrs:
        with _Told():
            if not checked_folder(path):
                return _folder()
            found = self._box.find(self._dock, path)
            if found is not None:
                return _attributes(found)
            if self._box.has_folder(self._dock, path):
                return _folder()
        raise asyncssh.SFTPNoSuchFile("no such file")

    lstat = stat

    def fstat(self, file_obj: object) -> SFTPAttrs:
        return _file(_incoming(file_obj).size_bytes, int(time.time()))

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        with _Told():
            files, folders = self._box.within(self._dock, path)
        for name in (b".", b".."):
            yield SFTPName(name, attrs=_folder())
        for found in files:
            yield SFTPName(found.name.rpartition(b"/")[2], attrs=_attributes(found))
        for name in sorted(folders):
            yield SFTPName(name, attrs=_folder())

    # --- never ------------------------------------------------------------------------------------

    def read(self, file_obj: object, offset: int, size: int) -> bytes:  # noqa: ARG002
        raise asyncssh.SFTPPermissionDenied("files can be pushed, not read")

    def readlink(self, path: bytes) -> bytes:  # noqa: ARG002
        raise asyncssh.SFTPPermissionDenied("there are no links")

    def symlink(self, oldpath: bytes, newpath: bytes) -> None:  # noqa: ARG002
        raise asyncssh.SFTPPermissionDenied("there are no links")

    link = symlink

    def rmdir(self, path: bytes) -> None:  # noqa: ARG002
        raise asyncssh.SFTPPermissionDenied("folders are part of names")

    def statvfs(self, path: bytes) -> asyncssh.SFTPVFSAttrs:  # noqa: ARG002
        raise asyncssh.SFTPOpUnsupported("not told")

    def fstatvfs(self, file_obj: object) -> asyncssh.SFTPVFSAttrs:  # noqa: ARG002
        raise asyncssh.SFTPOpUnsupported("not told")


class _Told:
    """Turns our errors into those of the protocol."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotFound):
            raise asyncssh.SFTPNoSuchFile(error.message) from error
        if isinstance(error, NotPermitted | InvalidInput):
            raise asyncssh.SFTPPermissionDenied(error.message) from error
        if isinstance(error, Conflict | EvidenceError):
            raise asyncssh.SFTPFailure(error.message) from error


def _incoming(file_obj: object) -> Incoming:
    if not isinstance(file_obj, Incoming):
        raise asyncssh.SFTPInvalidHandle("no such handle")
    return file_obj


def _folder() -> SFTPAttrs:
    return SFTPAttrs(permissions=stat.S_IFDIR | 0o700, size=0, atime=0, mtime=0, uid=0, gid=0)


def _attributes(found: Pushed) -> SFTPAttrs:
    return _file(found.size_bytes, found.mtime_s)


def _file(size_bytes: int, mtime_s: int) -> SFTPAttrs:
    return SFTPAttrs(
        permissions=stat.S_IFREG | 0o200, size=size_bytes, atime=mtime_s, mtime=mtime_s, uid=0, gid=0
    )
