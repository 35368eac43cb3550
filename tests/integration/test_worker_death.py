"""Workers that are killed, frozen or told nothing: every job is committed once, and no child outlives them.

One installation of real processes serves all tests; what dies is started again, as its supervisor would.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from redis import Redis
from sqlalchemy import func, select

from evidence.custody import Action
from evidence.item import Media
from storage.db import items
from storage.db.tables import CustodyLeaf, Item, Job
from tests.support.cluster import MEDIA, MEDIA2, PIPELINE, QUICK, Cluster, running, wait_for
from tests.support.media import make_plain
from tests.support.pipeline import WAYFINDING

LEASE_S = 3
SETTINGS = {
    "WORKER__LEASE_S": str(LEASE_S),
    "WORKER__ANNOUNCE_AGAIN_S": "2",
    "WORKER__CHECKPOINT_EVERY_S": "1",
    "WORKER__CHECKPOINT_BUSY_EVERY_S": "1",
    "WORKER__ISOLATE_AFTER_DEATHS": "2",
    "WORKER__MAX_DEATHS": "3",
}
MEDIA_WORKERS = (MEDIA, MEDIA2, QUICK)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("worker-death")
    with running(folder, *PIPELINE, settings=SETTINGS) as started:
        yield started


def upload_clip(cluster: Cluster, path: Path, seed: int, **options: object) -> UUID:
    """Upload a clip of its own; the item."""
    made = {"seconds": 1, "fps": 5, "audio": False, "seed": seed, **options}
    make_plain(path, **made)  # type: ignore[arg-type]
    shipped = cluster.upload(path)
    with cluster.storage.database.read() as session:
        agency = cluster.agency()
        key = f"tus:{shipped.url.rsplit('/', 1)[-1]}"
        reception = items.reception_by_key(session, agency.id, key)
        assert reception is not None
        return reception.item_id


def job_of(cluster: Cluster, item_id: UUID, kind: str) -> Job | None:
    with cluster.storage.database.read() as session:
        query = select(Job).where(Job.subject_id == item_id, Job.kind == kind)
        return session.scalars(query.order_by(Job.created_at)).first()


def worker_of(cluster: Cluster, item_id: UUID, kind: str) -> str | None:
    """The media worker that has the job now."""
    job = job_of(cluster, item_id, kind)
    if job is None or job.state != "leased" or job.lease_owner is None:
        return None
    for name in MEDIA_WORKERS:
        with contextlib.suppress(ProcessLookupError):
            if job.lease_owner.endswith(f":{cluster.pid(name)}"):
                return name
    return None


def wait_settled(cluster: Cluster, timeout_s: float, *but: str) -> None:
    cluster.wait_settled(timeout_s, leaving_out={*WAYFINDING, *but})


def told(cluster: Cluster, item_id: UUID, action: Action) -> int:
    with cluster.storage.database.read() as session:
        query = select(func.count()).where(
            CustodyLeaf.subject_id == str(item_id), CustodyLeaf.action == str(action)
        )
        return session.scalar(query) or 0


def test_killed_worker_takes_its_ffmpeg_along_and_the_job_is_done_once(
    cluster: Cluster, tmp_path: Path
) -> None:
    item_id = upload_clip(
        cluster, tmp_path / "long.avi", 1, codec="mpeg4", seconds=5, fps=20, width_px=480, height_px=270
    )
    caught: list[psutil.Process] = []
    owner = [""]

    def is_encoding() -> bool:
        owner[0] = worker_of(cluster, item_id, "rendition") or ""
        caught[:] = cluster.children(owner[0]) if owner[0] else []
        return any("ffmpeg" in " ".join(child.cmdline()) for child in _living(caught))

    wait_for(is_encoding, 60, "a worker runs FFmpeg", cluster.describe, every_s=0.02)
    cluster.kill(owner[0])
    wait_for(lambda: not _living(caught), 2, "its children are dead too", every_s=0.02)
    wait_settled(cluster, 90, "redact")
    job = job_of(cluster, item_id, "rendition")
    assert job is not None
    assert (job.state, job.deaths, job.attempt, job.fence) == ("done", 1, 0, 2)
    made = [row for row in _derivatives(cluster, item_id) if row == "rendition"]
    assert len(made) == 1


def test_file_that_kills_its_workers_runs_alone_and_is_then_quarantined(
    cluster: Cluster, tmp_path: Path
) -> None:
    queues: list[str] = []
    stop = threading.Event()
    poisoned: list[UUID] = []

    def poison() -> None:
        """Whoever examines this file dies of it."""
        killed = 0
        while not stop.wait(0.01):
            job = job_of(cluster, poisoned[0], "examine") if poisoned else None
            if job is not None and job.state == "leased" and job.fence > killed and job.lease_owner:
                killed = job.fence
                queues.append(job.queue)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(job.lease_owner.rsplit(":", 1)[1]), 9)

    killer = threading.Thread(target=poison)
    killer.start()
    try:
        # Encoded only after `examine`, so that nothing of it is ready before the poison is.
        poisoned.append(upload_clip(cluster, tmp_path / "poison.avi", 2, codec="mpeg4"))
        healthy = upload_clip(cluster, tmp_path / "healthy.mp4", 3)
        wait_for(
            lambda: (
                (job := job_of(cluster, poisoned[0], "examine")) is not None and job.state == "quarantined"
            ),
            90,
            "the job is quarantined",
            cluster.describe,
        )
    finally:
        stop.set()
        killer.join()
    wait_settled(cluster, 60)
    job = job_of(cluster, poisoned[0], "examine")
    assert job is not None
    assert (job.deaths, job.attempt) == (3, 0)
    assert queues == ["media", "media", "isolated"]
    assert told(cluster, poisoned[0], Action.JOB_QUARANTINED) == 1
    with cluster.storage.database.read() as session:
        rows = {row.id: row for row in session.scalars(select(Item))}
    assert "examine_quarantined" in [flag["code"] for flag in rows[poisoned[0]].flags]
    assert rows[poisoned[0]].media == Media.UNPLAYABLE
    assert rows[poisoned[0]].custody == "verified"
    assert rows[healthy].media == Media.RENDERED


def test_new_footage_is_playable_while_no_media_worker_takes_anything(
    cluster: Cluster, tmp_path: Path
) -> None:
    stopped = [pid for name in (MEDIA, MEDIA2) for pid in cluster.freeze(name)]
    try:
        item_id = upload_clip(cluster, tmp_path / "urgent.mp4", 5)
        wait_for(
            lambda: (job := job_of(cluster, item_id, "rendition")) is not None and job.state == "done",
            30,
            "it can be played",
            cluster.describe,
        )
        waiting = job_of(cluster, item_id, "redact")
        assert waiting is not None
        assert waiting.state == "ready"
    finally:
        cluster.thaw(stopped)
    wait_settled(cluster, 90)


def test_flushed_broker_delays_jobs_and_loses_none(cluster: Cluster, tmp_path: Path) -> None:
    broker = Redis(unix_socket_path=str(cluster.data / "run" / "valkey.sock"))
    uploaded = []
    for number in range(3):
        uploaded.append(upload_clip(cluster, tmp_path / f"flushed{number}.mp4", 10 + number))
        broker.flushall()
    broker.close()
    wait_settled(cluster, 90)
    for item_id in uploaded:
        assert told(cluster, item_id, Action.ITEM_VERIFIED) == 1
        assert told(cluster, item_id, Action.REDACTION_CHECKED) == 1


def test_worker_frozen_beyond_its_lease_commits_nothing_when_it_wakes(
    cluster: Cluster, tmp_path: Path
) -> None:
    item_id = upload_clip(cluster, tmp_path / "frozen.mp4", 20, seconds=2, fps=8)
    owner: list[str] = []

    def is_redacting() -> bool:
        owner[:] = [name for name in [worker_of(cluster, item_id, "redact")] if name]
        return bool(owner and cluster.children(owner[0]))

    wait_for(is_redacting, 60, "a worker looks for faces", cluster.describe, every_s=0.02)
    stopped = cluster.freeze(owner[0])
    try:
        wait_settled(cluster, 90)
    finally:
        cluster.thaw(stopped)
    log = cluster.log(owner[0])
    wait_for(lambda: '"lease_lost"' in log.read_text(), 30, "it notices that its lease is lost")
    wait_settled(cluster, 30)
    job = job_of(cluster, item_id, "redact")
    assert job is not None
    assert (job.state, job.deaths, job.fence) == ("done", 1, 2)
    assert told(cluster, item_id, Action.REDACTION_PLAN_PROPOSED) == 1
    wait_for(lambda: not list(cluster.storage.scratch.iterdir()), 3 * LEASE_S + 5, "scratch folders are gone")


def _living(processes: list[psutil.Process]) -> list[psutil.Process]:
    living = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def _derivatives(cluster: Cluster, item_id: UUID) -> list[str]:
    with cluster.storage.database.read() as session:
        return [row.kind for row in items.derivatives_of(session, cluster.agency().id, item_id)]
