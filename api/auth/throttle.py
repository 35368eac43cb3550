"""How often one peer may guess, and how many passwords are proved at once: in memory, and bounded.

A guess costs this machine a core and 64 MiB for a moment. So few are proved at a time, nobody waits in a
thread for a turn, and a peer that keeps being wrong is told to come back later. The lock of an account is
apart from this (`storage.db.passwords`): it holds against guesses from many peers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

from fastapi import Request

from evidence.errors import Unavailable

AT_ONCE = 4
WRONG_MOST = 30
WINDOW_S = 60.0
PEERS_MOST = 4096


class Tally:
    """How often each of many was heard of within a minute; whoever was longest ago is forgotten first."""

    def __init__(self) -> None:
        self._heard: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._heard)

    def note(self, name: str) -> None:
        """Hear of somebody."""
        now = time.monotonic()
        with self._lock:
            since, count = self._heard.pop(name, (now, 0))
            if now - since >= WINDOW_S:
                since, count = now, 0
            self._heard[name] = (since, count + 1)
            while len(self._heard) > PEERS_MOST:
                self._heard.popitem(last=False)

    def count(self, name: str) -> int:
        """How often, since the first of this minute."""
        with self._lock:
            since, count = self._heard.get(name, (0.0, 0))
        return count if time.monotonic() - since < WINDOW_S else 0


class Throttle:
    """One for each application."""

    def __init__(self, *, at_once: int = AT_ONCE, wrong_most: int = WRONG_MOST) -> None:
        self._proving = threading.BoundedSemaphore(at_once)
        self._wrong_most = wrong_most
        self._wrong = Tally()

    @contextmanager
    def turn(self, peer: str) -> Iterator[None]:
        """A turn at proving a password; never waited for.

        Raises:
            Unavailable: Too many at once (``sign_in_busy``), or too many wrong ones from this peer
                (``sign_in_throttled``).
        """
        if self._wrong.count(peer) >= self._wrong_most:
            raise Unavailable(
                f"sign-in: expected at most {self._wrong_most} wrong passwords a minute, found more; wait",
                code="sign_in_throttled",
            )
        if not self._proving.acquire(blocking=False):
            raise Unavailable(
                "sign-in: expected a turn, found too many at once; try again", code="sign_in_busy"
            )
        try:
            yield
        finally:
            self._proving.release()

    def note_wrong(self, peer: str) -> None:
        """Count a wrong password."""
        self._wrong.note(peer)


def peer_of(request: Request, *, behind_proxy: bool) -> str:
    """Who is at the other end, as far as this machine or its declared proxy saw it.

    A network of IPv6 counts as one: whoever has an address there has 2^64.
    """
    seen = request.client.host if request.client else ""
    if behind_proxy:
        # The nearest proxy wrote the last one; what stands before it anybody may have sent.
        seen = request.headers.get("x-forwarded-for", seen).rpartition(",")[2].strip()
    try:
        address = ip_address(seen)
    except ValueError:
        return seen[:64]
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
