"""The media queue, composites: several sources of a case in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict
from evidence.events import Topic
from evidence.fixity import hash_file
from media.fmp4 import FragmentIndex
from storage.db import clips, custody, items
from storage.db.clip_tables import Clip, ClipSet
from storage.db.custody import Happening
from storage.db.tables import Agency, Derivative
from transcode.composite import CompositeResult, Footage, compose, heard_of
from transcode.mark import MarkLine
from transcode.segment import RunOptions
from workers.context import WORKER, JobContext, Outcome
from workers.derivatives import put_derivative


def composite(context: JobContext, held: ClipSet, parts: Sequence[Clip]) -> Outcome:
    """Show the parts of a composite in one picture.

    Raises:
        Conflict: A rendition was withdrawn after the composite was asked for; it must be asked for anew.
    """
    asked, lies = held.layout["composite"], held.layout["members"]
    with context.storage.database.read() as session:
        sources = _sources(session, context.agency, held, parts)
    lanes: list[str] = asked["panes"]
    pieces = [
        Footage(
            str(part.id),
            lanes.index(lies[str(part.id)]["lane"]),
            context.local_path(source.store_key),
            FragmentIndex.from_json(source.info["index"]),
            asked["at_us"][str(part.id)],
            (part.span_from_us, part.span_to_us),
        )
        for part, source in zip(parts, sources, strict=True)
    ]
    sound = asked["sound"]
    params, ffmpeg = context.lease.params, context.settings.media.ffmpeg
    result = compose(
        [_name(number, lane, lies.values()) for number, lane in enumerate(lanes, 1)],
        pieces,
        (held.window_to - held.window_from) // timedelta(microseconds=1),
        context.scratch / "composite.mp4",
        layout="side_by_side" if held.form == "side_by_side" else "picture_in_picture",
        sound=heard_of(pieces, lanes.index(sound) if sound in lanes else None) if sound != "none" else None,
        mark=[MarkLine(str(line["text"]), str(line["latin"])) for line in params["mark"]],
        clock_us=params["clock_us"],
        run=RunOptions(context.scratch, context.limits, None if ffmpeg is None else str(ffmpeg)),
        on_progress=context.progress,
        cancelled=context.is_cancelled,
    )
    sm3 = hash_file(result.path, sm3=True).sm3
    made = context.keep_derivative(result.path)
    info = {**_said(held, lanes, parts, result), "sm3": sm3.hex() if sm3 is not None else None}
    described = {
        **result.params,
        "composite": str(held.id),
        "sources": [source.sha256.hex() for source in sources],
    }

    def commit(session: Session, agency: Agency) -> None:
        items.lock_items(session, agency.id, [part.item_id for part in parts])
        _sources(session, agency, held, parts)
        # It is about several recordings: its row stands with the first, and each is asked about when served.
        row = put_derivative(
            session, context, parts[0].item_id, "clip", described, made, info=info,
            masked=all(source.masked for source in sources),
        )  # fmt: skip
        clips.set_by_id(session, agency.id, held.id, lock=True).derivative_id = row.id
        now = context.storage.clock.now()
        facts = {
            "set": str(held.id),
            "form": held.form,
            "derivative": str(row.id),
            "sha256": made.sha256.hex(),
        }
        for part in parts:
            clips.clip_by_id(session, agency.id, part.id).derivative_id = row.id
            own = {
                **facts,
                "clip": str(part.id),
                "marked": part.marked,
                "span_us": [part.span_from_us, part.span_to_us],
                "variant": part.variant,
            }
            told = Happening(Action.CLIP_ISSUED, "item", str(part.item_id), WORKER, own)
            custody.record(session, agency, told, now)
        whole = {**facts, "clips": [str(part.id) for part in parts]}
        custody.record(
            session, agency, Happening(Action.CLIP_ISSUED, "case", str(held.case_id), WORKER, whole), now
        )

    return Outcome(commit, [(Topic.CLIP, str(held.id), "ready", {})])


def _sources(session: Session, agency: Agency, held: ClipSet, parts: Sequence[Clip]) -> list[Derivative]:
    """The rendition of each part, in force."""
    ids = clips.source_ids_of(held)
    rows = [items.derivative_by_id(session, agency.id, ids[part.id]) for part in parts]
    if any(row.withdrawn_at is not None for row in rows):
        raise Conflict(
            f"composite {held.id}: expected its renditions in force, found one withdrawn; ask again",
            code="derivative_withdrawn",
        )
    return rows


def _name(number: int, lane: str, lies: Iterable[Mapping[str, Any]]) -> MarkLine:
    """What is burnt into a pane: the device's number, or else the place."""
    found = next(each for each in lies if each["lane"] == lane)
    return MarkLine(found["device_no"] or found["place"] or f"来源 source {number}", f"source {number}")


def _said(
    held: ClipSet, lanes: Sequence[str], parts: Sequence[Clip], result: CompositeResult
) -> dict[str, Any]:
    """What the sheet says of the picture: what stands where, and from when to when it shows something."""
    numbers = {str(part.id): part.place for part in parts}
    lies: Mapping[str, Any] = held.layout["members"]

    def when(number: int) -> str:
        return rfc3339(held.window_from + timedelta(microseconds=number * 1_000_000 // result.rate))

    panes = []
    for pane, lane in enumerate(lanes):
        found = next(each for each in lies.values() if each["lane"] == lane)
        panes.append(
            {
                "lane": lane,
                "device_no": found["device_no"],
                "place": found["place"],
                "box_px": list(result.boxes[pane]),
                "shown": [
                    {
                        "number": numbers[each.footage.key],
                        "pictures": [each.first, each.end],
                        "starts_at": when(each.first),
                        "ends_at": when(each.end),
                    }
                    for each in result.shown
                    if each.footage.pane == pane
                ],
            }
        )
    return {
        "frame_count": result.frame_count,
        "rate": result.rate,
        "width_px": result.size_px[0],
        "height_px": result.size_px[1],
        "sound_lane": lanes[result.sound] if result.sound is not None else None,
        "panes": panes,
    }
