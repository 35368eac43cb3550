"""The media queue, stills: posters of renditions, and photos made fit to show."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.events import Topic
from evidence.item import Media, move
from evidence.kinds import MediaKind
from media.fmp4 import FragmentIndex
from storage.db import items, jobs
from storage.db.jobs import Wanted
from storage.db.tables import Agency
from transcode.stills import make_photo_derivative, make_poster
from workers.context import JobContext, Outcome
from workers.derivatives import put_derivative

JPEG = "image/jpeg"


def poster(context: JobContext) -> Outcome:
    """The poster of a rendition: unmasked, for holders of the right to the original."""
    derivative_id = UUID(context.lease.params["derivative"])
    with context.storage.database.read() as session:
        source = items.derivative_by_id(session, context.agency.id, derivative_id)
        item = items.item_by_id(session, context.agency.id, source.item_id)
    if item.media_kind != MediaKind.VIDEO:
        return Outcome(lambda _session, _agency: None)
    still = make_poster(
        context.local_path(source.store_key),
        FragmentIndex.from_json(source.info["index"]),
        context.scratch / "poster.jpg",
        scratch=context.scratch,
        limits=context.limits,
        cancelled=context.is_cancelled,
    )
    made = context.keep_derivative(still.path)
    params = {"source": context.lease.input_digest.hex(), "width_px": still.width_px}

    def commit(session: Session, _agency: Agency) -> None:
        put_derivative(
            session,
            context,
            item.id,
            "poster",
            params,
            made,
            info=still.info,
            masked=False,
            content_type=JPEG,
        )

    return Outcome(commit, [(Topic.ITEM, str(item.id), "poster", {})])


def photo(context: JobContext) -> Outcome:
    """A photo as an upright JPEG without EXIF; the masked one follows by `redact`."""
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    still = make_photo_derivative(
        context.local_path(stored.store_key),
        context.scratch / "photo.jpg",
        scratch=context.scratch,
        limits=context.limits,
        cancelled=context.is_cancelled,
    )
    made = context.keep_derivative(still.path)
    params: dict[str, Any] = {"source": context.lease.input_digest.hex()}

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        row = put_derivative(
            session, context, item.id, "photo", params, made, info=still.info, masked=False, content_type=JPEG
        )
        found = items.item_by_id(session, agency.id, item.id, lock=True)
        found.media = str(move(Media(found.media), Media.RENDERED))
        wanted = Wanted("redact", "media", item.id, made.sha256, {"derivative": str(row.id)}, 40)
        jobs.want(session, agency.id, wanted, now)

    return Outcome(commit, [(Topic.ITEM, str(item.id), "rendered", {"rung": "photo"})])
