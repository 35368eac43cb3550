"""What a stranger may cost: bodies that never end, methods nobody knows, addresses that are secrets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from api import hardening, problems
from tests.support.scene import Live, live_scene


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("limits")) as live:
        yield live


def connected(live: Live) -> socket.socket:
    return socket.create_connection(("127.0.0.1", live.scene.settings.api.port), timeout=20)


def answer_to(held: socket.socket) -> bytes:
    """All that comes until the other side closes or has said a whole small answer."""
    said = b""
    while b"\r\n\r\n" not in said or not said.endswith(b"}"):
        part = held.recv(65536)
        if not part:
            break
        said += part
    return said


def test_a_body_that_trickles_in_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardening, "BODY_DEADLINE_S", 1.0)
    with closing(connected(live)) as held:
        held.sendall(
            b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 60\r\n\r\n"
        )
        began = time.monotonic()
        held.settimeout(0.3)
        said = b""
        # A byte now and then keeps every pause short: only the whole is bounded.
        for _ in range(30):
            try:
                held.sendall(b" ")
                said = answer_to(held)
                break
            except TimeoutError:
                continue
        assert time.monotonic() - began < 6
    assert said.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in said


def test_who_shows_no_token_is_refused_before_the_body_comes(live: Live) -> None:
    with closing(connected(live)) as held:
        held.sendall(
            b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 900000\r\n\r\n"
        )
        said = answer_to(held)
    assert said.startswith(b"HTTP/1.1 401")
    assert b"session_missing" in said
    assert b"www-authenticate" in said.lower()


def test_a_name_and_a_password_are_no_large_body(live: Live) -> None:
    body = {"username": "x", "password": "y" * 10_000}
    assert live.anyone.post("/api/v1/sessions", json=body).status_code == 413


def test_methods_nobody_knows_make_no_labels(live: Live) -> None:
    for word in ("BREW", "X1", "X2"):
        live.anyone.request(word, "/api/v1/secret-path")
    told = live.anyone.get("/metrics").text
    assert 'method="other"' in told
    assert "BREW" not in told
    assert "X1" not in told
    assert "secret-path" not in told


def test_a_crash_is_logged_by_its_route_and_never_by_its_address() -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/api/v1/playlists/{token}/index.m3u8")
    def crash(token: str) -> None:
        raise ZeroDivisionError

    async def ask() -> int:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/api/v1/playlists/THE-SECRET/index.m3u8")).status_code

    with capture_logs() as logs:
        assert asyncio.run(ask()) == 500
    assert [entry["route"] for entry in logs] == ["/api/v1/playlists/{token}/index.m3u8"]
    assert "THE-SECRET" not in str(logs)
