"""Tables taken into the ledger on both databases, whole or line by line."""

from __future__ import annotations

import threading
import time

from sqlalchemy import func, select

from evidence.errors import Conflict
from evidence.kinds import SourceKind
from ingest import docks, ledger_sheets, roster, sheets
from ingest.ledger_sheets import Kind
from storage.db import ledger
from storage.db.tables import Officer
from storage.open import Storage
from tests.support.clocks import SettableClock
from tests.support.house import ACTOR, House


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
