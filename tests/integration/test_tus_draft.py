"""Resumable uploads as the IETF drafts have them; real clients are in the journeys."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.tus_server import AUTH, OTHER_AUTH, Running, running

TOKEN = {"Authorization": AUTH["Authorization"]}
PARTIAL = {"Content-Type": "application/partial-upload"}
DIGEST = f"sha-256={hashlib.sha256(b'0123456789').hexdigest()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("draft")) as run:
        yield run


@pytest.fixture(params=["5", "6"])
def version(request: pytest.FixtureRequest) -> dict[str, str]:
    return {**TOKEN, **PARTIAL, "Upload-Draft-Interop-Version": request.param}


def send(
    server: Running, method: str, path: str, headers: dict[str, str], body: bytes | Iterator[bytes] = b""
) -> httpx.Response:
    with server.client() as client:
        return client.request(method, path, headers=headers, content=body)


def test_upload_in_steps_is_one_item(server: Running, version: dict[str, str]) -> None:
    name = base64.b64encode(b"a.mp4").decode()
    made = send(
        server,
        "POST",
        "/uploads/",
        {**version, "Upload-Complete": "?0", "Upload-Metadata": f"filename {name}"},
        b"0123",
    )
    assert (made.status_code, made.headers["upload-offset"]) == (201, "4")
    assert (made.headers["upload-complete"], "tus-resumable" in made.headers) == ("?0", False)
    assert made.headers["upload-draft-interop-version"] == version["Upload-Draft-Interop-Version"]
    location = made.headers["location"]
    head = send(server, "HEAD", location, version)
    assert (head.status_code, head.headers["upload-offset"], head.headers["upload-complete"]) == (
        204,
        "4",
        "?0",
    )
    assert head.headers["cache-control"] == "no-store"
    middle = send(
        server, "PATCH", location, {**version, "Upload-Offset": "4", "Upload-Complete": "?0"}, b"45"
    )
    assert (middle.status_code, middle.headers["upload-offset"]) == (204, "6")
    last = send(
        server, "PATCH", location, {**version, "Upload-Offset": "6", "Upload-Complete": "?1"}, b"6789"
    )
    assert (last.headers["upload-complete"], last.headers["liuhen-digest"]) == ("?1", DIGEST)
    finished = server.register.finished[-1].staged()
    assert (finished.source, finished.original_name_raw) == ("draft", b"a.mp4")
    again = send(server, "HEAD", location, version)
    assert (again.headers["liuhen-item"], again.headers["upload-length"]) == (
        last.headers["liuhen-item"],
        "10",
    )


@pytest.mark.parametrize("body", [b"0123456789", None], ids=["sized", "chunked"])
def test_whole_file_in_the_first_request_is_an_item(
    server: Running, version: dict[str, str], body: bytes | None
) -> None:
    content = iter([b"01234", b"56789"]) if body is None else body
    made = send(server, "POST", "/uploads/", {**version, "Upload-Complete": "?1"}, content)
    assert (made.status_code, made.headers["liuhen-digest"]) == (201, DIGEST)


def test_chunked_end_of_unknown_size_completes_the_upload(server: Running, version: dict[str, str]) -> None:
    location = send(server, "POST", "/uploads/", {**version, "Upload-Complete": "?0"}).headers["location"]
    said = {**version, "Upload-Offset": "0", "Upload-Complete": "?1"}
    last = send(server, "PATCH", location, said, iter([b"01234", b"56789"]))
    assert last.headers["liuhen-digest"] == DIGEST


def test_refusals_tell_the_offset_in_the_words_of_the_draft(server: Running, version: dict[str, str]) -> None:
    location = send(server, "POST", "/uploads/", {**version, "Upload-Complete": "?0"}, b"0123").headers[
        "location"
    ]
    wrong = send(server, "PATCH", location, {**version, "Upload-Offset": "9", "Upload-Complete": "?0"}, b"x")
    assert (wrong.status_code, wrong.headers["upload-offset"]) == (409, "4")
    assert wrong.json()["type"].endswith("#mismatching-upload-offset")
    assert wrong.json()["expected-offset"] == 4
    for headers, expected in (
        ({**version, "Upload-Offset": "4", "Upload-Complete": "yes"}, (400, "bad_header")),
        ({**version, "Authorization": OTHER_AUTH["Authorization"], "Upload-Offset": "4"}, (404, "not_found")),
        ({**version, "Upload-Draft-Interop-Version": "3", "Upload-Offset": "4"}, (400, "draft_version")),
    ):
        reply = send(server, "PATCH", location, headers, b"")
        assert (reply.status_code, reply.json()["code"]) == expected
    assert send(server, "PUT", location, version).json()["code"] == "method_not_allowed"


def test_size_that_contradicts_itself_is_refused_before_the_body(
    server: Running, version: dict[str, str]
) -> None:
    said = {**version, "Upload-Complete": "?0", "Upload-Length": "10"}
    location = send(server, "POST", "/uploads/", said, b"0123").headers["location"]
    short = send(server, "PATCH", location, {**version, "Upload-Offset": "4", "Upload-Complete": "?1"}, b"45")
    assert (short.status_code, short.json()["code"]) == (400, "upload_length_changed")
    assert server.part(location).read_bytes() == b"0123"
    assert send(server, "DELETE", location, version).status_code == 204
    assert send(server, "HEAD", location, version).status_code == 404


def test_newer_draft_asks_for_its_own_media_type(server: Running) -> None:
    version = {**TOKEN, "Upload-Draft-Interop-Version": "6"}
    location = send(server, "POST", "/uploads/", {**version, "Upload-Complete": "?0"}).headers["location"]
    reply = send(server, "PATCH", location, {**version, "Upload-Offset": "0", "Upload-Complete": "?0"}, b"x")
    assert (reply.status_code, reply.json()["code"]) == (415, "content_type")
