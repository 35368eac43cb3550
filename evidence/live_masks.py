"""What of a session is shown while it is recorded to people without the right to originals.

A live mask is set by somebody who has that right: for each stream that may be watched the areas that are
covered, and whether its sound may be heard. It is deny unless allowed; the rules in order:

1. Live masks are counted. One is in force from when it was set until the next is; one that names no stream
   lifts what was before, and nothing is shown. None can be set for a moment that has passed.
2. A moment is shown only if a mask was in force in all of the `MARGIN_US` before it, and in all that is known
   to have come since: a mask that is set opens nothing that was recorded before, and lifting one covers at
   once whatever was not made yet.
3. It is covered by all areas of all of those masks together, and heard only if each of them says so.
4. An area is of a picture of a stated shape. A picture of another shape is covered altogether.
5. What a person hid of the session, and its pauses, are covered altogether (`evidence.masks`).
6. Rules count for what was recorded before they were read, and for nothing that was recorded since. Both are
   told by the clock of the host that nobody sets, which begins anew with each boot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evidence.errors import InvalidInput
from evidence.masks import MARGIN_US, Mask

Area = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels; right and bottom are the first column and row outside."""
MOST_AREAS = 32
SIDES_PX = range(16, 16385)
ALIKE = 100
"""Two shapes are the same where width to height differs by less than one part of so many: coders round."""


@dataclass(frozen=True)
class Cover:
    """What is covered of a stream."""

    width_px: int
    """Of the picture that the areas were set for."""
    height_px: int
    areas: tuple[Area, ...]
    is_heard: bool = False
    """Its sound may be heard as it is; else it is silence."""

    def to_json(self) -> dict[str, Any]:
        return {
            "width_px": self.width_px,
            "height_px": self.height_px,
            "areas": [list(each) for each in self.areas],
            "heard": self.is_heard,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Cover:
        areas = tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in told["areas"])
        return cls(int(told["width_px"]), int(told["height_px"]), areas, told["heard"] is True)

    def areas_in(self, width_px: int, height_px: int) -> list[Area] | None:
        """Its areas in a picture of another size, rounded outward; None: it is of another shape."""
        wide, high = width_px * self.height_px, height_px * self.width_px
        if abs(wide - high) * ALIKE > min(wide, high):
            return None
        return [
            (
                left * width_px // self.width_px,
                top * height_px // self.height_px,
                -(-right * width_px // self.width_px),
                -(-bottom * height_px // self.height_px),
            )
            for left, top, right, bottom in self.areas
        ]


@dataclass(frozen=True)
class LiveMask:
    """A live mask of a session, as its row has it."""

    made_us: int
    """UTC."""
    covers: Mapping[str, Cover]
    """By stream; none: what was before is lifted."""


def check(covers: Mapping[str, Cover], streams: Sequence[str]) -> None:
    """Raise unless a person may set this.

    Raises:
        InvalidInput: No stream, one the session has not, or an area that is none (``live_mask_invalid``).
    """
    unknown = sorted(set(covers) - set(streams))
    if unknown or not covers:
        found = ", ".join(unknown) or "none"
        raise _invalid(f"streams: expected some of {', '.join(streams)}, found {found}")
    for name, cover in covers.items():
        if cover.width_px not in SIDES_PX or cover.height_px not in SIDES_PX:
            raise _invalid(
                f"stream {name}: expected sides of {SIDES_PX.start} to {SIDES_PX.stop - 1} px, "
                f"found {cover.width_px}x{cover.height_px}"
            )
        # Nothing covered would be the original by another name.
        if not 0 < len(cover.areas) <= MOST_AREAS:
            raise _invalid(f"stream {name}: expected 1 to {MOST_AREAS} areas, found {len(cover.areas)}")
        for left, top, right, bottom in cover.areas:
            if not (0 <= left < right <= cover.width_px and 0 <= top < bottom <= cover.height_px):
                raise _invalid(
                    f"stream {name}: expected an area inside {cover.width_px}x{cover.height_px}, "
                    f"found {left},{top} to {right},{bottom}"
                )


def open_since_us(masks: Sequence[LiveMask], stream: str) -> int | None:
    """Since when a stream may be watched, its margin included, UTC; None: it may not.

    Lifting a mask takes back what was shown under it: a list has nothing from before.

    Args:
        masks: Of the session, in the order they were set.
    """
    since_us: int | None = None
    for mask in masks:
        if stream not in mask.covers:
            since_us = None
        elif since_us is None:
            since_us = mask.made_us + MARGIN_US
    return since_us


def is_open(masks: Sequence[LiveMask]) -> bool:
    """Whether anything of the session may be watched."""
    return bool(masks) and bool(masks[-1].covers)


@dataclass(frozen=True)
class LiveRules:
    """What holds for one stream, as its encode is told."""

    boot: str
    """Which boot of the host ``read_ns`` is of."""
    read_ns: int
    """The host's monotonic clock before the rows were read."""
    states: tuple[tuple[int, Cover | None], ...]
    """When each was set, UTC in microseconds, in order; None: nothing of the stream is shown from then on."""
    veils: tuple[tuple[int, int | None], ...]
    """What is hidden altogether, margins included, UTC in microseconds; None: it lasts."""
    slack_us: int
    """How far the host's clock was set while the session was recorded."""

    @classmethod
    def of(
        cls,
        masks: Sequence[LiveMask],
        hidden: Sequence[Mask],
        stream: str,
        *,
        boot: str,
        read_ns: int,
        slack_us: int,
    ) -> LiveRules:
        """The rules of a stream, from the rows of its session."""
        states = tuple((mask.made_us, mask.covers.get(stream)) for mask in masks)
        veils = tuple((each.from_least_us, each.to_most_us) for each in hidden)
        return cls(boot, read_ns, states, veils, max([slack_us, *(each.slack_us for each in hidden)]))

    def at(self, least_us: int) -> tuple[Cover, ...]:
        """The masks a moment is shown under, all of which cover it; none: it is not shown.

        Args:
            least_us: UTC before which it cannot have been recorded, as far as the recorder knows.
        """
        from_us = least_us - MARGIN_US - self.slack_us
        if not self.states or self.states[0][0] > from_us:
            return ()
        if any(ends_us is None or ends_us >= from_us for _, ends_us in self.veils):
            return ()
        found: list[Cover] = []
        for place, (_, cover) in enumerate(self.states):
            is_past = place + 1 < len(self.states) and self.states[place + 1][0] < from_us
            if is_past:
                continue
            if cover is None:
                return ()
            found.append(cover)
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        return {
            "boot": self.boot,
            "read_ns": self.read_ns,
            "states": [[at_us, None if each is None else each.to_json()] for at_us, each in self.states],
            "veils": [list(each) for each in self.veils],
            "slack_us": self.slack_us,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> LiveRules:
        return cls(
            str(told["boot"]),
            int(told["read_ns"]),
            tuple((int(at), None if each is None else Cover.from_json(each)) for at, each in told["states"]),
            tuple((int(begins), None if ends is None else int(ends)) for begins, ends in told["veils"]),
            int(told["slack_us"]),
        )


def areas_of(covers: Sequence[Cover], width_px: int, height_px: int) -> list[Area] | None:
    """What of a picture is covered under all of these masks; None: all of it."""
    found: list[Area] = []
    for cover in covers:
        areas = cover.areas_in(width_px, height_px)
        if areas is None:
            return None
        found += areas
    return found or None


def _invalid(what: str) -> InvalidInput:
    return InvalidInput(f"live mask: {what}; mend it", code="live_mask_invalid")
