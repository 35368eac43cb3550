"""Numbered sets of clips: what of a case was recorded in a window of wall time, each piece cut to the window.

A set is no right. Each clip is decided by the asker's right to its own recording, has its own leaf, and is
asked about again whenever the set is fetched; what was not permitted, or is not there, is listed as left out.
Where the clips lie in wall time, and what lies between them, is written down when the set is asked for: a
clock that is read later moves no number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from api.auth.rights import Span
from api.desk import Work
from api.resolving import index_of, local_path
from api.sets import LONGEST_WINDOW, PLAYABLE, US
from api.taking import Taking, reach_of, source_of, write_clip
from evidence.clock import rfc3339
from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound, NotPermitted
from evidence.timeline import Interval, Piece, lay_out
from ingest.timeline import CaseTimeline, Entry, timeline_of_case
from storage.db import clips, items
from storage.db.clip_tables import Clip, ClipSet
from storage.db.tables import Derivative, Item
from transcode.picture import shows_any

MOST_CLIPS = 100
MOST_ASKED = 500
"""Recordings of a window of which the right is looked at: each costs queries and holds its row."""
LONGEST_FOOTAGE = timedelta(hours=8)
Gap = tuple[datetime, datetime, int]
"""From, to, and the step of the clocks it was measured by, in microseconds."""


@dataclass(frozen=True)
class Planned:
    """A clip of a set before it has a number."""

    entry: Entry
    item: Item
    source: Derivative
    span: Span
    starts_at: datetime
    ends_at: datetime


def issue_clip_set(
    work: Work, taking: Taking, window: tuple[datetime, datetime], lanes: Sequence[str] | None
) -> ClipSet:
    """The clips of a window that the actor may have, in order of corrected time, and a list of what not.

    Raises:
        InvalidInput: ``window_too_long``, ``set_too_large``, ``set_too_long``.
        NotFound: ``window_empty``: nothing of those sources lies in it.
        NotPermitted, Conflict, NotFound, InvalidInput: Nothing of any may be had; as for the first.
    """
    found, planned, left_out = plan_set(work, taking, window, lanes, longest=LONGEST_WINDOW)
    _require_bounded(planned)
    row = clips.add_set(
        work.session,
        work.agency_id,
        account_id=work.actor.account_id,
        case_id=taking.case.id,
        form="zip",
        window=window,
        now=work.now,
    )
    seat_clips(work, taking, row, planned, "file")
    row.layout = {
        **row.layout,
        "gaps": gaps_of(planned, window),
        "left_out": left_out,
        "unplaced_count": len(found.entries) - found.placed_count,
    }
    work.session.flush()
    return row


def plan_set(
    work: Work,
    taking: Taking,
    window: tuple[datetime, datetime],
    lanes: Sequence[str] | None,
    *,
    longest: timedelta,
    lead: timedelta = timedelta(),
) -> tuple[CaseTimeline, list[Planned], list[dict[str, str]]]:
    """What of a window the actor may have, by corrected time, and what is left out of it.

    Args:
        longest: The window may be so long.
        lead: How long before the window footage may begin, for the picture that is shown when it begins.

    Raises:
        InvalidInput: ``window_too_long``; ``set_too_large``: more recordings in it than are asked about.
        NotFound: ``window_empty``.
        NotPermitted, Conflict, NotFound, InvalidInput: Nothing of any may be had; as for the first.
    """
    taking.require(work)
    if window[1] - window[0] > longest:
        raise InvalidInput(
            f"window: expected at most {longest}, found {window[1] - window[0]}; ask for a part of it",
            code="window_too_long",
        )
    found = timeline_of_case(work.session, work.agency_id, taking.case.id, work.now)
    inside = entries_inside(found, window, lanes)
    if not inside:
        raise NotFound(
            "window: expected footage of a source in it, found none; look at the timeline",
            code="window_empty",
        )
    count = len({entry.tied.id for entry in inside})
    if count > MOST_ASKED:
        raise InvalidInput(
            f"set: expected at most {MOST_ASKED} recordings in the window, found {count}; ask for less",
            code="set_too_large",
        )
    planned, left_out = _planned(work, taking, inside, (window[0] - lead, window[1]))
    return found, planned, left_out


def seat_clips(
    work: Work, taking: Taking, row: ClipSet, planned: Sequence[Planned], form: Literal["file", "part"]
) -> list[Clip]:
    """Write the clips of a set, numbered in their order, and where each lies."""
    seated = [
        write_clip(work, each.item, taking, each.source, each.span, form, seat=(row.id, number))
        for number, each in enumerate(planned, 1)
    ]
    row.layout = {
        "members": {
            str(clip.id): _lies(each, row.window_from) for clip, each in zip(seated, planned, strict=True)
        }
    }
    return seated


def entries_inside(
    found: CaseTimeline, window: tuple[datetime, datetime], lanes: Sequence[str] | None
) -> list[Entry]:
    """The recordings of a timeline that touch a window, by their start."""
    return [
        entry
        for entry in found.entries
        if entry.starts_at is not None
        and entry.ends_at is not None
        and entry.starts_at < window[1]
        and entry.ends_at > window[0]
        and entry.tied.media_kind in PLAYABLE
        and (lanes is None or entry.lane in lanes)
    ]


def _planned(
    work: Work, taking: Taking, inside: Sequence[Entry], window: tuple[datetime, datetime]
) -> tuple[list[Planned], list[dict[str, str]]]:
    held = items.lock_items(work.session, work.agency_id, [entry.tied.id for entry in inside])
    by_item: dict[UUID, list[Entry]] = {}
    for entry in inside:
        by_item.setdefault(entry.tied.id, []).append(entry)
    planned: list[Planned] = []
    left_out: list[dict[str, str]] = []
    first: EvidenceError | None = None
    for item_id, entries in by_item.items():
        try:
            planned += _of_item(work, taking, held[item_id], entries, window)
        except (NotPermitted, NotFound, Conflict, InvalidInput) as error:
            first = first or error
            left_out.append({"item_id": str(item_id), "why": error.code})
    if not planned and first is not None:
        raise first
    planned.sort(key=lambda each: (each.starts_at, each.entry.lane, each.ends_at, each.item.id))
    return planned, left_out


def _of_item(
    work: Work, taking: Taking, item: Item, entries: Sequence[Entry], window: tuple[datetime, datetime]
) -> list[Planned]:
    reach = reach_of(work, item, taking)
    source = source_of(work, item, taking.variant)
    entry = entries[0]
    began = entry.placement.starts_at if entry.placement is not None else window[0]
    asked = [
        ((max(each.starts_at, window[0]) - began) // US, (min(each.ends_at, window[1]) - began) // US)
        for each in entries
        if each.starts_at is not None and each.ends_at is not None
    ]
    spans = [span for each in merged(asked) for span in reach.within(each) if span is not None]
    if not spans:
        raise NotPermitted(
            f"item {item.id}: expected a span that may be seen, found none in what was asked",
            code="span_not_permitted",
        )
    path, index = local_path(work.storage, source.store_key), index_of(source)
    # A sliver between two pictures cannot be cut, and the whole set would wait for it.
    spans = [span for span in spans if shows_any(path, index, span)]
    if not spans:
        raise InvalidInput(
            f"item {item.id}: expected a picture that begins in the window, found none", code="span_empty"
        )
    return [Planned(entry, item, source, span, began + span[0] * US, began + span[1] * US) for span in spans]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans without what they share: a picture is in one clip of a recording, not in two."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        elif end > start:
            found.append((start, end))
    return found


def _require_bounded(planned: Sequence[Planned]) -> None:
    if len(planned) > MOST_CLIPS:
        raise InvalidInput(
            f"set: expected at most {MOST_CLIPS} clips, found {len(planned)}; ask for a shorter stretch",
            code="set_too_large",
        )
    length = sum((each.ends_at - each.starts_at for each in planned), timedelta())
    if length > LONGEST_FOOTAGE:
        raise InvalidInput(
            f"set: expected at most {LONGEST_FOOTAGE} of footage, found {length}; ask for a shorter stretch",
            code="set_too_long",
        )


def _lies(each: Planned, window_from: datetime) -> dict[str, Any]:
    """Where a clip lies in the window, and by whose clock."""
    placement, tied = each.entry.placement, each.entry.tied
    correction = placement.correction if placement is not None else None
    return {
        "lane": each.entry.lane,
        "device_no": tied.device_no,
        "place": tied.captured_place,
        "starts_at": rfc3339(max(each.starts_at, window_from)),
        "ends_at": rfc3339(each.ends_at),
        "clock": placement.clock if placement is not None else None,
        "offset_us": correction.offset // US if correction is not None else None,
        "offset_basis": str(correction.basis) if correction is not None else None,
        "resolution_us": placement.resolution_us if placement is not None else None,
    }


def gaps_of(planned: Sequence[Planned], window: tuple[datetime, datetime]) -> list[dict[str, Any]]:
    """Time of a window of which the clips show nothing: over all sources, and of each of several."""
    pieces = [
        Piece(
            number,
            each.entry.lane,
            each.starts_at,
            each.ends_at,
            each.entry.placement.resolution_us if each.entry.placement is not None else 0,
        )
        for number, each in enumerate(planned)
    ]
    found = lay_out(pieces)
    named = {each.entry.lane: each.entry.tied for each in planned}
    gaps: list[tuple[str | None, list[Gap]]] = [(None, _at_the_edges(pieces, window, found.gaps))]
    if len(found.lanes) > 1:
        gaps += [(lane.name, _at_the_edges(lane.pieces, window, lane.gaps)) for lane in found.lanes]
    return [
        {
            "lane": lane,
            "device_no": named[lane].device_no if lane is not None else None,
            "place": named[lane].captured_place if lane is not None else None,
            "starts_at": rfc3339(starts),
            "ends_at": rfc3339(ends),
            "duration_us": (ends - starts) // US,
            "resolution_us": step,
            "is_certain": (ends - starts) // US > step,
        }
        for lane, listed in gaps
        for starts, ends, step in listed
    ]


def _at_the_edges(
    pieces: Sequence[Piece[int]], window: tuple[datetime, datetime], between: Sequence[Interval[int]]
) -> list[Gap]:
    """Gaps with those before the first piece and after the last."""
    first = min(pieces, key=lambda piece: piece.starts_at)
    last = max(pieces, key=lambda piece: piece.ends_at)
    every = [
        (window[0], first.starts_at, first.resolution_us),
        *((gap.starts_at, gap.ends_at, gap.resolution_us) for gap in between),
        (last.ends_at, window[1], last.resolution_us),
    ]
    return [gap for gap in every if gap[1] > gap[0]]
