"""Timelines as answers: one page of what was laid out as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from api.schemas.common import write_cursor
from api.schemas.timeline import (
    TimelineEntry,
    TimelineInterval,
    TimelineLane,
    TimelinePage,
    TimelineStretch,
)
from evidence.item import Binding
from evidence.kinds import MediaKind
from evidence.timeline import Interval, Lane
from ingest.timeline import CaseTimeline, Entry
from storage.db.tables import Case

NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Where pieces without a time stand in a cursor: after every other."""


def page_of(case: Case, found: CaseTimeline, after: tuple[datetime, UUID] | None, limit: int) -> TimelinePage:
    """The entries behind a cursor, and the intervals that end at one of them."""
    left = [entry for entry in found.entries if after is None or _key(entry) > after]
    shown = left[:limit]
    ids = {entry.tied.binding_id for entry in shown}
    layout = found.layout
    since = shown[0].starts_at if after is not None and shown else None
    until = left[limit].starts_at or NEVER if len(left) > limit else None
    first = {entry.lane: entry for entry in reversed(found.entries)}
    return TimelinePage(
        case_id=case.id,
        case_no=case.case_no,
        starts_at=layout.starts_at,
        ends_at=layout.ends_at,
        piece_count=found.placed_count,
        unplaced_count=len(found.entries) - found.placed_count,
        covered_us=layout.covered_us,
        gap_count=len(layout.gaps),
        lanes=[_lane(lane, first[lane.name]) for lane in layout.lanes],
        pieces=[_entry(entry) for entry in shown if entry.starts_at is not None],
        unplaced=[_entry(entry) for entry in shown if entry.starts_at is None],
        gaps=_intervals([*layout.gaps, *(gap for lane in layout.lanes for gap in lane.gaps)], ids),
        overlaps=_intervals([each for lane in layout.lanes for each in lane.overlaps], ids),
        together=[
            TimelineStretch(starts_at=each.starts_at, ends_at=each.ends_at, lane_count=each.lane_count)
            for each in layout.together
            if (after is None or (since is not None and each.starts_at >= since))
            and (until is None or each.starts_at < until)
        ],
        next_cursor=write_cursor(*_key(shown[-1])) if len(left) > limit else None,
    )


def _key(entry: Entry) -> tuple[datetime, UUID]:
    return entry.starts_at or NEVER, entry.tied.binding_id


def _intervals(every: Sequence[Interval[UUID]], ids: set[UUID]) -> list[TimelineInterval]:
    return [
        TimelineInterval(
            lane=each.lane,
            starts_at=each.starts_at,
            ends_at=each.ends_at,
            duration_us=each.duration_us,
            before=each.before,
            after=each.after,
            resolution_us=each.resolution_us,
            is_certain=each.is_certain,
        )
        for each in every
        if each.after in ids
    ]


def _lane(lane: Lane[UUID], first: Entry) -> TimelineLane:
    return TimelineLane(
        lane=lane.name,
        device_id=first.tied.device_id,
        device_no=first.tied.device_no,
        place=first.tied.captured_place,
        source_kind=first.tied.source_kind,
        piece_count=len(lane.pieces),
        covered_us=lane.covered_us,
        gap_count=len(lane.gaps),
        overlap_count=len(lane.overlaps),
        starts_at=lane.pieces[0].starts_at,
        ends_at=max(piece.ends_at for piece in lane.pieces),
    )


def _entry(entry: Entry) -> TimelineEntry:
    tied, placement = entry.tied, entry.placement
    correction = placement.correction if placement is not None else None
    has_span = tied.span_from_us is not None and tied.span_to_us is not None
    return TimelineEntry(
        binding_id=tied.binding_id,
        item_id=tied.id,
        lane=entry.lane,
        binding=Binding(tied.state),
        media_kind=MediaKind(tied.media_kind),
        original_name=tied.original_name,
        av_record_no=tied.av_record_no,
        in_recording=tied.recording_key is not None,
        span_us=(tied.span_from_us or 0, tied.span_to_us or 0) if has_span else None,
        starts_at=entry.starts_at,
        ends_at=entry.ends_at,
        clock=placement.clock if placement is not None else None,
        offset_us=correction.offset // timedelta(microseconds=1) if correction is not None else None,
        offset_basis=correction.basis if correction is not None else None,
        resolution_us=placement.resolution_us if placement is not None else None,
    )
