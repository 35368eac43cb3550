"""`make bench-streams`: what recording a stream costs, beside one plain `ffmpeg -c copy` for each.

The source is 1080p30 H.264 at 4 Mbit/s with AAC as MPEG-TS over TCP, from one sender for all. Ours is a
recorder's process as the daemon starts it: packets judged by the clock, fragments of 0.4 s, SHA-256, data and
journal synced each second. The peer writes the same fragments with FFmpeg and neither digests nor syncs. One
after the other, so many at a time; processor seconds and memory are those of the processes, from the kernel's
accounts. Streams a core is the reciprocal of a stream's share of a core, start-up included.

Options: N= (10) streams at a time, SECONDS= (40) each, MANY= (50) streams of ours at once, to see that none
falls behind.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.support import Figure, print_figures, whole, write_results
from ingest.recorder.process import Started, start
from media.live.journal import read
from media.live.opening import Address
from media.live.recording import Bounds
from media.run import packaged_ffmpeg

PEER = (
    "-bsf:a",
    "aac_adtstoasc",
    "-movflags",
    "empty_moov+default_base_moof+delay_moov",
    "-frag_duration",
    "400000",
)


@dataclass(frozen=True)
class Cost:
    """What some streams cost, each."""

    cpu_s: float
    """Of one stream, for each second of it."""
    rss_mib: float
    """The most one process held, on the average."""


def make_source(path: Path, seconds: int) -> None:
    """4 Mbit/s at a constant rate, a keyframe each 2 s."""
    command = [packaged_ffmpeg(), "-v", "error", "-nostdin", "-y"]
    command += ["-f", "lavfi", "-i", f"testsrc2=s=1920x1080:r=30:d={seconds},noise=alls=4:allf=t"]
    command += ["-f", "lavfi", "-i", f"sine=440:r=48000:d={seconds}", "-c:a", "aac", "-c:v", "libx264"]
    command += [
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "60",
        "-nal-hrd",
        "cbr",
        "-bufsize",
        "1900k",
    ]
    command += ["-b:v", "3800k", "-minrate", "3800k", "-maxrate", "3800k"]
    subprocess.run([*command, "-f", "mpegts", "-muxrate", "4400k", str(path)], check=True)


@contextmanager
def sending(path: Path, seconds: int) -> Any:
    """The sender's address."""
    command = [sys.executable, "-m", "benchmarks.stream_sender", str(path), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sender:
        yield f"tcp://127.0.0.1:{int(cast(IO[str], sender.stdout).readline())}"
        cast(IO[str], sender.stdin).close()


def reaped(pids: list[int], seconds: int) -> Cost:
    """Wait for them all."""
    used: list[resource.struct_rusage] = [os.wait4(pid, 0)[2] for pid in pids]
    cpu = [one.ru_utime + one.ru_stime for one in used]
    return Cost(statistics.mean(cpu) / seconds, statistics.mean(one.ru_maxrss for one in used) / 1024)


def ours(folder: Path, address: str, count: int) -> list[Started]:
    """Recorders as the daemon starts them."""
    bounds = Bounds(floor_bytes=1, stall_s=5)
    return [
        start(folder / f"ours-{number}", Address(address), bounds, packaged_ffmpeg())
        for number in range(count)
    ]


def plain(folder: Path, address: str, count: int) -> list[int]:
    """FFmpeg, one a stream."""
    command = [packaged_ffmpeg(), "-v", "error", "-nostdin", "-y", "-i", address, "-c", "copy", *PEER]
    return [subprocess.Popen([*command, str(folder / f"plain-{number}.mp4")]).pid for number in range(count)]


def pictures(runs: list[Started]) -> list[float]:
    """How many each recorded."""
    return [sum(line["pictures"] for line in read(run.folder)[0] if line["kind"] == "closed") for run in runs]


def main() -> int:
    count, seconds, many = whole("N", 10), whole("SECONDS", 40), whole("MANY", 50)
    with tempfile.TemporaryDirectory(prefix="liuhen-bench-") as name:
        folder = Path(name)
        source = folder / "source.ts"
        make_source(source, seconds)
        costs: dict[str, list[Cost]] = {"ours": [], "plain": []}
        with sending(source, seconds) as address:
            for turn in range(2):
                place = folder / str(turn)
                place.mkdir()
                runs = ours(place, address, count)
                costs["ours"].append(reaped([run.process.pid for run in runs], seconds))
                for run in runs:
                    run.process.returncode = 0
                costs["plain"].append(reaped(plain(place, address, count), seconds))
            (folder / "many").mkdir()
            begun = time.monotonic()
            crowd = ours(folder / "many", address, many)
            crowded = reaped([run.process.pid for run in crowd], seconds)
            took_s = time.monotonic() - begun
            for run in crowd:
                run.process.returncode = 0
            recorded = pictures(crowd)
        figures = _figures(costs, crowded)
        whole_ones = sum(one >= seconds * 30 - 3 for one in recorded)
        figures[f"{many} at once, recorded whole"] = Figure(
            whole_ones, "streams", limit=many, samples=recorded
        )
        figures[f"{many} at once, took"] = Figure(round(took_s, 1), "s", limit=seconds)
        print_figures(figures)
        write_results("streams", figures)
    return 0


def _figures(costs: dict[str, list[Cost]], crowded: Cost) -> dict[str, Figure]:
    cpu = {who: [cost.cpu_s for cost in found] for who, found in costs.items()}
    rss = {who: [cost.rss_mib for cost in found] for who, found in costs.items()}
    mine, peer = min(cpu["ours"]), min(cpu["plain"])
    return {
        "CPU of one stream": Figure(mine, "CPU s/s", peer, samples=cpu["ours"]),
        "CPU of one stream among many": Figure(crowded.cpu_s, "CPU s/s", peer),
        "streams a core": Figure(1 / mine, "streams", 1 / peer),
        "memory of one stream, most": Figure(min(rss["ours"]), "MiB", min(rss["plain"]), samples=rss["ours"]),
    }


if __name__ == "__main__":
    sys.exit(main())
