"""The media queue: what helps to find one's way in a rendition, unmasked or masked, from itself alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from media.fmp4 import FragmentIndex
from storage.db.tables import Agency
from transcode.names import MASKED_PREFIX, address_name
from transcode.wayfinding import make_wayfinding, thumbnails_track
from workers.context import JobContext, Made, Outcome
from workers.derivatives import put_follower, source_of

TYPES = {
    "sheet": "image/jpeg",
    "thumbnails": "text/vtt",
    "waveform": "application/json",
    "waveform_image": "image/png",
}


def wayfinding(context: JobContext) -> Outcome:
    """Contact sheets, their track, and the waveform of one rendition."""
    source = source_of(context)
    if source is None:
        return Outcome(lambda _session, _agency: None)
    index = FragmentIndex.from_json(source.info["index"])
    found = make_wayfinding(
        context.local_path(source.store_key),
        index,
        settings=context.settings.wayfinding,
        scratch=context.scratch,
        limits=context.limits,
        on_progress=context.progress,
        cancelled=context.is_cancelled,
    )
    # Each with what it depends on beside the rendition, and facts for lists.
    made: list[tuple[str, Made, dict[str, Any], dict[str, Any]]] = []

    def keep(kind: str, path: Path, params: dict[str, Any], info: dict[str, Any]) -> Made:
        kept = context.keep_derivative(path)
        made.append((kind, kept, params, info))
        return kept

    tiles = {"step_s": found.step_s, "tile_px": list(found.tile_px)}
    prefix = MASKED_PREFIX if source.masked else ""
    names = [
        address_name(f"{prefix}sheet", keep("sheet", path, {**tiles, "sheet": number}, {}).sha256)
        for number, path in enumerate(found.sheets)
    ]
    if names:
        track = context.scratch / "thumbnails.vtt"
        track.write_text(thumbnails_track(index, found.tiles, found.tile_px, names), encoding="utf-8")
        info = {"tile_count": len(found.tiles), "undecodable_count": found.undecodable_count}
        keep("thumbnails", track, tiles, info)
    if found.waveform is not None and found.waveform_image is not None:
        shape = found.waveform_shape
        keep("waveform", found.waveform, shape, {})
        keep("waveform_image", found.waveform_image, shape, {})

    def commit(session: Session, _agency: Agency) -> None:
        for kind, kept, params, info in made:
            put_follower(session, context, source, kind, params, kept, info=info, content_type=TYPES[kind])

    return Outcome(commit)
