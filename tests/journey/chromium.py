"""Chromium as a player: plays to the end, and shows what it sees at each frame's time."""

from __future__ import annotations

import base64
import functools
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
]
# How often a browser drew is its own affair (it may drop and repeat), so each frame is also looked up by its
# time, when the recording has played to its end, and its picture taken.
PAGE = """<!doctype html><meta charset="utf-8"><title>player</title>
<video id="video" muted playsinline crossorigin="anonymous" width="320" height="180"></video>
<canvas id="canvas" width="320" height="180"></canvas>
<script src="/hls.js"></script>
<script>
const video = document.getElementById('video')
const brush = document.getElementById('canvas').getContext('2d', { willReadFrequently: true })
const log = []
const ended = new Promise((resolve, reject) => {
  video.onended = () => resolve()
  video.onerror = () => reject(new Error(`${video.error.code} ${video.error.message}`))
  window.failed = (why) => reject(new Error(why))
  setTimeout(() => failed(`late: ${log.join(' ')} at ${video.currentTime}`), 60000)
})
function watchFile(address) { video.src = address; video.play() }
function watchPlaylist(address) {
  const hls = new Hls({ enableWorker: false })
  for (const name of ['MANIFEST_PARSED', 'LEVEL_LOADED', 'FRAG_BUFFERED', 'BUFFER_EOS']) {
    hls.on(Hls.Events[name], () => log.push(name))
  }
  hls.on(Hls.Events.ERROR, (_, data) => {
    log.push(data.details)
    if (data.fatal) failed(`${data.type} ${data.details}`)
  })
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play())
  hls.loadSource(address)
  hls.attachMedia(video)
}
function picture() {
  brush.drawImage(video, 0, 0, 320, 180)
  const pixels = brush.getImageData(0, 0, 320, 180).data
  let text = ''
  for (let at = 0; at < pixels.length; at += 4) text += String.fromCharCode(pixels[at + 1])
  return btoa(text)
}
async function look(kind, address, fps) {
  (kind === 'file' ? watchFile : watchPlaylist)(address)
  await ended
  const start = video.buffered.length ? video.buffered.start(0) : 0
  const pictures = []
  for (let at = start + 0.5 / fps; at < video.duration; at += 1 / fps) {
    const arrived = new Promise((resolve) => { video.onseeked = resolve })
    // A busy machine has "seeked" before the new picture is there; where the last one stays, none comes.
    const drawn = new Promise((resolve) => { video.requestVideoFrameCallback(resolve) })
    video.currentTime = at
    await arrived
    await Promise.race([drawn, new Promise((resolve) => { setTimeout(resolve, 400) })])
    pictures.push(picture())
  }
  return { duration_s: video.duration, pictures }
}
</script>"""


@dataclass(frozen=True)
class Screening:
    """What the browser saw, played to the end and then looked at frame by frame.

    Attributes:
        pictures: Green of each frame, (180, 320), uint8; one for each frame's time up to the end.
    """

    duration_s: float
    pictures: list[NDArray[np.uint8]]


def watch_playlist(
    address: str, fps: int, hls_js: Path, files: Mapping[str, tuple[str, bytes]] | None = None
) -> Screening:
    """Play an HLS playlist through hls.js.

    Args:
        address: Of the playlist.
        fps: Pictures a second.
        hls_js: The script.
        files: What stands beside the page, by address: type and content.

    Raises:
        playwright.sync_api.Error: The player gave up; says why.
    """
    return _watch("playlist", address, fps, hls_js.read_bytes(), files or {})


def watch_file(address: str, fps: int) -> Screening:
    """Play a file by the browser alone.

    Raises:
        playwright.sync_api.Error: The player gave up; says why.
    """
    return _watch("file", address, fps, b"", {})


def _watch(
    kind: str, address: str, fps: int, hls_js: bytes, files: Mapping[str, tuple[str, bytes]]
) -> Screening:
    page_files = {"/": ("text/html", PAGE.encode()), "/hls.js": ("text/javascript", hls_js)}
    with served({**files, **page_files}) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        try:
            page = browser.new_page()
            page.goto(site)
            seen: dict[str, Any] = page.evaluate(
                "([kind, address, fps]) => look(kind, address, fps)", [kind, address, fps]
            )
        finally:
            browser.close()
    pictures = [
        np.frombuffer(base64.b64decode(picture), np.uint8).reshape(180, 320) for picture in seen["pictures"]
    ]
    return Screening(float(seen["duration_s"]), pictures)


def browser_path() -> str:
    """The Chromium to drive."""
    named = os.environ.get("CHROMIUM") or next((found for found in map(shutil.which, NAMES) if found), None)
    assert named, "expected a Chromium on the path; make test installs one"
    return named


@contextmanager
def served(files: dict[str, tuple[str, bytes]], port: int = 0) -> Iterator[str]:
    """A loopback site of these files."""
    server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Site, files))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Site(BaseHTTPRequestHandler):
    def __init__(self, files: dict[str, tuple[str, bytes]], *arguments: Any) -> None:
        self._files = files
        super().__init__(*arguments)

    def do_GET(self) -> None:
        found = self._files.get(self.path)
        if found is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", found[0])
        self.send_header("Content-Length", str(len(found[1])))
        self.end_headers()
        self.wfile.write(found[1])

    def log_message(self, *_: Any) -> None:
        """Quiet."""
