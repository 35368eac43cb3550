"""Refusals of peers that nobody knows, told in bounds: whoever may not send could fill a disk with them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

EVERY_S = 60.0
"""The same is told no more often, with how often it was."""
MOST_KINDS = 16
"""Different ones that are told apart; peers choose the numbers in them."""
OTHERS = "refused: others"


class Refusals:
    """Tells the first of each kind at once, and then at most one counted line a minute; for any thread."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told_at_s: dict[str, float] = {}
        self._untold: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, why: str) -> None:
        """One more."""
        with self._lock:
            if why not in self._told_at_s and len(self._told_at_s) >= MOST_KINDS:
                why = OTHERS
            self._untold[why] = self._untold.get(why, 0) + 1
        self.tell_due()

    def tell_due(self) -> None:
        """Tell what was counted and whose minute is over."""
        if not self._untold:
            return
        now_s = time.monotonic()
        with self._lock:
            due = [why for why in self._untold if now_s - self._told_at_s.get(why, -math.inf) >= EVERY_S]
            lines = [(why, self._untold.pop(why)) for why in due]
            self._told_at_s.update(dict.fromkeys(due, now_s))
        for why, count in lines:
            self._tell(why if count == 1 else f"{why}; {count} times")
