"""The media listener's lines: rights that end under a reader, readers that stall, files that change."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psutil
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from api import serving
from api.auth.capability import Capability, Use
from api.listener import MediaListener
from api.listener import serve as serve_media
from evidence.ids import new_id
from storage.db import items
from storage.db.ledger_tables import Alarm
from storage.db.tables import Item
from storage.objects.base import Namespace
from tests.integration.test_api_lines_alone import BIG_BYTES
from tests.integration.test_api_process import certificate
from tests.support.scene import Live, Serving, free_port, live_scene, reel


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_scene(tmp_path_factory.mktemp("lines")) as live:
        yield live


@pytest.fixture(scope="module")
def big(live: Live) -> bytes:
    """The bytes of an original that no buffer holds."""
    return os.urandom(1 << 20) * (BIG_BYTES >> 20)


def original_grant(live: Live, body: bytes) -> dict[str, str]:
    """A grant of an original of those bytes."""
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    with scene.storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == recording.item_id)).one()
        row = items.object_of(session, item)
        row.sha256, row.store_key = scene.put(body + recording.item_id.bytes, Namespace.ORIGINAL)
        row.size_bytes = len(body) + 16
    return live.grant("archivist", recording.item_id, variant="original", reason="移交")


def begin(live: Live, url: str, *lines: str, port: int | None = None, window: int = 4096) -> socket.socket:
    """Ask, and read nothing; the receiving buffer is small, so that little is on its way."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    peer.settimeout(20)
    peer.connect(("127.0.0.1", port or live.scene.settings.media.port))
    head = [f"GET {urlsplit(url).path} HTTP/1.1", "Host: media", *lines, "", ""]
    peer.sendall("\r\n".join(head).encode())
    return peer


def drain(peer: socket.socket) -> bytes:
    """Everything until the other side ends."""
    pieces = []
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    try:
        while piece := peer.recv(1 << 20):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def status(live: Live, url: str) -> int:
    return httpx.get(url, headers={"Range": "bytes=0-9"}, trust_env=False).status_code


def test_a_body_under_way_ends_soon_after_its_right_does(live: Live, big: bytes) -> None:
    grant = original_grant(live, big)
    with begin(live, grant["file_url"]) as peer:
        assert peer.recv(15) == b"HTTP/1.1 200 OK"
        assert live.as_("archivist").delete(f"/api/v1/grants/{grant['grant_id']}").status_code == 204
        time.sleep(2.5)
        # What the kernel had taken already still comes; the rest never does.
        assert len(drain(peer)) < len(big) // 2
    assert status(live, grant["file_url"]) == 410


def test_a_slow_reader_gets_every_byte(live: Live, big: bytes) -> None:
    grant = original_grant(live, big)
    asked = ("Range: bytes=5-12000004", "Connection: close")
    with begin(live, grant["file_url"], *asked, window=1 << 18) as peer:
        time.sleep(1.5)
        head, _, body = drain(peer).partition(b"\r\n\r\n")
        assert b" 206 " in head
        assert body == big[5:12_000_005]


@contextmanager
def second_listener(live: Live, **more: object) -> Iterator[int]:
    """Another media listener over the same scene, with settings of its own; its port."""
    media = live.scene.settings.media.model_copy(update={"port": free_port(), **more})
    app = MediaListener(live.scene.storage, media)
    listener = serving.listener_of("media", media)
    with Serving(lambda stop: serve_media(app, listener, media, stop)):
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", media.port)) == 0:
                    break
            time.sleep(0.05)
        yield media.port


def test_stalled_readers_cost_no_thread_and_little_memory_and_are_let_go(live: Live, big: bytes) -> None:
    url = original_grant(live, big)["file_url"]
    process = psutil.Process()
    with second_listener(live, stall_s=1.5, max_lines_per_grant=300) as port, ExitStack() as stack:
        stack.enter_context(begin(live, url, port=port)).recv(15)
        threads, memory = process.num_threads(), process.memory_info().rss
        stalled = [stack.enter_context(begin(live, url, port=port)) for _ in range(200)]
        for peer in stalled:
            assert peer.recv(15) == b"HTTP/1.1 200 OK"
        # Others are served at once meanwhile.
        began = time.monotonic()
        with begin(live, url, "Range: bytes=0-99", "Connection: close", port=port) as other:
            assert drain(other).endswith(big[:100])
        assert time.monotonic() - began < 2
        assert process.num_threads() <= threads + 8
        assert process.memory_info().rss - memory < 32 << 20
        time.sleep(3)
        for peer in stalled[:20]:
            assert len(drain(peer)) < len(big)


def test_after_a_commit_all_who_wait_share_one_look_at_their_grant(live: Live, big: bytes) -> None:
    url = original_grant(live, big)["file_url"]
    assert status(live, url) == 206
    looks = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "account.disabled_at, item.custody" in statement:
            looks.append(statement)

    live.scene.record(case=live.scene.case_a)
    engine = live.scene.storage.database.engine
    event.listen(engine, "before_cursor_execute", count)
    try:
        with ExitStack() as stack:
            peers = [stack.enter_context(begin(live, url, "Range: bytes=0-9")) for _ in range(20)]
            for peer in peers:
                assert peer.recv(12) == b"HTTP/1.1 206"
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert 1 <= len(looks) <= 3


def test_one_grant_has_its_share_of_the_lines_and_a_person_is_told_when_more_is_asked(
    live: Live, big: bytes
) -> None:
    crowded, other = original_grant(live, big), original_grant(live, big)
    with second_listener(live, max_lines_per_grant=2) as port, ExitStack() as stack:
        stalled = [stack.enter_context(begin(live, crowded["file_url"], port=port)) for _ in range(2)]
        for peer in stalled:
            assert peer.recv(15) == b"HTTP/1.1 200 OK"

        def ask(grant: dict[str, str]) -> httpx.Response:
            where = f"http://127.0.0.1:{port}{urlsplit(grant['file_url']).path}"
            return httpx.get(where, headers={"Range": "bytes=0-9"}, trust_env=False)

        def away(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if "INTO alarm" in statement and not failed:
                failed.append(statement)
                raise OperationalError(statement, None, Exception("database is locked"))

        failed: list[str] = []
        engine = live.scene.storage.database.engine
        event.listen(engine, "before_cursor_execute", away)
        for _ in range(3):
            refused = ask(crowded)
            assert (refused.status_code, refused.json()["code"]) == (429, "grant_crowded")
            assert int(refused.headers["retry-after"]) > 0
        event.remove(engine, "before_cursor_execute", away)
        assert failed
        assert ask(other).status_code == 206
        stalled[0].close()
        for _ in range(100):
            if (answer := ask(crowded)).status_code == 206:
                break
            time.sleep(0.02)
        assert (answer.status_code, answer.content) == (206, big[:10])
    named = {"grant": crowded["grant_id"]}
    told = MediaListener(live.scene.storage, live.scene.settings.media)
    for subject, use in (("clip", Use.CLIP), ("clip_set", Use.CLIP_SET)):
        named[subject] = str(new_id())
        told._tell_of_crowd(
            Capability(use, live.scene.agency.id, UUID(named[subject]), live.scene.clock.now(), "key"), "more"
        )
    with live.scene.storage.database.read() as session:
        alarms = session.scalars(select(Alarm).where(Alarm.code == "grant_crowded")).all()
    assert {each.subject: each.subject_id for each in alarms} == named


def test_under_tls_ranges_are_exact_and_stalled_readers_are_let_go(
    live: Live, big: bytes, tmp_path: Path
) -> None:
    grant = original_grant(live, big)
    cert, key = certificate(tmp_path)
    trusted = ssl.create_default_context(cafile=str(cert))
    path = urlsplit(grant["file_url"]).path
    with second_listener(live, stall_s=1.5, tls_cert=cert, tls_key=key) as port:
        url = f"https://127.0.0.1:{port}{path}"
        with httpx.Client(verify=trusted, trust_env=False) as client:
            for first, last in ((0, 0), (7, 300_000), (1 << 20, (1 << 20) + 9)):
                part = client.get(url, headers={"Range": f"bytes={first}-{last}"})
                assert (part.status_code, part.content) == (206, big[first : last + 1])
            assert client.get(url).content[:-16] == big
            assert client.post(url, content=b"x").status_code == 405
        bare = begin(live, f"http://x{path}", port=port)
        assert not drain(bare).startswith(b"HTTP/1.1 200")
        bare.close()
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with trusted.wrap_socket(plain, server_hostname="127.0.0.1") as peer:
                peer.sendall(f"GET {path} HTTP/1.1\r\nHost: media\r\n\r\n".encode())
                assert peer.recv(15) == b"HTTP/1.1 200 OK"
                time.sleep(3)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                got = 0
                with suppress(OSError):
                    while piece := peer.recv(1 << 20):
                        got += len(piece)
                assert got < len(big)


def test_a_file_removed_under_a_reader_is_sent_to_the_end_and_then_is_not_there(
    live: Live, big: bytes
) -> None:
    scene = live.scene
    grant = original_grant(live, big)
    with scene.storage.database.read() as session:
        item = session.scalars(select(Item).where(Item.id == UUID(grant["item_id"]))).one()
        path = scene.storage.objects.path(items.object_of(session, item).store_key)
    assert path is not None
    with begin(live, grant["file_url"], "Connection: close") as peer:
        peer.recv(15)
        path.rename(path.with_suffix(".gone"))
        assert len(drain(peer)) > len(big)
    assert status(live, grant["file_url"]) == 503
    path.write_bytes(b"another")
    assert status(live, grant["file_url"]) == 503
    path.with_suffix(".gone").rename(path)
    assert status(live, grant["file_url"]) == 206
    with begin(live, grant["file_url"]) as peer:
        peer.recv(15)
        path.chmod(0o600)
        os.truncate(path, 1 << 20)
        # Never filled up with anything else: the line ends.
        assert len(drain(peer)) < len(big)


def test_conditions_are_judged_by_the_strong_tag(live: Live) -> None:
    url = live.grant("reviewer", live.scene.record(case=live.scene.case_a).item_id)["file_url"]

    def ask(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(url, headers=named, trust_env=False)

    tag = ask().headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = ask(If_None_Match=known, Range="bytes=0-1")
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert ask(If_None_Match='"other"').status_code == 200
    assert ask(If_Match=tag, Range="bytes=0-1").status_code == 206
    answer = ask(If_Match='"other"')
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Content-Range", "ETag", "Content-Length"} <= set(exposed.split(", "))


def test_a_trusted_nginx_is_told_where_the_file_is_and_nobody_where_a_span_is(live: Live) -> None:
    scene = live.scene
    recording = scene.record(case=scene.case_a)
    url = live.grant("reviewer", recording.item_id)["file_url"]
    spanned = scene.record(spans=[(scene.case_a, 0, 2_500_000), (scene.case_b, 2_500_000, 6_000_000)])
    within = live.grant("handler", spanned.item_id, variant="original", reason="核对")
    listed = live.anyone.get(within["playlist_url"]).text
    media = next(line for line in listed.splitlines() if line.startswith("http"))
    with second_listener(live, accel_location="/liuhen-objects/", behind_proxy=True) as port:

        def ask(address: str, method: str = "GET", **headers: str) -> httpx.Response:
            where = f"http://127.0.0.1:{port}{urlsplit(address).path}"
            return httpx.request(method, where, headers=headers, trust_env=False)

        for answer in (ask(url), ask(url, Range="bytes=0-9")):
            assert answer.status_code == 200
            key = recording.derivatives["redacted"].store_key
            assert answer.headers["x-accel-redirect"] == f"/liuhen-objects/{key}"
            assert answer.content == b""
            assert answer.headers["etag"] == f'"{recording.derivatives["redacted"].sha256.hex()}"'
        # What nginx would judge by a tag of its own, or must not send whole, comes from here.
        part = ask(url, Range="bytes=0-9", **{"If-Range": answer.headers["etag"]})
        assert (part.status_code, part.content) == (206, reel(51).rendition[:10])
        assert "x-accel-redirect" not in ask(media, Range="bytes=0-9").headers
        assert ask(media).status_code == 403
        piece = ask(f"{url}/0-9.mp4")
        assert (piece.content, "x-accel-redirect" in piece.headers) == (reel(51).rendition[:10], False)
        assert ask(url, "HEAD").headers["content-length"] == str(len(reel(51).rendition))
        assert ask(url.replace("/m/", "/m/x")).status_code == 404


def test_what_is_no_request_is_refused_and_a_body_ends_the_line(live: Live) -> None:
    port = live.scene.settings.media.port

    def said(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(data)
            return drain(peer)

    assert said(b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert said(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000).startswith(b"HTTP/1.1 431 ")
    both = said(b"POST /m/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /healthz HTTP/1.1\r\n\r\n")
    assert both.startswith(b"HTTP/1.1 405 ")
    assert both.count(b"HTTP/1.1") == 1
    for bare in (b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
                 b"GET /healthz\r\n\r\n"):  # fmt: skip
        assert said(bare).startswith(b"HTTP/1.1 400 "), bare
    assert said(b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 505 ")
    for target in (b"http://x/healthz", b"HTTPS://x:1/healthz?q=/", b"/healthz?a"):
        asked = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert said(asked).startswith(b"HTTP/1.1 200 "), target
    for name in (b"healthz", b"readyz"):
        two = said(
            b"HEAD /" + name + b" HTTP/1.1\r\nHost: x\r\n\r\nDELETE /" + name + b" HTTP/1.1\r\nHost: x\r\n"
            b"Connection: close\r\n\r\n"
        )
        first, _, second = two.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 405 ")
    ahead = said(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /healthz HTTP/1.0\r\n\r\n")
    assert ahead.count(b"HTTP/1.1 200 OK") == 4
