"""A token that ends while footage comes: the footage is kept, nobody is told that a card may be wiped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from evidence.clock import SystemClock
from ingest.daemon.holding import Holder
from ingest.daemon.listening import authenticator, receipt_finder, seal_with
from ingest.tus.sealing import Sealer
from ingest.tus.state import UploadRecord
from ingest.tus.uploads import UploadStore
from ingest.tus.writer import writing
from messaging.events import EventPublisher
from messaging.jobs import Announcer
from storage.db import agencies, credentials, items
from storage.db.tables import Item, Job
from storage.open import Storage
from tests.integration.tus_server import LIMITS
from tests.support.brokers import broker
from tests.support.clocks import SettableClock


@pytest.fixture
def storage(sqlite_storage: Storage) -> Storage:
    return sqlite_storage


@pytest.fixture
def holder(storage: Storage, tmp_path: Path) -> Iterator[Holder]:
    publisher = EventPublisher(f"ipc://{tmp_path / 'events'}")
    with broker(tmp_path / "s"):
        announcer = Announcer(f"redis+socket://{tmp_path / 's'}")
        holder = Holder(storage, publisher, announcer)
        yield holder
        holder.close(60)
        announcer.close()
    publisher.close()


def issue(storage: Storage, life: timedelta | None = None) -> tuple[str, UUID]:
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        token, row = credentials.issue_upload_token(
            session, agency, dock_no="D1", device_id=None, now=storage.clock.now(), life=life
        )
        return token, row.id


def revoke(storage: Storage, token_id: UUID) -> None:
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        credentials.revoke_upload_token(session, agency.id, token_id, storage.clock.now())


def upload(
    storage: Storage, holder: Holder, folder: Path, token: str, data: bytes, meanwhile: object
) -> UploadRecord:
    """Send a file; ``meanwhile`` happens between its last byte and its sealing."""

    async def life() -> UploadRecord:
        with UploadStore(folder, LIMITS, SystemClock()) as store:
            uploader = await asyncio.to_thread(authenticator(storage), token)
            made = await store.create(uploader, len(data), "", "")
            async with store.claimed(made), writing(store, made, wanted_bytes=len(data)) as writer:
                await writer.append(data)
            await asyncio.to_thread(meanwhile)  # type: ignore[arg-type]
            sealer = Sealer(store, seal_with(storage, holder))
            await sealer.settle(made)
            sealer.close()
            return made.record

    return asyncio.run(life())


@pytest.mark.parametrize("how", ["in force", "revoked", "run out"])
def test_footage_of_a_token_that_ended_is_kept_flagged_and_earns_no_receipt(
    storage: Storage, holder: Holder, clock: SettableClock, tmp_path: Path, how: str
) -> None:
    token, token_id = issue(storage, timedelta(hours=1))

    def meanwhile() -> None:
        if how == "revoked":
            revoke(storage, token_id)
        if how == "run out":
            clock.advance(7200)

    record = upload(storage, holder, tmp_path / "uploads", token, b"footage", meanwhile)
    assert record.sealed is not None
    with storage.database.read() as session:
        item = items.item_by_id(session, record.uploader.agency_id, record.sealed.item_id)
        flags = {flag["code"] for flag in item.flags}
        verify = session.scalars(select(Job).where(Job.subject_id == item.id, Job.kind == "verify")).one()
        assert ("token_ended" in flags) is (how != "in force")
        assert verify.params.get("receipt", True) is (how == "in force")
    assert receipt_finder(storage)(record) is None


def test_same_file_sent_again_under_a_token_in_force_earns_its_receipt(
    storage: Storage, holder: Holder, tmp_path: Path
) -> None:
    ended, ended_id = issue(storage)
    upload(storage, holder, tmp_path / "uploads", ended, b"footage", lambda: revoke(storage, ended_id))
    token, _ = issue(storage)
    upload(storage, holder, tmp_path / "uploads", token, b"footage", lambda: None)
    with storage.database.read() as session:
        assert len(session.scalars(select(Item)).all()) == 1
        wanted = [
            job.params.get("receipt", True)
            for job in session.scalars(select(Job).where(Job.kind == "verify"))
        ]
    assert sorted(map(bool, wanted)) == [False, True]
