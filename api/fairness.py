"""What one holder of an address may take of a server that all share: how many at once, and how slowly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from evidence.errors import Unavailable

CROWDED = "grant_crowded"


class Shares:
    """How much is being done for each grant; what asks for more is refused until some of it is done.

    Threads may share it.

    Args:
        most: At once, for one grant or set; what alone is more may be done alone.
        what: What is counted, for the refusal.
        code: What the refusal is called.
    """

    def __init__(self, most: int, what: str, code: str = CROWDED) -> None:
        self._most, self._what, self._code = most, what, code
        # By number: the hash of a UUID is made in Python, and this is asked at every range.
        self._held: dict[int, int] = {}
        self._told: set[int] = set()
        self._lock = threading.Lock()

    def take(self, grant_id: UUID, count: int = 1) -> None:
        """Begin something for a grant; `give_back` of as much must follow.

        Raises:
            Unavailable: Enough is being done for it.
        """
        number = grant_id.int
        with self._lock:
            held = self._held.get(number, 0)
            if not held or held + count <= self._most:
                self._held[number] = held + count
                return
        raise Unavailable(
            f"grant {grant_id}: expected at most {self._most} {self._what} at once, found more; "
            "ask again when some of them are done",
            code=self._code,
        )

    def give_back(self, grant_id: UUID, count: int = 1) -> None:
        """Something for a grant is done."""
        number = grant_id.int
        with self._lock:
            left = self._held.get(number, 0) - count
            if left:
                self._held[number] = left
            else:
                # Of nothing, an empty lane, two may have been begun.
                self._held.pop(number, None)
                self._told.discard(number)

    @contextmanager
    def taken(self, grant_id: UUID, count: int) -> Iterator[None]:
        """While something is done for a grant.

        Raises:
            Unavailable: As `take`.
        """
        self.take(grant_id, count)
        try:
            yield
        finally:
            self.give_back(grant_id, count)

    def is_first_refusal(self, grant_id: UUID) -> bool:
        """Whether nobody was told of this crowd yet; a grant that came to rest may be told of again."""
        with self._lock:
            is_first = grant_id.int in self._held and grant_id.int not in self._told
            if is_first:
                self._told.add(grant_id.int)
            return is_first

    def nobody_was_told(self, grant_id: UUID) -> None:
        """The next refusal is a first one again."""
        with self._lock:
            self._told.discard(grant_id.int)


class Pace:
    """How fast a reader takes one answer.

    1. Between two bytes lie at most `stall_s`.
    2. In each `stall_s` it takes `least_bytes_s` on the average.

    Args:
        now_s: Any clock that never goes back; later calls read the same one.
        taken_bytes: What it has taken by then, counted from anywhere.
    """

    STALLED, SLOW = "stalled", "slow"

    def __init__(self, now_s: float, taken_bytes: int, stall_s: float, least_bytes_s: float) -> None:
        self._stall_s, self._least_bytes = stall_s, least_bytes_s * stall_s
        self._taken = self._taken_before = taken_bytes
        self._moved_at_s = self._began_s = now_s

    def fault(self, now_s: float, taken_bytes: int) -> str | None:
        """Why the reader must go, if it must; called every now and then while the reader is waited for."""
        if taken_bytes != self._taken:
            self._taken, self._moved_at_s = taken_bytes, now_s
        elif now_s - self._moved_at_s >= self._stall_s:
            return self.STALLED
        if now_s - self._began_s >= self._stall_s:
            if taken_bytes - self._taken_before < self._least_bytes:
                return self.SLOW
            self._taken_before, self._began_s = taken_bytes, now_s
        return None

    def excuse(self, seconds: float) -> None:
        """So long the reader waited for us."""
        self._moved_at_s += seconds
        self._began_s += seconds
