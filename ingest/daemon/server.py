"""Serving the upload listener: granian inside our own process and event loop.

One process, because an open upload has one running digest and one lock. Measured over real
sockets, granian 2.8 gives ASGI what tus needs: a sender that vanishes is seen at once, also in
a chunked body; a reader that stops reading stops the sender; a reply before the end of the
body is sent and the connection closed. See docs/design/storage.md.
"""

from __future__ import annotations

import asyncio

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from evidence.errors import Unavailable
from evidence.listening import Listener
from ingest.daemon.http import UploadApp
from ingest.tus.sealing import Sealer
from ingest.tus.uploads import UploadStore
from messaging.sockets import require_free

log = structlog.get_logger(__name__)

SWEEP_EVERY_S = 5.0
STOP_WAIT_S = 10.0
MAX_CONNECTIONS = 512
HEADER_BUFFER_BYTES = 2 << 20
"""Large enough to read metadata of a megabyte, in base64, and refuse it in words. Bodies are read through
it as well: at 256 KiB eight uploads at once hold 50 MiB less, for a fifth more CPU."""
HEADER_READ_MS = 30_000
"""Who has not sent its headers by then is let go; of bodies see `ingest.daemon.body`."""


async def serve(
    app: UploadApp,
    store: UploadStore,
    sealer: Sealer,
    listener: Listener,
    stop: asyncio.Event,
    *,
    sweep_every_s: float = SWEEP_EVERY_S,
) -> None:
    """Serve until ``stop`` is set, then let every sender go with what it has acknowledged.

    Raises:
        InvalidInput: The line would not be private.
        Unavailable: The port is taken, or the server ended by itself.
    """
    listener.require_private()
    require_free(listener)
    server = _server(app, listener)
    serving = asyncio.create_task(server.serve())
    sweeping = asyncio.create_task(_sweep(store, sealer, sweep_every_s))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, sweeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        app.is_stopping = True
        stopping.cancel()
        sweeping.cancel()
        store.interrupt_all()
        server.stop()  # type: ignore[no-untyped-call]
        _, late = await asyncio.wait({serving}, timeout=STOP_WAIT_S)
        for task in late:
            task.cancel()
        ended = await asyncio.gather(serving, sweeping, return_exceptions=True)
        await sealer.stopped()
        sealer.close()
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome
    if not stop.is_set():
        raise Unavailable(
            "upload listener: expected to serve until stopped, found it ended", code="server_ended"
        )


def _server(app: UploadApp, listener: Listener) -> Server:
    return Server(
        app,
        address=listener.host,
        port=listener.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=MAX_CONNECTIONS,
        backpressure=MAX_CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_READ_MS, max_buffer_size=HEADER_BUFFER_BYTES),
        ssl_cert=listener.tls_cert,
        ssl_key=listener.tls_key,
        log_enabled=False,
    )


async def _sweep(store: UploadStore, sealer: Sealer, every_s: float) -> None:
    """Seal what a crash or a busy database left behind, and drop what expired."""
    while True:
        try:
            await sealer.sweep()
            if dropped := await store.drop_expired():
                log.info("upload:expired", count=dropped)
        except Exception:
            # A failing disk must not take the listener with it: it still answers what it holds.
            log.exception("upload:sweep_failed")
        await asyncio.sleep(every_s)
