"""When the packets of a live stream were made: rules by which arrival and media time become wall time.

A recorder's packets carry a clock of their own (media time) and arrive at a time by ours (the host's
monotonic clock: it never steps). Neither is when the picture was taken (invariant 11). The rules:

1. **A packet was made before it arrived.** Arrival less media time is its offset; of all packets of a while
   the least delayed, with the smallest offset, tells most. Wall time is media time plus that offset.
2. **The offset is slewed.** From window to window it moves by at most 500 parts per million, so that no wall
   time runs backwards or stands still, and a quartz that drifts is followed. In the first window it is free.
3. **A hole in media time that also passed here is a loss**: it stays in the media clock, and is told.
4. **A leap of media time that did not pass here is a jump of the source's clock.** It is never duration: a
   new run begins, and the file before it ends. So is a step back that repeats nothing.
5. **A counter that starts again at its modulus has wrapped**, and goes on.
6. **A packet whose time was there a moment ago is a repeat**, and is not recorded twice.
7. **A stream whose first packet fits nowhere has an epoch of its own**: it is placed by its arrival, until
   its times fit (`Turn.APART`).
8. **Time that passed here while the source's clock stood still is a pause**: told once no packet of two
   windows makes good for it. The clock goes on behind it with a new offset. A sender that catches up paused
   nothing.

No I/O, and no wall clock: the caller knows what its monotonic clock showed when UTC showed something else
(`HostClock`). All times are microseconds as integers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from itertools import pairwise
from typing import NamedTuple

SECOND_US = 1_000_000
RECENT = 512
"""How many packets of one stream a repeat is looked for among."""
APART = 10
"""A stream that comes later may be this many jumps early or late before its epoch is not believed."""


class Turn(StrEnum):
    """What can happen to a stream's clock."""

    LOSS = "loss"  # 数据丢失
    JUMP_AHEAD = "jump_ahead"  # 时间戳前跳
    JUMP_BACK = "jump_back"  # 时间戳回退
    WRAP = "wrap"  # 计数器回绕
    REPEAT = "repeat"  # 重复数据
    PAUSE = "pause"  # 源端停顿
    APART = "apart"  # 音画时钟不同源
    HOST_STEP = "host_step"  # 服务器时钟跳变


@dataclass(frozen=True)
class Event:
    """Something that happened, told of the run it ended or stands in."""

    turn: Turn
    media_us: int
    """Where: media time of the run, unwrapped; for a jump, where the run before ended."""
    by_us: int
    """How much: lost, leapt over, gone back, stood still."""


@dataclass(frozen=True)
class Rules:
    """The bounds of the rules. Parts per million of slew, and microseconds."""

    window_us: int = 10 * SECOND_US
    slew_ppm: int = 500
    loss_us: int = SECOND_US // 2
    """A hole this long is told; shorter ones are dropped frames, which the file itself shows."""
    jump_us: int = 2 * SECOND_US
    """How far in the future a packet may seem to be made before its clock is not believed."""
    pause_us: int = SECOND_US
    """How far all packets of two windows must be behind."""
    caught_up_us: int = SECOND_US // 5
    """A sender that gained this much from one window to the next is catching up."""


@dataclass(slots=True)
class _Stream:
    """Where one stream of the source is."""

    last_us: int
    duration_us: int
    shift_us: int = 0
    """What its times are moved by: wraps so far, and an epoch of its own."""
    is_apart: bool = False
    recent: deque[int] = field(default_factory=partial(deque, maxlen=RECENT))

    def note(self, media_us: int, duration_us: int) -> None:
        self.last_us, self.duration_us = media_us, duration_us
        self.recent.append(media_us)


class Taken(NamedTuple):
    """What to do with a packet."""

    media_us: int
    """Its media time, unwrapped: it only grows, within a stream of a run."""
    is_repeat: bool = False
    begins_run: bool = False
    """It belongs to another run than the packet before: end the file, and begin one with this."""
    events: tuple[Event, ...] = ()


class LiveClock:
    """The clock of one source, over as many runs as it takes.

    Args:
        wrap_us: Where the source's counter starts again; None: it does not (or the demuxer hides it).
    """

    def __init__(self, rules: Rules | None = None, *, wrap_us: int | None = None) -> None:
        self.rules = rules or Rules()
        self.wrap_us = wrap_us
        self.run = RunClock(self.rules)
        self._streams: dict[int, _Stream] = {}

    def observe(self, stream: int, media_us: int, duration_us: int, arrival_us: int) -> Taken:
        """Judge one packet.

        Args:
            stream: Which of the source's streams.
            media_us: Its decoding time, by the source.
            duration_us: What it lasts; 0: nobody said.
            arrival_us: The host's monotonic clock.
        """
        known = self._streams.get(stream)
        if known is None:
            return self._first(stream, media_us, duration_us, arrival_us)
        at_us = media_us + known.shift_us
        if 0 < at_us - known.last_us < known.duration_us + self.rules.loss_us and not known.is_apart:
            # Next in line, as almost all are: nothing of what follows can be.
            known.note(at_us, duration_us)
            found = self.run.observe(at_us, arrival_us)
            return Taken(at_us, events=tuple(found)) if found else Taken(at_us)
        events: list[Event] = []
        if known.is_apart and abs(self.run.leads_by_us(media_us, arrival_us)) < self.rules.jump_us:
            known.shift_us, known.is_apart = 0, False
        at_us = media_us + known.shift_us
        if self.wrap_us is not None and abs(at_us + self.wrap_us - known.last_us) < self.rules.jump_us:
            known.shift_us += self.wrap_us
            at_us += self.wrap_us
            events.append(Event(Turn.WRAP, at_us, self.wrap_us))
        if at_us in known.recent:
            return Taken(at_us, is_repeat=True, events=(Event(Turn.REPEAT, at_us, duration_us),))
        missing_us = at_us - known.last_us - known.duration_us
        if at_us < known.last_us:
            return self._jumped(stream, media_us, duration_us, arrival_us, known)
        if missing_us > self.rules.jump_us and self.run.leads_by_us(at_us, arrival_us) > self.rules.jump_us:
            return self._jumped(stream, media_us, duration_us, arrival_us, known)
        if missing_us >= self.rules.loss_us:
            events.append(Event(Turn.LOSS, known.last_us + known.duration_us, missing_us))
        known.note(at_us, duration_us)
        events += self.run.observe(at_us, arrival_us)
        return Taken(at_us, events=tuple(events))

    def renew(self) -> RunClock:
        """Begin a run, after the source was lost; returns the one that ended."""
        ended, self.run, self._streams = self.run, RunClock(self.rules), {}
        return ended

    def _first(self, stream: int, media_us: int, duration_us: int, arrival_us: int) -> Taken:
        """A stream's first packet in this run."""
        known = self._streams[stream] = _Stream(media_us, duration_us)
        events: list[Event] = []
        if len(self._streams) > 1:
            leads_by_us = self.run.leads_by_us(media_us, arrival_us)
            if abs(leads_by_us) > APART * self.rules.jump_us:
                known.shift_us, known.is_apart = -leads_by_us, True
                events.append(Event(Turn.APART, media_us - leads_by_us, abs(leads_by_us)))
        at_us = media_us + known.shift_us
        known.note(at_us, duration_us)
        events += self.run.observe(at_us, arrival_us)
        return Taken(at_us, events=tuple(events))

    def _jumped(self, stream: int, media_us: int, duration_us: int, arrival_us: int, known: _Stream) -> Taken:
        ended_us = max(each.last_us + each.duration_us for each in self._streams.values())
        leap_us = media_us + known.shift_us - known.last_us
        turn = Turn.JUMP_AHEAD if leap_us > 0 else Turn.JUMP_BACK
        self.renew()
        first = self._first(stream, media_us, duration_us, arrival_us)
        return Taken(first.media_us, begins_run=True, events=(Event(turn, ended_us, abs(leap_us)),))


@dataclass(slots=True)
class _Window:
    """The least delayed packet of a while."""

    from_us: int
    at_us: int
    offset_us: int
    to_us: int


class RunClock:
    """Media time and arrival of one run, in which the source's clock only ran."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.anchors: list[tuple[int, int]] = []
        """Media time and offset, by media time; a pause is two of them at one media time."""
        self._window: _Window | None = None
        self._behind: _Window | None = None
        self._kept_up_to_us = 0
        self._newest: tuple[int, int] | None = None

    def observe(self, media_us: int, arrival_us: int) -> list[Event]:
        """One packet more; media time may go back a little, as between two streams."""
        offset_us = arrival_us - media_us
        newest, window = self._newest, self._window
        if newest is None or media_us >= newest[0]:
            self._newest = media_us, arrival_us
        if window is None:
            self._window = _Window(media_us, media_us, offset_us, media_us)
            self.anchors = [(media_us, offset_us)]
            return []
        window.to_us = max(window.to_us, media_us)
        if len(self.anchors) == 1 and offset_us < self.anchors[0][1] and self._is_first(media_us):
            self.anchors = [(self.anchors[0][0], offset_us)]
        anchor_us, least_us = self.anchors[-1]
        if media_us < anchor_us:
            least_us = self.offset_us(media_us)
        if offset_us < least_us + self.rules.pause_us and media_us > self._kept_up_to_us:
            self._kept_up_to_us = media_us
        if media_us < window.from_us + self.rules.window_us:
            if offset_us < window.offset_us:
                window.at_us, window.offset_us = media_us, offset_us
            return []
        events = self._close(window)
        self._window = _Window(media_us, media_us, offset_us, media_us)
        return events

    def offset_us(self, media_us: int) -> int:
        """Arrival less media time of a packet that was not delayed at all, as far as is known."""
        if not self.anchors:
            raise ValueError("run: expected at least one packet, found none")
        if media_us >= self.anchors[-1][0]:
            return self.anchors[-1][1]
        index = bisect_right(self.anchors, media_us, key=lambda anchor: anchor[0])
        if index == 0:
            return self.anchors[0][1]
        at_us, offset_us = self.anchors[index - 1]
        next_us, next_offset_us = self.anchors[index]
        return offset_us + (next_offset_us - offset_us) * (media_us - at_us) // (next_us - at_us)

    def wall_us(self, media_us: int) -> int:
        """When it was made, by the host's monotonic clock."""
        return media_us + self.offset_us(media_us)

    def leads_by_us(self, media_us: int, arrival_us: int) -> int:
        """By how much a packet seems to be made after it arrived; negative: its delay."""
        return self.wall_us(media_us) - arrival_us

    @property
    def open_us(self) -> int:
        """By how much at most the newest packet was made later than is told: a pause may not be told yet.

        It was made before it arrived; and what came before it was not made later still, for a clock that
        stood still stays behind.
        """
        return max(0, -self.leads_by_us(*self._newest)) if self._newest is not None else 0

    @property
    def drift_ppm(self) -> float:
        """How much faster than the source's clock ours ran, pauses left out; 0 before the second window."""
        moved, passed = 0, 0
        for (from_us, offset_us), (to_us, next_offset_us) in pairwise(self.anchors):
            if to_us > from_us:
                moved, passed = moved + next_offset_us - offset_us, passed + to_us - from_us
        return 1e6 * moved / passed if passed else 0.0

    def _is_first(self, media_us: int) -> bool:
        return media_us < self.anchors[0][0] + self.rules.window_us

    def _close(self, window: _Window) -> list[Event]:
        """Let the least delayed packet of a window move the offset."""
        last_us, last_offset_us = self.anchors[-1]
        behind_us = window.offset_us - last_offset_us
        if behind_us > self.rules.pause_us:
            return self._fell_behind(window)
        self._behind = None
        if window.at_us > last_us:
            most = self.rules.slew_ppm * (window.at_us - last_us) // SECOND_US
            self.anchors.append((window.at_us, last_offset_us + max(-most, min(most, behind_us))))
        return []

    def _fell_behind(self, window: _Window) -> list[Event]:
        """All of a window came late: the sender catches up, or its clock stood still."""
        before, self._behind = self._behind, window
        if before is None or window.offset_us < before.offset_us - self.rules.caught_up_us:
            return []
        last_us, last_offset_us = self.anchors[-1]
        at_us = max(last_us, self._kept_up_to_us)
        offset_us = min(before.offset_us, window.offset_us)
        self.anchors += [(at_us, last_offset_us)] * (at_us > last_us) + [(at_us, offset_us)]
        self._behind = None
        return [Event(Turn.PAUSE, at_us, offset_us - last_offset_us)]


class HostClock:
    """What UTC the host showed, against its monotonic clock: steps are told, slewing is followed.

    Wall times of a file rest on one reading, so that a step in the middle of it makes no gap and no overlap;
    those of the next rest on what the clock shows since, as do the sessions of people.
    """

    STEP_US = SECOND_US // 2

    def __init__(self, utc_us: int, monotonic_us: int) -> None:
        self.base_us = utc_us - monotonic_us
        self._at_us = monotonic_us

    def read(self, utc_us: int, monotonic_us: int) -> int:
        """Look again; returns by how much UTC was stepped since (0: it was not)."""
        moved = utc_us - monotonic_us - self.base_us
        passed = monotonic_us - self._at_us
        self._at_us = monotonic_us
        self.base_us += moved
        return moved if abs(moved) > self.STEP_US + passed * 500 // SECOND_US else 0
