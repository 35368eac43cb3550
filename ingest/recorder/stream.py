"""Keep one stream recorded for as long as it is wanted, whatever dies.

The rules:

1. At most one process records a stream. One that an earlier daemon started is taken over, not replaced,
   whatever is wrong with its folder; of two the second is ended.
2. A process that ended, was killed, or has said nothing for `SILENT_S` is over: it is ended for good, what it
   left is salvaged, and another is started while the stream is wanted, after pauses that double up to
   `PAUSE_MOST_S` and are never the same for two streams.
3. A finished file is told of until whoever asked says it is settled, also by the next daemon. A run's folder
   goes when it is over and all of its files are settled.
4. A run that cannot be read or salvaged, because the disk is full or fails or for whatever other reason, is
   kept as it is, told (`troubles`), and tried again after pauses that double. The others go on meanwhile. It
   may hold something of every moment from the first to the last thing that is known of it, and of no other.
5. Looking never waits for a process, so that one that hangs costs the other streams nothing.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import structlog

from evidence.errors import Conflict
from ingest.recorder import process
from ingest.recorder.clocks import Moments, Readings, step_us
from ingest.recorder.salvage import salvage
from media.live.container import SUFFIXES
from media.live.journal import read
from media.live.opening import Address, scrubbed
from media.live.recording import OPEN_SUFFIX, Bounds

SILENT_S = 8.0
END_S = 10.0
"""How long an ending process may take before it is killed."""
PAUSE_LEAST_S, PAUSE_MOST_S = 0.5, 30.0
AGAIN_LEAST_S, AGAIN_MOST_S = 5.0, 300.0
LEEWAY_US = 8_000_000
"""By so much what a run recorded may lie outside of what its journal tells; its lines are closer together."""
STEADY_S = 60.0
"""A run that lasted this long makes the next pause short again."""
MAX_TURNS = 1000
"""Of one file, that are told; more are counted."""
SETTLED = "settled"
FOOTAGE = frozenset({OPEN_SUFFIX, *(f".{suffix}" for suffix in SUFFIXES.values())})
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
    open_us: int
    """By how much at most it ended later: a pause of the source may not be told yet."""
    duration_us: int
    pictures: int
    playable_from_us: int | None
    why: str
    """Why it ended: ``length``, ``run``, ``ended``, ``salvaged``."""
    turns: tuple[dict[str, Any], ...]
    """What happened to the stream meanwhile, as in the journal."""
    moments: Moments
    """When it may have been recorded, by every clock the host had."""

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
    clock: Readings = field(default_factory=Readings)
    clock_us: int | None = None
    """UTC less monotonic, as last told; None: it has not said."""
    clear_us: int | None = None
    """UTC before which nothing of it is still to come but what is told; None: anything may be."""
    first_us: int | None = None
    """UTC of the first thing its journal tells; None: its beginning is not known."""
    last_us: int = 0
    """UTC of the last thing its journal tells."""
    dead_us: int | None = None
    """UTC when it was last written to, as its disk has it; None: somebody may record into it."""
    why: str | None = None
    """Why it ended, as it said itself; None: it goes on, or died."""
    is_over: bool = False
    heard_at_s: float = 0.0
    heard_to: int = 0
    asked_to_end_at_s: float | None = None
    is_mute: bool = False
    trouble: str | None = None
    """Why it could not be read or salvaged; None: it could."""
    again_at_s: float | None = None
    """When it is taken up again; None: it need not be."""
    again_pause_s: float = AGAIN_LEAST_S

    def is_done(self) -> bool:
        return self.is_over and self.trouble is None and set(self.told) <= self.settled

    def forget(self) -> None:
        """Be as before anything was read of it."""
        self.read_to, self.turns, self.turns_left_out, self.told = 0, [], 0, {}
        self.clock = Readings()
        self.clock_us = self.clear_us = self.first_us = self.trouble = self.again_at_s = None

    def note_place(self, line: Mapping[str, Any]) -> None:
        """Follow from when on something of it is still to come, as its journal tells."""
        kind = line["kind"]
        self.clock.note(line)
        if self.clock_us is not None and (by_us := step_us(line)):
            self.clock_us += by_us
            self.clear_us = (self.clear_us or 0) + min(0, by_us)
        if kind == "begun":
            self.clock_us, self.clear_us = line["utc_us"] - line["monotonic_us"], line["utc_us"]
            self.first_us = line["utc_us"]
        if self.first_us is not None:
            # A camera may begin with pictures it had kept.
            self.first_us = min(self.first_us, line.get("from_utc_us", self.first_us))
        if self.clock_us is not None and "monotonic_us" in line:
            self.last_us = max(self.last_us, line["monotonic_us"] + self.clock_us)
        self.last_us = max(self.last_us, line.get("to_utc_us", 0), line.get("arrived_utc_us", 0))
        if kind == "file":
            # Where it begins is known for good with its first mark; what came before is in the file before.
            self.clear_us = min(self.clear_us or line["arrived_utc_us"], line["arrived_utc_us"])
        elif kind == "mark" and "file" in line:
            self.clear_us = line["from_utc_us"] + self.clock.behind_us(line["file"])
        elif kind == "mark" and self.clock_us is not None and not line["waiting_bytes"]:
            self.clear_us = line["monotonic_us"] + self.clock_us

    def moments(self, finished: Finished) -> Moments:
        # What the source stood still may not be told yet, and its last pictures are of later than it says.
        # Where nobody said how much, all of it is open to masks, but no session of long after it has it.
        is_told = finished.open_us < finished.duration_us
        ends_us = finished.to_utc_us + (finished.open_us if is_told else min(finished.open_us, LEEWAY_US))
        return self.clock.moments(finished.number, finished.from_utc_us, ends_us)

    def holds(self, from_us: int, to_us: int) -> bool:
        """Whether something of a stretch may be here that is nobody's yet."""
        waits = [each for number, each in self.told.items() if number not in self.settled]
        moments = [span for each in waits for span in self.moments(each)]
        if any(begins_us < to_us and from_us < ends_us for begins_us, ends_us in moments):
            return True
        if self.trouble is None:
            return not self.is_over and (self.clear_us is None or self.clear_us < to_us)
        ends_us = None if self.dead_us is None else max(self.dead_us, self.last_us) + LEEWAY_US
        is_before = self.first_us is not None and to_us <= self.first_us - LEEWAY_US
        return not is_before and (ends_us is None or from_us < ends_us)


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
        self._file_s = bounds.file_s
        self._clock, self._silent_s = clock, silent_s
        self._log = log.bind(room=room, stream=name)
        # Not for secrets: two streams only must not knock at the same instant for ever.
        self._chance = chance or random.Random()  # noqa: S311
        self._runs: dict[str, _Run] = {}
        self._now: _Run | None = None
        self._not_before_s = 0.0
        self._pause_s = PAUSE_LEAST_S
        self._began_at_s = 0.0
        self._unread: str | None = None
        """Why its runs could not be looked for; None: they were."""
        self._find_runs()

    def look(self, *, wanted: bool | None) -> list[Finished]:
        """See to the stream once; returns every finished file that is not settled.

        Args:
            wanted: None: nobody knows yet; what records goes on, and nothing is begun.
        """
        if self._unread is not None:
            self._find_runs()
        for run in list(self._runs.values()):
            if run.again_at_s is not None and self._clock() >= run.again_at_s:
                run.again_at_s = None
                self._attempt(run, self._take_up)
            elif run.again_at_s is None or run is self._now:
                self._attempt(run, self._hear)
        if self._now is not None:
            self._attempt(self._now, self._bury_if_gone)
        if self._now is not None:
            self._watch(self._now, wanted=wanted)
        elif wanted and self._clock() >= self._not_before_s:
            self._begin()
        else:
            self.state.phase = Phase.WAITING if wanted else Phase.OFF
        return [
            # The clock may have been set since.
            replace(finished, moments=run.moments(finished))
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
        self._attempt(run, self._forget_if_done)

    def holds(self, from_us: int, to_us: int) -> bool:
        """Whether something of a stretch of wall time may be here that is nobody's yet."""
        return self._unread is not None or any(run.holds(from_us, to_us) for run in self._runs.values())

    def cut(self) -> None:
        """End the file at the next keyframe and go on: a session begins or ends here."""
        if self._now is not None:
            with suppress(Conflict):
                process.ask_to_end(self._now.folder, signal.SIGUSR1)

    @property
    def troubles(self) -> dict[str, str]:
        """Runs that could not be read or salvaged, and why."""
        found = {name: run.trouble for name, run in self._runs.items() if run.trouble is not None}
        return found if self._unread is None else {self.folder.name: self._unread, **found}

    def _find_runs(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with os.scandir(self.folder) as found:
                folders = sorted(Path(each.path) for each in found if each.is_dir())
        except OSError as error:
            if self._unread is None:
                self._log.exception("recorder:not_looked_into")
            self._unread = scrubbed(f"{type(error).__name__}: {error}")[:300]
            return
        self._unread = None
        for folder in folders:
            if folder.name not in self._runs:
                run = self._runs[folder.name] = _Run(folder, heard_at_s=self._clock())
                self._attempt(run, self._take_up)

    def _attempt(self, run: _Run, what: Callable[[_Run], None]) -> None:
        """Do something with a run; whatever is wrong with its folder costs the others nothing."""
        try:
            what(run)
        except Exception as error:
            # Told as the run's trouble and tried again: what lies there is kept whatever goes wrong.
            trouble = scrubbed(f"{type(error).__name__}: {error}")[:300]
            if trouble != run.trouble:
                self._log.exception("recorder:not_taken_up", run=run.folder.name)
            run.trouble = trouble
            if run.again_at_s is None:
                self._again_later(run)

    def _again_later(self, run: _Run) -> None:
        run.again_at_s = self._clock() + run.again_pause_s
        run.again_pause_s = min(AGAIN_MOST_S, 2 * run.again_pause_s)

    def _take_up(self, run: _Run) -> None:
        """Find out what there is of a run, from its first line on."""
        if run.folder not in self.folder.iterdir():
            # Whoever could not mend it moved it away.
            self._log.warning("recorder:gone", run=run.folder.name, trouble=run.trouble)
            del self._runs[run.folder.name]
            return
        is_recording = self._is_recording(run)
        if is_recording and self._now is None:
            # Before anything is read of it: whoever records is watched, whatever is wrong with the folder.
            self._now = run
            self._log.info("recorder:taken_over", run=run.folder.name)
        run.forget()
        run.settled = set(_numbers(run.folder / SETTLED))
        if is_recording and run is not self._now:
            self._end_second(run)
        if is_recording or run is self._now:
            self._hear(run)
        else:
            self._finish(run)

    def _is_recording(self, run: _Run) -> bool:
        now_us = time.time_ns() // 1000
        try:
            is_recording = process.is_recording(run.folder)
        except OSError:
            # Whoever records there nevertheless goes on writing.
            changed_us = written_us(run.folder, self._file_s, now_us)
            run.dead_us = changed_us if changed_us < now_us - LEEWAY_US else None
            raise
        if is_recording:
            run.dead_us = None
        elif run.dead_us is None:
            # Once: to salvage it is to write there.
            run.dead_us = written_us(run.folder, self._file_s, now_us)
        return is_recording

    def _end_second(self, run: _Run) -> None:
        """Two record at once: this one is to end, and is looked at again."""
        self._again_later(run)
        if run.asked_to_end_at_s is None:
            run.asked_to_end_at_s = self._clock()
            self._log.warning("recorder:second_ended", run=run.folder.name)
            self._signal(run, signal.SIGTERM)
        elif self._clock() - run.asked_to_end_at_s > END_S:
            self._signal(run, signal.SIGKILL)

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
        except (Conflict, OSError):
            # It holds the lock, and who it is was not said yet or cannot be read. Only its parent knows.
            if run.child is not None:
                run.child.send_signal(number)

    def _bury_if_gone(self, run: _Run) -> None:
        if self._is_recording(run):
            return
        self._now = None
        if run.child is not None:
            run.child.wait()
        self._attempt(run, self._finish)
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
        finally:
            # What was whole before is handed over, and says how much of time the rest may be of.
            self._hear(run)
        if left.salvaged:
            self._log.warning("recorder:salvaged", files=left.salvaged, cut_bytes=left.cut_bytes)
        run.is_over = True
        self._forget_if_done(run)

    def _forget_if_done(self, run: _Run) -> None:
        if not run.is_done():
            return
        for settled in run.told.values():
            settled.path.unlink(missing_ok=True)
        # What its journal does not tell of is nobody's to remove.
        if left := sorted(path.name for path in run.folder.iterdir() if path.suffix in FOOTAGE):
            raise OSError(f"expected every file told of in the journal, found {left[0]} that is not")
        shutil.rmtree(run.folder)
        del self._runs[run.folder.name]

    def _hear(self, run: _Run) -> None:
        said, run.read_to = read(run.folder, run.read_to)
        if said and run.read_to > run.heard_to:
            run.heard_at_s, run.heard_to = self._clock(), run.read_to
        wrong: Exception | None = None
        for line in said:
            try:
                self._note(run, line)
            except (LookupError, TypeError, ValueError) as error:
                # The lines after it are as good as ever.
                wrong = error
        if wrong is not None:
            raise wrong

    def _note(self, run: _Run, line: dict[str, Any]) -> None:
        kind = line["kind"]
        run.note_place(line)
        if kind == "closed":
            run.told[line["file"]] = _finished(self.name, run, line)
            run.turns, run.turns_left_out = [], 0
        elif kind in {"turn", "overrun"}:
            # What masks go by is never left out.
            if len(run.turns) < MAX_TURNS or step_us(line):
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


def written_us(run: Path, file_s: float, now_us: int) -> int:
    """UTC when a run was last written to, or later where its disk does not tell.

    Args:
        file_s: How long its files get.
    """
    try:
        entries = [path.stat() for path in run.iterdir() if path.name != SETTLED]
        return max(each.st_mtime_ns for each in entries or [run.stat()]) // 1000
    except OSError as error:
        log.warning("recorder:not_listed", run=run.name, why=error.strerror)
    try:
        # Each of its files was made there, and the last one is not much longer than another.
        return min(now_us, run.stat().st_mtime_ns // 1000 + round(2 * file_s * 1e6))
    except OSError:
        return now_us


def _finished(stream: str, run: _Run, line: dict[str, Any]) -> Finished:
    turns = list(run.turns)
    if run.turns_left_out:
        turns.append({"kind": "turn", "turn": "more", "count": run.turns_left_out})
    finished = Finished(
        stream=stream,
        run=run.folder.name,
        folder=run.folder,
        number=line["file"],
        name=line["name"],
        sha256=bytes.fromhex(line["sha256"]),
        size_bytes=line["size_bytes"],
        from_utc_us=line["from_utc_us"],
        to_utc_us=line["to_utc_us"],
        # A recorder that was begun before this was told does not say it: all may be open.
        open_us=line.get("open_us", line["duration_us"]),
        duration_us=line["duration_us"],
        pictures=line["pictures"],
        playable_from_us=line["playable_from_us"],
        why=line["why"],
        turns=tuple(turns),
        moments=(),
    )
    return replace(finished, moments=run.moments(finished))


def _numbers(path: Path) -> Iterator[int]:
    if path.exists():
        yield from (int(line) for line in path.read_text().splitlines() if line.isdecimal())
