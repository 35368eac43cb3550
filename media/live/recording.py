"""Record one stream until it ends or is told to stop: the loop of a recorder's process.

Procedure, for each packet in the order it came:

1. `evidence.live_clock` judges its times. A repeat is passed over; a jump ends the file and begins a run.
2. A file ends before a keyframe once it is long enough, where the clock jumped, or where the picture has
   another shape; the next begins with that keyframe. Sound that is already due goes on in the new file.
3. Every `Bounds.sync_every_s` what was written is synced, and then the journal, which says how far. A file
   that ends is synced, renamed, its folder synced, and then the journal says so with digest and times.

What comes before the first keyframe is recorded as well: it cannot be played, and the journal says from where
on it can. Nothing here reads a wall clock but to write it beside the monotonic one. Where the host's clock
was set (`HostClock.STEP_US`), the file ends at the next keyframe, and the wall times of the next are by what
it shows since.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from av.stream import Stream

from evidence.errors import MediaError
from evidence.live_clock import Event, HostClock, LiveClock, RunClock, Taken
from media.live.arrivals import REST_S, Arrivals, Arrived, Overrun, monotonic_us
from media.live.container import SUFFIXES, LiveFile, containers_for
from media.live.journal import LOCK, Journal
from media.live.opening import Source, scrubbed
from media.live.shape import shape_of

PATIENCE_S = 0.1
RESTING_PATIENCE_S = 0.35
"""The same where the reading thread says when it rests."""
OPEN_SUFFIX = ".part"
EARLY_US = 2_000_000
"""How much earlier than the first packet another stream's may be."""


@dataclass(frozen=True)
class Bounds:
    """What one recording keeps to."""

    file_s: float = 300.0
    """How long a file gets before the next keyframe ends it."""
    sync_every_s: float = 1.0
    open_s: float = 15.0
    """How long a source may take to answer."""
    stall_s: float = 10.0
    """How long a source may be silent."""
    queue_bytes: int = 64 << 20
    """What may wait for the disk."""
    floor_bytes: int = 1 << 30
    """Free space below which nothing more is written."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """What is asked of a stream for each of its packets."""

    is_picture: bool
    codec: str
    numerator: int
    """Of its time base, in microseconds."""
    denominator: int

    @classmethod
    def of(cls, stream: Stream) -> _Lane:
        base = stream.time_base or Fraction(1, 1_000_000)
        codec: Any = stream.codec_context
        return cls(stream.type == "video", codec.name, base.numerator * 1_000_000, base.denominator)

    def ticks(self, micros: int) -> int:
        """To the nearest: what came from ticks goes back to the same."""
        return (2 * micros * self.denominator // self.numerator + 1) // 2

    def micros(self, ticks: int) -> int:
        return ticks * self.numerator // self.denominator


@dataclass(slots=True)
class _Open:
    """The file at work."""

    number: int
    file: LiveFile
    name: str
    clock: RunClock
    """Of its run, which a jump has ended by the time the file is closed."""
    zero_us: int
    """Media time of its zero, as judged by the clock."""
    begin_us: int
    """Media time of its first packet."""
    end_us: int
    pictures: int = 0
    playable_from_us: int | None = None
    last: dict[int, int] = field(default_factory=dict)
    """The last decoding time of each stream, in its own ticks from zero."""


class Recording:
    """One connection to one source, from its first packet to its last.

    Args:
        folder: Empty, its own; files, journal and lock are made in it.
        opened: Opens the source; given what hears of publishers that were refused.
        waits: The source comes to us, whenever it likes.
        lock: The folder's lock, where whoever started this process took it.
    """

    def __init__(
        self,
        folder: Path,
        opened: Callable[[Callable[[str], None]], Source],
        bounds: Bounds,
        *,
        waits: bool = False,
        lock: int | None = None,
    ) -> None:
        self.folder = folder
        self.bounds = bounds
        self.arrivals = Arrivals(lambda: opened(self._refused), bounds.queue_bytes)
        self._waits = waits
        if lock is None:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Held as long as this process lives, and by its end alone let go.
        self._lock = lock
        self.journal = Journal(folder)
        self._stop: str | None = None
        self._is_cut_asked = False
        self._clock = LiveClock()
        self._now_open: _Open | None = None
        self._files = 0
        self._run = 0
        self._lanes: dict[int, _Lane] = {}
        self._shapes: dict[int, bytes] = {}
        self._synced_at = time.monotonic()
        self._packets = self._pictures = self._bytes = 0
        self._look_at_disk()
        utc, monotonic = _clocks()
        self._host = HostClock(utc, monotonic)
        self._base_us = self._host.base_us
        self.journal.write(
            "begun", sync=True, pid=os.getpid(), boot=boot_id(), monotonic_us=monotonic, utc_us=utc
        )

    def stop(self, why: str = "stopped") -> None:
        """End the file in order and return from `run`; may be called from a signal handler."""
        self._stop = self._stop or why

    def cut(self) -> None:
        """End the file at the next keyframe, and go on in another."""
        self._is_cut_asked = True

    def run(self) -> str:
        """Record; returns why it ended."""
        self.arrivals.start()
        try:
            why = self._loop()
        except OSError as error:
            why = f"disk: {error.strerror or error}"
        except MediaError as error:
            why = f"{error.code}: {scrubbed(error.message)}"
        try:
            self._close("ended")
        except OSError as error:
            why = f"disk: {error.strerror or error}"
        left = self.arrivals.left()
        if left is not None:
            self._refused(left)
        self.journal.write("ended", sync=True, why=why, monotonic_us=monotonic_us())
        return why

    def _loop(self) -> str:
        while True:
            for each in self.arrivals.take(RESTING_PATIENCE_S if self.arrivals.rests else PATIENCE_S):
                if isinstance(each, Overrun):
                    self.journal.write("overrun", sync=True, **vars(each))
                else:
                    self._take(each)
            self._sync_if_due()
            why = self._stop or self._over()
            if why is not None:
                return why

    def _over(self) -> str | None:
        """Why no more is to be expected."""
        if self.arrivals.ended is not None and not self.arrivals.waiting_bytes:
            return self.arrivals.ended
        silent_s = (monotonic_us() - self.arrivals.last_us) / 1e6
        if not self.arrivals.is_open and silent_s > self.bounds.open_s and not self._waits:
            return "source_does_not_answer"
        if self.arrivals.is_open and silent_s > self.bounds.stall_s:
            return "source_stalled"
        return "disk_floor" if self._is_full else None

    def _take(self, arrived: Arrived) -> None:
        taken = self._clock.observe(arrived.stream, arrived.media_us, arrived.duration_us, arrived.arrival_us)
        stream, packet, at_us = arrived.stream, arrived.packet, taken.media_us
        for event in taken.events:
            self._tell(event, stream)
        if taken.is_repeat:
            return
        lane = self._lanes.get(stream) or self._lane(stream)
        if self._is_due(arrived, taken, lane):
            self._next_file(arrived, taken)
        now = self._now_open
        if now is None:
            raise AssertionError("a file was opened above")
        self._packets, self._bytes = self._packets + 1, self._bytes + arrived.size_bytes
        self._pictures += lane.is_picture
        dts = max(lane.ticks(at_us - now.zero_us), now.last.get(stream, -1) + 1)
        pts = packet.pts
        shown = pts - arrived.dts if pts is not None else 0
        try:
            now.file.write(packet, stream, dts, dts + shown if shown > 0 else dts)
        except MediaError as error:
            self.journal.write("unwritten", stream=stream, media_us=at_us, why=error.message)
            return
        now.last[stream] = dts
        now.begin_us = min(now.begin_us, at_us)
        now.end_us = max(now.end_us, at_us + arrived.duration_us)
        now.pictures += lane.is_picture
        if now.playable_from_us is None and arrived.is_key and (lane.is_picture or not self._has_pictures):
            now.playable_from_us = at_us - now.begin_us

    def _lane(self, index: int) -> _Lane:
        lane = self._lanes[index] = _Lane.of(self.arrivals.streams[index])
        return lane

    def _is_due(self, arrived: Arrived, taken: Taken, lane: _Lane) -> bool:
        """Whether another file begins with this packet."""
        now = self._now_open
        if now is None or taken.begins_run:
            return True
        if not arrived.is_key or (not lane.is_picture and self._has_pictures):
            return False
        if lane.is_picture:
            shape = shape_of(bytes(arrived.packet), lane.codec)
            if shape and shape != self._shapes.setdefault(arrived.stream, shape):
                self._stop = self._stop or "shape_changed"
        return (
            self._is_cut_asked
            or self._is_stepped
            or taken.media_us - now.begin_us >= int(self.bounds.file_s * 1e6)
        )

    @property
    def _is_stepped(self) -> bool:
        """Whether the host's clock shows something else than what the file at work rests on."""
        return abs(self._host.base_us - self._base_us) > HostClock.STEP_US

    @cached_property
    def _has_pictures(self) -> bool:
        """Asked once packets come: the streams are known then, and stay."""
        return any(stream.type == "video" for stream in self.arrivals.streams.values())

    def _next_file(self, arrived: Arrived, taken: Taken) -> None:
        before, self._is_cut_asked = self._now_open, False
        self._close("run" if taken.begins_run else "length")
        if taken.begins_run:
            self._run += 1
        if self._is_stepped:
            self._base_us = self._host.base_us
        # What was decoded before the first packet that came may come after it.
        zero_us = taken.media_us - EARLY_US
        if before is not None and not taken.begins_run:
            # Sound of before the keyframe that comes after it stands at its own place.
            ends = [
                before.zero_us + self._lanes[index].micros(ticks)
                for index, ticks in before.last.items()
                if index != arrived.stream
            ]
            zero_us = min([taken.media_us, *ends])
        *others, last = containers_for(list(self.arrivals.streams.values()))
        for container in others:
            try:
                self._now_open = self._begin(container, zero_us, taken.media_us, arrived)
                return
            except MediaError as error:
                self.journal.write(
                    "container_refused", container=container, why=scrubbed(error.message)[:300]
                )
        self._now_open = self._begin(last, zero_us, taken.media_us, arrived)

    def _begin(self, container: str, zero_us: int, media_us: int, arrived: Arrived) -> _Open:
        name = f"{self._files:06d}.{SUFFIXES[container]}"
        self.journal.write(
            "file",
            sync=True,
            file=self._files,
            name=name,
            run=self._run,
            zero_us=zero_us,
            container=container,
            streams=[_told(stream) for stream in self.arrivals.streams.values()],
            monotonic_us=arrived.arrival_us,
            arrived_utc_us=self._base_us + arrived.arrival_us,
        )
        number, self._files = self._files, self._files + 1
        file = LiveFile(self.folder / (name + OPEN_SUFFIX), dict(self.arrivals.streams), container)
        return _Open(number, file, name, self._clock.run, zero_us, media_us, media_us)

    def _close(self, why: str) -> None:
        now, self._now_open = self._now_open, None
        if now is None:
            return
        closed = now.file.close()
        (self.folder / (now.name + OPEN_SUFFIX)).rename(self.folder / now.name)
        _fsync_folder(self.folder)
        self.journal.write(
            "closed",
            sync=True,
            file=now.number,
            name=now.name,
            run=self._run,
            why=why,
            size_bytes=closed.size_bytes,
            sha256=closed.sha256.hex(),
            duration_us=now.end_us - now.begin_us,
            pictures=now.pictures,
            playable_from_us=now.playable_from_us,
            **self._wall(now),
        )

    def _wall(self, now: _Open) -> dict[str, int]:
        return {
            "from_utc_us": self._base_us + now.clock.wall_us(now.begin_us),
            "to_utc_us": self._base_us + now.clock.wall_us(now.end_us),
            "open_us": now.clock.open_us,
        }

    def _tell(self, event: Event, stream: int) -> None:
        self.journal.write(
            "turn",
            turn=str(event.turn),
            stream=stream,
            run=self._run,
            media_us=event.media_us,
            by_us=event.by_us,
            monotonic_us=monotonic_us(),
        )

    def _look_at_disk(self) -> None:
        free = os.statvfs(self.folder)
        self._is_full = free.f_bavail * free.f_frsize < self.bounds.floor_bytes

    def _refused(self, why: str) -> None:
        self.journal.write("refused", why=why[:300], monotonic_us=monotonic_us())

    def _sync_if_due(self) -> None:
        at = time.monotonic()
        # The next chance comes after a rest, and would be late.
        if at - self._synced_at < self.bounds.sync_every_s - (REST_S if self.arrivals.rests else 0.0):
            return
        step = self._host.read(*_clocks())
        if step:
            self.journal.write("turn", turn="host_step", by_us=step, monotonic_us=monotonic_us())
        passed, self._synced_at = at - self._synced_at, at
        self._look_at_disk()
        now = self._now_open
        facts: dict[str, Any] = {}
        if now is not None:
            facts = {"file": now.number, "synced_bytes": now.file.sync(), **self._wall(now)}
            facts |= {"end_us": now.end_us - now.begin_us, "pictures": now.pictures}
        self.journal.write(
            "mark",
            sync=now is not None,
            monotonic_us=monotonic_us(),
            silent_us=monotonic_us() - self.arrivals.last_us,
            waiting_bytes=self.arrivals.waiting_bytes,
            packets_s=round(self._packets / passed, 1),
            pictures_s=round(self._pictures / passed, 1),
            bytes_s=round(self._bytes / passed),
            **facts,
        )
        self._packets = self._pictures = self._bytes = 0


def _told(stream: Stream) -> dict[str, Any]:
    context: Any = stream.codec_context
    told = {"index": stream.index, "kind": stream.type, "codec": context.name}
    if stream.type == "video":
        return {**told, "width_px": context.width, "height_px": context.height}
    return {**told, "sample_rate_hz": context.sample_rate, "channels": context.channels}


def _clocks() -> tuple[int, int]:
    """UTC and the monotonic clock at one moment: what came between two readings is no step."""
    readings = []
    for _ in range(3):
        before_us = monotonic_us()
        utc_us = time.time_ns() // 1000
        readings.append((monotonic_us() - before_us, utc_us, before_us))
    _, utc_us, at_us = min(readings)
    return utc_us, at_us


def boot_id() -> str:
    """What tells this boot of the host from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stop_on_signals(recording: Recording, numbers: Sequence[int] = (signal.SIGTERM, signal.SIGINT)) -> None:
    """Let SIGTERM and SIGINT end the file in order, and SIGUSR1 only the file."""
    signal.signal(signal.SIGUSR1, lambda *_: recording.cut())
    for number in numbers:
        signal.signal(number, lambda *_: recording.stop())
