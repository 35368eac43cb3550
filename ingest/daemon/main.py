"""The ingest daemon: the upload listener and the watched folders of one host, in one process."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable

import structlog

from config.load import load_settings
from config.logs import set_up_logging
from config.settings import Settings
from evidence.clock import Clock
from evidence.errors import EvidenceError, Unavailable
from evidence.listening import Listener
from ingest.daemon.folders import start_folders
from ingest.daemon.holding import Holder
from ingest.daemon.http import UploadApp
from ingest.daemon.server import serve
from ingest.tus.sealing import FinishedUpload, Sealer
from ingest.tus.state import SealedUpload, Uploader, UploadRecord
from ingest.tus.uploads import UploadLimits, UploadStore
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, credentials, items
from storage.open import Storage, open_storage

log = structlog.get_logger()


def authenticator(storage: Storage) -> Callable[[str], Uploader]:
    """Who an upload token stands for, by the database."""

    def authenticate(token: str) -> Uploader:
        with storage.database.read() as session:
            found = credentials.uploader_of(session, token, storage.clock.now())
        return Uploader(
            token_id=found.token_id,
            agency_id=found.agency_id,
            agency_code=found.agency_code,
            dock_no=found.dock_no,
            device_no=found.device_no,
        )

    return authenticate


def receipt_finder(storage: Storage) -> Callable[[UploadRecord], str | None]:
    """The signed receipt of an upload; None until the stored bytes were read back."""

    def receipt_of(record: UploadRecord) -> str | None:
        with storage.database.read() as session:
            reception = items.reception_by_key(session, record.uploader.agency_id, f"tus:{record.upload_id}")
        return None if reception is None else reception.receipt

    return receipt_of


def problems_of(storage: Storage) -> list[str]:
    """What keeps this host from taking uploads now, one line each."""
    found = []
    try:
        with storage.database.read() as session:
            agencies.agencies(session)
    except Unavailable as error:
        found.append(error.message)
    try:
        storage.objects.reserve(0)
    except EvidenceError as error:
        found.append(error.message)
    return found


def seal_with(holder: Holder) -> Callable[[FinishedUpload], SealedUpload]:
    """What makes an item of a whole upload."""

    def seal(finished: FinishedUpload) -> SealedUpload:
        accepted = holder.hold(finished.uploader.agency_id, finished.staged())
        return SealedUpload(accepted.item_id, accepted.reception_id, accepted.sha256, accepted.custody)

    return seal


def upload_store(settings: Settings, clock: Clock) -> UploadStore:
    """The open uploads of this host: in a folder of its own where it has a name of its own."""
    ingest = settings.ingest
    limits = UploadLimits(
        max_upload_bytes=ingest.max_upload_bytes,
        max_open_uploads=ingest.max_open_uploads,
        expiry_s=ingest.expiry_s,
        floor_bytes=settings.data.free_floor_bytes,
    )
    folder = settings.data.dir / "uploads"
    if ingest.host_id is None:
        return UploadStore(folder, limits, clock)
    return UploadStore(folder / ingest.host_id, limits, clock, host=ingest.host_id)


async def run(settings: Settings, storage: Storage, holder: Holder) -> None:
    """Serve uploads and watch folders until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ingest = settings.ingest
    listener = Listener(
        "ingest", ingest.host, ingest.port, ingest.tls_cert, ingest.tls_key, ingest.behind_proxy
    )
    folders_stop = threading.Event()
    with upload_store(settings, storage.clock) as store:
        sealer = Sealer(store, seal_with(holder))
        app = UploadApp(
            store,
            sealer,
            authenticate=authenticator(storage),
            receipts=receipt_finder(storage),
            problems=lambda: problems_of(storage),
            read_deadline_s=ingest.read_deadline_s,
            public_url=ingest.public_url,
            behind_proxy=ingest.behind_proxy,
        )
        threads = start_folders(settings, storage, holder, folders_stop)
        log.info("ingest_ready", host=ingest.host, port=ingest.port, folders=len(threads))
        try:
            await serve(app, store, sealer, listener, stop)
        finally:
            folders_stop.set()
            for thread in threads:
                thread.join(10)


def main() -> None:
    """Run the daemon; one clear line and status 1 when it cannot start."""
    settings = load_settings()
    set_up_logging("ingest")
    try:
        storage = open_storage(settings)
        publisher = EventPublisher(settings.events_publish_url)
        holder = Holder(storage, publisher, Announcer(settings.broker_url))
        try:
            asyncio.run(run(settings, storage, holder))
        finally:
            holder.close()
    except EvidenceError as error:
        log.error("ingest_stopped", code=error.code, reason=error.message)  # noqa: TRY400 - one clear line
        sys.exit(1)
    publisher.close()


if __name__ == "__main__":
    main()
