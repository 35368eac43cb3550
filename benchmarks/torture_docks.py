"""`make torture-docks SEED= N=`: what a network, a disk, a dock and a power cut can do to uploads.

Six docks upload small and medium files over plain sockets, without end, while N faults strike at random
cut points: kill -9 and SIGTERM of the daemon, FIN and RST in mid-body, a line that stalls while a second
sender goes on, ENOSPC and EIO at each step that makes bytes durable, a really full disk, and an unclean
boot after which everything past the watermark reads as zeros. Each dock keeps a ledger of what it was told.

In the end no acknowledged byte may be lost or doubled, no offset may have gone back, each transfer has one
reception, and each reception of each digest one receipt of its own.

ENOSPC and EIO come from the boundary of the `os` module inside the daemon (`benchmarks/faults`): the same
call, the same error, at a chosen step. The full disk is a real one, a small tmpfs, where this machine lets
us mount it; the run says which it was.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from benchmarks.docks_judge import DocksVerdict, judge
from benchmarks.support import ROOT, Figure, print_table, whole, write_results
from benchmarks.tus_wire import Cut, Transfer, WentBack, Wire
from cli.programs import all_programs
from evidence.errors import FixityError
from ingest.tus.state import encode_watermark, read_watermark
from tests.support.cluster import IO, Cluster, accepts, wait_for

DOCKS = 6
DISK_BYTES = 3 << 30
DISK_BYTES_A_FAULT = 12 << 20
"""A longer run takes in more files, and the disk is to be full only when it is made so."""
SMALLEST, LARGEST = 10_000, 500_000
AGAIN = 0.12
"""Share of files whose bytes were sent before: another reception of the same item."""
LONG = 1000
"""From this many faults on the results are kept beside those of the usual run."""
GIVE_UP_S = 300.0
SETTLE_S = 240.0
SETTLE_S_A_FAULT = 0.5
KILL, TERM, BOOT, ENOSPC, EIO, FULL = (
    "kill -9", "SIGTERM", "unclean boot, zeroed tail", "ENOSPC at a step", "EIO at a step", "full disk",
)  # fmt: skip
STEPS = (
    ("pwritev", ".part"), ("fdatasync", ".part"), ("fdatasync", ".mark"), ("fsync", ".part"),
    ("link", ".part"), ("fsync", ""), ("replace", ".tmp"),
)  # fmt: skip


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Daemon:
    """The ingest daemon as its own process, which dies and comes back."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._argv = next(one for one in all_programs(cluster.settings) if one.name == "ingest").argv
        self.orders = folder / "fault.json"
        path = [str(ROOT / "benchmarks" / "faults"), os.environ.get("PYTHONPATH", "")]
        faults = {"LIUHEN_FAULTS": str(self.orders), "PYTHONPATH": os.pathsep.join(filter(None, path))}
        self._environment = {**os.environ, **cluster.variables, **faults}
        self._log = (folder / "ingest.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts."""
        self._process = subprocess.Popen(
            self._argv, env=self._environment, stdout=self._log, stderr=self._log
        )
        wait_for(lambda: accepts(self._cluster.settings.ingest.port), 60, "the daemon accepts again")

    def stop(self, number: int) -> int:
        """End it by a signal; its status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(60)


@dataclass
class Shared:
    """What docks and tormentor share."""

    faults: list[Cut] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    transfers: list[Transfer] = field(default_factory=list)
    went_back: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_over: threading.Event = field(default_factory=threading.Event)

    def next_cut(self) -> Cut | None:
        with self.lock:
            return self.faults.pop() if self.faults else None

    def note(self, fault: str) -> None:
        with self.lock:
            self.done[fault] += 1


class Dock(threading.Thread):
    """Uploads one file after another, and goes on from what the server says after each loss."""

    def __init__(self, number: int, cluster: Cluster, shared: Shared, seed: int) -> None:
        super().__init__(name=f"dock-{number}", daemon=True)
        self._wire = Wire(cluster.settings.ingest.port, cluster.token)
        self._shared = shared
        self._random = random.Random(seed * 1000 + number)
        self._number = number
        self._sent: list[bytes] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            count = 0
            while not self._shared.is_over.is_set():
                count += 1
                self._ship(f"{self._number}-{count:04}.mp4")
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._wire.let_go()

    def _ship(self, name: str) -> None:
        if self._sent and self._random.random() < AGAIN:
            content = self._random.choice(self._sent)
        else:
            content = self._random.randbytes(self._random.randrange(SMALLEST, LARGEST))
            self._sent = [*self._sent[-5:], content]
        transfer = Transfer(
            name, hashlib.sha256(content).hexdigest(), len(content), f"DSJ0{1 + self._number % 2}"
        )
        with self._shared.lock:
            self._shared.transfers.append(transfer)
        deadline = time.monotonic() + GIVE_UP_S
        while not transfer.is_whole:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name}: expected to get through, found {transfer}")
            try:
                self._go_on(transfer, memoryview(content))
            except OSError:
                time.sleep(0.2)
            except WentBack as error:
                self._shared.went_back.append(str(error))
                return
        self._wire.let_go()

    def _go_on(self, transfer: Transfer, content: memoryview) -> None:
        if transfer.url is None:
            answer = self._wire.create(transfer)
            if answer.status != 201:
                self._wait(f"POST {answer.status}")
                return
        answer = self._wire.head(transfer)
        if answer.status != 200:
            self._wait(f"HEAD {answer.status}")
            return
        if transfer.is_whole:
            return
        cut = self._shared.next_cut()
        told = self._wire.patch(
            transfer,
            content,
            cut=cut,
            cut_at=self._random.random(),
            pause_s=self._random.choice((0.005, 0.02, 0.06)),
        )
        if cut is not None:
            self._shared.note(cut.value)
        elif told is not None and told.status != 204:
            self._wait(f"PATCH {told.status}")

    def _wait(self, status: str) -> None:
        with self._shared.lock:
            self._shared.statuses[status] += 1
        time.sleep(self._random.uniform(0.1, 0.5))


class Tormentor:
    """Strikes, N times, in an order that comes from the seed."""

    def __init__(
        self, cluster: Cluster, daemon: Daemon, shared: Shared, seed: int, count: int, *, is_small_disk: bool
    ) -> None:
        self._cluster, self._daemon, self._shared = cluster, daemon, shared
        self._random = random.Random(seed)
        kinds = [KILL, TERM, BOOT, *Cut, ENOSPC, EIO, *([FULL] if is_small_disk else [])]
        faults: list[str | Cut] = [kinds[number % len(kinds)] for number in range(count)]
        self._random.shuffle(faults)
        self._faults = faults
        self.steps: Counter[str] = Counter()

    def __len__(self) -> int:
        """Faults that were wanted."""
        return len(self._faults)

    def torment(self) -> None:
        for number, fault in enumerate(self._faults, start=1):
            time.sleep(self._random.uniform(0.1, 0.8))
            self._strike(fault)
            if number % 10 == 0 or number == len(self._faults):
                whole_ones = sum(one.is_whole for one in list(self._shared.transfers))
                say(f"{number}/{len(self._faults)} faults, {whole_ones} files in")

    def _strike(self, fault: str | Cut) -> None:
        if isinstance(fault, Cut):
            with self._shared.lock:
                self._shared.faults.append(fault)
            return
        if fault in {ENOSPC, EIO}:
            self._fail_a_step(fault)
        elif fault == FULL:
            self._fill_the_disk()
        else:
            self._daemon.stop(signal.SIGTERM if fault == TERM else signal.SIGKILL)
            if fault == BOOT:
                forget_the_tail(self._cluster.data / "uploads", self._random)
            self._daemon.start()
        self._shared.note(fault)

    def _fail_a_step(self, fault: str) -> None:
        call, ends = self._random.choice(STEPS)
        times = self._random.choice((1, 1, 3))
        order = {
            "call": call, "ends": ends, "times": times,
            "errno": errno.ENOSPC if fault == ENOSPC else errno.EIO,
        }  # fmt: skip
        fresh = self._daemon.orders.with_suffix(".order")
        fresh.write_text(json.dumps(order))
        fresh.replace(self._daemon.orders)
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline and _left_of(self._daemon.orders) > 0:
            time.sleep(0.02)
        hit = times - _left_of(self._daemon.orders)
        self._daemon.orders.unlink(missing_ok=True)
        self.steps[f"{call} {ends or 'directory'}: {'hit' if hit else 'missed'}"] += 1

    def _fill_the_disk(self) -> None:
        ballast = self._cluster.data / "ballast"
        state = os.statvfs(self._cluster.data)
        leave = self._random.choice((0, 200_000, 800_000))
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, state.f_bavail * state.f_frsize - leave))
        time.sleep(self._random.uniform(0.3, 1.0))
        ballast.unlink()


def _left_of(order: Path) -> int:
    try:
        return int(json.loads(order.read_text())["times"])
    except (OSError, ValueError):
        return 1


def forget_the_tail(uploads: Path, chooser: random.Random) -> None:
    """What a power cut leaves: lengths past the watermark with zeros for bytes, or no such length at all."""
    for mark_path in uploads.glob("*.mark"):
        part = mark_path.with_suffix(".part")
        try:
            mark = read_watermark(mark_path)
        except FixityError:
            continue  # Killed between making the file and filling it: nobody was told of it.
        mark_path.write_bytes(encode_watermark(replace(mark, boot_id=uuid4())))
        if not part.exists():
            continue
        size = part.stat().st_size
        if size > mark.offset_bytes:
            with part.open("r+b") as file:
                if chooser.random() < 0.7:
                    file.seek(mark.offset_bytes)
                    file.write(bytes(size - mark.offset_bytes))
                else:
                    file.truncate(mark.offset_bytes)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[bool]:
    """A tmpfs of a known size on the folder, if this machine lets us; whether it did."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "liuhen-torture", str(folder)],  # noqa: S607
        check=False,
        capture_output=True,
    )
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def run(folder: Path, seed: int, count: int) -> int:
    """The whole torture; 0 when nothing was lost, doubled, changed or taken back."""
    began = time.monotonic()
    with small_disk(folder / "host", max(DISK_BYTES, count * DISK_BYTES_A_FAULT)) as is_small_disk:
        say("full disk: a real tmpfs" if is_small_disk else "full disk: not mountable here, left out")
        with Cluster(folder / "host", settings={"WORKER__CHECKPOINT_EVERY_S": "2"}) as cluster:
            cluster.populate()
            cluster.start("broker", "relay", IO)
            daemon = Daemon(cluster, folder)
            daemon.start()
            shared = Shared()
            docks = [Dock(number, cluster, shared, seed) for number in range(DOCKS)]
            tormentor = Tormentor(cluster, daemon, shared, seed, count, is_small_disk=is_small_disk)
            for dock in docks:
                dock.start()
            say("six docks upload")
            tormentor.torment()
            deadline = time.monotonic() + 60
            while shared.faults and time.monotonic() < deadline:
                time.sleep(0.1)
            shared.is_over.set()
            for dock in docks:
                dock.join(GIVE_UP_S)
            say("the faults are over; waiting for receipts")
            verdict = judge(
                cluster, shared.transfers, shared.went_back, settle_s=SETTLE_S + count * SETTLE_S_A_FAULT
            )
            verdict.lost += [f"{dock.name}: {dock.failure!r}" for dock in docks if dock.failure]
            status = daemon.stop(signal.SIGTERM)
            if status != 0:
                verdict.lost.append(f"daemon: expected status 0 after SIGTERM, found {status}")
    _report(verdict, shared, tormentor, time.monotonic() - began, seed, is_small_disk=is_small_disk)
    return 0 if verdict.is_clean() else 1


def _report(
    verdict: DocksVerdict,
    shared: Shared,
    tormentor: Tormentor,
    took_s: float,
    seed: int,
    *,
    is_small_disk: bool,
) -> None:
    print(f"\nseed {seed}, {len(shared.transfers)} transfers, {took_s:.0f} s")
    print_table(["fault", "times"], shared.done.most_common())
    print_table(["step that failed", "times"], tormentor.steps.most_common())
    print_table(["answer", "times"], shared.statuses.most_common())
    print_table(["counted", ""], list(verdict.counts.items()))
    for line in verdict.lines():
        print(line)
    figures = {name: Figure(len(found), "count", limit=0) for name, found in verdict.findings().items()}
    print_table(["", "found", "allowed"], [[name, int(figure.ours), 0] for name, figure in figures.items()])
    figures["faults"] = Figure(shared.done.total(), "count")
    figures["took"] = Figure(round(took_s, 1), "s")
    path = write_results(
        "torture_docks" if len(tormentor) < LONG else f"torture_docks_{len(tormentor)}",
        figures,
        seed=seed,
        faults=dict(shared.done),
        steps=dict(tormentor.steps),
        answers=dict(shared.statuses),
        counts=dict(verdict.counts),
        full_disk="tmpfs" if is_small_disk else "left out: no tmpfs could be mounted",
        findings=list(verdict.lines()),
    )
    print(f"written: {path.name}")


def main() -> None:
    seed, count = whole("SEED", 1), whole("N", 150)
    folder = Path(tempfile.mkdtemp(prefix="liuhen-docks-"))
    status = run(folder, seed, count)
    if status == 0:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    sys.exit(status)


if __name__ == "__main__":
    main()
