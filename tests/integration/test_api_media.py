"""The media listener's bytes, spoken to over raw sockets: exact, or refused."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from storage.db import items
from storage.objects.base import Namespace
from tests.support.scene import Live, live_scene, reel


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("media")) as live:
        yield live


@dataclass
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module")
def path(live: Live) -> str:
    recording = live.scene.record(case=live.scene.case_a)
    return urlsplit(live.grant("reviewer", recording.item_id)["file_url"]).path


BODY = reel(51).rendition
SIZE = len(BODY)


def ask(live: Live, path: str, *lines: str, method: str = "GET") -> Reply:
    """One request on a connection of its own; everything until the server closes."""
    settings = live.scene.settings.media
    request = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: media", "Connection: close", *lines, "", ""])
    with socket.create_connection((settings.host, settings.port), timeout=10) as peer:
        peer.sendall(request.encode())
        raw = b""
        while piece := peer.recv(1 << 16):
            raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return Reply(int(first.split(" ")[1]), headers, body)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-1", 0, 1),
        ("bytes=0-0", 0, 0),
        ("bytes=100-", 100, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        (f"bytes=-{SIZE + 5}", 0, SIZE - 1),
        (f"bytes=1000-{SIZE + 1000}", 1000, SIZE - 1),
        ("bytes=65535-65537", 65535, 65537),
    ],
)
def test_a_range_is_exact_to_the_byte(live: Live, path: str, asked: str, first: int, last: int) -> None:
    reply = ask(live, path, f"Range: {asked}")
    assert reply.status == 206
    assert reply.body == BODY[first : last + 1]
    assert reply.headers["content-length"] == str(last - first + 1)
    assert reply.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert "transfer-encoding" not in reply.headers


def test_without_a_range_everything_comes_with_its_digest(live: Live, path: str) -> None:
    reply = ask(live, path)
    assert (reply.status, reply.body) == (200, BODY)
    assert reply.headers["etag"] == f'"{hashlib.sha256(BODY).hexdigest()}"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["cache-control"] == "private, no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "Content-Range" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused_with_the_size(live: Live, path: str, asked: str) -> None:
    reply = ask(live, path, f"Range: {asked}")
    assert reply.status == 416
    assert reply.headers["content-range"] == f"bytes */{SIZE}"
    assert not {"etag", "digest", "repr-digest"} & reply.headers.keys()


def test_a_condition_that_fails_is_told_without_the_tag_of_the_file(live: Live, path: str) -> None:
    reply = ask(live, path, 'If-Match: "other"')
    assert reply.status == 412
    assert not {"etag", "digest", "repr-digest"} & reply.headers.keys()


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "bytes=5-4", "items=0-1", "bytes=x"])
def test_what_is_no_single_range_gets_everything(live: Live, path: str, asked: str) -> None:
    reply = ask(live, path, f"Range: {asked}")
    assert (reply.status, len(reply.body)) == (200, SIZE)
    assert "content-range" not in reply.headers


def test_if_range_with_the_right_tag_holds_and_with_another_does_not(live: Live, path: str) -> None:
    tag = f'"{hashlib.sha256(BODY).hexdigest()}"'
    assert ask(live, path, "Range: bytes=0-9", f"If-Range: {tag}").status == 206
    for other in ('"other"', f"W/{tag}", "Wed, 21 Oct 2026 07:28:00 GMT"):
        reply = ask(live, path, "Range: bytes=0-9", f"If-Range: {other}")
        assert (reply.status, len(reply.body)) == (200, SIZE)


def test_head_tells_what_get_would_without_a_body(live: Live, path: str) -> None:
    whole = ask(live, path, method="HEAD")
    assert (whole.status, whole.headers["content-length"], whole.body) == (200, str(SIZE), b"")
    for asked in ("bytes=5-9", f"bytes={SIZE}-"):
        part = ask(live, path, f"Range: {asked}", method="HEAD")
        assert (part.status, part.headers, part.body) == (
            200,
            {**whole.headers, "date": part.headers["date"]},
            b"",
        )


def test_a_slice_is_a_thing_of_its_own(live: Live, path: str) -> None:
    whole, piece = BODY[100:1100], f"{path}/100-1099.mp4"
    reply = ask(live, piece)
    tag = f'"{hashlib.sha256(BODY).hexdigest()}.100-1099"'
    assert (reply.status, reply.body) == (200, whole)
    assert (reply.headers["etag"], reply.headers["content-type"]) == (tag, "video/mp4")
    assert not {"digest", "repr-digest", "content-range"} & reply.headers.keys()
    head = ask(live, piece, "Range: bytes=0-1", method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, "1000", b"")
    for asked, first, last in (("0-", 0, 999), ("-10", 990, 999), ("5-5", 5, 5), ("990-5000", 990, 999)):
        for _ in range(2):
            part = ask(live, piece, f"Range: bytes={asked}", f"If-Range: {tag}")
            assert (part.status, part.body) == (206, whole[first : last + 1])
            assert part.headers["content-range"] == f"bytes {first}-{last}/1000"
    beyond = ask(live, piece, "Range: bytes=1000-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */1000")
    assert ask(live, piece, f"If-None-Match: {tag}").status == 304
    of_the_whole = f'"{hashlib.sha256(BODY).hexdigest()}"'
    assert len(ask(live, piece, "Range: bytes=0-9", f"If-Range: {of_the_whole}").body) == 1000
    assert ask(live, f"{path}/0-{SIZE - 1}.mp4").body == BODY


@pytest.mark.parametrize(
    "name",
    [f"0-{SIZE}.mp4", f"{SIZE}-{SIZE}.mp4", "5-4.mp4", "00-4.mp4", "0-4.ts", "-4.mp4", "0-.mp4",
     "0-4.mp4/0-1.mp4", "0-99999999999999999999.mp4"],
)  # fmt: skip
def test_what_is_no_slice_of_what_is_there_is_not_found(live: Live, path: str, name: str) -> None:
    reply = ask(live, f"{path}/{name}")
    assert (reply.status, b"nothing_here" in reply.body) == (404, True)


def test_options_lets_any_page_ask_by_range(live: Live, path: str) -> None:
    reply = ask(live, path, "Origin: https://example.org", method="OPTIONS")
    assert reply.status == 204
    assert "content-length" not in reply.headers
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "Range" in reply.headers["access-control-allow-headers"]
    assert reply.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed_here(live: Live, path: str, method: str) -> None:
    reply = ask(live, path, "Content-Length: 0", method=method)
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, HEAD, OPTIONS"


def test_many_ranges_on_one_connection_stay_apart(live: Live, path: str) -> None:
    settings = live.scene.settings.media
    address = (settings.host, settings.port)
    with socket.create_connection(address, timeout=10) as peer, peer.makefile("rb") as file:
        for first in (0, 7, 70_000, 3):
            lines = [f"GET {path} HTTP/1.1", "Host: m", f"Range: bytes={first}-{first + 99}", "", ""]
            peer.sendall("\r\n".join(lines).encode())
            assert b" 206 " in file.readline()
            while file.readline() != b"\r\n":
                pass
            assert file.read(100) == BODY[first : first + 100]


@pytest.mark.parametrize(
    "wrong",
    ["/m/", "/m/x/y.mp4", "/m/../../etc/passwd", "/m/%2e%2e/%2e%2e/etc/passwd", "/", "/m//", "/metrics",
     "/m/" + "A" * 106 + "/original", "//m/x"],
)  # fmt: skip
def test_an_address_nobody_issued_is_not_found(live: Live, wrong: str) -> None:
    reply = ask(live, wrong)
    assert reply.status == 404
    assert b"urn:liuhen:error" in reply.body
    assert b"/objects" not in reply.body


def test_no_name_under_a_masked_grant_opens_anything_unmasked(live: Live, path: str) -> None:
    folder = path.rsplit("/", 1)[0]
    names = ["original", "poster.jpg", "photo.jpg", "rendition-copy.mp4", "clip.mp4", "", "../original",
             "redacted.mp4", "redacted-0000000000000000.mp4", "redacted_poster-0000000000000000.jpg",
             "redacted-%2e%2e.mp4", path.rsplit("/", 1)[1].replace(".mp4", ".jpg"),
             path.rsplit("/", 1)[1].replace("redacted-", "redacted_photo-").replace(".mp4", ".jpg"),
             path.rsplit("/", 1)[1].replace("redacted-", "rendition-")]  # fmt: skip
    for name in names:
        assert ask(live, f"{folder}/{name}").status == 404, name


def test_a_playlist_capability_opens_no_media_and_the_other_way_round(live: Live) -> None:
    recording = live.scene.record(case=live.scene.case_a)
    grant = live.grant("reviewer", recording.item_id)
    playlist_token = grant["playlist_url"].split("/")[4]
    media = urlsplit(grant["file_url"]).path
    _, _, media_token, name = media.split("/")
    assert ask(live, f"/m/{playlist_token}/{name}").status == 404
    assert live.anyone.get(f"/api/v1/playlists/{media_token}/index.m3u8").status_code == 404


def test_an_empty_original_is_an_empty_answer(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    with scene.storage.database.transaction() as session:
        row = items.object_of(session, items.item_by_id(session, scene.agency.id, recording.item_id))
        row.sha256, row.store_key = scene.put(b"", Namespace.ORIGINAL)
        row.size_bytes = 0
    grant = live.grant("archivist", recording.item_id, variant="original", reason="清点")
    target = urlsplit(grant["file_url"]).path
    reply = ask(live, target)
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
    assert ask(live, target, "Range: bytes=0-").status == 416


def test_an_original_comes_as_received_under_its_own_name(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a, name='执法 记录";\r\n1.mp4')
    grant = live.grant("archivist", recording.item_id, variant="original", reason="移交")
    reply = ask(live, urlsplit(grant["file_url"]).path)
    assert reply.body.startswith(reel(1).original)
    assert len(reply.body) == len(reel(1).original) + 16
    shown = reply.headers["content-disposition"]
    assert shown.startswith('attachment; filename="______')
    assert shown.endswith("; filename*=UTF-8''%E6%89%A7%E6%B3%95%20%E8%AE%B0%E5%BD%95%22%3B%0D%0A1.mp4")
    assert reply.headers["content-type"] == "application/octet-stream"
