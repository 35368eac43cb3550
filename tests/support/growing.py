"""Renditions that are being made now, as a worker's scratch folder has them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from media.fmp4 import FragmentIndex
from storage.db import jobs
from storage.db.tables import Derivative, Job
from tests.support.scene import Recording, Scene, reel


def growing(scene: Scene, recording: Recording) -> tuple[Path, FragmentIndex]:
    """Make the item's rendition one that is being made now, as its worker's scratch folder has it."""
    film = reel(1)
    with scene.storage.database.transaction() as session:
        row = session.scalars(
            select(Derivative).where(Derivative.item_id == recording.item_id, Derivative.kind == "rendition")
        ).one_or_none()
        assert row is None
        params = {"rungs": ["copy"], "may_copy": True}
        wanted = jobs.Wanted("rendition", "media", recording.item_id, params=params)
        jobs.want(session, scene.agency.id, wanted, scene.clock.now())
    with scene.storage.database.transaction() as session:
        job = session.scalars(
            select(Job).where(Job.subject_id == recording.item_id, Job.kind == "rendition")
        ).one()
        job.state, job.fence = "leased", 1
        scratch = scene.storage.scratch / f"{job.id}-{job.fence}"
    scratch.mkdir()
    return scratch, film.index


def settle(scratch: Path, index: FragmentIndex, count: int) -> FragmentIndex:
    """So many fragments are whole; a piece of the next one is there too."""
    part = FragmentIndex(index.init_size_bytes, index.tracks, index.origin_pts, index.fragments[:count])
    (scratch / "rendition-copy.mp4").write_bytes(reel(1).rendition[: part.size_bytes + 100])
    (scratch / "growing.part").write_text(part.dumps())
    (scratch / "growing.part").replace(scratch / "growing-copy.json")
    return part
