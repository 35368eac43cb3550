"""How far it is: a bar for people, plain lines for logs."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

PLAIN_EVERY_S = 2.0


class Meter:
    """One thing that takes a while, shown on standard error.

    Args:
        title: What is being done.
        total: The end of the way, in any unit.
    """

    def __init__(self, title: str, total: float) -> None:
        self._title = title
        self._total = max(total, 1e-9)
        self._done = 0.0
        self._text = ""
        self._said_at = 0.0
        self._said = ""
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=self._total, text="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._done:
            self._say()

    def to(self, done: float, text: str = "") -> None:
        """Stand at this point of the way."""
        self._done, self._text = min(done, self._total), text
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, text=text)
        elif time.monotonic() - self._said_at >= PLAIN_EVERY_S:
            self._said_at = time.monotonic()
            self._say()

    def step(self, by: float, text: str = "") -> None:
        """Go on by this much."""
        self.to(self._done + by, text)

    def _say(self) -> None:
        line = f"{self._title} {100 * self._done / self._total:.0f}% {self._text}".rstrip()
        if line != self._said:
            self._said = line
            print(line, file=sys.stderr, flush=True)
