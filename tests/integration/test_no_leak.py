"""Nobody without the right gets one byte of anything unmasked: shown over all that answers (invariant 7).

Every route of the application is asked, and every kind of address of the media listener, by everybody who has
no right to the original; one judge reads all answers. The recordings are hostile: each says in many places of
its container what nobody may learn. Two leaks that are planted show that the judge sees.
"""

from __future__ import annotations

import base64
import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

import workers.tasks.redaction
from api import issuing
from api.auth.capability import Use
from api.auth.rights import EVERYTHING
from api.issuing import Variant
from messaging.events import EventPublisher, Forwarder
from storage.db.tables import Derivative
from tests.integration.leak_asking import Asking, addresses_in, routes_of
from tests.integration.leak_world import WHOLE, World, leak_world
from tests.integration.tus_server import AUTH, OTHER_AUTH, running
from tests.support.hostile import PACKET_NEEDLES, holds
from tests.support.leaks import Answer, Judge, uncovered
from transcode.names import MASKED_PREFIX, SUFFIXES, address_name
from transcode.stills import make_poster

HEADERS: list[dict[str, str]] = [
    {}, {"Range": "bytes=0-199"}, {"Range": "bytes=-200"}, {"Range": "bytes=0-99,200-299"},
    {"Range": "bytes=4096-", "If-Range": '"x"'}, {"If-None-Match": "*"},
]  # fmt: skip
FIXED = ("original", "poster.jpg", "photo.jpg", "track.geojson", "rendition-copy.mp4", "rendition-360p.mp4",
         "rendition-preview.mp4", "clip.mp4", "picture.png", "clips.zip", "composite.mp4", "")  # fmt: skip
PICTURES = {"redacted", "rendition", "poster", "sheet", "clip"}
FPS = 5
GIVEN_LEAST = 45
"""Of all routes those that give somebody something; what is refused shows less."""
TRICKS = ("../original", "%2e%2e/original", "..%2foriginal", "./original", "/original", "original/0-199.mp4",
          "original%00", "ORIGINAL", "original?download=1", "original%2f", "rendition-copy.mp4/0-199.mp4",
          "rendition-copy%2emp4", "%6friginal")  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with leak_world(tmp_path_factory.mktemp("leaks")) as world:
        yield world


@pytest.fixture(scope="module")
def judge(world: World) -> Judge:
    return world.judge()


def got(where: str, answer: httpx.Response, *, is_media: bool = False) -> Answer:
    return Answer(where, answer.status_code, dict(answer.headers), answer.content, is_media)


class Line:
    """The media listener, asked by paths that no client would tidy up."""

    def __init__(self, line: http.client.HTTPConnection) -> None:
        self._line = line

    def ask(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        self._line.request(method, path, headers=dict(headers or {}))
        answer = self._line.getresponse()
        said = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(
            f"{method} {path} {headers}", answer.status, said, answer.read(), path.startswith("/m/")
        )


@pytest.fixture(scope="module")
def line(world: World) -> Iterator[Line]:
    parts = urlsplit(world.live.media_url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)) as line:
        yield Line(line)


def names_of(world: World) -> list[str]:
    """Whatever may stand behind a token: what is fixed, tricks, and the name of everything by its digest."""
    rows = world.rows()
    named = [address_name(row.kind, row.sha256) for row in rows if row.kind in SUFFIXES]
    crossed = [f"{kind}-{row.sha256.hex()[:16]}.{SUFFIXES[kind]}" for row in rows if row.kind == "rendition"
               for kind in SUFFIXES]  # fmt: skip
    return [*FIXED, *TRICKS, *named, *crossed, *(row.store_key for row in world.unmasked())]


def altered(token: str) -> Iterator[str]:
    """Tokens that are nearly one, among them one for each use there is."""
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for use in Use:
        yield (
            base64.urlsafe_b64encode(use.value + raw[1:]).rstrip(b"=").decode()
            if use.value != raw[:1]
            else "x"
        )
    for at in (1, 20, 40, 50, len(raw) - 1):
        changed = bytearray(raw)
        changed[at] ^= 1
        yield base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
    yield from (token[:-1], token.lower(), token + "=", token[:-1] + "%41", "A" * len(token))


def media_answers(world: World, line: Line) -> Iterator[Answer]:
    """What the reviewer's own addresses give under every name, and what altered ones of others do."""
    names = names_of(world)
    own = {said[key].split("/m/")[1].split("/")[0] for said in world.taken.values() for key in said
           if key.endswith("_url") and said[key] and "/m/" in said[key]}  # fmt: skip
    assert len(own) >= 5
    for token in sorted(own):
        for name in names:
            yield line.ask(f"/m/{token}/{name}")
        for name, headers in product(("original", "rendition-copy.mp4", "clip.mp4"), HEADERS):
            yield line.ask(f"/m/{token}/{name}", headers)
            yield line.ask(f"/m/{token}/{name}", headers, "HEAD")
    shown = urlsplit(world.taken["masked"]["file_url"]).path
    for headers in HEADERS:
        yield line.ask(shown, headers)
    for token in sorted(set(world.tokens().values())):
        for wrong, name in product(altered(token), ("original", "clip.mp4", "rendition-copy.mp4")):
            yield line.ask(f"/m/{wrong}/{name}")
    for path in ("/", "/m/", "/m/../original", "/objects", "/healthz", "/readyz", "//m/x/original"):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"):
            yield line.ask(path, method=method)


def first_leaks(judge: Judge, answers: Iterator[Answer]) -> list[str]:
    return [leak for answer in answers for leak in judge.leaks(answer)][:5]


def test_every_route_of_the_application_asked_by_everybody_without_the_right(
    world: World, judge: Judge
) -> None:
    app: FastAPI = world.live.app
    asked: set[tuple[str, str]] = set()
    given: set[str] = set()
    for name, client in world.others.items():
        asking = Asking(world, app)
        for answer in asking.everything(name, client):
            assert judge.leaks(answer) == []
            given |= {answer.route} if answer.status < 300 else set()
        asked |= asking.asked
    assert asked == routes_of(app), "a route was added that this test does not ask"
    listed = {(method.upper(), path) for path, held in app.openapi()["paths"].items() for method in held}
    assert listed <= asked
    assert len(given) > GIVEN_LEAST, sorted(given)


def test_every_address_of_the_media_listener_under_every_name(world: World, judge: Judge, line: Line) -> None:
    answers = list(media_answers(world, line))
    assert first_leaks(judge, iter(answers)) == []
    assert any(answer.status == 206 for answer in answers)
    assert sum(answer.is_footage for answer in answers) > 10


def test_the_judge_sees_what_a_holder_of_the_right_is_given(world: World, judge: Judge, line: Line) -> None:
    for name in ("original", "awaiting", "clip", "picture"):
        path = urlsplit(world.held[name]["file_url"]).path
        whole = line.ask(path)
        # Of the slices in the middle: the end holds sound, which is the same in both.
        middle = len(whole.body) // 2
        part = line.ask(path, {"Range": f"bytes={middle}-{middle + 199}"})
        assert (whole.status, part.status) == (200, 206), name
        assert judge.leaks(whole), name
        assert judge.leaks(part), name


def test_news_says_nothing_of_what_is_not_masked(world: World, judge: Judge) -> None:
    settings = world.live.scene.settings
    assert {event.what for event in world.events} >= {"redacted"}
    forwarder = Forwarder(settings.events_publish_url, settings.events_subscribe_url)
    forwarder.start()
    publisher, stop = EventPublisher(settings.events_publish_url), threading.Event()

    def tell() -> None:
        while not stop.wait(0.05):
            for event in world.events:
                publisher.publish(event)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        with world.others["reviewer"].stream("GET", "/api/v1/events") as stream:
            lines = stream.iter_lines()
            said = [line for line, _ in zip(lines, range(8 * len(world.events)), strict=False)]
    finally:
        stop.set()
        teller.join()
        publisher.close()
        forwarder.stop()
    assert sum(line.startswith("data: ") for line in said) > len(world.events)
    assert (
        judge.leaks(Answer("news", 200, {"content-type": "text/event-stream"}, "\n".join(said).encode()))
        == []
    )


def test_an_upload_is_nobody_s_to_read(world: World, judge: Judge, tmp_path: Path) -> None:
    content = world.hostile["mp4"].path.read_bytes()
    with running(tmp_path) as listener:
        path = listener.create(len(content) + 1)
        assert listener.patch(path, 0, content).status_code == 204
        sent = 0
        with listener.client() as client:
            for method, headers, where in product(
                ("GET", "HEAD", "OPTIONS", "POST", "PUT"),
                (AUTH, OTHER_AUTH, {}),
                (path, f"{path}.part", "/uploads/"),
            ):
                answer = client.request(method, where, headers={**headers, "Range": "bytes=0-999"})
                assert judge.leaks(got(f"{method} {where}", answer)) == []
                sent += 1
        assert sent == 45


def bare(world: World, rows: list[Derivative]) -> set[str]:
    """Kinds of files of the first item in which a picture is bare where its mask must lie."""
    return {
        row.kind
        for row in rows
        if row.item_id == world.items["mp4"] and row.kind.removeprefix(MASKED_PREFIX) in PICTURES
        and "composite" not in row.params and row.content_type != "application/zip"
        if uncovered(
            world.content(row.store_key), row.content_type, world.boxes,
            first=row.info.get("at_us", 0) * FPS // 1_000_000, share=2 if row.kind.endswith("sheet") else 1,
        )
    }  # fmt: skip


def test_pixels_under_the_mask_are_the_fill_in_whatever_is_served(world: World) -> None:
    assert {"redacted", "redacted_poster", "redacted_sheet", "clip"} <= {row.kind for row in world.masked()}
    assert bare(world, world.masked()) == set()
    assert bare(world, world.unmasked()) == {
        "rendition",
        "poster",
        "sheet",
        "clip",
        "redacted",
        "redacted_poster",
    }


@pytest.mark.parametrize("kind", ["mp4", "ts", "mkv", "avi"])
def test_a_hostile_container_comes_out_clean(world: World, kind: str) -> None:
    """Positions in four places, cover, second picture, telemetry, tags, units and elements nobody sees."""
    hostile, item_id = world.hostile[kind], world.items[kind]
    original = hostile.path.read_bytes()
    assert [name for name, wanted in hostile.needles.items() if not holds(original, wanted)] == []
    rows = [row for row in world.rows() if row.item_id == item_id]
    if set(PACKET_NEEDLES) <= hostile.needles.keys():
        copied = b"".join(world.content(row.store_key) for row in rows if row.kind == "rendition")
        assert holds(copied, hostile.needles["aac_fill"]), (
            "sound was copied into what holders of the right see"
        )
    served = [row for row in world.masked() if row.item_id == item_id]
    assert {"redacted", "redacted_poster"} <= {row.kind for row in served}
    wanted = {**hostile.needles, "any": b"NEEDLE_", "file name": hostile.path.stem.encode()}
    found = [(row.kind, name) for row in served for name, each in wanted.items()
             if holds(world.content(row.store_key), each)]  # fmt: skip
    assert found == []


def test_a_right_that_is_given_to_everybody_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted leak: whoever asks for the original gets it."""
    judge, client, main = world.judge(), world.others["reviewer"], world.items["avi"]
    path = f"/api/v1/items/{main}/grants"
    assert client.post(path, json=WHOLE).status_code == 403
    monkeypatch.setitem(issuing.REACHES, Variant.ORIGINAL, lambda *_: EVERYTHING)
    given = client.post(path, json=WHOLE)
    monkeypatch.undo()
    seen = [leak for url in addresses_in(given.text) if "/m/" in url
            for leak in judge.leaks(got(url, httpx.get(url, trust_env=False), is_media=True))]  # fmt: skip
    assert any("a stretch of what is not masked" in leak for leak in seen)


def test_a_still_made_from_the_unmasked_picture_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted leak: the poster of the masked rendition shows another one."""
    main = world.items["mp4"]
    source = next(row for row in world.rows() if row.item_id == main and row.kind == "rendition")
    path = world.live.scene.storage.objects.path(source.store_key)
    assert path is not None

    def of_another(_: Path, index: Any, *rest: Any, **more: Any) -> Any:
        return make_poster(path, index, *rest, **more)

    monkeypatch.setattr(workers.tasks.redaction, "make_poster", of_another)
    box = {"op": "add_box", "shape": "rectangle", "reason": "privacy", "keys": [[0, 0, 0, 20, 20, 0]]}
    back = [{"op": "accept_box", "track": track.id} for track in world.plan(main).tracks]
    body = {"base_number": 2, "changes": [*back, box], "note": "改"}
    amended = world.live.as_("handler").post(f"/api/v1/items/{main}/redaction/plans", json=body)
    assert amended.status_code == 201, amended.text
    world.pipeline.work(only={"render"})
    monkeypatch.undo()
    assert bare(world, world.masked()) == {"redacted_poster"}
