"""Under which clocks of the host a recorder's file is to be looked for, once the host's clock was set.

A file's wall time rests on one reading of the clock. Sessions begin and end by what the clock shows at that
moment, before the step or after it. The rules:

1. A file made before a step is looked for at its own time, and at that which the clock as set since gives it.
2. One made after a step back is looked for at every moment up to where the clock before would have put it: a
   session that began before the step begins later than the file, and cannot end before it began.
3. A step is forgotten a day after it, as far as later files go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from evidence.live_clock import Turn

DAY_US = 86_400 * 1_000_000
Moments = tuple[tuple[int, int], ...]
"""Stretches of UTC, microseconds."""


@dataclass(frozen=True)
class _Base:
    """What a file's wall time rests on."""

    offset_us: int
    """UTC less monotonic."""
    known: int
    """How many readings there were."""
    at_us: int
    """Monotonic, of its first packet."""


@dataclass
class Readings:
    """What the host's clock showed in the course of a run, beside its monotonic one; from its journal."""

    offsets: list[tuple[int, int]] = field(default_factory=list)
    """Since when, monotonic, and UTC less monotonic."""
    _bases: dict[int, _Base] = field(default_factory=dict)

    def note(self, line: Mapping[str, Any]) -> None:
        if line["kind"] == "begun":
            self.offsets = [(line["monotonic_us"], line["utc_us"] - line["monotonic_us"])]
        elif line["kind"] == "file" and {"arrived_utc_us", "monotonic_us"} <= line.keys():
            at_us = int(line["monotonic_us"])
            self._bases[line["file"]] = _Base(line["arrived_utc_us"] - at_us, len(self.offsets), at_us)
        elif step_us(line) and self.offsets:
            self.offsets.append((line["monotonic_us"], self.offsets[-1][1] + step_us(line)))

    def moments(self, file: int, from_us: int, to_us: int) -> Moments:
        """When a file of that wall time may have been recorded, as people and sessions tell the time.

        Args:
            to_us: The latest at which it may have ended, by the clock that it rests on.
        """
        base = self._bases.get(file)
        if base is None:
            return ((from_us, to_us),)
        earlier = [
            offset_us - base.offset_us
            for (_, offset_us), (until_us, _) in pairwise(self.offsets[: base.known])
            if until_us > base.at_us - DAY_US
        ]
        later = [offset_us - base.offset_us for _, offset_us in self.offsets[base.known :]]
        ahead_us = max([0, *earlier])
        return ((from_us, to_us + ahead_us), *((from_us + by_us, to_us + by_us) for by_us in later))

    def behind_us(self, file: int) -> int:
        """By how much what follows a file may be told to be before it; never more than 0."""
        base = self._bases.get(file)
        return min(0, self.offsets[-1][1] - base.offset_us) if base is not None and self.offsets else 0

    def stepped_us(self, at_us: int) -> int:
        """How far the clock was set within the last day.

        Args:
            at_us: Monotonic, now.
        """
        steps = [(until_us, after - before) for (_, before), (until_us, after) in pairwise(self.offsets)]
        return sum(abs(by_us) for until_us, by_us in steps if until_us > at_us - DAY_US)


def step_us(line: Mapping[str, Any]) -> int:
    """By how much the host's clock was set, as a line of a journal tells; 0: it tells something else."""
    return int(line["by_us"]) if line.get("turn") == Turn.HOST_STEP else 0
