"""How fast device clocks run away, from what was read at docking (D4, invariant 11).

The rules, in order:

1. A reading is the dock's clock less the device's at one instant, before anything is set; positive: the
   device is slow. Nothing is ever corrected in place.
2. A clock runs freely from when it was set. A dock that says it set the clock begins a new stretch at
   offset 0; drift is measured from there to the next reading, never across a setting.
3. Where nobody says whether the clock was set, the reading decides that drifts less: a finding is never made
   of a guess. The policy may say how an agency's docks do it (`docks_set_clock`).
4. Over one free stretch with several readings, drift is the slope of least squares; with two it is the
   difference over the time between them.
5. A dock whose clock stepped back says nothing: a new stretch begins after it.
6. A finding is drift beyond the policy's limit by more than the resolution of the readings can explain,
   over at least the policy's shortest span.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Protocol

from evidence.clock import to_micros
from ingest.policy import Rule

DAY_US = 86_400_000_000


class Read(Protocol):
    """A reading, as its row has it."""

    @property
    def reference_clock(self) -> datetime | None: ...
    @property
    def offset_us(self) -> int | None: ...
    @property
    def clock_set(self) -> bool | None: ...


@dataclass(frozen=True)
class Stretch:
    """A time in which a clock ran freely."""

    since: datetime
    until: datetime
    reading_count: int
    """Readings it is measured from; a setting at its beginning is none."""
    from_setting: bool
    """Whether it begins at offset 0, because the clock was set then."""
    last_offset_us: int
    drift_us_per_day: int
    """Positive: the device loses time."""

    @property
    def span(self) -> timedelta:
        return self.until - self.since


def stretches(readings: Iterable[Read], docks_set_clock: str = "unknown") -> list[Stretch]:
    """Free stretches of one device's clock.

    Args:
        readings: In the order in which they arrived; those without an offset are passed over.
        docks_set_clock: ``yes``, ``no`` or ``unknown``, for readings that do not say.
    """
    found: list[Stretch] = []
    points: list[tuple[datetime, int]] = []
    from_setting = False
    before: Read | None = None
    for reading in readings:
        if reading.reference_clock is None or reading.offset_us is None:
            continue
        point = (reading.reference_clock, reading.offset_us)
        if not points or before is None:
            points, from_setting = [point], False
        elif point[0] <= points[-1][0]:
            found += _measured(points, from_setting)
            points, from_setting = [point], False
        elif _was_set(before, points[-1][1], reading.offset_us, docks_set_clock):
            found += _measured(points, from_setting)
            points, from_setting = [(points[-1][0], 0), point], True
        else:
            points.append(point)
        before = reading
    return [*found, *_measured(points, from_setting)]


def _was_set(before: Read, old_offset_us: int, offset_us: int, docks_set_clock: str) -> bool:
    if before.clock_set is not None:
        return before.clock_set
    if docks_set_clock != "unknown":
        return docks_set_clock == "yes"
    return abs(offset_us) < abs(offset_us - old_offset_us)


def _measured(points: Sequence[tuple[datetime, int]], from_setting: bool) -> list[Stretch]:
    if len(points) < 2:
        return []
    drift = slope_us_per_day(points)
    count = len(points) - from_setting
    return [Stretch(points[0][0], points[-1][0], count, from_setting, points[-1][1], drift)]


def slope_us_per_day(points: Sequence[tuple[datetime, int]]) -> int:
    """The slope of least squares through offsets over time, in exact arithmetic, rounded at the end."""
    start = to_micros(points[0][0])
    times = [to_micros(at) - start for at, _ in points]
    offsets = [offset for _, offset in points]
    count = len(points)
    above = count * sum(t * o for t, o in zip(times, offsets, strict=True)) - sum(times) * sum(offsets)
    below = count * sum(t * t for t in times) - sum(times) ** 2
    return round(Fraction(above * DAY_US, below))


def is_beyond(stretch: Stretch, rule: Rule) -> bool:
    """Whether a stretch is a finding against the clock policy (rule 6)."""
    span_us = stretch.span // timedelta(microseconds=1)
    if stretch.span < rule.span("min_span_min"):
        return False
    limit = rule.whole("max_drift_ms_per_day") * 1000
    resolution = rule.whole("resolution_ms") * 1000
    return abs(stretch.drift_us_per_day) > limit + Fraction(resolution * DAY_US, span_us)
