"""Corrections of a device's clock: offsets from readings at docks, never edits (invariant 11).

A reading says what the device's clock and a better one showed at one instant. The rules:

1. The pair that came with a recording's own docking corrects its times by its difference, as it stands.
2. Otherwise the readings of the device around the time do. Between two of them the offset is a straight
   line over the device's clock: a quartz that drifts drifts evenly for a day.
3. Where the dock set the clock, the line to the next reading starts at no offset, at the time it set.
4. Elsewhere the nearest reading on the device's clock counts, with its offset as it stands, and the
   correction says on which side it was. How far the clock drifted meanwhile nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

ZERO = timedelta()


class Basis(StrEnum):
    """What an offset rests on."""

    DOCKING = "docking"  # 本次采集时的时钟对
    BETWEEN = "between"  # 前后两次读数之间
    BEFORE = "before"  # 仅此前的读数
    AFTER = "after"  # 仅此后的读数


@dataclass(frozen=True)
class ClockReading:
    """Two clocks at one instant."""

    device_at: datetime
    """What the device's clock showed."""
    offset: timedelta
    """Reference less device, before any setting."""
    was_set: bool = False
    """The device's clock was set to the reference right after."""

    @property
    def goes_on_at(self) -> datetime:
        """What the device's clock showed next."""
        return self.device_at + self.offset if self.was_set else self.device_at

    @property
    def goes_on_with(self) -> timedelta:
        """The offset from then on."""
        return ZERO if self.was_set else self.offset


@dataclass(frozen=True)
class Correction:
    """What to add to a time of the device's clock, and why."""

    offset: timedelta
    basis: Basis

    def of(self, device_time: datetime) -> datetime:
        return device_time + self.offset


def correction_at(
    device_time: datetime, readings: Sequence[ClockReading], pair: timedelta | None = None
) -> Correction | None:
    """How to correct a time the device's clock showed; None where nothing is known of it.

    Args:
        readings: Of this device, oldest first by the server's clock.
        pair: Dock clock less device clock, as told with the recording itself.
    """
    if pair is not None:
        return Correction(pair, Basis.DOCKING)
    if not readings:
        return None
    # The newest stretch that holds the time: a clock set back shows some times twice.
    for before, after in reversed(list(pairwise(readings))):
        if before.goes_on_at <= device_time <= after.device_at:
            return Correction(_between(device_time, before, after), Basis.BETWEEN)
    # Nearest on the device's own clock: after a flat battery it may show another decade for a day.
    earlier = [reading for reading in readings if reading.goes_on_at <= device_time]
    later = [reading for reading in readings if reading.device_at >= device_time]
    nearest = max(earlier, key=lambda reading: reading.goes_on_at, default=None)
    next_one = min(later, key=lambda reading: reading.device_at, default=None)
    if next_one is not None and (
        nearest is None or next_one.device_at - device_time < device_time - nearest.goes_on_at
    ):
        return Correction(next_one.offset, Basis.AFTER)
    if nearest is not None:
        return Correction(nearest.goes_on_with, Basis.BEFORE)
    # It shows a time that a dock's setting of the clock skipped.
    return Correction(readings[-1].goes_on_with, Basis.BEFORE)


def _between(device_time: datetime, before: ClockReading, after: ClockReading) -> timedelta:
    whole = (after.device_at - before.goes_on_at) // timedelta(microseconds=1)
    if whole == 0:
        return after.offset
    passed = (device_time - before.goes_on_at) // timedelta(microseconds=1)
    drift = (after.offset - before.goes_on_with) // timedelta(microseconds=1)
    return before.goes_on_with + timedelta(microseconds=drift * passed // whole)
