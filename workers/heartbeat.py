"""Keeping a lease alive while a task works, and noticing when it is lost."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from evidence.errors import Unavailable
from storage.db import jobs
from storage.db.jobs import Lease
from storage.open import Storage


class Heartbeat:
    """Extends a lease from a thread of its own, four times a lease.

    A worker that was frozen and wakes up finds here, or at the latest at its commit, that the fence
    has moved on. While the database cannot be reached the lease is taken as held until it would have
    run out by this machine's monotonic clock.

    Args:
        lease: The lease won.
        lease_s: Its length in seconds.
    """

    def __init__(self, storage: Storage, lease: Lease, lease_s: float) -> None:
        self._storage = storage
        self._lease = lease
        self._lease_s = lease_s
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._permille = 0
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def is_lost(self) -> bool:
        """Whether the task must stop."""
        return self._lost.is_set()

    def progress(self, fraction: float) -> None:
        """Remember how far the task is; written with the next beat."""
        self._permille = max(0, min(1000, int(fraction * 1000)))

    @property
    def permille(self) -> int:
        """How far the task is."""
        return self._permille

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        held_until = time.monotonic() + self._lease_s
        while not self._stop.wait(self._lease_s / 4):
            try:
                with self._storage.database.transaction() as session:
                    held = jobs.extend_lease(
                        session,
                        self._lease,
                        self._storage.clock.now(),
                        timedelta(seconds=self._lease_s),
                        self._permille,
                    )
            except Unavailable:
                held = time.monotonic() < held_until
            else:
                held_until = time.monotonic() + self._lease_s
            if not held:
                self._lost.set()
                return
