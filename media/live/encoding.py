"""The encode that all who watch a stream share: what a recorder writes, as browsers play it, a moment later.

It begins a little before what is newest, so that whoever asked has two segments at once, and goes on from
file to file until nobody has looked for a while. Each file of the recorder becomes a piece; another piece
begins where the picture has to become smaller, or where footage is left out, because the encode is too slow.
The journal beside the pieces says what wall time each begins at (``piece``), where it ends (``closed``) and
why the encode did (``ended``); `STATE` says once a second how it stands.

A file is a camera's, and nothing it says is trusted: the process has limits (`media.live.encoder`).
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from media.live.container import DISK
from media.live.following import WAIT_S, GrowingBytes, StreamFiles
from media.live.journal import Journal
from media.live.pace import Pace
from media.live.shown_file import ShownFile

if TYPE_CHECKING:
    from media.live.covering import Covering

STATE = "state.json"
STALL_S = 30
"""A decoder that hangs is ended by the kernel."""
LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Orders:
    """What an encode is begun with."""

    stream_folder: Path
    """Of the recorder."""
    folder: Path
    """Its own, for its pieces."""
    wanted: Path
    """Is touched by whoever looks."""
    idle_s: float
    floor_bytes: int
    """Free space below which it ends."""
    after_us: int = 0
    """UTC up to where an encode before this one was told."""


class LiveEncode:
    """One encode of one stream, from the first who looks to the last.

    Args:
        orders: What it is begun with.
        covering: What of the stream is drawn over, and what waits; None: nothing.
    """

    def __init__(self, orders: Orders, covering: Covering | None = None) -> None:
        self.orders, self.folder, self.covering = orders, orders.folder, covering
        self.files = StreamFiles(orders.stream_folder)
        self.journal = Journal(orders.folder)
        self.pace = Pace()
        self._seen: tuple[int, float] = (0, time.monotonic())
        self._state_at = 0.0
        self._pieces = 0
        self._over: str | None = None
        self._open: ShownFile | None = None
        self.journal.write("begun", pid=os.getpid())

    def run(self) -> str:
        """Encode until nobody looks any more; returns why it ended."""
        try:
            why = self._follow()
        except OSError as error:
            why = f"disk: {error.strerror or error}"
        self.journal.write("ended", why=why)
        return why

    def _follow(self) -> str:
        joins, has_waited = True, False
        while not self.is_over():
            file = self.files.following()
            descriptor = None if file is None else self.files.open(file)
            if file is None or descriptor is None:
                has_waited = file is None
                time.sleep(WAIT_S)
                continue
            reader = GrowingBytes(descriptor, self.files.has_ended, self.is_over)
            reader.is_caught_up, has_waited = has_waited, False
            with closing(reader):
                try:
                    self._open = ShownFile(self, file, reader, self.orders.after_us, joins=joins)
                    self._open.encode()
                except (av.FFmpegError, ValueError) as error:
                    if isinstance(error, OSError) and error.errno in DISK:
                        return f"disk: {error.strerror or error}"
                    if not self.is_over():
                        # What was shown stays; whoever looks has another begun.
                        return f"damaged: {file.name}: {type(error).__name__}: {error}"[:300]
            joins = False
        return self._over or "ended"

    def is_over(self) -> bool:
        """Asked several times a second; says how it stands meanwhile."""
        signal.alarm(STALL_S)
        now = time.monotonic()
        if now - self._state_at < LOOK_EVERY_S:
            return self._over is not None
        self._state_at = now
        mark = self.orders.wanted.stat().st_mtime_ns
        if mark != self._seen[0]:
            # How long ago is asked of a clock that nobody sets.
            self._seen = (mark, now)
        free = os.statvfs(self.folder)
        if now - self._seen[1] > self.orders.idle_s:
            self._over = "unwatched"
        elif free.f_bavail * free.f_frsize < self.orders.floor_bytes:
            self._over = "disk_floor"
        if self._open is not None:
            self._open.tell()
        return self._over is not None

    def next_piece(self) -> int:
        number, self._pieces = self._pieces, self._pieces + 1
        return number

    def say(self, state: dict[str, Any]) -> None:
        """How it stands, whole or not at all."""
        path = self.folder / STATE
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(state))
        beside.rename(path)
