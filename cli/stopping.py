"""Being told to stop: SIGTERM or Ctrl-C once means orderly, twice means now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def told_to_stop(hurry: Callable[[], None]) -> Iterator[threading.Event]:
    """An event that is set when this process is told to stop.

    Args:
        hurry: Called when it is told again.
    """
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            hurry()
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
