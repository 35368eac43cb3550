"""Cases, items, facts and bindings through the API, on both databases."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.orm import Session

from evidence.errors import Unavailable
from evidence.ids import new_id
from ingest import register, sheets
from storage.db.tables import Agency
from tests.support.scene import CASE_A, Live, live_scene


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("register"), request.param) as live:
        yield live


def number(prefix: str = "示执检") -> str:
    return f"{prefix}〔2026〕{new_id().hex[-8:].upper()}号"


def import_csv(live: Live, body: bytes) -> Any:
    answer = live.as_("archivist").post(
        "/api/v1/cases/import", content=body, headers={"Content-Type": "text/csv; charset=utf-8"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_case_is_opened_found_in_any_spelling_changed_and_closed(live: Live) -> None:
    written = number()
    client = live.as_("handler")
    answer = client.post("/api/v1/cases", json={"case_no": written, "cause": "占道经营", "party": "某店"})
    assert answer.status_code == 201, answer.text
    case = answer.json()
    assert case["handler_id"] == str(live.scene.accounts["handler"])
    spelled = written.replace("〔", " [").replace("〕", "] ")
    (found,) = client.get("/api/v1/cases", params={"case_no": spelled}).json()["items"]
    assert found["id"] == case["id"]
    taken = client.post("/api/v1/cases", json={"case_no": spelled.strip()})
    assert (taken.status_code, taken.json()["code"]) == (409, "case_no_taken")
    changed = client.patch(f"/api/v1/cases/{case['id']}", json={"cause": "无证经营", "party": None}).json()
    assert (changed["cause"], changed["party"]) == ("无证经营", None)
    closed = client.patch(f"/api/v1/cases/{case['id']}", json={"closed_at": "2026-03-04T09:00:00+08:00"})
    assert closed.json()["is_open"] is False
    again = client.patch(f"/api/v1/cases/{case['id']}", json={"closed_at": "2026-03-04T09:00:00+08:00"})
    assert again.json()["code"] == "case_closed"
    actions = [leaf["action"] for leaf in live.scene.leaves(case["id"])]
    assert actions == ["case:opened", "case:changed", "case:closed"]
    assert all("某店" not in str(leaf) for leaf in live.scene.leaves(case["id"]))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"case_no": "X"}, 422, "case_no_form"),
        ({"case_no": "示执\u202e罚1号"}, 422, "case_no_invalid"),
        ({"case_no": "示执罚〔2026〕99号", "handler": "nobody"}, 404, "account_not_found"),
        ({"case_no": "示执罚〔2026〕99号", "kind": "theft"}, 422, "request_invalid"),
        ({"case_no": "示执罚〔2026〕99号", "opened_at": "2026-03-01T00:00:00"}, 422, "request_invalid"),
        ({"case_no": "示执罚〔2026〕99号", "cause": "a\nb"}, 422, "request_invalid"),
        ({"case_no": "示执罚〔2026〕99号", "surprise": 1}, 422, "request_invalid"),
        ({}, 422, "request_invalid"),
    ],
)
def test_a_case_that_does_not_fit_is_refused(
    live: Live, body: dict[str, Any], status: int, code: str
) -> None:
    answer = live.as_("handler").post("/api/v1/cases", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_pages_give_every_case_once(live: Live) -> None:
    prefix = new_id().hex[-8:].upper()
    made = {
        live.as_("handler").post("/api/v1/cases", json={"case_no": f"{prefix}〔2026〕{step}号"}).json()["id"]
        for step in range(7)
    }
    seen: list[str] = []
    cursor = None
    while True:
        params = {"prefix": prefix, "limit": 3, **({"cursor": cursor} if cursor else {})}
        page = live.as_("handler").get("/api/v1/cases", params=params).json()
        seen += [case["id"] for case in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == 7
    assert set(seen) == made


@pytest.mark.parametrize("cursor", ["x", "bm9wZQ", "W10", "WzEsMl0", "W251bGwsbnVsbF0", "é", "W1sxXSxbMl1d"])
def test_a_cursor_nobody_gave_is_refused(live: Live, cursor: str) -> None:
    for path in ("/api/v1/cases", "/api/v1/items", f"/api/v1/cases/{live.scene.case_a.id}/items"):
        answer = live.as_("handler").get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid"), path


def test_good_lines_are_taken_and_each_bad_line_is_one_finding(live: Live) -> None:
    good, other = number(), number()
    rows = ["案件编号,案由,承办人,立案日期,结案日期,案件类型", f"{good},占道,handler,2026-03-01,,行政处罚",
            "X,太短,,,,", f"{good},重复,,,,", f"{other},,nobody,,,", f"{number()},,,不是日期,,",
            f"{number()},,,2026-03-02,2026-03-01,", f"{number()},少一列", "",
            f"{other},,,2026/03/01,,inspection", f"{number()},,,,,偷窃"]  # fmt: skip
    done = import_csv(live, "\r\n".join(rows).encode("utf-8-sig"))
    assert done["taken"] == 2
    assert [(entry["line"], entry["code"]) for entry in done["not_taken"]] == [
        (3, "case_no_form"), (4, "case_no_taken"), (5, "account_not_found"), (6, "time_invalid"),
        (7, "case_times"), (8, "csv_invalid"), (11, "kind_unknown"),
    ]  # fmt: skip
    (case,) = live.as_("handler").get("/api/v1/cases", params={"case_no": good}).json()["items"]
    assert case["opened_at"] == "2026-02-28T16:00:00Z"


def test_a_sheet_saved_in_gb_18030_is_understood(live: Live) -> None:
    written = number()
    done = import_csv(live, f"案件编号,当事人\n{written},某某商行\n".encode("gb18030"))
    assert (done["taken"], done["not_taken"]) == (1, [])
    (case,) = live.as_("handler").get("/api/v1/cases", params={"case_no": written}).json()["items"]
    assert case["party"] == "某某商行"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe\x00\x01",
        b"a,b\n1,2\n",
        b"case_no,case_no\n1,2\n",
        b"\x00\x00",
        "案由\n占道\n".encode(),
    ],
)
def test_a_file_that_is_no_register_is_refused_whole(live: Live, body: bytes) -> None:
    answer = live.as_("archivist").post(
        "/api/v1/cases/import", content=body, headers={"Content-Type": "text/csv"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "csv_invalid")


def test_a_long_file_keeps_no_other_writer_waiting(live: Live) -> None:
    prefix = new_id().hex[-8:].upper()
    body = "case_no\n" + "".join(f"{prefix}〔2026〕{step}号\n" for step in range(1, 1501))
    done: list[Any] = []
    importing = threading.Thread(target=lambda: done.append(import_csv(live, body.encode())))
    client = live.as_("handler")
    importing.start()
    waits = []
    while importing.is_alive():
        began = time.monotonic()
        assert client.post("/api/v1/cases", json={"case_no": number()}).status_code == 201
        waits.append(time.monotonic() - began)
    importing.join()
    assert done[0]["taken"] == 1500
    # Several were served while it ran, none of them at its end.
    assert len(waits) > 4
    assert max(waits) < 5


def test_what_was_committed_of_a_file_stays_when_the_next_batch_fails(live: Live) -> None:
    scene = live.scene
    prefix = new_id().hex[-8:].upper()
    body = "case_no\n" + "".join(f"{prefix}〔2026〕{step}号\n" for step in range(1, 301))
    with scene.storage.database.read() as session:
        sheet = register.read_sheet(session, scene.agency, body.encode())
    begun = 0

    @contextmanager
    def begin() -> Iterator[tuple[Session, Agency]]:
        nonlocal begun
        begun += 1
        if begun == 2:
            raise Unavailable("database: expected an answer, found none")
        with scene.storage.database.transaction() as session:
            yield session, scene.agency

    with pytest.raises(Unavailable):
        register.take_sheet(begin, sheet, actor="test", now=scene.clock.now())
    with scene.storage.database.read() as session:
        again = register.read_sheet(session, scene.agency, body.encode())
    assert len(again.ready) == 300 - sheets.BATCH_LINES
    assert {found.code for found in again.findings} == {"case_no_taken"}


def test_a_broken_quote_is_named_with_its_line(live: Live) -> None:
    done = import_csv(live, f'case_no,cause\n{number()},ok\n{number()},"open\n'.encode())
    assert done["taken"] == 1
    assert done["not_taken"][0]["code"] == "csv_invalid"


def test_an_item_says_what_it_lacks_until_all_five_facts_are_there(live: Live) -> None:
    recording = live.scene.record(officer_no=None)
    path = f"/api/v1/items/{recording.item_id}"
    facts = live.as_("officer").get(path).json()["facts"]
    assert facts["missing"] == ["case_no", "captured_place", "collector", "object_of_proof"]
    body = {"captured_place": "人民路12号", "collector": "330101", "object_of_proof": "占道经营"}
    assert live.as_("officer").put(f"{path}/facts", json=body).status_code == 200
    filed = live.as_("officer").put(f"{path}/facts", json={"case_no": CASE_A})
    assert (filed.status_code, filed.json()["code"]) == (403, "not_permitted")
    done = live.as_("handler").put(f"{path}/facts", json={"case_no": CASE_A}).json()
    assert (done["facts"]["missing"], done["facts"]["is_complete"]) == ([], True)
    assert done["av_record_no"].startswith("demo-LX-2026-")
    assert done["facets"]["binding"] == "bound"
    said = {(claim["field"], claim["source"]) for claim in live.as_("officer").get(f"{path}/claims").json()}
    assert ("place", "person") in said
    (leaf,) = live.scene.leaves(recording.item_id, "item:facts_set")
    assert leaf["facts"]["facts"] == ["captured_place", "collector", "object_of_proof"]
    assert "人民路" not in str(leaf)


def test_times_the_wrong_way_round_are_refused(live: Live) -> None:
    recording = live.scene.record()
    body = {"captured_to": "2020-01-01T00:00:00Z"}
    answer = live.as_("officer").put(f"/api/v1/items/{recording.item_id}/facts", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "facts_times")


def test_binding_draws_a_number_once_and_ending_it_keeps_the_reason(live: Live) -> None:
    recording = live.scene.record()
    client = live.as_("archivist")
    path = f"/api/v1/items/{recording.item_id}"
    first = client.post(f"{path}/bindings", json={"case_no": CASE_A, "reason": "同一现场"})
    assert first.status_code == 201
    drawn = client.get(path).json()["av_record_no"]
    twice = client.post(f"{path}/bindings", json={"case_id": str(live.scene.case_a.id), "reason": "again"})
    assert twice.json()["code"] == "bound_already"
    ended = client.request("DELETE", f"/api/v1/bindings/{first.json()['id']}", json={"reason": "误关联"})
    assert ended.json()["ended_reason"] == "误关联"
    assert client.get(path).json()["facets"]["binding"] == "unbound"
    assert client.get(path).json()["av_record_no"] == drawn
    twice = client.request("DELETE", f"/api/v1/bindings/{first.json()['id']}", json={"reason": "x"})
    assert twice.json()["code"] == "binding_ended"
    assert len(client.get(f"{path}/bindings").json()) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"reason": "x"},
        {"case_no": CASE_A},
        {"case_no": CASE_A, "reason": " "},
        {"case_no": CASE_A, "reason": "x", "span": {"from_us": 5, "to_us": 5}},
        {"case_no": CASE_A, "reason": "x", "span": {"from_us": -1, "to_us": 5}},
        {"case_no": CASE_A, "reason": "x", "span": {"from_us": 0, "to_us": 900_000_000_000}},
    ],
)
def test_a_binding_that_does_not_fit_is_refused(live: Live, body: dict[str, Any]) -> None:
    recording = live.scene.record()
    answer = live.as_("archivist").post(f"/api/v1/items/{recording.item_id}/bindings", json=body)
    assert answer.status_code == 422


def test_items_are_found_by_case_officer_time_and_binding(live: Live) -> None:
    scene = live.scene
    case = scene.open_case(number(), "handler")
    bound, loose = scene.record(case=case), scene.record(officer_no="990001")
    client = live.as_("reviewer")

    def found(**params: Any) -> set[str]:
        answer = client.get("/api/v1/items", params={"limit": 200, **params})
        assert answer.status_code == 200, answer.text
        return {item["id"] for item in answer.json()["items"]}

    assert found(case_no=case.case_no) == {str(bound.item_id)}
    assert found(officer_no="990001") >= {str(loose.item_id)}
    assert str(bound.item_id) not in found(officer_no="990001")
    assert str(loose.item_id) in found(binding_state="unbound")
    assert str(bound.item_id) not in found(binding_state="unbound")
    window = {"since": "2026-03-03T02:00:05Z", "until": "2026-03-03T03:00:00Z"}
    assert found(**window) >= {str(bound.item_id), str(loose.item_id)}
    assert found(since="2026-03-04T00:00:00Z") == set()
    assert found(case_no="没有这个案件") == found(device_no="NONE") == set()


def test_an_item_tied_twice_stands_on_its_pages_twice(live: Live) -> None:
    scene = live.scene
    case = scene.open_case(number(), "handler")
    recording = scene.record(spans=[(case, 0, 2_000_000), (case, 3_000_000, 5_000_000)])
    seen = []
    cursor = None
    for _ in range(2):
        params = {"limit": 1, **({"cursor": cursor} if cursor else {})}
        page = live.as_("reviewer").get(f"/api/v1/cases/{case.id}/items", params=params).json()
        seen += [(entry["id"], tuple(entry["binding"]["span_us"])) for entry in page["items"]]
        cursor = page["next_cursor"]
    expected = [(str(recording.item_id), (0, 2_000_000)), (str(recording.item_id), (3_000_000, 5_000_000))]
    assert seen == expected
    assert cursor is None


def test_what_is_not_there_is_not_found(live: Live) -> None:
    nothing = new_id()
    for path in ("cases/{}", "cases/{}/items", "items/{}", "items/{}/claims", "items/{}/custody",
                 "items/{}/poster", "items/{}/redaction/plans", "clips/{}", "grants/{}"):  # fmt: skip
        assert live.as_("reviewer").get(f"/api/v1/{path.format(nothing)}").status_code == 404, path
