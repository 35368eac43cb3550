"""The media queue, clips: a span cut to the frame, with the viewer's mark burnt in."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.errors import Conflict
from evidence.events import Topic
from evidence.fixity import hash_file
from media.fmp4 import FragmentIndex
from storage.db import clips, custody, items
from storage.db.custody import Happening
from storage.db.tables import Agency
from transcode.clip import cut_clip
from transcode.mark import MarkLine
from transcode.segment import RunOptions
from workers.context import WORKER, JobContext, Outcome
from workers.derivatives import put_derivative


def clip(context: JobContext) -> Outcome:
    """Cut the clip somebody asked for out of the rendition they may see.

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
    result = cut_clip(
        context.local_path(source.store_key),
        FragmentIndex.from_json(source.info["index"]),
        request.span_from_us,
        request.span_to_us,
        context.scratch / "clip.mp4",
        clock_us=params.get("clock_us"),
        mark=[MarkLine(str(line["text"]), str(line["latin"])) for line in params.get("mark", [])],
        run=RunOptions(
            context.scratch,
            context.limits,
            None if context.settings.media.ffmpeg is None else str(context.settings.media.ffmpeg),
        ),
        on_progress=context.progress,
        cancelled=context.is_cancelled,
    )
    # For the sheet that goes with it; the object store looks for SHA-256 alone.
    sm3 = hash_file(result.path, sm3=True).sm3
    made = context.keep_derivative(result.path)
    described = {**result.params, "source_sha256": source.sha256.hex(), "clip": str(request.id)}
    info = {
        "duration_us": result.duration_us,
        "frame_count": result.frame_count,
        "sm3": sm3.hex() if sm3 is not None else None,
    }

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        items.item_by_id(session, agency.id, request.item_id, lock=True)
        again = items.derivative_by_id(session, agency.id, source.id)
        if again.withdrawn_at is not None:
            raise Conflict(f"clip {request.id}: its rendition was withdrawn", code="derivative_withdrawn")
        row = put_derivative(
            session, context, request.item_id, "clip", described, made, info=info, masked=source.masked
        )
        clips.clip_by_id(session, agency.id, request.id).derivative_id = row.id
        facts = {
            "clip": str(request.id),
            "derivative": str(row.id),
            "sha256": made.sha256.hex(),
            "span_us": [request.span_from_us, request.span_to_us],
            "variant": request.variant,
        }
        custody.record(
            session, agency, Happening(Action.CLIP_ISSUED, "item", str(request.item_id), WORKER, facts), now
        )

    return Outcome(commit, [(Topic.CLIP, str(request.id), "ready", {})])
