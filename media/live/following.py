"""A stream's files read while a recorder writes them: one after the other, each as far as it goes.

Journals say which files there are; a file that was opened is read to its end whatever becomes of its name.
Nothing here writes, takes a lock, or waits for a recorder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from media.live.journal import NAME, read
from media.live.recording import OPEN_SUFFIX

WAIT_S = 0.04
LOOK_EVERY = 5
"""Waits between two looks at the journals."""
PLACES = 3
"""How often a name that moves is looked for: it changes once."""


@dataclass(frozen=True)
class Named:
    """A file of the stream."""

    run: str
    number: int
    name: str


@dataclass
class _Run:
    folder: Path
    read_to: int = 0
    files: dict[int, str] = field(default_factory=dict)
    begins_us: dict[int, int] = field(default_factory=dict)
    least_us: dict[int, int] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    is_over: bool = False

    def look(self) -> None:
        said, self.read_to = read(self.folder, self.read_to)
        for line in said:
            self._note(line)

    def _note(self, line: dict[str, Any]) -> None:
        number = line.get("file")
        if line["kind"] == "file":
            self.files[line["file"]] = str(line["name"])
        elif line["kind"] == "ended":
            self.is_over = True
        elif number is not None and line["kind"] in {"mark", "closed"}:
            self.begins_us[number] = line["from_utc_us"]
            # A source whose clock runs fast gives its pictures later times than they have.
            media_us = line.get("end_us", line.get("duration_us", 0))
            told_us = min(line["from_utc_us"], line.get("to_utc_us", line["from_utc_us"]) - media_us)
            self.least_us[number] = min(told_us, self.least_us.get(number, told_us))
            if line["kind"] == "closed":
                self.closed.add(number)


class StreamFiles:
    """The files of a stream from the newest on.

    Runs are told apart by what is there when this begins, not by their ids: a clock may have been set back.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._passed: set[str] = set()
        self._run: _Run | None = None
        self._last = -1

    def newest(self) -> Named | None:
        """The file that is recorded now; None: there is none yet."""
        runs = self._runs()
        if not runs:
            return None
        latest = max(runs, key=lambda run: (run / NAME).stat().st_mtime_ns)
        self._passed = {run.name for run in runs}
        self._run = _Run(latest)
        self._run.look()
        self._last = max(self._run.files, default=0) - 1
        return self.following()

    def following(self) -> Named | None:
        """The file after the one told last; None: there is none yet."""
        if self._run is None:
            return self.newest()
        self._run.look()
        later = [number for number in self._run.files if number > self._last]
        if later:
            self._last = min(later)
            return Named(self._run.folder.name, self._last, self._run.files[self._last])
        for run in self._runs():
            if run.name not in self._passed:
                self._passed.add(run.name)
                self._run, self._last = _Run(run), -1
                return self.following()
        return None

    def begins_us(self) -> int | None:
        """UTC at the first packet of the file told last, as far as it is known by now."""
        if self._run is None:
            return None
        self._run.look()
        return self._run.begins_us.get(self._last)

    def least_us(self) -> int | None:
        """UTC before which nothing of that file was recorded, if its clock is added: the least ever told."""
        if self._run is None:
            return None
        self._run.look()
        return self._run.least_us.get(self._last)

    def has_ended(self) -> bool:
        """Whether the file told last gets no more: it was closed, or another follows it."""
        run = self._run
        if run is None:
            return True
        run.look()
        is_behind = self._last in run.closed or run.is_over or max(run.files, default=-1) > self._last
        return is_behind or any(each.name not in self._passed for each in self._runs())

    def open(self, file: Named) -> int | None:
        """A descriptor; None: it was handed over already."""
        whole = self.folder / file.run / file.name
        for _ in range(PLACES):
            for path in (whole.with_name(whole.name + OPEN_SUFFIX), whole):
                try:
                    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
        return None

    def _runs(self) -> list[Path]:
        try:
            return sorted(run for run in self.folder.iterdir() if (run / NAME).exists())
        except FileNotFoundError:
            return []


class GrowingBytes:
    """A file as FFmpeg reads it, which waits at the end for more.

    Args:
        descriptor: Is closed with it.
        has_ended: Whether the file gets no more.
        is_told_to_end: Asked while it waits; then the file ends here.
    """

    def __init__(
        self, descriptor: int, has_ended: Callable[[], bool], is_told_to_end: Callable[[], bool]
    ) -> None:
        self._descriptor = descriptor
        self._has_ended = has_ended
        self._is_told_to_end = is_told_to_end
        self.is_caught_up = False
        """What was read was just written, and everything before it has been made packets of. It stays so
        until whoever heeds it says otherwise: a packet may take many readings."""

    def read(self, size: int) -> bytes:
        waits = 0
        while True:
            data = os.read(self._descriptor, size)
            self.is_caught_up = self.is_caught_up or waits > 0
            if data or self._is_told_to_end():
                return data
            if waits % LOOK_EVERY == 0 and self._has_ended():
                # Whatever was written before it was said to have ended is there now.
                return os.read(self._descriptor, size)
            waits += 1
            time.sleep(WAIT_S)

    def close(self) -> None:
        os.close(self._descriptor)
