"""A session is watched while it is recorded: who may, what lists say, and that the bytes are the original."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import select

from config.rooms import RoomSettings, StreamSettings
from evidence.clock import SystemClock
from evidence.kinds import Role
from ingest.daemon.rooms import Rooms
from media.footage import read_frame_number
from storage.db.room_tables import SessionPart
from storage.db.tables import StoredObject
from tests.journey.chromium import ARGUMENTS, browser_path
from tests.support.databases import laid_url
from tests.support.hls import MediaPlaylist, read_media
from tests.support.media import make_plain
from tests.support.rooms import recorded_for_real
from tests.support.scene import CASE_A, PASSWORD, Live, Scene, served

pytestmark = pytest.mark.browser
FPS = 25
SEEN = """() => [...document.querySelectorAll('#live-panes video')].map((video) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 })
  const brush = canvas.getContext('2d')
  brush.drawImage(video, 0, 0, 320, 180)
  const pixels = brush.getImageData(0, 0, 320, 180).data
  let text = ''
  for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(pixels[at + 1])
  return btoa(text)
})"""
API = "/api/v1"
WHY = {"purpose": "supervision", "reason": "现场督导"}


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    path = tmp_path_factory.mktemp("room") / "camera.mp4"
    make_plain(path, seconds=25, keyframe_every=25)
    return {"main": path, "room": path}


@contextmanager
def room_of(folder: Path, footage: dict[str, Path], **more: Any) -> Iterator[tuple[Live, Rooms]]:
    streams = [StreamSettings(name=name, url=f"file://{path}") for name, path in footage.items()]
    room = RoomSettings(room_no="R-1", name="一号询问室", streams=streams, **more)
    scene = Scene(folder, laid_url("sqlite", folder), room)
    # The recorder's process tells the time of the host.
    scene.storage = replace(scene.storage, clock=SystemClock())
    try:
        with served(scene) as live, recorded_for_real(scene.settings, scene.storage, folder) as rooms:
            yield live, rooms
    finally:
        scene.close()


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, footage: dict[str, Path]
) -> Iterator[tuple[Live, Rooms]]:
    with room_of(tmp_path_factory.mktemp("live"), footage) as found:
        yield found


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        context = browser.new_context(locale="zh-CN")
        context.set_default_timeout(20_000)
        yield context.new_page()
        browser.close()


def call(live: Live, name: str, method: str, path: str, status: int = 200, **body: Any) -> Any:
    given = {"json": body} if method == "POST" else {"params": body}
    answer = live.as_(name).request(method, API + path, **given)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def until(is_so: Callable[[], Any], patience_s: float = 20) -> Any:
    deadline = time.monotonic() + patience_s
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def listed(live: Live, shown: dict[str, Any], lane: int = 0, least: int = 1) -> MediaPlaylist:
    """The list of a stream, once it has so many pieces."""

    def look() -> MediaPlaylist | None:
        answer = live.anyone.get(shown["streams"][lane]["playlist_url"])
        assert answer.status_code in {200, 404}, answer.text
        found = read_media(answer.text) if answer.status_code == 200 else None
        return found if found is not None and len(found.pieces) >= least else None

    found: MediaPlaylist = until(look)
    return found


def bytes_of(live: Live, url: str, first: int, size: int) -> bytes:
    answer = live.anyone.get(url, headers={"Range": f"bytes={first}-{first + size - 1}"})
    assert answer.status_code == 206, answer.text
    return answer.content


def numbers(page: Page) -> list[int | None]:
    """The burnt-in number of each picture that shows."""
    seen = [np.frombuffer(base64.b64decode(each), np.uint8).reshape(180, 320) for each in page.evaluate(SEEN)]
    return [read_frame_number(each) for each in seen]


def until_page(page: Page, is_so: Callable[[], bool]) -> None:
    for _ in range(200):
        if is_so():
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.inner_text("#rooms"))


def test_a_session_is_watched_live_side_by_side_and_stays_one_copy(
    recorded: tuple[Live, Rooms], page: Page
) -> None:
    live, rooms = recorded
    scene = live.scene
    facts = {"case_no": CASE_A, "officers": ["330199"]}
    begun = call(live, "officer", "POST", "/room-sessions", 201, room_no="R-1", facts=facts)
    session_id, path = begun["id"], f"/room-sessions/{begun['id']}"
    until(lambda: list(scene.storage.recorder.glob("*/R-1/main/*/*.part")))
    for name in (*(set(Role) - {Role.LEGAL_REVIEWER, Role.ARCHIVIST, Role.HANDLER}), "handler2"):
        call(live, str(name), "POST", f"{path}/live-grants", 403, **WHY)
    call(live, "handler", "POST", f"{path}/live-grants", 422, purpose="supervision")
    assert scene.leaves(session_id, "grant:issued") == []
    shown = call(live, "handler", "POST", f"{path}/live-grants", 201, **WHY)
    first = [listed(live, shown, lane) for lane in (0, 1)]
    for each in first:
        assert (each.kind, each.target_s, each.is_ended) == ("EVENT", 4, False)
    assert scene.leaves(session_id, "live:issued") == []
    for stream in rooms._rooms[0].streams:
        stream.cut()
    (host,) = call(live, "handler", "GET", path)["held_by"]
    watched_on_the_page(live, page, [each.pieces[0].dated_at for each in first], host)

    # What was told stays, over the end of a file and its way into the store.
    grown = until(lambda: with_files(listed(live, shown), 2))
    assert grown.pieces[: len(first[0].pieces)] == first[0].pieces
    piece = grown.pieces[0]
    until(lambda: len(call(live, "handler", "GET", path)["files"]) >= 2)
    files = call(live, "handler", "GET", path)["files"]
    digest = next(each["sha256"] for each in files if each["stream"] == "main")
    held = next(each for each in kept(scene) if sha256(each).hexdigest() == digest)
    told = [each for each in grown.pieces if each.url == piece.url]
    end = told[-1].first + told[-1].size
    assert piece.head is not None
    assert bytes_of(live, piece.url, 0, piece.head[1]) == held[: piece.head[1]]
    assert bytes_of(live, piece.url, piece.first, end - piece.first) == held[piece.first : end]
    assert len(scene.leaves(session_id, "live:issued")) == 2
    state = call(live, "handler", "GET", f"/live-grants/{shown['grant_id']}")
    assert state["unregistered"] == {"case_no": False, "officers": ["330199"]}
    assert (len(state["held_by"]), state["complete_at"]) == (1, None)
    assert [(each["name"], each["state"]) for each in state["streams"]] == [
        ("main", "live"),
        ("room", "live"),
    ]

    # Ended, and a case's items: the recorder's own files, and nothing else.
    call(live, "officer", "POST", f"{path}/stop")
    until(lambda: listed(live, shown).is_ended)
    last = listed(live, shown)
    assert last.pieces[: len(grown.pieces)] == grown.pieces
    ask = f"{API}{path}/live-grants"
    over = until(lambda: (found := live.as_("handler").post(ask, json=WHY)).status_code == 409 and found)
    assert over.json()["code"] == "live_over"
    left = scene.storage.recorder.glob("*/R-1/*/*/*.mp4*")
    assert {sha256(path.read_bytes()).digest() for path in left}.isdisjoint(
        sha256(each).digest() for each in kept(scene)
    )
    files = call(live, "handler", "GET", path)["files"]
    assert {each["sha256"] for each in files} == {sha256(each).hexdigest() for each in kept(scene)}
    assert {urlsplit(each.url).path.rpartition("/")[2] for each in last.pieces} == {
        f"live-0-{run}-{number:06d}.mp4" for run, number in parts_of(scene, "main")
    }
    assert bytes_of(live, piece.url, piece.first, piece.size) == held[piece.first : piece.first + piece.size]
    call(live, "handler2", "DELETE", f"/live-grants/{shown['grant_id']}", 403)
    call(live, "legal_reviewer", "DELETE", f"/live-grants/{shown['grant_id']}", 204)
    assert live.anyone.get(shown["streams"][0]["playlist_url"]).status_code == 410
    assert live.anyone.get(piece.url).status_code == 410
    assert scene.leaves(session_id, "grant:revoked")[-1]["facts"]["why"] == "revoked"


def watched_on_the_page(live: Live, page: Page, dates: list[datetime | None], host: str) -> None:
    page.goto(live.api_url)
    page.fill("#sign-in [name=username]", "handler")
    page.fill("#sign-in [name=password]", PASSWORD)
    page.click("#sign-in button")
    page.fill("#room-list input", "现场督导")
    asked_s = time.monotonic()
    page.click("#room-list button")
    until_page(page, lambda: len(found := numbers(page)) == 2 and all(each is not None for each in found))
    assert time.monotonic() - asked_s < 3

    def behind_s() -> list[float]:
        # The number of a picture says when it was made: the first is the first of the list.
        now = datetime.now(tz=UTC)
        found = zip(numbers(page), dates, strict=True)
        return [
            (now - date).total_seconds() - number / FPS
            for number, date in found
            if number is not None and date
        ]

    page.wait_for_timeout(1500)
    one, two = behind_s()
    assert max(one, two) < 6 and abs(one - two) < 0.25, (one, two)
    expect(page.locator("#live-told")).to_have_text("已登记但本机构名册没有:执法人员 330199")
    for said in ("执法人员 330199", f"影像仍在录制主机 {host}"):
        expect(page.locator("#room-list")).to_contain_text(said)
    expect(page.locator("#live-panes figcaption").first).to_contain_text("实时")
    page.click("[data-live=start]")
    until_page(page, lambda: all(each is not None and each < FPS for each in numbers(page)))
    page.click("[data-live=now]")
    until_page(page, lambda: max(behind_s(), default=9) < 6)
    page.click("#language")
    expect(page.locator("#live-behind")).to_contain_text("behind")
    expect(page.locator("#live-told")).to_have_text("stated, and not registered here: officer 330199")
    masked_on_the_page(live, page)
    page.click("[data-live=close]")
    expect(page.locator("#live-panes video")).to_have_count(0)
    ticked_on_the_page(live, page)


def masked_on_the_page(live: Live, page: Page) -> None:
    """Areas are drawn over what is watched, and others may watch what they leave; then nobody else may."""
    page.click("#live-mask-box summary")
    page.fill("#live-mask-form [name=statement]", "遮挡被询问人")
    page.click("#live-mask-form button:text('Let others watch')")
    expect(page.locator("#notice")).to_have_text("Draw an area over a picture first")
    seen = page.locator("#live-panes .pane-picture").first.bounding_box()
    assert seen is not None
    page.mouse.move(seen["x"] + seen["width"] / 4, seen["y"] + seen["height"] / 2)
    page.mouse.down()
    page.mouse.move(seen["x"] + seen["width"] * 2, seen["y"] + seen["height"] * 3 / 4)
    page.mouse.up()
    page.click("#live-mask-form button:text('Let others watch')")
    expect(page.locator("#notice")).to_contain_text("others may watch")
    page.click("[data-mask=lift]")
    expect(page.locator("#notice")).to_contain_text("nobody else watches")
    (session,) = call(live, "handler", "GET", "/room-sessions", state="open")["items"]
    drawn, lifted = call(live, "handler", "GET", f"/room-sessions/{session['id']}/live-masks")
    assert list(drawn["streams"]) == ["main"] and not lifted["streams"]
    cover = drawn["streams"]["main"]
    assert (cover["width_px"], cover["height_px"], cover["heard"]) == (320, 180, False)
    assert np.abs(np.subtract(cover["areas"], [[80, 90, 320, 135]])).max() <= 2


def ticked_on_the_page(live: Live, page: Page) -> None:
    """What must be said is ticked while it runs, and the next session planned and withdrawn."""
    page.click("#room-list summary")
    shown, untold = (page.locator(f"[data-point={code}]") for code in ("certificates_shown", "recusal_asked"))
    shown.get_by_role("button", name="Shown now").click()
    expect(shown).to_contain_text("✓")
    untold.get_by_label("Why it is not shown").fill("当事人中途离场")
    untold.get_by_role("button", name="State").click()
    expect(untold).to_contain_text("当事人中途离场")
    (session,) = call(live, "handler", "GET", "/room-sessions", state="open")["items"]
    found = call(live, "handler", "GET", f"/room-sessions/{session['id']}/checklist")
    count = f"{len(found['open'])} of {len(found['points'])}"
    expect(page.locator("#room-list summary")).to_contain_text(count)
    told = {each["point"]: (each["is_shown"], each["text"]) for each in found["points"]}
    assert told["certificates_shown"] == (True, "")
    assert told["recusal_asked"] == (False, "当事人中途离场")

    page.click("#plans-box summary")
    form, day = page.locator("#plan-form"), (datetime.now(UTC) + timedelta(days=2)).date()
    form.get_by_label("From").fill(f"{day}T09:00")
    form.get_by_label("To", exact=True).fill(f"{day}T11:00")
    form.get_by_label("Officers").fill("330101,330102")
    form.get_by_role("button", name="Plan").click()
    row = page.locator("#plans li")
    expect(row).to_contain_text(f"{day} 09:00:00 +08:00")
    expect(row).to_contain_text("not stated: case, who is heard, object of proof")
    (plan,) = call(live, "handler", "GET", "/planned-sessions")
    assert plan["facts"]["officers"] == ["330101", "330102"]
    row.get_by_role("button", name="Withdraw").click()
    expect(row).to_contain_text("withdrawn")


def test_the_page_joins_an_update_to_what_it_knows(recorded: tuple[Live, Rooms], page: Page) -> None:
    live, _ = recorded
    page.goto(live.api_url)
    pieces = [f"#EXTINF:2.000000,\n#EXT-X-BYTERANGE:9@{10 * at}\na.mp4\n" for at in range(40)]
    head = '#EXT-X-MAP:URI="a.mp4",BYTERANGE="5@0"\n#EXT-X-PROGRAM-DATE-TIME:2026-03-01T00:00:{}.000000Z\n'
    begin, gap = head.format("00"), "#EXT-X-DISCONTINUITY\n" + head.format("59")
    full = "#EXTM3U\n" + begin + "".join(pieces[:20]) + gap + "".join(pieces[20:])
    known = "#EXTM3U\n" + begin + "".join(pieces[:18])
    # The update begins in the midst of the first file, sixteen seconds in.
    update = "#EXTM3U\n#EXT-X-SKIP:SKIPPED-SEGMENTS=8\n" + head.format("16") + "".join(pieces[8:20])
    update += gap + "".join(pieces[20:])
    script = """async ([known, update, full]) => {
      const { newSegments, readPlaylist } = await import('/static/source.js'), base = 'https://x/live.m3u8'
      const before = readPlaylist(known, base)
      const joined = [...before, ...newSegments(before, update, base)]
      return [joined, readPlaylist(full, base), newSegments([], update, base)]
    }"""
    joined, whole, too_old = page.evaluate(script, [known, update, full])
    assert (joined, too_old, len(whole)) == (whole, None, 40)


def with_files(found: MediaPlaylist, count: int) -> MediaPlaylist | None:
    return found if len({each.url for each in found.pieces}) >= count else None


def kept(scene: Scene) -> list[bytes]:
    """The bytes of every original in the store, oldest first, which no other file holds."""
    with scene.storage.database.read() as session:
        keys = session.scalars(select(StoredObject.store_key).order_by(StoredObject.stored_at)).all()
    paths = [scene.storage.objects.path(key) for key in keys]
    assert all(path is not None and path.stat().st_nlink == 1 for path in paths)
    return [path.read_bytes() for path in paths if path is not None]


def parts_of(scene: Scene, stream: str) -> list[tuple[str, int]]:
    with scene.storage.database.read() as session:
        rows = session.scalars(select(SessionPart).where(SessionPart.stream == stream)).all()
    return [(row.run, row.file_no) for row in rows]
