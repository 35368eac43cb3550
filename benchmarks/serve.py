"""`make bench-serve`: ranges of a rendition under a grant, beside nginx sending the same file.

A dock uploads 1080p; a holder of the right to the original gets eight grants. Then 8 and 64 clients ask, each
for one range after another: of 1 MiB anywhere, and of the segments the playlist names. Ours is the shipped
media listener, one process, which decides about the capability at every range. The peer is nginx with one
worker, `sendfile` on and no log, which asks nobody. In each round one server is asked, then the other twice,
then the first again, so that what drifts on the machine weighs on both; the share of nginx is the median of
the rounds' own. What asks is `benchmarks.range_load`; its own share of the time is printed, so that one sees
whether it was the limit.

Options: N= (5) rounds, SECONDS_EACH= (6) of each load, SECONDS= (240) length of the recording.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from sqlalchemy import select

from benchmarks.range_load import Load, Taken, run
from benchmarks.review import Viewer, leave_out_redaction, make_recording, upload
from benchmarks.support import Figure, percentile, print_figures, print_table, whole, write_results
from storage.db.tables import Derivative
from tests.support.cluster import EVERYTHING, Cluster, accepts, free_port, running, wait_for

MIB = 1 << 20
OURS, NGINX = "liuhen", "nginx"
CLIENTS = (8, 64)
GRANTS = 8
SHARE = "share of nginx"
SHARE_GOAL, BYTES_GOAL = 0.9, 1.1
CONFIGURATION = """
user {user}; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; types {{}}
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ root {root}; }} }} }}
"""


@dataclass
class Target:
    """A server, and where it has the file."""

    name: str
    port: int
    paths: list[str]
    pid: int
    runs: dict[tuple[str, int], list[Taken]] = field(default_factory=dict)
    cpu_s: dict[tuple[str, int], float] = field(default_factory=dict)

    def cpu(self) -> float:
        """CPU seconds of it and everything below it."""
        family = psutil.Process(self.pid)
        times = [each.cpu_times() for each in [family, *family.children(recursive=True)]]
        return sum(each.user + each.system for each in times)

    def mib_s(self, kind: tuple[str, int]) -> list[float]:
        """Of each round, both turns together."""
        turns = self.runs[kind]
        return [
            (one.asked_bytes + two.asked_bytes) / (one.wall_s + two.wall_s) / MIB
            for one, two in zip(turns[::2], turns[1::2], strict=True)
        ]


@contextlib.contextmanager
def nginx(folder: Path, root: Path) -> Iterator[tuple[int, int] | None]:
    """nginx over the object store: its port and process; None where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        yield None
        return
    folder.mkdir()
    port = free_port()
    user = f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"
    written = folder / "nginx.conf"
    written.write_text(CONFIGURATION.format(user=user, folder=folder, port=port, root=root.resolve()))
    argv = [program, "-p", str(folder), "-c", str(written)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: accepts(port), 30, "nginx accepts")
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(20)


def granted(cluster: Cluster, item_id: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The path of the rendition under each grant, and first byte and length of each segment."""
    viewer = Viewer(cluster, "legal_reviewer")
    found = [viewer.ranges(viewer.grant(item_id, "original")["playlist_url"]) for _ in range(GRANTS)]
    return [urlsplit(ranges[0][0]).path for ranges in found], [
        (first, size) for _, first, size in found[0][1:]
    ]


def rendition(cluster: Cluster) -> Derivative | None:
    """The finished rendition; its bytes lie in the object store."""
    with cluster.storage.database.read() as session:
        return session.scalars(select(Derivative).where(Derivative.kind == "rendition")).one_or_none()


def require_equal(targets: list[Target], size: int) -> None:
    """The same bytes from all of them, at the start, in the middle and at the end."""
    for first, last in ((0, 99), (size // 2, size // 2 + 70_000), (size - 9, size - 1)):
        bodies = set()
        for target in targets:
            url = f"http://127.0.0.1:{target.port}{target.paths[0]}"
            answer = httpx.get(url, headers={"Range": f"bytes={first}-{last}"}, trust_env=False)
            if answer.status_code != httpx.codes.PARTIAL_CONTENT or len(answer.content) != last - first + 1:
                raise RuntimeError(f"{target.name}: expected {first}-{last}, found {answer}")
            bodies.add(answer.content)
        if len(bodies) != 1:
            raise RuntimeError(f"bytes {first}-{last}: expected the same of all, found {len(bodies)} kinds")


def measure(
    targets: list[Target], loads: dict[str, list[tuple[int, int]]], rounds: int, seconds: float
) -> None:
    """Every load on every server, in turn; a first round warms up and is not kept."""
    processes = max(1, min(4, (psutil.cpu_count() or 2) // 2))
    for number in range(rounds + 1):
        for name, ranges in loads.items():
            for clients in CLIENTS:
                forth = targets[:: 1 if number % 2 else -1]
                for target in [*forth, *forth[::-1]]:
                    load = Load(
                        target.port, target.paths, ranges, clients, seconds / 2 if number else 0.3, processes
                    )
                    before = target.cpu()
                    taken = run(load)
                    if number:
                        kind = (name, clients)
                        target.runs.setdefault(kind, []).append(taken)
                        target.cpu_s[kind] = target.cpu_s.get(kind, 0.0) + target.cpu() - before
        print(f"round {number} of {rounds}", flush=True)


def figures_of(ours: Target, peer: Target | None) -> dict[str, Figure]:
    """Throughput, latency, CPU and bytes, each beside nginx."""
    figures = {}
    for kind, runs in ours.runs.items():
        label = f"{kind[0]}, {kind[1]} clients"

        def of(target: Target | None, share: float, kind: tuple[str, int] = kind) -> float | None:
            if target is None:
                return None
            return round(
                1000 * percentile([each for taken in target.runs[kind] for each in taken.latencies_s], share),
                2,
            )

        def cpu(target: Target | None, kind: tuple[str, int] = kind) -> float | None:
            if target is None:
                return None
            return round(
                target.cpu_s[kind] * 1024 * MIB / sum(taken.body_bytes for taken in target.runs[kind]), 3
            )

        found = ours.mib_s(kind)
        theirs = statistics.median(peer.mib_s(kind)) if peer is not None else None
        if peer is not None:
            shares = [mine / other for mine, other in zip(found, peer.mib_s(kind), strict=True)]
            figures[f"{label}: {SHARE}"] = Figure(
                round(statistics.median(shares), 3), "", samples=[round(each, 3) for each in shares]
            )
        figures[f"{label}: throughput"] = Figure(
            round(statistics.median(found)), "MiB/s", None if theirs is None else round(theirs),
            samples=[round(each) for each in found],
        )  # fmt: skip
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            figures[f"{label}: {name}"] = Figure(of(ours, share) or 0.0, "ms", of(peer, share))
        figures[f"{label}: CPU of the server"] = Figure(cpu(ours) or 0.0, "s/GiB", cpu(peer))
        sent = sum(each.wire_bytes for each in runs) / sum(each.asked_bytes for each in runs)
        figures[f"{label}: bytes sent of bytes asked"] = Figure(round(sent, 4), "", limit=BYTES_GOAL)
    return figures


def reached(figures: dict[str, Figure]) -> list[list[object]]:
    """How far the goals are reached."""
    rows: list[list[object]] = []
    for name, figure in figures.items():
        if name.endswith(SHARE):
            spread = f"{figure.ours:.2f} ({min(figure.samples):.2f} to {max(figure.samples):.2f})"
            rows.append([name, spread, f"≥ {SHARE_GOAL}", "yes" if figure.ours >= SHARE_GOAL else "no"])
        elif name.endswith("bytes asked"):
            rows.append(
                [name, f"{figure.ours:.4f}", f"≤ {BYTES_GOAL}", "yes" if figure.ours <= BYTES_GOAL else "no"]
            )
    return rows


def asking(targets: list[Target]) -> list[list[object]]:
    """How busy the processes that ask were: near 1 they were the limit."""
    return [
        [f"{kind[0]}, {kind[1]} clients", target.name,
         f"{sum(each.cpu_s for each in runs) / sum(each.wall_s for each in runs):.2f}"]
        for target in targets
        for kind, runs in target.runs.items()
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    rounds, seconds, each_s = whole("N", 5), whole("SECONDS", 240), whole("SECONDS_EACH", 6)
    with tempfile.TemporaryDirectory(prefix="liuhen-serve-") as name:
        folder = Path(name)
        with running(folder / "installation", *EVERYTHING) as cluster:
            item_id, _ = upload(cluster, make_recording(folder, seconds, 0))
            wait_for(lambda: rendition(cluster) is not None, 600, "the rendition is made", cluster.describe)
            leave_out_redaction(cluster)
            cluster.wait_settled(600)
            row = rendition(cluster)
            if row is None:
                raise RuntimeError("rendition: expected it to stay, found none")
            paths, segments = granted(cluster, item_id)
            anywhere = [(first, MIB) for first in range(0, row.size_bytes - MIB, MIB // 3)]
            loads = {"1 MiB ranges": anywhere, "segments": segments}
            targets = [Target(OURS, cluster.settings.media.port, paths, cluster.pid("media"))]
            with nginx(folder / "nginx", cluster.data / "objects") as found:
                if found is not None:
                    targets.append(Target(NGINX, found[0], [f"/{row.store_key}"], found[1]))
                require_equal(targets, row.size_bytes)
                measure(targets, loads, rounds, each_s)
    middle = statistics.median(size for _, size in segments)
    print(f"{len(segments)} segments, in the middle {middle / MIB:.2f} MiB")
    figures = figures_of(targets[0], targets[1] if len(targets) > 1 else None)
    print_figures(figures)
    print_table(["load", "server", "CPU of what asks, of one core"], asking(targets))
    goals = reached(figures)
    print_table(["load", "found", "asked", "met"], goals)
    if len(targets) == 1:
        print("nginx: none here, left out; its goal was not measured")
    print(f"written: {write_results('serve', figures, goals=goals, rounds=rounds).name}")


if __name__ == "__main__":
    main()
