"""Keep one stream recorded for as long as it is wanted, whatever dies.

The rules:

1. At most one process records a stream. One that an earlier daemon started is taken over, not replaced.
2. A process that ended, was killed, or has said nothing for `SILENT_S` is over: it is ended for good, what it
   left is salvaged, and another is started while the stream is wanted, after pauses that double up to
   `PAUSE_MOST_S` and are never the same for two streams.
3. A finished file is told of until whoever asked says it is settled, also by the next daemon. A run's folder
   goes when it is over and all of its files are settled.
4. What cannot be salvaged, because the disk is full or fails, is tried again after pauses that double.
5. Looking never waits for a process, so that one that hangs costs the other streams nothing.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import structlog

from evidence.errors import Conflict, MediaError
from ingest.recorder import process
from ingest.recorder.salvage import salvage
from media.live.journal import read
from media.live.opening import Address
from media.live.recording import Bounds

SILENT_S = 8.0
END_S = 10.0
"""How long an ending process may take before it is killed."""
PAUSE_LEAST_S, PAUSE_MOST_S = 0.5, 30.0
SALVAGE_PAUSE_LEAST_S, SALVAGE_PAUSE_MOST_S = 5.0, 300.0
STEADY_S = 60.0
"""A run that lasted this long makes the next pause short again."""
MAX_TURNS = 1000
"""Of one file, that are told; more are counted."""
SETTLED = "settled"
log = structlog.get_logger(__name__)


class Phase(StrEnum):
    """What a stream is doing."""

    OFF = "off"  # 未录制
    STARTING = "starting"  # 正在连接
    RECORDING = "recording"  # 正在录制
    WAITING = "waiting"  # 等待重连
    ENDING = "ending"  # 正在结束


@dataclass(frozen=True)
class Finished:
    """A file that is whole and on the disk, and nobody's yet."""

    stream: str
    run: str
    folder: Path
    number: int
    name: str
    sha256: bytes
    size_bytes: int
    from_utc_us: int
    to_utc_us: int
    duration_us: int
    pictures: int
    playable_from_us: int | None
    why: str
    """Why it ended: ``length``, ``run``, ``ended``, ``salvaged``."""
    turns: tuple[dict[str, Any], ...]
    """What happened to the stream meanwhile, as in the journal."""

    @property
    def key(self) -> str:
        """The same each time this file is told of, and for no other."""
        return f"recorder:{self.run}:{self.number}"

    @property
    def path(self) -> Path:
        return self.folder / self.name


@dataclass
class State:
    """What people see of a stream."""

    phase: Phase = Phase.OFF
    since_utc_us: int | None = None
    """When the process began; None: there is none."""
    silent_s: float | None = None
    bytes_s: int = 0
    packets_s: float = 0.0
    pictures_s: float = 0.0
    waiting_bytes: int = 0
    streams: tuple[dict[str, Any], ...] = ()
    restarts: int = 0
    why: str | None = None
    """Why the last run ended; None: none has."""


@dataclass
class _Run:
    """One folder."""

    folder: Path
    child: Popen[bytes] | None = None
    read_to: int = 0
    turns: list[dict[str, Any]] = field(default_factory=list)
    turns_left_out: int = 0
    told: dict[int, Finished] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    why: str | None = None
    """Why it ended, as it said itself; None: it goes on, or died."""
    is_over: bool = False
    heard_at_s: float = 0.0
    asked_to_end_at_s: float | None = None
    is_mute: bool = False
    salvage_again_at_s: float | None = None
    """When what the dead process left is tried again; None: it need not be."""
    salvage_pause_s: float = SALVAGE_PAUSE_LEAST_S

    def is_done(self) -> bool:
        return self.is_over and set(self.told) <= self.settled


class StreamRecorder:
    """The watch over one stream.

    Args:
        folder: Its own; runs lie in it.
        clock: Monotonic seconds.
        chance: Spreads the pauses.
        silent_s: How long a process may say nothing.
        room: For the log.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        address: Address,
        bounds: Bounds,
        ffmpeg: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
        silent_s: float = SILENT_S,
        room: str = "",
    ) -> None:
        self.name = name
        self.folder = folder
        self.state = State()
        self._start = partial(process.start, folder, address, bounds, ffmpeg)
        self._clock, self._silent_s = clock, silent_s
        self._log = log.bind(room=room, stream=name)
        # Not for secrets: two streams only must not knock at the same instant for ever.
        self._chance = chance or random.Random()  # noqa: S311
        self._runs: dict[str, _Run] = {}
        self._now: _Run | None = None
        self._not_before_s = 0.0
        self._pause_s = PAUSE_LEAST_S
        self._began_at_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._find_runs()

    def look(self, *, wanted: bool | None) -> list[Finished]:
        """See to the stream once; returns every finished file that is not settled.

        Args:
            wanted: None: nobody knows yet; what records goes on, and nothing is begun.
        """
        for run in list(self._runs.values()):
            self._hear(run)
            if run.salvage_again_at_s is not None and self._clock() >= run.salvage_again_at_s:
                self._finish(run)
        if self._now is not None and not process.is_recording(self._now.folder):
            self._bury(self._now)
        if self._now is not None:
            self._watch(self._now, wanted=wanted)
        elif wanted and self._clock() >= self._not_before_s:
            self._begin()
        else:
            self.state.phase = Phase.WAITING if wanted else Phase.OFF
        return [
            finished
            for run in self._runs.values()
            for number, finished in run.told.items()
            # Why the last file ended stands in the line after it.
            if number not in run.settled and (finished.why != "ended" or run.why is not None or run.is_over)
        ]

    def settle(self, finished: Finished) -> None:
        """A finished file is somebody's, or nobody's for good: it is not told of again."""
        run = self._runs[finished.run]
        # Lost in a power cut, it is told of once more, and whoever asked knows its key.
        with (run.folder / SETTLED).open("a") as file:
            file.write(f"{finished.number}\n")
        run.settled.add(finished.number)
        finished.path.unlink(missing_ok=True)
        self._forget_if_done(run)

    def cut(self) -> None:
        """End the file at the next keyframe and go on: a session begins or ends here."""
        if self._now is not None:
            with suppress(Conflict):
                process.ask_to_end(self._now.folder, signal.SIGUSR1)

    def _find_runs(self) -> None:
        for folder in sorted(path for path in self.folder.iterdir() if path.is_dir()):
            run = self._runs[folder.name] = _Run(folder, heard_at_s=self._clock())
            run.settled = set(_numbers(folder / SETTLED))
            if process.is_recording(folder):
                self._now = run
                self._log.info("recorder:taken_over", run=folder.name)
            else:
                self._finish(run)

    def _begin(self) -> None:
        try:
            started = self._start()
        except OSError as error:
            self._pause(f"disk: {error.strerror or error}")
            return
        self._now = self._runs[started.folder.name] = _Run(
            started.folder, started.process, heard_at_s=self._clock()
        )
        self._began_at_s = self._clock()
        self.state.phase = Phase.STARTING

    def _watch(self, run: _Run, *, wanted: bool | None) -> None:
        at_s = self._clock()
        if run.asked_to_end_at_s is None:
            is_mute = at_s - run.heard_at_s > self._silent_s
            if wanted is not False and not is_mute:
                return
            run.asked_to_end_at_s, run.is_mute = at_s, is_mute
            self.state.phase = Phase.ENDING
            self._signal(run, signal.SIGKILL if is_mute else signal.SIGTERM)
        elif at_s - run.asked_to_end_at_s > END_S:
            self._signal(run, signal.SIGKILL)

    def _signal(self, run: _Run, number: int) -> None:
        try:
            process.ask_to_end(run.folder, number)
        except Conflict:
            # It holds the lock, and has not come to say who it is. Only its parent knows.
            if run.child is not None:
                run.child.send_signal(number)

    def _bury(self, run: _Run) -> None:
        """A process is gone."""
        self._now = None
        if run.child is not None:
            run.child.wait()
        self._finish(run)
        if self._clock() - self._began_at_s > STEADY_S:
            self._pause_s = PAUSE_LEAST_S
        if run.is_mute or run.asked_to_end_at_s is None:
            self.state.restarts += 1
            self._pause("mute" if run.is_mute else run.why or "killed")

    def _pause(self, why: str) -> None:
        self.state.why, self.state.phase = why, Phase.WAITING
        self._not_before_s = self._clock() + self._pause_s * self._chance.uniform(0.7, 1.3)
        self._pause_s = min(PAUSE_MOST_S, self._pause_s * 2)
        self._log.warning("recorder:lost", why=why)

    def _finish(self, run: _Run) -> None:
        """Salvage, and hear what it said last."""
        try:
            left = salvage(run.folder)
        except (OSError, MediaError) as error:
            # Full or failing: the run stays as it is, and is tried again, and when the daemon starts.
            self._log.exception("recorder:not_salvaged", run=run.folder.name, error=str(error))
            run.salvage_again_at_s = self._clock() + run.salvage_pause_s
            run.salvage_pause_s = min(SALVAGE_PAUSE_MOST_S, 2 * run.salvage_pause_s)
            return
        run.salvage_again_at_s = None
        if left.salvaged:
            self._log.warning("recorder:salvaged", files=left.salvaged, cut_bytes=left.cut_bytes)
        self._hear(run)
        run.is_over = True
        self._forget_if_done(run)

    def _forget_if_done(self, run: _Run) -> None:
        if run.is_done():
            shutil.rmtree(run.folder)
            del self._runs[run.folder.name]

    def _hear(self, run: _Run) -> None:
        said, run.read_to = read(run.folder, run.read_to)
        if said:
            run.heard_at_s = self._clock()
        for line in said:
            self._note(run, line)

    def _note(self, run: _Run, line: dict[str, Any]) -> None:
        kind = line["kind"]
        if kind == "closed":
            run.told[line["file"]] = _finished(self.name, run, line)
            run.turns, run.turns_left_out = [], 0
        elif kind in {"turn", "overrun"}:
            if len(run.turns) < MAX_TURNS:
                run.turns.append(line)
            else:
                run.turns_left_out += 1
        elif kind == "ended":
            run.why = self.state.why = line["why"]
        if run is not self._now:
            return
        if kind == "begun":
            self.state.since_utc_us = line["utc_us"]
        elif kind == "file":
            self.state.streams = tuple(line["streams"])
        elif kind == "mark":
            self.state.phase = Phase.RECORDING if "file" in line else Phase.STARTING
            self.state.silent_s = line["silent_us"] / 1e6
            self.state.bytes_s, self.state.packets_s = line["bytes_s"], line["packets_s"]
            self.state.pictures_s = line["pictures_s"]
            self.state.waiting_bytes = line["waiting_bytes"]


def _finished(stream: str, run: _Run, line: dict[str, Any]) -> Finished:
    turns = list(run.turns)
    if run.turns_left_out:
        turns.append({"kind": "turn", "turn": "more", "count": run.turns_left_out})
    return Finished(
        stream=stream,
        run=run.folder.name,
        folder=run.folder,
        number=line["file"],
        name=line["name"],
        sha256=bytes.fromhex(line["sha256"]),
        size_bytes=line["size_bytes"],
        from_utc_us=line["from_utc_us"],
        to_utc_us=line["to_utc_us"],
        duration_us=line["duration_us"],
        pictures=line["pictures"],
        playable_from_us=line["playable_from_us"],
        why=line["why"],
        turns=tuple(turns),
    )


def _numbers(path: Path) -> Iterator[int]:
    if path.exists():
        yield from (int(line) for line in path.read_text().splitlines() if line.isdecimal())
