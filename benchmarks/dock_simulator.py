"""`make bench-dock-simulator N=`: fifty docks at shift end over bad networks, into one and two ingest hosts.

Fifty docks with N cameras each (25 in a city; 5 by default) upload at once, every dock with a token of its
own. Their networks cut lines, stall, drip bytes, send requests again and in the wrong order. First against
one ingest process, then against two that share nothing but database and object store; some requests go to
the wrong host. A camera's shift is scaled down to FILE_BYTES, and the factor is told with the result.

What counts: every file in once, with its receipt; and what a second host brings, or costs, on this machine.
Options: ``N`` cameras a dock (5), ``SEED``.
"""

from __future__ import annotations

import hashlib
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
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from benchmarks.docks_judge import DocksVerdict, judge
from benchmarks.support import Figure, percentile, print_figures, print_table, whole, write_results
from benchmarks.tus_wire import Cut, Transfer, WentBack, Wire
from cli.programs import all_programs
from ingest import docks
from storage.db.tables import Agency
from tests.support.cluster import IO, Cluster, accepts, free_port, wait_for

DOCKS, CITY_CAMERAS = 50, 25
CITY_SHIFT_BYTES = 8 << 30
"""What a camera of a city brings home: eight hours at two to three Mbit/s."""
FILE_BYTES = 192 << 10
GIVE_UP_S, SETTLE_S = 400.0, 240.0
TROUBLES = ("none", "none", "none", "cut", "reset", "stall", "reorder", "slow", "duplicate", "wrong host")
SLOW_PIECES = 12


@dataclass
class Shift:
    """One shift end: who sent what, and how it went."""

    transfers: list[Transfer] = field(default_factory=list)
    went_back: list[str] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    acknowledged_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, trouble: str) -> None:
        with self.lock:
            self.troubles[trouble] += 1


class Dock(threading.Thread):
    """Empties its cameras one after another over a bad network."""

    def __init__(
        self, number: int, token: str, ports: list[int], cameras: int, shift: Shift, seed: int
    ) -> None:
        super().__init__(name=f"dock-{number}", daemon=True)
        self._random = random.Random(seed * 1000 + number)
        self._wire = Wire(ports[number % len(ports)], token)
        self._others = [Wire(port, token) for port in ports if port != self._wire.port]
        self._number, self._cameras, self._shift = number, cameras, shift
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            for camera in range(self._cameras):
                self._empty(camera)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._wire.let_go()

    def _empty(self, camera: int) -> None:
        content = memoryview(self._random.randbytes(FILE_BYTES))
        sha256 = hashlib.sha256(content).hexdigest()
        transfer = Transfer(
            f"{self._number}-{camera}.mp4", sha256, FILE_BYTES, f"C{self._number:02}{camera:02}"
        )
        with self._shift.lock:
            self._shift.transfers.append(transfer)
        deadline = time.monotonic() + GIVE_UP_S
        while not transfer.is_whole:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{transfer.name}: expected to get through, found {transfer}")
            try:
                self._go_on(transfer, content)
            except OSError:
                time.sleep(0.2)
            except WentBack as error:
                self._shift.went_back.append(str(error))
                return
        self._wire.let_go()

    def _go_on(self, transfer: Transfer, content: memoryview) -> None:
        if transfer.url is None:
            if self._wire.create(transfer).status != 201:
                time.sleep(self._random.uniform(0.2, 1.0))
            return
        if self._wire.head(transfer).status != 200 or transfer.is_whole:
            return
        trouble = self._random.choice(TROUBLES)
        if trouble == "wrong host" and not self._others:
            trouble = "none"
        before = transfer.told
        asked = time.perf_counter()
        self._suffer(trouble, transfer, content)
        self._shift.note(trouble)
        if transfer.told > before:
            with self._shift.lock:
                self._shift.acknowledged_ms.append((time.perf_counter() - asked) * 1000)

    def _suffer(self, trouble: str, transfer: Transfer, content: memoryview) -> None:
        most = self._random.choice((32 << 10, 64 << 10, FILE_BYTES))
        cuts = {"cut": Cut.FIN, "reset": Cut.RST, "stall": Cut.STALL}
        if trouble in cuts:
            at = self._random.random()
            self._wire.patch(transfer, content, cut=cuts[trouble], cut_at=at, most_bytes=most)
        elif trouble == "slow":
            self._wire.patch(transfer, content[: transfer.told + SLOW_PIECES * 1024], pause_s=0.15,
                             piece_bytes=1024)  # fmt: skip
        elif trouble == "reorder":
            # A later part overtakes an earlier one: it must be refused, and nothing of it kept.
            self._refused(transfer, transfer.told + 4096, content, {409})
        elif trouble == "duplicate":
            start = transfer.told
            self._wire.patch(transfer, content, most_bytes=most)
            if not transfer.is_whole:
                self._refused(transfer, start, content, {409})
        elif trouble == "wrong host":
            answer = self._random.choice(self._others).ask("HEAD", str(transfer.url), {})
            if answer.status != 503:
                self._shift.odd.append(f"{transfer.name}: the wrong host answered {answer.status}")
        else:
            self._wire.patch(transfer, content, most_bytes=most)

    def _refused(self, transfer: Transfer, start: int, content: memoryview, expected: set[int]) -> None:
        answer = self._wire.patch_at(transfer, start, content[start : start + 4096])
        if answer.status not in expected:
            self._shift.odd.append(f"{transfer.name}: a part at {start} was answered {answer.status}")


def play(folder: Path, hosts: int, cameras: int, seed: int) -> tuple[Shift, DocksVerdict, float, float]:
    """One shift end into that many ingest processes.

    Returns:
        The shift, the verdict, seconds until every file was in, and until every receipt was there.
    """
    settings = {"INGEST__HOST_ID": "a"}
    with Cluster(folder / f"hosts-{hosts}", settings=settings) as cluster:
        cluster.populate()
        tokens = _tokens(cluster)
        cluster.start("broker", "relay", IO)
        ports = [free_port() for _ in range(hosts)]
        daemons = [_daemon(cluster, port, chr(ord("a") + place)) for place, port in enumerate(ports)]
        for port in ports:
            wait_for(lambda port=port: accepts(port), 60, "the daemon accepts")  # type: ignore[misc]
        shift = Shift()
        senders = [Dock(number, tokens[number], ports, cameras, shift, seed) for number in range(DOCKS)]
        began = time.monotonic()
        for dock in senders:
            dock.start()
        for dock in senders:
            dock.join()
        took_s = time.monotonic() - began
        verdict = judge(cluster, shift.transfers, shift.went_back, settle_s=SETTLE_S)
        receipted_s = time.monotonic() - began
        verdict.lost += [f"{dock.name}: {dock.failure!r}" for dock in senders if dock.failure]
        verdict.changed += shift.odd
        for daemon in daemons:
            daemon.send_signal(signal.SIGTERM)
        verdict.lost += [
            f"daemon: expected status 0 after SIGTERM, found {status}"
            for status in (daemon.wait(60) for daemon in daemons)
            if status
        ]
    return shift, verdict, took_s, receipted_s


def _tokens(cluster: Cluster) -> list[str]:
    storage, now = cluster.storage, cluster.storage.clock.now()
    with storage.database.transaction() as session:
        agency = session.scalars(select(Agency)).one()
        return [
            docks.issue_token(
                session, agency, dock_no=f"DOCK{number:02}", device_no=None, life=None, actor="test", now=now
            )[0]
            for number in range(DOCKS)
        ]


def _daemon(cluster: Cluster, port: int, host_id: str) -> subprocess.Popen[bytes]:
    argv = next(each for each in all_programs(cluster.settings) if each.name == "ingest").argv
    mine = {"LIUHEN_INGEST__HOST_ID": host_id, "LIUHEN_INGEST__PORT": str(port)}
    log = (cluster.folder / f"ingest-{host_id}.log").open("wb")
    return subprocess.Popen(argv, env={**os.environ, **cluster.variables, **mine}, stdout=log, stderr=log)


def main() -> None:
    cameras, seed = whole("N", 5), whole("SEED", 1)
    factor = DOCKS * cameras * FILE_BYTES / (DOCKS * CITY_CAMERAS * CITY_SHIFT_BYTES)
    print(
        f"{DOCKS} docks × {cameras} cameras × {FILE_BYTES >> 10} KiB: 1/{1 / factor:,.0f} of the bytes and "
        f"{cameras}/{CITY_CAMERAS} of the files of a city's shift end"
    )
    folder = Path(tempfile.mkdtemp(prefix="liuhen-docks-"))
    figures: dict[str, Figure] = {}
    findings: list[str] = []
    troubles: dict[str, dict[str, int]] = {}
    rates: dict[int, float] = {}
    for hosts in (1, 2):
        shift, verdict, took_s, receipted_s = play(folder, hosts, cameras, seed)
        findings += [f"{hosts} hosts: {line}" for line in verdict.lines()]
        troubles[f"{hosts} hosts"] = dict(shift.troubles)
        rates[hosts] = len(shift.transfers) / took_s
        slowest = percentile(shift.acknowledged_ms, 0.99)
        one = rates[1] if hosts == 2 else None
        figures[f"{hosts} hosts: files in"] = Figure(round(rates[hosts], 2), "files/s", peer=one)
        figures[f"{hosts} hosts: acknowledgement p99"] = Figure(round(slowest, 1), "ms")
        figures[f"{hosts} hosts: last receipt"] = Figure(round(receipted_s, 1), "s")
        for name, found in verdict.findings().items():
            figures[f"{hosts} hosts: {name}"] = Figure(len(found), "count", limit=0)
        print(f"{time.strftime('%H:%M:%S')} {hosts} hosts: {len(shift.transfers)} files in {took_s:.0f} s",
              flush=True)  # fmt: skip
    print_figures(figures)
    names = sorted({name for each in troubles.values() for name in each})
    print_table(["trouble", *troubles], [[name, *(each.get(name, 0) for each in troubles.values())]
                                         for name in names])  # fmt: skip
    for line in findings:
        print(line)
    path = write_results(
        "dock_simulator", figures, seed=seed, docks=DOCKS, cameras=cameras, file_bytes=FILE_BYTES,
        factor_of_city_bytes=factor, troubles=troubles, findings=findings,
    )  # fmt: skip
    print(f"written: {path.name}")
    shutil.rmtree(folder)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
