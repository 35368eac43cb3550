"""`make bench-upload`: one file of 1 GiB, and eight of 256 MiB at once, taken in and sealed.

Ours is the shipped daemon with its shipped settings: every byte hashed, synced, adopted and in the custody
log when the last reply comes. The peers only store; `openssl dgst -sha256` and a sync of the file are added
to theirs. All of them get the same bytes from the same sender (`sendfile` in a process of its own),
one after another in rounds, so that the machine's mood is shared.

Options: ``N`` rounds (3); ``MIB`` of the single file (1024).
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import upload_peers
from benchmarks.support import Figure, print_table, whole, write_results
from benchmarks.tus_wire import read_answer
from cli.programs import all_programs
from tests.support.cluster import Cluster, accepts, free_port, wait_for

OURS, TUSPY, TUSNODE, ONE_PASS, NGINX = "liuhen", "tuspyserver", "@tus/server", "one pass", "nginx PUT"
AT_ONCE = 8
UNIQUE_BYTES = 4096
GOALS = {
    "wall, times tuspyserver's": 1.25,
    "wall, times @tus/server's": 1.5,
    "CPU, of tuspyserver's": 1.1,
    "of the one-pass limit": 0.8,
    "peak RSS for 8, MiB": 128,
}


@dataclass
class Server:
    """Something that takes files.

    Attributes:
        files: Where a peer keeps what it took; None for ours, which seals by itself.
        is_tus: Whether an upload is made by POST first; otherwise it is one PUT.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    files: Path | None = None
    is_tus: bool = True
    token: str = ""

    def cpu_s(self) -> float:
        """CPU seconds of it and everything below it."""
        family = psutil.Process(self.process.pid)
        return sum(
            each.cpu_times().user + each.cpu_times().system for each in [family, *family.children(True)]
        )

    def forget_peak(self) -> None:
        """Let the kernel count the largest resident size from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_mib(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        raise ValueError("status: expected VmHWM, found none")


@dataclass
class Run:
    """What one server needed for one load."""

    wall_s: float
    cpu_s: float
    peak_mib: float


@dataclass
class Samples:
    """All rounds of one server under one load."""

    runs: list[Run] = field(default_factory=list)

    def middle(self, what: Callable[[Run], float]) -> float:
        return statistics.median(what(run) for run in self.runs)


def wall_of(run: Run) -> float:
    return run.wall_s


def cpu_of(run: Run) -> float:
    return run.cpu_s


class Sender:
    """Sends one prepared file under any name, its first bytes new each time."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path, self._size_bytes = path, size_bytes

    def send(self, server: Server) -> float:
        """Send it and wait until it is taken in, hashed and synced; CPU seconds spent for the server."""
        fresh = os.urandom(UNIQUE_BYTES)
        path = self._create(server) if server.is_tus else f"/{fresh[:8].hex()}"
        before = set(server.files.rglob("*")) if server.files is not None else set()
        said = {"Content-Length": str(self._size_bytes), "Connection": "close"}
        if server.is_tus:
            said |= {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as line:
            line.sendall(_head("PATCH" if server.is_tus else "PUT", path, server, said) + fresh)
            with self._path.open("rb") as file:
                at = UNIQUE_BYTES
                while at < self._size_bytes:
                    at += os.sendfile(line.fileno(), file.fileno(), at, self._size_bytes - at)
            answer = read_answer(line)
        if answer.status not in {200, 201, 204}:
            raise AssertionError(f"{server.name}: {answer.status} {answer.body[:200]!r}")
        if "liuhen-digest" in answer.headers:
            return 0.0
        if server.files is None:
            raise AssertionError(f"{server.name}: expected it sealed, found {answer.headers}")
        return _finish(_taken(server.files, path, before, self._size_bytes))

    def _create(self, server: Server) -> str:
        pairs = {"filename": "bench.mp4", "filetype": "video/mp4", "device_no": "DSJ01"}
        metadata = ",".join(
            f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in pairs.items()
        )
        said = {
            "Upload-Length": str(self._size_bytes), "Upload-Metadata": metadata, "Content-Length": "0",
            "Connection": "close",
        }  # fmt: skip
        with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as line:
            line.sendall(_head("POST", "/uploads/" if server.name == OURS else "/uploads", server, said))
            answer = read_answer(line)
        if answer.status != 201:
            raise AssertionError(f"{server.name}: {answer.status} {answer.body[:200]!r}")
        return "/uploads/" + answer.headers["location"].rsplit("/", 1)[-1]


def _head(method: str, path: str, server: Server, headers: dict[str, str]) -> bytes:
    said = {"Host": f"127.0.0.1:{server.port}", "Tus-Resumable": "1.0.0", **headers}
    if server.token:
        said["Authorization"] = f"Bearer {server.token}"
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _taken(files: Path, path: str, before: set[Path], size_bytes: int) -> Path:
    """The file a peer made of the upload."""
    name = path.rsplit("/", 1)[-1]
    for found in files.rglob("*"):
        is_it = name in found.name and found.suffix not in {".info", ".json", ".lock"}
        if is_it and found.is_file() and found.stat().st_size == size_bytes:
            return found
    raise AssertionError(f"{files}: expected a file of {name}, found {set(files.rglob('*')) - before}")


def _finish(path: Path) -> float:
    """The digest and the sync a peer does not make; CPU seconds of both."""
    program = shutil.which("openssl") or "openssl"
    with subprocess.Popen([program, "dgst", "-sha256", str(path)], stdout=subprocess.DEVNULL) as digest:
        _, status, used = os.wait4(digest.pid, 0)
        digest.returncode = os.waitstatus_to_exitcode(status)
    if digest.returncode:
        raise AssertionError(f"openssl: expected status 0, found {digest.returncode}")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return used.ru_utime + used.ru_stime


def measure(server: Server, sender: Sender, at_once: int) -> Run:
    """One load, from the first request to the last digest and sync."""
    server.forget_peak()
    cpu_before, began = server.cpu_s(), time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        beside = sum(pool.map(lambda _: sender.send(server), range(at_once)))
    wall_s = time.perf_counter() - began
    return Run(wall_s, server.cpu_s() - cpu_before + beside, server.peak_mib())


@contextlib.contextmanager
def started(name: str, folder: Path) -> Iterator[Server | None]:
    """A server, ready; None where it is not to be had."""
    port = free_port()
    if name == OURS:
        with Cluster(folder / "host", settings={"INGEST__PORT": str(port)}) as cluster:
            token = cluster.populate()
            argv = next(each for each in all_programs(cluster.settings) if each.name == "ingest").argv
            environment = {**os.environ, **cluster.variables}
            with _running(list(argv), port, environment) as process:
                yield Server(name, port, process, token=token)
        return
    files = folder / "files"
    files.mkdir(parents=True)
    makers = {
        TUSPY: upload_peers.tuspyserver, TUSNODE: upload_peers.tus_node_server,
        ONE_PASS: upload_peers.one_pass, NGINX: upload_peers.nginx_put,
    }  # fmt: skip
    argv_or_none = makers[name](files, port)
    if argv_or_none is None:
        yield None
        return
    with _running(argv_or_none, port, dict(os.environ)) as process:
        yield Server(name, port, process, files, is_tus=name in {TUSPY, TUSNODE})


@contextlib.contextmanager
def _running(argv: list[str], port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: accepts(port), 60, f"{argv[0]} accepts")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def run(folder: Path, rounds: int, one_mib: int) -> dict[tuple[str, int], Samples]:
    """Every server under both loads, round by round."""
    source = folder / "footage"
    block = os.urandom(32 << 20)
    with source.open("wb") as file:
        for _ in range(max(1, one_mib // 32)):
            file.write(block)
    size = source.stat().st_size
    loads = {1: Sender(source, size), AT_ONCE: Sender(source, size // 4)}
    samples: dict[tuple[str, int], Samples] = {}
    for number in range(rounds + 1):
        for name in (OURS, TUSPY, TUSNODE, ONE_PASS, NGINX):
            place = folder / f"{number}-{name.strip('@').replace('/', '-').replace(' ', '-')}"
            with started(name, place) as server:
                if server is None:
                    continue
                for at_once, sender in loads.items():
                    if number == 0 and at_once > 1:
                        continue  # The round that warms up and installs counts for nothing.
                    result = measure(server, sender, at_once)
                    if number:
                        samples.setdefault((name, at_once), Samples()).runs.append(result)
            shutil.rmtree(place, ignore_errors=True)
            _settle_disk()
        print(f"{time.strftime('%H:%M:%S')} round {number} of {rounds}", flush=True)
    return samples


def _settle_disk() -> None:
    """What one left dirty is not the next one's to write."""
    waiting = threading.Thread(target=os.sync)
    waiting.start()
    waiting.join(60)


def figures_of(samples: dict[tuple[str, int], Samples], one_mib: int) -> dict[str, Figure]:
    """Throughput, CPU and memory beside peer and limit; then the ratios the goals are about."""
    figures: dict[str, Figure] = {}
    for at_once, label in ((1, f"1 × {one_mib} MiB"), (AT_ONCE, f"{AT_ONCE} × {one_mib // 4} MiB")):
        mib = one_mib if at_once == 1 else one_mib * 2
        of = {name: found for (name, count), found in samples.items() if count == at_once}

        speed = {name: round(mib / found.middle(wall_of), 1) for name, found in of.items()}
        cpu = {name: round(found.middle(cpu_of) * 1024 / mib, 2) for name, found in of.items()}
        peak = {name: round(max(each.peak_mib for each in found.runs), 1) for name, found in of.items()}
        figures[f"{label}: throughput beside tuspyserver"] = Figure(
            speed[OURS], "MiB/s", peer=speed[TUSPY], limit=speed[ONE_PASS],
            samples=[round(mib / each.wall_s, 1) for each in of[OURS].runs],
        )  # fmt: skip
        figures[f"{label}: throughput beside @tus/server"] = Figure(
            speed[OURS], "MiB/s", peer=speed[TUSNODE], limit=speed.get(NGINX)
        )
        figures[f"{label}: CPU"] = Figure(cpu[OURS], "s/GiB", peer=cpu[TUSPY], limit=cpu[ONE_PASS])
        figures[f"{label}: CPU beside @tus/server"] = Figure(cpu[OURS], "s/GiB", peer=cpu[TUSNODE])
        figures[f"{label}: peak RSS"] = Figure(peak[OURS], "MiB", peer=peak[TUSPY])
    return figures


def ratios(figures: dict[str, Figure]) -> list[list[object]]:
    """How far the goals are reached, under each load."""
    rows: list[list[object]] = []
    for label in dict.fromkeys(name.split(": ")[0] for name in figures):
        fast, node = (
            figures[f"{label}: throughput beside tuspyserver"],
            figures[f"{label}: throughput beside @tus/server"],
        )
        cpu, peak = figures[f"{label}: CPU"], figures[f"{label}: peak RSS"]
        found = (fast.ours / (fast.peer or 1), node.ours / (node.peer or 1), cpu.ours / (cpu.peer or 1),
                 fast.ours / (fast.limit or 1), peak.ours)  # fmt: skip
        for (goal, bound), value in zip(GOALS.items(), found, strict=True):
            is_most = goal.startswith(("CPU", "peak"))
            is_met = value <= bound if is_most else value >= bound
            sign = "≤" if is_most else "≥"
            rows.append([label, goal, f"{value:.2f}", f"{sign} {bound}", "yes" if is_met else "no"])
    return rows


def main() -> None:
    rounds, one_mib = whole("N", 3), whole("MIB", 1024)
    folder = Path(tempfile.mkdtemp(prefix="liuhen-upload-"))
    try:
        samples = run(folder, rounds, one_mib)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = figures_of(samples, one_mib)
    print_table(
        ["", "ours", "peer", "limit", "unit"],
        [[name, each.ours, each.peer or "-", each.limit or "-", each.unit] for name, each in figures.items()],
    )
    reached = ratios(figures)
    print_table(["load", "goal", "found", "asked", "met"], reached)
    if not any(name == NGINX for name, _ in samples):
        print("nginx PUT: no nginx here, left out")
    path = write_results("upload", figures, goals=reached, rounds=rounds)
    print(f"written: {path.name}")


if __name__ == "__main__":
    main()
