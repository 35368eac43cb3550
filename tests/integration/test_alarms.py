"""Damage found after a receipt: an alarm by name, no erasure on it, healing by the same bytes again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from cli.check import note_damaged
from cli.main import main
from cli.shell import Desk
from config.settings import Settings
from evidence.custody import Action
from evidence.errors import Conflict, Unavailable
from ingest import roster
from ingest.daemon.listening import upload_app, upload_store
from ingest.daemon.receipts import receipts_of
from ingest.tus.sealing import Sealer
from storage.check import Depth, check
from storage.db import agencies, alarms, credentials, items
from storage.db.credentials import Uploader
from storage.db.ledger_tables import Alarm, DutyPeriod
from storage.db.receipts import by_digest, receipt_in_force
from storage.db.tables import CustodyLeaf, Item, Job, Officer, Reception, StoredObject
from storage.objects.local import LocalObjectStore
from storage.open import Storage
from tests.support.clocks import SettableClock
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline
from workers.schedule import check_absence, want_rereads

FOOTAGE = b"what a camera wrote\n" * 4096
YEAR_S = 365 * 86400.0


@pytest.fixture
def pipeline(sqlite_storage: Storage, tmp_path: Path) -> Pipeline:
    return Pipeline(sqlite_storage, settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}"))


@pytest.fixture
def either(storage: Storage, settings: Settings) -> Pipeline:
    """Over each database in turn."""
    return Pipeline(storage, settings)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    path = tmp_path / "00012.mp4"
    path.write_bytes(FOOTAGE)
    return path


def received(pipeline: Pipeline, card: Path, **said: str) -> Item:
    """An item with its receipt."""
    accepted = pipeline.take(card, **{"device_no": "CAM1", **said})
    pipeline.work(only={"verify"})
    return pipeline.item(accepted.item_id)


def stored_path(pipeline: Pipeline) -> Path:
    with pipeline.storage.database.read() as session:
        key = session.scalars(select(StoredObject.store_key)).one()
    path = pipeline.storage.objects.path(key)
    assert path is not None
    return path


def flip_a_bit(pipeline: Pipeline) -> Path:
    path = stored_path(pipeline)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    return path


def standing(pipeline: Pipeline) -> list[Alarm]:
    with pipeline.storage.database.read() as session:
        return alarms.alarms(session, pipeline.agency.id)


def leaves(pipeline: Pipeline, action: Action) -> int:
    with pipeline.storage.database.read() as session:
        return len(session.scalars(select(CustodyLeaf.id).where(CustodyLeaf.action == str(action))).all())


def come_round(pipeline: Pipeline, clock: SettableClock) -> int:
    """A year passes and the relay looks at its schedule."""
    clock.advance(YEAR_S)
    wanted = want_rereads(pipeline.storage, timedelta(days=90))
    pipeline.work(only={"reread"})
    return wanted


def test_every_original_comes_round_to_be_read_again(
    pipeline: Pipeline, card: Path, clock: SettableClock
) -> None:
    received(pipeline, card)
    assert want_rereads(pipeline.storage, timedelta(days=90)) == 0
    assert come_round(pipeline, clock) == 1
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(StoredObject.verified_at)).one() == clock.now()
    assert leaves(pipeline, Action.OBJECT_REREAD) == 1
    assert want_rereads(pipeline.storage, timedelta(days=90)) == 0
    assert come_round(pipeline, clock) == 1


def test_an_object_nobody_verified_or_whose_reread_waits_is_not_wanted_again(
    pipeline: Pipeline, card: Path, clock: SettableClock
) -> None:
    pipeline.take(card, device_no="CAM1")
    clock.advance(YEAR_S)
    assert want_rereads(pipeline.storage, timedelta(days=90)) == 0
    pipeline.work(only={"verify"})
    clock.advance(YEAR_S)
    assert want_rereads(pipeline.storage, timedelta(days=90)) == 1
    assert want_rereads(pipeline.storage, timedelta(days=90)) == 0


def test_each_day_is_checked_for_absence_once_its_deadline_is_past(
    pipeline: Pipeline, clock: SettableClock
) -> None:
    """R14: an officer on duty who left nothing is told of once, two days later."""
    agency_id, on_duty = pipeline.agency.id, clock.now()
    with pipeline.storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, agency_id)
        roster.register_officer(
            session, agency, "123456", "王", certificate_no=None, actor="test", now=on_duty
        )
        officer = session.scalars(select(Officer)).one()
        session.add(
            DutyPeriod(
                agency_id=agency_id,
                officer_id=officer.id,
                duty_from=on_duty,
                duty_to=on_duty + timedelta(hours=1),
                author="test",
                made_at=on_duty,
            )
        )
    done: dict[UUID, date] = {}
    assert check_absence(pipeline.storage, done) == []
    clock.advance(2 * 86400)
    assert [event.topic for event in check_absence(pipeline.storage, done)] == ["report"]
    assert check_absence(pipeline.storage, {}) == []


def test_damage_found_later_is_told_by_name_and_takes_the_leave_to_erase_back(
    either: Pipeline, card: Path, clock: SettableClock
) -> None:
    item = received(either, card)
    other = received(either, card, device_no="CAM2")
    flip_a_bit(either)
    come_round(either, clock)
    raised = standing(either)
    assert {alarm.subject_id for alarm in raised} == {str(item.id), str(other.id)}
    with either.storage.database.read() as session:
        arrivals = {row.item_id: str(row.id) for row in session.scalars(select(Reception))}
        found = by_digest(session, either.agency.id, items.object_of(session, item).sha256)
    for alarm in raised:
        assert alarm.code == "object_damaged"
        assert "upload the file again" in alarm.message
        assert arrivals[item.id if alarm.subject_id == str(item.id) else other.id] in alarm.facts["receipted"]
    assert {alarm.facts["device"] for alarm in raised} == {"CAM1", "CAM2"}
    assert either.item(item.id).custody == "quarantined"
    assert [(one.may_erase, one.is_damaged, one.reception.receipt is not None) for one in found] == [
        (False, True, True)
    ] * 2
    assert leaves(either, Action.ALARM_RAISED) == 2
    # The round comes again, and nobody is told twice.
    assert come_round(either, clock) == 1
    assert len(standing(either)) == 2
    # Somebody puts the bytes back by hand: the next round finds them, and ends the alarms.
    stored_path(either).write_bytes(FOOTAGE)
    assert come_round(either, clock) == 1
    assert standing(either) == []


@pytest.mark.parametrize("loss", ["flipped", "missing", "short"])
def test_the_same_bytes_again_heal_the_object_and_end_the_alarm(
    pipeline: Pipeline, card: Path, clock: SettableClock, loss: str
) -> None:
    item = received(pipeline, card)
    path = stored_path(pipeline)
    if loss == "missing":
        path.unlink()
    else:
        flip_a_bit(pipeline)
        if loss == "short":
            os.truncate(path, 99)
    come_round(pipeline, clock)
    assert len(standing(pipeline)) == 1
    again = received(pipeline, card)
    assert (again.id, again.custody) == (item.id, "verified")
    assert standing(pipeline) == []
    assert "fixity_mismatch" not in pipeline.flags(item.id)
    assert stored_path(pipeline).read_bytes() == FOOTAGE
    with pipeline.storage.database.read() as session:
        arrivals = session.scalars(select(Reception)).all()
        cleared = session.scalars(select(Alarm)).one()
    assert len(arrivals) == 2
    receipts = [json.loads(row.receipt or "null") for row in arrivals]
    assert len({receipt["reception"] for receipt in receipts}) == 2
    assert cleared.cleared_by == "worker"
    kept = pipeline.storage.objects.kept_aside(
        f"{path.relative_to(pipeline.storage.objects.staging_dir.parent)}"
    )
    assert len(kept) == (0 if loss == "missing" else 1)


def test_unreadable_sectors_raise_the_alarm_after_the_last_attempt(
    pipeline: Pipeline, card: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    received(pipeline, card)

    def broken(*_: object) -> object:
        raise Unavailable("object: the medium gives an error", code="store_io")

    monkeypatch.setattr(LocalObjectStore, "read_back", broken)
    clock.advance(YEAR_S)
    want_rereads(pipeline.storage, timedelta(days=90))
    for _ in range(pipeline.settings.worker.max_attempts):
        assert standing(pipeline) == []
        pipeline.work(only={"reread"})
        clock.advance(3600)
    assert [alarm.facts["found"] for alarm in standing(pipeline)] == ["unreadable"]
    with pipeline.storage.database.read() as session:
        assert session.scalars(select(Job.state).where(Job.kind == "reread")).one() == "quarantined"


def test_check_raises_alarms_for_what_it_finds_damaged(pipeline: Pipeline, card: Path) -> None:
    item = received(pipeline, card)
    flip_a_bit(pipeline)
    desk = Desk(pipeline.settings, pipeline.storage, pipeline.agency)
    findings = list(check(pipeline.storage, Depth.DIGESTS))
    with desk.write() as (session, agency):
        note_damaged(session, agency, findings, desk.now())
    assert [alarm.subject_id for alarm in standing(pipeline)] == [str(item.id)]


def test_an_alarm_is_cleared_once_and_with_a_reason_in_the_log(
    pipeline: Pipeline, card: Path, clock: SettableClock
) -> None:
    received(pipeline, card)
    flip_a_bit(pipeline)
    come_round(pipeline, clock)
    with pipeline.storage.database.transaction() as session:
        agency = pipeline.agency
        row = alarms.alarm_by_id(session, agency.id, standing(pipeline)[0].id)
        alarms.clear(session, agency, row, actor="operator:0", reason="从备份恢复", now=clock.now())
        with pytest.raises(Conflict):
            alarms.clear(session, agency, row, actor="operator:0", reason="again", now=clock.now())
    assert standing(pipeline) == []
    assert leaves(pipeline, Action.ALARM_CLEARED) == 1


def test_a_person_who_clears_an_alarm_brings_no_receipt_back_into_force(
    pipeline: Pipeline, card: Path, clock: SettableClock
) -> None:
    item = received(pipeline, card)
    flip_a_bit(pipeline)
    come_round(pipeline, clock)
    with pipeline.storage.database.transaction() as session:
        agency = pipeline.agency
        row = alarms.alarm_by_id(session, agency.id, standing(pipeline)[0].id)
        alarms.clear(session, agency, row, actor="operator:0", reason="看过了", now=clock.now())
    with pipeline.storage.database.read() as session:
        digest = items.object_of(session, item).sha256
        (told,) = by_digest(session, agency.id, digest)
        assert not told.may_erase
        assert receipt_in_force(session, told.reception) is None


@pytest.mark.parametrize("way", ["sent again", "put back by hand"])
def test_sound_bytes_heal_what_a_person_cleared_the_alarm_of(
    pipeline: Pipeline, card: Path, clock: SettableClock, way: str
) -> None:
    item = received(pipeline, card)
    path = flip_a_bit(pipeline)
    come_round(pipeline, clock)
    with pipeline.storage.database.transaction() as session:
        row = alarms.alarm_by_id(session, pipeline.agency.id, standing(pipeline)[0].id)
        alarms.clear(session, pipeline.agency, row, actor="operator:0", reason="已知", now=clock.now())
    before = leaves(pipeline, Action.ITEM_VERIFIED)
    if way == "sent again":
        received(pipeline, card)
    else:
        path.write_bytes(FOOTAGE)
        come_round(pipeline, clock)
    assert pipeline.item(item.id).custody == "verified"
    assert "fixity_mismatch" not in pipeline.flags(item.id)
    assert leaves(pipeline, Action.ITEM_VERIFIED) == before + (2 if way == "sent again" else 1)
    with pipeline.storage.database.read() as session:
        found = by_digest(session, pipeline.agency.id, items.object_of(session, item).sha256)
    assert {one.may_erase for one in found} == {True}


def test_a_token_is_told_of_receptions_of_its_own_dock_or_device_alone(
    pipeline: Pipeline, card: Path
) -> None:
    item = received(pipeline, card)
    find = receipts_of(pipeline.storage)
    with pipeline.storage.database.read() as session:
        digest = items.object_of(session, item).sha256

    def told(dock_no: str, device_no: str | None = None) -> int:
        agency = pipeline.agency
        return len(find(Uploader(item.id, agency.id, agency.code, dock_no, device_no), digest))

    assert (told("D1"), told("D2")) == (1, 0)
    assert (told("D1", "CAM1"), told("D2", "CAM1"), told("D1", "CAM2")) == (1, 1, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
from storage.objects.local import LocalObjectStore, read_identity

root, staged, digest = Path(sys.argv[1]), Path(sys.argv[2]), bytes.fromhex(sys.argv[3])
size, step = int(sys.argv[4]), int(sys.argv[5])
seen = 0

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def counted(event, arguments):
    global seen
    if event in {"os.link", "os.rename", "os.remove", "os.mkdir"}:
        seen += 1
        if seen == step:
            die()

store = LocalObjectStore.attach(root, read_identity(root).store_id)
sys.addaudithook(counted)
store.adopt(staged, digest, size, sys.argv[6])
"""


@pytest.mark.parametrize("step", range(1, 7))
def test_a_kill_before_any_step_of_healing_loses_neither_the_sound_nor_the_damaged_bytes(
    pipeline: Pipeline, card: Path, step: int
) -> None:
    item = received(pipeline, card)
    damaged = flip_a_bit(pipeline).read_bytes()
    objects = pipeline.storage.objects
    staged = objects.staging_dir / "again"
    staged.write_bytes(FOOTAGE)
    with pipeline.storage.database.read() as session:
        row = items.object_of(session, item)
    words = [str(objects.staging_dir.parent), str(staged), row.sha256.hex(), str(row.size_bytes), str(step)]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *words, pipeline.agency.id.hex], check=False, capture_output=True
    )
    assert ended.returncode in {0, -signal.SIGKILL}, ended.stderr.decode()
    assert objects.exists(row.store_key)
    assert staged.exists() or stored_path(pipeline).read_bytes() == FOOTAGE
    objects.adopt(staged, row.sha256, row.size_bytes, pipeline.agency.id.hex)
    assert stored_path(pipeline).read_bytes() == FOOTAGE
    assert not staged.exists()
    kept = objects.kept_aside(row.store_key)
    assert [(objects.staging_dir.parent / "damaged" / name).read_bytes() for name in kept] == [damaged]


def test_a_dock_asks_by_digest_over_http_and_only_with_its_token(
    pipeline: Pipeline, card: Path, tmp_path: Path
) -> None:
    item = received(pipeline, card)
    storage, settings = pipeline.storage, pipeline.settings
    with storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, pipeline.agency.id)
        token, _ = credentials.issue_upload_token(
            session, agency, dock_no="D1", device_id=None, now=storage.clock.now(), life=None
        )
        digest = items.object_of(session, item).sha256.hex()

    async def asked() -> list[httpx.Response]:
        with upload_store(settings, storage.clock) as store:
            sealer = Sealer(store, lambda finished: pytest.fail(f"sealed {finished}"))
            transport = httpx.ASGITransport(app=upload_app(settings, storage, store, sealer))
            async with httpx.AsyncClient(transport=transport, base_url="http://dock") as client:
                mine = {"Authorization": f"Bearer {token}"}
                answers = [
                    await client.get(f"/receipts/{digest}", headers=mine),
                    await client.get(f"/receipts/{'0' * 64}", headers=mine),
                    await client.get("/receipts/abc", headers=mine),
                    await client.get(f"/receipts/{digest}"),
                ]
            sealer.close()
        return answers

    known, unknown, malformed, nobody = asyncio.run(asked())
    assert [one.status_code for one in (known, unknown, malformed, nobody)] == [200, 200, 400, 401]
    assert known.json()["may_erase"] is True
    assert known.json()["receptions"][0]["receipt"]["sha256"] == digest
    assert (unknown.json()["may_erase"], unknown.json()["receptions"]) == (False, [])


def test_commands_tell_of_receipts_and_alarms_and_clear_one(
    pipeline: Pipeline, card: Path, clock: SettableClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received(pipeline, card)
    database = f"database.url={pipeline.storage.database.url}"
    common = ["--data", str(tmp_path / "data"), "--set", database]
    digest = hashlib.sha256(FOOTAGE).hexdigest()
    assert main(["receipt", "get", "--sha256", digest, *common]) == 0
    assert main(["alarm", "list", *common]) == 0
    flip_a_bit(pipeline)
    come_round(pipeline, clock)
    assert main(["receipt", "get", "--sha256", digest, *common]) == 1
    capsys.readouterr()
    assert main(["alarm", "list", *common]) == 1
    told = capsys.readouterr().out
    assert "00012.mp4" in told and "原件字节与摘要不符 object_damaged" in told and "采集站 docks: " in told
    assert "CAM1" in told
    (alarm,) = standing(pipeline)
    assert main(["alarm", "clear", str(alarm.id), "--reason", " ", *common]) == 2
    assert main(["alarm", "clear", str(alarm.id), "--reason", "已从备份恢复", *common]) == 0
    assert standing(pipeline) == []
