"""Live events for the page: one reader of the bus for each agency, many listeners.

News, never evidence: a listener that is too slow misses some, and is told how many.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from evidence.errors import Unavailable
from evidence.events import Topic
from messaging.events import EventReader
from storage.db import cases
from storage.open import Storage

log = structlog.get_logger()
QUEUE_MOST = 256
POLL_S = 0.5
STREAMS_MOST = 5
CasesOf = Callable[[UUID, str], frozenset[UUID]]
"""The cases an item of an agency is tied to now."""


@dataclass(eq=False)
class Listener:
    """One open connection: a bounded queue in its own event loop.

    Attributes:
        case: Of items it is told of those of this case alone, and of those that leave it.
    """

    agency: str
    agency_id: UUID
    account: UUID
    topics: frozenset[str]
    loop: asyncio.AbstractEventLoop
    case: UUID | None = None
    queue: asyncio.Queue[Mapping[str, Any]] = field(default_factory=lambda: asyncio.Queue(maxsize=QUEUE_MOST))
    missed: int = 0

    def offer(self, event: Mapping[str, Any]) -> None:
        """Take an event, in the loop's thread; the oldest goes when there is no room."""
        if self.queue.full():
            self.queue.get_nowait()
            self.missed += 1
        self.queue.put_nowait(event)

    async def next(self, timeout_s: float) -> Mapping[str, Any] | None:
        """The next event, or None when none came in time; what is there already is given at once."""
        if not self.queue.empty():
            return self.queue.get_nowait()
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                return await self.queue.get()
        except TimeoutError:
            return None


class _Reader:
    """The one reader of an agency's events, and who listens; touched under the room's lock alone."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []


class NewsRoom:
    """Reads the bus while anybody listens.

    Args:
        url: Where the forwarder hands events out.
        cases_of: Asked once an event of an item, while anybody listens to one case.
    """

    def __init__(self, url: str, cases_of: CasesOf) -> None:
        self._url = url
        self._cases_of = cases_of
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}

    def join(self, listener: Listener) -> None:
        """Start hearing; where nobody reads for the agency, a reader starts.

        Raises:
            Unavailable: The account listens often enough already (``streams_too_many``).
        """
        with self._lock:
            reader = self._readers.get(listener.agency)
            present = reader.listeners if reader is not None else []
            if sum(one.account == listener.account for one in present) >= STREAMS_MOST:
                raise Unavailable(
                    f"events: expected at most {STREAMS_MOST} streams of an account, found more; close one",
                    code="streams_too_many",
                )
            if reader is None:
                # Whoever left last may have left a reader that has not noticed: that one goes on.
                reader = self._readers[listener.agency] = _Reader()
                name = f"events-{listener.agency}"
                arguments = (listener.agency, reader)
                threading.Thread(target=self._read, args=arguments, name=name, daemon=True).start()
            reader.listeners.append(listener)

    def leave(self, listener: Listener) -> None:
        """Stop hearing; the reader ends with the agency's last listener. Leaving twice is fine."""
        with self._lock:
            reader = self._readers.get(listener.agency)
            if reader is not None and listener in reader.listeners:
                reader.listeners.remove(listener)

    def _read(self, agency: str, reader: _Reader) -> None:
        try:
            with closing(EventReader(self._url, agency)) as bus:
                while True:
                    event = bus.next(POLL_S)
                    with self._lock:
                        present = list(reader.listeners)
                        if not present:
                            # In the same breath as the look: whoever joins from here on starts another.
                            del self._readers[agency]
                            return
                    if event is not None:
                        self._tell(present, event)
        finally:
            with self._lock:
                if self._readers.get(agency) is reader:
                    del self._readers[agency]

    def _tell(self, present: Sequence[Listener], event: Mapping[str, Any]) -> None:
        heed = [one for one in present if event["topic"] in one.topics and not one.loop.is_closed()]
        if event["topic"] == Topic.ITEM and any(one.case is not None for one in heed):
            try:
                tied = self._cases_of(heed[0].agency_id, event["subject_id"])
                # Who has the case open that an item leaves is told too, though it is not tied there now.
                about = event["facts"].get("case")
                heed = [one for one in heed if one.case is None or one.case in tied or str(one.case) == about]
            except Unavailable:
                # One look too many costs less than one too few.
                log.warning("case_unknown", item=event["subject_id"])
        for listener in heed:
            listener.loop.call_soon_threadsafe(listener.offer, event)


def cases_in(storage: Storage) -> CasesOf:
    """What an item is tied to by the bindings in force.

    Raises:
        Unavailable: The database does not answer.
    """

    def cases_of(agency_id: UUID, item_id: str) -> frozenset[UUID]:
        with storage.database.read() as session:
            return frozenset(row.case_id for row in cases.bindings_of(session, agency_id, UUID(item_id)))

    return cases_of
