"""The media queue, clips: a span cut to the frame, or one picture, with the viewer's mark burnt in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict
from evidence.events import Topic
from evidence.fixity import hash_file
from media.fmp4 import FragmentIndex
from storage.db import clips, custody, items
from storage.db.custody import Happening
from storage.db.tables import Agency, Clip, Derivative
from transcode.clip import ClipResult, cut_clip
from transcode.mark import MarkLine
from transcode.picture import PictureResult, ShownPicture, take_picture
from transcode.segment import RunOptions
from workers.context import WORKER, JobContext, Outcome
from workers.derivatives import put_derivative


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
        clips.clip_by_id(session, agency.id, request.id).derivative_id = row.id
        facts = {
            "clip": str(request.id),
            "form": request.form,
            "marked": request.marked,
            "derivative": str(row.id),
            "sha256": made.sha256.hex(),
            "span_us": [request.span_from_us, request.span_to_us],
            "variant": request.variant,
        }
        custody.record(
            session, agency, Happening(Action.CLIP_ISSUED, "item", str(request.item_id), WORKER, facts), now
        )

    return Outcome(commit, [(Topic.CLIP, str(request.id), "ready", {})])


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
