"""A case over wall time: which source was recording when, what lies between, and what runs side by side.

The rules:

1. A *piece* is an item, or the span of it that is tied to a case, where its corrected clock puts it. What
   has no known start has no place; it is listed apart and counts nowhere here.
2. A *lane* is one source: a device, or else a place. Within a lane a gap is time between two pieces that no
   piece of it covers; an overlap is the time a piece shares with those before it.
3. Over all lanes a gap is time that no piece of any lane covers, and what runs side by side is stated in
   stretches with the number of lanes.
4. A gap or overlap is as exact as the clocks it is measured by: each has that step, and is certain only
   beyond it. An instant (a photo, or a file whose length nobody knows) covers nothing and splits no gap.

Times are half open: a piece that ends where the next begins leaves no gap and no overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Generic, TypeVar

Id = TypeVar("Id")
US = timedelta(microseconds=1)


@dataclass(frozen=True)
class Piece(Generic[Id]):
    """One thing of a case in its place."""

    id: Id
    lane: str
    starts_at: datetime
    ends_at: datetime
    """Not before `starts_at`; equal for an instant."""
    resolution_us: int = 0
    """The start is known to within this, up or down."""

    @property
    def covers(self) -> bool:
        return self.ends_at > self.starts_at


@dataclass(frozen=True)
class Interval(Generic[Id]):
    """A gap or an overlap."""

    lane: str | None
    """None: over all of them."""
    starts_at: datetime
    ends_at: datetime
    before: Id
    """The piece that covers furthest before it begins, or, in an overlap, the one that is overlapped."""
    after: Id
    """The piece that ends the gap, or overlaps."""
    resolution_us: int

    @property
    def duration_us(self) -> int:
        return (self.ends_at - self.starts_at) // US

    @property
    def is_certain(self) -> bool:
        """Whether it is more than the clocks' step could make it seem."""
        return self.duration_us > self.resolution_us


@dataclass(frozen=True)
class Stretch:
    """Time in which a number of lanes record that does not change."""

    starts_at: datetime
    ends_at: datetime
    lane_count: int


@dataclass(frozen=True)
class Lane(Generic[Id]):
    """One source."""

    name: str
    pieces: tuple[Piece[Id], ...]
    """By start, then end."""
    gaps: tuple[Interval[Id], ...]
    overlaps: tuple[Interval[Id], ...]
    covered_us: int


@dataclass(frozen=True)
class Timeline(Generic[Id]):
    """Everything that has a place."""

    lanes: tuple[Lane[Id], ...]
    gaps: tuple[Interval[Id], ...]
    """Over all lanes."""
    together: tuple[Stretch, ...]
    """Where two lanes or more record at once."""
    covered_us: int
    """Time in which any lane records."""
    starts_at: datetime | None
    ends_at: datetime | None


def lay_out(pieces: Iterable[Piece[Id]]) -> Timeline[Id]:
    """Put pieces in their lanes and say what lies between; the order they come in makes no difference."""
    ordered = sorted(pieces, key=lambda piece: (piece.starts_at, piece.ends_at, str(piece.id)))
    by_lane = sorted(ordered, key=lambda piece: piece.lane)
    lanes = tuple(_lane(name, list(own)) for name, own in groupby(by_lane, key=lambda piece: piece.lane))
    gaps, _, covered_us = _between(ordered, None)
    return Timeline(
        lanes,
        tuple(gaps),
        tuple(_together(lanes)),
        covered_us,
        ordered[0].starts_at if ordered else None,
        max((piece.ends_at for piece in ordered), default=None),
    )


def _lane(name: str, pieces: list[Piece[Id]]) -> Lane[Id]:
    gaps, overlaps, covered_us = _between(pieces, name)
    return Lane(name, tuple(pieces), tuple(gaps), tuple(overlaps), covered_us)


def _between(
    ordered: Sequence[Piece[Id]], lane: str | None
) -> tuple[list[Interval[Id]], list[Interval[Id]], int]:
    gaps: list[Interval[Id]] = []
    overlaps: list[Interval[Id]] = []
    covered_us = 0
    furthest: Piece[Id] | None = None
    for piece in ordered:
        if not piece.covers:
            continue
        if furthest is None:
            covered_us += (piece.ends_at - piece.starts_at) // US
            furthest = piece
            continue
        step = max(furthest.resolution_us, piece.resolution_us)
        if piece.starts_at > furthest.ends_at:
            gaps.append(Interval(lane, furthest.ends_at, piece.starts_at, furthest.id, piece.id, step))
        elif piece.starts_at < furthest.ends_at:
            until = min(piece.ends_at, furthest.ends_at)
            overlaps.append(Interval(lane, piece.starts_at, until, furthest.id, piece.id, step))
        if piece.ends_at > furthest.ends_at:
            covered_us += (piece.ends_at - max(piece.starts_at, furthest.ends_at)) // US
            furthest = piece
    return gaps, overlaps, covered_us


def _together(lanes: Sequence[Lane[Id]]) -> list[Stretch]:
    """Stretches in which two lanes or more record; a lane counts once, however many pieces it has there."""
    edges: list[tuple[datetime, int]] = []
    for lane in lanes:
        for start, end in _covered(lane.pieces):
            edges += [(start, 1), (end, -1)]
    found: list[Stretch] = []
    count, since = 0, None
    changes: dict[datetime, int] = {}
    for at, step in edges:
        changes[at] = changes.get(at, 0) + step
    for at, step in sorted(changes.items()):
        if step == 0:
            continue
        if count > 1 and since is not None:
            found.append(Stretch(since, at, count))
        count, since = count + step, at
    return found


def _covered(pieces: Sequence[Piece[Id]]) -> list[tuple[datetime, datetime]]:
    found: list[tuple[datetime, datetime]] = []
    for piece in pieces:
        if not piece.covers:
            continue
        if found and piece.starts_at <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], piece.ends_at))
        else:
            found.append((piece.starts_at, piece.ends_at))
    return found
