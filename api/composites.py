"""Composites: what several sources of a case recorded at once, asked for in one picture to take away.

A composite is a set of clips of which each is a *part* of one file. Each part is decided by the asker's right
to its own recording, leaves its own leaf, and is asked about again at each request, as in any set; and what
it is shown from must still be in force.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from api.clip_sets import Planned, gaps_of, plan_set, seat_clips
from api.desk import Work
from api.issuing import Variant
from api.resolving import index_of
from api.sets import US
from api.taking import Taking, local_us, mark_of
from evidence.errors import InvalidInput, NotFound
from storage.db import clips, items, jobs
from storage.db.clip_tables import ClipSet
from storage.db.jobs import wanted_by_people
from storage.db.tables import Derivative
from transcode.composite import MOST_PANES, Box, Layout, boxes_of, enough_for

LONGEST_COMPOSITE = timedelta(minutes=30)
MOST_PARTS = 32
LEAD = timedelta(seconds=1)
"""How long before the window a picture may begin that is shown when it begins."""
SILENT = "none"


def issue_composite(
    work: Work,
    taking: Taking,
    window: tuple[datetime, datetime],
    lanes: Sequence[str] | None,
    *,
    layout: Layout,
    sound: str | None,
) -> ClipSet:
    """The set, its parts, and the job that composes them.

    Args:
        lanes: Sources in the order of their panes; None: all in the window, by name.
        sound: The source to be heard, `SILENT`, or None for the first with sound.

    Raises:
        InvalidInput: ``window_too_long``, ``set_too_large``, ``sources_too_many``, ``sound_not_shown``.
        NotFound: ``window_empty``: nothing of those sources lies in it.
        NotPermitted, Conflict, NotFound, InvalidInput: Nothing of any may be had; as for the first.
    """
    found, planned, left_out = plan_set(work, taking, window, lanes, longest=LONGEST_COMPOSITE, lead=LEAD)
    planned = [each for each in planned if each.ends_at > window[0]]
    panes = _panes(planned, lanes)
    if sound is not None and sound != SILENT and sound not in panes:
        raise InvalidInput(
            "sound: expected one of the sources that are shown, found another; name one of lanes, or none",
            code="sound_not_shown",
            lanes=panes,
        )
    planned = _modest(work, taking, planned, panes, layout)
    row = clips.add_set(
        work.session,
        work.agency_id,
        account_id=work.actor.account_id,
        case_id=taking.case.id,
        form=layout,
        window=window,
        now=work.now,
    )
    seated = seat_clips(work, taking, row, planned, "part")
    row.layout = {
        **row.layout,
        "composite": {
            "panes": panes,
            "sound": sound,
            "sources": {
                str(clip.id): str(each.source.id) for clip, each in zip(seated, planned, strict=True)
            },
            "at_us": {
                str(clip.id): (each.starts_at - window[0]) // US - each.span[0]
                for clip, each in zip(seated, planned, strict=True)
            },
        },
        "gaps": gaps_of(planned, window),
        "left_out": left_out,
        "unplaced_count": len(found.entries) - found.placed_count,
    }
    params = {
        "mark": mark_of(work, taking, f"composite {row.id}"),
        "clock_us": local_us(work, window[0]) if taking.time_of_day else None,
    }
    digest = hashlib.sha256(b"".join(each.source.sha256 for each in planned)).digest()
    wanted = wanted_by_people("clip_set", row.id, digest, params, window[1] - window[0])
    jobs.want(work.session, work.agency_id, wanted, work.now)
    work.session.flush()
    return row


def _panes(planned: Sequence[Planned], lanes: Sequence[str] | None) -> list[str]:
    """The sources in the order of their panes.

    Raises:
        NotFound: Nothing of what may be seen lies in the window itself.
        InvalidInput: ``sources_too_many``, ``set_too_large``.
    """
    if not planned:
        raise NotFound(
            "window: expected footage of a source in it, found none; look at the timeline",
            code="window_empty",
        )
    if len(planned) > MOST_PARTS:
        raise InvalidInput(
            f"composite: expected at most {MOST_PARTS} pieces, found {len(planned)}; ask for less",
            code="set_too_large",
        )
    named = {each.entry.lane: each.entry.tied for each in planned}
    if lanes is not None:
        return [lane for lane in dict.fromkeys(lanes) if lane in named]
    if len(named) > MOST_PANES:
        raise InvalidInput(
            f"sources: expected at most {MOST_PANES} in the window, found {len(named)}; name them",
            code="sources_too_many",
            lanes=sorted(named),
        )
    return sorted(named, key=lambda lane: (named[lane].device_no or named[lane].captured_place or "", lane))


def _modest(
    work: Work, taking: Taking, planned: list[Planned], panes: Sequence[str], layout: Layout
) -> list[Planned]:
    """Each shown from the smallest rung that fills its pane: dozens of films of 4K may be decoded at once."""
    if taking.variant is not Variant.ORIGINAL:
        return planned

    def boxes(chosen: Sequence[Planned]) -> tuple[Box, ...]:
        sizes = [[_size(each.source) for each in chosen if each.entry.lane == lane] for lane in panes]
        return boxes_of(layout, [max(of_lane, default=(0, 0)) for of_lane in sizes])[1]

    largest = dict(zip(panes, boxes(planned), strict=True))
    chosen = []
    for each in planned:
        made = items.derivatives_of(work.session, work.agency_id, each.item.id, kind="rendition")
        tracks = [track.kind for track in index_of(each.source).tracks]
        rungs = [row for row in made if [track.kind for track in index_of(row).tracks] == tracks]
        number = enough_for([_size(row) for row in rungs], largest[each.entry.lane])
        chosen.append(replace(each, source=rungs[number]))
    # Where sources of other shapes share a picture its panes might come out smaller for it.
    return chosen if boxes(chosen) == tuple(largest.values()) else planned


def _size(row: Derivative) -> tuple[int, int]:
    main = index_of(row).main
    return main.width_px, main.height_px


def are_sources_served(work: Work, row: ClipSet) -> bool:
    """Whether all that a composite is shown from is still in force."""
    held: list[UUID] = list(clips.source_ids_of(row).values())
    return all(
        items.derivative_by_id(work.session, work.agency_id, each).withdrawn_at is None for each in held
    )
