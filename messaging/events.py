"""The ZeroMQ bus of live events: senders and readers meet at a forwarder.

PUB/SUB drops silently when flooded or while nobody listens: it carries news, never footage, and
nothing is decided by it. The forwarder (XSUB in, XPUB out) runs in the relay.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zmq

from evidence.events import Event

HIGH_WATER = 10_000


class EventPublisher:
    """A process's way to tell news. Threads may share it; sending never blocks and never fails.

    Args:
        url: Where the forwarder takes events.
    """

    def __init__(self, url: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        self._socket.connect(url)
        self._lock = threading.Lock()

    def publish(self, event: Event) -> None:
        """Tell it to whoever listens now."""
        with self._lock:
            self._socket.send_multipart(event.frames(), flags=zmq.NOBLOCK)

    def close(self) -> None:
        """Send what is queued, for at most 0.2 s, and let go."""
        with self._lock:
            self._socket.close()
            self._context.term()


class EventReader:
    """Events of one agency, as they come.

    Args:
        url: Where the forwarder hands events out.
        agency: Code of the agency.
    """

    def __init__(self, url: str, agency: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        self._socket.setsockopt(zmq.SUBSCRIBE, f"{agency}/".encode())
        self._socket.connect(url)

    def next(self, timeout_s: float) -> dict[str, Any] | None:
        """The next event, or None when none came in time."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        _, body = self._socket.recv_multipart()
        event: dict[str, Any] = json.loads(body)
        return event

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            event = self.next(1.0)
            if event is not None:
                yield event

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._context.term()


class Forwarder:
    """XSUB to XPUB, in a thread of the relay.

    Args:
        publish_url: Bound for senders.
        subscribe_url: Bound for readers.
    """

    def __init__(self, publish_url: str, subscribe_url: str) -> None:
        self._context = zmq.Context()
        self._incoming = self._bind(zmq.XSUB, publish_url)
        self._outgoing = self._bind(zmq.XPUB, subscribe_url)
        self._control_url = f"inproc://forwarder-{id(self)}"
        self._thread = threading.Thread(target=self._run, name="events-forwarder", daemon=True)
        self._control = self._context.socket(zmq.PAIR)
        self._control.bind(self._control_url)

    def start(self) -> None:
        """Forward until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and free the addresses."""
        self._control.send(b"TERMINATE")
        self._thread.join(5)
        self._control.close(0)
        self._context.term()

    def _bind(self, kind: int, url: str) -> zmq.Socket[bytes]:
        if url.startswith("ipc://"):
            path = Path(url.removeprefix("ipc://"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.bind(url)
        return socket

    def _run(self) -> None:
        control = self._context.socket(zmq.PAIR)
        control.connect(self._control_url)
        try:
            zmq.proxy_steerable(self._incoming, self._outgoing, None, control)
        finally:
            for socket in (control, self._incoming, self._outgoing):
                socket.close(0)
