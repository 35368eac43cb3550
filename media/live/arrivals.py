"""Packets of a live source with the instant they came, in a queue that is bounded.

One thread does nothing but ask the source for the next packet, because that may take for ever and cannot be
interrupted: FFmpeg's own time limits do not hold for every protocol. Whoever takes from the queue watches the
clock, and ends the process where nothing comes (`media.live.recording`).

A thread that wakes for each packet costs more than everything that is done with them. Where what comes may
lie in the sender's and our socket for a moment, the thread rests after each read that had to wait, and then
reads what has gathered.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, cast

import av
from av.packet import Packet
from av.stream import Stream

from evidence.errors import EvidenceError
from media.live.opening import Source, has_datagrams, scrubbed

SECOND_US = 1_000_000
MUCH_BYTES = 1 << 20
REST_S = 0.3
"""How long what comes is left to gather, at most."""
GATHERED_BYTES = 256 << 10
"""What may gather; of more the rests are shorter."""
WAITED_US = 8_000
"""A read that took this long had to wait: nothing more lay ready. Our other thread may take 5 ms of it."""
HELD, HELD_PART = 250, 4
"""Packets of one stream that may wait for the first time; and of all that may wait, which part (1 / 4)."""
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
    """Monotonic; where its sender says when it was sent, without what it waited on its way."""
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


@dataclass(slots=True)
class _Times:
    """Decoding times of one stream, and its packets that came before there were any."""

    index: int
    base: Fraction
    numerator: int
    """Of the time base, in microseconds; a fraction is slow to ask for each packet."""
    denominator: int
    is_sound: bool
    is_in_order: bool
    """What comes first is shown first: the time shown is the time of decoding."""
    step: int
    """What a packet lasts, as far as is known."""
    last: int | None = None
    held: list[tuple[Packet[Any], int]] = field(default_factory=list)
    learns: int = REORDERED
    """Pictures from the first keyframe on, by which the order of decoding is known."""
    shown: set[int] = field(default_factory=set)
    """Times at which pictures are shown, until then."""

    def take(self, packet: Packet[Any], arrival_us: int) -> list[Arrived]:
        """What can be told now: the packet, after those that had to wait for its time."""
        dts, last = packet.dts, self.last
        if dts is not None and last is not None and dts > last:
            self.step = dts - last
            if not self.held and (self.is_in_order or not self.learns):
                # Next in line, as almost all are: nothing of what follows can be.
                self.last = dts
                return [self._arrived(packet, arrival_us, dts)]
        if dts is None and self.last is not None:
            dts = self.last + (packet.duration or self.step)
        if dts is None and self.is_in_order:
            dts = packet.pts
        if self.learns and not self.is_in_order:
            dts = self._learned(packet, dts)
        if dts is not None:
            found = self._let_go(dts, packet) if self.held else []
            self.last = dts
            found.append(self._arrived(packet, arrival_us, dts))
            return found
        self.held.append((packet, arrival_us))
        shown = sum(each.pts is not None for each, _ in self.held)
        return self.rest() if shown > REORDERED or len(self.held) > HELD else []

    def _learned(self, packet: Packet[Any], dts: int | None) -> int | None:
        """A time of decoding of which the first pictures are not told enough.

        Some senders of MPEG-TS say when a picture is shown and call it decoding; FFmpeg knows better once it
        saw how many are held back. What was told before stays: the next is a tick later, never earlier. What
        repeats a picture is left as it is.
        """
        if packet.is_keyframe or self.learns < REORDERED:
            self.learns -= 1
        is_new = packet.pts not in self.shown
        if packet.pts is not None:
            self.shown.add(packet.pts)
        if self.learns == 0:
            self.shown.clear()
        if dts is None or self.last is None or not is_new:
            return dts
        return self.last + 1 if 0 <= self.last - dts <= REORDERED * self.step else dts

    def rest(self) -> list[Arrived]:
        """What waited and got no time of decoding: as late as what is shown allows, or else by arrival."""
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

        RTP says when a picture is shown, and of the first, at times, nothing: it is shown before the others.
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
            dts * self.numerator // self.denominator,
            (packet.duration or 0) * self.numerator // self.denominator,
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
        self._source: Source | None = None
        self._most_bytes = most_bytes
        # One thread appends and one takes away; each counts for itself, so that no packet needs a lock.
        self._queue: deque[Arrived | Overrun] = deque()
        self._held_bytes = self._put_bytes = self._taken_bytes = 0
        self._overruns: dict[int, Overrun] = {}
        self._news = threading.Event()
        self.last_us = monotonic_us()
        """When the last packet came, whatever it has to wait for, or the wait began."""
        self.streams: Mapping[int, Stream] = {}
        self.ended: str | None = None
        """Why no more will come; None: it may."""
        self.is_open = False
        self.rests = False
        """What comes may gather before it is read: nothing is lost by that, but of datagrams."""

    @property
    def waiting_bytes(self) -> int:
        """What has come and is not taken yet, or cannot be because its time of decoding is not known."""
        return self._held_bytes + self._put_bytes - self._taken_bytes

    def start(self) -> None:
        """Begin; the thread ends with the process, never before a packet it waits for."""
        threading.Thread(target=self._run, name="arrivals", daemon=True).start()

    def take(self, patience_s: float) -> list[Arrived | Overrun]:
        """What has come after some patience, or when the reading thread rests; nothing may be in it."""
        if self.ended is None and self._put_bytes - self._taken_bytes < MUCH_BYTES:
            self._news.wait(patience_s)
        self._news.clear()
        taken = [self._queue.popleft() for _ in range(len(self._queue))]
        self._taken_bytes += sum([each.size_bytes for each in taken if type(each) is Arrived])
        return taken

    def left(self) -> str | None:
        """What is to be told of what is not read any more; None: nothing."""
        return self._source.left() if self._source is not None and self._source.left is not None else None

    def _run(self) -> None:
        try:
            # Never closed: the streams belong to it, and files are written from them until the process ends.
            self._source = source = self._opened()
            self.rests = not has_datagrams()
            self.streams = {each.index: each for each in source.streams if each.type in {"video", "audio"}}
            self.is_open = True
            self._read(source)
            self._end("source_ended")
        except (av.FFmpegError, EvidenceError, OSError, ValueError) as error:
            self._end(scrubbed(f"{type(error).__name__}: {error}")[:300])
        except BaseException:
            self._end("reader_crashed")
            raise

    def _read(self, source: Source) -> None:
        times = {index: _times(stream) for index, stream in self.streams.items()}
        try:
            self._read_into(times, source)
        finally:
            # A line that broke takes nothing with it that had come.
            self._wait_no_more(times)

    def _read_into(self, times: Mapping[int, _Times], source: Source) -> None:
        asked_us, gathered_bytes, most_held_bytes = monotonic_us(), 0, self._most_bytes // HELD_PART
        for packet in source.demux(*self.streams.values()):
            came_us, size_bytes = monotonic_us(), packet.size
            # The demuxer says goodbye with an empty packet for each stream.
            if size_bytes:
                self.last_us = came_us
                self._held_bytes += size_bytes
                sent_us = came_us if source.sent_us is None else source.sent_us()
                for arrived in times[packet.stream_index].take(packet, sent_us):
                    self._put(arrived)
                if self._held_bytes > most_held_bytes:
                    self._wait_no_more(times)
            gathered_bytes += size_bytes
            if self.rests and came_us - asked_us > WAITED_US:
                self._news.set()
                time.sleep(REST_S * min(1.0, GATHERED_BYTES / max(1, gathered_bytes)))
                gathered_bytes = 0
            asked_us = monotonic_us()

    def _wait_no_more(self, times: Mapping[int, _Times]) -> None:
        for each in times.values():
            for arrived in each.rest():
                self._put(arrived)

    def _end(self, why: str) -> None:
        self.ended = why
        self._news.set()

    def _put(self, arrived: Arrived) -> None:
        size_bytes, waiting_bytes = arrived.size_bytes, self._put_bytes - self._taken_bytes
        is_full = self._held_bytes + waiting_bytes > self._most_bytes
        self._held_bytes -= size_bytes
        if (is_full or self._overruns) and self._overran(arrived, is_full=is_full):
            return
        self._put_bytes += size_bytes
        self._queue.append(arrived)
        if waiting_bytes + size_bytes >= MUCH_BYTES:
            self._news.set()

    def _overran(self, arrived: Arrived, *, is_full: bool) -> bool:
        """Whether a packet is left out; the first that is not tells what was."""
        over = self._overruns.get(arrived.stream)
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
            return True
        if over is not None:
            del self._overruns[arrived.stream]
            self._queue.append(
                Overrun(over.stream, over.packets, over.size_bytes, over.from_us, arrived.arrival_us)
            )
        return False


def _times(stream: Stream) -> _Times:
    base, context = _base(stream), cast(Any, stream.codec_context)
    is_sound = stream.type == "audio"
    rate = None if is_sound else getattr(stream, "average_rate", None)
    step = int(1 / (Fraction(rate.numerator, rate.denominator) * base)) if rate else 1
    is_in_order = is_sound or context.name in IN_ORDER
    return _Times(
        stream.index, base, base.numerator * SECOND_US, base.denominator, is_sound, is_in_order, max(1, step)
    )


def _base(stream: Stream) -> Fraction:
    if stream.time_base is None:
        raise ValueError(f"stream {stream.index}: expected a time base, found none")
    return Fraction(stream.time_base.numerator, stream.time_base.denominator)
