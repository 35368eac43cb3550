"""Who may push: upload tokens as passwords, public keys by setting, and what keeps guessers out."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from config.settings import PushSettings
from evidence.errors import NotAuthenticated
from ingest.sources.dropbox_shelf import Dock
from storage.db import credentials
from storage.open import Storage

WINDOW_S = 900.0
MAX_ADDRESSES = 10_000


class Doorkeeper:
    """Counts connections and failed logins of one listener; used from its event loop alone.

    Args:
        settings: The limits.
        monotonic_s: For tests.
    """

    def __init__(self, settings: PushSettings, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._failures: dict[str, deque[float]] = {}
        self._docks: Counter[str] = Counter()
        self.connections = 0

    def may_enter(self, address: str) -> bool:
        """Whether a new connection from there is spoken to."""
        return self.connections < self._settings.max_connections and self.may_try(address)

    def may_try(self, address: str) -> bool:
        """Whether a password from there is looked at."""
        recent = self._failures.get(address)
        if recent is None:
            return True
        since_s = self._monotonic_s() - WINDOW_S
        while recent and recent[0] < since_s:
            recent.popleft()
        if not recent:
            del self._failures[address]
        return len(recent) < self._settings.failed_logins

    def failed(self, address: str) -> None:
        """A wrong password or key came from there."""
        if address not in self._failures and len(self._failures) >= MAX_ADDRESSES:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(address, deque(maxlen=self._settings.failed_logins)).append(
            self._monotonic_s()
        )

    def enter(self, dock: Dock) -> bool:
        """Count a dock in; False when it is in often enough."""
        if self._docks[dock.key] >= self._settings.max_connections_per_dock:
            return False
        self._docks[dock.key] += 1
        return True

    def leave(self, dock: Dock) -> None:
        """Count a dock out."""
        self._docks[dock.key] -= 1
        if self._docks[dock.key] <= 0:
            del self._docks[dock.key]


def token_checker(storage: Storage) -> Callable[[str, str], Dock | None]:
    """From a user name and a password, which is an upload token of that dock, to the dock."""

    def check(username: str, password: str) -> Dock | None:
        try:
            with storage.database.read() as session:
                found = credentials.uploader_of(session, password, storage.clock.now())
        except NotAuthenticated:
            return None
        if found.dock_no != username:
            return None
        return Dock(found.agency_id, found.dock_no, found.device_no, f"token:{found.token_id}")

    return check
