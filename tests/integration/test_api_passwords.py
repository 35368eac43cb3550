"""Guessing passwords hurts nobody else and leaves no trace of what was typed; people choose their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import select

from api.auth import throttle
from api.auth.throttle import Throttle
from evidence.errors import Unavailable
from storage.db.tables import Agency, CustodyLeaf
from tests.support.scene import PASSWORD, Live, live_scene

OWN = "entirely my own words"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("passwords"), request.param) as live:
        yield live


def sign_in(live: Live, name: str, password: str) -> httpx.Response:
    return live.anyone.post("/api/v1/sessions", json={"username": name, "password": password})


def guess(live: Live, statuses: list[int], stop: threading.Event) -> None:
    with httpx.Client(base_url=live.api_url, timeout=30, trust_env=False) as client:
        while not stop.is_set():
            body = {"username": "auditor", "password": "wrong"}
            statuses.append(client.post("/api/v1/sessions", json=body).status_code)
            # More of them than the server has threads, without taking the test's own cores.
            stop.wait(1)


def test_guessing_in_parallel_holds_up_neither_reads_nor_writes(live: Live) -> None:
    assert live.as_("handler").get("/api/v1/me").status_code == 200
    statuses: list[int] = []
    stop = threading.Event()
    guessers = [threading.Thread(target=guess, args=(live, statuses, stop)) for _ in range(45)]
    for one in guessers:
        one.start()
    try:
        time.sleep(1)
        slowest = 0.0
        for number in range(3):
            began = time.monotonic()
            assert live.as_("handler").get("/api/v1/cases").status_code == 200
            body = {"case_no": f"示执罚〔2026〕7{number}号"}
            assert live.as_("handler").post("/api/v1/cases", json=body).status_code == 201
            slowest = max(slowest, time.monotonic() - began)
    finally:
        stop.set()
        for one in guessers:
            one.join()
    assert slowest < 8
    assert set(statuses) <= {401, 429, 503}
    assert 503 in statuses or 429 in statuses
    live.forgive()


def test_an_unknown_name_waits_for_no_writer(live: Live) -> None:
    with live.scene.storage.database.transaction() as session:
        session.scalars(select(Agency).with_for_update()).one()
        began = time.monotonic()
        assert sign_in(live, "nobody-at-all", "wrong").status_code == 401
        assert time.monotonic() - began < 5


def test_unknown_names_leave_no_leaf_and_no_typed_word_is_kept(live: Live) -> None:
    scene = live.scene
    with scene.storage.database.read() as session:
        before = set(session.scalars(select(CustodyLeaf.id)))
    for name in ("wohnt-hier-nicht", "correct horse battery", "legal_reviewer", "legal_reviewer"):
        assert sign_in(live, name, "mistyped-secret").status_code == 401
    with scene.storage.database.read() as session:
        rows = session.scalars(select(CustodyLeaf)).all()
    new = [row for row in rows if row.id not in before]
    assert [row.action for row in new if row.action != "rows:written"] == ["session:refused"]
    kept = b"".join(bytes(row.body) + bytes(row.payload or b"") for row in new)
    for word in (b"wohnt", b"horse", b"mistyped", b"legal_reviewer"):
        assert word not in kept


def test_a_given_password_is_changed_before_anything_else(live: Live) -> None:
    scene = live.scene
    body = {"username": "new", "display_name": "新人", "password": PASSWORD, "roles": ["reviewer"]}
    made = live.as_("security_officer").post("/api/v1/accounts", json=body)
    assert made.status_code == 201
    signed_in = sign_in(live, "new", PASSWORD).json()
    assert signed_in["must_change_password"] is True
    other = sign_in(live, "new", PASSWORD).json()["token"]
    client = live.as_("new")
    for path in ("/api/v1/cases", "/api/v1/items", "/api/v1/events", "/api/v1/clips?case_no=x"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "password_change_required"), path
    assert client.get("/api/v1/me").json()["must_change_password"] is True
    for old, new, code in (
        ("not the present one", OWN, "password_wrong"),
        (PASSWORD, PASSWORD, "password_unchanged"),
        (PASSWORD, "short", "request_invalid"),
    ):
        refused = client.put("/api/v1/me/password", json={"old": old, "new": new})
        assert refused.json()["code"] == code
    assert client.put("/api/v1/me/password", json={"old": PASSWORD, "new": OWN}).status_code == 204
    assert client.get("/api/v1/cases").status_code == 200
    assert client.get("/api/v1/me").json()["must_change_password"] is False
    stale = live.anyone.get("/api/v1/me", headers={"Authorization": f"Bearer {other}"})
    assert stale.status_code == 401
    assert sign_in(live, "new", PASSWORD).status_code == 401
    assert sign_in(live, "new", OWN).json()["must_change_password"] is False
    (leaf,) = scene.leaves(made.json()["id"], "account:changed")
    assert leaf["facts"] == {"password": "chosen"}


def test_who_may_not_yet_do_anything_may_sign_out(live: Live) -> None:
    body = {"username": "shy", "display_name": "羞", "password": PASSWORD, "roles": ["reviewer"]}
    assert live.as_("security_officer").post("/api/v1/accounts", json=body).status_code == 201
    assert live.as_("shy").delete("/api/v1/sessions/current").status_code == 204


def test_a_guess_from_a_stolen_session_is_counted_like_any_other(live: Live) -> None:
    client = live.as_("officer2")
    for _ in range(live.scene.settings.api.login_attempts):
        refused = client.put("/api/v1/me/password", json={"old": "a guess", "new": OWN})
        assert refused.json()["code"] == "password_wrong"
    right = client.put("/api/v1/me/password", json={"old": PASSWORD, "new": OWN})
    assert right.json()["code"] == "password_wrong"
    live.forgive()


def test_a_peer_that_keeps_guessing_is_told_to_wait_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Throttle(at_once=2, wrong_most=3)
    for _ in range(3):
        held.note_wrong("10.0.0.1")
    with pytest.raises(Unavailable, match="wait"), held.turn("10.0.0.1"):
        pass
    two = (held.turn("10.0.0.2"), held.turn("10.0.0.3"))
    with two[0], two[1], pytest.raises(Unavailable) as caught, held.turn("10.0.0.4"):
        pass
    assert caught.value.code == "sign_in_busy"
    now = time.monotonic()
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now + throttle.WINDOW_S + 1)
    with held.turn("10.0.0.1"):
        pass


def test_what_is_remembered_of_peers_is_bounded() -> None:
    held = Throttle()
    for number in range(throttle.PEERS_MOST + 100):
        held.note_wrong(f"peer-{number}")
    assert len(held._wrong) == throttle.PEERS_MOST
