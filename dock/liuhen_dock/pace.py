"""Who may send when: a limit by the hour of the day, and fair shares between cameras.

1. Bytes are handed out in pieces; of those who wait, the camera that had the fewest bytes is
   next. A camera that comes later starts level with the one that had least, so it neither
   starves the others nor is starved by them.
2. A limit is a debt that is slept off: who takes a piece waits until the pieces before it are
   paid for. The limit in force is the one at the moment a piece is taken.
3. A limit of zero is a pause: nobody gets a piece, and open requests end instead of idling.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import time, tzinfo

from liuhen_dock.clock import Clock

PIECE_BYTES = 1 << 20
LEAST_PIECE_BYTES = 16 << 10
PIECE_S = 0.25
"""Under a limit a piece is what goes in this time, so that no camera waits long for its turn."""
LOOK_AGAIN_S = 5.0


@dataclass(frozen=True)
class Hours:
    """A limit between two times of the day; ``until`` before ``since`` spans midnight."""

    since: time
    until: time
    bytes_per_s: int
    """0 is a pause."""

    def holds_at(self, at: time) -> bool:
        """Whether the limit is in force; equal times mean the whole day."""
        if self.since == self.until:
            return True
        if self.since < self.until:
            return self.since <= at < self.until
        return at >= self.since or at < self.until


class FairShare:
    """Bytes per camera, and who is next. No threads, no time."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}

    def join(self, camera: str) -> None:
        """A camera begins to send."""
        self._served.setdefault(camera, min(self._served.values(), default=0))

    def leave(self, camera: str) -> None:
        """A camera has nothing more to send."""
        self._served.pop(camera, None)

    def next_of(self, waiting: Iterable[str]) -> str:
        """Which of those who wait had least; the one that waits longest among equals."""
        return min(waiting, key=lambda camera: self._served.get(camera, 0))

    def charge(self, camera: str, size_bytes: int) -> None:
        """A camera was given bytes."""
        self._served[camera] = self._served.get(camera, 0) + size_bytes

    def served(self) -> dict[str, int]:
        """Bytes by camera, level at the time each joined."""
        return dict(self._served)


class RateLimit:
    """The limit by the hour, as a debt in time."""

    def __init__(self, hours: Sequence[Hours], clock: Clock, zone: tzinfo | None) -> None:
        self._hours = tuple(hours)
        self._clock = clock
        self._zone = zone
        self._paid_until = clock.monotonic()

    def bytes_per_s(self) -> int | None:
        """The limit in force now; None is none. The first that holds counts."""
        at = self._clock.now().astimezone(self._zone).time()
        return next((each.bytes_per_s for each in self._hours if each.holds_at(at)), None)

    @property
    def is_paused(self) -> bool:
        """Whether nothing may be sent at this hour."""
        return self.bytes_per_s() == 0

    def spend(self, size_bytes: int) -> float:
        """Take leave for a piece; how many seconds to wait before it is sent."""
        rate = self.bytes_per_s()
        now = self._clock.monotonic()
        self._paid_until = max(self._paid_until, now)
        if not rate:
            self._paid_until = now
            return 0.0
        delay_s = self._paid_until - now
        self._paid_until += size_bytes / rate
        return delay_s

    def piece_bytes(self) -> int:
        """How much to take at once."""
        rate = self.bytes_per_s()
        if rate is None:
            return PIECE_BYTES
        return max(LEAST_PIECE_BYTES, min(PIECE_BYTES, int(rate * PIECE_S)))


class Governor:
    """Leave to send, for threads: one per camera asks, a few at a time are let through.

    Args:
        limit: The limit by the hour.
        clock: Slept on.
        stop: Set when the agent ends; nobody waits any more.
        slots: How many pieces may be on their way at once.
    """

    def __init__(self, limit: RateLimit, clock: Clock, stop: threading.Event, *, slots: int = 4) -> None:
        self.limit = limit
        self._clock = clock
        self._stop = stop
        self._slots = slots
        self._shares = FairShare()
        self._waiting: list[str] = []
        self._under_way = 0
        self._changed = threading.Condition()

    @contextmanager
    def sending(self, camera: str) -> Iterator[None]:
        """As long as a camera has something to send."""
        with self._changed:
            self._shares.join(camera)
        try:
            yield
        finally:
            with self._changed:
                self._shares.leave(camera)
                self._changed.notify_all()

    @contextmanager
    def piece(self, camera: str, size_bytes: int) -> Iterator[None]:
        """Leave for one piece; given back when the piece is on its way."""
        with self._changed:
            self._waiting.append(camera)
            while not self._stop.is_set() and not self._may_go(camera):
                self._changed.wait(LOOK_AGAIN_S)
            self._waiting.remove(camera)
            self._under_way += 1
            self._shares.charge(camera, size_bytes)
            delay_s = self.limit.spend(size_bytes)
            self._changed.notify_all()
        try:
            if delay_s > 0:
                self._clock.wait(delay_s, self._stop)
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait see that the agent ends."""
        with self._changed:
            self._changed.notify_all()

    def served(self) -> dict[str, int]:
        """Bytes by camera, of those that send now."""
        with self._changed:
            return self._shares.served()

    def waiting(self) -> list[str]:
        """Cameras that wait for a piece, longest first."""
        with self._changed:
            return list(self._waiting)

    def _may_go(self, camera: str) -> bool:
        return self._under_way < self._slots and self._shares.next_of(self._waiting) == camera
