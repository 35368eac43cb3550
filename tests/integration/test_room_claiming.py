"""What of a room's files is a session's: not what lies in its pauses, nor what lies around it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from evidence.breaks import Cause
from evidence.clock import to_micros
from evidence.kinds import GapReason
from evidence.masks import MARGIN_US, Reason
from ingest.recorder import sessions as use_case
from ingest.recorder.claiming import claimants
from storage.db import agencies
from storage.hiding import placed_in
from storage.open import Storage
from tests.integration.test_recorder_rooms import House
from tests.support.media import make_plain
from tests.support.rooms import ROOM, finished_file, hand_in

ACTOR = "operator:1"
BEGAN = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def us(seconds: float) -> int:
    return round(seconds * 1_000_000)


@pytest.fixture
def paused(sqlite_storage: Storage) -> UUID:
    """A session from 0 to 100 s that was paused from 20 to 50 s, and ended in a pause from 80 s on."""
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        row = use_case.start(session, agency, ROOM, facts={}, actor=ACTOR, now=at(0))
        for begins, ends in ((20, 50), (80, None)):
            use_case.pause(
                session, agency, row.id, GapReason.SECRET_OR_PRIVACY, "涉密", actor=ACTOR, now=at(begins)
            )
            if ends is not None:
                use_case.resume(session, agency, row.id, actor=ACTOR, now=at(ends))
        use_case.stop(session, agency, row.id, actor=ACTOR, now=at(100))
        return row.id


def claimed(storage: Storage, *spans: tuple[float, float]) -> list[UUID]:
    moments = tuple((to_micros(at(begins)), to_micros(at(ends))) for begins, ends in spans)
    with storage.database.read() as session:
        agency = agencies.agencies(session)[0]
        return [each.id for each in claimants(session, agency.id, ROOM.room_no, moments, at(300))]


def test_a_file_that_lies_in_a_pause_is_nobodys_also_where_a_session_claims_back(
    sqlite_storage: Storage, paused: UUID
) -> None:
    assert claimed(sqlite_storage, (20, 50)) == claimed(sqlite_storage, (22, 30)) == []
    assert claimed(sqlite_storage, (85, 100)) == claimed(sqlite_storage, (90, 130)) == []
    assert claimed(sqlite_storage, (15, 22)) == claimed(sqlite_storage, (40, 51)) == [paused]
    # By one of two clocks it was recorded before the pause.
    assert claimed(sqlite_storage, (22, 30), (2, 10)) == [paused]
    with sqlite_storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        row = use_case.start(session, agency, ROOM, facts={}, started_at=at(100), actor=ACTOR, now=at(140))
        later = row.id
    # A start that was forgotten reaches back to the end of the one before, and into no pause of it.
    assert claimed(sqlite_storage, (85, 100)) == []
    assert claimed(sqlite_storage, (90, 130)) == [later]


def test_what_reaches_into_a_pause_or_lies_around_a_session_is_hidden_and_a_break(
    sqlite_storage: Storage, tmp_path: Path, paused: UUID
) -> None:
    storage = sqlite_storage
    into, before = (
        hand_in(storage, paused, finished_file(storage, tmp_path, at(begins), at(ends), number=number))
        for number, (begins, ends) in enumerate([(5, 55), (-100, 4)])
    )
    with storage.database.read() as session:
        agency_id = agencies.agencies(session)[0].id
        (mask, span), *more = placed_in(session, agency_id, into, us(50))
        assert (mask.reason, mask.by, more) == (Reason.PAUSED, ACTOR, [])
        assert span == (us(15) - MARGIN_US, us(45) + MARGIN_US)
        ((mask, span),) = placed_in(session, agency_id, before, us(104))
        assert (mask.reason, span) == (Reason.OUTSIDE_SESSION, (0, us(100)))
        row = use_case.sessions.session_by_id(session, agency_id, paused)
        breaks = use_case.tell(session, agency_id, row).breaks
    found = [
        ((each.from_us - us(BEGAN.timestamp())) / 1e6, each.length_ms)
        for each in breaks
        if each.stream == "main" and each.cause is Cause.PAUSED
    ]
    assert found == [(20, 30_000), (80, 20_000)]
    assert {each.reasons[0].text for each in breaks if each.cause is Cause.PAUSED} == {"涉密"}


@pytest.fixture
def home(sqlite_storage: Storage, tmp_path: Path) -> Iterator[House]:
    """A room that pre-records."""
    make_plain(tmp_path / "room.mp4", seconds=12)
    made = House(sqlite_storage, tmp_path / "data", tmp_path / "room.mp4", pre_record_s=600)
    yield made
    made.close()


def test_nothing_is_recorded_in_a_pause_where_the_room_pre_records(home: House) -> None:
    host = home.host()
    home.until(host, lambda: home.phase(host) == "recording")
    session_id = home.start()
    time.sleep(0.5)
    home.until(host, lambda: host._rooms[0].lasting)
    home.write(use_case.pause, session_id, GapReason.SECRET_OR_PRIVACY, "涉密")
    home.until(host, lambda: home.phase(host) == "off" and home.told(session_id).parts)
    before = home.runs()
    time.sleep(1.0)
    host.look(host._rooms[0])
    assert (home.phase(host), home.runs()) == ("off", before)
    home.write(use_case.resume, session_id)
    home.until(host, lambda: home.phase(host) == "recording")
    time.sleep(1.0)
    home.write(use_case.stop, session_id)
    home.until(host, lambda: home.told(session_id).row.complete_at)
    told = home.told(session_id)
    since, until = (note.at for note in told.notes)
    assert len(told.parts) >= 2
    for part in told.parts:
        assert part.to_at < since + timedelta(seconds=1.5) or part.from_at > until
    (asked,) = (each for each in told.breaks if each.cause is Cause.PAUSED)
    assert abs(asked.from_us - to_micros(since)) < us(0.2) and asked.to_us == to_micros(until)
    # And what comes after it is kept beforehand again.
    home.until(host, lambda: home.phase(host) == "recording")
