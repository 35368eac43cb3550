"""Where the claims about an item disagree: listed for a person, decided by none of this.

Claims are kept side by side (D7, invariant 11). Two disagree when they say the same thing with values that
cannot both be so: names that differ, times further apart than the tolerance after each was corrected by
its own clock's offset, places further apart than a position errs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from evidence.case import normalise_case_no
from evidence.errors import InvalidInput
from evidence.geography import distance_m, read_point

TIME_TOLERANCE = timedelta(seconds=3)
"""A clock within its daily error (D4) and names that say whole seconds make no conflict."""
PLACE_TOLERANCE_M = 200.0

STARTED, ENDED, PLACE = "started", "ended", "location"
SUBJECTS = {
    "device_started_at": STARTED,
    "captured_from": STARTED,
    "gps_started_at": STARTED,
    "captured_to": ENDED,
    "location": PLACE,
}
"""Claims under several names that speak of one thing; every other field speaks of itself."""
TIMES = frozenset({STARTED, ENDED})
COMPARED = frozenset(
    {
        *SUBJECTS,
        "device_no",
        "officer_no",
        "officer_name",
        "unit_no",
        "case_no",
        "key_file",
        "encrypted",
        "recording",
        "recording_no",
        "sequence_no",
        "source_kind",
        "device_make",
        "device_model",
        "object_of_proof",
        "place",
        "stage",
    }
)


@dataclass(frozen=True)
class Said:
    """One claim, with its time corrected where it is one and the offset is known."""

    field: str
    value: str
    source: str
    clock: str | None = None
    instant: datetime | None = None
    """The time it names, corrected; None for everything else, and for a time that names no instant."""


@dataclass(frozen=True)
class Conflict:
    """What was said of one thing, where not all of it can be so."""

    subject: str
    said: tuple[Said, ...]
    spread: timedelta | None = None
    """Between the earliest and the latest time."""
    apart_m: float | None = None
    """Between the two places that are furthest apart."""


def conflicts_among(
    claims: Iterable[Said], *, tolerance: timedelta = TIME_TOLERANCE, apart_m: float = PLACE_TOLERANCE_M
) -> list[Conflict]:
    """Every disagreement, by subject in alphabetical order; claims keep theirs."""
    by_subject: dict[str, list[Said]] = {}
    for claim in claims:
        if claim.field in COMPARED:
            by_subject.setdefault(SUBJECTS.get(claim.field, claim.field), []).append(claim)
    found = [_conflict(subject, said, tolerance, apart_m) for subject, said in sorted(by_subject.items())]
    return [conflict for conflict in found if conflict is not None]


def _conflict(subject: str, said: Sequence[Said], tolerance: timedelta, apart_m: float) -> Conflict | None:
    if subject in TIMES:
        instants = [claim.instant for claim in said if claim.instant is not None]
        spread = max(instants) - min(instants) if instants else timedelta()
        return Conflict(subject, tuple(said), spread=spread) if spread > tolerance else None
    if subject == PLACE:
        points = [point for claim in said if (point := read_point(claim.value)) is not None]
        widest = max((distance_m(one, other) for one in points for other in points), default=0.0)
        return Conflict(subject, tuple(said), apart_m=widest) if widest > apart_m else None
    if len({_comparable(subject, claim.value) for claim in said}) > 1:
        return Conflict(subject, tuple(said))
    return None


def _comparable(subject: str, value: str) -> str:
    if subject == "case_no":
        try:
            return normalise_case_no(value)
        except InvalidInput:
            return value
    if subject in {"sequence_no", "recording_no"} and value.isdecimal():
        return str(int(value))
    if subject in {"key_file", "encrypted"}:
        return "true" if value.strip().lower() in {"1", "true", "yes"} else "false"
    return value.strip().casefold()
