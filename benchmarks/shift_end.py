"""`make bench-shift-end`: the daemon and the API while eight uploads stall and a whole shift comes in.

Eight senders stop in the middle of a body and keep their lines open. Beside them four docks send files in
requests of 1 MiB, and a reviewer reads the API. Measured first without the stalled ones, then with them, in
one run: what a stall costs others is the difference. R31; shipped settings.

Options: ``N`` seconds a phase (20).
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.support import Figure, percentile, print_figures, whole, write_results
from benchmarks.tus_wire import Transfer, Wire
from tests.support.cluster import IO, Cluster

STALLED, DOCKS = 8, 4
FILE_BYTES, REQUEST_BYTES = 16 << 20, 1 << 20
READ_EVERY_S = 0.1
API_GOAL_MS = 200.0


@dataclass
class Phase:
    """What was measured while it lasted."""

    acknowledged_ms: list[float] = field(default_factory=list)
    api_ms: list[float] = field(default_factory=list)
    bytes_acknowledged: int = 0
    files: int = 0
    refused: int = 0
    took_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Load:
    """Docks and a reader at work for a while."""

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        self._cluster, self._seconds = cluster, seconds
        self._failures: list[BaseException] = []

    def measure(self) -> Phase:
        """One phase.

        Raises:
            RuntimeError: A dock or the reader failed; its error is the cause.
        """
        phase, until = Phase(), time.monotonic() + self._seconds
        workers = [
            *(threading.Thread(target=self._guarded, args=(self._dock, phase, until)) for _ in range(DOCKS)),
            threading.Thread(target=self._guarded, args=(self._read, phase, until)),
        ]
        began = time.monotonic()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        phase.took_s = time.monotonic() - began
        if self._failures:
            raise RuntimeError("shift end: a client failed") from self._failures[0]
        return phase

    def _guarded(self, work: Callable[[Phase, float], None], phase: Phase, until: float) -> None:
        try:
            work(phase, until)
        except BaseException as error:
            self._failures.append(error)

    def _dock(self, phase: Phase, until: float) -> None:
        wire = Wire(self._cluster.settings.ingest.port, self._cluster.token)
        while time.monotonic() < until:
            content = memoryview(os.urandom(FILE_BYTES))
            transfer = Transfer("shift.mp4", hashlib.sha256(content).hexdigest(), FILE_BYTES, "DSJ01")
            wire.create(transfer)
            while not transfer.is_whole:
                # One request of a limited size, as most docks send them.
                before, asked = transfer.told, time.perf_counter()
                answer = wire.patch(transfer, content, most_bytes=REQUEST_BYTES)
                took_ms = (time.perf_counter() - asked) * 1000
                with phase.lock:
                    phase.acknowledged_ms.append(took_ms)
                    phase.bytes_acknowledged += transfer.told - before
                    phase.refused += answer is None or answer.status != 204
            with phase.lock:
                phase.files += 1

    def _read(self, phase: Phase, until: float) -> None:
        # In a process of its own: among the docks' threads it would measure their interpreter.
        with self._cluster.sign_in() as client:
            wanted = (str(client.base_url), client.headers["Authorization"], until - time.monotonic())
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            phase.api_ms += pool.apply(read_pages, wanted)


def read_pages(api_url: str, authorization: str, seconds: float) -> list[float]:
    """How long each page took that a reviewer's program read in that time, in milliseconds."""
    took_ms: list[float] = []
    pages = ("/api/v1/items?limit=50", "/api/v1/cases?limit=50")
    headers = {"Authorization": authorization}
    with httpx.Client(base_url=api_url, headers=headers, timeout=30, trust_env=False) as client:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            asked = time.perf_counter()
            client.get(pages[len(took_ms) % len(pages)]).raise_for_status()
            took_ms.append((time.perf_counter() - asked) * 1000)
            time.sleep(READ_EVERY_S)
    return took_ms


@contextlib.contextmanager
def stalled(cluster: Cluster, count: int) -> Iterator[None]:
    """Senders that stopped in mid-body, their lines open; each sends a byte now and then to be kept."""
    wire = Wire(cluster.settings.ingest.port, cluster.token)
    lines: list[socket.socket] = []
    over = threading.Event()
    for number in range(count):
        transfer = Transfer(f"stalled-{number}.mp4", "", 1 << 30, "DSJ02")
        wire.create(transfer)
        line = wire.connect()
        said = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0",
                "Content-Length": str(transfer.size_bytes)}  # fmt: skip
        line.sendall(wire.header("PATCH", str(transfer.url), said) + bytes(256 << 10))
        lines.append(line)

    def drip() -> None:
        while not over.wait(5.0):
            for line in lines:
                with contextlib.suppress(OSError):
                    line.sendall(b"\0")

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    try:
        yield
    finally:
        over.set()
        dripping.join()
        for line in lines:
            line.close()


def run(folder: Path, seconds: float) -> dict[str, Figure]:
    """Both phases over one installation."""
    with Cluster(folder / "host") as cluster:
        cluster.populate()
        cluster.start("broker", "relay", IO, "ingest", "api", timeout_s=180)
        load = Load(cluster, seconds)
        Load(cluster, 3).measure()  # What is loaded on first use is not measured.
        alone = load.measure()
        with stalled(cluster, STALLED):
            beside = load.measure()
        asked = time.perf_counter()
        httpx.get(f"{cluster.settings.ingest_url}/readyz", timeout=30, trust_env=False).raise_for_status()
        print(f"readyz after the stall: {(time.perf_counter() - asked) * 1000:.0f} ms")
    return {
        "throughput, with 8 stalled": Figure(
            round(beside.bytes_acknowledged / 2**20 / beside.took_s, 1), "MiB/s",
            limit=round(alone.bytes_acknowledged / 2**20 / alone.took_s, 1),
        ),
        "acknowledgement of 1 MiB, p50": _figure(beside.acknowledged_ms, alone.acknowledged_ms, 0.5),
        "acknowledgement of 1 MiB, p99": _figure(beside.acknowledged_ms, alone.acknowledged_ms, 0.99),
        "API read, p50": _figure(beside.api_ms, alone.api_ms, 0.5),
        "API read, p99": _figure(beside.api_ms, alone.api_ms, 0.99),
        "API read, worst": _figure(beside.api_ms, alone.api_ms, 1.0),
        "acknowledgements": Figure(len(beside.acknowledged_ms), "count", limit=len(alone.acknowledged_ms)),
        "requests refused": Figure(beside.refused, "count", limit=alone.refused),
    }  # fmt: skip


def _figure(ours: list[float], alone: list[float], share: float) -> Figure:
    """A percentile beside the same of the undisturbed phase."""

    def at(samples: list[float]) -> float:
        return round(max(samples) if share == 1.0 else percentile(samples, share), 1)

    return Figure(at(ours), "ms", limit=at(alone))


def main() -> None:
    seconds = whole("N", 20)
    folder = Path(tempfile.mkdtemp(prefix="liuhen-shift-"))
    try:
        figures = run(folder, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("limit: the same load in the same run without the stalled ones")
    print_figures(figures)
    is_met = figures["API read, p99"].ours < API_GOAL_MS
    print(f"API reads under {API_GOAL_MS:.0f} ms (p99): {'yes' if is_met else 'no'}")
    path = write_results("shift_end", figures, seconds=seconds, stalled=STALLED, docks=DOCKS)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
