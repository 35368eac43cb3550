"""A dock that can only push, and an installation whose listeners it pushes to."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import hashlib
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncssh

from config.settings import Settings
from ingest.daemon.holding import hold
from ingest.daemon.pushed import PushListeners, dropbox_source, open_dropbox
from ingest.sources.base import ScanResult
from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_shelf import Dock, Pushed
from ingest.sources.pulling import LATE_REST_S, PullSource
from storage.db import agencies, credentials, items
from storage.db.tables import Item, Reception
from storage.open import Storage
from tests.support.held_shift import verify_once
from tests.support.installations import settings_for
from tests.support.places import certificate

FOOTAGE = os.urandom(1 << 20)


class SlowDisk:
    """A disk whose first sync takes until it is let go."""

    def __init__(self) -> None:
        self.is_syncing = threading.Event()
        self.let_go = threading.Event()
        self._lock = threading.Lock()
        self._is_first = True

    def sync(self, descriptor: int) -> None:
        with self._lock:
            is_first, self._is_first = self._is_first, False
        if is_first:
            self.is_syncing.set()
            assert self.let_go.wait(30)
        os.fdatasync(descriptor)


@dataclass
class Desk:
    """An installation whose listeners are on, and one dock with its token."""

    settings: Settings
    storage: Storage
    token: str
    box: Dropbox = field(init=False)
    listeners: PushListeners = field(init=False)
    source: PullSource = field(init=False)

    def start(self, sync: Callable[[int], None] = os.fdatasync) -> None:
        self.box = open_dropbox(self.settings, self.storage, sync)
        self.listeners = PushListeners(self.settings, self.storage, self.box)
        self.source = dropbox_source(self.settings, self.storage, self, self.box)  # type: ignore[arg-type]

    def hold(self, agency_id: object, staged: object) -> object:
        return hold(self.storage, agency_id, staged)  # type: ignore[arg-type]

    @property
    def sftp_port(self) -> int:
        assert self.listeners.sftp is not None
        return self.listeners.sftp.port

    @property
    def ftp_port(self) -> int:
        assert self.listeners.ftp is not None
        return int(self.listeners.ftp.server_port)

    def sftp(self, work: object, **options: object) -> object:
        """Do something with an SFTP client."""

        async def run() -> object:
            told = {"username": "D-1", "password": self.token, "client_keys": None, **options}
            async with (
                asyncssh.connect(
                    "127.0.0.1",
                    self.sftp_port,
                    known_hosts=None,
                    config=None,
                    agent_path=None,
                    **told,  # type: ignore[arg-type]
                ) as connection,
                connection.start_sftp_client() as client,
            ):
                return await work(client, connection)  # type: ignore[operator]

        return asyncio.run(run())

    @contextlib.contextmanager
    def ftp(self, token: str | None = None, user: str = "D-1") -> Iterator[ftplib.FTP_TLS]:
        context = ssl.create_default_context(cafile=certificate()[0])
        client = ftplib.FTP_TLS(  # noqa: S321 -- it is what docks speak
            context=context, timeout=10, encoding="utf-8"
        )
        client.connect("127.0.0.1", self.ftp_port)
        try:
            client.login(user, token or self.token)
            client.prot_p()
            yield client
        finally:
            client.close()

    def on_slow_disk(self) -> SlowDisk:
        """Start anew on a disk whose first sync takes until it is let go."""
        self.listeners.close()
        slow = SlowDisk()
        self.start(slow.sync)
        return slow

    def push_whole(self, name: str, content: bytes) -> None:
        self.sftp(putting(f"{name}.part", content, name))

    def names(self) -> list[str]:
        """What the dock sees."""
        return sorted(each.name.decode() for each in self.seen())

    def seen(self) -> list[Pushed]:
        return self.box.within(Dock(self._agency_id, "D-1", None, ""), b"")[0]

    def parts(self) -> list[Path]:
        """Bytes of pushed files on our disk."""
        return list((self.settings.data.dir / "pushed").rglob("*.part"))

    @property
    def _agency_id(self) -> UUID:
        with self.storage.database.read() as session:
            return agencies.agencies(session)[0].id

    def wait_until_closed(self) -> None:
        """Until no transfer is open."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            files = self.seen()
            if files and all(each.state != "open" for each in files):
                return
            time.sleep(0.01)
        raise AssertionError("still open")

    def wait_until_nobody_is_there(self) -> None:
        """Until both listeners have seen their docks go."""
        doors = (self.listeners.sftp, self.listeners.ftp)
        until = time.monotonic() + 10
        while any(door.doorkeeper.connections for door in doors if door is not None):
            assert time.monotonic() < until, "still there"
            time.sleep(0.01)

    def read_back(self) -> None:
        """Have every verifying job done, as a worker would."""
        while verify_once(self.settings, self.storage, self.settings.data.dir):
            pass

    def take(self) -> list[str]:
        return self.source.scan_once().taken

    def rest(self) -> ScanResult:
        """Two looks, so far apart that what lies beside a file counts; what the second came to."""
        self.source.scan_once()
        now_s = self.source._monotonic_s()
        self.source._monotonic_s = lambda: now_s + LATE_REST_S + 1
        return self.source.scan_once()

    def wait_for_bytes(self, size_bytes: int) -> None:
        """Until a transfer has brought so much."""
        until = time.monotonic() + 10
        while [each.size_bytes for each in self.seen()] != [size_bytes]:
            assert time.monotonic() < until, "it does not come"
            time.sleep(0.01)

    def receptions(self) -> list[Reception]:
        with self.storage.database.read() as session:
            found = list(session.query(Reception).order_by(Reception.id))
            session.expunge_all()
            return found

    def digests(self) -> list[str]:
        with self.storage.database.read() as session:
            found = session.query(Item).all()
            return sorted(items.object_of(session, each).sha256.hex() for each in found)


def putting(name: str, content: bytes, whole_name: str | None = None) -> object:
    async def put(client: asyncssh.SFTPClient, _: object) -> None:
        async with client.open(name, "wb") as file:
            await file.write(content)
        if whole_name is not None:
            await client.rename(name, whole_name)

    return put


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def started_desk(tmp_path: Path, sqlite_storage: Storage) -> Iterator[Desk]:
    """One with a token for a dock, until the test is over."""
    cert, key = certificate()
    settings = settings_for(
        tmp_path, f"sqlite:///{tmp_path / 'test.db'}",
        **{"ingest.sftp": {"enabled": True, "port": 0, "failed_logins": 3},
           "ingest.ftp": {"enabled": True, "port": 0, "tls_cert": cert, "tls_key": key, "failed_logins": 3}},
    )  # fmt: skip
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        token, _ = credentials.issue_upload_token(
            session, agency, dock_no="D-1", device_id=None, now=sqlite_storage.clock.now(), life=None
        )
    desk = Desk(settings, sqlite_storage, token)
    desk.start()
    yield desk
    desk.listeners.close()


def token_of(desk: Desk) -> tuple[UUID, UUID]:
    with desk.storage.database.read() as session:
        found = credentials.uploader_of(session, desk.token, desk.storage.clock.now())
    return found.agency_id, found.token_id
