"""Serving: granian inside our own process and event loop, on a line that others cannot read.

One process: whoever supervises `liuhen api` or `liuhen media` supervises the server itself, and no
worker can outlive it. Scale out by more processes behind a proxy.
"""

from __future__ import annotations

import asyncio
import gc
import signal

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from config.settings import ApiSettings, MediaSettings
from evidence.errors import Unavailable
from evidence.listening import Listener
from messaging.sockets import require_free

STOP_WAIT_S = 10.0
SETTLE_S = 0.3
MAX_CONNECTIONS = 1024
HEADER_BUFFER_BYTES = 64 << 10
log = structlog.get_logger()


def listener_of(name: str, settings: ApiSettings | MediaSettings) -> Listener:
    """The listener a group of settings describes."""
    return Listener(
        name, settings.host, settings.port, settings.tls_cert, settings.tls_key, settings.behind_proxy
    )


async def serve(
    target: object,
    listener: Listener,
    interface: Interfaces,
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set.

    Raises:
        InvalidInput: The line would not be private.
        Unavailable: The port is taken, or the server ended by itself.
    """
    listener.require_private()
    require_free(listener)
    server = Server(
        target,
        address=listener.host,
        port=listener.port,
        interface=interface,
        http=HTTPModes.http1,
        websockets=False,
        backlog=MAX_CONNECTIONS,
        backpressure=MAX_CONNECTIONS,
        http1_settings=HTTP1Settings(max_buffer_size=HEADER_BUFFER_BYTES),
        ssl_cert=listener.tls_cert,
        ssl_key=listener.tls_key,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.stop()  # type: ignore[no-untyped-call]
        _, late = await asyncio.wait({serving}, timeout=STOP_WAIT_S)
        for task in late:
            task.cancel()
        ended = (await asyncio.gather(serving, return_exceptions=True))[0]
        # The server's own threads let go of the loop a moment after it ended.
        await asyncio.sleep(SETTLE_S)
    if isinstance(ended, Exception):
        raise ended
    if not stop.is_set():
        raise Unavailable(f"{listener.name} listener: expected to serve until stopped, found it ended")


def set_apart_what_stays() -> None:
    """Keep the garbage collector off what was loaded until now.

    A full collection walks over a quarter of a million objects of libraries, and everything waits for it, for
    0.1 s and more. What requests make is walked over in a few milliseconds.
    """
    gc.collect()
    gc.freeze()


def run(target: object, listener: Listener, interface: Interfaces) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        InvalidInput, Unavailable: As `serve`.
    """

    async def until_told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        log.info("listening", listener=listener.name, host=listener.host, port=listener.port)
        await serve(target, listener, interface, stop)

    set_apart_what_stays()
    asyncio.run(until_told())
