"""`make bench-review`: from a recording's last byte to the first segment somebody can play.

A dock uploads half an hour of 1080p H.264 over tus; the clock starts when the last chunk is sent. A holder of
the right to the original asks for a playlist until it names a segment, and fetches its bytes; at last also
while every media worker is deep in a redaction. The peer is FFmpeg alone, copying the same file to HLS: how
soon its first segment is whole. Redaction looks at every
frame, so its figure is measured on a short recording and stated beside it with its length.

Options: SECONDS= (1800) length of the long recording, REDACTED_SECONDS= (20), RUNS= (3).
"""

from __future__ import annotations

import base64
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from benchmarks.support import Figure, print_figures, whole, write_results
from media.run import packaged_ffmpeg
from storage.db.tables import Job
from tests.support.cluster import DEVICE_NO, EVERYTHING, PASSWORD, Cluster, running, wait_for

CHUNK_BYTES = 8 << 20
LAST_BYTES = 1 << 20
BUSY_SECONDS = 600
FPS = 25


def make_recording(folder: Path, seconds: int, seed: int) -> Path:
    """1080p25 H.264 with AAC at a body camera's rate, looped by copy; each seed has bytes of its own."""
    piece, whole_file = folder / "piece.mp4", folder / f"recording-{seed}.mp4"
    if not piece.exists():
        _ffmpeg(
            "-f", "lavfi", "-i", f"testsrc2=size=1920x1080:rate={FPS}",
            "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
            "-t", "20", "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "5000k", "-maxrate", "5800k",
            "-bufsize", "5800k", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac", piece,
        )  # fmt: skip
    _ffmpeg("-stream_loop", "-1", "-i", piece, "-t", str(seconds), "-c", "copy",
            "-metadata", f"comment={seed}", whole_file)  # fmt: skip
    return whole_file


def _ffmpeg(*arguments: object) -> None:
    subprocess.run(
        [packaged_ffmpeg(), "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL
    )


def first_segment_of_ffmpeg(recording: Path, folder: Path) -> float:
    """Seconds until FFmpeg's own copy to HLS has its first segment whole."""
    target = folder / "peer"
    target.mkdir(exist_ok=True)
    started = time.monotonic()
    process = subprocess.Popen(
        [packaged_ffmpeg(), "-v", "error", "-i", recording, "-c", "copy", "-f", "hls", "-hls_time", "2",
         "-hls_list_size", "0", "-hls_segment_type", "fmp4", target / "index.m3u8"],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    while not (target / "index.m3u8").exists():
        if process.poll() not in {None, 0}:
            raise RuntimeError("ffmpeg: expected a playlist, found it ended")
        time.sleep(0.002)
    took = time.monotonic() - started
    process.kill()
    process.wait()
    for path in target.iterdir():
        path.unlink()
    return took


class Viewer:
    """Somebody with a session who asks until there is something to play."""

    def __init__(self, cluster: Cluster, username: str) -> None:
        self._api = httpx.Client(base_url=cluster.settings.api_url, timeout=30)
        signed = self._api.post("/api/v1/sessions", json={"username": username, "password": PASSWORD})
        signed.raise_for_status()
        self._api.headers["Authorization"] = f"Bearer {signed.json()['token']}"

    def first_segment(self, item_id: str, variant: str, started: float, patience_s: float) -> float:
        """Seconds from ``started`` until the bytes of the first segment are here.

        Raises:
            TimeoutError: Nothing could be played in time.
        """
        grant_id = ""
        while time.monotonic() - started < patience_s:
            if not grant_id:
                asked = self._ask(item_id, variant)
                if asked.status_code == httpx.codes.CONFLICT:
                    # Not read back yet.
                    time.sleep(0.05)
                    continue
                grant_id = asked.raise_for_status().json()["grant_id"]
            grant = self._api.get(f"/api/v1/grants/{grant_id}").raise_for_status().json()
            ranges = self.ranges(grant["playlist_url"]) if grant["playlist_url"] else []
            if len(ranges) > 1:
                for url, first, size in ranges[:2]:
                    got = httpx.get(url, headers={"Range": f"bytes={first}-{first + size - 1}"})
                    if got.status_code != httpx.codes.PARTIAL_CONTENT or len(got.content) != size:
                        raise RuntimeError(f"segment: expected 206 and {size} bytes, found {got}")
                return time.monotonic() - started
            time.sleep(0.02)
        raise TimeoutError(f"item {item_id}: expected something to play within {patience_s} s")

    def grant(self, item_id: str, variant: str) -> dict[str, Any]:
        """A grant that must be given."""
        found: dict[str, Any] = self._ask(item_id, variant).raise_for_status().json()
        return found

    def _ask(self, item_id: str, variant: str) -> httpx.Response:
        wanted = {"variant": variant, "purpose": "legal_review", "reason": "measurement"}
        return self._api.post(f"/api/v1/items/{item_id}/grants", json=wanted)

    def ranges(self, playlist_url: str) -> list[tuple[str, int, int]]:
        """The init section and the segments named so far, as address, first byte and size."""
        base = str(self._api.base_url)
        url = playlist_url if playlist_url.startswith("http") else f"{base.rstrip('/')}{playlist_url}"
        text = self._api.get(url).text
        if "#EXT-X-STREAM-INF" in text:
            rung = next(line for line in text.splitlines() if line and not line.startswith("#"))
            url = str(httpx.URL(url).join(rung))
            text = self._api.get(url).text
        found = re.search(r'#EXT-X-MAP:URI="([^"]+)",BYTERANGE="(\d+)@(\d+)"', text)
        if found is None:
            return []
        ranges = [(str(httpx.URL(url).join(found[1])), int(found[3]), int(found[2]))]
        for size, first, address in re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)", text):
            ranges.append((str(httpx.URL(url).join(address)), int(first), int(size)))
        return ranges


def upload(cluster: Cluster, recording: Path) -> tuple[str, float]:
    """Upload by tus; the item's id and when the last chunk began to be sent."""
    size = recording.stat().st_size
    headers = {"Authorization": f"Bearer {cluster.token}", "Tus-Resumable": "1.0.0"}
    said = {"filename": recording.name, "device_no": DEVICE_NO, "case_no": "渝执〔2026〕1号"}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
    with httpx.Client(base_url=cluster.settings.ingest_url, headers=headers, timeout=120) as client:
        made = client.post("/uploads/", headers={"Upload-Length": str(size), "Upload-Metadata": metadata})
        made.raise_for_status()
        where, offset = made.headers["location"], 0
        with recording.open("rb") as file:
            while True:
                left = size - offset
                piece = file.read(min(CHUNK_BYTES, left - LAST_BYTES) if left > LAST_BYTES else left)
                began = time.monotonic()
                sent = client.patch(
                    where,
                    content=piece,
                    headers={
                        "Upload-Offset": str(offset),
                        "Content-Type": "application/offset+octet-stream",
                    },
                )
                sent.raise_for_status()
                offset += len(piece)
                if offset == size:
                    return sent.headers["liuhen-item"], began


def leave_out_redaction(cluster: Cluster) -> None:
    """Half an hour of redaction is not what the next run waits for."""
    time.sleep(2)
    while True:
        with cluster.storage.database.transaction() as session:
            for job in session.scalars(select(Job).where(Job.state == "ready")):
                job.state = "cancelled"
            left = session.scalar(
                select(func.count()).where(Job.state.in_(("ready", "leased")), Job.kind != "redact")
            )
            for job in session.scalars(select(Job).where(Job.kind == "redact", Job.state == "leased")):
                # The fence moves on: the worker notices and ends its child.
                job.state, job.fence = "cancelled", job.fence + 1
        if not left:
            return
        time.sleep(0.5)


def keep_media_workers_busy(cluster: Cluster, folder: Path) -> None:
    """Give every media worker a redaction that outlasts the measurement."""
    workers = cluster.settings.worker.processes
    for seed in range(workers):
        upload(cluster, make_recording(folder, BUSY_SECONDS, 100 + seed))

    def are_busy() -> bool:
        with cluster.storage.database.read() as session:
            leased = select(func.count()).where(Job.kind == "redact", Job.state == "leased")
            return session.scalar(leased) == workers

    wait_for(are_busy, 120, "every media worker redacts", cluster.describe)


def main() -> None:
    """Measure and print."""
    seconds, redacted_s, runs = whole("SECONDS", 1800), whole("REDACTED_SECONDS", 20), whole("RUNS", 3)
    ours: list[float] = []
    peers: list[float] = []
    with tempfile.TemporaryDirectory(prefix="liuhen-review-") as name:
        folder = Path(name)
        with running(folder / "installation", *EVERYTHING) as cluster:
            holder, reviewer = Viewer(cluster, "legal_reviewer"), Viewer(cluster, "reviewer")
            print(f"redaction: {redacted_s} s of 1080p", flush=True)
            short = make_recording(folder, redacted_s, 0)
            item_id, began = upload(cluster, short)
            redacted = reviewer.first_segment(item_id, "redacted", began, 1800)
            cluster.wait_settled(600)
            for run in range(1, runs + 1):
                recording = make_recording(folder, seconds, run)
                size_mib = recording.stat().st_size / 2**20
                peers.append(first_segment_of_ffmpeg(recording, folder))
                item_id, began = upload(cluster, recording)
                ours.append(holder.first_segment(item_id, "original", began, 300))
                print(f"run {run}: {size_mib:.0f} MiB, ours {ours[-1]:.2f} s, ffmpeg alone {peers[-1]:.2f} s",
                      flush=True)  # fmt: skip
                recording.unlink()
                leave_out_redaction(cluster)
            keep_media_workers_busy(cluster, folder)
            item_id, began = upload(cluster, make_recording(folder, seconds, runs + 1))
            busy = holder.first_segment(item_id, "original", began, 300)
            print(f"while every media worker redacts: {busy:.2f} s", flush=True)
    figures = {
        f"last byte to first segment, {seconds} s of 1080p": Figure(
            statistics.median(ours), "s", peer=statistics.median(peers), limit=1.0, samples=ours
        ),
        f"the same while {cluster.settings.worker.processes} media workers redact": Figure(
            busy, "s", limit=1.0
        ),
        f"last byte to first redacted segment, {redacted_s} s of 1080p": Figure(redacted, "s"),
        "redaction, seconds of work a second of 1080p": Figure(redacted / redacted_s, "s/s"),
    }
    print_figures(figures)
    print(write_results("review", figures))


if __name__ == "__main__":
    main()
