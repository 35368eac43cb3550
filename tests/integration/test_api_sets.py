"""One playlist over the files of a recording: each by its own right, its own date, its own leaf."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urljoin
from uuid import UUID

import httpx
import pytest
from sqlalchemy import event, select

from api.routes.sets import _at_work
from api.sets import MOST_MEMBERS
from evidence.ids import new_id
from storage.db import grants, jobs
from storage.db.tables import Item, Job
from tests.support.growing import growing, settle
from tests.support.hls import Piece, goes_on, read_media, read_multivariant
from tests.support.placing import film, read_clock
from tests.support.rooms import session_of
from tests.support.scene import CAPTURED, Live, Recording, Scene, live_scene, reel

REDACTED_NAME, ORIGINAL_NAME = "redacted-", "rendition-copy"


ON_ONE_DATABASE = pytest.mark.parametrize("live", ["sqlite"], indirect=True)
"""For what no database has a part in."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("sets"), request.param) as live:
        yield live


def recording(live: Live, *gaps_s: float, **options: Any) -> list[Recording]:
    """Files of one press of the button, six seconds each, with so many seconds between them."""
    key, at, made = f"dock:{new_id()}", CAPTURED, []
    for number, gap in enumerate([*gaps_s, 0.0]):
        made.append(film(live.scene, "CAM-SET", at, recording_key=key, sequence_no=number + 1, **options))
        at += timedelta(seconds=6 + gap)
    return made


def ask(live: Live, name: str, item: Recording, status: int = 201, **more: Any) -> dict[str, Any]:
    body = {"purpose": "case_handling", **more}
    answer = live.as_(name).post(f"/api/v1/items/{item.item_id}/recording/grants", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pieces(live: Live, url: str) -> list[Piece]:
    answer = live.anyone.get(url)
    assert answer.status_code == 200, answer.text
    return read_media(answer.text).pieces


def fetch(piece: Piece) -> int:
    span = f"bytes={piece.first}-{piece.first + piece.size - 1}"
    return httpx.get(piece.url, headers={"Range": span}, trust_env=False).status_code


def test_files_of_a_recording_are_one_playlist_with_true_gaps_and_dates(live: Live) -> None:
    first, second, third = recording(live, 1.5, 0, case=live.scene.case_a)
    shown = ask(live, "reviewer", second)
    assert [member["item_id"] for member in shown["members"]] == [
        str(each.item_id) for each in (first, second, third)
    ]
    assert shown["left_out"] == []
    found = pieces(live, shown["playlist_url"])
    assert sum(piece.duration_us for piece in found) == 18_000_000
    assert [piece.is_discontinuous for piece in found] == [False, False, False] + 2 * [True, False, False]
    dates = [piece.dated_at for piece in found if piece.dated_at is not None]
    assert dates == [CAPTURED + timedelta(seconds=after) for after in (0, 7.5, 13.5)]
    assert len({piece.url for piece in found}) == 3
    assert all(piece.head == (piece.url, reel(51).index.init_size_bytes) for piece in found)
    assert {fetch(piece) for piece in found} == {206}
    base = urljoin(live.api_url, shown["variants_url"])
    streams = read_multivariant(live.anyone.get(shown["variants_url"]).text)
    assert [stream.is_of_keyframes for stream in streams] == [False, True]
    keys = pieces(live, urljoin(base, streams[1].url))
    assert len(keys) == 18
    assert [piece.dated_at for piece in keys if piece.dated_at is not None] == dates


def test_every_grant_leaves_its_own_leaf_and_its_playlist_one_more(live: Live) -> None:
    scene = live.scene
    made = recording(live, 0, case=scene.case_a)
    shown = ask(live, "reviewer", made[0])
    for _ in range(2):
        pieces(live, shown["playlist_url"])
    for member in shown["members"]:
        (issued,) = scene.leaves(member["item_id"], "grant:issued")
        assert issued["facts"]["grant"] == member["grant_id"]
        assert issued["facts"]["set"] == shown["set_id"]
        (fetched,) = scene.leaves(member["item_id"], "playlist:issued")
        assert fetched["facts"]["grant"] == member["grant_id"]


def test_what_is_not_permitted_is_left_out_and_listed(live: Live) -> None:
    """Invariant 7: the right to one file is no right to the next."""
    scene = live.scene
    key = f"dock:{new_id()}"
    mine = film(scene, "CAM-X", CAPTURED, recording_key=key, case=scene.case_a, officer_no=None)
    later = CAPTURED + timedelta(seconds=6)
    other = film(scene, "CAM-X", later, recording_key=key, case=scene.case_b, officer_no=None)
    shown = ask(live, "handler", mine, variant="original", reason="核对")
    assert [member["item_id"] for member in shown["members"]] == [str(mine.item_id)]
    assert shown["left_out"] == [{"item_id": str(other.item_id), "why": "not_permitted"}]
    assert {piece.url for piece in pieces(live, shown["playlist_url"])} == {
        piece.url for piece in pieces(live, shown["playlist_url"]) if ORIGINAL_NAME in piece.url
    }
    assert sum(piece.duration_us for piece in pieces(live, shown["playlist_url"])) == 6_000_000
    assert scene.leaves(other.item_id, "grant:issued") == []
    refused = ask(live, "reviewer", mine, 403, variant="original", reason="想看")
    assert refused["code"] == "not_permitted"
    within = ask(live, "reviewer", mine, case_id=str(scene.case_a.id))
    assert [entry["why"] for entry in within["left_out"]] == ["not_in_case"]


@ON_ONE_DATABASE
def test_spans_of_a_file_are_each_granted_and_nothing_between_them(live: Live) -> None:
    scene = live.scene
    spans = [
        (scene.case_a, 0, 2_000_000),
        (scene.case_b, 2_000_000, 4_000_000),
        (scene.case_a, 3_000_000, 6_000_000),
    ]
    (made,) = recording(live, spans=spans)
    shown = ask(live, "reviewer", made, case_id=str(scene.case_a.id))
    assert [member["span_us"] for member in shown["members"]] == [[0, 2_000_000], [3_000_000, 6_000_000]]
    found = pieces(live, shown["playlist_url"])
    index = reel(51).index
    seen = {number for number, part in enumerate(index.fragments)
            for piece in found if piece.first <= part.offset_bytes < piece.first + piece.size}  # fmt: skip
    assert seen <= {0, 1, 3, 4, 5}
    assert {fetch(piece) for piece in found} == {206}
    dates = [piece.dated_at for piece in found if piece.dated_at is not None]
    assert dates[0] == CAPTURED
    assert dates[1] >= CAPTURED + timedelta(seconds=3)


@ON_ONE_DATABASE
def test_one_set_keeps_the_service_from_no_other(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member costs a few queries at each request, and whoever knows the address may ask."""
    first, other = (recording(live, 0, case=live.scene.case_a)[0] for _ in range(2))
    busy, idle = ask(live, "reviewer", first), ask(live, "reviewer", other)
    with _at_work.taken(UUID(busy["set_id"]), 2 * MOST_MEMBERS - 1):
        refused = live.anyone.get(busy["playlist_url"])
        assert (refused.status_code, refused.json()["code"]) == (503, "set_busy")
        assert int(refused.headers["retry-after"]) > 0
        told = live.as_("reviewer").get(f"/api/v1/grant-sets/{busy['set_id']}")
        assert (told.status_code, told.json()["code"]) == (503, "set_busy")
        assert len(pieces(live, idle["playlist_url"])) == 6
    assert len(pieces(live, busy["playlist_url"])) == 6
    monkeypatch.setattr("api.sets.MOST_MEMBERS", 1)
    assert ask(live, "reviewer", first, 422)["code"] == "set_too_large"
    spans = [(live.scene.case_a, 0, 2_000_000), (live.scene.case_a, 3_000_000, 6_000_000)]
    (spanned,) = recording(live, spans=spans)
    case_id = str(live.scene.case_a.id)
    assert ask(live, "reviewer", spanned, 422, case_id=case_id)["code"] == "set_too_large"


@ON_ONE_DATABASE
def test_grants_of_a_set_are_locked_by_id_like_all_others_and_keep_their_order(live: Live) -> None:
    """A set that is revoked while its playlist is first read must not wait for what waits for it."""
    shown = ask(live, "reviewer", recording(live, 0, 0, case=live.scene.case_a)[0])
    statements: list[str] = []

    def hear(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    database = live.scene.storage.database
    event.listen(database.engine, "before_cursor_execute", hear)
    try:
        with database.transaction() as session:
            held = grants.grants_of_set(session, live.scene.agency.id, UUID(shown["set_id"]), lock=True)
            assert [(row.lane, row.place) for row in held] == [(0, 0), (0, 1), (0, 2)]
    finally:
        event.remove(database.engine, "before_cursor_execute", hear)
    (asked,) = (each for each in statements if "FROM view_grant" in each)
    assert asked.split("ORDER BY ")[1].startswith("view_grant.id")


def test_revoking_a_set_ends_every_grant_at_once_and_one_grant_only_itself(live: Live) -> None:
    first, second = recording(live, 0, case=live.scene.case_a)
    shown = ask(live, "reviewer", first)
    before = pieces(live, shown["playlist_url"])
    one = shown["members"][0]["grant_id"]
    assert live.as_("reviewer").delete(f"/api/v1/grants/{one}").status_code == 204
    assert fetch(before[0]) == 410
    left = pieces(live, shown["playlist_url"])
    assert {piece.url for piece in left} == {before[-1].url}
    told = live.as_("reviewer").get(f"/api/v1/grant-sets/{shown['set_id']}").json()
    assert [member["state"] for member in told["members"]] == ["ended", "ready"]
    path = f"/api/v1/grant-sets/{shown['set_id']}"
    assert live.as_("officer").get(path).status_code == 403
    assert live.as_("officer").delete(path).status_code == 403
    for _ in range(2):
        assert live.as_("reviewer").delete(path).status_code == 204
    assert fetch(before[-1]) == 410
    assert live.anyone.get(shown["playlist_url"]).status_code == 410
    assert live.as_("reviewer").get(path).status_code == 410
    for item in (first, second):
        assert len(live.scene.leaves(item.item_id, "grant:revoked")) == 1


def test_what_is_not_masked_yet_is_pending_and_not_in_the_playlist(live: Live) -> None:
    key = f"dock:{new_id()}"
    ready = film(live.scene, "CAM-P", CAPTURED, recording_key=key, case=live.scene.case_a)
    film(live.scene, "CAM-P", CAPTURED + timedelta(seconds=6), recording_key=key, case=live.scene.case_a,
         redacted=False)  # fmt: skip
    shown = ask(live, "reviewer", ready)
    assert [(member["state"], member["why"]) for member in shown["members"]] == [
        ("ready", None),
        ("pending", "redaction_pending"),
    ]
    found = pieces(live, shown["playlist_url"])
    assert {piece.url.rpartition("/")[2][: len(REDACTED_NAME)] for piece in found} == {REDACTED_NAME}
    assert sum(piece.duration_us for piece in found) == 6_000_000


@ON_ONE_DATABASE
def test_files_with_the_start_of_the_first_written_into_each_are_dated_once(live: Live) -> None:
    key = f"dock:{new_id()}"
    made = [
        film(live.scene, "CAM-S", CAPTURED, recording_key=key, sequence_no=number, case=live.scene.case_a)
        for number in (1, 2)
    ]
    found = pieces(live, ask(live, "reviewer", made[0])["playlist_url"])
    assert [piece.dated_at for piece in found if piece.dated_at is not None] == [CAPTURED]


@ON_ONE_DATABASE
def test_the_address_of_a_single_grant_opens_no_set_and_the_other_way_round(live: Live) -> None:
    (made,) = recording(live, case=live.scene.case_a)
    alone = live.grant("reviewer", made.item_id)["playlist_url"]
    together = ask(live, "reviewer", made)["playlist_url"]
    swapped = (alone.replace("index.m3u8", "lane-0/index.m3u8"), together.replace("lane-0/", ""))
    assert [live.anyone.get(url).status_code for url in swapped] == [404, 404]
    assert live.anyone.get(together.replace("lane-0", "lane-1")).json()["code"] == "rendition_missing"
    assert live.anyone.get(together.replace("lane-0", "lane-9")).status_code == 422


@ON_ONE_DATABASE
def test_while_a_file_is_being_made_what_comes_after_it_waits(live: Live) -> None:
    """What a player was told once must not change, so nothing is put in before what it knows."""
    key, scene = f"dock:{new_id()}", live.scene
    options = {"recording_key": key, "case": scene.case_a, "redacted": False}
    film(scene, "CAM-G", CAPTURED, **options)
    second = film(scene, "CAM-G", CAPTURED + timedelta(seconds=6), rendered=False, **options)
    film(scene, "CAM-G", CAPTURED + timedelta(seconds=12), **options)
    scratch, index = growing(scene, second)
    try:
        shown = ask(live, "legal_reviewer", second, variant="original", reason="急")
        url = urljoin(shown["playlist_url"], "rung-copy.m3u8")
        told = ""
        for whole, seconds in ((1, 6), (3, 8), (5, 10)):
            settle(scratch, index, whole)
            offered = read_multivariant(live.anyone.get(shown["playlist_url"]).raise_for_status().text)
            assert {each.url for each in offered if not each.is_of_keyframes} == {"rung-copy.m3u8"}
            text = live.anyone.get(url).raise_for_status().text
            found = goes_on(told, text)
            assert (found.kind, found.length_us) == ("EVENT", seconds * 1_000_000)
            told = text
        states = live.as_("legal_reviewer").get(f"/api/v1/grant-sets/{shown['set_id']}").json()["members"]
        assert [member["state"] for member in states] == ["ready", "growing", "ready"]
        # A worker died, and the next one begins anew: nothing is taken back, of the list by no name.
        settle(scratch, index, 2)
        for name in ("copy", "mixed"):
            moving = live.anyone.get(urljoin(url, f"rung-{name}.m3u8"))
            assert (moving.status_code, moving.json()["code"]) == (503, "rendition_settling")
    finally:
        shutil.rmtree(scratch)
    # The clock is read meanwhile; what was told of the first file stays, though it was whole.
    read_clock(scene, "CAM-G", CAPTURED + timedelta(hours=1), timedelta(seconds=7))
    job_done(scene, second)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == second.item_id)).one()
        film_of = reel(1)
        scene.derive(session, item, "rendition", film_of.rendition, film_of.info)
    found = goes_on(told, live.anyone.get(url).raise_for_status().text)
    assert (found.is_ended, found.length_us) == (True, 18_000_000)


@ON_ONE_DATABASE
def test_a_list_that_was_told_stays_when_other_rungs_come(live: Live) -> None:
    """The second file turns out to have other rungs: lists by either name have every file."""
    key, scene = f"dock:{new_id()}", live.scene
    options = {"recording_key": key, "case": scene.case_a, "redacted": False}
    film(scene, "CAM-R", CAPTURED, **options)
    second = film(scene, "CAM-R", CAPTURED + timedelta(seconds=6), rendered=False, **options)
    with scene.storage.database.transaction() as session:
        params = {"rungs": ["360p"], "may_copy": False}
        wanted = jobs.Wanted("rendition", "media", second.item_id, params=params)
        jobs.want(session, scene.agency.id, wanted, scene.clock.now())
    shown = ask(live, "legal_reviewer", second, variant="original", reason="急")
    url = urljoin(shown["playlist_url"], "rung-copy.m3u8")
    told = live.anyone.get(url).raise_for_status().text
    assert (goes_on("", told).kind, goes_on("", told).length_us) == ("EVENT", 6_000_000)
    job_done(scene, second)
    film_of = reel(2)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == second.item_id)).one()
        scene.derive(session, item, "rendition", film_of.rendition, {**film_of.info, "rung": "360p"})
    for name in ("copy", "360p", "mixed"):
        text = live.anyone.get(urljoin(url, f"rung-{name}.m3u8")).raise_for_status().text
        found = goes_on(told if name == "copy" else "", text)
        assert (found.is_ended, found.length_us) == (True, 12_000_000)
    offered = read_multivariant(live.anyone.get(shown["playlist_url"]).text)
    assert {each.url for each in offered if not each.is_of_keyframes} == {"rung-mixed.m3u8"}


def job_done(scene: Scene, recording: Recording) -> None:
    with scene.storage.database.transaction() as session:
        for job in session.scalars(select(Job).where(Job.subject_id == recording.item_id)):
            job.state = "done"


def captions(live: Live, url: str) -> list[list[str]] | None:
    """What is read beside each run of a playlist, with its times; None where there is no track."""
    address = urljoin(live.api_url, url)
    streams = [each for each in read_multivariant(text_of(live, address)) if not each.is_of_keyframes]
    if all(each.captions is None for each in streams):
        return None
    (listed,) = {each.captions for each in streams}
    told = read_media(text_of(live, urljoin(address, listed)), of_captions=True)
    shown = read_media(text_of(live, urljoin(address, streams[0].url)))
    assert told.length_us == shown.length_us
    runs: list[list[str]] = []
    for piece in told.pieces:
        answer = live.anyone.get(urljoin(urljoin(address, listed), piece.url))
        assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        lines = answer.text.splitlines()
        cues = [f"{time} {said}" for time, said in pairwise(lines) if " --> " in time]
        runs = [*runs, cues] if piece.is_discontinuous or not runs else [*runs[:-1], runs[-1] + cues]
    return runs


def text_of(live: Live, url: str) -> str:
    answer = live.anyone.get(url)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_markers_of_a_session_are_read_beside_its_footage_by_who_may_read_it(live: Live) -> None:
    scene, at = live.scene, [CAPTURED + timedelta(seconds=each) for each in range(20)]
    case = scene.open_case(f"示执罚〔2026〕{new_id().hex[-8:]}号", "handler")
    first, second = recording(live, 2, case=case)
    files = [(first.item_id, at[0], at[6]), (second.item_id, at[8], at[14])]
    markers = {at[2]: "出示证件 <李某>", at[7]: "between", at[9]: "", at[13]: "near its end"}
    # The last file goes on for half a second after the session.
    session_of(scene.storage, at[0], files, markers, case.id, at[13] + timedelta(seconds=0.5))
    one = ["00:00:02.000 --> 00:00:06.000 出示证件 &lt;李某&gt;"]
    two = ["00:00:01.000 --> 00:00:05.500 标记 marker", "00:00:05.000 --> 00:00:05.500 near its end"]
    both = [one, ["00:00:07.000 --> 00:00:11.500 标记 marker", "00:00:11.000 --> 00:00:11.500 near its end"]]
    original = {"variant": "original", "reason": "核对"}
    window = {"purpose": "case_handling", "from_at": at[0].isoformat(), "to_at": at[16].isoformat()}
    name = "handler"
    for more in ({}, original):
        # The words are free and no mask hides them: masked or not, who reads the session reads them.
        grant = live.grant(name, second.item_id, **more)
        assert captions(live, grant["variants_url"]) == captions(live, grant["playlist_url"]) == [two]
        assert captions(live, ask(live, name, first, **more)["playlist_url"]) == both
        part = live.grant(name, first.item_id, span={"from_us": 3_000_000, "to_us": 6_000_000}, **more)
        assert captions(live, part["variants_url"]) is None
    set_ = live.as_("handler").post(f"/api/v1/cases/{case.id}/aligned", json=window).json()
    (source,) = set_["sources"]
    assert "#EXTINF" in text_of(live, source["playlist_url"])
    assert captions(live, source["variants_url"]) == both
    for name in ("reviewer", "handler2"):
        grant = live.grant(name, first.item_id)
        assert captions(live, grant["variants_url"]) is None
        refused = live.anyone.get(urljoin(live.api_url + grant["variants_url"], "marks-redacted-0.vtt"))
        assert (refused.status_code, refused.json()["code"]) == (404, "nothing_here")
        lane = ask(live, name, first)["variants_url"]
        assert captions(live, lane) is None
        assert live.anyone.get(urljoin(live.api_url + lane, "marks-redacted.m3u8")).status_code == 404
