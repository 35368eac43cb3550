"""The timeline of a case: corrected clocks, gaps and overlaps, each told once over its pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from evidence.ids import new_id
from storage.db.tables import Case
from tests.support.placing import film, read_clock
from tests.support.scene import CAPTURED, Live, live_scene

ON_ONE_DATABASE = pytest.mark.parametrize("live", ["sqlite"], indirect=True)
"""For what no database has a part in."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("timeline"), request.param) as live:
        yield live


@pytest.fixture
def case(live: Live) -> Case:
    return live.scene.open_case(f"示执罚〔2026〕{new_id().hex[-8:]}号", "handler")


def timeline(live: Live, case: Case, **query: Any) -> dict[str, Any]:
    answer = live.as_("reviewer").get(f"/api/v1/cases/{case.id}/timeline", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def at(seconds: float) -> datetime:
    return CAPTURED + timedelta(seconds=seconds)


@ON_ONE_DATABASE
def test_a_case_without_anything_has_an_empty_timeline(live: Live, case: Case) -> None:
    found = timeline(live, case)
    assert (found["pieces"], found["lanes"], found["starts_at"], found["next_cursor"]) == ([], [], None, None)


def test_sources_are_laid_out_by_their_corrected_clocks(live: Live, case: Case) -> None:
    """Two cameras at one scene, one of them 40 s slow: uncorrected they never meet."""
    scene = live.scene
    first, second = f"A{new_id().hex[-6:]}", f"B{new_id().hex[-6:]}"
    film(scene, first, at(0), case=case, redacted=False)
    film(scene, first, at(10.25), case=case, redacted=False)
    late = film(scene, second, at(-36), case=case, redacted=False)
    read_clock(scene, second, at(3600), timedelta(seconds=40))
    unknown = film(scene, None, None, case=case, redacted=False)
    found = timeline(live, case)
    assert (found["piece_count"], found["unplaced_count"]) == (3, 1)
    assert [entry["item_id"] for entry in found["unplaced"]] == [str(unknown.item_id)]
    pieces = found["pieces"]
    assert [datetime.fromisoformat(entry["starts_at"]) for entry in pieces] == [at(0), at(4), at(10.25)]
    (moved,) = [entry for entry in pieces if entry["item_id"] == str(late.item_id)]
    assert (moved["offset_us"], moved["offset_basis"], moved["clock"]) == (40_000_000, "after", "device")
    assert [entry["offset_us"] for entry in pieces if entry is not moved] == [None, None]
    assert {lane["device_no"]: lane["covered_us"] for lane in found["lanes"]} == {
        first: 12_000_000,
        second: 6_000_000,
    }
    by_lane = {lane["lane"]: lane["device_no"] for lane in found["lanes"]}
    assert [(by_lane.get(gap["lane"]), gap["duration_us"], gap["is_certain"]) for gap in found["gaps"]] == [
        (None, 250_000, False),
        (first, 4_250_000, True),
    ]
    assert found["overlaps"] == []
    assert [
        (datetime.fromisoformat(each["starts_at"]), datetime.fromisoformat(each["ends_at"]))
        for each in found["together"]
    ] == [(at(4), at(6))]
    assert found["covered_us"] == 16_000_000


@ON_ONE_DATABASE
def test_a_span_of_a_case_covers_its_span_alone(live: Live, case: Case) -> None:
    other = live.scene.case_b
    film(live.scene, f"S{new_id().hex[-6:]}", at(0), redacted=False,
         spans=[(case, 1_000_000, 3_000_000), (other, 3_000_000, 6_000_000)])  # fmt: skip
    (entry,) = timeline(live, case)["pieces"]
    assert entry["span_us"] == [1_000_000, 3_000_000]
    assert datetime.fromisoformat(entry["starts_at"]) == at(1)
    assert datetime.fromisoformat(entry["ends_at"]) == at(3)


def test_pages_tell_every_piece_and_every_gap_once(live: Live, case: Case) -> None:
    scene = live.scene
    cameras = [f"P{number}{new_id().hex[-6:]}" for number in range(2)]
    for number in range(5):
        film(scene, cameras[number % 2], at(number * 4), case=case, redacted=False)
    film(scene, cameras[0], None, case=case, redacted=False)
    whole = timeline(live, case)
    told: dict[str, list[Any]] = {name: [] for name in ("pieces", "unplaced", "gaps", "overlaps", "together")}
    cursor, pages = None, 0
    while True:
        page = timeline(live, case, limit=2, **({"cursor": cursor} if cursor else {}))
        for name, rows in told.items():
            rows.extend(page[name])
        assert page["lanes"] == whole["lanes"]
        cursor, pages = page["next_cursor"], pages + 1
        if cursor is None:
            break
    assert pages == 3
    for name, rows in told.items():
        assert sorted(map(str, rows)) == sorted(map(str, whole[name])), name
    assert whole["together"]
    assert timeline(live, case, limit=6)["next_cursor"] is None


def test_it_takes_a_handful_of_statements_however_much_is_in_the_case(live: Live, case: Case) -> None:
    counts = []
    live.as_("reviewer")
    for _ in range(2):
        film(live.scene, "CAM-COUNT", at(len(counts) * 10), case=case, redacted=False)
        film(live.scene, "CAM-COUNT", at(len(counts) * 10 + 5), case=case, redacted=False)
        statements: list[str] = []

        def hear(_c: Any, _cursor: Any, statement: str, *_: Any, heard: list[str] = statements) -> None:
            heard.append(statement)

        engine = live.scene.storage.database.engine
        event.listen(engine, "before_cursor_execute", hear)
        try:
            timeline(live, case)
        finally:
            event.remove(engine, "before_cursor_execute", hear)
        counts.append(len(statements))
    assert counts[0] == counts[1]
    assert counts[0] <= 7


@ON_ONE_DATABASE
def test_a_cursor_of_another_list_and_a_case_nobody_knows_are_refused(live: Live, case: Case) -> None:
    reader = live.as_("reviewer")
    wrong = reader.get(f"/api/v1/cases/{case.id}/timeline", params={"cursor": "WyJ4Il0"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "cursor_invalid")
    assert reader.get(f"/api/v1/cases/{new_id()}/timeline").status_code == 404
    assert live.as_("system_admin").get(f"/api/v1/cases/{case.id}/timeline").status_code == 403
