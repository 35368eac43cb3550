"""Docks, tokens and faults of the ledger on both databases."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from evidence.errors import Conflict, InvalidInput, NotAuthenticated
from ingest import docks, ledger_health, roster
from ingest import ledger as device_ledger
from storage.db import credentials, ledger
from storage.db.ledger_tables import Dock
from storage.db.tables import Agency, UploadToken
from tests.support.house import ACTOR, DAY, House, beside


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
