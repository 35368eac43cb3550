"""A real upload listener for tests: real sockets, real disk, a real object store behind it.

Only the two callables the lead process injects are small programs of our own: who a token is,
and what is written when an upload becomes an item. `main` runs the same in a process of its
own, to be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from evidence.clock import SystemClock
from evidence.errors import NotAuthenticated
from evidence.ids import new_id
from evidence.listening import Listener
from ingest.daemon.body import Patience
from ingest.daemon.http import UploadApp
from ingest.daemon.server import serve
from ingest.tus.sealing import FinishedUpload, Sealer
from ingest.tus.state import SealedUpload
from ingest.tus.uploads import UploadLimits, UploadStore
from storage.db.credentials import Uploader
from storage.objects.durable import write_durably
from storage.objects.local import LocalObjectStore, read_identity

AGENCY = UUID("0190a000-0000-7000-8000-0000000000aa")
TOKENS = {
    "dock-1-secret": Uploader(UUID(int=1), AGENCY, "CG01", dock_no="D1"),
    "dock-2-secret": Uploader(UUID(int=2), AGENCY, "CG01", dock_no="D2"),
    "camera-secret": Uploader(UUID(int=3), AGENCY, "CG01", "D3", device_no="0000007"),
}
AUTH = {"Authorization": "Bearer dock-1-secret", "Tus-Resumable": "1.0.0"}
OTHER_AUTH = {"Authorization": "Bearer dock-2-secret", "Tus-Resumable": "1.0.0"}
OCTETS = {"Content-Type": "application/offset+octet-stream"}


def authenticate(token: str) -> Uploader:
    if token not in TOKENS:
        raise NotAuthenticated("token: expected one we issued, found another")
    return TOKENS[token]


class Register:
    """What became of uploads: one JSON file per item, idempotent by upload id as intake is."""

    def __init__(self, folder: Path, objects: LocalObjectStore) -> None:
        self._folder = folder
        self._objects = objects
        self.failing: Exception | None = None
        self.finished: list[FinishedUpload] = []
        self.receipts: dict[str, str] = {}
        folder.mkdir(exist_ok=True)

    def seal(self, finished: FinishedUpload) -> SealedUpload:
        stored = self._objects.adopt(
            finished.path, finished.sha256, finished.size_bytes, finished.uploader.agency_id.hex
        )
        if self.failing is not None:
            raise self.failing
        path = self._folder / f"{finished.upload_id}.json"
        if not path.exists():
            item = {"item_id": str(new_id()), "key": stored.key, "sha256": finished.sha256.hex()}
            write_durably(path, json.dumps(item).encode())
            self.finished.append(finished)
        item = json.loads(path.read_bytes())
        item_id = UUID(item["item_id"])
        return SealedUpload(item_id, item_id, finished.sha256, "received")

    def items(self) -> list[dict[str, str]]:
        return [json.loads(path.read_bytes()) for path in sorted(self._folder.glob("*.json"))]


def open_objects(data: Path) -> LocalObjectStore:
    root = data / "objects"
    if root.exists():
        return LocalObjectStore.attach(root, read_identity(root).store_id)
    return LocalObjectStore.create(root)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PATIENCE = Patience(read_deadline_s=20)
LIMITS = UploadLimits(max_upload_bytes=1 << 40, max_open_uploads=8, expiry_s=3600, floor_bytes=0)


def path_of(reply: httpx.Response) -> str:
    """Where an upload is, below the listener it was made at."""
    return urlsplit(reply.headers["location"]).path


@dataclass
class Running:
    """A listener in a thread of the test process."""

    url: str
    port: int
    data: Path
    register: Register
    objects: LocalObjectStore
    store: UploadStore
    problems: list[str] = field(default_factory=list)

    def client(self) -> httpx.Client:
        # No TLS here, and loading the certificates of the world takes longer than a test.
        return httpx.Client(base_url=self.url, timeout=20, verify=False)  # noqa: S501

    def create(self, length: int, headers: Mapping[str, str] = AUTH, **more: str) -> str:
        """A new upload's path."""
        named = {name.replace("_", "-"): value for name, value in more.items()}
        with self.client() as client:
            reply = client.post("/uploads/", headers={**headers, "Upload-Length": str(length), **named})
        assert reply.status_code == 201, reply.text
        return path_of(reply)

    def patch(
        self, location: str, offset: int, body: bytes, headers: Mapping[str, str] = AUTH, **more: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in more.items()}
        with self.client() as client:
            return client.patch(
                location, headers={**headers, **OCTETS, "Upload-Offset": str(offset), **named}, content=body
            )

    def head(self, location: str, headers: Mapping[str, str] = AUTH) -> httpx.Response:
        with self.client() as client:
            return client.head(location, headers=dict(headers))

    def part(self, location: str) -> Path:
        return self.data / "uploads" / f"{location.rsplit('/', 1)[-1]}.part"


@contextlib.contextmanager
def running(
    data: Path,
    *,
    limits: UploadLimits = LIMITS,
    patience: Patience = PATIENCE,
    cors_origins: Sequence[str] = (),
    sweep_every_s: float = 0.2,
    clock: object = None,
    boot: UUID | None = None,
    tls: tuple[Path, Path] | None = None,
) -> Iterator[Running]:
    """A listener in a thread, stopped and waited for at the end."""
    objects = open_objects(data)
    register = Register(data / "items", objects)
    port = free_port()
    started: list[Running] = []
    failed: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        with UploadStore(data / "uploads", limits, clock or SystemClock(), boot=boot, lock_wait_s=1) as store:
            sealer = Sealer(store, register.seal)
            run = Running(
                f"{'https' if tls else 'http'}://127.0.0.1:{port}", port, data, register, objects, store
            )
            app = UploadApp(
                store,
                sealer,
                authenticate=authenticate,
                receipts=lambda record: register.receipts.get(record.upload_id),
                problems=lambda: run.problems,
                patience=patience,
                cors_origins=cors_origins,
            )
            started.append(run)
            listener = Listener("ingest", "127.0.0.1", port, *(tls or (None, None)))
            await serve(app, store, sealer, listener, stop, sweep_every_s=sweep_every_s)

    def in_thread() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as error:
            failed.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=in_thread)
    thread.start()
    try:
        wait_for_port(port, thread)
        yield started[0]
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


def wait_for_port(port: int, thread: threading.Thread | None = None) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if thread is not None and not thread.is_alive():
            return
        time.sleep(0.02)
    raise AssertionError(f"port {port}: expected a listener, found none")


def main() -> None:
    """``python -m tests.integration.tus_server DATA PORT``: the same in a process, until SIGTERM."""
    data, port = Path(sys.argv[1]), int(sys.argv[2])
    objects = open_objects(data)
    register = Register(data / "items", objects)

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        with UploadStore(data / "uploads", LIMITS, SystemClock()) as store:
            sealer = Sealer(store, register.seal)
            app = UploadApp(
                store,
                sealer,
                authenticate=authenticate,
                receipts=lambda record: register.receipts.get(record.upload_id),
                patience=PATIENCE,
                cors_origins=sys.argv[3:],
            )
            await serve(app, store, sealer, Listener("ingest", "127.0.0.1", port), stop, sweep_every_s=0.2)

    asyncio.run(run())


if __name__ == "__main__":
    main()
