"""A server that runs in our own process and event loop."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from granian.constants import Interfaces

from api import serving
from evidence.listening import Listener
from tests.support.scene import free_port


def test_what_was_loaded_before_serving_is_not_collected_over_while_serving() -> None:
    frozen = []

    async def app(scope: dict[str, Any], _: object, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] == "http":
            frozen.append(gc.get_freeze_count())
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    port = free_port()

    def ask() -> None:
        with httpx.Client(transport=httpx.HTTPTransport(retries=8), trust_env=False) as client:
            client.get(f"http://127.0.0.1:{port}/")
        os.kill(os.getpid(), signal.SIGTERM)

    before, asking = gc.get_freeze_count(), threading.Thread(target=ask)
    asking.start()
    try:
        serving.run(app, Listener("api", "127.0.0.1", port, None, None, False), Interfaces.ASGI)
    finally:
        asking.join()
        gc.unfreeze()
    assert frozen[0] > before + 100_000
