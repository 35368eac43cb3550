"""`make bench-render`: the masked rendition of a rendition of ours, beside encoding all of it again.

The source is the largest rung of the shipped ladder, of 1080p30 that moves and is grainy. A box is masked in
no group of two seconds, in one of eight, in half of them and in all. Each is rendered twice, alternately:
with the record of the source's making, so that groups without a mask are kept, and without it, which encodes
all. Figures are processor seconds of this process, threads included; hashing the source and proving that it
is ours count. Before any figure counts, the output has passed the check, and FFmpeg decodes every picture of
a kept group to the source's picture and none of the others.

Options: SECONDS= (16) length of the source, RUNS= (3).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.rendition import LIMITS, make_source
from benchmarks.support import Figure, print_figures, whole, write_results
from evidence.fixity import hash_file
from evidence.masks import Reason
from media.decode import open_video, picture_times
from media.run import packaged_ffmpeg
from redaction.check import check_entry
from redaction.plan import FACES_ONLY, Key, Picture, RedactionPlan, State, Track
from redaction.render import render_entry
from tests.support.media import probe
from transcode.plan import KEYFRAME_EVERY_S, plan_renditions
from transcode.segment import RunOptions, make_renditions

SHARES = {"none": 0.0, "an eighth": 1 / 8, "half": 1 / 2, "all": 1.0}
AT_MOST = {"an eighth": 1 / 5, "all": 1.1}
"""Of what it costs to encode all."""
BOX = (600, 300, 760, 500)


@dataclass(frozen=True)
class Source:
    """A rendition, the record of its making, and when each of its pictures is shown, by group."""

    path: Path
    made: dict[str, Any]
    groups: list[list[int]]
    plan: RedactionPlan

    def masked(self, share: float) -> tuple[RedactionPlan, set[int]]:
        """A box in a share of the groups, spread evenly, and which groups these are."""
        count = round(share * len(self.groups))
        touched = {number * len(self.groups) // count for number in range(count)}
        tracks = tuple(
            Track(
                f"box-{number}",
                "manual",
                "account",
                "account-7",
                Reason.PRIVACY,
                State.ACCEPTED,
                "rectangle",
                (Key(self.groups[number][0], *BOX), Key(self.groups[number][-1], *BOX)),
            )
            for number in sorted(touched)
        )
        return replace(self.plan, tracks=tracks), touched


def make_rendition(folder: Path, seconds: int) -> Source:
    """The largest rung of the ladder, as a worker makes it."""
    foreign = folder / "foreign.mp4"
    make_source(foreign, seconds, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")
    report = probe(foreign, folder)
    plan = plan_renditions(report)[-1]
    (result,) = make_renditions(foreign, report, [plan], folder, run=RunOptions(folder, LIMITS)).results
    with open_video(result.path) as video:
        shape = video.shape
    times = [pts for pts, _ in picture_times(result.path)]
    ticks = KEYFRAME_EVERY_S / shape.time_base
    groups: dict[int, list[int]] = {}
    for pts in times:
        groups.setdefault(int(pts // ticks), []).append(pts)
    base = (shape.time_base.numerator, shape.time_base.denominator)
    picture = Picture(shape.width_px, shape.height_px, base, len(times), times[0], times[-1])
    empty = RedactionPlan("item-1", 1, None, "account-7", FACES_ONLY, {}, {}, picture)
    made = {"sha256": hash_file(result.path).sha256.hex(), "params": plan.params()}
    return Source(result.path, made, list(groups.values()), empty)


def rendered(source: Source, plan: RedactionPlan, output: Path, made: dict[str, Any] | None) -> float:
    """Render; how many processor seconds it took."""
    request = {"source": str(source.path), "plan": plan.to_json(), "destination": str(output), "made": made}
    begun = time.process_time()
    render_entry(request, _unheard)
    return time.process_time() - begun


def _unheard(_: float) -> None:
    """Nobody listens to the progress."""


def require_right(source: Source, plan: RedactionPlan, touched: set[int], output: Path) -> None:
    """The check passes, and kept pictures are the source's, no other."""
    request = {
        "source": str(source.path), "plan": plan.to_json(), "output": str(output), "made": source.made,
    }  # fmt: skip
    findings = check_entry(request, _unheard)["findings"]
    if findings:
        raise SystemExit(f"masked rendition: expected no findings, found {findings}")
    one, two = framemd5(source.path), framemd5(output)
    at = iter(zip(one, two, strict=True))
    for number, group in enumerate(source.groups):
        same = {before == after for before, after in (next(at) for _ in group)}
        if same != {number not in touched}:
            raise SystemExit(
                f"group {number}: expected all or none of its pictures as they were, found {same}"
            )


def framemd5(path: Path) -> Sequence[str]:
    """The digest of each picture as FFmpeg decodes it."""
    command = [packaged_ffmpeg(), "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [line.split(",")[-1].strip() for line in lines if not line.startswith("#")]


def measure(source: Source, folder: Path, runs: int) -> dict[str, Figure]:
    """Both ways, alternately, for each share of masked groups."""
    figures = {}
    for name, share in SHARES.items():
        plan, touched = source.masked(share)
        kept, encoded = folder / "kept.mp4", folder / "encoded.mp4"
        pairs = [
            (rendered(source, plan, kept, source.made), rendered(source, plan, encoded, None))
            for _ in range(runs)
        ]
        require_right(source, plan, touched, kept)
        ours, peer = ([pair[at] for pair in pairs] for at in (0, 1))
        figures[f"{name} of {len(source.groups)} groups masked, CPU"] = Figure(
            statistics.median(ours), "s", peer=statistics.median(peer), samples=ours
        )
        ratio = statistics.median(one / two for one, two in pairs)
        print(f"{name}: {ratio:.3f} of encoding all of it, median of pairs")
        if ratio > AT_MOST.get(name, ratio):
            raise SystemExit(f"{name}: expected at most {AT_MOST[name]:.3f}, found {ratio:.3f}")
    return figures


def main() -> int:
    seconds, runs = whole("SECONDS", 16), whole("RUNS", 3)
    with tempfile.TemporaryDirectory(prefix="liuhen-bench-") as name:
        folder = Path(name)
        source = make_rendition(folder, seconds)
        print(f"{seconds} s of 1080p30 in {len(source.groups)} groups")
        figures = measure(source, folder, runs)
    print_figures(figures)
    print(write_results("render", figures, seconds=seconds, groups=len(source.groups)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
