"""Live events for the page: one reader of the bus for each agency, many listeners.

News, never evidence: a listener that is too slow misses some, and is told how many.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messaging.events import EventReader

QUEUE_MOST = 256
POLL_S = 0.5


@dataclass(eq=False)
class Listener:
    """One open connection: a bounded queue in its own event loop."""

    agency: str
    topics: frozenset[str]
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Mapping[str, Any]] = field(default_factory=lambda: asyncio.Queue(maxsize=QUEUE_MOST))
    missed: int = 0

    def offer(self, event: Mapping[str, Any]) -> None:
        """Take an event, in the loop's thread; the oldest goes when there is no room."""
        if self.queue.full():
            self.queue.get_nowait()
            self.missed += 1
        self.queue.put_nowait(event)


class NewsRoom:
    """Reads the bus while anybody listens.

    Args:
        url: Where the forwarder hands events out.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}

    def join(self, listener: Listener) -> None:
        """Start hearing; the agency's first listener starts its reader."""
        with self._lock:
            present = self._listeners.setdefault(listener.agency, [])
            present.append(listener)
            if len(present) == 1:
                name = f"events-{listener.agency}"
                threading.Thread(target=self._read, args=(listener.agency,), name=name, daemon=True).start()

    def leave(self, listener: Listener) -> None:
        """Stop hearing; the reader ends with the agency's last listener."""
        with self._lock:
            present = self._listeners.get(listener.agency, [])
            if listener in present:
                present.remove(listener)

    def _read(self, agency: str) -> None:
        reader = EventReader(self._url, agency)
        try:
            while True:
                event = reader.next(POLL_S)
                with self._lock:
                    present = list(self._listeners.get(agency, []))
                    if not present:
                        # Whoever joins from here on starts a reader of their own.
                        self._listeners.pop(agency, None)
                        return
                if event is not None:
                    _tell(present, event)
        finally:
            reader.close()


def _tell(present: list[Listener], event: Mapping[str, Any]) -> None:
    for listener in present:
        if event["topic"] in listener.topics and not listener.loop.is_closed():
            listener.loop.call_soon_threadsafe(listener.offer, event)
