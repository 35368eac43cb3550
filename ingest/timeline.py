"""The timeline of a case: what is tied to it, where corrected clocks put it, and what lies between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.errors import InvalidInput
from evidence.timeline import Piece, Timeline, lay_out
from ingest.placement import Placement, placements_of
from storage.db.timeline import MOST, TiedItem, tied_items

LONGEST = timedelta(days=400)
"""No recording is longer; a length that says so is damage and is passed over."""


@dataclass(frozen=True)
class Entry:
    """An item, or a span of it, in a case."""

    tied: TiedItem
    lane: str
    placement: Placement | None
    """None: nobody knows when it began."""
    starts_at: datetime | None
    ends_at: datetime | None
    """None: nobody knows how long it is, or when it began."""


@dataclass(frozen=True)
class CaseTimeline:
    """Everything tied to a case."""

    entries: tuple[Entry, ...]
    """Those with a place by start, then those without one."""
    placed_count: int

    @cached_property
    def layout(self) -> Timeline[UUID]:
        """By the ids of bindings; laid out when it is asked for."""
        return lay_out(map(_piece, self.entries[: self.placed_count]))


def timeline_of_case(session: Session, agency_id: UUID, case_id: UUID, now: datetime) -> CaseTimeline:
    """The case laid out.

    Raises:
        InvalidInput: ``timeline_too_long``: more is tied to it than is laid out at once.
    """
    tied = tied_items(session, agency_id, case_id)
    if len(tied) > MOST:
        raise InvalidInput(
            f"timeline: expected at most {MOST} bindings in a case, found more; list its items instead",
            code="timeline_too_long",
        )
    placements = placements_of(session, agency_id, tied, now)
    entries = [_entry(row, placements) for row in tied]
    placed = [entry for entry in entries if entry.starts_at is not None]
    placed.sort(key=lambda entry: (entry.starts_at, entry.tied.binding_id))
    apart = sorted((entry for entry in entries if entry.starts_at is None), key=lambda e: e.tied.binding_id)
    return CaseTimeline((*placed, *apart), len(placed))


def _entry(row: TiedItem, placements: Mapping[UUID, Placement]) -> Entry:
    placement, lane = placements.get(row.id), lane_of_item(row.device_id, row.captured_place)
    if placement is None:
        return Entry(row, lane, None, None, None)
    length = _length(row)
    try:
        starts_at = placement.starts_at
        if row.span_from_us:
            starts_at += timedelta(microseconds=row.span_from_us)
        ends_at = None
        if length is not None:
            to = length if row.span_to_us is None else min(length, timedelta(microseconds=row.span_to_us))
            ends_at = max(starts_at, placement.starts_at + to)
    except OverflowError:
        return Entry(row, lane, placement, placement.starts_at, None)
    return Entry(row, lane, placement, starts_at, ends_at)


def _length(row: TiedItem) -> timedelta | None:
    """How long the item is: by its probe, else by the times it was given."""
    if row.duration_us is not None:
        length = timedelta(microseconds=row.duration_us)
    elif row.captured_from is not None and row.captured_to is not None:
        length = row.captured_to - row.captured_from
    else:
        return None
    return length if timedelta() <= length <= LONGEST else None


def lane_of_item(device_id: UUID | None, place: str | None) -> str:
    """Its source: the device, else the place, else nobody knows which."""
    if device_id is not None:
        return f"device:{device_id}"
    return f"place:{place}" if place else "unknown"


def _piece(entry: Entry) -> Piece[UUID]:
    assert entry.starts_at is not None and entry.placement is not None  # noqa: S101 - see timeline_of_case
    return Piece(
        entry.tied.binding_id,
        entry.lane,
        entry.starts_at,
        entry.ends_at or entry.starts_at,
        entry.placement.resolution_us,
    )
