"""The page in a real browser: a session that runs is watched live, and the burnt-in numbers tell the delay."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from media.footage import read_frame_number
from tests.integration.test_api_live import room_of
from tests.journey.chromium import ARGUMENTS, browser_path
from tests.support.hls import read_media
from tests.support.media import make_plain
from tests.support.scene import CASE_A, PASSWORD, Live

pytestmark = pytest.mark.browser
SEEN = """() => [...document.querySelectorAll('#live-panes video')].map((video) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 180 })
  const brush = canvas.getContext('2d')
  brush.drawImage(video, 0, 0, 320, 180)
  const pixels = brush.getImageData(0, 0, 320, 180).data
  let text = ''
  for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(pixels[at + 1])
  return btoa(text)
})"""


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        context = browser.new_context(locale="zh-CN")
        context.set_default_timeout(20_000)
        yield context.new_page()
        browser.close()


def numbers(page: Page) -> list[int | None]:
    seen = [np.frombuffer(base64.b64decode(each), np.uint8).reshape(180, 320) for each in page.evaluate(SEEN)]
    return [read_frame_number(each) for each in seen]


def test_a_session_is_watched_live_side_by_side(page: Page, tmp_path: Path) -> None:
    camera = tmp_path / "camera.mp4"
    import os

    make_plain(
        camera, seconds=float(os.environ.get("SECS", 20)), keyframe_every=int(os.environ.get("GOP", 50))
    )
    with room_of(tmp_path, {"main": camera, "room": camera}) as (live, rooms):
        begun = live.as_("officer").post(
            "/api/v1/room-sessions", json={"room_no": "R-1", "facts": {"case_no": CASE_A}}
        )
        time.sleep(float(os.environ.get("WAIT", 6)))
        page.on("console", lambda m: print("CONSOLE", m.text))
        page.on("pageerror", lambda m: print("ERROR", m))
        page.goto(live.api_url)
        page.fill("#sign-in [name=username]", "handler")
        page.fill("#sign-in [name=password]", PASSWORD)
        page.click("#sign-in button")
        page.fill("#room-list input", "督导")
        asked = time.monotonic()
        page.click("#room-list button")
        while not all(
            page.evaluate(
                "() => [document.querySelectorAll('#live-panes video').length === 2, ...[...document.querySelectorAll('#live-panes video')].map((v) => v.readyState >= 2)]"
            )
        ):
            assert time.monotonic() - asked < 15
            page.wait_for_timeout(20)
        print("first picture after", time.monotonic() - asked)
        answer = (
            live.as_("handler")
            .post(
                f"/api/v1/room-sessions/{begun.json()['id']}/live-grants",
                json={"purpose": "supervision", "reason": "x"},
            )
            .json()
        )
        dates = [
            read_media(live.anyone.get(s["playlist_url"]).text).pieces[0].dated_at.timestamp()
            for s in answer["streams"]
        ]
        for _ in range(int(os.environ.get("LOOKS", 12))):
            now = time.time()
            seen = numbers(page)
            walls = [None if n is None else d + n / 25 for n, d in zip(seen, dates)]
            print(
                [None if w is None else round(now - w, 2) for w in walls],
                seen,
                page.inner_text("#live-behind"),
                page.evaluate(
                    "() => [...document.querySelectorAll('#live-panes .pane-told')].map((e) => e.hidden ? '' : e.textContent)"
                ),
                page.inner_text("#live-told"),
            )
            page.wait_for_timeout(500)
