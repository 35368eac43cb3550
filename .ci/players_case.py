"""Does what is shown of a case play? Spans, keyframes, sources side by side, clips, composites.

Four cameras film one scene into a real installation: B-frames, a variable rate, a codec that is encoded
again, and a camera that was off for a while. What a reviewer is then given is played by the players of
`players.py`. The keyframes are shown by hls.js as it scrubs, and decoded one by one by FFmpeg. Exit status 1
when something did not play; ONLY=text plays what has it in its name, RECORD=1 adds to what is kept.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
from players import Played, found_players, play_all, record, told, wait_rendered
from playwright.sync_api import Browser

from evidence.kinds import Role
from media.footage import make_clip
from media.run import packaged_ffmpeg
from tests.support.cluster import EVERYTHING, Cluster, running

CASE_NO = "渝执〔2026〕1号"
BEGAN = datetime(2026, 3, 4, 2, tzinfo=UTC)
CAMERAS: tuple[tuple[str, str, float, float, dict[str, Any]], ...] = (
    ("CAM1", "one.mp4", 0, 8, {"b_frames": True}),
    ("CAM2", "two.mp4", 0.5, 8, {"variable_rate": True}),
    ("CAM3", "three.avi", 1, 7, {"codec": "mjpeg"}),
    ("CAM4", "four.mp4", 0, 5, {}),
    ("CAM4", "five.mp4", 7, 5, {}),
)
RIGHTS = {"variant": "original", "purpose": "legal_review", "reason": "does it play"}
# Loads the multivariant playlist, then shows a keyframe of each second as one does who drags the bar.
SCRUB = """async ([address]) => {
  const old = document.getElementById('v'), v = old.cloneNode(), main = new Hls({ enableWorker: false })
  old.replaceWith(v)
  const late = new Promise((_, no) => setTimeout(() => no(new Error('late')), 45000))
  const walk = async () => {
    const parsed = new Promise((yes) => main.on(Hls.Events.MANIFEST_PARSED, yes))
    main.loadSource(address)
    await parsed
    const keys = main.createIFramePlayer()
    if (!keys) throw new Error('no keyframes offered')
    const wrong = new Promise((_, no) => {
      keys.on(Hls.Events.ERROR, (_, e) => { if (e.fatal) no(new Error(e.details)) })
    })
    // Where its list is there before the element is attached, hls.js 1.7.4 loads nothing.
    const attached = new Promise((yes) => keys.on(Hls.Events.MEDIA_ATTACHED, yes))
    keys.attachMedia(v)
    await Promise.race([attached, wrong])
    const shown = []
    for (const at of [0.2, 4.2, 2.2]) {
      // The last keyframe by then; what was shown before may be drawn once more.
      const drawn = new Promise((yes) => {
        const look = (_, { mediaTime }) => (mediaTime <= at && mediaTime > at - 3.1
          ? yes(mediaTime) : v.requestVideoFrameCallback(look))
        v.requestVideoFrameCallback(look)
      })
      keys.loadMediaAt(at, { seekOnAppend: true })
      shown.push(await Promise.race([drawn, wrong]))
    }
    keys.destroy()
    return shown
  }
  try { return await Promise.race([walk(), late]) } finally { main.destroy() }
}"""


def filmed(cluster: Cluster, folder: Path) -> Counter[str]:
    """Four cameras, five files, one case; how many pictures each camera took."""
    pictures: Counter[str] = Counter()
    for number, (device, name, later_s, seconds, coding) in enumerate(CAMERAS):
        began = BEGAN + timedelta(seconds=later_s)
        path = folder / name
        truth = make_clip(path, seconds=seconds, width_px=320, height_px=180, device_no=device,
                          officer_no="330101", started_at=began, seed=number, **coding)  # fmt: skip
        pictures[device] += truth.frame_count
        cluster.upload(path, {"device_no": device, "case_no": CASE_NO, "captured_from": began.isoformat()})
    return pictures


def settled(client: httpx.Client, path: str) -> dict[str, Any]:
    """What is being made, when it is."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(path).raise_for_status().json()
        if found["state"] not in {"working", "pending"}:
            break
        time.sleep(0.5)
    if found["state"] != "ready":
        raise RuntimeError(f"{path}: expected ready, found {found}")
    return found


def shown(
    client: httpx.Client, cluster: Cluster, folder: Path, pictures: Mapping[str, int]
) -> Iterator[Played]:
    """Everything a reviewer of the case can ask for; of a source side by side, all its pictures."""
    api = cluster.settings.api_url
    line = client.get("/api/v1/clips", params={"case_no": CASE_NO}).raise_for_status().json()["items"]
    for item in sorted(line, key=lambda each: str(each["original_name"])):
        name, address = item["original_name"], f"/api/v1/items/{item['item_id']}"
        of_item = {"case_no": CASE_NO, "item_id": item["item_id"], **RIGHTS}
        grant = client.post(f"{address}/grants", json=RIGHTS).raise_for_status().json()
        length_s = item["duration_us"] / 1e6
        yield listed(client, f"{name}: whole, all rungs", api + grant["variants_url"], length_s)
        # A whole group lies inside, whatever the rate.
        span = {**of_item, "form": "watch", "from_ms": 1300, "to_ms": min(6800, int(length_s * 1000) - 700)}
        clip = client.post("/api/v1/clips", json=span).raise_for_status().json()
        within = listed(client, f"{name}: a span", api + clip["grant"]["playlist_url"])
        yield replace(within, is_of_span=True)
        for marked in (True, False):
            asked = {**of_item, "form": "file", "from_ms": 440, "to_ms": 4600, "marked": marked}
            made = client.post("/api/v1/clips", json=asked).raise_for_status()
            yield taken(client, folder, f"{name}: clip, {'marked' if marked else 'unmarked'}",
                        settled(client, made.headers["location"]), 4.16)  # fmt: skip
    window = {"from_at": BEGAN.isoformat(), "to_at": (BEGAN + timedelta(seconds=12)).isoformat(), **RIGHTS}
    case_id = client.get("/api/v1/cases").raise_for_status().json()["items"][0]["id"]
    aligned = client.post(f"/api/v1/cases/{case_id}/aligned", json=window).raise_for_status().json()
    for source in aligned["sources"]:
        yield listed(
            client,
            f"{source['device_no']}: side by side",
            api + source["playlist_url"],
            source["shown_us"] / 1e6,
            frames=pictures[source["device_no"]],
        )
    for layout in ("side_by_side", "picture_in_picture"):
        made = client.post("/api/v1/clip-sets", json={"case_no": CASE_NO, **window, "layout": layout})
        done = settled(client, made.raise_for_status().headers["location"])
        yield taken(client, folder, f"composite, {layout}", done, 12)


def listed(
    client: httpx.Client, name: str, url: str, length_s: float | None = None, frames: int | None = None
) -> Played:
    """A playlist, as long as it ought to be; without that, as it says."""
    return Played(name, url, frames, told(client, url)[0] if length_s is None else length_s, True, [])


def taken(client: httpx.Client, folder: Path, name: str, clip: dict[str, Any], length_s: float) -> Played:
    """A file that was taken away, and where it can be fetched from."""
    path = folder / f"{len(list(folder.iterdir()))}.mp4"
    path.write_bytes(client.get(clip["file_url"]).raise_for_status().content)
    return Played(
        name, str(httpx.URL(str(client.base_url)).join(clip["file_url"])), None, length_s, True, [path]
    )


def keyframes_decode(client: httpx.Client, url: str) -> str | None:
    """None when each range of each keyframe list is, behind its map, one picture."""
    multivariant = client.get(url).raise_for_status().text
    lists = re.findall(r'#EXT-X-I-FRAME-STREAM-INF:.*URI="([^"]+)"', multivariant)
    if not lists:
        return "no keyframes offered"
    for uri in lists:
        address = httpx.URL(url).join(uri)
        text = client.get(str(address)).raise_for_status().text
        head = re.findall(r'#EXT-X-MAP:URI="([^"]+)",BYTERANGE="(\d+)@(\d+)"', text)
        for part, size, first in [
            (part, size, first) for size, first, part in re.findall(r"BYTERANGE:(\d+)@(\d+)\n(\S+)", text)
        ]:
            content = b"".join(fetched(client, address, *each) for each in (head[0], (part, size, first)))
            done = subprocess.run(
                [packaged_ffmpeg(), "-v", "error", "-i", "-", "-frames:v", "1", "-f", "rawvideo", "-"],
                input=content, capture_output=True, check=False,
            )  # fmt: skip
            if len(done.stdout) == 0:
                return f"{uri}: {done.stderr.decode('utf-8', 'replace')[-120:]}"
    return None


def fetched(client: httpx.Client, address: httpx.URL, part: str, size: str, first: str) -> bytes:
    asked = {"Range": f"bytes={first}-{int(first) + int(size) - 1}"}
    return client.get(str(address.join(part)), headers=asked).raise_for_status().content


def keyframes_scrub(browser: Browser, site: str, url: str) -> str | None:
    """None when hls.js shows the keyframes it is asked for, there and back."""
    page = browser.new_page()
    try:
        page.goto(site)
        seen = page.evaluate(SCRUB, [url])
    except Exception as error:  # whatever a browser says is what the table shows
        return str(error).splitlines()[0][:160]
    finally:
        page.close()
    return None if seen[0] <= seen[2] <= seen[1] and seen[0] < seen[1] else f"shown {seen}"


def main() -> int:
    """Run it; 0 when everything played everywhere."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="liuhen-players-")))
        settings = {"MEDIA__UNMARKED_CLIPS": "true"}
        cluster = stack.enter_context(running(folder / "installation", *EVERYTHING, settings=settings))
        pictures = filmed(cluster, folder)
        wait_rendered(cluster, redacted=False)
        client = stack.enter_context(cluster.sign_in(Role.LEGAL_REVIEWER))
        (folder / "taken").mkdir()
        only = os.environ.get("ONLY", "")
        things = [each for each in shown(client, cluster, folder / "taken", pictures) if only in each.name]
        players, browser, site = found_players(stack)
        play_all(things, players)
        for each in things:
            if each.name.endswith("all rungs"):
                for name, said in (
                    ("keyframes", keyframes_decode(client, each.url)),
                    ("hls.js scrubbing", keyframes_scrub(browser, site, each.url)),
                ):
                    if said is not None:
                        each.failed[name] = said
                        print(f"WRONG {each.name}  {name}: {said}", flush=True)
    return record("a case of four cameras", things, (*players, "keyframes", "hls.js scrubbing"))


if __name__ == "__main__":
    sys.exit(main())
