"""The device ledger, duty, policies and reports through the API: who may, what comes back, page by page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from openpyxl import Workbook, load_workbook
from sqlalchemy import select

from evidence.clock import rfc3339
from ingest import docks, lateness, policy, sheets
from storage.db import agencies, items
from storage.db.ledger_tables import DeviceReading
from storage.db.tables import Account, Item
from tests.support.scene import Live, live_scene

API = "/api/v1"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("ledger"), request.param) as live:
        yield live


def ask(live: Live, name: str, path: str, **params: Any) -> Any:
    answer = live.as_(name).get(API + path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def every(live: Live, name: str, path: str, limit: int = 200) -> list[Any]:
    """All rows of a list, page after page."""
    rows: list[Any] = []
    more: dict[str, str] = {}
    while True:
        page = ask(live, name, path, limit=limit, **more)
        assert len(page["items"]) <= limit
        rows += page["items"]
        if page["next_cursor"] is None:
            return rows
        more = {"cursor": page["next_cursor"]}


def send(live: Live, name: str, path: str, status: int = 200, **body: Any) -> Any:
    answer = live.as_(name).post(API + path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def stranger(live: Live, number: str) -> str:
    scene = live.scene
    with scene.storage.database.transaction() as session:
        row = agencies.add_device(session, scene.agency.id, number, scene.clock.now(), state=agencies.UNKNOWN)
    return str(row.id)


def test_a_device_goes_from_hand_to_hand_breaks_and_leaves_service(live: Live) -> None:
    path = "/devices/" + send(live, "system_admin", "/devices", 201, device_no="H-1", maker="某厂")["id"]
    assert send(live, "system_admin", f"{path}/issues", 201, officer_no="330101")["officer_no"] == "330101"
    assert send(live, "system_admin", f"{path}/return")["officer_no"] is None
    assert send(live, "system_admin", f"{path}/return", 409)["code"] == "device_not_issued"
    future = rfc3339(live.scene.clock.now() + timedelta(days=1))
    body = send(live, "system_admin", f"{path}/issues", 422, officer_no="330101", issued_at=future)
    assert body["code"] == "time_in_future"
    fault = send(live, "system_admin", f"{path}/faults", 201, what="按键失灵")
    detail = ask(live, "system_admin", path)
    assert [row["officer_no"] for row in detail["issues"]] == ["330101"]
    assert [row["id"] for row in detail["open_faults"]] == [fault["id"]]
    done = send(live, "system_admin", f"/faults/{fault['id']}/resolve", resolution="更换")
    assert done["resolution"] == "更换"
    assert send(live, "system_admin", f"/faults/{fault['id']}/resolve", 409, resolution="x")["code"] == (
        "fault_resolved"
    )
    assert fault["id"] not in [
        row["id"] for row in ask(live, "system_admin", "/faults", is_open=True)["items"]
    ]
    assert send(live, "system_admin", f"{path}/retire")["retired_at"] is not None
    assert send(live, "system_admin", f"{path}/issues", 409, officer_no="330101")["code"] == "device_retired"
    assert "H-1" not in [
        row["device_no"] for row in ask(live, "system_admin", "/devices", in_use=True)["items"]
    ]


def test_a_strange_device_is_listed_adopted_and_issued_in_one_call(live: Live) -> None:
    device_id = stranger(live, "S-1")
    (row,) = [row for row in ask(live, "system_admin", "/devices/unknown")["items"] if row["id"] == device_id]
    assert (row["item_count"], row["officer_nos"]) == (0, [])
    adopted = send(live, "system_admin", f"/devices/{device_id}/adopt", officer_no="330102", kind="uav")
    assert (adopted["state"], adopted["officer_no"], adopted["kind"]) == ("registered", "330102", "uav")
    assert send(live, "system_admin", f"/devices/{device_id}/adopt", 409)["code"] == "device_adopted"


def test_pages_of_devices_give_each_once(live: Live) -> None:
    body = "device_no\n" + "".join(f"PG-{number}\n" for number in range(7))
    answer = live.as_("system_admin").post(
        f"{API}/devices/import", content=body.encode(), headers={"Content-Type": "text/csv"}
    )
    assert answer.json() == {"taken": 7, "not_taken": []}
    seen: list[str] = []
    cursor = None
    while True:
        page = ask(live, "system_admin", "/devices", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [row["device_no"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(set(seen))
    assert {f"PG-{number}" for number in range(7)} <= set(seen)


@pytest.mark.parametrize("cursor", ["x", "WyJcdTAwMDAiXQ", "W10", "W1tdXQ", "é"])
def test_a_cursor_nobody_gave_is_refused(live: Live, cursor: str) -> None:
    for path in ("/devices", "/officers", "/devices/unknown", "/faults", "/duty", "/reports/ratio"):
        answer = live.as_("system_admin").get(API + path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid"), path


def test_a_roster_comes_in_as_a_workbook_line_by_line(live: Live) -> None:
    book = Workbook()
    sheet = book.create_sheet("roster", 0)
    for row in (["警号", "上岗时间", "下岗时间"], [330101, "2026-02-02 08:00", "2026-02-02 18:00"],
                [330101, "=NOW()", "2026-02-03"], ["000", "2026-02-02", "2026-02-03"]):  # fmt: skip
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    answer = (
        live.as_("archivist")
        .post(f"{API}/duty/import", content=out.getvalue(), headers={"Content-Type": sheets.XLSX_TYPE})
        .json()
    )
    assert answer["taken"] == 1
    assert [(line["line"], line["code"]) for line in answer["not_taken"]] == [
        (3, "xlsx_invalid"), (4, "officer_not_found"),
    ]  # fmt: skip
    (row,) = ask(live, "archivist", "/duty", officer_no="330101", since="2026-02-01T00:00:00Z")["items"]
    assert row["duty_from"] == "2026-02-02T00:00:00Z"
    assert send(live, "archivist", f"/duty/{row['id']}/withdraw")["withdrawn_at"] is not None
    assert send(live, "archivist", f"/duty/{row['id']}/withdraw", 409)["code"] == "duty_withdrawn"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", ""])
def test_a_table_of_another_kind_is_refused(live: Live, kind: str) -> None:
    answer = live.as_("system_admin").post(
        f"{API}/devices/import", content=b"device_no\n1\n", headers={"Content-Type": kind}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "csv_invalid")


def test_a_token_is_rotated_and_a_dock_retired(live: Live) -> None:
    dock = send(live, "system_admin", "/docks", 201, dock_no="DK-1", place="一楼")
    token = send(live, "system_admin", "/upload-tokens", 201, dock_no="DK-1")
    fresh = send(live, "system_admin", f"/upload-tokens/{token['id']}/rotate", 201, overlap_s=60)
    assert fresh["token"] != token["token"]
    moved = live.as_("system_admin").patch(f"{API}/docks/{dock['id']}", json={"place": "二楼"})
    assert (moved.status_code, moved.json()["place"]) == (200, "二楼")
    taken = send(live, "system_admin", "/docks", 409, dock_no="DK-1", place="三楼")
    assert "liuhen dock set" in taken["detail"]
    send(live, "system_admin", f"/docks/{dock['id']}/retire")
    assert live.as_("system_admin").patch(f"{API}/docks/{dock['id']}", json={"place": "x"}).status_code == 409
    rows = {row["id"]: row for row in every(live, "system_admin", "/upload-tokens")}
    assert rows[token["id"]]["revoked_at"] is not None
    assert rows[fresh["id"]]["revoked_at"] is not None
    body = send(live, "system_admin", f"/upload-tokens/{fresh['id']}/rotate", 409)
    assert body["code"] == "token_ended"


@pytest.mark.parametrize(
    ("path", "key"), [("/docks", "dock_no"), ("/upload-tokens", "id"), ("/policies", "name")]
)
def test_docks_tokens_and_policies_come_page_by_page(live: Live, path: str, key: str) -> None:
    for number in range(5):
        send(live, "system_admin", "/upload-tokens", 201, dock_no=f"PAGED-{path}-{number}")
    whole = [row[key] for row in every(live, "system_admin", path)]
    assert len(whole) >= 5
    assert len(set(whole)) == len(whole)
    assert whole == sorted(whole, reverse=path == "/upload-tokens")
    assert [row[key] for row in every(live, "system_admin", path, limit=2)] == whole
    first = ask(live, "system_admin", path, limit=2)
    assert len(first["items"]) == 2
    assert ask(live, "system_admin", path, limit=len(whole))["next_cursor"] is None, "a full page may be last"
    for cursor in ("x", "WyJhIiwiYiJd", "W10"):
        answer = live.as_("system_admin").get(API + path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")
    assert live.as_("system_admin").get(API + path, params={"limit": 0}).status_code == 422


def test_versions_of_a_policy_come_page_by_page_and_a_dock_says_when_it_was_last_read(live: Live) -> None:
    scene = live.scene
    now = scene.clock.now()
    with scene.storage.database.transaction() as session:
        body = policy.default_of(policy.SHORT_RECORDING).body
        for number in range(3):
            policy.set_policy(
                session, scene.agency, policy.SHORT_RECORDING, body, source="某局规定第九条",
                applies_from=now + timedelta(days=number), actor="operator:0", now=now,
            )  # fmt: skip
        docks.register_dock(session, scene.agency, "READ-1", place=None, actor="operator:0", now=now)
        row = agencies.add_device(session, scene.agency.id, "READ-CAM", now)
        for days in (3, 1, 2):
            session.add(
                DeviceReading(
                    agency_id=scene.agency.id, device_id=row.id, dock_no="READ-1",
                    read_at=now - timedelta(days=days), battery_percent=50,
                )
            )  # fmt: skip
    for limit in (1, 2, 200):
        rows = every(live, "officer", "/policies/short_recording", limit=limit)
        assert [row["version"] for row in rows] == [1, 2, 3]
    (dock,) = [row for row in every(live, "system_admin", "/docks") if row["dock_no"] == "READ-1"]
    assert datetime.fromisoformat(dock["last_reading_at"]) == now - timedelta(days=1)


def test_policies_are_set_by_legal_review_and_read_by_everybody(live: Live) -> None:
    body = {
        "body": {**ask(live, "officer", "/policies/presets")[0]["body"]},
        "source": "本局规定第九条",
        "applies_from": "2026-01-01T00:00:00Z",
    }
    for name in ("system_admin", "archivist", "handler", "auditor"):
        assert live.as_(name).post(f"{API}/policies/upload_deadline", json=body).status_code == 403
    send(live, "legal_reviewer", "/policies/upload_deadline", 201, **body)
    again = send(live, "legal_reviewer", "/policies/upload_deadline", 422, **body)
    assert again["code"] == "policy_backdated"
    (row,) = [row for row in every(live, "auditor", "/policies") if row["name"] == "upload_deadline"]
    assert (row["version"], row["mark"]) == (1, None)
    assert len(every(live, "officer", "/policies/upload_deadline")) == 1
    broken = send(live, "legal_reviewer", "/policies/clock", 422, **{**body, "body": {"x": 1.5}})
    assert broken["code"] == "policy_body"
    assert live.as_("officer").get(f"{API}/policies/retention").status_code == 404


def late_item(live: Live, officer_no: str = "330101") -> UUID:
    scene = live.scene
    recording = scene.record(officer_no=officer_no)
    with scene.storage.database.transaction() as session:
        item = items.item_by_id(session, scene.agency.id, recording.item_id, lock=True)
        item.captured_from = scene.clock.now() - timedelta(days=5, minutes=1)
        item.captured_to = scene.clock.now() - timedelta(days=5)
        assert lateness.judge(session, scene.agency, item, scene.clock.now()) is not None
    return recording.item_id


def test_an_officer_answers_for_what_the_officer_recorded_alone(live: Live) -> None:
    item_id = late_item(live)
    mine = ask(live, "officer", "/lateness", unanswered=True)["items"]
    assert str(item_id) in [row["item_id"] for row in mine]
    assert ask(live, "officer2", "/lateness")["items"] == []
    assert send(live, "officer2", f"/items/{item_id}/lateness", 403, reason="x")["code"] == "reason_not_yours"
    assert (
        live.as_("reviewer").post(f"{API}/items/{item_id}/lateness", json={"reason": "x"}).status_code == 403
    )
    assert send(live, "officer", f"/items/{item_id}/lateness", reason="山区无信号")["reason"] == "山区无信号"
    assert (
        send(live, "archivist", f"/items/{item_id}/lateness", 409, reason="x")["code"] == "lateness_answered"
    )
    assert str(item_id) in [row["item_id"] for row in ask(live, "archivist", "/lateness")["items"]]


def test_an_officers_account_without_a_number_answers_for_nothing(live: Live) -> None:
    scene = live.scene
    item_id = late_item(live)
    with scene.storage.database.transaction() as session:
        # A recording that names nobody, and an account that is nobody's.
        items.item_by_id(session, scene.agency.id, item_id, lock=True).collector = None
        account = session.get_one(Account, scene.accounts["officer2"])
        held, account.officer_id = account.officer_id, None
    try:
        body = send(live, "officer2", f"/items/{item_id}/lateness", 403, reason="x")
        assert body["code"] == "reason_not_yours"
    finally:
        with scene.storage.database.transaction() as session:
            session.get_one(Account, scene.accounts["officer2"]).officer_id = held


def test_reports_on_conduct_are_not_the_system_administrators(live: Live) -> None:
    late_item(live)
    allowed = {"archivist", "legal_reviewer", "auditor"}
    for name in live.scene.accounts:
        for path in ("absence", "lateness"):
            status = live.as_(name).get(f"{API}/reports/{path}").status_code
            assert status == (200 if name in allowed else 403), (name, path)
        for path in ("ratio", "clock", "health"):
            status = live.as_(name).get(f"{API}/reports/{path}").status_code
            assert status == (200 if name in allowed | {"system_admin"} else 403), (name, path)


def test_a_report_comes_as_json_page_by_page_and_whole_as_csv_and_xlsx(live: Live) -> None:
    for _ in range(3):
        late_item(live)
    until = rfc3339(live.scene.clock.now())
    whole = ask(live, "auditor", "/reports/lateness", until=until, limit=200)
    assert whole["figures"]["late"] == len(whole["rows"]) >= 3
    first = ask(live, "auditor", "/reports/lateness", until=until, limit=2)
    rest = ask(live, "auditor", "/reports/lateness", until=until, limit=200, cursor=first["next_cursor"])
    assert first["rows"] + rest["rows"] == whole["rows"]
    text = live.as_("auditor").get(f"{API}/reports/lateness", params={"until": until, "format": "csv"})
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert len(text.text.strip().splitlines()) == 1 + len(whole["rows"])
    book = live.as_("auditor").get(f"{API}/reports/lateness", params={"until": until, "format": "xlsx"})
    assert load_workbook(io.BytesIO(book.content))["lateness"].max_row == 1 + len(whole["rows"])
    with live.scene.storage.database.read() as session:
        stored = {str(one) for one in session.scalars(select(Item.id))}
    assert {row["item_id"] for row in whole["rows"]} <= stored


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"since": "2026-03-02T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "period_invalid"),
        ({"since": "2020-01-01T00:00:00Z", "until": "2026-03-01T00:00:00Z"}, "period_invalid"),
        # Instants that have no date in some zone are none at all.
        ({"until": "0001-01-01T00:00:00Z"}, "request_invalid"),
        ({"until": "9999-12-31T23:59:59Z"}, "request_invalid"),
    ],
)
def test_a_period_that_is_none_is_refused(live: Live, params: dict[str, str], code: str) -> None:
    answer = live.as_("auditor").get(f"{API}/reports/absence", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
