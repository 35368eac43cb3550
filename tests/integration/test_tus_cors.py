"""Pages that upload: named origins only, and every header they have to read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from config.settings import IngestSettings
from tests.integration.tus_server import AUTH, Running, running

PAGE = {"Origin": "https://dock.example"}
OTHER = {"Origin": "https://elsewhere.example"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("cors"), cors_origins=[PAGE["Origin"]]) as run:
        yield run


def test_preflight_of_a_named_origin_is_granted_without_a_token(server: Running) -> None:
    asked = {**PAGE, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "x"}
    with server.client() as client:
        reply = client.options("/uploads/h0.x", headers=asked)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert "PATCH" in reply.headers["access-control-allow-methods"]
    allowed = set(reply.headers["access-control-allow-headers"].split(", "))
    assert {"authorization", "content-type", "tus-resumable", "upload-concat", "upload-length"} <= allowed
    assert "access-control-allow-credentials" not in reply.headers
    assert reply.headers["vary"] == "Origin"


def test_page_may_ask_for_receipts_by_digest(server: Running) -> None:
    path = f"/receipts/{'0' * 64}"
    with server.client() as client:
        asked = client.options(path, headers={**PAGE, "Access-Control-Request-Method": "GET"})
        told = client.get(path, headers={**AUTH, **PAGE})
        assert client.post(path, headers=AUTH).json()["code"] == "method_not_allowed"
    assert (asked.status_code, told.status_code) == (204, 200)
    assert asked.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert told.json()["may_erase"] is False


def test_named_origin_reads_every_answer_also_a_refusal(server: Running) -> None:
    with server.client() as client:
        made = client.post("/uploads/", headers={**AUTH, **PAGE, "Upload-Length": "1"})
        refused = client.post("/uploads/", headers={**PAGE, "Upload-Length": "1"})
        malformed = client.post("/uploads/", headers=[*AUTH.items(), *PAGE.items(), ("Upload-Length", "x")])
    assert (made.status_code, refused.status_code, malformed.status_code) == (201, 401, 400)
    for reply in (made, refused, malformed):
        assert reply.headers["access-control-allow-origin"] == PAGE["Origin"]
        exposed = set(reply.headers["access-control-expose-headers"].split(", "))
        assert {"location", "upload-offset", "upload-length", "liuhen-item", "retry-after"} <= exposed


@pytest.mark.parametrize(
    "origin", ["https://elsewhere.example", "null", "*", "https://dock.example.evil.example"]
)
def test_other_origin_is_granted_nothing(server: Running, origin: str) -> None:
    with server.client() as client:
        for reply in (
            client.options("/uploads/", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}),
            client.post("/uploads/", headers={**AUTH, "Origin": origin, "Upload-Length": "1"}),
        ):
            assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_nothing_is_granted_unless_origins_are_set(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("bare")) as server, server.client() as client:
        reply = client.options("/uploads/", headers={**PAGE, "Access-Control-Request-Method": "POST"})
    assert not [name for name in reply.headers if name.startswith("access-control-") or name == "vary"]


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example", "dock.example", "https://dock.example/", "null"]
)
def test_origin_that_is_none_is_no_setting(origin: str) -> None:
    assert IngestSettings(cors_origins=["http://localhost:3000"]).cors_origins == ["http://localhost:3000"]
    with pytest.raises(ValidationError):
        IngestSettings(cors_origins=[origin])
