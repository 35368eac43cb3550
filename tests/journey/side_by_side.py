"""Several playlists in one page of Chromium through hls.js: what each shows at one instant, sought and playing."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from media.footage import read_frame_number
from tests.journey.chromium import ARGUMENTS, browser_path, served

# The page keeps one clock. A player that is ahead of it (hls.js leaps over gaps) is held until it is there.
PAGE = """<!doctype html><meta charset="utf-8"><title>side by side</title><div id="wall"></div>
<script src="/hls.js"></script>
<script>
const players = []
const errors = []
const brush = Object.assign(document.createElement('canvas'), { width: 320, height: 180 })
  .getContext('2d', { willReadFrequently: true })
function open(source) {
  const video = Object.assign(document.createElement('video'),
    { muted: true, playsInline: true, width: 320, height: 180 })
  document.getElementById('wall').append(video)
  const hls = new Hls({ enableWorker: false, startPosition: source.seek_to_s })
  hls.on(Hls.Events.ERROR, (_, data) => { errors.push(`${data.fatal} ${data.details}`) })
  hls.loadSource(source.playlist_url)
  hls.attachMedia(video)
  players.push({ video, hls, seek: source.seek_to_s })
}
function holds(video, at) {
  for (let n = 0; n < video.buffered.length; n++) {
    if (video.buffered.start(n) <= at && at < video.buffered.end(n)) return true
  }
  return false
}
function picture(video) {
  brush.drawImage(video, 0, 0, 320, 180)
  const pixels = brush.getImageData(0, 0, 320, 180).data
  let text = ''
  for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(pixels[at + 1])
  return btoa(text)
}
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms) })
async function seekAll(seconds) {
  const shown = []
  for (const { video, seek } of players) {
    const at = seek + seconds
    const drawn = new Promise((resolve) => { video.requestVideoFrameCallback(resolve) })
    video.currentTime = at
    for (let n = 0; n < 40 && !(holds(video, at) && !video.seeking && video.readyState >= 2); n++) await pause(50)
    if (!holds(video, at) || video.seeking) { shown.push(null); continue }
    await Promise.race([drawn, pause(500)])
    shown.push(Math.abs(video.currentTime - at) < 0.001 ? picture(video) : null)
  }
  return shown
}
async function playAll(from, seconds) {
  await seekAll(from)
  const began = performance.now()
  const seen = []
  let worst = 0
  while (true) {
    const clock = from + (performance.now() - began) / 1000
    if (clock >= from + seconds) break
    for (const { video, seek } of players) {
      const is_ahead = video.currentTime - seek - clock
      if (is_ahead > 0.04 && !video.paused) video.pause()
      else if (is_ahead <= 0 && video.paused && !video.ended) await video.play().catch(() => {})
      if (is_ahead < -0.06 && holds(video, seek + clock)) video.currentTime = seek + clock
    }
    await pause(15)
  }
  for (const { video } of players) video.pause()
  const clock = from + (performance.now() - began) / 1000
  for (const { video, seek } of players) seen.push([video.currentTime - seek - clock, picture(video)])
  return seen
}
</script>"""


def watch(
    sources: Sequence[dict[str, Any]], instants_s: Sequence[float], playing: tuple[float, float], hls_js: Path
) -> tuple[list[list[int | None]], list[tuple[float, int | None]], list[str]]:
    """What each source shows.

    Returns:
        For each instant, sought, the number of each source's picture (None: it has none there); at the end of
        playing from an instant for so many seconds, how far each is ahead and its picture; what hls.js said.
    """
    files = {"/": ("text/html", PAGE.encode()), "/hls.js": ("text/javascript", hls_js.read_bytes())}
    with served(files) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        try:
            page = browser.new_page()
            page.goto(site)
            page.evaluate("(sources) => sources.forEach(open)", list(sources))
            sought = [
                [_number(shown) for shown in page.evaluate("(at) => seekAll(at)", at)] for at in instants_s
            ]
            played = page.evaluate("([from, seconds]) => playAll(from, seconds)", list(playing))
            errors: list[str] = page.evaluate("errors")
        finally:
            browser.close()
    return sought, [(float(ahead), _number(shown)) for ahead, shown in played], errors


def _number(shown: str | None) -> int | None:
    if shown is None:
        return None
    return read_frame_number(np.frombuffer(base64.b64decode(shown), np.uint8).reshape(180, 320))
