"""`make bench-streams`: what recording a stream costs, beside one plain `ffmpeg -c copy` for each.

The source is 1080p30 H.264 at 4 Mbit/s with AAC as MPEG-TS over TCP, from one sender for all. Ours is a
recorder's process as the daemon starts it: packets judged by the clock, fragments of 0.25 s, SHA-256, data
and journal synced each second. The peer writes the same fragments with FFmpeg and neither digests nor
syncs. As many of the one as of the other run at the same time. A room records for hours, so what a process
uses once it runs, and what its start costs, are told apart: the first by the kernel's account of its
threads over ``SECONDS`` after ``WARM_S``, the second by what it had used until then beyond that. Streams a
core is the reciprocal of a running stream's share.

Options: N= (10) streams of each at a time, SECONDS= (60), MANY= (50) streams of ours at once for that long,
to see that none falls behind.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    "250000",
)


WARM_S = 10
"""A process has started by then."""


@dataclass(frozen=True)
class Cost:
    """What one stream costs."""

    cpu_s: float
    """For each second of it, once it runs."""
    start_s: float
    """Of processor time, beyond that, to get there."""
    rss_mib: float
    """The most the process held."""


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


def used_s(pid: int) -> float:
    """Processor time of a process so far."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def watched(pids: list[int], begun_s: float, seconds: int) -> list[Cost]:
    """Watch running processes for a while, and wait for their end."""
    time.sleep(begun_s + WARM_S - time.monotonic())
    early, from_s = [used_s(pid) for pid in pids], time.monotonic()
    time.sleep(seconds)
    late, passed_s = [used_s(pid) for pid in pids], time.monotonic() - from_s
    peaks = [os.wait4(pid, 0)[2].ru_maxrss / 1024 for pid in pids]
    steady = [(end - start) / passed_s for start, end in zip(early, late, strict=True)]
    return [
        Cost(share, start - share * WARM_S, peak)
        for share, start, peak in zip(steady, early, peaks, strict=True)
    ]


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
    count, seconds, many = whole("N", 10), whole("SECONDS", 60), whole("MANY", 50)
    lasts_s = WARM_S + seconds + 5
    with tempfile.TemporaryDirectory(prefix="liuhen-bench-") as name:
        folder = Path(name)
        source = folder / "source.ts"
        make_source(source, lasts_s)
        with sending(source, lasts_s) as address:
            begun = time.monotonic()
            runs = ours(folder, address, count)
            costs = watched(
                [*(run.process.pid for run in runs), *plain(folder, address, count)], begun, seconds
            )
            (folder / "many").mkdir()
            begun = time.monotonic()
            crowd = ours(folder / "many", address, many)
            crowded = watched([run.process.pid for run in crowd], begun, seconds)
            took_s = time.monotonic() - begun
            for run in (*runs, *crowd):
                run.process.returncode = 0
            recorded = pictures(crowd)
        figures = _figures(costs[:count], costs[count:], crowded)
        whole_ones = sum(one >= lasts_s * 30 - 3 for one in recorded)
        figures[f"{many} at once, recorded whole"] = Figure(
            whole_ones, "streams", limit=many, samples=recorded
        )
        figures[f"{many} at once, took"] = Figure(round(took_s, 1), "s", limit=lasts_s)
        print_figures(figures)
        write_results("streams", figures)
    return 0


def _figures(mine: list[Cost], peers: list[Cost], crowded: list[Cost]) -> dict[str, Figure]:
    def figure(unit: str, told: Callable[[Cost], float], of: list[Cost] = mine) -> Figure:
        samples = [told(each) for each in of]
        return Figure(statistics.median(samples), unit, statistics.median(map(told, peers)), samples=samples)

    running = figure("CPU s/s", lambda cost: cost.cpu_s)
    return {
        "CPU of one stream that runs": running,
        "CPU of one stream among many": figure("CPU s/s", lambda cost: cost.cpu_s, crowded),
        "CPU of its start": figure("CPU s", lambda cost: cost.start_s),
        "streams a core": Figure(1 / running.ours, "streams", 1 / (running.peer or 1)),
        "memory of one stream, most": figure("MiB", lambda cost: cost.rss_mib),
    }


if __name__ == "__main__":
    sys.exit(main())
