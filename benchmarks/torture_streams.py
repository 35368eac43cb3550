"""`make torture-streams SEED= N=`: kill what records a room, while it records from a sender that goes on.

Each of ``N`` (60) rounds is a session of a room whose camera is played on loopback: MPEG-TS over TCP, every
picture a keyframe that carries its number, and the number goes by the clock. At a random moment the daemon,
the recorder's process, both, or the sender's line are cut; or the power is: the daemon and the process are
killed, and what the process had not synced becomes zeroes or is cut off. How far it had synced is what its
system calls said (``strace``), never what its journal says. Then recording goes on, and the session is ended
and sealed at the first moment that it can be: what comes in after that was waited for in vain.

A picture counts as received once its last byte was handed to the socket. *Loss* is what was received up to
the blow and cannot be read afterwards. *Outage* is what nobody received. Nothing else may be missing, nothing
double, and every stretch that is missing must stand in the session's break log at its true length.
"""

from __future__ import annotations

import bisect
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from socket import create_server, socket
from typing import Any
from uuid import UUID

import av

from benchmarks.support import Figure, print_table, whole, write_results
from config.rooms import RoomSettings
from evidence.breaks import Cause
from evidence.clock import to_micros
from evidence.errors import Conflict
from evidence.kinds import SourceKind
from ingest import roster
from ingest.recorder import places, sealing
from ingest.recorder import sessions as use_case
from ingest.recorder.process import end_all, is_recording
from media.live.journal import NAME, read
from storage.check import Depth, check
from storage.db import agencies, items, sessions
from storage.db.tables import Item
from tests.support.cluster import PIPELINE, Cluster, wait_for
from tests.support.media import frame_numbers, make_plain

FPS, CLIP_S = 25, 90
BLOWS = ("daemon", "recorder", "daemon and recorder", "sender", "power, zeroed", "power, cut off")
LOSS_S = {"daemon": 0.0, "sender": 0.0, "recorder": 0.6, "daemon and recorder": 0.6}
POWER_LOSS_S = 1.6
EDGE_US = 140_000
"""Two edges are one up to 100 ms in the break log, and a picture lasts 40 ms."""
SYSCALL = re.compile(r"^(?:\d+ +)?(write|fdatasync|fsync)\(\d+<([^>]*)>.*= (-?\d+)")


@dataclass(frozen=True)
class Sent:
    """One picture that went to the socket whole."""

    number: int
    at_us: int
    line: int
    """Which connection."""


class Camera:
    """Sends a clip to one who connects, from the place where the clock stands."""

    def __init__(self, clip: Path) -> None:
        self.sent: list[Sent] = []
        self.away_until_s = 0.0
        self._data = clip.read_bytes()
        with av.open(str(clip)) as container:
            starts = sorted(
                packet.pos for packet in container.demux(video=0) if packet.size and packet.pos is not None
            )
        # A picture's packet ends where the next begins; in front stand the tables.
        self._starts = starts
        self._tables = self._data[: starts[0]]
        self._server = create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._zero_s = time.monotonic()
        self._line: socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def restart(self) -> None:
        """Begin the clip anew; nobody is connected."""
        self._zero_s, self.sent = time.monotonic(), []

    def cut(self, seconds: float) -> None:
        """End the line, and refuse whoever calls for a while."""
        self.away_until_s = time.monotonic() + seconds

    def _now(self) -> int:
        return int((time.monotonic() - self._zero_s) * FPS)

    def _accept(self) -> None:
        number = 0
        while True:
            line, _ = self._server.accept()
            with line:
                if time.monotonic() > self.away_until_s:
                    number += 1
                    with suppress(ConnectionError):
                        self._play(line, number)

    def _play(self, line: socket, connection: int) -> None:
        at = self._now() + 1
        line.sendall(self._tables)
        while time.monotonic() > self.away_until_s:
            if at > self._now():
                time.sleep(0.005)
                continue
            if at + 1 >= len(self._starts):
                return
            begin, end = self._starts[at], self._starts[at + 1]
            line.sendall(self._data[begin:end])
            self.sent.append(Sent(at, time.time_ns() // 1000, connection))
            at += 1


@contextmanager
def watched(pid: int, into: Path) -> Iterator[None]:
    """Every write and sync of a process, as the kernel saw it."""
    command = ["strace", "-f", "-y", "-qq", "-s", "0", "-e", "trace=write,fdatasync,fsync", "-p", str(pid)]
    with subprocess.Popen([*command, "-o", str(into)]) as tracer:
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                tracer.send_signal(signal.SIGINT)


def synced(trace: Path, path: Path, size: int) -> int:
    """How far a file was on the disk for certain: its size less what was written after its last sync."""
    after = 0
    for line in trace.read_text("utf-8", "replace").splitlines():
        found = SYSCALL.match(line)
        if found is None or found[2] != str(path) or int(found[3]) < 0:
            continue
        after = after + int(found[3]) if found[1] == "write" else 0
    return size - after


def lose_power(run: Path, trace: Path, *, zeroed: bool) -> None:
    """What was not synced is gone, or comes back as zeroes; and the host has started anew."""
    for path in [*run.glob("*.part"), run / NAME]:
        size = path.stat().st_size
        kept = synced(trace, path, size)
        with path.open("r+b") as file:
            file.truncate(kept)
            if zeroed:
                file.truncate(size)
    boot = next(line["boot"] for line in read(run)[0] if line["kind"] == "begun")
    journal = (run / NAME).read_bytes()
    (run / NAME).write_bytes(journal.replace(boot.encode(), b"0" * len(boot), 1))


class Torture:
    """One installation, one room, many blows."""

    def __init__(self, cluster: Cluster, camera: Camera, seed: int) -> None:
        self._cluster, self._camera, self._random = cluster, camera, random.Random(seed)
        self._room: RoomSettings = cluster.settings.recorder.rooms[0]
        self._folder = cluster.settings.recorder_dir
        self.losses: list[float] = []
        self.outages: list[float] = []
        self.power_losses: list[float] = []
        self.found: list[str] = []
        self._sealed: list[UUID] = []
        self.done: dict[str, int] = dict.fromkeys(BLOWS, 0)

    def round(self, number: int) -> None:
        """One session with one blow."""
        blow = BLOWS[number % len(BLOWS)]
        self._camera.restart()
        session_id = self._do(use_case.start, self._room, facts={}).id
        run = self._await_recording()
        trace = self._cluster.folder / f"{number}.trace"
        with watched(self._pid(run), trace) if blow.startswith("power") else nullcontext():
            time.sleep(self._random.uniform(2.2, 4.5))
            struck_us, gone_us = self._strike(blow, run, trace)
        self.done[blow] += 1
        time.sleep(0.3)
        self._await_recording(besides=None if blow == "daemon" else run)
        time.sleep(self._random.uniform(1.5, 2.5))
        row = self._do(use_case.stop, session_id)
        self._seal(session_id)
        self._sealed.append(session_id)
        wait_for(lambda: not self._recording(), 60, "the room is off", self._cluster.log_tail)
        span = to_micros(row.started_at), to_micros(row.ended_at)
        self._judge(number, blow, session_id, (struck_us, gone_us), span)

    def judge_seals(self) -> None:
        """Nothing of a session may come in once it was sealed."""
        for number, session_id in enumerate(self._sealed):
            told = self._told(session_id)
            sealed_at, complete_at = told.row.sealed_at, told.row.complete_at
            late = [part for part in told.parts if sealed_at is None or part.noted_at > sealed_at]
            if late or sealed_at is None or complete_at is None or complete_at > sealed_at:
                self.found.append(f"round {number}: sealed with {len(late)} files outstanding")

    def _strike(self, blow: str, run: Path, trace: Path) -> tuple[int, int]:
        """Do it; returns the microsecond of the blow, and when nobody was there any more."""
        if blow == "sender":
            self._camera.cut(1.0)
            return (time.time_ns() // 1000,) * 2
        if "daemon" in blow or "power" in blow:
            self._cluster.kill("ingest", signal.SIGSTOP if "power" in blow else signal.SIGKILL)
        if "recorder" in blow or "power" in blow:
            os.kill(self._pid(run), signal.SIGKILL)
        struck_us = time.time_ns() // 1000
        if "recorder" in blow or "power" in blow:
            wait_for(lambda: not is_recording(run), 10, "the recorder is gone", every_s=0.01)
        gone_us = time.time_ns() // 1000
        if "power" in blow:
            # Stopped, the daemon cannot bury the run before the power is gone.
            time.sleep(0.2)
            lose_power(run, trace, zeroed="zeroed" in blow)
            self._cluster.kill("ingest")
        return struck_us, gone_us

    def _recording(self) -> list[Path]:
        return [run for run in places.runs_of(self._folder) if is_recording(run)]

    def _await_recording(self, besides: Path | None = None) -> Path:
        found: list[Path] = []

        def is_so() -> bool:
            found[:] = [
                run
                for run in self._recording()
                if run != besides and any(line["kind"] == "file" for line in read(run)[0])
            ]
            return bool(found)

        wait_for(is_so, 60, "the room is recorded", self._cluster.log_tail)
        return found[0]

    @staticmethod
    def _pid(run: Path) -> int:
        return int(next(line["pid"] for line in read(run)[0] if line["kind"] == "begun"))

    def _do(self, what: Callable[..., Any], *given: Any, **named: Any) -> Any:
        storage = self._cluster.storage
        with storage.database.transaction() as session:
            agency = agencies.agencies(session)[0]
            return what(session, agency, *given, actor="operator:1", now=storage.clock.now(), **named)

    def _told(self, session_id: UUID) -> use_case.Told:
        with self._cluster.storage.database.read() as session:
            agency = agencies.agencies(session)[0]
            row = sessions.session_by_id(session, agency.id, session_id)
            return use_case.tell(session, agency.id, row)

    def _seal(self, session_id: UUID) -> None:
        why: list[str] = []

        def is_sealed() -> bool:
            try:
                self._do(sealing.seal, session_id, self._cluster.storage.keys)
            except Conflict as error:
                why[:] = [error.message]
                return False
            return True

        wait_for(is_sealed, 90, "the session is sealed", lambda: "\n".join([*why, self._cluster.log_tail()]))

    def _judge(
        self, number: int, blow: str, session_id: UUID, struck: tuple[int, int], span: tuple[int, int]
    ) -> None:
        (struck_us, gone_us), (from_us, to_us) = struck, span
        told, store = self._told(session_id), self._cluster.storage
        with store.database.read() as session:
            held = [session.get_one(Item, part.item_id) for part in told.parts]
            keys = [items.object_of(session, each).store_key for each in held]
        shown = [frame for key in keys for frame in frame_numbers(store.objects.path(key))]
        mine = [each for each in self._camera.sent if from_us <= each.at_us < to_us]
        say = f"round {number}, {blow}: "
        if None in shown:
            self.found.append(f"{say}unreadable pictures {shown.count(None)}")
        if len(set(shown)) != len(shown):
            self.found.append(f"{say}doubled pictures")
        have = {frame for frame in shown if frame is not None}
        missing = [each for each in mine if each.number not in have]
        lost = [
            each
            for each in missing
            if each.line == self._line_at(mine, struck_us) and each.at_us <= struck_us
        ]
        bound = LOSS_S.get(blow, POWER_LOSS_S)
        seconds = len(lost) / FPS
        (self.power_losses if "power" in blow else self.losses).append(seconds)
        if seconds > bound:
            self.found.append(f"{say}lost {seconds:.2f} s")
        if lost and lost[-1].number - lost[0].number + 1 != len(lost):
            self.found.append(f"{say}lost pictures in several places")
        # What the socket of a dying process took was received by nobody.
        other = [
            each
            for each in missing
            if each not in lost and not struck_us - 100_000 < each.at_us < gone_us + 100_000
        ]
        if other:
            self.found.append(f"{say}lost without a blow: {[each.number for each in other][:8]}")
        ordered = sorted(have)
        for before, after in pairwise(ordered):
            if after - before > 1:
                self._judge_gap(say, told, (after - before - 1) * 1_000_000 // FPS)
        spans = sum(after - before - 1 for before, after in pairwise(ordered))
        self.outages.append(spans / FPS - seconds)

    def _judge_gap(self, say: str, told: use_case.Told, length_us: int) -> None:
        gaps = [
            each.to_us - each.from_us
            for each in told.breaks
            if each.is_missing and each.cause is not Cause.OUTSTANDING
        ]
        if length_us > EDGE_US and not any(abs(gap - length_us) <= EDGE_US for gap in gaps):
            self.found.append(
                f"{say}a gap of {length_us / 1e6:.2f} s stands as {[gap / 1e6 for gap in gaps]}"
            )

    @staticmethod
    def _line_at(mine: list[Sent], at_us: int) -> int:
        at = bisect.bisect_right([each.at_us for each in mine], at_us)
        return mine[max(0, at - 1)].line if mine else 0


def main() -> int:
    seed, count = whole("SEED", 1), whole("N", 60)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="liuhen-torture-"))
    clip = folder / "camera.ts"
    make_plain(folder / "camera.mp4", seconds=CLIP_S, fps=FPS, keyframe_every=1, audio=False, seed=seed)
    with av.open(str(folder / "camera.mp4")) as given, av.open(str(clip), "w", format="mpegts") as into:
        track = into.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = track
                into.mux(packet)
    camera = Camera(clip)
    config = folder / "room.toml"
    config.write_text(
        f'[[recorder.rooms]]\nroom_no = "R-1"\nname = "询问室"\n'
        f'[[recorder.rooms.streams]]\nname = "main"\nurl = "tcp://127.0.0.1:{camera.port}"\n'
    )
    with Cluster(folder / "host", settings={"CONFIG": str(config)}) as cluster:
        try:
            cluster.populate()
            with cluster.storage.database.transaction() as session:
                roster.register_device(
                    session, agencies.agencies(session)[0], "R-1", kind=SourceKind.INTERVIEW_ROOM, model=None,
                    actor="test", now=cluster.storage.clock.now(),
                )  # fmt: skip
            cluster.start(*PIPELINE, timeout_s=180)
            torture = Torture(cluster, camera, seed)
            for number in range(count):
                try:
                    torture.round(number)
                except AssertionError as error:
                    torture.found.append(f"round {number}: {str(error)[:2000]}")
                    break
            torture.judge_seals()
            torture.found += [
                str(each) for each in check(cluster.storage, Depth.DIGESTS) if each.code != "orphan_file"
            ]
        finally:
            end_all(places.runs_of(cluster.settings.recorder_dir))
    print_table(["blow", "times"], list(torture.done.items()))
    for line in torture.found:
        print(line)
    figures = {
        "lost by a process's death, most": Figure(max(torture.losses, default=0), "s", limit=0.6),
        "lost by a power cut, most": Figure(max(torture.power_losses, default=0), "s", limit=POWER_LOSS_S),
        "not received, most": Figure(round(max(torture.outages, default=0), 2), "s"),
        "wrong": Figure(len(torture.found), "count", limit=0),
        "took": Figure(round(time.monotonic() - began, 1), "s"),
    }
    print_table(["", "found"], [[name, f"{one.ours:.2f} {one.unit}"] for name, one in figures.items()])
    print(write_results("torture_streams", figures, seed=seed, done=torture.done))
    if torture.found:
        print(f"kept: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
