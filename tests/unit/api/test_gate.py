"""A route cannot exist without saying who may call it."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from api.app import GATES
from api.auth.gate import DECLARED, Gate, GuardedRoute, Open
from evidence.access import Act

DECLARED_OPEN = {
    ("POST", "/api/v1/sessions"): Open.ANYONE,
    ("DELETE", "/api/v1/sessions/current"): Open.SIGNED_IN,
    ("GET", "/api/v1/me"): Open.SIGNED_IN,
    ("PUT", "/api/v1/me/password"): Open.SIGNED_IN,
    ("GET", "/api/v1/playlists/{token}/index.m3u8"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/variants.m3u8"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/rung-{name}.m3u8"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/keyframes-{name}.m3u8"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/marks-{name}.m3u8"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/marks-{name}-{number}.vtt"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/lane-{lane}/{name}.m3u8"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/lane-{lane}/marks-{name}-{number}.vtt"): Open.CAPABILITY,
    ("GET", "/api/v1/playlists/{token}/live-{lane}.m3u8"): Open.CAPABILITY,
    ("POST", "/api/v1/room-triggers/{action}"): Open.TRIGGER,
    ("GET", "/healthz"): Open.ANYONE,
    ("GET", "/readyz"): Open.ANYONE,
    ("GET", "/metrics"): Open.LOOPBACK,
    ("GET", "/"): Open.ANYONE,
    ("GET", "/docs"): Open.ANYONE,
    ("GET", "/static/{name}"): Open.ANYONE,
}


def routes() -> dict[tuple[str, str], str]:
    found = {}
    for gate in GATES:
        for route in gate.router.routes:
            assert isinstance(route, GuardedRoute)
            for method in route.methods:
                found[method, route.path] = str((route.openapi_extra or {})[DECLARED])
    return found


def test_a_route_without_a_declaration_is_refused() -> None:
    gate = Gate("x")
    with pytest.raises(TypeError, match="declared"):
        gate.router.add_api_route("/secret", lambda: None)


def test_a_word_that_is_no_act_is_refused() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(TypeError, match="declared"):
        router.add_api_route("/secret", lambda: None, openapi_extra={DECLARED: "everybody"})


def test_every_route_asks_for_an_act_but_the_few_that_are_open() -> None:
    without_act = {key: value for key, value in routes().items() if value not in set(Act)}
    assert without_act == {key: str(value) for key, value in DECLARED_OPEN.items()}


def test_every_act_guards_a_route_or_is_asked_within_one() -> None:
    asked_within = {Act.SEE_ORIGINAL, Act.TAKE_UNMARKED}
    assert set(Act) - {Act(word) for word in routes().values() if word in set(Act)} == asked_within
