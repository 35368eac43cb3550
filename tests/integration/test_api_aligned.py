"""Sources of a case side by side: one clock, each file by its own right, in step in a real player."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from evidence.ids import new_id
from storage.db.tables import Case, Item
from tests.journey.side_by_side import watch
from tests.support.hls import read_media
from tests.support.placing import film, read_clock
from tests.support.rooms import session_of
from tests.support.samples import REPOSITORY
from tests.support.scene import CAPTURED, Live, live_scene, reel

HLS_JS = REPOSITORY / ".cache" / "node" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
FPS = 25


ON_ONE_DATABASE = pytest.mark.parametrize("live", ["sqlite"], indirect=True)
"""For what no database has a part in."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("aligned"), request.param) as live:
        yield live


@pytest.fixture
def case(live: Live) -> Case:
    return live.scene.open_case(f"示执罚〔2026〕{new_id().hex[-8:]}号", "handler")


def at(seconds: float) -> datetime:
    return CAPTURED + timedelta(seconds=seconds)


def ask(
    live: Live, case: Case, begins: float, ends: float, name: str = "reviewer", status: int = 201, **more: Any
) -> dict[str, Any]:
    body = {"purpose": "case_handling", "from_at": at(begins).isoformat(), "to_at": at(ends).isoformat()}
    answer = live.as_(name).post(f"/api/v1/cases/{case.id}/aligned", json={**body, **more})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_each_source_has_a_playlist_and_a_map_by_corrected_clocks(live: Live, case: Case) -> None:
    scene = live.scene
    first, second = f"A{new_id().hex[-6:]}", f"B{new_id().hex[-6:]}"
    film(scene, first, at(0), case=case)
    film(scene, first, at(10), case=case)
    film(scene, second, at(-37.5), case=case)
    read_clock(scene, second, at(3600), timedelta(seconds=40))
    shown = ask(live, case, 1.25, 14)
    by_device = {source["device_no"]: source for source in shown["sources"]}
    assert {device: source["seek_to_us"] for device, source in by_device.items()} == {
        first: 250_000,
        second: 0,
    }
    assert [
        (each["from_us"], each["to_us"], each["position_us"]) for each in by_device[first]["stretches"]
    ] == [
        (-250_000, 4_750_000, 0),
        (8_750_000, 12_750_000, 5_000_000),
    ]
    assert [each["from_us"] for each in by_device[second]["stretches"]] == [1_250_000]
    # The clock is read again before a player comes: it would move what was told.
    read_clock(scene, second, at(-36), timedelta(seconds=45))
    for source in by_device.values():
        found = read_media(live.anyone.get(source["playlist_url"]).raise_for_status().text)
        assert found.length_us == source["shown_us"]
        assert read_media(live.anyone.get(f"{source['playlist_url']}?sliced=true").text) == found
        dates = [piece.dated_at for piece in found.pieces if piece.dated_at is not None]
        assert dates == [at(1.25) + timedelta(microseconds=each["from_us"]) for each in source["stretches"]]
    again = live.as_("reviewer").get(f"/api/v1/grant-sets/{shown['set_id']}").json()
    assert again["sources"] == shown["sources"]
    for name in ("marks-mixed", "rung-redacted", "keyframes-redacted"):
        url = by_device[first]["playlist_url"].replace("index", name)
        assert live.anyone.get(url).json()["code"] == "nothing_here"


@ON_ONE_DATABASE
def test_grants_of_many_sources_are_written_together(live: Live, case: Case) -> None:
    for number in range(3):
        film(live.scene, f"CAM-{number}", at(0), case=case)
    live.as_("reviewer")
    statements: list[str] = []

    def hear(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    engine = live.scene.storage.database.engine
    event.listen(engine, "before_cursor_execute", hear)
    try:
        ask(live, case, 0, 6)
    finally:
        event.remove(engine, "before_cursor_execute", hear)
    for table in ("view_grant ", "view_grant_set ", "custody_leaf "):
        # A leaf for what was granted, and one for what the rows hold.
        most = 2 if table.startswith("custody") else 1
        assert len([each for each in statements if each.startswith(f"INSERT INTO {table}")]) == most, table


@ON_ONE_DATABASE
def test_a_rung_that_comes_later_changes_neither_list_nor_map(live: Live, case: Case) -> None:
    """The map was told with one rung; the list must be of the same, whenever it is read."""
    scene = live.scene
    made = film(scene, "CAM-LATER", at(0), case=case)
    more = {"variant": "original", "reason": "核对"}
    shown = ask(live, case, 1, 5, "legal_reviewer", **more)
    url = shown["sources"][0]["playlist_url"]
    told = live.anyone.get(url).raise_for_status().text
    scene.clock.advance(1)
    small = reel(3)
    light = [each._replace(size_bytes=each.keyframe_bytes) for each in small.index.fragments]
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == made.item_id)).one()
        index = replace(small.index, fragments=tuple(light)).to_json()
        said = {**small.info, "rung": "360p", "index": index}
        scene.derive(session, item, "rendition", small.rendition, said, params={"rung": {"name": "360p"}})
    assert live.anyone.get(url).raise_for_status().text == told
    again = live.as_("legal_reviewer").get(f"/api/v1/grant-sets/{shown['set_id']}").json()
    assert again["sources"] == shown["sources"]
    later = ask(live, case, 1, 5, "legal_reviewer", **more)["sources"][0]["playlist_url"]
    assert "rendition-360p.mp4" in live.anyone.get(later).raise_for_status().text


def test_only_what_a_case_has_of_a_file_is_shown_and_only_around_the_window(live: Live, case: Case) -> None:
    """Invariant 7: the seconds of another case stay out, also where a keyframe before them would be handy."""
    scene = live.scene
    spans = [(case, 0, 3_000_000), (scene.case_b, 3_000_000, 6_000_000)]
    mine = film(scene, "CAM-SPAN", at(0), spans=spans, officer_no=None)
    other = film(scene, "CAM-OTHER", at(0), case=scene.case_b, officer_no=None)
    shown = ask(live, case, 1, 6, "handler", variant="original", reason="核对")
    (source,) = shown["sources"]
    assert [member["span_us"] for member in source["members"]] == [[0, 3_000_000]]
    assert source["stretches"][-1]["to_us"] <= 2_000_000
    assert scene.leaves(other.item_id, "grant:issued") == []
    assert len(scene.leaves(mine.item_id, "grant:issued")) == 1
    live.anyone.get(source["playlist_url"]).raise_for_status()
    assert len(scene.leaves(mine.item_id, "playlist:issued")) == 1
    refused = ask(live, case, 1, 6, "reviewer", 403, variant="original", reason="想看")
    assert refused["code"] == "not_permitted"


@ON_ONE_DATABASE
def test_windows_that_hold_nothing_or_too_much_are_refused_in_words(live: Live, case: Case) -> None:
    for number in range(9):
        film(live.scene, f"W{number}-{new_id().hex[-6:]}", at(0), case=case, redacted=False)
    crowd = ask(live, case, 0, 5, status=422)
    assert crowd["code"] == "sources_too_many"
    assert len(crowd["lanes"]) == 9
    some = ask(live, case, 0, 5, lanes=crowd["lanes"][:2])
    assert [source["lane"] for source in some["sources"]] == crowd["lanes"][:2]
    assert [source["playlist_url"] for source in some["sources"]] == [None, None]
    assert ask(live, case, 1000, 2000, status=404)["code"] == "window_empty"
    assert ask(live, case, 0, 90_000, status=422)["code"] == "window_too_long"
    assert ask(live, case, 5, 5, status=422)["code"] == "request_invalid"


@pytest.mark.browser
@ON_ONE_DATABASE
def test_sources_stay_in_step_in_chromium_through_hls_js(live: Live, case: Case) -> None:
    """Within 100 ms, sought and playing, over a gap and a late start. The pictures carry their numbers."""
    scene = live.scene
    films = {"A": [(0, 1), (6, 2), (12, 3)], "B": [(1.3, 4), (9.5, 5)]}
    said = [2.5, 6.25, 8.0, 10.75]
    for camera, starts in films.items():
        made = [
            (film(scene, camera, at(start), seed=seed, case=case).item_id, start) for start, seed in starts
        ]
        files = [(item_id, at(start), at(start + 6)) for item_id, start in made]
        session_of(scene.storage, at(0), files, {at(each): f"{camera} {each}" for each in said}, case.id)
    shown = ask(live, case, 0.6, 16, "handler")
    sources = [
        {**source, "variants_url": live.api_url + source["variants_url"]} for source in shown["sources"]
    ]
    order = [source["device_no"] for source in sources]
    instants = [0.02, 1.0, 7.5, 10.2]
    sought, off, read, complaints = watch(sources, instants, (6.0, 4.5), HLS_JS)
    for instant, pictures in zip(instants, sought, strict=True):
        for camera, number in zip(order, pictures, strict=True):
            clock = 0.6 + instant
            held = [(start, seed) for start, seed in films[camera] if start <= clock < start + 6]
            if not held:
                assert number is None
                continue
            ((start, seed),) = held
            assert number is not None
            assert abs(start + (number - 1000 * (seed + 50)) / FPS - clock) < 0.1, (camera, instant)
    assert all(each is not None and abs(each) < 0.1 for each in off)
    # What was marked is read at the instant it was marked, in each source's own file.
    for camera, source, cues in zip(order, sources, read, strict=True):
        begun = {
            f"{camera} {each}"
            for each in said
            if any(start <= each < start + 6 for start, _ in films[camera])
        }
        found = {text: position for position, text in cues}
        assert found.keys() == begun
        for text, position in found.items():
            clock_us = (float(text.split()[1]) - 0.6) * 1e6
            (stretch,) = [each for each in source["stretches"] if each["from_us"] <= clock_us < each["to_us"]]
            assert abs(stretch["position_us"] + clock_us - stretch["from_us"] - position * 1e6) < 100_000
    assert complaints == []
