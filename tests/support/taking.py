"""What is taken away, asked for as a person does and made by a worker in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from storage.db.tables import Job
from tests.support.pipeline import Pipeline
from tests.support.scene import CASE_B, Live, Scene, served

NOON = datetime(2026, 3, 3, 4, tzinfo=UTC)
"""From which moments of sets are counted."""


@contextmanager
def scene_of_takers(folder: Path) -> Iterator[Live]:
    """A scene whose agency lets a mark be left out, being served."""
    scene = Scene(folder, f"sqlite:///{folder / 'test.db'}")
    media = scene.settings.media.model_copy(update={"unmarked_clips": True})
    scene.settings = scene.settings.model_copy(update={"media": media})
    with served(scene) as live:
        yield live
    scene.close()


def forget(live: Live) -> None:
    """Whatever is wanted is not made: only its asking was of interest."""
    with live.scene.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.state == "ready")):
            job.state = "cancelled"


def work(live: Live, *kinds: str) -> None:
    """Have clips and sets, or jobs of these kinds, made as a worker would."""
    Pipeline(live.scene.storage, live.scene.settings).work(only=set(kinds) or {"clip", "clip_set"})


def fetch(url: str) -> httpx.Response:
    """What an address answers to somebody who has nothing but it."""
    return httpx.get(url, trust_env=False, timeout=60)


def at(seconds: float) -> str:
    """A moment so long after noon, as it is asked for."""
    return (NOON + timedelta(seconds=seconds)).isoformat()


def ask_set(live: Live, name: str, first: float, last: float, **more: Any) -> httpx.Response:
    """Ask for a set over seconds after noon."""
    body = {"case_no": CASE_B, "purpose": "litigation", "from_at": at(first), "to_at": at(last), **more}
    return live.as_(name).post("/api/v1/clip-sets", json=body)
