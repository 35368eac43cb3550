"""Reports over a year cost statements by the page and the memory of one page, on both databases."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import insert, select

from evidence.ids import new_id
from ingest import absence, ledger_health
from ingest.ledger_report import Report
from storage.db import ledger_reports
from storage.db.ledger_tables import DeviceReading, DutyPeriod, Lateness
from storage.db.tables import Item, Officer, StoredObject
from storage.open import Storage
from tests.support.asked import questions
from tests.support.clocks import SettableClock
from tests.support.house import ACTOR, House

YEAR = timedelta(days=400)
SINCE = datetime(2025, 1, 1, tzinfo=UTC)
PAGE = ledger_reports.AT_ONCE
COUNT = 6 * PAGE
Maker = Callable[..., Report]


class Cost(NamedTuple):
    """What a report came to, and what it took."""

    figures: dict[str, int]
    rows: int
    statements: int
    peak_bytes: int


class Archive(House):
    """A house with a year of footage, written past the program, which takes its time."""

    def fill(self, count: int) -> None:
        """So many late items, two to a recording that lacks one between them, and half as many duties."""
        step = YEAR / (count + 1)
        device, stored = self.device(), new_id()
        with self.storage.database.engine.begin() as connection:
            officer = connection.scalars(select(Officer.id).where(Officer.officer_no == "P2")).one()
            same = {"agency_id": device.agency_id}
            connection.execute(
                insert(StoredObject.__table__).values(
                    id=stored, sha256=bytes(32), size_bytes=1, store_key="k", stored_at=SINCE, **same
                )
            )
            items = [_item(SINCE + step * number, number, device.id, stored) for number in range(count)]
            connection.execute(insert(Item.__table__), [{**same, **row} for row in items])
            late = [
                {"id": new_id(), "item_id": row["id"], "due_at": row["captured_to"], "late_by_us": 1,
                 "noted_at": row["received_at"]}
                for row in items
            ]  # fmt: skip
            connection.execute(insert(Lateness.__table__), [{**same, **row} for row in late])
            duties = [
                {"id": new_id(), "officer_id": officer, "author": ACTOR, "made_at": SINCE,
                 "duty_from": SINCE + step * 2 * number, "duty_to": SINCE + step * (2 * number + 1)}
                for number in range(count // 2)
            ]  # fmt: skip
            connection.execute(insert(DutyPeriod.__table__), [{**same, **row} for row in duties])
            readings = [
                {"id": new_id(), "device_id": device.id, "read_at": row["received_at"], "battery_percent": 50}
                for row in items[:: count // 400]
            ]
            connection.execute(insert(DeviceReading.__table__), [{**same, **row} for row in readings])

    def draw(self, make: Maker, share: int = 1) -> Cost:
        """A report over the year, or over its first part of so many."""
        with questions(self.storage.database) as asked, self.read() as (session, agency):
            tracemalloc.start()
            report = make(session, agency, SINCE, SINCE + YEAR / share, self.clock.now())
            rows = sum(1 for _ in report.rows)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return Cost(dict(report.figures), rows, len(asked), peak)


def _item(begun: datetime, number: int, device_id: UUID, object_id: UUID) -> dict[str, Any]:
    item_id = new_id()
    return {
        "id": item_id,
        "object_id": object_id,
        "device_id": device_id,
        "identity_key": str(item_id),
        "source_kind": "body_cam",
        "media_kind": "video",
        "original_name": "a.mp4",
        "custody": "verified",
        "media": "rendered",
        "binding": "unbound",
        "redaction": "checked",
        "held": False,
        "key_file": False,
        "flags": [],
        "captured_from": begun,
        "captured_to": begun + timedelta(minutes=1),
        "duration_us": 60_000_000,
        "recording_key": f"{device_id}:{number // 2}",
        "sequence_no": 1 + 2 * (number % 2),
        "received_at": begun + timedelta(days=3),
    }


@pytest.fixture
def archive(storage: Storage, clock: SettableClock) -> Archive:
    found = Archive(storage, clock)
    found.fill(COUNT)
    return found


def test_absence_costs_statements_by_the_page_and_the_memory_of_one(archive: Archive) -> None:
    part, whole = archive.draw(absence.absence, share=3), archive.draw(absence.absence)
    assert (whole.figures["items"], whole.figures["duties"]) == (COUNT, COUNT // 2)
    assert whole.figures["late"] == COUNT
    assert whole.figures["not_uploaded"] == COUNT // 2, "each recording is told once, also across pages"
    assert whole.figures["no_recorder"] == COUNT // 2
    assert whole.figures["interrupted"] == COUNT // 2
    assert whole.rows == whole.figures["findings"] == 5 * COUNT // 2
    assert whole.statements <= 20 + 12 * (COUNT // PAGE)
    assert whole.peak_bytes < part.peak_bytes * 1.3 + 200_000


@pytest.mark.parametrize("make", [absence.lateness, ledger_health.clock, ledger_health.health])
def test_no_other_report_grows_with_its_period_either(archive: Archive, make: Maker) -> None:
    part, whole = archive.draw(make, share=3), archive.draw(make)
    assert max(whole.statements, part.statements) < 20
    assert whole.peak_bytes < part.peak_bytes * 1.3 + 500_000


def test_a_page_of_a_report_holds_that_page_and_figures_of_all(archive: Archive) -> None:
    with archive.read() as (session, agency):
        report = absence.lateness(session, agency, SINCE, SINCE + YEAR, archive.clock.now())
        rows, has_more = report.page(COUNT - 5, 50)
    assert (len(rows), has_more, report.figures["late"]) == (5, False, COUNT)
    with archive.read() as (session, agency):
        report = absence.lateness(session, agency, SINCE, SINCE + YEAR, archive.clock.now())
        rows, has_more = report.page(0, 50)
    assert (len(rows), has_more, report.figures["late"]) == (50, True, COUNT)
