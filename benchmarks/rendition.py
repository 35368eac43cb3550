"""`make bench-rendition`: the ladder of a recording, beside one plain FFmpeg command that makes the same.

The source is 1080p30 HEVC with AAC, which browsers do not play, so it gets the ladder of the shipped
settings. Ours is what a worker runs, checks and syncs included; the peer is FFmpeg with the same filters,
encoder settings and splitting, and the source's clock: it has to show the same pictures at the same times.
Both run alternately, at the same niceness. Processor seconds are those of the children and of this process. A
second source that browsers play is copied, beside `ffmpeg -c copy`. Last, the
first source is made in chunks and joined, which costs the decoding before each cut.

Options: SECONDS= (20) length of the source, COPY_SECONDS= (600), RUNS= (3).
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from benchmarks.support import Figure, print_figures, whole, write_results
from config.settings import EncodingSettings
from media.fmp4 import FragmentIndex
from media.report import ProbeReport
from media.run import packaged_ffmpeg
from media.sandbox import Limits
from tests.support.media import probe, shown_at
from transcode.chunks import ChunkFile, cuts, join
from transcode.ladder import SHIPPED
from transcode.plan import KEYFRAME_EVERY_S, MOVFLAGS, chunk_plan, plan_renditions, sound_plan
from transcode.segment import RunOptions, growing_file, make_renditions

WIDE, FPS = 16 / 9, 30
LIMITS = Limits(cpu_s=6 * 3600, wall_s=3600, niceness=0)


@dataclass
class Timed:
    """Runs of one thing."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)

    def run(self, work: Callable[[], float | None]) -> None:
        """Do it once more; ``work`` returns after how many seconds the first segment was there."""
        before, begun = _cpu(), time.monotonic()
        first = work()
        self.wall_s.append(time.monotonic() - begun)
        self.cpu_s.append(_cpu() - before)
        if first is not None:
            self.first_s.append(first)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def ffmpeg(*arguments: object) -> None:
    command = [packaged_ffmpeg(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


def make_source(path: Path, seconds: int, *codec: str) -> None:
    """1080p30 that moves and is grainy, as night footage is."""
    piece = path.with_name(f"piece-{path.name}")
    picture = f"testsrc2=s=1920x1080:r={FPS}:d={min(seconds, 20)},noise=alls=6:allf=t"
    ffmpeg("-f", "lavfi", "-i", picture, *codec, "-g", "60", piece)
    # Sound of its own length: repeated with the picture, its last packet would tear the clock at each seam.
    ffmpeg("-stream_loop", "-1", "-i", piece, "-f", "lavfi", "-i", f"sine=440:r=48000:d={seconds}",
           "-frames:v", seconds * FPS, "-c:v", "copy", "-c:a", "aac", path)  # fmt: skip


def ours(source: Path, report: ProbeReport, folder: Path) -> float | None:
    """As a worker does it; when the first segment of the smallest rung could be played."""
    begun, first = time.monotonic(), list[float]()

    def grew(rung: str, index: FragmentIndex) -> None:
        if not first and rung in {"360p", "copy"} and index.fragments:
            first.append(time.monotonic() - begun)

    run = RunOptions(folder, LIMITS)
    make_renditions(source, report, plan_renditions(report), folder, run=run, on_growth=grew)
    return first[0]


def plain_ladder(source: Path, folder: Path, policy: EncodingSettings = SHIPPED) -> None:
    """One FFmpeg command for all rungs, written by hand."""
    rungs = policy.rungs
    marks = [f"[s{number}]" for number in range(len(rungs))]
    graph = [f"[0:v]split={len(rungs)}{''.join(marks)}"]
    outputs: list[object] = []
    for number, rung in enumerate(rungs):
        width = round(rung.height_px * WIDE / 2) * 2
        graph.append(
            f"{marks[number]}scale={width}:{rung.height_px}:flags=bicubic:out_range=tv,format=yuv420p[v{number}]"
        )
        kbps = rung.max_kbps or 100_000
        outputs += [
            *("-map", f"[v{number}]", "-map", "0:a", "-c:a", "copy", "-c:v", "libx264", "-bf", 0),
            *("-preset", policy.preset, "-crf", rung.crf, "-maxrate", f"{kbps}k", "-bufsize", f"{2 * kbps}k"),
            *("-threads:v", 4, "-profile:v", "high", "-fps_mode", "passthrough", "-g", 100_000),
            # Without it pictures are put on a clock of the average rate, two of them at one time.
            *("-enc_time_base:v", "demux"),
            *("-force_key_frames", f"expr:gte(t,n_forced*{KEYFRAME_EVERY_S})"),
            *("-x264-params", "open-gop=0:scenecut=0", "-movflags", MOVFLAGS, folder / f"plain-{number}.mp4"),
        ]
    ffmpeg("-i", source, "-filter_complex", ";".join(graph), *outputs)


def require_equal(folder: Path) -> None:
    """Both made the same pictures at the same times, rung for rung."""
    for number, rung in enumerate(SHIPPED.rungs):
        mine, plain = (
            shown_at(folder / name) for name in (growing_file(f"{rung.height_px}p"), f"plain-{number}.mp4")
        )
        late = [abs((a - mine[0]) - (b - plain[0])) for a, b in zip(mine, plain, strict=True)]
        if max(late) > Fraction(1, 1000):
            raise SystemExit(
                f"{rung.height_px}p: expected the times of the peer, found {float(max(late)):.3f} s"
            )


def in_chunks(source: Path, report: ProbeReport, folder: Path, count: int) -> None:
    """Every chunk, the sound and the joining, one after the other."""
    video, audio = report.video, report.audio
    if video is None or audio is None:
        raise SystemExit("source: expected picture and sound, found one missing")
    run, plans, planned = RunOptions(folder, LIMITS), plan_renditions(report), cuts(video, count)
    lanes: list[list[ChunkFile]] = [[] for _ in plans]
    for number, cut in enumerate(planned):
        place = folder / f"chunk{number}"
        place.mkdir(exist_ok=True)
        chunked = [chunk_plan(plan, cut, video.time_base_fraction) for plan in plans]
        made = make_renditions(source, report, chunked, place, run=run).results
        for lane, result in zip(lanes, made, strict=True):
            lane.append(ChunkFile(number, cut.span, result.path, result.index))
    heard = make_renditions(source, report, [sound_plan(plans[0], report)], folder, run=run).results[0]
    for plan, chunks in zip(plans, lanes, strict=True):
        join(plan, report, chunks, planned, heard.path, folder, run=run)


def main() -> int:
    seconds, copy_seconds, runs = whole("SECONDS", 20), whole("COPY_SECONDS", 600), whole("RUNS", 3)
    with tempfile.TemporaryDirectory(prefix="liuhen-bench-") as name:
        folder = Path(name)
        foreign, playable = folder / "foreign.mp4", folder / "playable.mp4"
        make_source(
            foreign, seconds, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"
        )
        make_source(playable, copy_seconds, "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M",
                    "-pix_fmt", "yuv420p")  # fmt: skip
        foreign_report, playable_report = probe(foreign, folder), probe(playable, folder)
        ladder, plain, copy, plain_copy, chunked = (Timed() for _ in range(5))
        for _ in range(runs):
            ladder.run(lambda: ours(foreign, foreign_report, folder))
            plain.run(lambda: plain_ladder(foreign, folder))
            require_equal(folder)
            copy.run(lambda: ours(playable, playable_report, folder))
            plain_copy.run(lambda: _copied(playable, folder))
        chunked.run(lambda: in_chunks(foreign, foreign_report, folder, max(2, seconds // 10)))
    figures = {
        "ladder, CPU": _figure(ladder.cpu_s, "s", plain.cpu_s),
        "ladder, wall": _figure(ladder.wall_s, "s", plain.wall_s),
        "first 360p segment": _figure(ladder.first_s, "s"),
        "copy, CPU": _figure(copy.cpu_s, "s", plain_copy.cpu_s),
        "copy, wall": _figure(copy.wall_s, "s", plain_copy.wall_s),
        "first copied segment": _figure(copy.first_s, "s"),
        "in chunks of 10 s, CPU": _figure(chunked.cpu_s, "s", plain.cpu_s),
    }
    print(f"{seconds} s of 1080p30 HEVC into {len(SHIPPED.rungs)} rungs; {copy_seconds} s of H.264 copied")
    print_figures(figures)
    for what, (one, two) in {
        "ladder, CPU": (ladder.cpu_s, plain.cpu_s),
        "ladder, wall": (ladder.wall_s, plain.wall_s),
    }.items():
        ratio = statistics.median(a / b for a, b in zip(one, two, strict=True))
        print(f"{what}: {ratio:.2f} of the plain command, median of pairs")
    print(write_results("rendition", figures, seconds=seconds, copy_seconds=copy_seconds))
    return 0


def _copied(source: Path, folder: Path) -> None:
    ffmpeg("-i", source, "-c", "copy", "-movflags", MOVFLAGS, folder / "plain-copy.mp4")


def _figure(samples: Sequence[float], unit: str, peer: Sequence[float] | None = None) -> Figure:
    beside = None if peer is None else statistics.median(peer)
    return Figure(statistics.median(samples), unit, peer=beside, samples=list(samples))


if __name__ == "__main__":
    sys.exit(main())
