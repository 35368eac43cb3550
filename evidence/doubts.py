"""Where a machine was not sure of what it hid and nobody has decided since, the gravest first.

What is doubtful is hidden. It is *open* until a person accepted, refused or kept visible what hides it, or,
where no track does, the span that hides the frame or the sound whole. How grave it is, is how much of the
picture it would bare for how long, if it were shown and it were there:

    risk = length × area × score

in microseconds of a whole picture surely bare. The area is the largest box that its track has in that time
as a share of the picture, the score that of the track's best sighting; where a frame or the sound is hidden
whole, both are 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

SECOND_US = 1_000_000
WHOLE = 1000
UNDECIDED = "proposed"


@dataclass(frozen=True)
class Doubt:
    """One span that a person should look at, half-open in microseconds of media time."""

    track: str | None
    """None: the frame or the sound is hidden whole."""
    track_class: str | None
    from_us: int
    to_us: int
    why: str
    area_permille: int
    score_permille: int

    @property
    def risk_us(self) -> int:
        """Never 0: what is open is on the list."""
        return max(1, (self.to_us - self.from_us) * self.area_permille * self.score_permille // WHOLE**2)


def open_doubts(plan: Mapping[str, Any]) -> list[Doubt]:
    """What of a plan, as it is kept, nobody has decided, the gravest first."""
    found = [_doubt(plan, entry) for entry in plan["doubtful"]]
    return sorted(
        (each for each in found if each is not None), key=lambda each: (-each.risk_us, each.from_us)
    )


def _doubt(plan: Mapping[str, Any], entry: Mapping[str, Any]) -> Doubt | None:
    first, last = int(entry["from_pts"]), int(entry["to_pts"])
    span = _span_us(plan["picture"], first, last)
    if entry["track"] is None:
        is_open = any(
            each["state"] == UNDECIDED and low <= last and high >= first
            for each, low, high in _spans_hiding_whole(plan)
        )
        return Doubt(None, None, *span, str(entry["why"]), WHOLE, WHOLE) if is_open else None
    tracks = [
        each
        for each in plan["tracks"]
        if entry["track"] in (each["id"], *each.get("lineage", ())) and each["state"] == UNDECIDED
    ]
    if not tracks:
        return None
    gravest = max(tracks, key=lambda each: _area(plan["picture"], each, first, last))
    area = _area(plan["picture"], gravest, first, last)
    score = int(gravest["score_permille"]) or WHOLE
    return Doubt(str(entry["track"]), str(gravest["class"]), *span, str(entry["why"]), area, score)


def _span_us(picture: Mapping[str, Any] | None, first: int, last: int) -> tuple[int, int]:
    """Both ends of a doubtful span are included: it lasts a microsecond at least."""
    if picture is None:
        return first, max(last, first + 1)
    unit = Fraction(*picture["time_base"]) * SECOND_US
    start, end = ((pts - int(picture["first_pts"])) * unit for pts in (first, last))
    return int(start), max(int(end), int(start) + 1)


def _spans_hiding_whole(plan: Mapping[str, Any]) -> Sequence[tuple[Mapping[str, Any], int, int]]:
    if plan["picture"] is None:
        return [(each, int(each["from_us"]), int(each["to_us"])) for each in plan["muted_spans"]]
    return [(each, int(each["from_pts"]), int(each["to_pts"])) for each in plan["whole_frame_spans"]]


def _area(picture: Mapping[str, Any] | None, track: Mapping[str, Any], first: int, last: int) -> int:
    """The largest box of a track around a time, as a share of the picture; 1 to 1000."""
    if picture is None or track["shape"] == "all_but":
        return WHOLE
    keys = track["keys"]
    # The last key before the span and the first one after it say what its box is inside.
    low = max((key[0] for key in keys if key[0] <= first), default=first)
    high = min((key[0] for key in keys if key[0] >= last), default=last)
    boxes = [key for key in keys if low <= key[0] <= high] or keys
    whole = max(1, int(picture["width_px"]) * int(picture["height_px"]))
    widest = max((max(0, key[3] - key[1]) * max(0, key[4] - key[2]) for key in boxes), default=0)
    return min(WHOLE, max(1, widest * WHOLE // whole))
