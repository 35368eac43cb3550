"""The clock of one stream, packet by packet: unwound where it jumps, and searched for holes.

A jump is what `media.counting` calls one. Times that come out of here count on as if there were none, which
is how durations, renditions and players take them. A packet shown further from where it is decoded than any
reordering takes it is a jump too, and is shown where its neighbours are.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any, NamedTuple

import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from media.counting import JUMP_S, MOST_REORDERED

# The usual step is taken from so many pictures: some seconds, so that a camera may slow down in the dark.
NEIGHBOURHOOD = 250
# Dropped frames nearer to each other than this are one span.
TOGETHER_S = 1

Ticks = NDArray[np.int64]


class Jump(NamedTuple):
    """A leap of the file's clock, in seconds."""

    at: Fraction
    by: Fraction
    """How far it leapt; negative where it went back."""


class Hole(NamedTuple):
    """A stretch in which packets are missing, or several close to each other; in seconds."""

    begin: Fraction
    end: Fraction
    missing: int
    """Packets that would have filled it."""


@dataclass
class StreamClock:
    """What the packets of one stream say about time."""

    time_base: Fraction
    jumps: list[Jump] = field(default_factory=list)
    count: int = 0
    first: int | None = None
    """Smallest time before the first jump: where the stream starts."""
    last: int | None = None
    """Largest time plus duration."""
    _times: array[int] = field(default_factory=lambda: array("q"))
    _lengths: array[int] = field(default_factory=lambda: array("q"))
    _shift: int = 0
    _dts: int | None = None
    _length: int = 0
    _usual_lead: int | None = None
    """From when the first packet is decoded to when it is shown."""
    _lead: int = 0
    _jump: int = field(init=False)
    """Ticks that are no jump yet: whole numbers compare ten times as fast as fractions do."""

    def __post_init__(self) -> None:
        self._jump = floor(JUMP_S / self.time_base)

    def take(self, packet: Packet[Any]) -> None:
        """Note a packet, and move its times to where they would be without jumps."""
        length = packet.duration or 0
        if packet.dts is not None:
            if self._dts is not None:
                self._watch(packet.dts - self._dts)
            self._dts, self._length = packet.dts, length
            packet.dts -= self._shift
        if packet.pts is None:
            return
        packet.pts -= self._shift
        if packet.dts is not None:
            packet.pts = packet.dts + self._near(packet.pts - packet.dts, packet.dts, length)
        if packet.is_discard:
            return
        self.count += 1
        if not self.jumps:
            self.first = packet.pts if self.first is None else min(self.first, packet.pts)
        self.last = packet.pts + length if self.last is None else max(self.last, packet.pts + length)
        self._times.append(packet.pts)
        self._lengths.append(length)

    def _near(self, lead: int, dts: int, length: int) -> int:
        """How long after it is decoded a packet is shown; as usual where what it says cannot be."""
        if self._usual_lead is None:
            self._usual_lead = self._lead = lead
        most = self._jump + MOST_REORDERED * length
        if abs(lead - self._usual_lead) <= most:
            self._lead = lead
            return lead
        if abs(lead - self._lead) > most:  # Else it is where the last one leapt to.
            by = (lead - self._usual_lead) * self.time_base
            self.jumps.append(Jump((dts + self._usual_lead) * self.time_base, by))
        self._lead = lead
        return self._usual_lead

    def _watch(self, step: int) -> None:
        if 0 <= step <= self._jump + self._length:
            return
        length = self._length * self.time_base
        at = (self.last or 0) * self.time_base
        self.jumps.append(Jump(at, step * self.time_base - length))
        self._shift += step - self._length

    @property
    def begin(self) -> Fraction:
        """Seconds on the file's clock at which the stream starts."""
        return (self.first or 0) * self.time_base

    @property
    def end(self) -> Fraction:
        return (self.last or 0) * self.time_base

    @property
    def last_begin(self) -> Fraction:
        """When the last packet shown begins."""
        return max(self._times, default=0) * self.time_base

    def missing(self, *, gap: Fraction, step_percent: int, by_length: bool) -> tuple[list[Hole], list[Hole]]:
        """Where packets come later than the ones before promise: gaps, and dropped frames.

        Args:
            gap: Seconds from which on a hole is a gap.
            step_percent: How long a step must be, of the usual one, for frames to be dropped in it.
            by_length: The usual step is what a packet says it lasts (sound); else the median of its
                neighbours (pictures, whose containers say all sorts of things).
        """
        times = np.frombuffer(self._times, np.int64)
        order = np.argsort(times, kind="stable")
        times = times[order]
        steps = np.diff(times)
        usual = np.frombuffer(self._lengths, np.int64)[order][:-1] if by_length else _medians(steps)
        holes = steps - usual
        is_gap = (usual > 0) & (holes >= max(1, int(gap / self.time_base)))
        is_drop = (usual > 0) & ~is_gap & (steps * 100 >= usual * step_percent)
        apart = int(TOGETHER_S / self.time_base)
        return (
            self._told(times, steps, usual, np.flatnonzero(is_gap), 0),
            self._told(times, steps, usual, np.flatnonzero(is_drop), apart),
        )

    def _told(self, times: Ticks, steps: Ticks, usual: Ticks, chosen: Ticks, apart: int) -> list[Hole]:
        """The chosen steps as holes; those that lie closer than ``apart`` as one."""
        if not chosen.size:
            return []
        begins, ends = times[chosen] + usual[chosen], times[chosen] + steps[chosen]
        counts = np.maximum(1, np.rint(steps[chosen] / usual[chosen]).astype(np.int64) - 1)
        firsts = np.flatnonzero(np.r_[True, begins[1:] - ends[:-1] > apart])
        lasts = np.r_[firsts[1:], chosen.size] - 1
        totals = np.add.reduceat(counts, firsts)
        return [
            Hole(begin * self.time_base, end * self.time_base, missing)
            for begin, end, missing in zip(
                begins[firsts].tolist(), ends[lasts].tolist(), totals.tolist(), strict=True
            )
        ]


def _medians(steps: Ticks) -> Ticks:
    """For each step the median of those around it."""
    usual = np.zeros_like(steps)
    for begin in range(0, len(steps), NEIGHBOURHOOD):
        # A short rest at the end is judged with what is before it.
        around = steps[max(0, min(begin, len(steps) - NEIGHBOURHOOD)) : begin + NEIGHBOURHOOD]
        usual[begin : begin + NEIGHBOURHOOD] = int(np.median(around))
    return usual
