"""Times a device's clock said, corrected for views and facts; what it said stays (invariant 11)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.conflicts import Conflict, Said, conflicts_among
from evidence.errors import InvalidInput
from evidence.kinds import ClaimSource
from evidence.offsets import Correction, correction_at
from ingest.facts import DEVICE_CLOCK, Facts, Statement, is_plausible, parse_instant, weigh
from storage.db import items
from storage.db.readings import clock_readings
from storage.db.tables import Claim, Item

INSTANTS = frozenset({"device_started_at", "captured_from", "captured_to", "gps_started_at"})


@dataclass(frozen=True)
class Times:
    """When a recording was made, by the best claims, corrected."""

    captured_from: datetime | None
    captured_to: datetime | None


@dataclass(frozen=True)
class ClaimView:
    """A claim as it was made, and beside it what its time comes to."""

    claim: Claim
    correction: Correction | None = None
    corrected_at: datetime | None = None


def correction_of(
    session: Session, agency_id: UUID, device_id: UUID | None, at: datetime, pair: timedelta | None
) -> Correction | None:
    """How a time of a device's clock is corrected; None where nothing is known of the clock."""
    readings = clock_readings(session, agency_id, device_id, at) if device_id and pair is None else []
    return correction_at(at, readings, pair)


def corrected_times(
    session: Session, agency_id: UUID, device_id: UUID | None, facts: Facts, now: datetime
) -> Times:
    """The facts' times, those of the device's clock with its offset.

    A clock that was read as of another age corrects nothing into one: such times stay as they were said.
    """

    def corrected(said: datetime | None, clock: str | None) -> datetime | None:
        if said is None or clock != DEVICE_CLOCK:
            return said
        found = correction_of(session, agency_id, device_id, said, facts.clock_offset)
        by_offset = _applied(found, said)
        return by_offset if by_offset is not None and is_plausible(by_offset, now) else said

    return Times(
        corrected(facts.captured_from, facts.captured_clock),
        corrected(facts.captured_to, facts.captured_to_clock),
    )


def set_times(session: Session, item: Item, now: datetime) -> None:
    """Capture times nobody better has told, from every claim there is; the end from the duration."""
    if item.captured_from is None:
        facts = weigh(statements_of(items.claims_of(session, item.agency_id, item.id)), now)
        found = corrected_times(session, item.agency_id, item.device_id, facts, now)
        item.captured_from, item.captured_to = found.captured_from, item.captured_to or found.captured_to
    if item.captured_from is not None and item.captured_to is None and item.duration_us is not None:
        item.captured_to = item.captured_from + timedelta(microseconds=item.duration_us)


def statements_of(claims: Iterable[Claim]) -> list[Statement]:
    """Rows as what was said."""
    return [Statement(row.field, row.value, ClaimSource(row.source), row.clock) for row in claims]


def views_of(session: Session, item: Item, claims: Sequence[Claim], now: datetime) -> list[ClaimView]:
    """Each claim with the correction that applies to it; claims that name no instant have none."""
    pair = weigh(statements_of(claims), now).clock_offset
    views = []
    for claim in claims:
        instant = _instant(claim)
        if instant is None:
            views.append(ClaimView(claim))
            continue
        found = None
        if claim.clock == DEVICE_CLOCK:
            found = correction_of(session, item.agency_id, item.device_id, instant, pair)
        corrected = _applied(found, instant)
        views.append(ClaimView(claim, found, corrected) if corrected else ClaimView(claim, None, instant))
    return views


def conflicts_of(views: Iterable[ClaimView]) -> list[Conflict]:
    """Where the claims disagree, times compared as corrected."""
    return conflicts_among(
        Said(view.claim.field, view.claim.value, view.claim.source, view.claim.clock, view.corrected_at)
        for view in views
    )


def _applied(found: Correction | None, said: datetime) -> datetime | None:
    """The time with its correction; None where there is none, or it leads off the calendar."""
    try:
        return None if found is None else found.of(said)
    except OverflowError:
        return None


def _instant(claim: Claim) -> datetime | None:
    if claim.field not in INSTANTS:
        return None
    try:
        return parse_instant(claim.value, claim.field)
    except InvalidInput:
        # Not an instant: shown as it was said, and compared with nothing.
        return None
