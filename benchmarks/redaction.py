"""`make bench-redaction`: hiding faces, from a rendition to a checked masked one, beside `deface` 1.5.0.

Ours is what a worker does, as shipped: find faces and plates and plan, render, decode the output again and
check every frame of it, each in a child. The peer reads, detects and writes; it checks nothing. It runs at
its defaults, and with `--scale 640x360`. Both get the same clips one after the other, at the same niceness,
without sound.

Recall: of ours from the plan that the check held the output to; of the peer from a run with solid masks,
where a pixel counts as hidden that came out black and was not. Clips: one of 720p at 25 frames a second is
generated for speed, with two people who walk; generated hazards, and what FOOTAGE= holds (with truth beside,
as for `liuhen redaction score`), are for recall.

Options: SECONDS= (20) length of the 720p clip, HAZARDS= (all) how many of them, FOOTAGE= a folder.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support import ROOT, Figure, print_figures, print_table, whole, write_results
from config.settings import RedactionSettings
from media import sandbox
from media.decode import open_video, picture_times
from media.hazards import HAZARDS, Hazard, Pose, make_hazard
from redaction.plan_json import plan_from_json
from redaction.score import COVERED, Score, read_truth, score, truth_beside
from tests.support.samples import models_dir, sample

PEER = ROOT / ".cache" / "bench-peers" / "deface"
PINNED = (
    "deface==1.5.0",
    "imageio==2.38.1",
    "imageio-ffmpeg==0.8.1",
    "numpy==2.4.6",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "opencv-python-headless==5.0.0.93",
    "scikit-image==0.26.0",
    "tqdm==4.70.1",
)
LIMITS = sandbox.Limits(cpu_s=4 * 3600, wall_s=4 * 3600, niceness=0)
BLACK, WAS_LIT = 24, 40
SCALED = ("--scale", "640x360")


@dataclass
class Cost:
    """What one run took."""

    wall_s: float
    cpu_s: float

    @classmethod
    def of(cls, work: Callable[[], object]) -> Cost:
        """Do it; children's processor seconds are counted once they have ended."""
        before, begun = _cpu(), time.monotonic()
        work()
        return cls(time.monotonic() - begun, _cpu() - before)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peer_program() -> Path:
    """`deface`, installed once in an environment of its own."""
    program = PEER / "bin" / "deface"
    if not (PEER / "ready").exists():
        shutil.rmtree(PEER, ignore_errors=True)
        venv.create(PEER, with_pip=True)
        # Without its dependencies, which name the OpenCV that needs a desktop's libraries.
        python = PEER / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", PINNED[0]], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PINNED[1:]], check=True)
        (PEER / "ready").touch()
    return program


def walking(seconds: int) -> Hazard:
    """Two people in 720p, one near and one farther, now and then out of the picture."""

    def poses(frame: int) -> tuple[Pose | None, Pose | None]:
        near = Pose(640 + 260 * math.cos(frame / 60), 330 + 20 * math.sin(frame / 12), 170)
        is_away = frame % 250 >= 150
        far = None if is_away else Pose(200 + 3 * (frame % 250), 200, 64, is_mirrored=True)
        return near, far

    return Hazard("720p", "二人行走 two walk", poses, 25 * seconds, 1280, 720)


def ours(clip: Path, folder: Path) -> tuple[Cost, dict[str, object]]:
    """Find, render and check; what it took, and the plan."""
    plan = folder / "plan.json"
    output = folder / "ours.mp4"
    settings = RedactionSettings()
    asked: dict[str, object] = {
        "source": str(clip),
        "destination": str(plan),
        "item_id": "bench",
        "models_dir": str(models_dir()),
        "threads": os.cpu_count(),
        "parameters": settings.as_parameters(),
    }

    def work() -> None:
        sandbox.call("redaction.detect:propose_entry", asked, limits=LIMITS, scratch=folder)
        follow: dict[str, object] = {"source": str(clip), "plan": json.loads(plan.read_bytes())}
        written = {**follow, "destination": str(output)}
        sandbox.call("redaction.render:render_entry", written, limits=LIMITS, scratch=folder)
        judged = {
            **follow,
            "output": str(output),
            "models_dir": str(models_dir()),
            "check_permille": round(settings.check_score * 1000),
        }
        found = sandbox.call("redaction.check:check_entry", judged, limits=LIMITS, scratch=folder)
        if findings := found["findings"]:
            print(f"{clip.stem}: the check found {findings}")

    cost = Cost.of(work)
    output.unlink()
    return cost, json.loads(plan.read_bytes())


def theirs(clip: Path, folder: Path, *options: str) -> Cost:
    """One run of the peer; what it wrote lies in ``folder/theirs.mp4``."""
    command = [str(peer_program()), str(clip), "-o", str(folder / "theirs.mp4"), *options]
    return Cost.of(lambda: subprocess.run(command, check=True, capture_output=True, cwd=folder))


def hidden_by_peer(clip: Path, folder: Path) -> tuple[int, int, int]:
    """Of the *must* boxes of a clip: all, covered, and covered by 95 %, after a run with solid masks."""
    theirs(clip, folder, "--replacewith", "solid")
    truths = [truth for path in truth_beside(clip) for truth in read_truth(path)[1] if truth.tier == "must"]
    by_frame: dict[int, list[tuple[int, int, int, int]]] = {}
    for truth in truths:
        by_frame.setdefault(truth.frame, []).append(truth.box)
    counted = covered = well = 0
    with open_video(clip) as before, open_video(folder / "theirs.mp4") as after:
        for source, made in zip(before, after, strict=False):
            if source.index not in by_frame:
                continue
            # The peer stretches pictures to sides of multiples of 16.
            was = source.rgb(made.width_px, made.height_px).max(axis=2)
            now = made.rgb(made.width_px, made.height_px).max(axis=2)
            across, down = made.width_px / source.width_px, made.height_px / source.height_px
            hidden = (now <= BLACK) & (was >= WAS_LIT)
            for x0, y0, x1, y1 in by_frame[source.index]:
                area = (slice(int(y0 * down), int(y1 * down)), slice(int(x0 * across), int(x1 * across)))
                share = float(hidden[area].sum() / max(1, (was[area] >= WAS_LIT).sum()))
                counted, covered, well = counted + 1, covered + (share >= COVERED), well + (share >= 0.95)
    return counted, covered, well


def main() -> None:
    """Measure, print, keep."""
    peer_program()
    totals = {"ours": [0, 0, 0], "deface": [0, 0, 0]}
    rows: list[list[object]] = []
    costs: dict[str, dict[str, Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        speed = make_hazard(walking(whole("SECONDS", 20)), sample("astronaut.png"), folder)
        clips = [speed]
        clips += [
            make_hazard(one, sample("astronaut.png"), folder)
            for one in HAZARDS[: whole("HAZARDS", len(HAZARDS))]
        ]
        if footage := os.environ.get("FOOTAGE", "").strip():
            clips += [path for path in sorted(Path(footage).resolve().glob("*.mp4")) if truth_beside(path)]
        for clip in clips:
            is_timed = clip is speed
            cost, plan = ours(clip, folder)
            costs[clip.stem] = {"ours": cost, "deface": theirs(clip, folder)}
            if is_timed:
                costs[clip.stem]["deface --scale 640x360"] = theirs(clip, folder, *SCALED)
            made = _scored(plan, clip)
            peer = hidden_by_peer(clip, folder)
            for name, counts in (
                ("ours", (made.must, made.must_covered, made.must_well_covered)),
                ("deface", peer),
            ):
                totals[name] = [a + b for a, b in zip(totals[name], counts, strict=True)]
            rows.append([clip.stem, made.must, *_shares(made, peer), *_seconds(costs[clip.stem])])
    heads = ["clip", "must", "ours 60%", "deface 60%", "ours 95%", "deface 95%"]
    print_table([*heads, "ours CPU s", "deface CPU s", "ours s", "deface s"], rows)
    figures = _figures(costs, totals, whole("SECONDS", 20))
    print_figures(figures)
    write_results("redaction", figures, clips=rows, peer=list(PINNED))


def _scored(plan: dict[str, object], clip: Path) -> Score:
    listed = [read_truth(path) for path in truth_beside(clip)]
    frames = set().union(*(frames for frames, _ in listed))
    pts = [at for at, _ in picture_times(clip)]
    return score(plan_from_json(plan), pts, frames, [truth for _, truths in listed for truth in truths])


def _shares(made: Score, peer: tuple[int, int, int]) -> list[str]:
    whole_count = max(1, made.must)
    counts = (made.must_covered, peer[1], made.must_well_covered, peer[2])
    return [f"{count / whole_count:.1%}" for count in counts]


def _seconds(cost: dict[str, Cost]) -> list[str]:
    both = (cost["ours"], cost["deface"])
    return [f"{one.cpu_s:.1f}" for one in both] + [f"{one.wall_s:.1f}" for one in both]


def _figures(
    costs: dict[str, dict[str, Cost]], totals: dict[str, list[int]], seconds: int
) -> dict[str, Figure]:
    timed = costs["720p"]
    mine = timed["ours"]
    figures = {}
    for name in ("deface", "deface --scale 640x360"):
        peer = timed[name]
        figures[f"720p end to end, beside {name}"] = Figure(
            seconds / mine.wall_s, "x real time", peer=seconds / peer.wall_s
        )
        figures[f"720p processor, beside {name}"] = Figure(
            60 * mine.cpu_s / seconds, "CPU s a minute", peer=60 * peer.cpu_s / seconds
        )
    for at, share in ((1, "60 %"), (2, "95 %")):
        figures[f"must boxes covered by {share}"] = Figure(
            totals["ours"][at] / max(1, totals["ours"][0]),
            "share",
            peer=totals["deface"][at] / max(1, totals["deface"][0]),
        )
    return figures


if __name__ == "__main__":
    main()
