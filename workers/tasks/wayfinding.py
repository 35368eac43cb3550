"""The media queue: what helps to find one's way in a rendition, unmasked or masked, from itself alone."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from media.fmp4 import FragmentIndex
from storage.db.tables import Agency, Derivative
from transcode.names import MASKED_PREFIX, address_name
from transcode.wayfinding import ChildOptions, make_sheets, make_waveform, thumbnails_track
from workers.context import JobContext, Made, Outcome
from workers.derivatives import put_follower, source_of

TYPES = {
    "sheet": "image/jpeg",
    "thumbnails": "text/vtt",
    "waveform": "application/json",
    "waveform_image": "image/png",
}


# What is made of one rendition: kind, bytes, what they depend on beside it, facts for lists.
Made4 = tuple[str, Made, dict[str, Any], dict[str, Any]]


def thumbnails(context: JobContext) -> Outcome:
    """Contact sheets of one rendition, and the track that names their tiles."""
    source = source_of(context)
    if source is None or not source.info.get("width_px"):
        return Outcome(lambda _session, _agency: None)
    index = FragmentIndex.from_json(source.info["index"])
    found = make_sheets(
        context.local_path(source.store_key), index, settings=context.settings.wayfinding, run=_run(context)
    )
    tiles = {"step_s": found.step_s, "tile_px": list(found.tile_px)}
    made: list[Made4] = [
        ("sheet", context.keep_derivative(path), {**tiles, "sheet": number}, {})
        for number, path in enumerate(found.paths)
    ]
    prefix = MASKED_PREFIX if source.masked else ""
    names = [address_name(f"{prefix}sheet", sheet.sha256) for _, sheet, _, _ in made]
    track = context.scratch / "thumbnails.vtt"
    track.write_text(thumbnails_track(index, found.tiles, found.tile_px, names), encoding="utf-8")
    info = {"tile_count": len(found.tiles), "undecodable_count": found.undecodable_count}
    made.append(("thumbnails", context.keep_derivative(track), tiles, info))
    return _kept(context, source, made)


def waveform(context: JobContext) -> Outcome:
    """The waveform of one rendition, as data and as a picture."""
    source = source_of(context)
    index = FragmentIndex.from_json(source.info["index"]) if source is not None else None
    if source is None or index is None or not any(track.kind == "audio" for track in index.tracks):
        return Outcome(lambda _session, _agency: None)
    found = make_waveform(
        context.local_path(source.store_key), index, settings=context.settings.wayfinding, run=_run(context)
    )
    made: list[Made4] = [
        ("waveform", context.keep_derivative(found.data), found.shape, {}),
        ("waveform_image", context.keep_derivative(found.image), found.shape, {}),
    ]
    return _kept(context, source, made)


def _run(context: JobContext) -> ChildOptions:
    return ChildOptions(context.scratch, context.limits, context.progress, context.is_cancelled)


def _kept(context: JobContext, source: Derivative, made: list[Made4]) -> Outcome:
    def commit(session: Session, _agency: Agency) -> None:
        for kind, kept, params, info in made:
            put_follower(session, context, source, kind, params, kept, info=info, content_type=TYPES[kind])

    return Outcome(commit)
