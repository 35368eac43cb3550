"""Chromium as a player: plays to the end and says how many frames and how long it saw."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

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
PAGE = """<!doctype html><meta charset="utf-8"><title>player</title>
<video id="video" muted playsinline width="640" height="360"></video>
<script src="/hls.js"></script>
<script>
const video = document.getElementById('video')
const seen = new Promise((resolve) => {
  const told = (error) => resolve({
    error,
    frame_count: video.getVideoPlaybackQuality().totalVideoFrames,
    duration_s: video.duration,
  })
  video.onended = () => told(null)
  video.onerror = () => told(`${video.error.code} ${video.error.message}`)
  window.failed = told
})
function watchFile(address) { video.src = address; video.play(); return seen }
function watchPlaylist(address) {
  const hls = new Hls({ enableWorker: false })
  hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal) failed(`${data.type} ${data.details}`) })
  hls.on(Hls.Events.BUFFER_EOS, () => video.play())
  hls.loadSource(address)
  hls.attachMedia(video)
  return seen
}
</script>"""


@dataclass(frozen=True)
class Screening:
    """What the browser saw."""

    error: str | None
    frame_count: int
    duration_s: float


def watch_playlist(address: str, hls_js: Path) -> Screening:
    """Play an HLS playlist through hls.js, to its end."""
    return _watch("watchPlaylist", address, hls_js.read_bytes())


def watch_file(address: str) -> Screening:
    """Play a file by the browser alone, to its end."""
    return _watch("watchFile", address, b"")


def _watch(function: str, address: str, hls_js: bytes) -> Screening:
    files = {"/": ("text/html", PAGE.encode()), "/hls.js": ("text/javascript", hls_js)}
    with _served(files) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_browser(), args=ARGUMENTS)
        try:
            page = browser.new_page()
            page.set_default_timeout(90_000)
            page.goto(site)
            seen: dict[str, Any] = page.evaluate(f"address => {function}(address)", address)
        finally:
            browser.close()
    return Screening(seen["error"], int(seen["frame_count"]), float(seen["duration_s"]))


def _browser() -> str:
    named = os.environ.get("CHROMIUM") or next((found for found in map(shutil.which, NAMES) if found), None)
    assert named, "expected a Chromium on the path; make test installs one"
    return named


@contextmanager
def _served(files: dict[str, tuple[str, bytes]]) -> Iterator[str]:
    """A loopback site of these files."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Site, files))
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
