"""Which frames a detector looks at: few at first, then every one where something begins, ends or is unsure.

Looking is nine tenths of what a plan costs, and most frames say what their neighbours said. So the first pass
looks at every n-th frame, sooner where the picture changes or frames come slowly, at both sides of what may
be a cut, and at whatever the caller insists on. The second looks at every frame between two of those

1. where one saw something that the other did not, or not at the same place and size: a first or last
   sighting, a lost one, fast motion;
2. where one saw something with a low score;
3. shortly before the first and shortly after the last sighting of anything, for what was lost for a while.

A look of the first pass is one at the whole picture. One of the second is about the things for which it is
asked, and is told where they were (`redaction.focus`).

What was seen alike on both sides of a gap of a few frames stands between them, interpolated and grown by
`redaction.track`. Nothing here drops a sighting: a frame is looked at more often, or not at all.

Each detector has passes of its own, so things of two classes are never taken for each other. Pure of pictures
but for the small luma that tells of change; how to look is a callable of the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from redaction.cadence import Cadence

Detections = NDArray[np.float32]
Answer = Callable[[], Detections]
"""Waits for what a look found: ``(k, 5)``."""
Look = Callable[[Detections | None], Answer]
"""Begins a look at a frame, without waiting for it: around what is given, or at the whole picture."""
Luma = NDArray[np.uint8]

NOTHING: Detections = np.empty((0, 5), dtype=np.float32)


@dataclass(frozen=True)
class PassParameters:
    """When a frame is looked at; whole numbers, because they are part of the plan."""

    look_every: int = 5
    """Frames from one first look to the next in a picture that stands still; 1 looks at every frame."""
    look_every_moving: int = 3
    """The same while the picture changes."""
    look_sure_permille: int = 400
    """A sighting of at least this score on both sides needs no look between."""
    look_around_us: int = 400_000
    """How long before and after a sighting every frame is looked at where the sighting ends."""


# How long a sighting is masked before and after it, unless the tracker says otherwise.
APART_US = 500_000
# Change of the most changed cell of the small picture, in levels of 255, from the frame looked at last.
MOVING, JUMPED = 10.0, 40.0
CELLS = (6, 8)
# How alike two sightings of one thing are: moved by less than this share of its size, and resized by less.
MOVED_SHARE = 0.75
RESIZED = 1.3
# Frames that are held, so that they can be looked at later, before the oldest must be decided.
BLOCK = 16
BLOCKS_HELD = 3


@dataclass(slots=True)
class _Held:
    """A frame that may still be looked at."""

    time_us: int
    look: Look | None
    """None once nobody will look any more."""
    found: Answer | None = None

    @property
    def seen(self) -> Detections | None:
        """What was found; None where nobody looked."""
        return None if self.found is None else self.found()


class Passes:
    """Lets the frames of one recording be looked at by one detector as they go by.

    Frames are held until those around them are decided, at most ``BLOCK * BLOCKS_HELD``.

    Args:
        parameters: When to look.
        apart_us: How long before and after a look what it sees is masked; looks are no further apart.
    """

    def __init__(self, parameters: PassParameters, apart_us: int = APART_US) -> None:
        self._parameters = parameters
        self._cadence = Cadence(apart_us)
        self._jumps = JumpFinder()
        self._frames: list[_Held] = []
        self._undecided = 0
        """The first frame whose second pass has not been asked for."""
        self._settled = 0
        """All before it are looked at, or never will be, and hold no picture any more."""
        self._reference: NDArray[np.float32] | None = None

    def add(self, time_us: int, luma: Luma, look: Look, *, insist: bool = False) -> None:
        """Take the next frame.

        Args:
            time_us: When it is shown.
            luma: ``(h, w)``, uint8, small, of one size throughout.
            look: Begins a look at it; called at most once, now or while a later frame is added.
            insist: Look in the first pass, whatever it shows.
        """
        number = len(self._frames)
        self._frames.append(_Held(time_us, look))
        jumped, cells = self._jumps.add(luma)
        changed = 0.0 if self._reference is None else _change(cells, self._reference)
        parameters = self._parameters
        every = parameters.look_every_moving if changed >= MOVING else parameters.look_every
        due = self._cadence.due(number, time_us, every, insist=insist or jumped)
        if jumped or due.previous:
            # The last frame of what was there before; a track ends with it.
            self._ask(number - 1)
        if due.this:
            self._ask(number)
            self._reference = cells
        if number + 1 - self._settled >= BLOCK * BLOCKS_HELD:
            self._decide(until=self._undecided + BLOCK)

    def insist(self, number: int) -> None:
        """Look at a frame after all, if it is still held; those around it are then looked at by the rules."""
        if number >= self._settled:
            self._ask(number)

    def finish(self) -> list[Detections]:
        """What was found in each frame; nothing where nobody looked."""
        if self._frames:
            self._ask(len(self._frames) - 1)
        self._decide(until=len(self._frames))
        return [NOTHING if held.seen is None else held.seen for held in self._frames]

    def _ask(self, number: int, near: Detections | None = None) -> None:
        held = self._frames[number]
        if held.found is None and held.look is not None:
            held.found, held.look = held.look(near), None

    def _decide(self, until: int) -> None:
        """Ask for the second pass over the frames before ``until``, and let go of those that are settled."""
        # One look beyond, so that the last gap has another side.
        first = self._undecided
        looked = [n for n in range(self._settled, len(self._frames)) if self._frames[n].found is not None]
        sides = [n for n in looked if n < until] + [n for n in looked if n >= until][:1]
        seen = {number: held for number in sides if (held := self._frames[number].seen) is not None}
        times = [self._frames[number].time_us for number in range(self._settled, len(self._frames))]
        for number, near in wanted(seen, times, self._settled, self._parameters).items():
            self._ask(number, near)
        self._undecided = max(first, until)
        # What ends in the next block is looked at around, back into this one: it is kept for one more.
        keep_from = self._undecided - BLOCK if until < len(self._frames) else len(self._frames)
        for number in range(self._settled, max(self._settled, keep_from)):
            self._frames[number].look = None
        self._settled = max(self._settled, keep_from)


def wanted(
    seen: dict[int, Detections], times_us: Sequence[int], offset: int, parameters: PassParameters
) -> dict[int, Detections]:
    """Frames to look at in the second pass.

    Args:
        seen: What was found, by the number of each frame that was looked at.
        times_us: When each frame is shown, from number ``offset`` on.
        offset: The first number that is still held.
        parameters: When to look.

    Returns:
        By number, ascending, of frames between two of ``seen``: the sightings for which to look there.
    """
    sides = sorted(seen)
    sure = parameters.look_sure_permille / 1000
    gaps = list(pairwise(sides))
    edges = [
        (times_us[a - offset], times_us[b - offset], unsure)
        for a, b in gaps
        if len(unsure := _unsure(seen[a], seen[b], sure))
    ]
    around = parameters.look_around_us
    numbers: dict[int, Detections] = {}
    for a, b in gaps:
        begins, ends = times_us[a - offset], times_us[b - offset]
        near = [unsure for early, late, unsure in edges if begins <= late + around and ends >= early - around]
        if near:
            numbers |= dict.fromkeys(range(a + 1, b), np.concatenate(near))
    return numbers


def _unsure(first: Detections, second: Detections, sure: float) -> Detections:
    """What two frames do not surely show alike, of both: ``(k, 5)``."""
    sizes = [
        np.sqrt(np.prod(np.clip(seen[:, 2:4] - seen[:, :2], 1.0, None), axis=1)) for seen in (first, second)
    ]
    centres = [(seen[:, :2] + seen[:, 2:4]) / 2 for seen in (first, second)]
    apart = np.linalg.norm(centres[0][:, None] - centres[1][None], axis=2)
    ratio = sizes[0][:, None] / sizes[1][None]
    matches = (
        (apart <= MOVED_SHARE * np.minimum(sizes[0][:, None], sizes[1][None]))
        & (ratio <= RESIZED)
        & (ratio >= 1 / RESIZED)
    )
    # One to one: two that lie near each other are for the second pass to tell apart.
    alone = matches & (matches.sum(axis=1) == 1)[:, None] & (matches.sum(axis=0) == 1)[None]
    alike = alone & (first[:, 4] >= sure)[:, None] & (second[:, 4] >= sure)[None]
    return np.concatenate([first[~alike.any(axis=1)], second[~alike.any(axis=0)]])


class JumpFinder:
    """Tells where the picture jumps from one frame to the next: what may be a cut."""

    def __init__(self) -> None:
        self._previous: NDArray[np.float32] | None = None

    def add(self, luma: Luma) -> tuple[bool, NDArray[np.float32]]:
        """Whether the next frame is unlike the one before, and the means of its cells."""
        cells = _cells(luma)
        previous, self._previous = self._previous, cells
        return previous is not None and _change(cells, previous) >= JUMPED, cells


def _cells(luma: Luma) -> NDArray[np.float32]:
    """The mean of each cell of a coarse grid over the picture."""
    starts = [np.arange(count) * side // count for count, side in zip(CELLS, luma.shape, strict=True)]
    starts = [np.unique(one) for one in starts]
    sums = np.add.reduceat(np.add.reduceat(luma, starts[0], axis=0, dtype=np.uint32), starts[1], axis=1)
    sizes = [np.diff(one, append=side) for one, side in zip(starts, luma.shape, strict=True)]
    means: NDArray[np.float32] = (sums / np.outer(*sizes)).astype(np.float32)
    return means


def _change(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.abs(first - second).max())
