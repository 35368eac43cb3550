"""Deny unless allowed, and invariant 7, over every route of the running API."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.app import GATES
from api.auth.gate import DECLARED, GuardedRoute, Open
from api.resolving import masked_name
from evidence.access import Act, Actor, may
from evidence.kinds import ClaimSource, Role
from storage.db import cases, items
from storage.db.tables import Claim
from tests.support.scene import CASE_A, CASE_B, PASSWORD, Live, Recording, live_scene, reel


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("access")) as live:
        yield live


@pytest.fixture(scope="module")
def recording(live: Live) -> Recording:
    return live.scene.record(case=live.scene.case_a)


@pytest.fixture(scope="module")
def unmasked(live: Live) -> Recording:
    """An item whose masked rendition is not there yet."""
    return live.scene.record(seed=2, case=live.scene.case_b, redacted=False)


def operations(live: Live) -> list[tuple[str, str, str]]:
    """Method, path template and declaration of everything in the OpenAPI document."""
    document = live.anyone.get("/api/v1/openapi.json").json()
    return [
        (method.upper(), path, operation[DECLARED])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def filled(live: Live, recording: Recording, path: str) -> str:
    with live.scene.storage.database.read() as session:
        tied = cases.bindings_of(session, live.scene.agency.id, recording.item_id)
    values = {
        "binding_id": tied[0].id if tied else recording.item_id,
        "case_id": live.scene.case_a.id,
        "item_id": recording.item_id,
        "number": 1,
        "name": "copy",
        "token": "A" * 106,
    }
    return re.sub(r"\{(\w+)\}", lambda match: str(values.get(match[1], recording.item_id)), path)


def test_the_document_and_the_gates_list_the_same_routes(live: Live) -> None:
    gated = {
        (method, route.path)
        for gate in GATES
        for route in gate.router.routes
        if isinstance(route, GuardedRoute) and route.include_in_schema
        for method in route.methods
    }
    assert {(method, path) for method, path, _ in operations(live)} == gated


def test_without_a_token_every_guarded_route_answers_401(live: Live, recording: Recording) -> None:
    guarded = [entry for entry in operations(live) if entry[2] not in {Open.ANYONE, Open.CAPABILITY}]
    assert len(guarded) > 40
    for method, path, _ in guarded:
        answer = live.anyone.request(method, filled(live, recording, path))
        assert answer.status_code == 401, (method, path, answer.text)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("token", ["x", "lhs_" + "A" * 43, "A" * 5000])
def test_a_token_nobody_issued_opens_nothing(live: Live, token: str) -> None:
    answer = live.anyone.get("/api/v1/cases", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("role", list(Role))
def test_a_role_without_the_act_is_refused_before_anything_is_looked_at(
    live: Live, recording: Recording, role: Role
) -> None:
    actor = Actor(recording.item_id, recording.item_id, "demo", "x", frozenset({role}))
    acts = {str(act): act for act in Act}
    tried = 0
    for method, path, declared in operations(live):
        if declared in acts and not may(actor, acts[declared]):
            body = {} if method in {"POST", "PUT", "PATCH"} else None
            answer = live.as_(str(role)).request(method, filled(live, recording, path), json=body)
            assert answer.status_code == 403, (method, path, answer.text)
            assert answer.json()["code"] == "not_permitted"
            tried += 1
    assert tried > 5


def secrets_of(recording: Recording, seed: int) -> list[bytes]:
    """Bytes that only holders of the right to the original may meet."""
    found = []
    for kind in ("rendition", "poster", "awaiting", "awaiting_poster"):
        if kind not in recording.derivatives:
            continue
        row = recording.derivatives[kind]
        found += [row.sha256.hex().encode(), str(row.id).encode(), row.store_key.encode()]
    film = reel(seed)
    middle = film.index.fragments[2]
    found.append(film.rendition[middle.offset_bytes + 400 : middle.offset_bytes + 432])
    found.append(film.original[3000:3032])
    return [*found, b"rendition-copy", b"/original", b"poster.jpg"]


def held_secrets(recording: Recording, seed: int) -> list[bytes]:
    """What only an approver may meet of a rendition that waits: its names and a stretch of its bytes."""
    film = reel(seed)
    middle = film.index.fragments[2]
    names = [masked_name(recording.derivatives[kind]).encode() for kind in ("awaiting", "awaiting_poster")]
    return [*names, film.rendition[middle.offset_bytes + 400 : middle.offset_bytes + 432]]


BODIES: dict[tuple[str, str], list[dict[str, Any]]] = {
    ("POST", "/api/v1/items/{item_id}/grants"): [
        {"purpose": "supervision"},
        {"purpose": "supervision", "variant": "original", "reason": "x"},
        {"purpose": "supervision", "variant": "original"},
        {"purpose": "supervision", "variant": "awaiting", "reason": "x"},
        {"purpose": "supervision", "variant": "awaiting"},
        {"purpose": "supervision", "span": {"from_us": 0, "to_us": 3000000}},
    ],
    ("POST", "/api/v1/clips"): [
        {"case_no": CASE_A},
        {"case_no": CASE_A, "form": "file"},
        {"case_no": CASE_A, "variant": "original", "reason": "x"},
        {"case_no": CASE_A, "variant": "awaiting", "reason": "x"},
        {"case_no": CASE_A, "variant": "awaiting", "reason": "x", "form": "file"},
        {"case_no": CASE_A, "variant": "original", "reason": "x", "form": "file"},
    ],
    ("POST", "/api/v1/items/{item_id}/redaction/plans"): [
        {
            "base_number": 1,
            "changes": [{"op": "mask_frames", "from_pts": 0, "to_pts": 9, "reason": "minor"}],
            "note": "x",
        },
    ],
    ("POST", "/api/v1/items/{item_id}/redaction/approve"): [{"number": 1}],
    ("POST", "/api/v1/items/{item_id}/redaction/plans/{number}/restore"): [{"base_number": 1, "note": "x"}],
    ("POST", "/api/v1/items/{item_id}/redaction/plans/{number}/preview"): [
        {"grant_id": "00000000-0000-7000-8000-000000000000", "at_us": 0},
    ],
    ("POST", "/api/v1/items/{item_id}/bindings"): [
        {"case_no": CASE_A, "reason": "x"},
        {"case_no": CASE_B, "reason": "x"},
    ],
    ("DELETE", "/api/v1/bindings/{binding_id}"): [{"reason": "x"}],
    ("PATCH", "/api/v1/cases/{case_id}"): [
        {"cause": "x"},
        {"handler": "handler2"},
        {"closed_at": "2026-03-09T00:00:00Z"},
    ],
    ("PUT", "/api/v1/items/{item_id}/facts"): [
        {"captured_place": "某路1号"},
        {"collector": "330102"},
        {"case_no": CASE_B},
    ],
}
ADDRESS = re.compile(r'(?:https?://[^"\s]+/m/|/api/v1/playlists/|/api/v1/items/)[^"\s]+')
LOCATION = "+29.5630+106.5516/"
ROUTE = b'{"type":"LineString","coordinates":[[106.5516,29.563],[106.5517,29.564]]}'
WALKERS = ("reviewer", "officer2", "handler2", "system_admin", "security_officer", "auditor")


def say(live: Live, recording: Recording, field: str, value: str) -> None:
    """What a container says of the item."""
    with live.scene.storage.database.transaction() as session:
        session.add(
            Claim(
                agency_id=live.scene.agency.id,
                item_id=recording.item_id,
                field=field,
                value=value,
                source=str(ClaimSource.CONTAINER),
                made_at=live.scene.clock.now(),
            )
        )


def walked(live: Live, recording: Recording) -> list[bytes]:
    """Give the item a route; what of it must stay unknown."""
    body = ROUTE + str(recording.item_id).encode()
    with live.scene.storage.database.transaction() as session:
        item = items.item_by_id(session, live.scene.agency.id, recording.item_id)
        row = live.scene.derive(session, item, "track", body, {"point_count": 2})
    return [ROUTE, row.sha256.hex().encode(), str(row.id).encode(), row.store_key.encode(), b"track.geojson"]


@pytest.mark.parametrize("name", WALKERS)
def test_no_unmasked_byte_reaches_a_person_without_the_right(live: Live, name: str) -> None:
    """Every route with every body we know, then every address in every answer (invariant 7)."""
    scene = live.scene
    for seed, redacted, awaiting in ((1, True, None), (2, False, None), (1, True, 3)):
        target = scene.record(seed=seed, case=scene.case_a, redacted=redacted)
        if awaiting is not None:
            scene.hold_back(target, awaiting)
        held = held_secrets(target, awaiting) if awaiting is not None else []
        forbidden = [*held, *secrets_of(target, seed), LOCATION.encode(), *walked(live, target)]
        for field in ("location", "location_last", "location_bounds"):
            say(live, target, field, LOCATION)
        say(live, target, "location", "+29.6630+106.5516/")
        client = live.as_(name)
        seen: list[tuple[str, httpx.Response]] = []
        for method, path, declared in operations(live):
            if path == "/api/v1/sessions/current" or path.endswith("/events"):
                continue
            if declared == Act.READ_CUSTODY:
                # Leaves are shown whole, since they are what is hashed; a digest opens nothing.
                continue
            for body in BODIES.get((method, path), [{}]):
                given = {"item_id": str(target.item_id), **body} if path == "/api/v1/clips" else body
                sent = given if method not in {"GET", "DELETE"} or given else None
                params = {"case_no": CASE_A} if method == "GET" and path == "/api/v1/clips" else None
                answer = client.request(method, filled(live, target, path), json=sent, params=params)
                assert answer.status_code < 500, (method, path, answer.text)
                seen.append((f"{method} {path}", answer))
        followed = set()
        for _, answer in list(seen):
            for url in re.findall(
                r'(?:https?://[^"\s]+/m/|/api/v1/playlists/|/api/v1/items/)[^"\s]+', answer.text
            ):
                if url not in followed:
                    followed.add(url)
                    seen.append((url, client.get(url)))
        with scene.storage.database.read() as session:
            tied = cases.bindings_of(session, scene.agency.id, target.item_id)
            plan = items.newest_plan(session, scene.agency.id, target.item_id)
        assert [(row.case_id, row.author) for row in tied] == [(scene.case_a.id, "system")], name
        assert plan is None or plan.number == (1 if awaiting is None else 2), name
        assert plan is None or plan.approved_at is None, name
        assert live.as_("archivist").get(f"/api/v1/cases/{scene.case_a.id}").json()["is_open"]
        for where, answer in seen:
            for secret in forbidden:
                assert secret not in answer.content, (name, where, secret)


def test_an_officer_cannot_make_themselves_the_collector(live: Live) -> None:
    target = live.scene.record(seed=1, officer_no="330101")
    path, body = f"/api/v1/items/{target.item_id}", {"collector": "330102"}
    refused = live.as_("officer2").put(f"{path}/facts", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "facts_not_yours")
    # Who recorded it says so, and gives nothing away: what machines said stands.
    assert live.as_("officer").put(f"{path}/facts", json=body).status_code == 200
    wanted = {"purpose": "case_handling", "variant": "original", "reason": "mine"}
    assert live.as_("officer2").put(f"{path}/facts", json={"collector": "330102"}).status_code == 403
    assert live.as_("officer2").post(f"{path}/grants", json=wanted).status_code == 403
    assert live.as_("officer").post(f"{path}/grants", json=wanted).status_code == 201


def test_naming_oneself_where_nobody_is_named_gives_no_right(live: Live) -> None:
    target = live.scene.record(seed=1, officer_no=None)
    path = f"/api/v1/items/{target.item_id}"
    assert live.as_("officer2").put(f"{path}/facts", json={"collector": "330102"}).status_code == 200
    wanted = {"purpose": "case_handling", "variant": "original", "reason": "mine"}
    assert live.as_("officer2").post(f"{path}/grants", json=wanted).status_code == 403
    # It is said to be somebody's now: theirs to complete, nobody else's.
    assert live.as_("officer").put(f"{path}/facts", json={"captured_place": "x"}).status_code == 403
    assert live.as_("officer2").put(f"{path}/facts", json={"captured_place": "x"}).status_code == 200


def test_a_handler_cannot_bind_themselves_a_right(live: Live) -> None:
    target = live.scene.record(seed=1)
    client = live.as_("handler")
    bound = client.post(
        f"/api/v1/items/{target.item_id}/bindings", json={"case_no": CASE_A, "reason": "belongs here"}
    )
    assert bound.status_code == 201
    body = {"purpose": "case_handling", "variant": "original", "reason": "mine"}
    assert client.post(f"/api/v1/items/{target.item_id}/grants", json=body).status_code == 403


def test_a_handler_cannot_take_a_case_from_another(live: Live) -> None:
    client = live.as_("handler")
    answer = client.patch(f"/api/v1/cases/{live.scene.case_b.id}", json={"handler": "handler"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "case_not_yours"


def test_a_handed_over_case_ends_what_its_handler_saw(live: Live) -> None:
    scene = live.scene
    case = scene.open_case("示执罚〔2026〕77号", "handler")
    target = scene.record(seed=1, case=case)
    grant = live.grant("handler", target.item_id, variant="original", reason="核对")
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 200
    done = live.as_("archivist").patch(f"/api/v1/cases/{case.id}", json={"handler": "handler2"})
    assert done.status_code == 200
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 410


def test_a_disabled_account_loses_session_and_grants_at_once(live: Live, recording: Recording) -> None:
    scene = live.scene
    opened = live.as_("security_officer").post(
        "/api/v1/accounts",
        json={"username": "leaving", "display_name": "离职", "password": PASSWORD, "roles": ["reviewer"]},
    )
    assert opened.status_code == 201
    live.choose_password("leaving")
    grant = live.grant("leaving", recording.item_id)
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 200
    account_id = opened.json()["id"]
    assert live.as_("security_officer").post(f"/api/v1/accounts/{account_id}/disable").status_code == 200
    assert live.as_("leaving").get("/api/v1/me").status_code == 401
    assert httpx.get(grant["file_url"], trust_env=False).status_code == 410
    assert live.anyone.get(grant["playlist_url"]).status_code == 410
    assert scene.leaves(account_id, "account:changed")


def test_every_answer_carries_the_security_headers(live: Live) -> None:
    for path in ("/", "/api/v1/me", "/nothing", "/static/page.js", "/docs"):
        headers = live.anyone.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_a_body_over_the_limit_is_refused(live: Live) -> None:
    answer = live.as_("handler").post("/api/v1/cases", content=b" " * ((1 << 20) + 1))
    assert answer.status_code == 413


def test_a_chunked_body_over_the_limit_is_refused(live: Live) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 16)

    answer = live.as_("handler").post(
        "/api/v1/cases", content=body(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_malformed_json_is_a_problem(live: Live) -> None:
    answer = live.as_("handler").post(
        "/api/v1/cases", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["code"] == "request_malformed"


def test_an_unknown_address_and_a_wrong_method_are_problems(live: Live) -> None:
    assert live.anyone.get("/api/v1/nothing").json()["code"] == "not_found"
    assert live.anyone.put("/api/v1/me").json()["code"] == "method_not_allowed"


def test_metrics_are_for_this_machine_alone(live: Live) -> None:
    assert "liuhen_api_requests_total" in live.anyone.get("/metrics").text
    assert live.anyone.get("/metrics", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 404


def test_huge_headers_do_not_reach_a_route(live: Live) -> None:
    answer = live.anyone.get("/api/v1/me", headers={"X-Long": "x" * 40_000})
    assert answer.status_code == 431


def test_a_wrong_password_is_refused_recorded_and_in_the_end_locked(live: Live) -> None:
    scene = live.scene
    for _ in range(scene.settings.api.login_attempts):
        answer = live.anyone.post("/api/v1/sessions", json={"username": "archivist", "password": "wrong"})
        assert answer.status_code == 401
    # One leaf for the whole window, about the account, with no word that was typed.
    (leaf,) = scene.leaves(scene.accounts["archivist"], "session:refused")
    assert "archivist" not in json.dumps(leaf)
    right = {"username": "archivist", "password": PASSWORD}
    assert live.anyone.post("/api/v1/sessions", json=right).status_code == 401
    scene.clock.advance(16 * 60)
    assert live.anyone.post("/api/v1/sessions", json=right).status_code == 201
    assert scene.leaves(scene.accounts["archivist"], "session:opened")


def test_nobody_learns_whether_a_name_exists(live: Live) -> None:
    known = live.anyone.post("/api/v1/sessions", json={"username": "auditor", "password": "wrong"})
    unknown = live.anyone.post("/api/v1/sessions", json={"username": "nobody", "password": "wrong"})
    assert known.json() == unknown.json()


def test_a_session_ends_when_it_is_signed_out_of(live: Live) -> None:
    token = live.anyone.post("/api/v1/sessions", json={"username": "reviewer", "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {token['token']}"}
    assert live.anyone.get("/api/v1/me", headers=headers).json()["roles"] == ["reviewer"]
    assert live.anyone.delete("/api/v1/sessions/current", headers=headers).status_code == 204
    assert live.anyone.get("/api/v1/me", headers=headers).status_code == 401


def test_half_a_request_takes_nothing_down(live: Live) -> None:
    host, port = live.scene.settings.api.host, live.scene.settings.api.port
    for fragment in (
        b"",
        b"GET /",
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
    ):
        with socket.create_connection((host, port)) as peer:
            peer.sendall(fragment)
    assert live.anyone.get("/healthz").text == "ok\n"


def test_the_openapi_document_is_complete(live: Live) -> None:
    document = live.anyone.get("/api/v1/openapi.json").json()
    text = json.dumps(document)
    assert "examples" in text
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            assert re.search(r"[一-龥]", operation["tags"][0] + operation["summary"])
