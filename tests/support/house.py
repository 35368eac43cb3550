"""An agency with officers and recorders, for the tests of the device ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.errors import Conflict
from evidence.kinds import SourceKind
from ingest import ledger as device_ledger
from ingest import roster
from ingest.ledger_report import Report, Row
from storage.db import agencies, custody
from storage.db.ledger_tables import DeviceReading
from storage.db.tables import Agency, Device
from storage.open import Storage
from tests.support.clocks import SettableClock

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
