"""Whoever hands a file in is answered when it is held, whatever becomes of the news of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from evidence.fixity import hash_file
from evidence.ids import new_id
from ingest.daemon.holding import Holder
from ingest.sources.base import StagedFile
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies
from storage.db.tables import Job
from storage.open import Storage
from tests.support.brokers import broker


@pytest.fixture
def agency_id(storage: Storage) -> UUID:
    with storage.database.read() as session:
        return agencies.agency_by_code(session, "demo").id


def staged(storage: Storage) -> StagedFile:
    path = storage.objects.staging_dir / str(new_id())
    path.write_bytes(new_id().bytes)
    digests = hash_file(path)
    return StagedFile(
        path=path,
        size_bytes=digests.size_bytes,
        sha256=digests.sha256,
        original_name_raw=b"a.mp4",
        source="tus",
        reception_key=f"tus:{new_id()}",
        actor="token:x",
    )


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def announced(storage: Storage) -> set[bool]:
    with storage.database.read() as session:
        return {when is not None for when in session.scalars(select(Job.announced_at))}


def test_a_broker_that_never_answers_delays_no_sender(
    storage: Storage, agency_id: UUID, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = EventPublisher(f"ipc://{tmp_path / 'events'}")
        broker_url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        announcer = Announcer(broker_url)
        holder = Holder(storage, publisher, announcer)
        started = time.monotonic()
        assert holder.hold(agency_id, staged(storage)).is_new
        assert time.monotonic() - started < 3
        eventually(lambda: announced(storage) == {True})
    holder.close(60)
    publisher.close()
    announcer.close()


def test_news_that_cannot_be_told_are_logged_and_the_next_are_told(
    storage: Storage, agency_id: UUID, tmp_path: Path
) -> None:
    publisher = EventPublisher(f"ipc://{tmp_path / 'events'}")
    publisher.close()
    with broker(tmp_path / "s"), capture_logs() as logs:
        announcer = Announcer(f"redis+socket://{tmp_path / 's'}")
        holder = Holder(storage, publisher, announcer)
        accepted = [holder.hold(agency_id, staged(storage)) for _ in range(2)]
        eventually(lambda: sum(entry["event"] == "ingest:not_told" for entry in logs) == 2)
        holder.close(60)
        announcer.close()
    untold = [entry["item"] for entry in logs if entry["event"] == "ingest:not_told"]
    assert untold == [str(one.item_id) for one in accepted]
    assert announced(storage) == {True}
