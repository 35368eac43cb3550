"""The files of one press of the button: which belong together, in which order, and what lies between them.

Recorders cut a recording into files. The rules (6.1 of the requirements, D4):

1. What a sender names as one recording is one; nobody moves such a file.
2. Files of one device whose names carry the same recording number within a day are one.
3. Otherwise files of one device and one shape (picture size, coding) are one where the next begins within
   a limit of the end of the one before, earlier or later. Two streams of one shape run side by side as
   two recordings.
4. A gap is as exact as the clock it is measured by, so that is stated with it. A time code in both files
   counts frames; other clocks here count seconds, or what they were written with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Generic, Literal, TypeVar

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
MOST_MISSING = 1000
_TIMECODE = re.compile(r"(\d{2}):([0-5]\d):([0-5]\d)([:;.])(\d{2,3})")
_FRACTION = re.compile(r"T?\d{2}:?\d{2}:?\d{2}[.,](\d{1,9})")

Id = TypeVar("Id")


@dataclass(frozen=True)
class Part(Generic[Id]):
    """One file, as far as its place in a recording goes."""

    id: Id
    started_at: datetime
    """By the device's clock, corrected."""
    duration_us: int
    shape: tuple[object, ...] = ()
    resolution_us: int = SECOND_US
    """The smallest step of the clock that `started_at` was read from."""
    frame: Fraction | None = None
    """Seconds of one frame; None: no picture."""
    timecode: str | None = None
    sequence_no: int | None = None

    @property
    def ended_at(self) -> datetime:
        return self.started_at + timedelta(microseconds=self.duration_us)


@dataclass(frozen=True)
class Joint(Generic[Id]):
    """What lies between two files of a recording."""

    before: Id
    after: Id
    gap_us: int
    """Negative: they overlap by this."""
    resolution_us: int
    """The gap is known to within this, up or down."""
    clock: Literal["timecode", "device"]
    gap_frames: int | None
    """The same in frames of the earlier file, rounded; None: no picture."""

    @property
    def is_certain(self) -> bool:
        """Whether something is missing or doubled for sure, and not just by the clock's step."""
        return abs(self.gap_us) > self.resolution_us


def chains(parts: Iterable[Part[Id]], limit: timedelta) -> list[list[Part[Id]]]:
    """Files as recordings, each in its order; a file on its own is a chain of one."""
    found: list[list[Part[Id]]] = []
    for part in sorted(parts, key=lambda part: (part.started_at, part.ended_at, str(part.id))):
        near = [
            chain
            for chain in found
            if chain[-1].shape == part.shape and abs(part.started_at - chain[-1].ended_at) <= limit
        ]
        if near:
            min(near, key=lambda chain: abs(part.started_at - chain[-1].ended_at)).append(part)
        else:
            found.append([part])
    return found


def in_order(parts: Iterable[Part[Id]], *, by_number: bool) -> list[Part[Id]]:
    """Files of one recording: by their numbers (the first file of some recorders has none), or by time."""
    listed = sorted(parts, key=lambda part: (part.started_at, str(part.id)))
    return sorted(listed, key=lambda part: part.sequence_no or 0) if by_number else listed


def joints(ordered: Sequence[Part[Id]]) -> list[Joint[Id]]:
    """What lies between each file and the next; nothing is known of two that were given one start."""
    return [
        _joint(before, after)
        for before, after in pairwise(ordered)
        # Some recorders write the start of the recording into each of its files.
        if before.started_at != after.started_at
    ]


def missing_numbers(numbers: Iterable[int | None]) -> list[int]:
    """Numbers between the smallest and the largest that no file has; at most `MOST_MISSING` of them."""
    held = {number for number in numbers if number is not None}
    if not held:
        return []
    missing = (number for number in range(min(held), max(held)) if number not in held)
    return [number for number, _ in zip(missing, range(MOST_MISSING), strict=False)]


def resolution_of(text: str) -> int:
    """The smallest step of a written time, in microseconds: a second, unless digits behind it say more.

    Containers that count seconds are written with six zeros behind them, which say nothing.
    """
    found = _FRACTION.search(text)
    digits = found[1].rstrip("0")[:6] if found else ""
    step: int = SECOND_US // 10 ** len(digits)
    return step


def timecode_us(text: str, frame: Fraction) -> int | None:
    """Microseconds since midnight of a SMPTE time code; None where it is none.

    Drop-frame codes (``;``) leave out two numbers a minute but not in each tenth, four at twice the rate.
    Source: SMPTE ST 12-1.
    """
    found = _TIMECODE.fullmatch(text.strip())
    if found is None or frame <= 0:
        return None
    hours, minutes, seconds, number = int(found[1]), int(found[2]), int(found[3]), int(found[5])
    nominal = round(1 / frame)
    if nominal < 1 or number >= nominal:
        return None
    count = (hours * 3600 + minutes * 60 + seconds) * nominal + number
    if found[4] == ";" and nominal % 30 == 0:
        total = hours * 60 + minutes
        count -= (nominal // 15) * (total - total // 10)
    return round(count * frame * SECOND_US)


def _joint(before: Part[Id], after: Part[Id]) -> Joint[Id]:
    gap = (after.started_at - before.ended_at) // timedelta(microseconds=1)
    resolution = max(before.resolution_us, after.resolution_us)
    clock: Literal["timecode", "device"] = "device"
    by_code = _gap_by_timecode(before, after)
    if by_code is not None and before.frame is not None:
        step = round(before.frame * SECOND_US)
        # A code that only runs while recording shows no gap at all: believed where the clock agrees.
        if abs(by_code - gap) <= resolution + step:
            gap, resolution, clock = by_code, step, "timecode"
    frames = None if before.frame is None else round(Fraction(gap, SECOND_US) / before.frame)
    return Joint(before.id, after.id, gap, resolution, clock, frames)


def _gap_by_timecode(before: Part[Id], after: Part[Id]) -> int | None:
    if not (before.timecode and after.timecode and before.frame and before.frame == after.frame):
        return None
    start, following = timecode_us(before.timecode, before.frame), timecode_us(after.timecode, before.frame)
    if start is None or following is None or before.timecode == after.timecode:
        # Some recorders write the code of the first file into each.
        return None
    gap = following - start - before.duration_us
    # A code starts again at midnight.
    return (gap + DAY_US // 2) % DAY_US - DAY_US // 2
