"""Measures of picture and sound that say whether a recorder saw and heard: small samples, no content kept.

Pictures are measured on luma of 160 pixels a row, every so many milliseconds, by picking pixels rather than
blending them: a sensor's noise tells a still scene from a frozen picture, and blending would hide it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from evidence.continuity import Fault
from media.counting import JUMP_S

WIDTH_PX = 160
BINS = 32
SILENT_DBFS = -144.0
"""Stands for no level at all."""
BACK_S = 1
"""A picture shown longer than this before the last one looked at tells that the clock is another."""


class Finding(NamedTuple):
    """A fault in seconds on the file's clock, jumps left out."""

    fault: Fault
    begin: Fraction
    end: Fraction
    measured: float


class Scene(NamedTuple):
    """A change of scene: when, and how much of the picture changed."""

    pts: int
    percent: float


@dataclass
class Spell:
    """A condition that has to hold for a while before it counts."""

    fault: Fault
    least: Fraction
    worst: Any = max
    """Which of two measures is nearer to not holding."""
    found: list[Finding] = field(default_factory=list)
    _begin: Fraction | None = None
    _value: float = 0.0

    def see(self, at: Fraction, holds: bool, value: float, since: Fraction | None = None) -> None:
        """Note a sample; a spell lasts until the first one that it does not hold for."""
        if not holds:
            self.end(at)
        elif self._begin is None:
            self._begin, self._value = at if since is None else since, value
        else:
            self._value = self.worst(self._value, value)

    def end(self, at: Fraction) -> None:
        """Nothing more comes, or not so."""
        if self._begin is not None and at - self._begin >= self.least:
            self.found.append(Finding(self.fault, self._begin, at, round(self._value, 3)))
        self._begin = None


class PictureWatch:
    """Sees whether the picture is black, covered or frozen, and where its scene changes.

    Args:
        limits: Thresholds by the names of the settings.
    """

    def __init__(self, limits: dict[str, float], time_base: Fraction) -> None:
        self.scenes: list[Scene] = []
        self._limits = limits
        self._base = time_base
        self._black = Spell(Fault.BLACK, _seconds(limits["black_ms"]), min)
        self._covered = Spell(Fault.COVERED, _seconds(limits["covered_ms"]))
        self._frozen = Spell(Fault.FROZEN, _seconds(limits["frozen_ms"]))
        self._due: Fraction | None = None
        self._last = Fraction(0)
        """When what was looked at last is shown."""
        self._far = Fraction(0)
        """How much later than that the next one may be."""
        self._still: NDArray[np.int16] | None = None
        self._still_at = Fraction(0)
        self._levels: NDArray[np.int64] | None = None
        self._scaler = VideoReformatter()

    def see(self, frame: VideoFrame) -> None:
        """Look at a decoded picture, unless it follows the last one too closely."""
        if frame.pts is None:
            return
        at = frame.pts * self._base
        if self._due is not None and not -BACK_S <= at - self._last <= self._far:
            self._lose_time()
            return
        if self._due is not None and at < self._due:
            return
        sample_s = _seconds(self._limits["sample_ms"])
        self._due, self._last = at + sample_s, at
        self._far = JUMP_S + sample_s + (frame.duration or 0) * self._base
        luma = small_luma(frame, self._scaler)
        share = 100 * float(np.mean(luma <= self._limits["black_luma"]))
        is_black = share >= self._limits["black_share_percent"]
        contrast = float(luma.std())
        self._black.see(at, is_black, share)
        self._covered.see(at, not is_black and contrast <= self._limits["covered_contrast"], contrast)
        self._see_still(at, luma, is_black)
        self._see_scene(frame.pts, luma)

    def _lose_time(self) -> None:
        """A picture is out of all time: it is no sample, and the next one begins anew."""
        for spell in (self._black, self._covered, self._frozen):
            spell.end(self._last)
        self._due = self._still = None

    def _see_still(self, at: Fraction, luma: NDArray[np.int16], is_black: bool) -> None:
        difference = math.inf
        if self._still is not None and self._still.shape == luma.shape:
            difference = float(np.abs(luma - self._still).mean())
        is_still = not is_black and difference <= self._limits["frozen_difference"]
        self._frozen.see(at, is_still, difference, self._still_at)
        if not is_still:
            self._still, self._still_at = luma, at

    def _see_scene(self, pts: int, luma: NDArray[np.int16]) -> None:
        levels = np.bincount(luma.ravel() * BINS // 256, minlength=BINS)
        if self._levels is not None and self._levels.sum() == levels.sum():
            percent = 50 * float(np.abs(levels - self._levels).sum()) / luma.size
            if percent >= self._limits["scene_percent"]:
                self.scenes.append(Scene(pts, round(percent, 1)))
        self._levels = levels

    def end(self, at: Fraction) -> list[Finding]:
        """The pictures are over."""
        spells = (self._black, self._covered, self._frozen)
        is_near = -BACK_S <= at - self._last <= self._far
        for spell in spells:
            spell.end(at if is_near else self._last)
        return [finding for spell in spells for finding in spell.found]


class SoundWatch:
    """Hears whether there is sound, and whether a microphone made it.

    The level is half the distance between the lowest and the highest sample, so a constant offset is silence.
    """

    def __init__(self, limits: dict[str, float]) -> None:
        self._limits = limits
        self._silence = Spell(Fault.SILENCE, _seconds(limits["silence_ms"]))
        self._dead = Spell(Fault.DEAD_MICROPHONE, _seconds(limits["dead_ms"]))

    def hear(self, at: Fraction, samples: NDArray[np.float32]) -> None:
        """Note decoded samples: ``(channels, samples)``, float32, full scale 1."""
        if not samples.size:
            return
        swing = float((samples.max(axis=1) - samples.min(axis=1)).max()) / 2
        level = max(SILENT_DBFS, 20 * math.log10(swing)) if swing > 0 else SILENT_DBFS
        self._silence.see(at, level < self._limits["silence_dbfs"], level)
        self._dead.see(at, level < self._limits["dead_dbfs"], level)

    def end(self, at: Fraction) -> list[Finding]:
        """The sound is over. A dead microphone is not told again as silence."""
        self._silence.end(at)
        self._dead.end(at)
        dead = self._dead.found
        silent = [
            one
            for one in self._silence.found
            if not any(other.begin <= one.begin and one.end <= other.end for other in dead)
        ]
        return [*dead, *silent]


def small_luma(frame: VideoFrame, scaler: VideoReformatter) -> NDArray[np.int16]:
    """The luma of a picture, `WIDTH_PX` wide: ``(height, width)``, 0 to 255.

    Args:
        scaler: Kept for all pictures: a new one for each costs thirty times what the picking does.
    """
    height = max(2, round(frame.height * WIDTH_PX / frame.width))
    small = scaler.reformat(
        frame, width=WIDTH_PX, height=height, format="gray", interpolation="POINT", threads=1
    )
    plane = small.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, :WIDTH_PX].astype(np.int16)


def _seconds(ms: float) -> Fraction:
    return Fraction(int(ms), 1000)
