"""`make torture-spine SEED= N=`: kill -9 everything, over and over, under a shift of thirty files.

Real tus clients upload while a seeded tormentor kills random processes, empties the broker and freezes a
worker for longer than its lease. What dies is started again. In the end nothing that was acknowledged may
be lost, nothing may be there twice, no byte may differ, and no process may be left.

Options: ``SEED``; ``N`` kills (from 50 on never fewer than 8 of each process); ``FREEZE_S`` (20);
``DATABASE`` (``sqlite`` or ``postgresql``).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import select

from benchmarks.reader import Reader
from benchmarks.shift import Dock, ShiftFile, make_shift
from benchmarks.spine_judge import Verdict, judge, left_in_scratch, newest_checkpoint
from benchmarks.support import Figure, print_table, whole, write_results
from evidence.errors import Unavailable
from storage.db.tables import Job
from tests.support.cluster import ASKED, EVERYTHING, IO, ISOLATED, MEDIA, MEDIA2, QUICK, Cluster, wait_for

LEAST_EACH = 8
GAP_S = 4.0
LEASE_S = 5
SETTLE_S = 420.0
DOCKS = 4
SETTINGS = {
    "WORKER__LEASE_S": str(LEASE_S),
    "WORKER__CHECKPOINT_EVERY_S": "1",
    "WORKER__CHECKPOINT_BUSY_EVERY_S": "1",
    "WORKER__ANNOUNCE_AGAIN_S": "5",
}
TARGETS: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "io worker": (IO,),
    "quick worker": (QUICK,),
    "asked worker": (ASKED,),
    "isolated worker": (ISOLATED,),
    "media worker": (MEDIA, MEDIA2),
    "relay": ("relay",),
    "api": ("api",),
    "media listener": ("media",),
    "broker": ("broker",),
}
AT_WORK = {"io worker", "quick worker", "media worker"}
AT_WORK_S = 6.0
"""How long a worker that has nothing to do is spared, for it to be killed in the middle of something."""


class Tormentor:
    """Does the killing, and remembers what it did to whom.

    Args:
        seed: The order, the pauses and the choices come from it; the timing is the machine's.
    """

    def __init__(self, cluster: Cluster, docks: list[Dock], seed: int, kills: int, freeze_s: float) -> None:
        self._cluster = cluster
        self._docks = docks
        self._random = random.Random(seed)
        self._freeze_s = freeze_s
        owed = [name for name in TARGETS for _ in range(least_each(kills))]
        owed += self._random.choices(list(TARGETS), k=max(0, kills - len(owed)))
        self._random.shuffle(owed)
        self._owed = owed
        self.kills: Counter[str] = Counter()
        self.during: Counter[str] = Counter()
        self.other: Counter[str] = Counter()
        self.checkpoint: str | None = None
        self.frozen_job: str | None = None
        self._frozen: str | None = None
        self._freezer: threading.Thread | None = None

    def torment(self) -> None:
        """All of it, in a bounded time."""
        total = len(self._owed)
        specials = {
            total // 6: self.flush,
            total // 4: self._freeze_beside,
            total // 2: self._keep_checkpoint,
            total // 2 + 1: self.flush,
            total * 3 // 4: self._stop_broker,
        }
        for number in range(total):
            if number in specials:
                specials[number]()
            time.sleep(self._random.uniform(0.3, 2 * GAP_S - 0.3))
            _say(f"{number + 1}/{total} {self._kill_one()}")
        if self._freezer is not None:
            self._freezer.join()

    def _kill_one(self) -> str:
        """Kill the first that is owed and past its start: one that only starts has nothing to lose."""
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for place, target in enumerate(self._owed):
                ready = [name for name in TARGETS[target] if name != self._frozen]
                ready = [name for name in ready if self._cluster.has_begun(name)]
                if not ready:
                    continue
                program = self._await_work(ready) if target in AT_WORK else self._random.choice(ready)
                what = self._what_it_does(target, program)
                with contextlib.suppress(ProcessLookupError):
                    self._cluster.kill(program)
                    del self._owed[place]
                    self.kills[target] += 1
                    self.during[what] += 1
                    return f"{target}, {what}"
            time.sleep(0.1)
        raise AssertionError(f"{self._owed}: expected one of them to run again\n{self._cluster.log_tail()}")

    def _await_work(self, programs: list[str]) -> str:
        """Mostly, the one that is in the middle of a job, at a random place of it."""
        deadline = time.monotonic() + (AT_WORK_S if self._random.random() < 0.8 else 0)
        while time.monotonic() < deadline:
            for program in programs:
                with contextlib.suppress(ProcessLookupError, Unavailable):
                    if program != self._frozen and self._leased_by(self._cluster.pid(program)):
                        time.sleep(self._random.choice([0, 0.05, 0.3, 1.0]))
                        return program
            time.sleep(0.005)
        return self._random.choice(programs)

    def _what_it_does(self, target: str, program: str) -> str:
        if target == "ingest":
            return "request under way" if any(dock.is_sending.is_set() for dock in self._docks) else "idle"
        if not target.endswith("worker"):
            return "serving"
        with contextlib.suppress(ProcessLookupError, Unavailable):
            job = self._leased_by(self._cluster.pid(program))
            child = " in a child" if self._cluster.children(program) else ""
            return f"{job}{child}" if job else "idle"
        return "idle"

    def _leased_by(self, pid: int) -> str | None:
        with self._cluster.storage.database.read() as session:
            found = session.scalars(
                select(Job).where(Job.state == "leased", Job.lease_owner.like(f"%:{pid}"))
            ).first()
            return found.kind if found else None

    def flush(self) -> None:
        """FLUSHALL: every message is gone."""
        path = str(self._cluster.data / "run" / "valkey.sock")
        for _ in range(50):
            with contextlib.suppress(RedisError, OSError):
                Redis(unix_socket_path=path).flushall()
                self.other["FLUSHALL"] += 1
                return
            time.sleep(0.2)

    def _stop_broker(self) -> None:
        """An orderly restart of the broker, beside the kills."""
        with contextlib.suppress(ProcessLookupError):
            self._cluster.wait_running("broker", since=self._cluster.kill("broker", signal.SIGTERM))
        self.other["broker restarted"] += 1

    def _keep_checkpoint(self) -> None:
        self.checkpoint = newest_checkpoint(self._cluster.storage)

    def _freeze_beside(self) -> None:
        self._freezer = threading.Thread(target=self._freeze, name="freezer", daemon=True)
        self._freezer.start()

    def _freeze(self) -> None:
        """SIGSTOP a worker in the middle of a job for longer than its lease, then let it go on."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError, Unavailable):
                self._frozen = MEDIA
                job = self._leased_by(self._cluster.pid(MEDIA))
                if job is None:
                    continue
                stopped = self._cluster.freeze(MEDIA)
                self.frozen_job = job
                time.sleep(self._freeze_s)
                self._cluster.thaw(stopped)
                self.other[f"worker frozen {self._freeze_s:.0f} s"] += 1
                break
        self._frozen = None


def least_each(kills: int) -> int:
    """Kills every process gets at least: 8 from fifty kills on, an equal share in a shorter run."""
    return LEAST_EACH if kills >= 50 else max(1, kills // len(TARGETS))


def run(folder: Path, seed: int, kills: int, freeze_s: float, database_url: str | None) -> int:
    """The whole torture; 0 when nothing was lost, doubled, changed or left."""
    began = time.monotonic()
    files = make_shift(folder / "shift", seed)
    random.Random(seed).shuffle(files)
    cluster = Cluster(folder / "host", settings=SETTINGS, database_url=database_url)
    with cluster:
        cluster.populate()
        cluster.start(*EVERYTHING, timeout_s=180)
        _say("everything runs; the shift begins")
        kills = max(kills, least_each(kills) * len(TARGETS))
        per_file = 0.95 * kills * GAP_S * DOCKS / len(files)
        docks = [Dock(cluster, files[number::DOCKS], spread_s=per_file, streams=number % 2 == 0)
                 for number in range(DOCKS)]  # fmt: skip
        tormentor = Tormentor(cluster, docks, seed, kills, freeze_s)
        reader = Reader(cluster, seed)
        for client in (*docks, reader):
            client.start()
        tormentor.torment()
        for dock in docks:
            dock.join(300)
        _say("the killing is over; waiting until nothing is left to do")
        late = None
        try:
            cluster.wait_settled(SETTLE_S)
        except AssertionError as error:
            late = str(error)
        reader.stop()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not left_in_scratch(cluster.storage.scratch), 30, "scratch is empty")
    orphans = cluster.orphans()
    verdict = judge(cluster.storage, files, tormentor.checkpoint)
    verdict.changed += [f"answer: {line}" for line in reader.wrong]
    verdict.counts.update({f"reader: {name}": count for name, count in reader.answers.items()})
    if late:
        verdict.stuck.append(late)
    verdict.left_over += [f"process {line}" for line in orphans]
    verdict.left_over += [f"scratch {name}" for name in left_in_scratch(cluster.storage.scratch)]
    cluster.storage.database.dispose()
    _report(tormentor, verdict, files, time.monotonic() - began, seed)
    return 0 if verdict.is_clean() else 1


def _report(tormentor: Tormentor, verdict: Verdict, files: list[ShiftFile], took_s: float, seed: int) -> None:
    print(f"\nseed {seed}, {len(files)} files, {took_s:.0f} s")
    print_table(["killed -9", "times"], [[name, tormentor.kills[name]] for name in TARGETS])
    print_table(["while it did", "times"], tormentor.during.most_common())
    print_table(["also", "times"], list(tormentor.other.items()))
    print_table(["counted", ""], list(verdict.counts.items()))
    for line in verdict.lines():
        print(line)
    figures = {
        name: Figure(len(getattr(verdict, name)), "count", limit=0)
        for name in ("lost", "doubled", "changed", "stuck", "left_over")
    }
    print_table(["", "found", "allowed"], [[name, int(figure.ours), 0] for name, figure in figures.items()])
    figures["kills"] = Figure(tormentor.kills.total(), "count")
    figures["took"] = Figure(round(took_s, 1), "s")
    path = write_results(
        "torture_spine",
        figures,
        seed=seed,
        kills=dict(tormentor.kills),
        during=dict(tormentor.during),
        also=dict(tormentor.other),
        counts=dict(verdict.counts),
        findings=list(verdict.lines()),
    )
    print(f"written: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> None:
    seed, kills, freeze_s = whole("SEED", 1), whole("N", 72), whole("FREEZE_S", 20)
    database_url = None
    if os.environ.get("DATABASE") == "postgresql":
        from tests.support.databases import fresh_postgres_url

        database_url = fresh_postgres_url()
    folder = Path(tempfile.mkdtemp(prefix="liuhen-torture-"))
    status = run(folder, seed, kills, freeze_s, database_url)
    if status == 0:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    sys.exit(status)


if __name__ == "__main__":
    main()
