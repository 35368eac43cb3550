"""Receipts by digest and alarms through the API, each by the right it needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from ingest.damage import Damage, note_damage
from storage.db import agencies
from storage.db.accounts import accounts
from storage.db.alarms import NewAlarm, alarms, raise_alarm
from storage.db.tables import StoredObject
from tests.support.scene import Live, live_scene


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("alarms")) as live:
        yield live


def test_damage_is_told_by_name_takes_leave_to_erase_back_and_is_cleared_with_a_reason(live: Live) -> None:
    scene = live.scene
    scene.record(case=scene.case_a)
    with scene.storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, scene.agency.id)
        stored = session.scalars(select(StoredObject).order_by(StoredObject.id)).first()
        assert stored is not None
        told = note_damage(
            session, agency, stored, Damage("missing", "no file"), actor="test", now=scene.clock.now()
        )
        digest = stored.sha256.hex()
    archivist, admin = live.as_("archivist"), live.as_("system_admin")
    receipts = archivist.get("/api/v1/receipts", params={"sha256": digest}).json()
    assert receipts["may_erase"] is False
    assert {row["is_damaged"] for row in receipts["receptions"]} == {True}
    shown = archivist.get("/api/v1/alarms").json()["items"]
    assert {row["subject_id"] for row in shown} == {str(item_id) for item_id in told}
    assert all(row["original_name"] for row in shown)
    assert all(f"音像{row['subject_id']}" in row["message_zh"] and row["message"] for row in shown)
    # Who sees no footage sees that something is wrong with it, not what it is called.
    assert {row["original_name"] for row in admin.get("/api/v1/alarms").json()["items"]} == {None}
    assert live.as_("reviewer").get("/api/v1/alarms").status_code == 403
    clear = f"/api/v1/alarms/{shown[0]['id']}/clear"
    assert admin.post(clear, json={"reason": " "}).status_code == 422
    cleared = admin.post(clear, json={"reason": "从备份恢复"})
    assert cleared.json()["cleared_reason"] == "从备份恢复"
    assert admin.post(clear, json={"reason": "again"}).json()["code"] == "alarm_cleared"
    assert admin.get("/api/v1/jobs/counts").json()["alarms"] == len(shown) - 1
    # A person's word ends the telling; the bytes are no better for it.
    for row in shown[1:]:
        admin.post(f"/api/v1/alarms/{row['id']}/clear", json={"reason": "从备份恢复"})
    receipts = archivist.get("/api/v1/receipts", params={"sha256": digest}).json()
    assert receipts["may_erase"] is False
    assert {row["is_damaged"] for row in receipts["receptions"]} == {True}


def test_receipts_are_for_who_may_list_items_and_by_a_whole_digest(live: Live) -> None:
    assert live.as_("system_admin").get("/api/v1/receipts", params={"sha256": "0" * 64}).status_code == 403
    archivist = live.as_("archivist")
    assert archivist.get("/api/v1/receipts", params={"sha256": "abc"}).status_code == 422
    nothing = archivist.get("/api/v1/receipts", params={"sha256": "0" * 64}).json()
    assert nothing == {"sha256": "0" * 64, "may_erase": False, "receptions": []}


def pages(live: Live, name: str, path: str, **query: object) -> list[str]:
    """Every id of a list, two a page."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        params = {"limit": 2, **query, **cursor}
        page = live.as_(name).get(f"/api/v1{path}", params=params).json()
        assert 0 < len(page["items"]) <= 2
        found += [row["id"] for row in page["items"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_lists_that_grow_with_the_years_come_by_the_page(live: Live) -> None:
    scene = live.scene
    with scene.storage.database.transaction() as session:
        agency = agencies.agency_by_id(session, scene.agency.id)
        for number in range(5):
            # Two of one instant: the id tells them apart.
            at = scene.clock.now() + timedelta(hours=number // 2)
            wanted = NewAlarm("recorder_lost", "room", f"P{number}/main", "gone", {})
            assert raise_alarm(session, agency, wanted, actor="test", now=at)
    with scene.storage.database.read() as session:
        standing = [str(row.id) for row in alarms(session, scene.agency.id)]
        every = [str(row.id) for row in alarms(session, scene.agency.id, cleared=True)]
        people = [str(row.id) for row in accounts(session, scene.agency.id)]
    assert len(standing) >= 5 and len(people) > 5
    assert pages(live, "system_admin", "/alarms") == standing
    assert pages(live, "system_admin", "/alarms", cleared=True) == every
    assert pages(live, "security_officer", "/accounts") == people
