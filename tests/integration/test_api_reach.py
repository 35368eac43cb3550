"""Nobody widens what they may see: by binding, confirming, splitting, opening cases, or keeping addresses."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from api.desk import Desk, Installation, Work
from api.issuing import Variant, issue_grant
from api.routes.cases import change_case
from api.schemas.cases import CaseChange
from evidence.access import Actor
from evidence.custody import Action
from evidence.errors import NotPermitted
from evidence.ids import new_id
from evidence.kinds import ClaimSource, RetrievalPurpose, Role
from ingest import binding, register
from storage.db import cases, custody, grants, items
from storage.db.clip_tables import Clip
from storage.db.custody import Happening
from storage.db.tables import Case, Claim, Derivative, Grant, Item
from tests.support.scene import CAPTURED, CASE_A, Live, Recording, live_scene

Original = dict[str, Any]
WANTED: Original = {"purpose": "case_handling", "variant": "original", "reason": "核对"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("reach"), request.param) as live:
        yield live


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=20)


def asks_original(live: Live, name: str, target: Recording, **more: Any) -> httpx.Response:
    return live.as_(name).post(f"/api/v1/items/{target.item_id}/grants", json={**WANTED, **more})


def bind(live: Live, name: str, target: Recording, case_no: str, **more: Any) -> httpx.Response:
    body = {"case_no": case_no, "reason": "同一现场", **more}
    return live.as_(name).post(f"/api/v1/items/{target.item_id}/bindings", json=body)


def tied(live: Live, target: Recording) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = live.as_("archivist").get(f"/api/v1/items/{target.item_id}/bindings").json()
    return [row for row in found if row["ended_at"] is None]


def unbind(live: Live, name: str, binding_id: str) -> httpx.Response:
    return live.as_(name).request("DELETE", f"/api/v1/bindings/{binding_id}", json={"reason": "误关联"})


def change(live: Live, target: Recording, **facts: Any) -> None:
    with live.scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == target.item_id)).one()
        for name, value in facts.items():
            setattr(item, name, value)


def number() -> str:
    return f"示执罚〔2026〕{new_id().hex[-8:].upper()}号"


# What a handler ties gives that handler nothing.


def test_an_ended_binding_confirms_nothing(live: Live) -> None:
    target = live.scene.record(case=live.scene.case_a)
    (row,) = tied(live, target)
    assert unbind(live, "archivist", row["id"]).status_code == 200
    assert bind(live, "handler", target, CASE_A).status_code == 201
    assert asks_original(live, "handler", target).status_code == 403


def test_a_case_opened_in_the_past_for_another_officer_gives_nothing(live: Live) -> None:
    """The pipeline suggests it, its opener confirms it: still nobody else tied the item there."""
    scene = live.scene
    target = scene.record(officer_no="330102")
    opened = live.as_("handler").post(
        "/api/v1/cases",
        json={"case_no": number(), "officer_no": "330102",
              "opened_at": (CAPTURED - timedelta(days=1)).isoformat()},
    )  # fmt: skip
    assert opened.status_code == 201, opened.text
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == target.item_id)).one()
        made = binding.bind_by_claims(session, scene.agency, item, scene.clock.now())
        assert made is not None
        assert made.state == "suggested"
        assert str(made.case_id) == opened.json()["id"]
    assert bind(live, "handler", target, opened.json()["case_no"]).status_code == 201
    assert asks_original(live, "handler", target).status_code == 403
    with scene.storage.database.transaction() as session:
        session.scalars(select(Case).where(Case.case_no == opened.json()["case_no"])).one().officer_no = None


def test_a_span_somebody_gave_is_not_widened_by_a_whole_binding(live: Live) -> None:
    scene = live.scene
    target = scene.record(spans=[(scene.case_a, 0, 2_000_000)])
    assert bind(live, "handler", target, CASE_A).status_code == 201
    grant = asks_original(live, "handler", target)
    assert grant.status_code == 201, grant.text
    assert grant.json()["span_us"] == [0, 2_000_000]
    wider = asks_original(live, "handler", target, span={"from_us": 0, "to_us": 3_000_000})
    assert (wider.status_code, wider.json()["code"]) == (403, "span_not_permitted")


# Whose case it is.


def test_another_handler_neither_changes_nor_closes_a_case(live: Live) -> None:
    path = f"/api/v1/cases/{live.scene.case_b.id}"
    for body in ({"cause": "别的"}, {"closed_at": "2026-03-04T09:00:00+08:00"}, {"officer_no": "330101"}):
        answer = live.as_("handler").patch(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "case_not_yours")
    assert live.as_("handler2").patch(path, json={"cause": "占道"}).status_code == 200
    assert live.as_("archivist").patch(path, json={"cause": "占道经营"}).status_code == 200


def test_another_handler_neither_ends_nor_splits_nor_adds_a_binding(live: Live) -> None:
    scene = live.scene
    target = scene.record(case=scene.case_a)
    (row,) = tied(live, target)
    parts = [
        {"case_id": str(scene.case_b.id), "span": {"from_us": 0, "to_us": 3_000_000}},
        {"case_id": str(scene.case_a.id), "span": {"from_us": 3_000_000, "to_us": 6_000_000}},
    ]
    body = {"parts": parts, "reason": "x"}
    tries = [
        unbind(live, "handler2", row["id"]),
        live.as_("handler2").post(f"/api/v1/bindings/{row['id']}/split", json=body),
        bind(live, "handler2", target, scene.case_b.case_no),
        live.as_("handler2").put(
            f"/api/v1/items/{target.item_id}/facts", json={"case_no": scene.case_b.case_no}
        ),
    ]
    codes = [(answer.status_code, answer.json()["code"]) for answer in tries]
    assert codes == [*[(403, "case_not_yours")] * 3, (403, "facts_not_yours")]
    assert bind(live, "handler", target, scene.case_b.case_no).status_code == 201


def test_facts_are_stated_by_whoever_has_the_case_recorded_it_or_keeps_the_archive(live: Live) -> None:
    scene = live.scene
    of_a = scene.record(case=scene.case_a)
    of_both = scene.record(spans=[(scene.case_a, 0, 2_000_000), (scene.case_b, 2_000_000, 5_000_000)])
    nobodys = scene.record(case=scene.case_a, officer_no=None)
    loose = scene.record()
    expected = [
        (of_a, {"officer", "handler", "archivist"}),
        (of_both, {"officer", "archivist"}),
        (nobodys, {"handler", "archivist"}),
        (loose, {"officer", "handler", "handler2", "archivist"}),
    ]
    for target, permitted in expected:
        path = f"/api/v1/items/{target.item_id}"
        for name in ("officer", "officer2", "handler", "handler2", "archivist"):
            answer = live.as_(name).put(f"{path}/facts", json={"object_of_proof": f"由{name}填写"})
            if name in permitted:
                assert answer.status_code == 200, (name, answer.text)
                assert answer.json()["facts"]["object_of_proof"] == f"由{name}填写"
            else:
                assert (answer.status_code, answer.json()["code"]) == (403, "facts_not_yours"), name


# Masked, too, only what a case has.


def test_without_a_case_the_seconds_of_no_case_are_not_shown(live: Live) -> None:
    scene = live.scene
    target = scene.record(spans=[(scene.case_a, 0, 2_000_000)])
    grant = live.grant("reviewer", target.item_id)
    assert (grant["span_us"], grant["file_url"]) == ([0, 2_000_000], None)
    outside = {"purpose": "case_handling", "span": {"from_us": 2_000_000, "to_us": 5_000_000}}
    answer = live.as_("reviewer").post(f"/api/v1/items/{target.item_id}/grants", json=outside)
    assert (answer.status_code, answer.json()["code"]) == (403, "span_not_permitted")
    assert live.grant("archivist", target.item_id)["span_us"] is None


@pytest.mark.parametrize(("at_us", "is_shown"), [(None, False), (1_000_000, True), (2_000_000, False)])
def test_a_masked_poster_is_of_the_span_or_a_placeholder(
    live: Live, at_us: int | None, is_shown: bool
) -> None:
    scene = live.scene
    target = scene.record(spans=[(scene.case_a, 0, 2_000_000)])
    with scene.storage.database.transaction() as session:
        row = session.get(Derivative, target.derivatives["redacted_poster"].id)
        assert row is not None
        row.info = {} if at_us is None else {"at_us": at_us}
    path = f"/api/v1/items/{target.item_id}/poster"
    assert (live.as_("reviewer").get(path).headers["content-type"] == "image/jpeg") is is_shown
    assert live.as_("archivist").get(path).headers["content-type"] == "image/jpeg"


def test_a_split_ends_grants_of_the_item_that_named_no_case(live: Live) -> None:
    scene = live.scene
    target = scene.record(case=scene.case_a)
    grant = live.grant("reviewer", target.item_id)
    (row,) = tied(live, target)
    parts = [
        {"case_id": str(scene.case_a.id), "span": {"from_us": 0, "to_us": 2_000_000}},
        {"case_id": str(scene.case_b.id), "span": {"from_us": 2_000_000, "to_us": 3_000_000}},
    ]
    body = {"parts": parts, "reason": "两案"}
    assert live.as_("handler").post(f"/api/v1/bindings/{row['id']}/split", json=body).status_code == 201
    assert get(grant["file_url"]).status_code == 410
    # Who split it gave themselves nothing; the archive confirms.
    assert asks_original(live, "handler", target).status_code == 403


# Addresses of clips die with the right.


def cut(live: Live, name: str, target: Recording, variant: str, case: Case) -> str:
    """The address of a clip of the whole item that was cut for somebody."""
    scene = live.scene
    body = {"case_id": str(case.id), "item_id": str(target.item_id), "form": "file", "variant": variant,
            "reason": "核对"}  # fmt: skip
    answer = live.as_(name).post("/api/v1/clips", json=body)
    assert answer.status_code == 202, answer.text
    clip_id = answer.json()["clip_id"]
    with scene.storage.database.transaction() as session:
        clip = session.scalars(select(Clip).where(Clip.account_id == scene.accounts[name])
                               .order_by(Clip.id.desc()).limit(1)).one()  # fmt: skip
        item = session.scalars(select(Item).where(Item.id == target.item_id)).one()
        made = scene.derive(session, item, "clip", b"cut " + clip.id.bytes, {},
                             masked=variant == "redacted", params={"clip": str(clip.id)})  # fmt: skip
        clip.derivative_id = made.id
        assert str(clip.id) == clip_id
    url: str = live.as_(name).get(f"/api/v1/clips/{clip_id}").json()["file_url"]
    assert get(url).status_code == 200
    return url


def test_unbinding_ends_the_addresses_of_clips(live: Live) -> None:
    scene = live.scene
    target = scene.record(case=scene.case_a)
    urls = [cut(live, "handler", target, "original", scene.case_a),
            cut(live, "reviewer", target, "redacted", scene.case_a)]  # fmt: skip
    (row,) = tied(live, target)
    assert unbind(live, "handler", row["id"]).status_code == 200
    assert [get(url).status_code for url in urls] == [410, 410]


def test_handing_a_case_over_ends_the_address_of_a_clip_of_the_original(live: Live) -> None:
    scene = live.scene
    case = scene.open_case(number(), "handler")
    target = scene.record(case=case)
    url = cut(live, "handler", target, "original", case)
    handed = live.as_("archivist").patch(f"/api/v1/cases/{case.id}", json={"handler": "handler2"})
    assert handed.status_code == 200
    assert get(url).status_code == 410


# Quarantine.


@pytest.mark.parametrize("state", ["received", "quarantined"])
def test_of_an_item_that_is_not_verified_nothing_masked_is_shown(live: Live, state: str) -> None:
    scene = live.scene
    target = scene.record(case=scene.case_a)
    grant = live.grant("reviewer", target.item_id)
    url = cut(live, "reviewer", target, "redacted", scene.case_a)
    change(live, target, custody=state)
    for path, body in (
        (f"/api/v1/items/{target.item_id}/grants", {"purpose": "supervision"}),
        ("/api/v1/clips", {"case_no": CASE_A, "item_id": str(target.item_id), "form": "file"}),
    ):
        answer = live.as_("reviewer").post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "item_not_verified")
    assert get(grant["file_url"]).status_code == 409
    assert live.anyone.get(grant["playlist_url"]).status_code == 409
    assert get(url).status_code == 410
    poster = live.as_("reviewer").get(f"/api/v1/items/{target.item_id}/poster")
    assert poster.headers["x-liuhen-state"] == "pending"


def test_the_original_of_a_quarantined_item_says_so(live: Live) -> None:
    target = live.scene.record(case=live.scene.case_a)
    assert asks_original(live, "handler", target).json()["quarantined"] is False
    change(live, target, custody="quarantined")
    assert asks_original(live, "handler", target).json()["quarantined"] is True
    assert asks_original(live, "handler2", target).status_code == 403


# What a device said.


def test_where_and_with_what_it_was_recorded_is_for_holders_of_the_right(live: Live) -> None:
    scene = live.scene
    target = scene.record(case=scene.case_a)
    said = {"location": "+29.5630+106.5516/", "device_model": "DSJ-X9 secret", "stage": "investigation"}
    with scene.storage.database.transaction() as session:
        for field, value in said.items():
            session.add(Claim(agency_id=scene.agency.id, item_id=target.item_id, field=field, value=value,
                              source=str(ClaimSource.CONTAINER), made_at=scene.clock.now()))  # fmt: skip
        received = Happening(Action.ITEM_RECEIVED, "item", str(target.item_id), "dock:D1", {},
                             private={"metadata": dict(said)})  # fmt: skip
        custody.record(session, scene.agency, received, scene.clock.now())
    path = f"/api/v1/items/{target.item_id}"
    for name, is_holder in (("reviewer", False), ("handler2", False), ("handler", True), ("officer", True)):
        text = live.as_(name).get(f"{path}/claims").text + live.as_(name).get(f"{path}/custody").text
        for field in ("location", "device_model"):
            assert (said[field] in text) is is_holder, (name, field)
        shown = {row["field"]: row for row in live.as_(name).get(f"{path}/claims").json()}
        assert shown["stage"]["value"] == "investigation"
        assert shown["location"]["hidden"] is not is_holder
        assert shown["location"]["source"] == "container"


# A case changes hands at the very moment something is asked for because of its handler.


def desk_of(live: Live, name: str) -> Desk:
    scene = live.scene
    agency = scene.agency
    actor = Actor(scene.accounts[name], agency.id, agency.code, name, frozenset({Role(name)}))
    return Desk(Installation(scene.storage, scene.settings), actor)


def ask_through(work: Work, target: Recording) -> Grant:
    item = items.item_by_id(work.session, work.agency_id, target.item_id, lock=True)
    return issue_grant(
        work, item, Variant.ORIGINAL,
        purpose=RetrievalPurpose.CASE_HANDLING, reason="核对", case=None, asked=None,
    )  # fmt: skip


def test_a_handover_beside_a_grant_being_issued_ends_it(live: Live) -> None:
    scene = live.scene
    case = scene.open_case(number(), "handler")
    target = scene.record(case=case)
    with ThreadPoolExecutor(1) as beside:
        with desk_of(live, "handler").writing() as work:
            grant = ask_through(work, target)
            handover = beside.submit(
                change_case, case.id, CaseChange(handler="handler2"), desk_of(live, "archivist")
            )
            # Long enough for a handover that does not wait to be over before the grant is committed.
            wait([handover], timeout=1.0)
            assert not handover.done()
        assert handover.result(timeout=20).handler_id == scene.accounts["handler2"]
    with scene.storage.database.read() as session:
        assert grants.grant_by_id(session, scene.agency.id, grant.id).revoked_at is not None


def test_a_grant_asked_for_beside_a_handover_is_not_issued(live: Live) -> None:
    scene = live.scene
    case = scene.open_case(number(), "handler")
    target = scene.record(case=case)

    def ask() -> Grant:
        with desk_of(live, "handler").writing() as work:
            return ask_through(work, target)

    with ThreadPoolExecutor(1) as beside:
        with desk_of(live, "archivist").writing() as work:
            held = cases.case_by_id(work.session, work.agency_id, case.id, lock=True)
            changes = {"handler_id": scene.accounts["handler2"]}
            register.change_case(work.session, work.agency, held, changes, actor="test", now=work.now)
            work.session.flush()
            asked = beside.submit(ask)
            wait([asked], timeout=1.0)
            assert not asked.done()
        with pytest.raises(NotPermitted):
            asked.result(timeout=20)
