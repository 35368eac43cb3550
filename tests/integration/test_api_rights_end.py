"""How a right ends: at the next range, whatever ended it; and what is asked of the database meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url, select

from api.listener import MediaListener
from api.wire import Request
from storage.db.engine import Database
from storage.db.standstill import CommitMark
from storage.db.tables import Account, Item, Job
from storage.objects.base import Namespace
from tests.integration.test_api_viewing import get, ranges
from tests.support.scene import Live, live_scene


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("rights"), request.param) as live:
        yield live


def test_a_revoked_grant_is_gone_at_once(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    assert get(grant["file_url"], Range="bytes=0-1").status_code == 206
    assert live.as_("officer").delete(f"/api/v1/grants/{grant['grant_id']}").status_code == 403
    assert live.as_("reviewer").delete(f"/api/v1/grants/{grant['grant_id']}").status_code == 204
    assert get(grant["file_url"], Range="bytes=0-1").status_code == 410
    assert live.anyone.get(grant["playlist_url"]).status_code == 410
    assert len(live.scene.leaves(recording.item_id, "grant:revoked")) == 1


def test_a_grant_ends_with_its_time(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    live.scene.clock.advance(live.scene.settings.media.grant_s)
    try:
        assert get(grant["file_url"]).status_code == 410
        assert live.anyone.get(grant["playlist_url"]).status_code == 410
    finally:
        live.scene.clock.advance(-live.scene.settings.media.grant_s)


def test_a_new_plan_ends_what_was_shown(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    item = f"/api/v1/items/{recording.item_id}"
    grant = live.grant("reviewer", recording.item_id)
    assert live.anyone.get(grant["playlist_url"]).status_code == 200
    box = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": [[0, 10, 10, 60, 60, 0]]}
    body = {"base_number": 1, "changes": [box], "note": "遗漏一人"}
    answer = live.as_("legal_reviewer").post(f"{item}/redaction/plans", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["redaction"] == "proposed"
    assert answer.json()["plan"]["number"] == 2
    assert get(grant["file_url"]).status_code == 410
    pending = live.anyone.get(grant["playlist_url"])
    assert (pending.status_code, pending.json()["code"]) == (409, "redaction_pending")
    with scene.storage.database.read() as session:
        job = session.scalars(select(Job).where(Job.subject_id == recording.item_id)).one()
    assert (job.kind, job.queue, job.params["plan"]) == ("render", "media", 2)
    assert job.params["derivative"] == str(recording.derivatives["rendition"].id)
    second = live.as_("handler").post(f"{item}/redaction/plans", json=body)
    assert (second.status_code, second.json()["code"]) == (409, "plan_not_newest")
    assert len(scene.leaves(recording.item_id, "redaction_plan:amended")) == 1
    assert len(scene.leaves(recording.item_id, "derivative:withdrawn")) == 2
    versions = live.as_("reviewer").get(f"{item}/redaction/plans").json()
    assert [version["number"] for version in versions] == [1, 2]
    shown = live.as_("legal_reviewer").get(f"{item}/redaction/plans/2").json()
    assert len(shown["plan"]["tracks"]) == 1


def test_a_bad_change_leaves_everything_as_it_was(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    body = {"base_number": 1, "changes": [{"op": "explode"}], "note": "x"}
    answer = live.as_("handler").post(f"/api/v1/items/{recording.item_id}/redaction/plans", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "plan_invalid")
    assert get(grant["file_url"], Range="bytes=0-1").status_code == 206


def test_a_split_ends_the_grants_that_hung_on_the_binding(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    grant = live.grant("handler", recording.item_id, variant="original", reason="核对")
    within = live.grant("reviewer", recording.item_id, case_id=str(scene.case_a.id))
    (tied,) = live.as_("reviewer").get(f"/api/v1/items/{recording.item_id}/bindings").json()
    parts = [
        {"case_id": str(scene.case_a.id), "span": {"from_us": 0, "to_us": 3_000_000}},
        {"case_id": str(scene.case_b.id), "span": {"from_us": 3_000_000, "to_us": 6_000_000}},
    ]
    answer = live.as_("archivist").post(
        f"/api/v1/bindings/{tied['id']}/split", json={"parts": parts, "reason": "两案"}
    )
    assert answer.status_code == 201, answer.text
    assert get(grant["file_url"]).status_code == 410
    assert live.anyone.get(within["playlist_url"]).status_code == 410
    again = live.grant("handler", recording.item_id, variant="original", reason="核对")
    assert again["span_us"] == [0, 3_000_000]


def ranged(url: str) -> int:
    return get(url, Range="bytes=0-9").status_code


def test_every_way_a_right_ends_shows_at_the_next_range(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)

    def fresh() -> str:
        url = str(live.grant("reviewer", recording.item_id)["file_url"])
        assert [ranged(url) for _ in range(3)] == [206] * 3
        return url

    def change(act: Callable[[Item], None]) -> None:
        with scene.storage.database.transaction() as session:
            act(session.scalars(select(Item).where(Item.id == recording.item_id)).one())

    def lock(at: object) -> None:
        with scene.storage.database.transaction() as session:
            session.scalars(
                select(Account).where(Account.id == scene.accounts["reviewer"])
            ).one().disabled_at = at

    url = fresh()
    lock(scene.clock.now())
    assert ranged(url) == 410
    lock(None)
    assert ranged(url) == 206
    change(lambda item: setattr(item, "custody", "quarantined"))
    assert ranged(url) == 409
    change(lambda item: setattr(item, "custody", "verified"))
    assert ranged(url) == 206
    scene.clock.advance(scene.settings.media.grant_s)
    assert ranged(url) == 410
    scene.clock.advance(-scene.settings.media.grant_s)
    assert ranged(url) == 206


def test_a_commit_anywhere_changes_the_mark_and_a_reading_does_not(live: Live) -> None:
    database = live.scene.storage.database
    mark = CommitMark(database)

    def read_between() -> bool:
        before = mark.read()
        with database.read() as session:
            session.scalars(select(Item)).first()
        return mark.read() == before is not None

    # Other databases of the same PostgreSQL may commit meanwhile.
    assert any(read_between() for _ in range(20))
    before = mark.read()
    live.scene.record(case=live.scene.case_a)
    assert mark.read() != before
    mark.close()


def test_what_is_remade_in_its_place_is_what_is_sent_next(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    listed = live.anyone.get(
        live.grant("legal_reviewer", recording.item_id, variant="original", reason="核对")["playlist_url"]
    )
    url, _, _ = ranges(listed.text)[0]
    assert [ranged(url) for _ in range(2)] == [206] * 2
    remade = bytes(1000) + recording.item_id.bytes
    with scene.storage.database.transaction() as session:
        row = session.merge(recording.derivatives["rendition"])
        row.sha256, row.store_key = scene.put(remade, Namespace.DERIVATIVE)
        row.size_bytes = len(remade)
    answer = get(url)
    assert answer.content == remade
    assert answer.headers["etag"] == f'"{row.sha256.hex()}"'


def test_a_server_that_follows_another_gives_no_mark(live: Live) -> None:
    database = live.scene.storage.database
    if database.is_sqlite:
        # Nothing follows a file.
        assert CommitMark(database).read() is not None
        return
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA follows")
        connection.exec_driver_sql(
            "CREATE FUNCTION follows.pg_is_in_recovery() RETURNS boolean LANGUAGE sql AS 'SELECT true'"
        )
    path = {"options": "-csearch_path=follows,pg_catalog"}
    url = make_url(database.url).update_query_dict(path, append=True)
    following = Database(url.render_as_string(hide_password=False))
    mark = CommitMark(following)
    assert mark.read() is None
    mark.close()
    following.dispose()


def test_a_range_that_was_decided_asks_no_table_again(live: Live) -> None:
    """A hundred ranges of a player are one decision, as long as nothing is committed."""
    url = live.grant("reviewer", live.scene.record(case=live.scene.case_a).item_id)["file_url"]
    app = MediaListener(live.scene.storage, live.scene.settings.media)
    asked: list[bool] = []
    decide = app._make
    app._decisions._make = lambda token, name, taking: (asked.append(taking), decide(token, name, taking))[1]

    async def play() -> None:
        for _ in range(100):
            request = Request("GET", urlsplit(url).path, {"range": "bytes=0-1"})
            reply = app.at_once()(request) or await app(request)
            assert reply.status == 206
            assert reply.file is not None
            reply.file.close()

    asyncio.run(play())
    app.close()
    assert len(asked) == 1
