"""`make torture-media SEED= N=`: kill and freeze workers in the middle of encoding long recordings in chunks.

``N`` (3) recordings with numbered frames go in; each is cut into chunks of a second. A seeded tormentor kills
the workers that have a piece of one at hand, and freezes one for longer than its lease, so that its chunk is
made twice. FFmpeg stands behind a program that changes the rate control at each start: no two attempts write
the same bytes. In the end each rung must show every frame once and in order, each chunk must have counted
once, all must have been joined, and nothing of the pieces may be left.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import stat
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from benchmarks.spine_judge import left_in_scratch
from benchmarks.support import Figure, print_table, whole, write_results
from evidence.errors import Unavailable
from media.run import packaged_ffmpeg
from storage.check import Depth, check
from storage.db.tables import Derivative, Item, Job
from tests.support.cluster import MEDIA, MEDIA2, PIPELINE, QUICK, Cluster, wait_for
from tests.support.media import frame_numbers, make_plain
from transcode.plan import CHUNK, PIECES

SECONDS, FPS = 12, 10
RUNGS = {"360p", "720p"}
LEASE_S = 3
KILLS_EACH = 6
SETTLE_S = 420.0
WORKERS = (MEDIA, MEDIA2, QUICK)
AT_RISK = {*PIECES, "rendition"}
CHUNKS_SHARE = 0.75
SETTINGS = {
    "WORKER__LEASE_S": str(LEASE_S),
    "WORKER__ANNOUNCE_AGAIN_S": "2",
    "WORKER__ISOLATE_AFTER_DEATHS": "90",
    "WORKER__MAX_DEATHS": "99",
    "ENCODING__CHUNK_S": "1",
    "ENCODING__CHUNK_ABOVE_S": "2",
}


def moody_ffmpeg(folder: Path) -> Path:
    """FFmpeg whose encoder spreads its bits a little differently each time; what it shows is the same."""
    path = folder / "ffmpeg"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, random, sys\n"
        "mood = f':qcomp={random.uniform(0.5, 0.7):.6f}'\n"
        "words = [w + mood if w.startswith('open-gop=') else w for w in sys.argv[1:]]\n"
        f"os.execv({packaged_ffmpeg()!r}, ['ffmpeg', *words])\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class Tormentor:
    """Kills and freezes whoever works on a piece."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()

    def torment(self, kills: int) -> None:
        """As often as asked, or until nothing is left to do."""
        for number in range(kills):
            found = self._await_work()
            if found is None:
                continue
            program, kind = found
            time.sleep(self._random.choice([0.0, 0.05, 0.1, 0.3]))
            with contextlib.suppress(ProcessLookupError):
                if number % 5 == 2 and kind == CHUNK:
                    stopped = self._cluster.freeze(program)
                    time.sleep(2.5 * LEASE_S)
                    self._cluster.thaw(stopped)
                    self.done[f"frozen in {kind}"] += 1
                else:
                    self._cluster.kill(program)
                    self.done[f"killed in {kind}"] += 1

    def _await_work(self) -> tuple[str, str] | None:
        kinds = {CHUNK} if self._random.random() < CHUNKS_SHARE else AT_RISK
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._is_anything_left(kinds):
            for program in self._random.sample(WORKERS, len(WORKERS)):
                with contextlib.suppress(ProcessLookupError, Unavailable):
                    kind = self._kind_at(self._cluster.pid(program))
                    if kind in kinds:
                        return program, kind
            time.sleep(0.01)
        return None

    def _is_anything_left(self, kinds: set[str]) -> bool:
        """Uploads may not have been probed yet: then there is nothing, and something to come."""
        early = {"probe", "examine"}
        with contextlib.suppress(Unavailable), self._cluster.storage.database.read() as session:
            open_ones = select(Job.id).where(Job.kind.in_(kinds | early), Job.state.in_(("ready", "leased")))
            return session.scalar(open_ones.limit(1)) is not None
        return True

    def _kind_at(self, pid: int) -> str | None:
        with self._cluster.storage.database.read() as session:
            at_hand = select(Job.kind).where(Job.state == "leased", Job.lease_owner.like(f"%:{pid}"))
            return session.scalar(at_hand.limit(1))


def judge(cluster: Cluster) -> dict[str, list[str]]:
    """What was lost, doubled, changed or left."""
    found: dict[str, list[str]] = {"lost": [], "doubled": [], "changed": [], "left": [], "unjoined": []}
    expected = list(range(SECONDS * FPS))
    store = cluster.storage.objects
    with cluster.storage.database.read() as session:
        rows = session.scalars(select(Derivative).order_by(Derivative.id)).all()
        recordings = session.scalars(select(Item)).all()
        whole_ones = session.scalars(select(Job).where(Job.kind == "rendition")).all()
    found["unjoined"] = [f"item {job.subject_id}" for job in whole_ones if "chunks" not in job.params]
    for item in recordings:
        own = [row for row in rows if row.item_id == item.id]
        made = Counter(row.info["rung"] for row in own if row.kind == "rendition")
        found["lost"] += [f"{item.original_name}: no {rung}" for rung in sorted(RUNGS - set(made))]
        found["doubled"] += [
            f"{item.original_name}: {rung} x {count}" for rung, count in made.items() if count > 1
        ]
        chunks = Counter((row.info["chunk"], row.info["rung"]) for row in own if row.kind == CHUNK)
        found["doubled"] += [
            f"{item.original_name}: chunk {key}" for key, count in chunks.items() if count > 1
        ]
        found["lost"] += [
            f"{item.original_name}: chunk {number} of {rung}"
            for number in range(SECONDS)
            for rung in sorted(RUNGS)
            if (number, rung) not in chunks
        ]
        for row in own:
            path = store.path(row.store_key) if store.exists(row.store_key) else None
            if row.kind == "rendition" and (path is None or frame_numbers(path) != expected):
                found["changed"].append(f"{item.original_name}: frames of {row.info['rung']}")
            if row.kind in PIECES and (path is not None or row.withdrawn_at is None):
                found["left"].append(f"{item.original_name}: {row.kind} {row.info.get('chunk', '')}")
    # What killed attempts gave to the store has no row: named, harmless, and no finding here.
    for finding in check(cluster.storage, Depth.DIGESTS):
        if finding.code != "orphan_file":
            found["changed"].append(str(finding))
    found["left"] += [f"scratch {name}" for name in left_in_scratch(cluster.storage.scratch)]
    return found


def main() -> int:
    seed, count = whole("SEED", 1), whole("N", 3)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="liuhen-torture-"))
    settings = {**SETTINGS, "MEDIA__FFMPEG": str(moody_ffmpeg(folder))}
    with Cluster(folder / "host", settings=settings) as cluster:
        cluster.populate()
        cluster.start(*PIPELINE, timeout_s=180)
        tormentor = Tormentor(cluster, seed)
        for number in range(count):
            path = folder / f"long-{number}.avi"
            make_plain(path, seconds=SECONDS, fps=FPS, codec="mpeg4", width_px=640, height_px=480,
                       keyframe_every=17, seed=seed * 100 + number)  # fmt: skip
            cluster.upload(path)
        tormentor.torment(count * KILLS_EACH)
        late: list[str] = []
        try:
            cluster.wait_settled(SETTLE_S)
        except AssertionError as error:
            late.append(str(error))
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not left_in_scratch(cluster.storage.scratch), 30, "scratch is empty")
        found = judge(cluster)
        with cluster.storage.database.read() as session:
            states = session.scalars(select(Job).where(Job.kind == CHUNK)).all()
        again = sum(job.fence > 1 for job in states)
    found["stuck"] = late
    cluster.storage.database.dispose()
    print_table(["done to workers", "times"], tormentor.done.most_common())
    print(f"{count} recordings, {len(states)} chunks, {again} of them made more than once")
    for name, lines in found.items():
        for line in lines:
            print(f"{name}: {line}")
    figures = {name: Figure(len(lines), "count", limit=0) for name, lines in found.items()}
    print_table(["", "found", "allowed"], [[name, int(one.ours), 0] for name, one in figures.items()])
    figures["took"] = Figure(round(time.monotonic() - began, 1), "s")
    print(write_results("torture_media", figures, seed=seed, done=dict(tormentor.done), made_again=again))
    is_clean = not any(found.values())
    if is_clean:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
