"""Each verb of tus over real sockets: headers in, headers out."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from evidence.errors import InvalidInput, Unavailable
from evidence.listening import Listener
from ingest.tus.checksums import CHECKSUM_ALGORITHMS
from messaging.sockets import require_free
from tests.integration.tus_server import AUTH, LIMITS, OCTETS, OTHER_AUTH, Running, running

FOOTAGE = bytes(range(256)) * 40


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("verbs"), limits=replace(LIMITS, max_open_uploads=1000)) as run:
        yield run


def problem(reply: httpx.Response) -> tuple[int, str]:
    detail = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert "\n" not in detail["detail"]
    return reply.status_code, detail["code"]


def test_options_needs_no_token(server: Running) -> None:
    with server.client() as client:
        reply = client.options("/uploads/")
    assert reply.status_code == 204
    assert reply.headers["tus-version"] == "1.0.0"
    assert "checksum" in reply.headers["tus-extension"]


def test_post_answers_where_the_upload_is_and_until_when(server: Running) -> None:
    with server.client() as client:
        reply = client.post("/uploads/", headers={**AUTH, "Upload-Length": "10"})
    assert reply.status_code == 201
    assert reply.headers["location"].startswith(f"{server.url}/uploads/h0.")
    assert reply.headers["upload-offset"] == "0"
    assert reply.headers["upload-expires"].endswith("GMT")
    assert server.part(reply.headers["location"]).exists()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("dock.example:8601", "http://dock.example:8601/uploads/"),
        ("[::1]:80", "http://[::1]:80/uploads/"),
        ("evil.example/x?", "/uploads/"),
        ("a b", "/uploads/"),
    ],
)
def test_location_names_the_host_as_the_sender_does(server: Running, host: str, expected: str) -> None:
    with server.client() as client:
        reply = client.post("/uploads/", headers={**AUTH, "Upload-Length": "1", "Host": host})
    assert reply.headers["location"].startswith(f"{expected}h0.")


def test_post_without_a_slash_is_the_same(server: Running) -> None:
    with server.client() as client:
        assert client.post("/uploads", headers={**AUTH, "Upload-Length": "1"}).status_code == 201


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Upload-Length": "x"}, (400, "bad_header")),
        ({}, (400, "bad_header")),
        ({"Upload-Length": str(1 << 50)}, (413, "upload_too_large")),
        ({"Upload-Defer-Length": "2"}, (400, "bad_header")),
        ({"Upload-Concat": "both"}, (400, "bad_concat")),
        ({"Upload-Length": "1", "Upload-Metadata": "filename ###"}, (400, "bad_metadata")),
        ({"Upload-Length": "1", "Tus-Resumable": "0.9"}, (412, "tus_version")),
        ({"Upload-Length": "1", "Authorization": "Bearer stolen"}, (401, "not_authenticated")),
        ({"Upload-Length": "1", "Authorization": "Basic x"}, (401, "not_authenticated")),
    ],
)
def test_post_that_is_wrong_is_refused_in_one_line(
    server: Running, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    with server.client() as client:
        assert problem(client.post("/uploads/", headers={**AUTH, **headers})) == expected


def test_metadata_of_a_megabyte_is_refused_in_one_line(server: Running) -> None:
    metadata = "filename " + b64(bytes(1 << 20))
    with server.client() as client:
        reply = client.post("/uploads/", headers={**AUTH, "Upload-Length": "1", "Upload-Metadata": metadata})
    assert problem(reply) == (431, "metadata_too_large")


def test_patch_to_the_last_byte_makes_an_item(server: Running) -> None:
    location = server.create(len(FOOTAGE))
    first = server.patch(location, 0, FOOTAGE[:5000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "5000")
    assert "liuhen-item" not in first.headers
    last = server.patch(location, 5000, FOOTAGE[5000:])
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(FOOTAGE)))
    assert last.headers["liuhen-digest"] == f"sha-256={hashlib.sha256(FOOTAGE).hexdigest()}"
    assert last.headers["liuhen-may-erase"] == "false"
    item = next(item for item in server.register.items() if item["item_id"] == last.headers["liuhen-item"])
    assert server.objects.path(item["key"]).read_bytes() == FOOTAGE
    assert not server.part(location).exists()


def test_lost_last_answer_is_given_again(server: Running) -> None:
    location = server.create(5)
    item = server.patch(location, 0, b"hello").headers["liuhen-item"]
    head = server.head(location)
    assert (head.headers["upload-offset"], head.headers["liuhen-item"]) == ("5", item)
    again = server.patch(location, 5, b"")
    assert (again.status_code, again.headers["liuhen-item"]) == (204, item)


def test_post_with_the_whole_body_makes_an_item(server: Running) -> None:
    with server.client() as client:
        reply = client.post(
            "/uploads/",
            headers={**AUTH, **OCTETS, "Upload-Length": "5", "Upload-Metadata": f"filename {b64(b'a.mp4')}"},
            content=b"hello",
        )
    assert (reply.status_code, reply.headers["upload-offset"]) == (201, "5")
    assert reply.headers["liuhen-digest"].endswith(hashlib.sha256(b"hello").hexdigest())


def test_post_with_a_part_of_the_body_goes_on_with_patch(server: Running) -> None:
    with server.client() as client:
        reply = client.post("/uploads/", headers={**AUTH, **OCTETS, "Upload-Length": "5"}, content=b"he")
    assert reply.headers["upload-offset"] == "2"
    assert "liuhen-item" in server.patch(reply.headers["location"], 2, b"llo").headers


def test_empty_file_is_an_item_at_once(server: Running) -> None:
    with server.client() as client:
        reply = client.post("/uploads/", headers={**AUTH, "Upload-Length": "0"})
    assert reply.status_code == 201
    assert reply.headers["liuhen-digest"].endswith(hashlib.sha256(b"").hexdigest())


def test_head_tells_offset_length_and_metadata(server: Running) -> None:
    metadata = f"filename {b64('城管.mp4'.encode())},case_no {b64(b'1')}"
    location = server.create(10, Upload_Metadata=metadata)
    server.patch(location, 0, b"01234")
    reply = server.head(location)
    assert reply.status_code == 200
    assert reply.headers["upload-offset"] == "5"
    assert reply.headers["upload-length"] == "10"
    assert reply.headers["upload-metadata"] == metadata
    assert reply.headers["cache-control"] == "no-store"


def test_patch_elsewhere_than_at_the_end_is_a_conflict_that_names_the_end(server: Running) -> None:
    location = server.create(10)
    server.patch(location, 0, b"01234")
    for offset in (0, 4, 6):
        reply = server.patch(location, offset, b"x")
        assert problem(reply) == (409, "offset_mismatch")
        assert reply.headers["upload-offset"] == "5"
    assert server.part(location).read_bytes() == b"01234"


def test_patch_past_the_end_writes_nothing(server: Running) -> None:
    location = server.create(4)
    assert problem(server.patch(location, 0, b"01234")) == (413, "body_too_long")
    assert server.part(location).read_bytes() == b""


def test_patch_of_another_type_is_refused(server: Running) -> None:
    location = server.create(4)
    reply = server.patch(location, 0, b"0123", Content_Type="video/mp4")
    assert problem(reply) == (415, "content_type")


def test_checksums_of_all_kinds_are_checked(server: Running) -> None:
    location = server.create(1000)
    for offset, algorithm in enumerate(CHECKSUM_ALGORITHMS):
        digest = b64(hashlib.new(algorithm, b"x").digest())
        wrong = server.patch(location, offset, b"y", Upload_Checksum=f"{algorithm} {digest}")
        assert problem(wrong) == (460, "checksum_mismatch")
        assert wrong.headers["upload-offset"] == str(offset)
        right = server.patch(location, offset, b"x", Upload_Checksum=f"{algorithm} {digest}")
        assert right.status_code == 204
    for unknown in ("crc32 AAAA", "sha-256 AAAA", "sha3-256 AAAA", "none", ""):
        refused = server.patch(location, 4, b"x", Upload_Checksum=unknown)
        assert problem(refused) == (400, "bad_checksum_algorithm")


def test_delete_ends_an_open_upload_and_spares_an_item(server: Running) -> None:
    location = server.create(10)
    server.patch(location, 0, b"0123")
    with server.client() as client:
        assert client.delete(location, headers=AUTH).status_code == 204
    assert server.head(location).status_code == 404
    assert not server.part(location).exists()
    whole = server.create(2)
    server.patch(whole, 0, b"01")
    with server.client() as client:
        assert problem(client.delete(whole, headers=AUTH)) == (409, "upload_whole")


def test_upload_of_another_token_is_not_there(server: Running) -> None:
    location = server.create(10)
    assert server.head(location, OTHER_AUTH).status_code == 404
    assert problem(server.patch(location, 0, b"0", OTHER_AUTH)) == (404, "not_found")
    with server.client() as client:
        assert client.delete(location, headers=OTHER_AUTH).status_code == 404
        assert client.get(f"{location}/receipt", headers=OTHER_AUTH).status_code == 404
    assert server.head(location).headers["upload-offset"] == "0"


def test_unauthenticated_body_never_reaches_the_disk(server: Running) -> None:
    location = server.create(10)
    before = {path.name: path.stat().st_size for path in (server.data / "uploads").iterdir()}
    for token in ({}, {"Authorization": "Bearer stolen"}):
        headers = {"Tus-Resumable": "1.0.0", **token}
        assert server.patch(location, 0, b"0123456789", headers).status_code == 401
        with server.client() as client:
            refused = client.post(
                "/uploads/", headers={**headers, **OCTETS, "Upload-Length": "5"}, content=b"hello"
            )
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert {path.name: path.stat().st_size for path in (server.data / "uploads").iterdir()} == before


def test_refusal_is_heard_by_a_client_that_sends_everything_first(server: Running) -> None:
    location = server.create(10 << 20)
    body = bytes(3 << 20)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Authorization: Bearer stolen\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()
        )
        client.sendall(body)
        assert client.recv(4096).startswith(b"HTTP/1.1 401")


def test_every_verb_reaches_a_server_behind_an_old_proxy(server: Running) -> None:
    location = server.create(4)

    def post(verb: str, body: bytes = b"", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with server.client() as client:
            said = {**AUTH, **OCTETS, **named, "X-HTTP-Method-Override": verb}
            return client.post(location, headers=said, content=body)

    sent = post("PATCH", b"01", Upload_Offset="0")
    assert (sent.status_code, sent.headers["upload-offset"]) == (204, "2")
    head = post("HEAD")
    assert (head.status_code, head.headers["upload-offset"], head.content) == (200, "2", b"")
    assert post("patch", b"2", Upload_Offset="2").headers["upload-offset"] == "3"
    assert problem(post("PURGE")) == (405, "method_not_allowed")
    assert post("DELETE").status_code == 204
    assert post("HEAD").status_code == 404


def test_verb_is_overridden_on_post_alone(server: Running) -> None:
    location = server.create(4)
    with server.client() as client:
        reply = client.head(location, headers={**AUTH, "X-HTTP-Method-Override": "DELETE"})
    assert (reply.status_code, reply.headers["upload-offset"]) == (200, "0")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/uploads/x"), ("PUT", "/uploads/"), ("POST", "/uploads/x")]
)
def test_verb_that_is_not_of_tus_is_refused(server: Running, method: str, path: str) -> None:
    with server.client() as client:
        assert problem(client.request(method, path, headers=AUTH)) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/", "/etc/passwd", "/uploads/../../etc/passwd", "/uploads/h0.x/y/z"])
def test_other_paths_lead_nowhere(server: Running, path: str) -> None:
    with server.client() as client:
        assert client.get(path, headers=AUTH).status_code in {404, 405}


def test_receipt_is_given_only_when_there_is_one(server: Running) -> None:
    location = server.create(4)
    url = f"{location}/receipt"
    with server.client() as client:
        assert client.get(url).status_code == 401
        reply = client.get(url, headers=AUTH)
        assert (reply.status_code, reply.json()) == (202, {"state": "open", "may_erase": False})
        server.patch(location, 0, b"0123")
        reply = client.get(url, headers=AUTH)
        assert (reply.status_code, reply.json()) == (202, {"state": "stored", "may_erase": False})
        signed = '{"may_erase":true,"signature":"x"}'
        server.register.receipts[location.rsplit("/", 1)[-1]] = signed
        reply = client.get(url, headers=AUTH)
        assert (reply.status_code, reply.text) == (200, signed)


def test_sender_is_recorded_with_its_metadata(server: Running) -> None:
    names = ["../../etc/passwd", "a\nb.mp4", "gpj.\u202emp4", "长" * 85, "城管.mp4"]
    raws = [name.encode() for name in names] + ["城管.mp4".encode("gbk"), b"\xff" * 255]
    for raw in raws:
        location = server.create(1, Upload_Metadata=f"filename {b64(raw)}")
        assert server.patch(location, 0, b"x").status_code == 204
        finished = server.register.finished[-1]
        assert finished.staged().original_name_raw == raw
        assert finished.remote.startswith("127.0.0.1:")
    stored = {path.name for path in (server.data / "uploads").iterdir()}
    assert all(name == "lock" or name.startswith("h0.") for name in stored)


def test_health_is_open_and_readiness_says_what_is_wrong(server: Running) -> None:
    with server.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"ready": True, "problems": []}
        server.problems.append("object store: expected it mounted, found it gone")
        reply = client.get("/readyz")
        server.problems.clear()
    assert (reply.status_code, reply.json()["ready"]) == (503, False)


def test_item_that_cannot_be_made_now_is_made_later(server: Running) -> None:
    location = server.create(6)
    server.register.failing = Unavailable("database: expected it free, found it locked")
    reply = server.patch(location, 0, b"footag")
    assert (reply.status_code, reply.headers["upload-offset"]) == (503, "6")
    assert "retry-after" in reply.headers
    head = server.head(location)
    assert head.headers["upload-offset"] == "6"
    assert "liuhen-item" not in head.headers
    with server.client() as client:
        empty = client.post("/uploads/", headers={**AUTH, "Upload-Length": "0"})
    assert empty.status_code == 201
    server.register.failing = ValueError("a bug in intake")
    assert problem(server.patch(location, 6, b"")) == (500, "internal")
    server.register.failing = None
    assert "liuhen-item" in server.patch(location, 6, b"").headers
    assert "liuhen-item" in server.head(empty.headers["location"]).headers


def test_port_in_use_is_refused_not_shared(server: Running) -> None:
    with pytest.raises(Unavailable) as caught:
        require_free(Listener("ingest", "127.0.0.1", server.port))
    assert caught.value.code == "port_in_use"


@pytest.mark.parametrize(
    ("listener", "is_private"),
    [
        (Listener("ingest", "127.0.0.1", 1), True),
        (Listener("ingest", "::1", 1), True),
        (Listener("ingest", "localhost", 1), True),
        (Listener("ingest", "0.0.0.0", 1), False),  # noqa: S104 - it is refused
        (Listener("ingest", "dock.example", 1), False),
        (Listener("ingest", "10.0.0.1", 1, behind_proxy=True), True),
        (Listener("ingest", "10.0.0.1", 1, tls_cert=Path("c"), tls_key=Path("k")), True),
        (Listener("ingest", "127.0.0.1", 1, tls_cert=Path("c")), False),
    ],
)
def test_listener_off_loopback_wants_tls_or_a_proxy(listener: Listener, is_private: bool) -> None:
    if is_private:
        listener.require_private()
        return
    with pytest.raises(InvalidInput):
        listener.require_private()


def test_problem_details_name_no_secret(server: Running) -> None:
    with server.client() as client:
        reply = client.post("/uploads/", headers={**AUTH, "Authorization": "Bearer my-secret"})
    assert "my-secret" not in json.dumps(reply.json())
