"""When reordered pictures are decoded: from the moment their fragment is shown, not before.

Where pictures are stored in another order than that in which they are shown, each is decoded some pictures
before its time, the first of a fragment too. Players that are fed by fragments place one by when it is
decoded (``tfdt``): they would show such footage late by that delay, in a list longer than it said.
Nothing but the first and the last few pictures of a fragment needs to move: the first share the time between
the first one's being shown and the first of the others' being decoded, the last come later as the fragment
behind them does. No picture is shown at another time than before, or longer.

FFmpeg's muxer has to be told two things for that, by ``setts`` (`transcode.plan`). It lays picture and sound
beside each other by when they are decoded; so pictures come as much later as the first one waits, and go
back here by as much. And it writes no durations where pictures are evenly spaced, which leaves no room for
others; so each second picture is marked: times count in quarters, and it is decoded a quarter early.

Source: ISO/IEC 14496-12, clauses 8.8.7 (``tfhd``), 8.8.8 (``trun``) and 8.8.12 (``tfdt``).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media import boxes
from media.errors import media_error
from media.fmp4 import (
    MAX_TICKS,
    SAMPLE_IS_NOT_SYNC,
    SAMPLE_LIMIT,
    TFHD_BASE_OFFSET,
    TFHD_DESCRIPTION,
    TFHD_DURATION,
    TRUN_DATA_OFFSET,
    TRUN_DURATION,
    TRUN_FIRST_FLAGS,
    TRUN_FLAGS,
    TRUN_SHIFT,
    TRUN_SIZE,
    traf_defaults,
)
from media.fragments import Track

QUARTERS = 4
"""Decoding times of marked pictures are a multiple of this, or one less."""
UNSAID = Track(0, "video", 1, "", default_flags=SAMPLE_IS_NOT_SYNC)
Ticks = NDArray[np.int64]


class _Run(NamedTuple):
    """The one run of a track in a fragment: its table of 32-bit fields, to be written to."""

    table: NDArray[np.uint32]
    column_of: dict[int, int]
    default_duration: int
    is_sync: bool
    """The first picture is a keyframe."""

    def steps(self) -> Ticks:
        if TRUN_DURATION in self.column_of:
            return self.table[:, self.column_of[TRUN_DURATION]].astype(np.int64)
        return np.full(len(self.table), self.default_duration, np.int64)

    def shifts(self) -> Ticks:
        # Signed, as `media.fmp4` reads them.
        return self.table[:, self.column_of[TRUN_SHIFT]].astype(np.uint32).view(np.int32).astype(np.int64)


class _Group(NamedTuple):
    """The pictures of a fragment without their marks, on the clock of the muxer."""

    run: _Run
    tfhd: memoryview
    tfdt: memoryview
    decoded: Ticks
    """When each is decoded, and at last when the next would be."""
    shown: Ticks
    waits: int
    """How long the muxer had the first one wait."""
    ahead: int
    """So many of them were moved so that they begin when the fragment is shown."""


def settle_decoding(traf: memoryview, following: memoryview | None = None) -> int:
    """Take the marks off the pictures of a fragment; none changes its place, or the time it is shown.

    Args:
        traf: Of a marked track, as it lies in a ``moof`` that is to be written back.
        following: Of the same track in the next fragment, not settled yet; None: none follows.

    Returns:
        How many ticks the muxer had the first picture wait.

    Raises:
        MediaError: ``fragments_unreadable``.
    """
    group = _group(traf)
    if group is None:
        return 0
    after = _group(following) if following is not None else None
    decoded = group.decoded
    if after is not None and decoded[-1] < after.decoded[0]:
        decoded = _to_the_next(decoded, group.shown, group.ahead, int(after.decoded[0]))
    struct.pack_into(">Q" if group.tfdt[0] == 1 else ">I", group.tfdt, 4, int(decoded[0]))
    _write(group.run, group.tfhd, decoded, group.shown)
    return group.waits


def _group(traf: memoryview) -> _Group | None:
    tfhd, tfdt = boxes.find(traf, "tfhd"), boxes.find(traf, "tfdt")
    if tfhd is None or tfdt is None:
        raise media_error("fragments_unreadable", "expected tfhd and tfdt in traf, found one missing")
    run = _run(traf, tfhd)
    if run is None:
        return None
    (clock,) = boxes.unpack(">Q" if tfdt[0] == 1 else ">I", tfdt, 4)
    if clock > MAX_TICKS:
        raise media_error("fragments_unreadable", "a fragment's clock is out of all bounds")
    marked = clock + np.concatenate(([0], np.cumsum(run.steps())))
    shown = marked[:-1] + run.shifts()
    decoded, ahead = -(-marked // QUARTERS) * QUARTERS, 0
    waits = int(shown[0] - decoded[0])
    if run.is_sync:
        # Players may begin with it.
        decoded, ahead = _from_the_first_shown(decoded, shown)
    return _Group(run, tfhd, tfdt, decoded, shown, waits, ahead)


def _from_the_first_shown(decoded: Ticks, shown: Ticks) -> tuple[Ticks, int]:
    """Decoding times from the first moment shown on, and of how many; as they are where none would do."""
    first, count = int(shown.min()), len(shown)
    if count == 1:
        return decoded + (first - decoded[0]), 1
    ahead = int(np.searchsorted(decoded, first, side="right"))
    # How long the last picture stands is told by when it and the next are decoded.
    if not 0 < ahead <= count or np.argmax(shown + np.diff(decoded)) < ahead:
        return decoded, 0
    moved = decoded.copy()
    moved[:ahead] = first + (decoded[ahead] - first) * np.arange(ahead) // ahead
    for number in reversed(range(ahead)):
        # Before it is shown, and before the next: pictures that lead an open group share a moment or two.
        moved[number] = min(moved[number], shown[number], moved[number + 1] - 1)
    return moved, ahead


def _to_the_next(decoded: Ticks, shown: Ticks, ahead: int, begins: int) -> Ticks:
    """Decoding times up to when the next fragment begins; as they are where none would do.

    A player that puts one fragment behind the other takes a hole of more than two pictures for a break: it
    begins anew where the sound before it ended, and what it plays becomes longer with each.
    """
    last = int(np.argmax(shown + np.diff(decoded)))
    ends = shown[last] + decoded[last + 1] - decoded[last]
    moved = decoded.copy()
    moved[-1] = begins
    for number in reversed(range(ahead, len(shown))):
        if number < last and shown[number] + moved[number + 1] - decoded[number] <= ends:
            return moved
        step = decoded[number + 1] - decoded[number]
        moved[number] = min(shown[number], moved[number + 1] - step)
        # How long the last one shown stands is told by it and the next.
        stands_until = shown[number] + moved[number + 1] - moved[number]
        if moved[number] < decoded[number] or stands_until > ends:
            return decoded
    return decoded


def _run(traf: memoryview, tfhd: memoryview) -> _Run | None:
    """The run of a fragment; None where there is another number of them, or they hold no such fields."""
    runs = [body for kind, body in boxes.children(traf) if kind == "trun"]
    if len(runs) != 1:
        return None
    full, count = boxes.unpack(">II", runs[0])
    has = full & 0xFFFFFF
    at = 8 + 4 * bool(has & TRUN_DATA_OFFSET) + 4 * bool(has & TRUN_FIRST_FLAGS)
    present = [bit for bit in (TRUN_DURATION, TRUN_SIZE, TRUN_FLAGS, TRUN_SHIFT) if has & bit]
    if count > SAMPLE_LIMIT or at + count * 4 * len(present) > len(runs[0]):
        raise media_error("fragments_unreadable", f"a run of {count} samples in {len(runs[0])} bytes")
    if not count or not has & TRUN_SHIFT or (count > 1 and not has & TRUN_DURATION):
        return None
    defaults = traf_defaults(tfhd, UNSAID, 0)
    table = np.frombuffer(runs[0], ">u4", count * len(present), at).reshape(count, len(present))
    column_of = {bit: number for number, bit in enumerate(present)}
    flags = defaults.flags
    if has & TRUN_FIRST_FLAGS:
        (flags,) = boxes.unpack(">I", runs[0], at - 4)
    elif TRUN_FLAGS in column_of:
        flags = int(table[0, column_of[TRUN_FLAGS]])
    return _Run(table, column_of, defaults.duration, not flags & SAMPLE_IS_NOT_SYNC)


def _write(run: _Run, tfhd: memoryview, decoded: Ticks, shown: Ticks) -> None:
    steps, shifts = np.diff(decoded), shown - decoded[:-1]
    if steps.min() < 0 or steps.max() >= 1 << 32 or abs(shifts).max() >= 1 << 31:
        raise media_error("fragments_unreadable", "a picture's time does not fit its field")
    if TRUN_DURATION in run.column_of:
        run.table[:, run.column_of[TRUN_DURATION]] = steps
    else:
        # A picture alone, for which nothing but the default stands.
        (flags,) = boxes.unpack(">I", tfhd)
        if flags & TFHD_DURATION:
            at = 8 + 8 * bool(flags & TFHD_BASE_OFFSET) + 4 * bool(flags & TFHD_DESCRIPTION)
            struct.pack_into(">I", tfhd, at, int(steps[0]))
    run.table[:, run.column_of[TRUN_SHIFT]] = shifts.astype(np.int32).view(np.uint32)
