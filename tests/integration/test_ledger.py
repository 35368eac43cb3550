"""The device ledger on both databases: readings, hands, docks, tokens, faults, tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.settings import Settings
from evidence.clock import rfc3339
from evidence.errors import Conflict, InvalidInput, NotAuthenticated, NotFound
from evidence.fixity import hash_file
from evidence.ids import new_id
from evidence.kinds import ClaimSource, SourceKind
from ingest import docks, intake, ledger_health, ledger_sheets, roster, sheets
from ingest import ledger as device_ledger
from ingest.facts import statements_from
from ingest.ledger_report import Report, Row
from ingest.ledger_sheets import Kind
from ingest.sources.base import StagedFile
from storage.db import agencies, credentials, custody, items, ledger
from storage.db.ledger_tables import DeviceReading, Dock
from storage.db.tables import Agency, CustodyLeaf, Device, Item, Officer, UploadToken
from storage.open import Storage
from tests.support.asked import questions
from tests.support.clocks import SettableClock
from tests.support.pipeline import Pipeline

ACTOR = "operator:0"
DAY = timedelta(days=1)


class Drawn:
    """A report and its rows."""

    def __init__(self, report: Report, rows: list[Row]) -> None:
        self.report, self.figures, self.rows = report, report.figures, rows


class House:
    """An agency with two officers and two recorders."""

    def __init__(self, storage: Storage, clock: SettableClock) -> None:
        self.storage, self.clock = storage, clock
        with self.write() as (session, agency):
            now = clock.now() - 60 * DAY
            for number in ("P1", "P2"):
                roster.register_officer(
                    session, agency, number, "王某", certificate_no=None, actor=ACTOR, now=now
                )
            for number in ("CAM1", "CAM2"):
                roster.register_device(
                    session, agency, number, kind=SourceKind.BODY_CAM, model=None, actor=ACTOR, now=now
                )

    @contextmanager
    def write(self) -> Iterator[tuple[Session, Agency]]:
        with self.storage.database.transaction() as session:
            yield session, agencies.agency_by_code(session, "demo")

    @contextmanager
    def read(self) -> Iterator[tuple[Session, Agency]]:
        with self.storage.database.read() as session:
            yield session, agencies.agency_by_code(session, "demo")

    def device(self, number: str = "CAM1") -> Device:
        with self.read() as (session, agency):
            return roster.device(session, agency, number)

    def issue(self, number: str, officer: str, at: datetime) -> None:
        with self.write() as (session, agency):
            roster.issue_device(
                session, agency, number, officer, issued_at=at, actor=ACTOR, now=self.clock.now()
            )

    def note(self, number: str = "CAM1", dock: str = "D1", **metadata: str) -> DeviceReading | None:
        with self.write() as (session, agency):
            row = roster.device(session, agency, number)
            return device_ledger.note_reading(session, agency, row, metadata, self.clock.now(), dock_no=dock)

    def dock(self, offset_s: float = 0, number: str = "CAM1", **metadata: str) -> DeviceReading | None:
        """A docking at which both clocks were read."""
        now = self.clock.now()
        clocks = {"dock_clock": rfc3339(now), "device_clock": rfc3339(now - timedelta(seconds=offset_s))}
        return self.note(number, **clocks, **metadata)

    def readings(self) -> list[DeviceReading]:
        with self.read() as (session, agency):
            query = select(DeviceReading).where(DeviceReading.agency_id == agency.id)
            return list(session.scalars(query.order_by(DeviceReading.id)))

    def leaves(self, subject: object) -> list[str]:
        with self.read() as (session, agency):
            found = custody.leaves_about(session, agency.id, str(subject))
        return [(leaf.body or b"").split(b'"action":"')[1].split(b'"')[0].decode() for leaf in found]

    def report(self, make: Any, days: float = 30) -> Drawn:
        with self.read() as (session, agency):
            now = self.clock.now()
            found: Report = make(session, agency, now - days * DAY, now, now)
            return Drawn(*found.drawn())


@pytest.fixture
def house(storage: Storage, clock: SettableClock) -> House:
    return House(storage, clock)


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


# --- docks, tokens, faults --------------------------------------------------------------------


def test_a_rotated_token_works_beside_the_old_one_until_the_overlap_ends(house: House) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        old, row = docks.issue_token(
            session, agency, dock_no="D1", device_no="CAM1", life=None, actor=ACTOR, now=now
        )
        new, fresh = docks.rotate_token(
            session, agency, row.id, overlap=timedelta(hours=1), life=None, actor=ACTOR, now=now
        )
    with house.read() as (session, _):
        for token in (old, new):
            found = credentials.uploader_of(session, token, now + timedelta(minutes=59))
            assert (found.dock_no, found.device_no) == ("D1", "CAM1")
        with pytest.raises(NotAuthenticated):
            credentials.uploader_of(session, old, now + timedelta(hours=1))
        assert credentials.uploader_of(session, new, now + DAY).dock_no == "D1"
    assert house.leaves(fresh.id) == ["token:rotated"]
    with pytest.raises(Conflict) as ended, house.write() as (session, agency):
        docks.rotate_token(session, agency, row.id, overlap=DAY, life=None, actor=ACTOR, now=now + 2 * DAY)
    assert ended.value.code == "token_ended"
    with pytest.raises(InvalidInput), house.write() as (session, agency):
        docks.rotate_token(session, agency, fresh.id, overlap=-DAY, life=None, actor=ACTOR, now=now)


def test_where_a_dock_stands_is_said_after_its_first_token_and_saying_it_again_is_nothing(
    house: House,
) -> None:
    def stands(place: str | None) -> Dock:
        with house.write() as (session, agency):
            return docks.set_dock(session, agency, "D1", place=place, actor=ACTOR, now=house.clock.now())

    with house.write() as (session, agency):
        docks.issue_token(
            session, agency, dock_no="D1", device_no=None, life=None, actor=ACTOR, now=house.clock.now()
        )
    assert (stands(" 一楼 ").place, stands("一楼").place) == ("一楼", "一楼")
    row = stands(None)
    assert row.place is None
    assert house.leaves(row.id) == ["dock:registered", "dock:changed", "dock:changed"]
    with pytest.raises(InvalidInput):
        stands("一楼\n二楼")


def test_a_dock_is_entered_by_its_first_token_and_its_tokens_end_with_it(house: House) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        token, _ = docks.issue_token(
            session, agency, dock_no="D7", device_no=None, life=None, actor=ACTOR, now=now
        )
        row = docks.dock(session, agency, "D7")
        docks.retire_dock(session, agency, "D7", actor=ACTOR, now=now)
    with house.read() as (session, _), pytest.raises(NotAuthenticated):
        credentials.uploader_of(session, token, now)
    assert house.leaves(row.id) == ["dock:registered", "dock:retired"]
    with pytest.raises(Conflict) as retired, house.write() as (session, agency):
        docks.issue_token(session, agency, dock_no="D7", device_no=None, life=None, actor=ACTOR, now=now)
    assert retired.value.code == "dock_retired"


def _retire(session: Session, agency: Agency, what: str, now: datetime) -> None:
    if what == "dock":
        docks.retire_dock(session, agency, "D1", actor=ACTOR, now=now)
        return
    row = roster.device(session, agency, "CAM1")
    device_ledger.retire_device(session, agency, row, actor=ACTOR, now=now)


def _give(session: Session, agency: Agency, what: str, now: datetime) -> str:
    device_no = "CAM1" if what == "device" else None
    token, _ = docks.issue_token(
        session, agency, dock_no="D1", device_no=device_no, life=None, actor=ACTOR, now=now
    )
    return token


def beside(
    house: House, first: Callable[[Session, Agency], object], second: Callable[[Session, Agency], object]
) -> list[Conflict]:
    """The second begins when the first has written and not committed; the conflict the second met."""
    met: list[Conflict] = []

    def run() -> None:
        try:
            with house.write() as (session, agency):
                second(session, agency)
        except Conflict as error:
            met.append(error)

    other = threading.Thread(target=run)
    with house.write() as (session, agency):
        first(session, agency)
        session.flush()
        other.start()
        # A second that does not wait is done by then, and would be seen below.
        other.join(0.5)
    other.join()
    return met


def _in_force(house: House) -> list[UploadToken]:
    with house.read() as (session, agency):
        return ledger.tokens_not_revoked(session, agency.id, dock_no="D1")


@pytest.mark.parametrize("what", ["dock", "device"])
def test_a_token_given_while_its_dock_or_device_is_retired_does_not_outlive_it(
    house: House, what: str
) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        docks.register_dock(session, agency, "D1", place=None, actor=ACTOR, now=now)
    assert not beside(
        house,
        lambda session, agency: _give(session, agency, what, now),
        lambda session, agency: _retire(session, agency, what, now),
    )
    assert _in_force(house) == [], "given first, it ends with what it was given for"


@pytest.mark.parametrize("what", ["dock", "device"])
def test_no_token_is_given_or_rotated_while_its_dock_or_device_is_being_retired(
    house: House, what: str
) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        _give(session, agency, what, now)
    (old,) = _in_force(house)

    def rotate(session: Session, agency: Agency) -> None:
        docks.rotate_token(session, agency, old.id, overlap=DAY, life=None, actor=ACTOR, now=now)

    (refused,) = beside(house, lambda session, agency: _retire(session, agency, what, now), rotate)
    assert refused.code == "token_ended"
    assert _in_force(house) == []


@pytest.mark.parametrize("what", ["dock", "device"])
def test_who_asks_for_a_token_waits_for_who_retires(house: House, what: str) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        docks.register_dock(session, agency, "D1", place=None, actor=ACTOR, now=now)
    (refused,) = beside(
        house,
        lambda session, agency: _retire(session, agency, what, now),
        lambda session, agency: _give(session, agency, what, now),
    )
    assert refused.code == f"{what}_retired"
    assert _in_force(house) == []


def test_two_first_tokens_of_a_dock_nobody_registered_are_both_given(house: House) -> None:
    now = house.clock.now()

    def give(session: Session, agency: Agency) -> str:
        return _give(session, agency, "dock", now)

    assert beside(house, give, give) == []
    assert len(_in_force(house)) == 2


def test_a_token_of_a_retired_dock_stays_ended_when_the_clock_steps_back(house: House) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        token, _ = docks.issue_token(
            session, agency, dock_no="D1", device_no=None, life=DAY, actor=ACTOR, now=now
        )
        docks.retire_dock(session, agency, "D1", actor=ACTOR, now=now + 2 * DAY)
    with house.read() as (session, _), pytest.raises(NotAuthenticated):
        credentials.uploader_of(session, token, now)


def test_a_fault_is_opened_and_resolved_once(house: House) -> None:
    now = house.clock.now()
    with house.write() as (session, agency):
        row = device_ledger.report_fault(
            session, agency, roster.device(session, agency, "CAM1"), "按键失灵", actor=ACTOR, now=now
        )
    house.clock.advance(60)
    assert "fault_open" in str(house.report(ledger_health.health).rows[0]["findings"])
    with house.write() as (session, agency):
        device_ledger.resolve_fault(session, agency, row.id, "更换", actor=ACTOR, now=now)
    with pytest.raises(Conflict), house.write() as (session, agency):
        device_ledger.resolve_fault(session, agency, row.id, "again", actor=ACTOR, now=now)
    with pytest.raises(InvalidInput), house.write() as (session, agency):
        device_ledger.report_fault(
            session, agency, roster.device(session, agency, "CAM1"), "a\nb", actor=ACTOR, now=now
        )


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


# --- tables -----------------------------------------------------------------------------------


def take(house: House, kind: Kind, body: str) -> sheets.Taken[object]:
    with house.read() as (session, agency):
        table = ledger_sheets.read(session, agency, kind, body.encode())
    return ledger_sheets.take(house.write, table, actor=ACTOR, now=house.clock.now())


def found(done: sheets.Taken[object]) -> list[tuple[int, str]]:
    return [(one.line, one.code) for one in done.findings]


def test_good_lines_of_each_table_are_taken_and_each_bad_one_is_one_finding(house: House) -> None:
    done = take(
        house, Kind.DEVICES, "设备编号,类别,厂商\nA1,执法记录仪,某厂\nCAM1,,\nA1,,\nA2,坦克,\n,无人机,\n"
    )
    assert (len(done.made), found(done)) == (1, [
        (3, "device_no_taken"), (4, "device_no_taken"), (5, "kind_unknown"), (6, "field_missing"),
    ])  # fmt: skip
    assert (house.device("A1").maker, house.device("A1").kind) == ("某厂", "body_cam")
    done = take(house, Kind.OFFICERS, "警号,姓名\nP3,李\nP1,王\nP4\n")
    assert (len(done.made), found(done)) == (1, [(3, "officer_no_taken"), (4, "csv_invalid")])
    done = take(house, Kind.DUTY, "警号,上岗时间,下岗时间\nP3,2026-03-01 08:00,2026-03-01 18:00\n"
                "P3,2026-03-01 17:00,2026-03-01 20:00\nP9,2026-03-01,2026-03-02\nP1,2026-03-02,2026-03-01\n"
                "P1,2026-03-01 20:00,2026-03-02 08:00\n")  # fmt: skip
    assert (len(done.made), found(done)) == (2, [
        (3, "duty_overlaps"), (4, "officer_not_found"), (5, "duty_times"),
    ])  # fmt: skip


def test_issues_are_taken_in_the_order_of_their_times(house: House) -> None:
    done = take(house, Kind.ISSUES, "设备编号,领用人编号,领用时间,归还时间\nCAM1,P2,2026-02-10,\n"
                "CAM1,P1,2026-02-01,2026-02-05\nCAM2,P1,2026-02-05,2026-02-01\nCAM9,P1,2026-02-05,\n"
                "CAM2,P1,2026-02-01,\n")  # fmt: skip
    assert (len(done.made), found(done)) == (3, [(4, "issue_times"), (5, "device_not_found")])
    with house.read() as (session, agency):
        held = ledger.issues_of(session, agency.id, house.device().id)
    assert [(person.officer_no, row.returned_at is None) for row, person in held] == [
        ("P2", True), ("P1", False),
    ]  # fmt: skip


def test_a_line_taken_meanwhile_is_a_finding_and_the_rest_of_its_batch_is_taken(house: House) -> None:
    with house.read() as (session, agency):
        body = "device_no\n" + "".join(f"N{number}\n" for number in range(10))
        table = ledger_sheets.read(session, agency, Kind.DEVICES, body.encode())
    with house.write() as (session, agency):
        roster.register_device(
            session, agency, "N4", kind=SourceKind.BODY_CAM, model=None, actor=ACTOR, now=house.clock.now()
        )
    done = ledger_sheets.take(house.write, table, actor=ACTOR, now=house.clock.now())
    assert (len(done.made), found(done)) == (9, [(6, "device_no_taken")])
    assert house.leaves(house.device("N5").id) == ["device:registered"]


def test_two_who_register_one_number_at_once_are_one_row_and_one_conflict(house: House) -> None:
    start, refused = threading.Barrier(2), []

    def register(what: str) -> None:
        start.wait()
        try:
            with house.write() as (session, agency):
                now = house.clock.now()
                if what == "device":
                    roster.register_device(
                        session, agency, "R1", kind=SourceKind.BODY_CAM, model=None, actor=ACTOR, now=now
                    )
                else:
                    docks.register_dock(session, agency, "R1", place=None, actor=ACTOR, now=now)
        except Conflict as error:
            refused.append(error.code)

    for what in ("device", "dock"):
        threads = [threading.Thread(target=register, args=(what,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert refused == ["device_no_taken", "dock_no_taken"]


def test_two_files_at_once_register_each_device_once(house: House) -> None:
    body = "device_no\n" + "".join(f"T{number}\n" for number in range(50))
    done: list[sheets.Taken[object]] = []
    threads = [
        threading.Thread(target=lambda: done.append(take(house, Kind.DEVICES, body))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(one.made) for one in done) == 50
    assert sum(len(one.findings) for one in done) == 50


def test_five_thousand_lines_are_taken_and_keep_no_other_writer_waiting(
    sqlite_storage: Storage, clock: SettableClock
) -> None:
    house = House(sqlite_storage, clock)
    body = "officer_no,name\n" + "".join(f"Q{number:05},李某\n" for number in range(5000))
    done: list[sheets.Taken[object]] = []
    importing = threading.Thread(target=lambda: done.append(take(house, Kind.OFFICERS, body)))
    importing.start()
    waits, number = [], 0
    while importing.is_alive():
        began = time.monotonic()
        with house.write() as (session, agency):
            number += 1
            roster.register_officer(
                session, agency, f"Z{number}", "赵", certificate_no=None, actor=ACTOR, now=clock.now()
            )
        waits.append(time.monotonic() - began)
        time.sleep(0.1)
    importing.join()
    assert (len(done[0].made), done[0].findings) == (5000, [])
    assert len(waits) > 4
    assert max(waits) < 5
    with house.read() as (session, agency):
        total = session.scalar(
            select(func.count()).select_from(Officer).where(Officer.agency_id == agency.id)
        )
    assert total == 5000 + 2 + number
