"""Does everything play? Each rendition of real and hostile footage, in every player that is on this machine.

Takes what `real_footage.py` takes to a real installation, waits for the renditions and asks every player it
finds to play each of them from the media listener: FFmpeg, GStreamer, VLC, mpv, Chromium natively and through
hls.js (with seeks, after which the duration must be what it was). Shaka Packager (SHAKA_PACKAGER=path) and
mp4box.js (MP4BOX=folder that has it in node_modules) parse the stored objects. Prints a table; exit status 1
when something did not play. FULL=1 takes the long files too, ONLY=text those whose name or case has it,
RECORD=1 keeps the counts in `benchmarks/results/players.json`. For all else of a case: `players_case.py`.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import select

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from real_footage import Sent, generated, real_footage, upload_all

from benchmarks.support import RESULTS, Figure, write_results
from media.run import packaged_ffmpeg
from storage.db.tables import Derivative, Item, Job, Reception
from tests.journey.chromium import ARGUMENTS, browser_path, served
from tests.support.cluster import EVERYTHING, PASSWORD, Cluster, running
from tests.support.pipeline import WAYFINDING

ROOT = Path(__file__).resolve().parent.parent
HLS_JS = ROOT / ".cache/node/node_modules/hls.js/dist/hls.min.js"
VLC = Path(__file__).with_name("players_vlc.py")
VLC_ENDED = 6
PATIENCE_S = 90
NOT_DONE = "not done in"
RACES = (NOT_DONE, "failed consecutive times", "Bail out!", "want to preroll", "before segment event")
PAGE = """<!doctype html><meta charset="utf-8">
<video id="v" muted playsinline crossorigin="anonymous"></video>
<script src="/hls.js"></script><script>
async function tried(address, native) {
  const old = document.getElementById('v'), v = old.cloneNode()
  old.replaceWith(v)
  let hls = null
  const failed = new Promise((_, no) => {
    v.onerror = () => no(new Error(`element ${v.error.code} ${v.error.message}`))
    setTimeout(() => no(new Error(`late at ${v.currentTime} of ${v.duration}, ready ${v.readyState}`)), 45000)
    if (!native) {
      hls = new Hls({ enableWorker: false })
      hls.on(Hls.Events.ERROR, (_, e) => { if (e.fatal) no(new Error(`${e.type} ${e.details}`)) })
      hls.loadSource(address)
      hls.attachMedia(v)
    } else { v.src = address }
  })
  const on = (name) => new Promise((yes) => v.addEventListener(name, yes, { once: true }))
  const walk = async () => {
    await on('loadeddata')
    const before = v.duration
    for (const at of [0.5, 0.1, 0.9]) {
      const seeked = on('seeked')
      v.currentTime = before * at
      await seeked
    }
    const over = on('ended')
    v.playbackRate = 4
    await v.play()
    await over
    return [before, v.duration]
  }
  try { return await Promise.race([walk(), failed]) } finally {
    if (hls) hls.destroy()
    v.removeAttribute('src'); v.load()
  }
}
</script>"""
MP4BOX = """import { createFile } from 'mp4box'
import { readFileSync } from 'node:fs'
const file = createFile(), bytes = readFileSync(process.argv[2])
let found = null
file.onReady = (info) => { found = info }
file.onError = (module, why) => { console.error(module, why); process.exit(1) }
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)
buffer.fileStart = 0
file.appendBuffer(buffer)
file.flush()
if (!found || !found.tracks.every((t) => t.nb_samples > 0)) process.exit(1)
if (found.isFragmented !== (process.argv[3] === 'fragments')) process.exit(1)
"""


@dataclass
class Played:
    """One rendition and who could not play it."""

    name: str
    url: str
    frames: int | None
    duration_s: float
    has_picture: bool
    objects: list[Path]
    is_of_span: bool = False
    """Its bytes may be read in part only."""
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def is_list(self) -> bool:
        """A playlist; else a file that was taken away."""
        return ".m3u8" in self.url

    @property
    def in_slices(self) -> str:
        """Its address for players that do not keep to byte ranges."""
        return f"{self.url}?sliced=true" if self.is_list else self.url


Player = Callable[[Played], str | None]


def ran(command: list[object], *, user: str | None = None, env: dict[str, str] | None = None) -> str | None:
    """None when a command ended with 0 in time, else its last words."""
    options: dict[str, Any] = {} if user is None else {"user": user}
    try:
        done = subprocess.run(
            list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=PATIENCE_S, env=env, **options,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{NOT_DONE} {PATIENCE_S} s"
    words = (done.stderr + done.stdout).decode("utf-8", "replace").strip().splitlines()
    return None if done.returncode == 0 else (words or [f"exit {done.returncode}"])[-1][:160]


def by_ffmpeg(played: Played) -> str | None:
    """The FFmpeg of the path: every frame decoded, none too many, no error said."""
    return _decoded(shutil.which("ffmpeg") or "", played.url, played, "-1")


def by_ffmpeg_9(played: Played) -> str | None:
    """The same by ours, in slices: of ranges over HTTP it reads the first and then no other."""
    return _decoded(packaged_ffmpeg(), played.in_slices, played, "demux")


def _decoded(program: str, url: str, played: Played, time_base: str) -> str | None:
    done = subprocess.run(
        [program, "-v", "error", "-progress", "pipe:1", "-i", url, "-map", "0",
         "-fps_mode", "passthrough", "-enc_time_base", time_base, "-f", "null", "-"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    if done.returncode != 0 or done.stderr.strip():
        return (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it failed"])[-1][:160]
    seen = [int(line[6:]) for line in done.stdout.decode().splitlines() if line.startswith("frame=")]
    if played.has_picture and played.frames is not None and seen[-1:] != [played.frames]:
        return f"{seen[-1:]} frames of {played.frames}"
    return None


def by_gstreamer(played: Played) -> str | None:
    """Plays to the end of the stream.

    GStreamer 1.22 runs a race with itself on a list that is read faster than its pads come up ("Can't push
    EOS on non-exposed pad"), about one time in six where there is one segment, and now and then ends by an
    assertion of its own (`reconfigure_output`) or by data it lets pass before their segment. An MP4 over HTTP
    it now and then never begins, whoever serves it (2 times in 25 of one that nginx sent). None of it says
    anything about what is played: it may try more.
    """
    sinks = ["video-sink=fakesink sync=false", "audio-sink=fakesink sync=false"]
    hung = 0
    for _ in range(8):
        said = ran(["gst-launch-1.0", "-q", "playbin3", f"uri={played.url}", *sinks])
        hung += said is not None and said.startswith(NOT_DONE)
        if said is None or hung > 1 or not any(words in said for words in RACES):
            break
    return said


def by_mpv(played: Played) -> str | None:
    """Plays to the end, as fast as it can."""
    return ran(["mpv", "--no-config", "--vo=null", "--ao=null", "--untimed", "--really-quiet", played.url])


def by_vlc(played: Played) -> str | None:
    """Decodes every picture and is heard as long as there is sound.

    Four times as fast it leaves pictures out where the machine is busy, of local files too: it may try more.
    """
    said = None
    for _ in range(3):
        said = _by_vlc_once(played)
        if said is None:
            break
    return said


def _by_vlc_once(played: Played) -> str | None:
    # It refuses to run as root.
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="vlc-") as home:
        if os.getuid() == 0:
            shutil.chown(home, user)
        # By its text: the user may not be able to read this checkout.
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", VLC.read_text("utf-8"), played.url], user=user, cwd=home,
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE_S,
            env={**os.environ, "HOME": home, "XDG_RUNTIME_DIR": home},
        )  # fmt: skip
    if done.returncode != 0:
        return (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it crashed"])[-1][:160]
    said = json.loads(done.stdout.splitlines()[-1])
    pictures = played.frames if played.has_picture else 0
    if pictures is None:
        pictures = _counted(played, "v", "frame")
    sound_s = _counted(played, "a", "out_time_us") / 1e6
    if said["state"] != VLC_ENDED:
        return f"not at the end: state {said['state']}"
    if said["pictures"] < pictures or abs(said["heard_s"] - sound_s) > max(0.25, sound_s / 50):
        return f"{said['pictures']} pictures of {pictures}, {said['heard_s']:.3f} s heard of {sound_s:.3f}"
    return None


def _counted(played: Played, stream: str, what: str) -> int:
    """Pictures or microseconds of sound that FFmpeg decodes of it."""
    # Where a map finds nothing, FFmpeg takes whatever there is.
    without = "-an" if stream == "v" else "-vn"
    done = subprocess.run(
        [packaged_ffmpeg(), "-v", "error", "-progress", "pipe:1", "-i", played.in_slices,
         "-map", f"0:{stream}:0?", without, "-fps_mode", "passthrough", "-f", "null", "-"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    words = re.findall(rf"^{what}=(\d+)$", done.stdout.decode(), re.MULTILINE)
    return int(words[-1]) if words else 0


def by_shaka(played: Played) -> str | None:
    """Parses each stored object."""
    for path in played.objects:
        said = ran([os.environ["SHAKA_PACKAGER"], f"input={path}", "--dump_stream_info"])
        if said is not None:
            return said
    return None


def by_mp4box(played: Played) -> str | None:
    """Finds every sample of each stored object."""
    script = Path(os.environ["MP4BOX"]) / "liuhen-parse.mjs"
    script.write_text(MP4BOX, "utf-8")
    for path in played.objects:
        said = ran(["node", script, path, "fragments" if played.is_list else "file"])
        if said is not None:
            return said
    return None


def in_chromium(browser: Browser, site: str, *, native: bool) -> Player:
    """Plays with seeks; the duration stays what it was, and is the recording's."""

    def play(played: Played) -> str | None:
        if not native and not played.is_list:
            return None
        page = browser.new_page()
        try:
            page.goto(site)
            url = played.in_slices if native and played.is_of_span else played.url
            before, after = page.evaluate("([url, native]) => tried(url, native)", [url, native])
        except Exception as error:  # whatever a browser says is what the table shows
            return str(error).splitlines()[0][:160]
        finally:
            page.close()
        if abs(before - after) > 0.05 or abs(before - played.duration_s) > max(0.15, played.duration_s / 50):
            return f"duration {played.duration_s:.3f}, shown {before:.3f}, after seeks {after:.3f}"
        return None

    return play


def found_players(stack: ExitStack) -> tuple[dict[str, Player], Browser, str]:
    """The players that are here, the browser of two of them, and the address of the page it opens."""
    players: dict[str, Player] = {}
    for name, program, play in (
        ("ffmpeg", "ffmpeg", by_ffmpeg), ("gstreamer", "gst-launch-1.0", by_gstreamer),
        ("mpv", "mpv", by_mpv), ("vlc", "vlc", by_vlc),
    ):  # fmt: skip
        if shutil.which(program):
            players[name] = play
    players["ffmpeg 9"] = by_ffmpeg_9
    if os.environ.get("SHAKA_PACKAGER"):
        players["shaka"] = by_shaka
    if os.environ.get("MP4BOX"):
        players["mp4box"] = by_mp4box
    files = {"/": ("text/html", PAGE.encode()), "/hls.js": ("text/javascript", HLS_JS.read_bytes())}
    site = stack.enter_context(served(files))
    playwright = stack.enter_context(sync_playwright())
    browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
    stack.callback(browser.close)
    players["hls.js"] = in_chromium(browser, site, native=False)
    players["native"] = in_chromium(browser, site, native=True)
    return players, browser, site


def play_all(things: Iterable[Played], players: dict[str, Player]) -> None:
    """Play each in every player, and print how it went."""
    for each in things:
        for name, play in players.items():
            said = play(each)
            if said is not None:
                each.failed[name] = said
        words = "; ".join(f"{name}: {said}" for name, said in each.failed.items())
        print(
            f"{'WRONG' if words else 'ok':5} {each.name:60.60} {each.duration_s:8.3f} s  {words}", flush=True
        )


def record(group: str, things: Sequence[Played], players: Iterable[str]) -> int:
    """Say how many played everywhere, and keep it where it is asked for; the exit status."""
    wrong = [each for each in things if each.failed]
    print(f"{len(things) - len(wrong)} played everywhere, {len(wrong)} did not")
    if os.environ.get("RECORD") == "1":
        path = RESULTS / "players.json"
        known = json.loads(path.read_text("utf-8")) if path.exists() else {"figures": {}, "failures": {}}
        figures = {
            name: Figure(**figure)
            for name, figure in known["figures"].items()
            if not name.startswith(f"{group}: ")
        }
        for name in players:
            played = sum(1 for each in things if name not in each.failed)
            figures[f"{group}: {name}"] = Figure(played, "played", limit=len(things))
        failures = {**known["failures"], group: {_anonymous(each): each.failed for each in wrong}}
        write_results(
            "players", figures, failures=failures, versions=versions(), day=str(datetime.now(UTC).date())
        )
    return 1 if wrong else 0


def _anonymous(played: Played) -> str:
    """Clips of real people are counted, not named."""
    return f"real, {played.duration_s:.1f} s" if played.name.startswith("real/") else played.name


def versions() -> dict[str, str]:
    """Which players these are."""
    found = {"hls.js": json.loads((HLS_JS.parents[1] / "package.json").read_text("utf-8"))["version"]}
    asked = {
        "ffmpeg": ["ffmpeg", "-version"], "ffmpeg 9": [packaged_ffmpeg(), "-version"],
        "gstreamer": ["gst-launch-1.0", "--version"], "mpv": ["mpv", "--version"],
        "vlc": ["dpkg-query", "-W", "-f", "${Version}", "vlc-bin"], "chromium": [browser_path(), "--version"],
        "shaka": [os.environ.get("SHAKA_PACKAGER", ""), "--version"],
    }  # fmt: skip
    for name, command in asked.items():
        if command[0] and shutil.which(str(command[0])):
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            # Not the one in the name of `gst-launch-1.0`.
            number = re.search(r"(?<!-)\d+\.\d[\w.]*", said.stdout + said.stderr)
            found[name] = number[0] if number else "?"
    if os.environ.get("MP4BOX"):
        package = Path(os.environ["MP4BOX"]) / "node_modules/mp4box/package.json"
        found["mp4box"] = json.loads(package.read_text("utf-8"))["version"]
    return found


def wait_rendered(cluster: Cluster, *, redacted: bool) -> None:
    """Wait for renditions; redaction is left out unless it is asked for, finding one's way always."""
    needless = [*WAYFINDING, *([] if redacted else ["redact"])]
    deadline = time.monotonic() + 3600
    while time.monotonic() < deadline:
        with cluster.storage.database.transaction() as session:
            for job in session.scalars(select(Job).where(Job.kind.in_(needless), Job.state == "ready")):
                job.state = "cancelled"
            for job in session.scalars(select(Job).where(Job.kind == "redact", Job.state == "leased")):
                if not redacted:
                    job.state, job.fence = "cancelled", job.fence + 1
            left = session.scalars(select(Job.kind).where(Job.state.in_(("ready", "leased")))).all()
        if not left:
            return
        time.sleep(1)
    raise TimeoutError(f"expected every rendition within an hour, found {left} waiting")


def told(client: httpx.Client, url: str) -> tuple[float, str | None]:
    """How many seconds a playlist says it has; of a multivariant one, its first, and which rung that is."""
    rung = None
    answer = client.get(url)
    if answer.is_error:
        raise RuntimeError(f"{url}: expected a playlist, found {answer.text}")
    text = answer.text
    if "#EXT-X-STREAM-INF" in text:
        uri = next(line for line in text.splitlines() if line and not line.startswith("#"))
        text = client.get(str(httpx.URL(url).join(uri))).raise_for_status().text
        rung = uri.removeprefix("rung-").removesuffix(".m3u8")
    return float(sum(Fraction(each) for each in re.findall(r"#EXTINF:([0-9.]+)", text))), rung


def granted(cluster: Cluster, items: list[tuple[str, Item]], variant: str) -> list[Played]:
    """A grant for each item that plays, and where its bytes lie."""
    api = httpx.Client(base_url=cluster.settings.api_url, timeout=60)
    signed = api.post("/api/v1/sessions", json={"username": "legal_reviewer", "password": PASSWORD})
    signed.raise_for_status()
    api.headers["Authorization"] = f"Bearer {signed.json()['token']}"
    kind = "redacted" if variant == "redacted" else "rendition"
    played = []
    for name, item in items:
        wanted = {"variant": variant, "purpose": "legal_review", "reason": "does it play"}
        grant = api.post(f"/api/v1/items/{item.id}/grants", json=wanted).raise_for_status().json()
        with cluster.storage.database.read() as session:
            rows = session.scalars(
                select(Derivative).where(Derivative.item_id == item.id, Derivative.kind == kind)
            ).all()
            objects = [cluster.storage.objects.path(row.store_key) for row in rows]
        url = str(httpx.URL(cluster.settings.api_url).join(grant["playlist_url"]))
        told_s, rung = told(api, url)
        best = next(row for row in rows if rung in {None, row.info.get("rung")})
        played.append(
            Played(
                name, url, best.info["frame_count"], told_s,
                bool(best.info["height_px"]), objects,
            )
        )  # fmt: skip
    return played


def main() -> int:
    """Run it; 0 when everything played everywhere."""
    full, only = os.environ.get("FULL") == "1", os.environ.get("ONLY", "")
    redacted = os.environ.get("REDACTED") == "1"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="liuhen-players-")))
        files: list[Sent] = [*real_footage(full=full), *generated(folder / "cases", 2, full=full)]
        files = [sent for sent in files if only in sent.case or only in sent.name.decode("utf-8", "replace")]
        cluster = stack.enter_context(running(folder / "installation", *EVERYTHING))
        ids = upload_all(cluster, files)
        wait_rendered(cluster, redacted=redacted)
        with cluster.storage.database.read() as session:
            found = session.execute(
                select(Reception.reception_key, Item).join(Item, Item.id == Reception.item_id)
            )
            by_key = dict(tuple(row) for row in found)
        known: dict[Any, str] = {}
        for place, sent in enumerate(files):
            item = by_key[f"tus:{ids[place]}"]
            if item.media == "rendered" and item.media_kind != "photo":
                known.setdefault(item.id, f"{sent.case}/{item.original_name}")
        items = {item.id: item for item in by_key.values()}
        playing = granted(
            cluster,
            [(name, items[key]) for key, name in known.items()],
            "redacted" if redacted else "original",
        )
        players, _, _ = found_players(stack)
        print(f"{len(playing)} recordings in {', '.join(players)}", flush=True)
        play_all(playing, players)
    return record("redacted recordings" if redacted else "recordings", playing, players)


if __name__ == "__main__":
    sys.exit(main())
