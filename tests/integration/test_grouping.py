"""Files of one press of the button find each other, whatever the order and the database."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text

from config.settings import Settings
from evidence.ids import new_id
from ingest import grouping
from storage.db import agencies, custody, items, recordings
from storage.db.ledger_tables import DeviceReading
from storage.db.tables import Claim, Item
from storage.open import Storage
from tests.support import media
from tests.support.asked import plan_of, questions
from tests.support.clocks import SettableClock
from tests.support.installations import settings_for
from tests.support.pipeline import Pipeline

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LIMIT = timedelta(seconds=2)
INDEXES = {index.name for index in Item.__table__.indexes if index.name}  # type: ignore[attr-defined]


@pytest.fixture
def pipeline(storage: Storage, settings: Settings) -> Pipeline:
    return prepared(storage, settings)


@pytest.fixture
def on_sqlite(sqlite_storage: Storage, tmp_path: Path) -> Pipeline:
    return prepared(sqlite_storage, settings_for(tmp_path, f"sqlite:///{tmp_path / 'test.db'}"))


def prepared(storage: Storage, settings: Settings) -> Pipeline:
    with storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        for number in ("CAM1", "CAM2"):
            agencies.add_device(session, agency.id, number, storage.clock.now())
    return Pipeline(storage, settings)


def arrive(
    pipeline: Pipeline,
    folder: Path,
    start_s: float | None,
    *,
    name: str = "",
    device_no: str = "CAM1",
    **said: str,
) -> UUID:
    """A file of which only the sender's words and its name are known yet."""
    path = folder / (name or f"{start_s}.mp4")
    path.write_bytes(f"{path.name} {device_no} {start_s} {said}".encode())
    if start_s is not None:
        said["captured_from"] = (START + timedelta(seconds=start_s)).isoformat()
    return pipeline.take(path, device_no=device_no, **said).item_id


def probe(pipeline: Pipeline, item_id: UUID, length_s: float = 60) -> None:
    """What probing learns of it, and the grouping that follows in the same transaction."""
    with pipeline.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        grouping.lock_device(session, agency.id, item_id)
        item = items.item_by_id(session, agency.id, item_id, lock=True)
        item.media_kind = "video"
        item.duration_us = round(length_s * 1e6)
        if item.captured_from is not None:
            item.captured_to = item.captured_from + timedelta(seconds=length_s)
        grouping.group(session, agency, item, LIMIT, pipeline.storage.clock.now())


def add(pipeline: Pipeline, folder: Path, start_s: float | None, **more: str) -> UUID:
    item_id = arrive(pipeline, folder, start_s, **more)
    probe(pipeline, item_id)
    return item_id


def recording(pipeline: Pipeline, item_id: UUID) -> grouping.Recording:
    with pipeline.storage.database.read() as session:
        return grouping.recording_of(session, items.item_by_id(session, pipeline.agency.id, item_id))


def members(pipeline: Pipeline, item_id: UUID) -> list[UUID]:
    return [row.id for row in recording(pipeline, item_id).members]


def test_three_files_in_any_order_are_one_recording(on_sqlite: Pipeline, tmp_path: Path) -> None:
    for hour, order in enumerate(permutations(range(3))):
        starts = [3600 * hour + start for start in (0.0, 60.04, 120.5)]
        made = {place: add(on_sqlite, tmp_path, starts[place]) for place in order}
        expected = [made[0], made[1], made[2]]
        assert [members(on_sqlite, item_id) for item_id in expected] == [expected] * 3, order


def test_a_late_middle_file_joins_both_sides(pipeline: Pipeline, tmp_path: Path) -> None:
    first, second = add(pipeline, tmp_path, 0), add(pipeline, tmp_path, 60)
    fourth, fifth = add(pipeline, tmp_path, 180), add(pipeline, tmp_path, 240)
    assert members(pipeline, first) == [first, second]
    assert members(pipeline, fifth) == [fourth, fifth]
    third = add(pipeline, tmp_path, 120)
    expected = [first, second, third, fourth, fifth]
    assert [members(pipeline, item_id) for item_id in expected] == [expected] * 5
    found = recording(pipeline, third)
    assert found.by == "time"
    assert [joint.gap_us for joint in found.joints] == [0, 0, 0, 0]
    with pipeline.storage.database.read() as session:
        leaves = custody.leaves_about(session, pipeline.agency.id, str(third))
    assert any(b"item:grouped" in (leaf.body or b"") for leaf in leaves)


def test_two_at_once_see_each_other(pipeline: Pipeline, tmp_path: Path) -> None:
    made = [arrive(pipeline, tmp_path, 60 * place) for place in range(6)]
    ready = threading.Barrier(len(made))
    failed: list[BaseException] = []

    def work(item_id: UUID) -> None:
        try:
            ready.wait(30)
            probe(pipeline, item_id)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(item_id,)) for item_id in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert members(pipeline, made[3]) == made


def test_another_device_and_a_longer_pause_are_other_recordings(on_sqlite: Pipeline, tmp_path: Path) -> None:
    first = add(on_sqlite, tmp_path, 0)
    assert members(on_sqlite, add(on_sqlite, tmp_path, 60, device_no="CAM2")) != [first]
    assert members(on_sqlite, add(on_sqlite, tmp_path, 62.1)) != [first]
    assert recording(on_sqlite, first).by is None


def test_a_better_length_takes_a_recording_apart_again(on_sqlite: Pipeline, tmp_path: Path) -> None:
    first, second = add(on_sqlite, tmp_path, 0), add(on_sqlite, tmp_path, 60)
    assert members(on_sqlite, first) == [first, second]
    probe(on_sqlite, first, 30)
    assert members(on_sqlite, first) == [first]
    assert recording(on_sqlite, second).by is None


def test_what_a_sender_named_is_never_moved(on_sqlite: Pipeline, tmp_path: Path) -> None:
    named = add(on_sqlite, tmp_path, 0, recording="R1", sequence_no="1")
    third = add(on_sqlite, tmp_path, 500, recording="R1", sequence_no="3")
    beside = add(on_sqlite, tmp_path, 60)
    found = recording(on_sqlite, named)
    assert (found.by, [row.id for row in found.members]) == ("sender", [named, third])
    assert found.missing_sequence_nos == [2]
    assert members(on_sqlite, beside) == [beside]


def test_chapters_are_grouped_by_their_number_within_a_day(on_sqlite: Pipeline, tmp_path: Path) -> None:
    names = ("GX030123.MP4", "GX010123.MP4", "GX040123.mp4")
    add(on_sqlite, tmp_path, 0, name="GX030123.LRV")
    made = [add(on_sqlite, tmp_path, 0, name=name) for name in names]
    add(on_sqlite, tmp_path, 0, name="GX010124.MP4")
    add(on_sqlite, tmp_path, 90_000, name="GX020123.MP4")
    found = recording(on_sqlite, made[0])
    assert (found.by, [row.id for row in found.members]) == ("number", [made[1], made[0], made[2]])
    assert (found.missing_sequence_nos, found.joints) == ([2], ())


def years_of_one_number(pipeline: Pipeline, pattern: UUID, days: int = 3000) -> None:
    """Chapters of the same number, one on each day before and after, as a camera that starts again leaves."""
    database = pipeline.storage.database
    with database.engine.begin() as connection:
        (row,) = connection.execute(select(Item.__table__).where(Item.id == pattern)).mappings()
        copies = []
        for number in range(days):
            off = timedelta(days=2 + number) * (-1 if number % 2 else 1)
            made = {name: row[name] and row[name] + off for name in ("captured_from", "captured_to")}
            arrived = {"received_at": row["received_at"] + off, "recording_key": None}
            copies.append({**row, **made, **arrived, "id": new_id(), "identity_key": f"copy {number}"})
        connection.execute(insert(Item.__table__), copies)
        said = {"field": "recording_no", "value": "0123", "source": "filename", "clock": None}
        claims = [
            {
                "id": new_id(),
                "agency_id": row["agency_id"],
                "item_id": copy["id"],
                "made_at": row["received_at"],
            }
            for copy in copies
        ]
        connection.execute(insert(Claim.__table__), [{**claim, **said} for claim in claims])
        connection.execute(text("ANALYZE"))


@pytest.mark.parametrize("start_s", [0, None])
def test_years_of_the_same_number_are_neither_read_nor_in_the_way(
    pipeline: Pipeline, tmp_path: Path, start_s: float | None
) -> None:
    first = add(pipeline, tmp_path, start_s, name="GX010123.MP4")
    years_of_one_number(pipeline, first)
    second = arrive(pipeline, tmp_path, start_s, name="GX020123.MP4")
    database = pipeline.storage.database
    with questions(database) as asked, database.read() as session:
        item = items.item_by_id(session, pipeline.agency.id, second)
        found = recordings.said_of_near(session, item, "recording_no", "0123", timedelta(days=1))
    assert [row.id for row in found] == [first], "no other is even loaded"
    looks = [question for question in asked if "recording_no" in str(question.parameters)]
    plans = [plan_of(database, question) for question in looks]
    used = {"ix_item_agency_id_device_id_captured_from_received_at"}
    if start_s is None:
        used = {"ix_item_agency_id_device_id_received_at"}
    assert len(plans) == (1 if start_s is None else 2)
    assert {name for plan in plans for name in INDEXES if name in plan} == used, plans
    assert all("ix_claim_agency_id_item_id" in plan for plan in plans), plans
    assert not any("Seq Scan" in plan or "SCAN" in plan for plan in plans), plans
    probe(pipeline, second)
    assert members(pipeline, second) == [first, second]


def test_a_file_nobody_can_place_stays_alone(on_sqlite: Pipeline, tmp_path: Path) -> None:
    alone = add(on_sqlite, tmp_path, None, name="noname.mp4")
    assert members(on_sqlite, alone) == [alone]


def test_times_are_compared_as_corrected_by_readings(
    on_sqlite: Pipeline, tmp_path: Path, clock: SettableClock
) -> None:
    """Two files either side of a docking that set the clock forward by an hour."""
    first = arrive(on_sqlite, tmp_path, 0)
    with on_sqlite.storage.database.transaction() as session:
        item = items.item_by_id(session, on_sqlite.agency.id, first)
        session.add(
            DeviceReading(
                agency_id=item.agency_id, device_id=item.device_id, read_at=clock.now(),
                device_clock=START - timedelta(hours=2), reference_clock=START - timedelta(hours=1),
                offset_us=3_600_000_000, clock_set=False,
            )
        )  # fmt: skip
    second = arrive(on_sqlite, tmp_path, 0, name="by_name.mp4", key_file="true")
    assert on_sqlite.item(first).captured_from == START
    assert on_sqlite.item(second).captured_from == START + timedelta(hours=1)


def test_real_files_are_grouped_by_what_they_say_themselves(on_sqlite: Pipeline, tmp_path: Path) -> None:
    taken: list[Item] = []
    for place, name in enumerate(("a.mp4", "b.mp4")):
        started_at = START + timedelta(seconds=2 * place)
        code = f"08:00:{2 * place:02d}:{place:02d}"
        media.make_plain(tmp_path / f"raw-{name}", seconds=2, started_at=started_at)
        media.ffmpeg(
            "-i",
            tmp_path / f"raw-{name}",
            "-map",
            "0",
            "-c",
            "copy",
            "-timecode",
            code,
            "-metadata",
            f"creation_time={started_at.isoformat()}",
            tmp_path / name,
        )
        accepted = on_sqlite.take(tmp_path / name, device_no="CAM1")
        on_sqlite.work(only={"probe"})
        taken.append(on_sqlite.item(accepted.item_id))
    found = recording(on_sqlite, taken[0].id)
    assert [row.id for row in found.members] == [row.id for row in taken]
    (joint,) = found.joints
    assert (joint.clock, joint.gap_us, joint.gap_frames) == ("timecode", 40_000, 1)
    assert joint.resolution_us == 40_000
