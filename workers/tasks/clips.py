"""The media queue, clips: a span cut to the frame, one picture, or a numbered set packed into one file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict
from evidence.events import Topic
from evidence.fixity import hash_file
from media.fmp4 import FragmentIndex
from storage.db import clips, custody, items, jobs
from storage.db.clip_tables import Clip
from storage.db.custody import Happening
from storage.db.jobs import Wanted
from storage.db.tables import Agency, Derivative
from transcode.clip import ClipResult, cut_clip
from transcode.clip_set import as_json, as_page, pack, set_sheet
from transcode.mark import MarkLine
from transcode.picture import PictureResult, ShownPicture, take_picture
from transcode.segment import RunOptions
from workers.context import WORKER, JobContext, Outcome
from workers.derivatives import put_derivative, withdraw
from workers.packing import note_cut, of_what_is_cut
from workers.tasks.composites import composite


def clip(context: JobContext) -> Outcome:
    """Cut the clip or take the picture somebody asked for out of the rendition they may see.

    Raises:
        Conflict: The rendition was withdrawn after the clip was asked for; it must be asked for anew.
    """
    params = context.lease.params
    with context.storage.database.read() as session:
        request = clips.clip_by_id(session, context.agency.id, context.lease.subject_id)
        source = items.derivative_by_id(session, context.agency.id, UUID(params["derivative"]))
    if source.withdrawn_at is not None:
        raise Conflict(
            f"clip {request.id}: expected its rendition in force, found it withdrawn; ask again",
            code="derivative_withdrawn",
        )
    is_picture = request.form == "picture"
    result = _take(context, source) if is_picture else _cut(context, request, source)
    # For the sheet that goes with it; the object store looks for SHA-256 alone.
    sm3 = hash_file(result.path, sm3=True).sm3
    made = context.keep_derivative(result.path)
    described = {**result.params, "source_sha256": source.sha256.hex(), "clip": str(request.id)}
    info = {**result.info, "sm3": sm3.hex() if sm3 is not None else None}
    if source.masked:
        info["coverage"] = source.info.get("coverage")

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        items.item_by_id(session, agency.id, request.item_id, lock=True)
        again = items.derivative_by_id(session, agency.id, source.id)
        if again.withdrawn_at is not None:
            raise Conflict(f"clip {request.id}: its rendition was withdrawn", code="derivative_withdrawn")
        row = put_derivative(
            session, context, request.item_id, "clip", described, made, info=info, masked=source.masked,
            content_type="image/png" if is_picture else "video/mp4",
        )  # fmt: skip
        note_cut(session, agency.id, request.id, row.id, now)
        facts = {
            "clip": str(request.id),
            "form": request.form,
            "marked": bool(result.params["mark"]),
            "derivative": str(row.id),
            "sha256": made.sha256.hex(),
            "span_us": [request.span_from_us, request.span_to_us],
            "variant": request.variant,
        }
        custody.record(
            session, agency, Happening(Action.CLIP_ISSUED, "item", str(request.item_id), WORKER, facts), now
        )

    return Outcome(commit, [(Topic.CLIP, str(request.id), "ready", {})])


def clip_set(context: JobContext) -> Outcome:
    """Make the one file of a set: of a composite its picture, else its clips that were cut, with their sheet.

    Raises:
        NotFound: A clip was withdrawn meanwhile; the set must be asked for anew.
        Conflict: A rendition a composite is shown from was.
    """
    set_id = context.lease.subject_id
    with context.storage.database.read() as session:
        agency = context.agency
        asked = clips.set_by_id(session, agency.id, set_id)
        members = clips.clips_of_set(session, agency.id, set_id)
        packs = of_what_is_cut(members)
    if asked.form != "zip":
        return composite(context, asked, members)
    with context.storage.database.read() as session:
        sheet = set_sheet(session, agency, asked, is_packing=True)
        members = [each for each in members if each.derivative_id is not None]
        made = [
            items.derivative_by_id(session, agency.id, each.derivative_id)
            for each in members
            if each.derivative_id
        ]
    zone = context.agency.time_zone
    packed = context.scratch / "set.zip"
    pack(
        packed,
        [
            (said["file"], context.local_path(each.store_key))
            for said, each in zip(sheet["clips"], made, strict=True)
        ],
        {"sheet.json": as_json(sheet), "sheet.html": as_page(sheet, zone)},
        on_progress=context.progress,
        is_cancelled=context.is_cancelled,
    )
    kept = context.keep_derivative(packed)
    described = {"clip_set": str(set_id), "clips": [each.sha256.hex() for each in made]}

    def commit(session: Session, agency: Agency) -> None:
        # It is about several recordings: its row stands with the first, and each is asked about when served.
        row = put_derivative(
            session, context, members[0].item_id, "clip", described, kept, info={},
            masked=all(each.masked for each in made), content_type="application/zip",
        )  # fmt: skip
        held = clips.set_by_id(session, agency.id, set_id, lock=True)
        stale: UUID | None = row.id
        if of_what_is_cut(clips.clips_of_set(session, agency.id, set_id)) == packs:
            # Else one was cut meanwhile, and the set is packed once more.
            stale, held.derivative_id = held.derivative_id, row.id
            held.layout = {**held.layout, "not_cut": clips.still_not_cut(held, members)}
        if stale is not None and stale != held.derivative_id:
            let_go_of_pack(session, agency, set_id, stale, context.storage.clock.now())
        facts = {
            "set": str(set_id),
            "derivative": str(row.id),
            "sha256": kept.sha256.hex(),
            "clips": [str(each.id) for each in members],
            "not_cut": sorted(clips.still_not_cut(held, members)),
        }
        now = context.storage.clock.now()
        custody.record(
            session, agency, Happening(Action.CLIP_ISSUED, "case", str(held.case_id), WORKER, facts), now
        )

    return Outcome(commit, [(Topic.CLIP, str(set_id), "ready", {})])


def let_go_of_pack(session: Session, agency: Agency, set_id: UUID, pack_id: UUID, now: datetime) -> None:
    """What a set was packed into is served no longer, since another has more, and its gigabytes go."""
    row = items.derivative_by_id(session, agency.id, pack_id)
    if row.withdrawn_at is None:
        withdraw(session, agency, row, "packed again", now)
    wanted = Wanted("discard_pack", "io", set_id, row.sha256, {"derivative": str(row.id)})
    jobs.want(session, agency.id, wanted, now, again=True)


def discard_pack(context: JobContext) -> Outcome:
    """Remove the bytes of what a set was packed into before; done twice it does the same.

    No address leads there any more, and who is being sent it has it open.
    """
    with context.storage.database.read() as session:
        row = items.derivative_by_id(session, context.agency.id, UUID(context.lease.params["derivative"]))
        is_shown = items.is_key_shown(session, context.agency.id, row.store_key)
    if not is_shown:
        context.storage.objects.delete(row.store_key)
    return Outcome(lambda _session, _agency: None)


def _cut(context: JobContext, request: Clip, source: Derivative) -> ClipResult:
    params = context.lease.params
    return cut_clip(
        context.local_path(source.store_key),
        FragmentIndex.from_json(source.info["index"]),
        request.span_from_us,
        request.span_to_us,
        context.scratch / "clip.mp4",
        clock_us=params.get("clock_us"),
        mark=_mark(params),
        run=_run(context),
        on_progress=context.progress,
        cancelled=context.is_cancelled,
    )


def _take(context: JobContext, source: Derivative) -> PictureResult:
    params = context.lease.params
    index = FragmentIndex.from_json(source.info["index"])
    return take_picture(
        context.local_path(source.store_key),
        index,
        ShownPicture(int(params["frame"]), int(params["pts"]), index.timescale),
        context.scratch / "picture.png",
        clock_us=params.get("clock_us"),
        mark=_mark(params),
        run=_run(context),
        cancelled=context.is_cancelled,
    )


def _mark(params: Mapping[str, Any]) -> list[MarkLine]:
    return [MarkLine(str(line["text"]), str(line["latin"])) for line in params.get("mark", [])]


def _run(context: JobContext) -> RunOptions:
    ffmpeg = context.settings.media.ffmpeg
    return RunOptions(context.scratch, context.limits, None if ffmpeg is None else str(ffmpeg))
