"""The ingest daemon of one host, in one process: the upload listener and every other way files come in."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

from config.load import SettingsError, load_settings
from config.logs import set_up_logging
from config.settings import Settings
from evidence.errors import EvidenceError
from ingest.daemon.holding import Holder
from ingest.daemon.listening import seal_with, upload_app, upload_listener, upload_store
from ingest.daemon.server import serve
from ingest.daemon.sources import Sources
from ingest.naming import Vocabulary
from ingest.tus.sealing import Sealer
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.open import Storage, open_storage

log = structlog.get_logger()


async def run(settings: Settings, storage: Storage, holder: Holder) -> None:
    """Serve uploads and take from every source until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listener = upload_listener(settings)
    with upload_store(settings, storage.clock) as store, Sources(settings, storage, holder) as sources:
        sealer = Sealer(store, seal_with(storage, holder))
        app = upload_app(settings, storage, store, sealer)
        log.info("ingest_ready", host=listener.host, port=listener.port, sources=len(sources))
        await serve(app, store, sealer, listener, stop)


def main() -> None:
    """Run the daemon; one clear line and status 1 when it cannot start."""
    settings = load_settings()
    set_up_logging("ingest")
    try:
        storage = open_storage(settings)
        publisher = EventPublisher(settings.events_publish_url)
        vocabulary = Vocabulary.of(settings.ingest)
        holder = Holder(storage, publisher, Announcer(settings.broker_url), vocabulary)
        try:
            asyncio.run(run(settings, storage, holder))
        finally:
            holder.close()
    except EvidenceError as error:
        log.error("ingest_stopped", code=error.code, reason=error.message)  # noqa: TRY400 - one clear line
        sys.exit(1)
    except SettingsError as error:
        log.error("ingest_stopped", code="settings", reason=str(error))  # noqa: TRY400 - one clear line
        sys.exit(1)
    publisher.close()


if __name__ == "__main__":
    main()
