"""The device ledger on both databases: readings, hands, reports on equipment."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.settings import Settings
from evidence.clock import rfc3339
from evidence.errors import Conflict, InvalidInput, NotAuthenticated, NotFound
from evidence.fixity import hash_file
from evidence.ids import new_id
from evidence.kinds import ClaimSource
from ingest import docks, intake, ledger_health, roster
from ingest import ledger as device_ledger
from ingest.facts import statements_from
from ingest.sources.base import StagedFile
from storage.db import credentials, items, ledger
from storage.db.ledger_tables import DeviceReading
from storage.db.tables import Agency, CustodyLeaf, Device, Item
from tests.support.asked import questions
from tests.support.house import ACTOR, DAY, House, beside
from tests.support.pipeline import Pipeline

# --- readings ---------------------------------------------------------------------------------


def test_files_of_one_docking_leave_one_reading(house: House, settings: Settings, tmp_path: Path) -> None:
    pipeline = Pipeline(house.storage, settings)
    said = {
        "device_no": "CAM1", "device_clock": "2026-03-04T00:59:30Z", "dock_clock": "2026-03-04T01:00:00Z",
        "battery_percent": "40", "capacity_bytes": "64000000000", "free_bytes": "1000", "firmware": "V1.2",
    }  # fmt: skip
    for number in range(4):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"x" * (number + 1))
        pipeline.take(path, **said)
    (row,) = house.readings()
    assert (row.offset_us, row.battery_percent, row.dock_no) == (30_000_000, 40, "D1")
    assert (house.device().firmware, house.device().capacity_bytes) == ("V1.2", 64_000_000_000)


def test_a_docking_is_told_from_the_next_and_from_another_dock(house: House) -> None:
    assert house.dock(10) is not None
    house.clock.advance(60)
    assert house.dock(10.5) is None
    assert house.dock(0) is not None, "the dock set the clock, and read it again"
    with_battery = house.dock(0, battery_percent="80")
    assert with_battery is not None
    assert house.note("CAM1", "D2", battery_percent="80") is not None
    house.clock.advance(3600)
    assert house.dock(0, battery_percent="70") is not None
    assert len(house.readings()) == 5


def test_a_long_docking_with_one_pair_of_clocks_stays_one(house: House) -> None:
    clocks = {"dock_clock": "2026-03-04T01:00:00Z", "device_clock": "2026-03-04T01:00:07Z"}
    assert house.note(**clocks) is not None
    house.clock.advance(6 * 3600)
    assert house.note(**clocks) is None


UNREADABLE: list[dict[str, str]] = [
    {"battery_percent": "101"},
    {"battery_percent": "-1"},
    {"battery_percent": "٣"},
    {"free_bytes": "9" * 400},
    {"capacity_bytes": "a lot"},
    {"device_clock": "noon"},
    {"device_clock": "2026-03-04T01:00:00"},
    {"firmware": "\n\x07 "},
    {"dock_clock": "2026-03-04T01:00:00Z"},
    {},
]


def test_what_cannot_be_read_leaves_no_reading_and_no_error(house: House) -> None:
    assert [house.note(**metadata) for metadata in UNREADABLE] == [None] * len(UNREADABLE)


def test_a_device_in_another_age_has_that_offset_and_a_dock_in_one_is_not_believed(house: House) -> None:
    row = house.note(device_clock="1970-01-01T00:00:10Z", dock_clock=rfc3339(house.clock.now()))
    assert row is not None
    assert row.offset_us is not None
    assert row.offset_us > 50 * 365 * 86400 * 10**6
    house.clock.advance(7200)
    other = house.note(device_clock="2026-03-04T01:00:00Z", dock_clock="2099-01-01T00:00:00Z")
    assert other is not None
    assert (other.reference_clock, other.offset_us) == (None, None)


def test_two_files_at_once_leave_one_reading(house: House) -> None:
    start = threading.Barrier(4)

    def bring() -> None:
        start.wait()
        house.dock(5)

    threads = [threading.Thread(target=bring) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(house.readings()) == 1


def test_a_server_clock_that_steps_back_loses_no_reading(house: House) -> None:
    assert house.dock(5) is not None
    house.clock.advance(-3 * 86400)
    assert house.dock(6) is not None


def test_readings_are_never_changed(house: House) -> None:
    house.dock(5)
    with pytest.raises(Exception, match="append-only"), house.write() as (session, agency):
        query = select(DeviceReading).where(DeviceReading.agency_id == agency.id)
        session.scalars(query).one().battery_percent = 99


# --- hands ------------------------------------------------------------------------------------


def test_who_held_a_device_is_known_from_and_to_and_each_change_is_custody(house: House) -> None:
    now = house.clock.now()
    house.issue("CAM1", "P1", now - 20 * DAY)
    house.issue("CAM1", "P2", now - 10 * DAY)
    with house.write() as (session, agency):
        roster.return_device(session, agency, "CAM1", returned_at=now - 5 * DAY, actor=ACTOR, now=now)
    with house.read() as (session, agency):
        found = ledger.issues_of(session, agency.id, house.device().id)
    assert [(person.officer_no, row.issued_at, row.returned_at) for row, person in found] == [
        ("P2", now - 10 * DAY, now - 5 * DAY),
        ("P1", now - 20 * DAY, now - 10 * DAY),
    ]
    assert house.leaves(house.device().id) == [
        "device:registered", "device:issued", "device:returned", "device:issued", "device:returned",
    ]  # fmt: skip


def test_hands_that_overlap_or_are_still_to_come_are_refused(house: House) -> None:
    now = house.clock.now()
    house.issue("CAM1", "P1", now - 10 * DAY)
    with pytest.raises(Conflict) as overlapping:
        house.issue("CAM1", "P2", now - 11 * DAY)
    assert overlapping.value.code == "issue_overlaps"
    with pytest.raises(InvalidInput):
        house.issue("CAM1", "P2", now + DAY)
    with pytest.raises(InvalidInput), house.write() as (session, agency):
        roster.return_device(session, agency, "CAM1", returned_at=now - 11 * DAY, actor=ACTOR, now=now)
    with pytest.raises(Conflict), house.write() as (session, agency):
        roster.return_device(session, agency, "CAM2", returned_at=now, actor=ACTOR, now=now)


def test_two_who_issue_one_device_at_once_leave_it_in_one_pair_of_hands(house: House) -> None:
    now, start = house.clock.now(), threading.Barrier(2)

    def give(officer: str) -> None:
        start.wait()
        house.issue("CAM1", officer, now)

    threads = [threading.Thread(target=give, args=(officer,)) for officer in ("P1", "P2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with house.read() as (session, agency):
        assert len(ledger.open_issues(session, agency.id, house.device().id)) == 1


def test_a_retired_device_is_returned_its_tokens_end_and_its_footage_is_kept(
    house: House, settings: Settings, tmp_path: Path
) -> None:
    now = house.clock.now()
    house.issue("CAM1", "P1", now - DAY)
    with house.write() as (session, agency):
        token, _ = docks.issue_token(
            session, agency, dock_no="D9", device_no="CAM1", life=None, actor=ACTOR, now=now
        )
        device_ledger.retire_device(
            session, agency, roster.device(session, agency, "CAM1"), actor=ACTOR, now=now
        )
    with house.read() as (session, agency):
        assert ledger.open_issues(session, agency.id, house.device().id) == []
        with pytest.raises(NotAuthenticated):
            credentials.uploader_of(session, token, now)
    with pytest.raises(Conflict):
        house.issue("CAM1", "P2", now)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"still here")
    later = rfc3339(now + timedelta(hours=1))
    house.clock.advance(7200)
    assert Pipeline(house.storage, settings).take(path, device_no="CAM1", captured_from=later).is_new
    (row,) = [row for row in house.report(ledger_health.health).rows if row["device_no"] == "CAM1"]
    assert row["findings"] == "used_after_retirement"


def test_an_unknown_device_is_adopted_and_issued_in_one_step(
    house: House, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"from a stranger")
    Pipeline(house.storage, settings).take(path, device_no="STRAY", officer_no="P2")
    row = house.device("STRAY")
    with house.read() as (session, agency):
        assert ledger.items_by_device(session, agency.id, [row.id])[row.id][0] == 1
        assert ledger.officers_said(session, agency.id, [row.id]) == {row.id: ["P2"]}
    with pytest.raises(NotFound), house.write() as (session, agency):
        roster.adopt_device(session, agency, "STRAY", officer_no="nobody", actor=ACTOR, now=house.clock.now())
    assert house.device("STRAY").state == "unknown", "nothing is half done"
    with house.write() as (session, agency):
        roster.adopt_device(session, agency, "STRAY", officer_no="P2", actor=ACTOR, now=house.clock.now())
    assert house.leaves(row.id)[-2:] == ["device:adopted", "device:issued"]


def _stranger_with(house: House, settings: Settings, folder: Path, count: int) -> Device:
    """A device nobody registered, with so many items, taken in as one and copied."""
    path = folder / "a.mp4"
    path.write_bytes(b"from a stranger")
    first = Pipeline(house.storage, settings).take(path, device_no="STRAY").item_id
    with house.write() as (session, agency):
        pattern = items.item_by_id(session, agency.id, first)
        columns = {column.name: getattr(pattern, column.name) for column in Item.__table__.columns}
        for number in range(count - 1):
            session.add(Item(**columns | {"id": new_id(), "identity_key": f"copy {number}"}))
    return house.device("STRAY")


def test_adopting_a_device_ends_the_flags_of_all_it_brought_and_each_leaves_a_leaf(
    house: House, settings: Settings, tmp_path: Path
) -> None:
    row = _stranger_with(house, settings, tmp_path, 601)
    with house.write() as (session, agency):
        other = session.scalars(select(Item).where(Item.device_id == row.id).limit(1)).one()
        items.flag(other, "encrypted", "file: expected plain footage, found one the device encrypted")
    with questions(house.storage.database) as asked, house.write() as (session, agency):
        roster.adopt_device(session, agency, "STRAY", officer_no="P2", actor=ACTOR, now=house.clock.now())
    assert len(asked) < 60, "a batch of 200 at a time, whoever looks at its rows"
    with house.read() as (session, agency):
        found = list(session.scalars(select(Item).where(Item.device_id == row.id)))
        left = {entry["code"] for item in found for entry in item.flags}
        leaves = session.scalar(
            select(func.count()).where(
                CustodyLeaf.action == "item:unflagged", CustodyLeaf.agency_id == agency.id
            )
        )
    assert (len(found), leaves) == (601, 601)
    assert roster.UNKNOWN_DEVICE not in left
    assert "encrypted" in left, "what else is odd with an item stays"
    assert house.leaves(other.id)[-1] == "item:unflagged"


def test_a_failed_adoption_ends_no_flag(house: House, settings: Settings, tmp_path: Path) -> None:
    row = _stranger_with(house, settings, tmp_path, 3)
    with pytest.raises(NotFound), house.write() as (session, agency):
        roster.adopt_device(session, agency, "STRAY", officer_no="nobody", actor=ACTOR, now=house.clock.now())
    with house.read() as (session, _):
        for item in session.scalars(select(Item).where(Item.device_id == row.id)):
            assert roster.UNKNOWN_DEVICE in {entry["code"] for entry in item.flags}


@pytest.mark.parametrize("first", ["adopted", "brought"])
def test_what_comes_while_its_device_is_adopted_keeps_no_flag(
    house: House, settings: Settings, tmp_path: Path, first: str
) -> None:
    row, pipeline = _stranger_with(house, settings, tmp_path, 2), Pipeline(house.storage, settings)
    path = house.storage.objects.staging_dir / "b.mp4"
    path.write_bytes(b"more from the stranger")
    digests = hash_file(path)
    said = {"device_no": "STRAY"}
    staged = StagedFile(
        path=path,
        size_bytes=digests.size_bytes,
        sha256=digests.sha256,
        original_name_raw=b"b.mp4",
        source="tus",
        reception_key="tus:b",
        actor="dock:D1",
        metadata=said,
        claims=tuple(statements_from(said, ClaimSource.DOCK)),
    )
    stored = house.storage.objects.adopt(path, digests.sha256, digests.size_bytes, pipeline.agency.id.hex)
    now = house.clock.now()

    def bring(session: Session, agency: Agency) -> None:
        intake.accept(session, agency, staged, stored, now)

    def adopt(session: Session, agency: Agency) -> None:
        roster.adopt_device(session, agency, "STRAY", actor=ACTOR, now=now)

    assert beside(house, *((adopt, bring) if first == "adopted" else (bring, adopt))) == []
    with house.read() as (session, _):
        found = list(session.scalars(select(Item).where(Item.device_id == row.id)))
    assert len(found) == 3
    assert [
        entry["code"] for item in found for entry in item.flags if entry["code"] == "device_unknown"
    ] == []


# --- reports on equipment ---------------------------------------------------------------------


def test_the_ratio_counts_what_its_rows_say(house: House) -> None:
    house.issue("CAM1", "P1", house.clock.now() - DAY)
    report = house.report(ledger_health.ratio)
    assert report.figures == {
        "recorders": 2, "officers": 2, "docks": 0, "recorders_held": 1, "recorders_idle": 1,
        "officers_without": 1, "recorders_per_100_officers": 100,
    }  # fmt: skip
    assert [(row["kind"], row["device_no"], row["officer_no"]) for row in report.rows] == [
        ("held", "CAM1", "P1"), ("idle", "CAM2", None), ("without", None, "P2"),
    ]  # fmt: skip


def test_a_clock_that_runs_away_is_a_finding_of_both_reports(house: House) -> None:
    house.clock.advance(-10 * 86400)
    for _ in range(4):
        house.dock(12, clock_set="true")
        house.dock(1, "CAM2", clock_set="true")
        house.clock.advance(86400)
    report = house.report(ledger_health.clock)
    assert report.figures == {"devices_read": 2, "stretches": 6, "drift": 3, "devices_drifting": 1}
    assert {(row["device_no"], row["drift_ms_per_day"]) for row in report.rows} == {
        ("CAM1", 12_000), ("CAM2", 1_000),
    }  # fmt: skip
    (row,) = [row for row in house.report(ledger_health.health).rows if "drift" in str(row["findings"])]
    assert (row["device_no"], row["drift_ms_per_day"]) == ("CAM1", 12_000)


def test_health_names_what_is_low_full_shrunk_and_gone(house: House) -> None:
    house.clock.advance(-5 * 86400)
    sizes = ("64000000000", "64000000000", "32000000000")
    for size, battery in zip(sizes, ("15", "10", "12"), strict=True):
        house.note(battery_percent=battery, capacity_bytes=size, free_bytes="1000")
        house.clock.advance(86400)
    house.clock.advance(2 * 86400)
    rows = {row["device_no"]: row for row in house.report(ledger_health.health).rows}
    assert rows["CAM1"]["findings"] == "battery_low card_full capacity_lost"
    assert rows["CAM1"]["replace"] is True
    assert rows["CAM2"]["findings"] == "not_seen"
    report = house.report(ledger_health.health)
    assert (report.figures["with_findings"], report.figures["to_replace"]) == (2, 1)
