"""Serving the upload listener, inside our own process and event loop.

One process, because an open upload has one running digest and one lock. What a line does is
`ingest.daemon.connection`; see docs/design/storage.md.
"""

from __future__ import annotations

import asyncio
import resource

import structlog

from evidence.listening import Listener
from ingest.daemon.connection import Allowance, Connection
from ingest.daemon.door import MAX_LINES, Door
from ingest.daemon.http import UploadApp
from ingest.tus.sealing import Sealer
from ingest.tus.uploads import UploadStore
from messaging.sockets import require_free

log = structlog.get_logger(__name__)

SWEEP_EVERY_S = 5.0
STOP_WAIT_S = 10.0
OPEN_FILES = 8 * MAX_LINES
"""A line, and two files of its upload; services are started with leave for 1,024 as a rule."""


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
        Unavailable: The port is taken, or the certificate cannot be read.
    """
    listener.require_private()
    require_free(listener)
    _raise_open_files()
    allowance = Allowance()
    door = Door(listener, allowance, lambda: Connection(app, allowance, lambda: app.is_stopping))
    sweeping = asyncio.create_task(_sweep(store, sealer, sweep_every_s))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({sweeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        app.is_stopping = True
        stopping.cancel()
        sweeping.cancel()
        await door.close()
        store.interrupt_all()
        await _let_go(allowance)
        (ended,) = await asyncio.gather(sweeping, return_exceptions=True)
        await sealer.stopped()
        sealer.close()
    if isinstance(ended, Exception):
        raise ended


def _raise_open_files() -> None:
    """Take the leave this process has to open more files, as far as lines may need it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _let_go(allowance: Allowance) -> None:
    """Let each sender hear its last reply, but wait for none longer than is polite."""
    lines = list(allowance.lines)
    for line in lines:
        if line.is_idle:
            line.close()
    serving = [asyncio.create_task(line.finished()) for line in lines]
    if serving:
        _, late = await asyncio.wait(serving, timeout=STOP_WAIT_S)
        for line in lines:
            line.cancel()
        await asyncio.gather(*late)
    # One more turn of the loop, for replies that are written but not yet sent.
    await asyncio.sleep(0)
    for line in list(allowance.lines):
        line.close()


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
