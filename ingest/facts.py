"""What senders say about a file, taken in: fields, limits, and from claims to facts.

Everything said is kept as a claim. A claim becomes a fact of the item (R6) only where nothing better
said it: a person before a sidecar or dock, these before the file name, that before the container.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from evidence.errors import InvalidInput
from evidence.kinds import ClaimSource, SourceKind

MAX_VALUE_CHARS = 2000
DEVICE_CLOCK = "device"
"""The clock that readings at docks correct; a person, a dock and a satellite answer for their own."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD = timedelta(days=1)

RANK = {
    ClaimSource.PERSON: 0,
    ClaimSource.DOCK: 1,
    ClaimSource.SIDECAR: 1,
    ClaimSource.FILENAME: 2,
    ClaimSource.DEVICE: 3,
    ClaimSource.CONTAINER: 4,
    ClaimSource.SERVER: 5,
}

FIELDS = frozenset(
    {
        "device_no",
        "officer_no",
        "case_no",
        "place",
        "object_of_proof",
        "captured_from",
        "captured_to",
        "key_file",
        "dock_clock",
        "device_clock",
        "source_kind",
        "stage",
        "recording",
        "sequence_no",
        "encrypted",
        "name_profile",
        "device_started_at",
        "created_at",
        "location",
        "device_model",
        "device_make",
        "device_local_time",
        "timecode",
        "officer_name",
        "unit_no",
        "unit_name",
    }
)

IDENTITIES = frozenset(
    {
        "device_no",
        "officer_no",
        "case_no",
        "recording",
        "recording_no",
        "sequence_no",
        "source_kind",
        "name_profile",
        "stage",
    }
)
"""Fields that name something: short, because they are compared and stand in indexes."""


@dataclass(frozen=True)
class Statement:
    """One thing said about a file: becomes a claim row."""

    field: str
    value: str
    source: ClaimSource
    clock: str | None = None


def statements_from(metadata: Mapping[str, str], source: ClaimSource) -> list[Statement]:
    """Claims in what a sender wrote; unknown fields are kept in the reception, not as claims."""
    capture = "person" if source is ClaimSource.PERSON else DEVICE_CLOCK
    clock = {
        "dock_clock": "dock",
        "device_clock": DEVICE_CLOCK,
        "device_started_at": DEVICE_CLOCK,
        "device_local_time": DEVICE_CLOCK,
        "captured_from": capture,
        "captured_to": capture,
    }
    return [
        Statement(field, value.strip()[:MAX_VALUE_CHARS], source, clock.get(field))
        for field, value in metadata.items()
        if field in FIELDS and value.strip()
    ]


def parse_instant(text: str, name: str) -> datetime:
    """An instant somebody wrote, in ISO 8601 with a zone.

    Raises:
        InvalidInput: It is not one, or has no zone.
    """
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidInput(f"{name}: expected ISO 8601 with a zone, found {text[:60]!r}") from error
    if instant.tzinfo is None:
        raise InvalidInput(f"{name}: expected a zone such as +08:00, found {text[:60]!r} without one")
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"{name}: expected a time on the calendar, found {text[:60]!r}") from error


def is_plausible(instant: datetime, now: datetime) -> bool:
    """Whether a recorder that worked could have said this: not before 2000, not in the future."""
    return EARLIEST <= instant <= now + AHEAD


@dataclass(frozen=True)
class Facts:
    """The best of what was said; None where nothing was, or nothing that can be used."""

    device_no: str | None = None
    officer_no: str | None = None
    case_no: str | None = None
    place: str | None = None
    object_of_proof: str | None = None
    captured_from: datetime | None = None
    """As said; `captured_clock` tells whose clock it was, and an offset is the reader's to add."""
    captured_to: datetime | None = None
    captured_clock: str | None = None
    captured_to_clock: str | None = None
    key_file: bool = False
    encrypted: bool = False
    source_kind: SourceKind = SourceKind.BODY_CAM
    recording: str | None = None
    sequence_no: int | None = None
    clock_offset: timedelta | None = None
    doubts: tuple[tuple[str, str], ...] = ()


def weigh(statements: Iterable[Statement], now: datetime) -> Facts:
    """Facts from claims; what cannot be used becomes a doubt (code, one line), never an error."""
    best: dict[str, Statement] = {}
    for said in sorted(statements, key=lambda said: RANK[said.source]):
        best.setdefault(said.field, said)
    values = {field: said.value for field, said in best.items()}
    doubts: list[tuple[str, str]] = []

    clocks: dict[str, str | None] = {}

    def instant(*names: str) -> datetime | None:
        for name in names:
            if name not in values:
                continue
            try:
                found = parse_instant(values[name], name)
            except InvalidInput as error:
                doubts.append(("time_unreadable", error.message))
                continue
            if is_plausible(found, now):
                clocks[names[0]] = best[name].clock
                return found
            doubts.append(
                (
                    "clock_implausible",
                    f"{name}: expected a time from 2000 until now, found {found:%Y-%m-%d}; check the clock",
                )
            )
        return None

    dock_clock, device_clock = instant("dock_clock"), instant("device_clock")
    offset = dock_clock - device_clock if dock_clock and device_clock else None
    started = instant("captured_from", "device_started_at", "gps_started_at")
    ended = instant("captured_to")
    if started and ended and ended < started:
        doubts.append(("times_reversed", "captured_to: expected after captured_from, found before it"))
        ended = None
    try:
        kind = SourceKind(values.get("source_kind", SourceKind.BODY_CAM))
    except ValueError:
        doubts.append(("source_kind_unknown", f"source_kind: found {values['source_kind'][:40]!r}"))
        kind = SourceKind.BODY_CAM
    sequence = values.get("sequence_no", "")
    return Facts(
        device_no=values.get("device_no"),
        officer_no=values.get("officer_no"),
        case_no=values.get("case_no"),
        place=values.get("place"),
        object_of_proof=values.get("object_of_proof"),
        captured_from=started,
        captured_to=ended,
        captured_clock=clocks.get("captured_from"),
        captured_to_clock=clocks.get("captured_to"),
        key_file=values.get("key_file", "").lower() in {"1", "true", "yes"},
        encrypted=values.get("encrypted", "").lower() == "true",
        source_kind=kind,
        recording=values.get("recording"),
        sequence_no=int(sequence) if sequence.isdecimal() and len(sequence) < 7 else None,
        clock_offset=offset,
        doubts=tuple(doubts),
    )
