"""Taking back what silent workers left: whole or not at all, and in nobody's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, text

from config.settings import Settings
from evidence.events import Event
from ingest import roster
from storage.db import agencies, alarms, items
from storage.db.tables import CustodyLeaf, Item, Job
from storage.open import Storage, found
from tests.support.clocks import SettableClock, let_pass
from tests.support.databases import laid_url
from tests.support.installations import AGENCY, settings_for
from tests.support.pipeline import Pipeline, pipeline_settings
from workers.relay import Relay
from workers.sweep import ALARM_AFTER, UNSETTLED

FOREVER_US = 2**61
"""A length that no instant can be added to."""


class Heard:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def announce_all(self, due: object) -> int:
        return len(list(due))  # type: ignore[call-overload]

    def said(self, about: object) -> list[str]:
        return [event.what for event in self.events if event.subject_id == str(about)]


class Ward:
    """An installation whose workers die over every job they take."""

    def __init__(self, storage: Storage, settings: Settings, clock: SettableClock, folder: Path) -> None:
        self.storage, self.clock, self.heard = storage, clock, Heard()
        self.pipeline = Pipeline(storage, pipeline_settings(settings))
        self.relay = Relay(storage, self.pipeline.settings, self.heard, self.heard)  # type: ignore[arg-type]
        self._folder = folder

    def take(self, count: int) -> list[UUID]:
        """Items of a device nobody registered, by id."""
        taken = []
        for number in range(count):
            path = self._folder / f"{number}.mp4"
            path.write_bytes(f"nobody reads {number}".encode())
            said = {"device_no": "STRAY", "captured_from": "2026-03-01T02:00:00Z"}
            taken.append(self.pipeline.take(path, **said).item_id)
        return sorted(taken)

    def kill(self, subjects: list[UUID]) -> None:
        """Leave the probes of these items one death short of quarantine, the first of them silent longest."""
        with self.storage.database.transaction() as session:
            for number, subject in enumerate(subjects):
                query = select(Job).where(Job.kind == "probe", Job.subject_id == subject)
                job = session.scalars(query).one()
                job.state, job.deaths, job.lease_owner = "leased", 4, "dead"
                job.lease_until = self.storage.clock.now() + timedelta(milliseconds=number)
        let_pass(self.storage, self.clock, 60)

    def last(self, item_id: UUID, length_us: int | None) -> None:
        with self.storage.database.transaction() as session:
            session.scalars(select(Item).where(Item.id == item_id)).one().duration_us = length_us

    def adopt(self) -> None:
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            roster.adopt_device(session, agency, "STRAY", actor="operator:0", now=self.clock.now())

    def job(self, subject: UUID) -> Job:
        with self.storage.database.read() as session:
            return session.scalars(select(Job).where(Job.kind == "probe", Job.subject_id == subject)).one()

    def leaves(self, subject: object) -> list[str]:
        with self.storage.database.read() as session:
            query = select(CustodyLeaf.action).where(CustodyLeaf.subject_id == str(subject))
            return list(session.scalars(query))

    def is_settled(self, item_id: UUID) -> bool:
        """Whether a quarantined job left all it leaves: state, leaf, flag, an item that waits for nothing."""
        signs = {
            self.job(item_id).state == "quarantined",
            self.leaves(item_id).count("job:quarantined") == 1,
            "probe_quarantined" in self.pipeline.flags(item_id),
            self.pipeline.item(item_id).media == "unplayable",
        }
        assert len(signs) == 1, "half of it is there"
        return signs.pop()

    def alarms(self) -> list[tuple[str, str]]:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            return [(row.code, row.subject_id) for row in alarms.alarms(session, agency.id)]


@pytest.fixture
def ward(storage: Storage, settings: Settings, clock: SettableClock, tmp_path: Path) -> Ward:
    return Ward(storage, settings, clock, tmp_path)


@pytest.fixture
def shared_ward(clock: SettableClock, tmp_path: Path) -> Iterator[Ward]:
    """Where rows are locked one by one."""
    settings = settings_for(tmp_path, laid_url("postgresql", tmp_path))
    storage = replace(found(settings, AGENCY, clock), clock=clock)
    yield Ward(storage, settings, clock, tmp_path)
    storage.database.dispose()


def test_a_job_that_cannot_be_settled_is_taken_again_and_harms_no_other(ward: Ward) -> None:
    poisoned, sound = ward.take(2)
    ward.last(poisoned, FOREVER_US)
    ward.kill([poisoned, sound])
    assert ward.relay.sweep() == 1
    assert ward.is_settled(sound)
    assert not ward.is_settled(poisoned)
    left = ward.job(poisoned)
    assert (left.state, left.deaths) == ("leased", 4), "as it was, so that the next round finds it"
    ward.last(poisoned, 1_000_000)
    assert ward.relay.sweep() == 1
    assert ward.is_settled(poisoned)
    assert ward.relay.sweep() == 0
    assert ward.alarms() == [], "once is no reason to call anybody"


def test_a_job_that_is_never_settled_is_an_alarm_until_it_is(ward: Ward) -> None:
    (poisoned,) = ward.take(1)
    ward.last(poisoned, FOREVER_US)
    ward.kill([poisoned])
    job_id = ward.job(poisoned).id
    for _ in range(ALARM_AFTER - 1):
        assert ward.relay.sweep() == 0
    assert ward.alarms() == []
    for _ in range(ALARM_AFTER + 1):
        assert ward.relay.sweep() == 0
    assert ward.alarms() == [(UNSETTLED, str(job_id))]
    ward.last(poisoned, None)
    assert ward.relay.sweep() == 1
    assert ward.is_settled(poisoned)
    assert ward.alarms() == []
    assert ward.leaves(job_id) == ["alarm:raised", "alarm:cleared"]
    assert ward.heard.said(job_id) == ["raised", "lease_taken_back", "cleared"]


def _waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return int(connection.scalar(text(waits)) or 0)


def _until_waiting(engine: Engine, count: int) -> None:
    deadline = time.monotonic() + 20
    while _waiting(engine) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sweeping_and_adopting_the_same_items_in_other_orders_wait_for_no_ring(shared_ward: Ward) -> None:
    """Adoption is to have the first item and want the second, the sweep the second and want the first."""
    ward = shared_ward
    first, second = ward.take(2)
    ward.kill([second, first])
    failed: list[Exception] = []

    def adopt() -> None:
        try:
            ward.adopt()
        except Exception as error:
            failed.append(error)

    adopting, sweeping = threading.Thread(target=adopt), threading.Thread(target=ward.relay.sweep)
    engine = ward.storage.database.engine
    with ward.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        items.item_by_id(session, agency.id, first, lock=True)
        adopting.start()
        _until_waiting(engine, 1)
        sweeping.start()
        _until_waiting(engine, 2)
    adopting.join(20)
    sweeping.join(20)
    assert failed == []
    for item_id in (first, second):
        assert ward.is_settled(item_id)
        assert roster.UNKNOWN_DEVICE not in ward.pipeline.flags(item_id)
        assert "item:unflagged" in ward.leaves(item_id)


def test_two_relays_at_once_take_a_job_back_once(shared_ward: Ward) -> None:
    ward = shared_ward
    taken = ward.take(1)
    ward.kill(taken)
    other = Relay(ward.storage, ward.pipeline.settings, ward.heard, ward.heard)  # type: ignore[arg-type]
    counts: list[int] = []
    with ward.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        items.item_by_id(session, agency.id, taken[0], lock=True)
        sweeping = threading.Thread(target=lambda: counts.append(ward.relay.sweep()))
        sweeping.start()
        _until_waiting(ward.storage.database.engine, 1)
        counts.append(other.sweep())
    sweeping.join(20)
    assert counts == [0, 1]
    assert ward.is_settled(taken[0])
    assert ward.job(taken[0]).deaths == 5
