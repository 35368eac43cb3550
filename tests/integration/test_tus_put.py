"""A whole file in one PUT, as a simple device sends it."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from evidence.errors import Unavailable
from ingest.daemon.body import Patience
from ingest.tus.state import UploadRecord
from tests.integration.tus_server import LIMITS, Running, running

FOOTAGE = os.urandom(200_000)
AUTH = {"Authorization": "Bearer dock-1-secret"}
BY_NAME = "/uploads/by-name/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = replace(LIMITS, max_open_uploads=1000)
    with running(tmp_path_factory.mktemp("put"), limits=limits, patience=Patience(1.0)) as run:
        yield run


def put(
    server: Running, body: bytes | Iterator[bytes], name: str = "a.mp4", **headers: str
) -> httpx.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    with server.client() as client:
        return client.put(BY_NAME + name, headers={**AUTH, **named}, content=body)


def sha(body: bytes, algorithm: str = "sha-256") -> str:
    digest = hashlib.new(algorithm.replace("-", ""), body).digest()
    return f"{algorithm}=:{base64.b64encode(digest).decode()}:"


def problem(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["code"]


def open_files(server: Running) -> list[str]:
    return [path.name for path in (server.data / "uploads").glob("*.part")]


def test_put_with_its_digest_is_an_item_and_its_receipt_is_told_of(server: Running) -> None:
    reply = put(server, FOOTAGE, Repr_Digest=sha(FOOTAGE), Content_Type="video/mp4")
    assert reply.status_code == 201
    told = reply.json()
    assert told["sha256"] == hashlib.sha256(FOOTAGE).hexdigest()
    assert told["may_erase"] is False
    assert reply.headers["liuhen-item"] == told["item"]
    with server.client() as client:
        waiting = client.get(told["receipt"], headers=AUTH)
    assert (waiting.status_code, waiting.json()["state"]) == (202, "stored")
    item = next(item for item in server.register.items() if item["item_id"] == told["item"])
    assert server.objects.path(item["key"]).read_bytes() == FOOTAGE
    staged = server.register.finished[-1].staged()
    assert (staged.source, staged.original_name_raw) == ("put", b"a.mp4")


@pytest.mark.parametrize("field", ["Repr_Digest", "Content_Digest"])
@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
def test_body_that_is_not_its_digest_is_refused_and_leaves_nothing(
    server: Running, field: str, algorithm: str
) -> None:
    before = server.register.items()
    assert problem(put(server, b"other", **{field: sha(FOOTAGE, algorithm)})) == (460, "checksum_mismatch")
    assert put(server, FOOTAGE, **{field: sha(FOOTAGE, algorithm)}).status_code == 201
    assert len(server.register.items()) == len(before) + 1
    assert open_files(server) == []


@pytest.mark.parametrize(
    ("name", "headers", "expected"),
    [
        ("a", {"Repr_Digest": "md5=:AAAA:"}, (400, "bad_checksum_algorithm")),
        ("a", {"Repr_Digest": "sha-256=AAAA"}, (400, "bad_checksum")),
        ("a", {"Content_Range": "bytes 0-1/5"}, (400, "content_range")),
        ("a", {"Content_Encoding": "gzip"}, (415, "content_type")),
        ("a", {"Upload_Metadata": "filename ###"}, (400, "bad_metadata")),
        ("a", {"Authorization": "Bearer stolen"}, (401, "not_authenticated")),
        ("", {}, (405, "method_not_allowed")),
        ("a/b", {}, (400, "bad_name")),
        ("%2Fetc%2Fpasswd", {}, (400, "bad_name")),
        ("x" * 1025, {}, (400, "bad_name")),
    ],
)
def test_put_that_is_wrong_is_refused_in_one_line(
    server: Running, name: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    before = server.register.items()
    reply = put(server, b"01234", name, **{"Tus_Resumable": "1.0.0", **headers})
    assert problem(reply) == expected
    assert server.register.items() == before
    assert open_files(server) == []


def test_same_bytes_put_again_are_another_reception_of_their_own(server: Running) -> None:
    first, second = (put(server, b"twice", Repr_Digest=sha(b"twice")) for _ in range(2))
    assert first.json()["sha256"] == second.json()["sha256"]
    assert first.headers["location"] != second.headers["location"]
    keys = {finished.staged().reception_key for finished in server.register.finished[-2:]}
    assert len(keys) == 2


def test_name_of_any_encoding_and_metadata_beside_it_are_kept(server: Running) -> None:
    case_no = base64.b64encode(b"2026-1").decode()
    put(server, b"x", "%B3%C7%B9%DC.mp4", Upload_Metadata=f"case_no {case_no}")
    staged = server.register.finished[-1].staged()
    assert staged.original_name_raw == "城管.mp4".encode("gbk")
    assert staged.metadata["case_no"] == "2026-1"
    named = base64.b64encode(b"said.mp4").decode()
    put(server, b"y", "path.mp4", Upload_Metadata=f"filename {named}")
    assert server.register.finished[-1].staged().original_name_raw == b"said.mp4"


def test_chunked_and_empty_bodies_are_files_too(server: Running) -> None:
    chunked = put(server, iter([FOOTAGE[:70_000], FOOTAGE[70_000:]]), Repr_Digest=sha(FOOTAGE))
    assert chunked.json()["sha256"] == hashlib.sha256(FOOTAGE).hexdigest()
    assert put(server, iter([b"no", b"digest"])).json()["sha256"] == hashlib.sha256(b"nodigest").hexdigest()
    assert put(server, b"", Repr_Digest=sha(b"")).status_code == 201
    before = server.register.items()
    assert problem(put(server, b"", Repr_Digest=sha(b"x"))) == (460, "checksum_mismatch")
    time.sleep(0.5)  # Longer than a round of the sweeper, which makes items of what is whole.
    assert server.register.items() == before


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut off", "silent"])
def test_put_that_ends_early_leaves_nothing(server: Running, framing: str, is_cut: bool) -> None:
    before = server.register.items()
    body = b"5\r\n01234\r\n" if "chunked" in framing else b"01234"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            f"PUT {BY_NAME}a HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\n"
            f"{framing}\r\n\r\n".encode()
        )
        client.sendall(body)
        deadline = time.monotonic() + 5
        while not open_files(server):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if not is_cut:
            assert client.recv(4096).startswith(b"HTTP/1.1 503")
    while open_files(server):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.register.items() == before


def test_put_left_by_a_crash_is_cleared_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        location = first.create(10)
        first.patch(location, 0, b"01234")
        record_path = first.part(location).with_suffix(".json")
    replace(UploadRecord.read(record_path), source="put", length_bytes=None).write(record_path)
    with running(tmp_path) as second:
        assert second.head(location).status_code == 404
        assert open_files(second) == []


def test_put_whose_item_cannot_be_made_now_is_kept_and_made_later(tmp_path: Path) -> None:
    with running(tmp_path, sweep_every_s=60) as server:
        server.register.failing = Unavailable("database: expected it free, found it locked")
        reply = put(server, b"footage")
        assert (reply.status_code, reply.json()["may_erase"]) == (202, False)
        server.register.failing = None
        head = server.head(reply.headers["location"])
        assert head.headers["liuhen-digest"] == f"sha-256={hashlib.sha256(b'footage').hexdigest()}"


def test_put_onto_a_full_disk_is_refused_before_its_body(tmp_path: Path) -> None:
    with running(tmp_path, limits=replace(LIMITS, floor_bytes=1 << 60)) as server:
        assert problem(put(server, b"footage")) == (507, "disk_full")
        assert problem(put(server, iter([b"footage"]))) == (507, "disk_full")
        server.store.limits = replace(LIMITS, max_upload_bytes=5)
        assert problem(put(server, b"footage")) == (413, "upload_too_large")
        assert problem(put(server, iter([b"foot", b"age"]))) == (413, "body_too_long")
        assert open_files(server) == []
