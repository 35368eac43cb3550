"""Several playlists in one page of Chromium through hls.js: what each shows at one instant."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from media.footage import read_frame_number
from tests.journey.chromium import ARGUMENTS, browser_path, served

# The page keeps one clock. Where a source has no footage its player is held at the beginning of the next.
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
  const player = { video, hls, stretches: source.stretches, unread: Infinity }
  hls.once(Hls.Events.FRAG_BUFFERED, () => { hls.subtitleTrack = 0 })
  hls.once(Hls.Events.SUBTITLE_TRACK_LOADED, (_, { details }) => { player.unread = details.fragments.length })
  hls.on(Hls.Events.SUBTITLE_FRAG_PROCESSED, () => { player.unread -= 1 })
  hls.loadSource(source.variants_url)
  hls.attachMedia(video)
  players.push(player)
}
function place({ stretches }, clock) {
  const at = stretches.find((each) => clock * 1e6 < each.to_us)
  if (!at) return { has: false, position: null }
  const has = clock * 1e6 >= at.from_us
  return { has, position: (at.position_us + (has ? clock * 1e6 - at.from_us : 0)) / 1e6 }
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
// What lies behind where a player stands it does not read any more: so before anything is sought.
async function read(player) {
  for (let n = 0; n < 200 && player.unread > 0; n++) await pause(50)
  const cues = [...player.video.textTracks].flatMap((track) => [...(track.cues || [])])
  return cues.map((cue) => [cue.startTime, cue.getCueAsHTML().textContent])
}
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms) })
async function seekAll(clock) {
  const shown = []
  for (const player of players) {
    const { video } = player
    const { has, position } = place(player, clock)
    if (position === null) { shown.push(null); continue }
    const drawn = new Promise((resolve) => { video.requestVideoFrameCallback(resolve) })
    // The middle of a microsecond would do; a little more keeps clear of the edge between two pictures.
    video.currentTime = position + 0.002
    for (let n = 0; n < 200 && !(holds(video, position + 0.002) && !video.seeking); n++) await pause(50)
    await Promise.race([drawn, pause(1000)])
    shown.push(has ? picture(video) : null)
  }
  return shown
}
async function playAll(from, seconds) {
  await seekAll(from)
  const began = performance.now()
  const now = () => from + (performance.now() - began) / 1000
  while (now() < from + seconds) {
    players.forEach((player) => {
      const { video } = player
      const { has, position } = place(player, now())
      if (!has) {
        video.pause()
        if (position !== null && Math.abs(video.currentTime - position) > 0.1) video.currentTime = position
        return
      }
      if (video.paused) video.play().catch(() => {})
      const off = video.currentTime - position
      video.playbackRate = off > 0.02 ? 0.9 : off < -0.02 ? 1.1 : 1
      if (Math.abs(off) > 0.25) video.currentTime = position
    })
    await pause(15)
  }
  players.forEach(({ video }) => video.pause())
  const clock = now()
  const off = players.map((player) => {
    const { has, position } = place(player, clock)
    return has ? player.video.currentTime - position : null
  })
  return off
}
</script>"""


def watch(
    sources: Sequence[dict[str, Any]], instants_s: Sequence[float], playing: tuple[float, float], hls_js: Path
) -> tuple[list[list[int | None]], list[float | None], list[list[tuple[float, str]]], list[str]]:
    """What each source shows.

    Returns:
        For each instant, sought, the number of each source's picture (None: it has no footage then); at the
        end of playing from an instant for so many seconds, by how many seconds each is off; what there is to
        read beside each, and at which position; and what hls.js complained of.
    """
    files = {"/": ("text/html", PAGE.encode()), "/hls.js": ("text/javascript", hls_js.read_bytes())}
    with served(files) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        try:
            page = browser.new_page()
            page.goto(site)
            page.evaluate("(sources) => sources.forEach(open)", list(sources))
            read: list[list[tuple[float, str]]] = page.evaluate("Promise.all(players.map(read))")
            sought = [
                [_number(shown) for shown in page.evaluate("(at) => seekAll(at)", at)] for at in instants_s
            ]
            played: list[float | None] = page.evaluate(
                "([from, seconds]) => playAll(from, seconds)", list(playing)
            )
            errors: list[str] = page.evaluate("errors")
        finally:
            browser.close()
    return sought, played, read, errors


def _number(shown: str | None) -> int | None:
    if shown is None:
        return None
    return read_frame_number(np.frombuffer(base64.b64decode(shown), np.uint8).reshape(180, 320))
