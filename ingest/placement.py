"""Where recordings lie in wall time, worked out anew from every claim and clock reading there is.

The facts of an item take the offset that was known when it came in; what a dock reads off the device later
corrects a view, and this is the view of many items at once: of a recording, of a case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.kinds import ClaimSource
from evidence.offsets import ClockReading, Correction, correction_at
from evidence.recording import resolution_of
from ingest.facts import DEVICE_CLOCK, Facts, Statement, is_plausible, weigh
from storage.db.readings import nearest_readings, readings_over
from storage.db.timeline import said_of

FIELDS = ("captured_from", "device_started_at", "gps_started_at", "dock_clock", "device_clock")


class Placeable(Protocol):
    """An item, or as much of it as is needed here."""

    @property
    def id(self) -> UUID: ...
    @property
    def device_id(self) -> UUID | None: ...
    @property
    def captured_from(self) -> datetime | None: ...


@dataclass(frozen=True)
class Placement:
    """When a recording began, and what that rests on."""

    starts_at: datetime
    said_at: datetime | None = None
    """What was said, before any correction; None: only the item's fact is left."""
    clock: str | None = None
    """Whose clock said it."""
    correction: Correction | None = None
    """What was added; None: nothing is known of the clock, or it needs no correction."""

    @property
    def resolution_us(self) -> int:
        """The smallest step of the clock that the start was read from (`evidence.recording`)."""
        said = self.said_at or self.starts_at
        return resolution_of(said.isoformat(timespec="microseconds")[11:26])


def placements_of(
    session: Session, agency_id: UUID, rows: Iterable[Placeable], now: datetime
) -> dict[UUID, Placement]:
    """Where each item begins; those of which nobody knows are left out."""
    by_id = {row.id: row for row in rows}
    said = said_of(session, agency_id, list(by_id), FIELDS)
    facts = {
        item_id: weigh(
            [Statement(row.field, row.value, ClaimSource(row.source), row.clock) for row in claims], now
        )
        for item_id, claims in said.items()
    }
    readings = _readings(session, agency_id, by_id.values(), facts)
    found: dict[UUID, Placement] = {}
    for item_id, row in by_id.items():
        told = facts.get(item_id)
        if told is not None and told.captured_from is not None:
            near = readings.get(row.device_id, ()) if row.device_id is not None else ()
            found[item_id] = _placed(told.captured_from, told, near, now)
        elif row.captured_from is not None:
            found[item_id] = Placement(row.captured_from)
    return found


def _placed(said_at: datetime, told: Facts, readings: Sequence[ClockReading], now: datetime) -> Placement:
    as_said = Placement(said_at, said_at, told.captured_clock)
    if told.captured_clock != DEVICE_CLOCK:
        return as_said
    found = correction_at(said_at, nearest_readings(readings, said_at), told.clock_offset)
    if found is None:
        return as_said
    try:
        starts_at = found.of(said_at)
    except OverflowError:
        return as_said
    if not is_plausible(starts_at, now):
        return as_said
    return Placement(starts_at, said_at, DEVICE_CLOCK, found)


def _readings(
    session: Session, agency_id: UUID, rows: Iterable[Placeable], facts: dict[UUID, Facts]
) -> dict[UUID, list[ClockReading]]:
    """Readings of each device around the times it showed, for recordings that brought no pair themselves."""
    shown: dict[UUID, list[datetime]] = {}
    for row in rows:
        told = facts.get(row.id)
        if row.device_id is None or told is None or told.clock_offset is not None:
            continue
        if told.captured_from is not None and told.captured_clock == DEVICE_CLOCK:
            shown.setdefault(row.device_id, []).append(told.captured_from)
    return {
        device_id: readings_over(session, agency_id, device_id, min(times), max(times))
        for device_id, times in shown.items()
    }
