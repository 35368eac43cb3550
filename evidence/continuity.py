"""What can break the continuity of a recording, in the words of its report (R2, L15).

A span says that something happened between two instants of media time, what was measured and from which value
on it is reported. It says nothing of what was recorded, and nothing of who is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

SCHEMA = "liuhen-continuity/1"
SCENES_SCHEMA = "liuhen-scenes/1"
MAX_SPANS = 1000
"""Of one kind in one report; the others are counted."""


class Fault(StrEnum):
    """Kinds of spans."""

    PICTURE_GAP = "picture_gap"
    SOUND_GAP = "sound_gap"
    CLOCK_JUMP = "clock_jump"
    CLOCK_RESTART = "clock_restart"
    DROPPED_FRAMES = "dropped_frames"
    FROZEN = "frozen"
    BLACK = "black"
    COVERED = "covered"
    SILENCE = "silence"
    DEAD_MICROPHONE = "dead_microphone"


WORDS: Mapping[Fault, tuple[str, str]] = {
    Fault.PICTURE_GAP: ("画面中断", "no picture"),
    Fault.SOUND_GAP: ("声音中断", "no sound"),
    Fault.CLOCK_JUMP: ("时间戳前跳", "the file's clock leaps ahead"),
    Fault.CLOCK_RESTART: ("时间戳回退", "the file's clock starts again"),
    Fault.DROPPED_FRAMES: ("丢帧", "frames dropped"),
    Fault.FROZEN: ("画面静止", "the picture stands still"),
    Fault.BLACK: ("黑屏", "the picture is black"),
    Fault.COVERED: ("画面被遮挡", "the picture is covered"),
    Fault.SILENCE: ("静音", "silence"),
    Fault.DEAD_MICROPHONE: ("拾音失效", "the microphone is dead"),
}


@dataclass(frozen=True)
class Span:
    """One fault, ``from <= t < to``."""

    fault: Fault
    from_us: int
    """Microseconds of media time."""
    to_us: int
    """The same as ``from_us`` where it takes no time."""
    measured: float
    threshold: float
    unit: str
    """Of ``measured`` and ``threshold``: ``ms``, ``frames``, ``percent``, ``luma``, ``dbfs``."""

    @property
    def key(self) -> tuple[Fault, int, int]:
        """What names it in its report."""
        return (self.fault, self.from_us, self.to_us)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": str(self.fault),
            "from_us": self.from_us,
            "to_us": self.to_us,
            "measured": self.measured,
            "threshold": self.threshold,
            "unit": self.unit,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            Fault(data["kind"]),
            int(data["from_us"]),
            int(data["to_us"]),
            float(data["measured"]),
            float(data["threshold"]),
            str(data["unit"]),
        )
