"""The media queue, at its end: the continuity report of a recording, and where its scenes change.

The report is made from the original, in one pass, and says facts about times and levels. Scenes say more of
what is to be seen, so there are two lists: of the original, and of the masked rendition, made from its masked
pictures alone (invariant 7).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evidence.continuity import SCENES_SCHEMA, SCHEMA, Span
from evidence.errors import MediaError
from evidence.events import Topic
from media import sandbox
from media.report import ProbeReport
from storage.db import items
from storage.db.tables import Agency
from workers.context import JobContext, Made, Outcome
from workers.derivatives import put_derivative, put_follower, source_of

JSON = "application/json"
METHOD = "liuhen-measures/1"
SCENE_METHOD = "luma histogram of 32 levels, half the sum of differences between neighbouring samples"
FACTS = ("duration_us", "frame_count", "undecodable_count", "has_picture", "has_sound", "is_whole")


def continuity(context: JobContext) -> Outcome:
    """Read an original through: its continuity report, and its scenes for holders of the right to it."""
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    if item.probe is None:
        raise MediaError(f"item {item.id}: expected a probe report, found none; requeue its probe")
    report = ProbeReport.from_json(item.probe)
    streams = [None if one is None else one.index for one in (report.video, report.audio)]
    said = {"streams": streams, "lead_us": report.lead_us}
    found = _read_through(context, context.local_path(stored.store_key), said)
    source = context.lease.input_digest.hex()
    told = {
        "schema": SCHEMA,
        "method": METHOD,
        "source_sha256": source,
        "thresholds": _thresholds(context),
        **{name: found[name] for name in FACTS},
        "counts": found["counts"],
        # Through the type, so that nothing but spans comes out of a child that read hostile bytes.
        "spans": [Span.from_json(one).to_json() for one in found["spans"]],
    }
    made = _written(context, told, "continuity.json")
    scenes = _written(context, _scenes(context, found, source), "scenes.json")
    counts: Mapping[str, int] = {name: int(count) for name, count in found["counts"].items()}
    info = {"counts": dict(counts), "span_count": len(told["spans"])}

    def commit(session: Session, _agency: Agency) -> None:
        params = {"source": source, "method": METHOD, "thresholds_sha256": _digest(context)}
        put_derivative(
            session, context, item.id, "continuity", params, made,
            info=info, masked=False, content_type=JSON,
        )  # fmt: skip
        if report.video is not None:
            put_derivative(
                session, context, item.id, "scenes", params, scenes,
                info={"scene_count": int(found["scene_count"])}, masked=False, content_type=JSON,
            )  # fmt: skip

    return Outcome(commit, [(Topic.ITEM, str(item.id), "continuity", counts)])


def masked_scenes(context: JobContext) -> Outcome:
    """The scenes of a masked rendition, for everybody who may see that."""
    source = source_of(context)
    if source is None:
        return Outcome(lambda _session, _agency: None)
    found = _read_through(context, context.local_path(source.store_key), {})
    scenes = _written(context, _scenes(context, found, source.sha256.hex()), "scenes.json")
    info = {"scene_count": int(found["scene_count"])}

    def commit(session: Session, _agency: Agency) -> None:
        params = {"method": METHOD, "thresholds_sha256": _digest(context)}
        put_follower(session, context, source, "scenes", params, scenes, info=info, content_type=JSON)

    return Outcome(commit)


def _read_through(context: JobContext, path: Path, said: dict[str, object]) -> dict[str, Any]:
    return sandbox.call(
        "media.continuity:continuity_entry",
        {"path": str(path), "thresholds": _thresholds(context), **said},
        limits=context.limits,
        on_progress=context.progress,
        cancelled=context.is_cancelled,
        scratch=context.scratch,
    )


def _scenes(context: JobContext, found: Mapping[str, Any], source: str) -> dict[str, Any]:
    return {
        "schema": SCENES_SCHEMA,
        "method": SCENE_METHOD,
        "source_sha256": source,
        "sample_ms": context.settings.continuity.sample_ms,
        "threshold_percent": context.settings.continuity.scene_percent,
        "time_base": found["time_base"],
        "scene_count": found["scene_count"],
        "scenes": found["scenes"],
    }


def _thresholds(context: JobContext) -> dict[str, Any]:
    return context.settings.continuity.model_dump()


def _digest(context: JobContext) -> str:
    return hashlib.sha256(_bytes(_thresholds(context))).hexdigest()


def _written(context: JobContext, told: Mapping[str, Any], name: str) -> Made:
    path = context.scratch / name
    path.write_bytes(_bytes(told))
    return context.keep_derivative(path)


def _bytes(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
