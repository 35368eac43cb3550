"""Time, as something that is handed in: waiting for an hour must not take an hour in a test."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Event
from typing import Protocol


class Clock(Protocol):
    """The dock's clocks."""

    def now(self) -> datetime:
        """Wall time, aware."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def wait(self, seconds: float, stop: Event) -> bool:
        """Wait, or until ``stop`` is set; whether it is set."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float, stop: Event) -> bool:
        return stop.wait(max(0.0, seconds))
