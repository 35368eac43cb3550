"""Packets of a live source with the instant they came, in a queue that is bounded.

One thread does nothing but ask the source for the next packet, because that may take for ever and cannot be
interrupted: FFmpeg's own time limits do not hold for every protocol. Whoever takes from the queue watches the
clock, and ends the process where nothing comes (`media.live.recording`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av
from av.packet import Packet
from av.stream import Stream

from media.live.opening import Source, scrubbed

SECOND_US = 1_000_000
MUCH_BYTES = 1 << 20
HELD = 250
"""Packets of one stream that may wait for the first time."""
REORDERED = 17
"""Pictures that are decoded before the first is shown, and one more: no codec holds back more."""
IN_ORDER = frozenset({"mjpeg"})
"""Codecs of pictures that are shown as they come."""


def monotonic_us() -> int:
    """The host's clock that is never set, in microseconds."""
    return time.monotonic_ns() // 1000


class Arrived(NamedTuple):
    """One packet."""

    packet: Packet[Any]
    stream: int
    arrival_us: int
    """Monotonic."""
    dts: int
    """In the stream's time base, made up from its neighbours where the source left it out."""
    media_us: int
    """The same in microseconds."""
    duration_us: int
    """0: nobody said."""
    is_key: bool
    """A picture one can start at, or any sound."""
    size_bytes: int


@dataclass(frozen=True)
class Overrun:
    """Packets that came while the queue was full, and are not recorded: the disk was too slow."""

    stream: int
    packets: int
    size_bytes: int
    from_us: int
    """Arrival of the first."""
    to_us: int
    """Arrival of the one that was taken again."""


@dataclass
class _Times:
    """Decoding times of one stream, and its packets that came before there were any."""

    index: int
    base: Fraction
    is_sound: bool
    is_in_order: bool
    """What comes first is shown first: the time shown is the time of decoding."""
    step: int
    """What a packet lasts, as far as is known."""
    last: int | None = None
    held: list[tuple[Packet[Any], int]] = field(default_factory=list)

    def take(self, packet: Packet[Any], arrival_us: int) -> list[Arrived]:
        """What can be told now: the packet, after those that had to wait for its time."""
        dts = packet.dts
        if dts is not None and self.last is not None and dts > self.last:
            self.step = dts - self.last
        if dts is None and self.last is not None:
            dts = self.last + (packet.duration or self.step)
        if dts is None and self.is_in_order:
            dts = packet.pts
        if dts is not None:
            found = self._let_go(dts, packet)
            self.last = dts
            return [*found, self._arrived(packet, arrival_us, dts)]
        self.held.append((packet, arrival_us))
        shown = sum(each.pts is not None for each, _ in self.held)
        return self.rest() if shown > REORDERED or len(self.held) > HELD else []

    def rest(self) -> list[Arrived]:
        """What waited and got no time of decoding: as late as what is shown allows; without that, by arrival."""
        if not self.held:
            return []
        (packet, at_us), held = self.held[-1], self.held
        starts = [
            each.pts - at * (each.duration or self.step)
            for at, (each, _) in enumerate(held)
            if each.pts is not None
        ]
        self.last = (
            min(starts) + (len(held) - 1) * (packet.duration or self.step)
            if starts
            else int(Fraction(at_us, SECOND_US) / self.base)
        )
        self.held = held[:-1]
        return [*self._let_go(self.last, packet), self._arrived(packet, at_us, self.last)]

    def _let_go(self, dts: int, packet: Packet[Any]) -> list[Arrived]:
        """What waited for ``packet``, whose time of decoding is known: one after the other before it.

        RTP says when a picture is shown, and of the first one, at times, nothing: it is shown before the others.
        """
        held, self.held = self.held, []
        shown = [each.pts for each in (*(each for each, _ in held), packet) if each.pts is not None]
        found = []
        for place, (each, at_us) in enumerate(held):
            step = each.duration or self.step
            if place == 0 and each.pts is None and shown:
                each.pts = min(shown) - step
            found.append(self._arrived(each, at_us, dts - (len(held) - place) * step))
        return found

    def _arrived(self, packet: Packet[Any], arrival_us: int, dts: int) -> Arrived:
        return Arrived(
            packet,
            self.index,
            arrival_us,
            dts,
            _us(dts, self.base),
            _us(packet.duration or 0, self.base),
            self.is_sound or packet.is_keyframe,
            packet.size,
        )


class Arrivals:
    """Reads a source in a thread of its own.

    Args:
        opened: Opens the source; called in the thread.
        most_bytes: How much may wait.
    """

    def __init__(self, opened: Callable[[], Source], most_bytes: int) -> None:
        self._opened = opened
        self._most_bytes = most_bytes
        self._queue: deque[Arrived | Overrun] = deque()
        self._overruns: dict[int, Overrun] = {}
        self._lock = threading.Condition()
        self.waiting_bytes = 0
        self.last_us = monotonic_us()
        """When the last packet came, or the wait began."""
        self.streams: Mapping[int, Stream] = {}
        self.ended: str | None = None
        """Why no more will come; None: it may."""
        self.is_open = False

    def start(self) -> None:
        """Begin; the thread ends with the process, never before a packet it waits for."""
        threading.Thread(target=self._run, name="arrivals", daemon=True).start()

    def take(self, patience_s: float) -> list[Arrived | Overrun]:
        """What has come after some patience, less only where much has; nothing may be in it.

        To wake for each packet would cost more than everything that is done with it.
        """
        with self._lock:
            if self.ended is None and self.waiting_bytes < MUCH_BYTES:
                self._lock.wait(patience_s)
            taken = list(self._queue)
            self._queue.clear()
            self.waiting_bytes = 0
            return taken

    def _run(self) -> None:
        try:
            # Never closed: the streams belong to it, and files are written from them until the process ends.
            source = self._opened()
            self.streams = {each.index: each for each in source.streams if each.type in {"video", "audio"}}
            self.is_open = True
            for arrived in _arriving(source, self.streams):
                self._put(arrived)
            self._end("source_ended")
        except (av.FFmpegError, OSError, ValueError) as error:
            self._end(scrubbed(f"{type(error).__name__}: {error}")[:300])
        except BaseException:
            self._end("reader_crashed")
            raise

    def _end(self, why: str) -> None:
        with self._lock:
            self.ended = why
            self._lock.notify()

    def _put(self, arrived: Arrived) -> None:
        with self._lock:
            self.last_us = arrived.arrival_us
            over = self._overruns.get(arrived.stream)
            is_full = self.waiting_bytes + arrived.size_bytes > self._most_bytes
            if is_full or (over is not None and not arrived.is_key):
                # What follows is of no use without the picture it rests on: until the next keyframe.
                first_us = over.from_us if over else arrived.arrival_us
                self._overruns[arrived.stream] = Overrun(
                    arrived.stream,
                    (over.packets if over else 0) + 1,
                    (over.size_bytes if over else 0) + arrived.size_bytes,
                    first_us,
                    arrived.arrival_us,
                )
                return
            if over is not None:
                del self._overruns[arrived.stream]
                self._queue.append(
                    Overrun(over.stream, over.packets, over.size_bytes, over.from_us, arrived.arrival_us)
                )
            self._queue.append(arrived)
            self.waiting_bytes += arrived.size_bytes
            if self.waiting_bytes >= MUCH_BYTES:
                self._lock.notify()


def _arriving(source: Source, streams: Mapping[int, Stream]) -> Iterator[Arrived]:
    times = {index: _times(stream) for index, stream in streams.items()}
    for packet in source.demux(*streams.values()):
        # The demuxer says goodbye with an empty packet for each stream.
        if packet.size:
            yield from times[packet.stream_index].take(packet, monotonic_us())
    for each in times.values():
        yield from each.rest()


def _times(stream: Stream) -> _Times:
    base, context = _base(stream), cast(Any, stream.codec_context)
    is_sound = stream.type == "audio"
    rate = None if is_sound else getattr(stream, "average_rate", None)
    step = int(1 / (Fraction(rate.numerator, rate.denominator) * base)) if rate else 1
    return _Times(stream.index, base, is_sound, is_sound or context.name in IN_ORDER, max(1, step))


def _base(stream: Stream) -> Fraction:
    if stream.time_base is None:
        raise ValueError(f"stream {stream.index}: expected a time base, found none")
    return Fraction(stream.time_base.numerator, stream.time_base.denominator)


def _us(ticks: int, base: Fraction) -> int:
    return ticks * base.numerator * SECOND_US // base.denominator
