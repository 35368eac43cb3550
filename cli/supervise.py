"""A small supervisor: starts programs, starts again what dies, stops everything cleanly.

1. A program starts once the one it needs is ready. One that dies starts again, ever later while it
   keeps dying, without end; only during the first start is a program that cannot get ready an error.
2. Each has its own process group, so that Ctrl-C reaches the supervisor alone and it decides the order
   of the end: SIGTERM rank by rank, backwards; after the grace, SIGKILL.
3. All die with the supervisor, however it dies (`cli.tether`). That request is tied to the thread that
   makes a process, so one thread makes them all and lives as long as they do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from evidence.errors import Unavailable

TETHER = Path(__file__).with_name("tether.py")
PARENT = "LIUHEN_PARENT_PID"
TICK_S = 0.1
PROBE_EVERY_S = 0.3
GRACE_S = 30.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STEADY_AFTER_S = 60.0
EARLY_DEATHS = 3
LOG_BYTES = 32 << 20
LOG_EVERY_S = 10.0
POOR_DELAY_S = 5.0


@dataclass(frozen=True)
class Program:
    """Something to keep running.

    Attributes:
        rank: Programs stop before those of lower ranks.
        is_ready: Asked from the supervisor's thread, with the log and where this start of it begins;
            must answer within a second or two.
    """

    name: str
    argv: tuple[str, ...]
    rank: int
    is_ready: Callable[[Path | None, int], bool]
    needs: str | None = None
    """Another program that must have been ready before this one starts."""


@dataclass
class Incarnation:
    """A program and its present process."""

    program: Program
    popen: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    was_ready: bool = False
    started_at: float = 0.0
    not_before: float = 0.0
    probe_at: float = 0.0
    deaths_in_row: int = 0
    starts: int = 0
    log_from: int = 0


@dataclass
class Supervisor:
    """Keeps programs running from `start` until `stop`.

    Attributes:
        environment: Variables the programs get beside our own.
        logs: Folder for a log of each; None: they write where we do.
    """

    programs: Sequence[Program]
    environment: Mapping[str, str] = field(default_factory=dict)
    logs: Path | None = None
    grace_s: float = GRACE_S

    def __post_init__(self) -> None:
        self._states = [Incarnation(program) for program in self.programs]
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._hurry = threading.Event()
        self._is_over = threading.Event()
        self._rotated_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        if self.logs is not None:
            self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin starting programs."""
        self._thread.start()

    def stop(self) -> None:
        """End every program, rank by rank, and return when none is left."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def watch(self, stop: threading.Event) -> None:
        """Return once ``stop`` is set.

        Raises:
            Unavailable: The supervisor itself ended; every program was ended with it.
        """
        while not stop.wait(1.0):
            if self._is_over.is_set():
                raise Unavailable(
                    "supervisor: expected it to run until stopped, found it ended; start again",
                    code="supervisor_ended",
                )

    def kill(self) -> None:
        """End every program at once; `stop` returns soon after."""
        self._hurry.set()
        self._ending.set()

    def wait_ready(
        self,
        timeout_s: float,
        *,
        stop: threading.Event | None = None,
        progress: Callable[[int, str], None] | None = None,
    ) -> bool:
        """Wait until every program is ready; False when ``stop`` was set meanwhile.

        Raises:
            Unavailable: A program cannot get ready; the message ends with its own last words.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                waited = [state for state in self._states if not state.was_ready]
                failed = next((state for state in waited if state.deaths_in_row >= EARLY_DEATHS), None)
            if progress is not None:
                progress(len(self._states) - len(waited), ", ".join(one.program.name for one in waited))
            if not waited:
                return True
            if stop is not None and stop.is_set():
                return False
            if failed is not None or time.monotonic() > deadline:
                late = failed or waited[0]
                raise Unavailable(
                    f"{late.program.name}: expected it ready, found it "
                    f"{'ended' if failed else 'still starting'}: {self.last_words(late.program.name)}",
                    code="not_ready",
                )
            time.sleep(TICK_S)

    def pids(self) -> dict[str, int]:
        """Process ids of what runs now."""
        with self._lock:
            return {
                state.program.name: state.popen.pid
                for state in self._states
                if state.popen is not None and state.popen.poll() is None
            }

    def starts(self, name: str) -> int:
        """How often a program was started."""
        with self._lock:
            return next(state.starts for state in self._states if state.program.name == name)

    def last_words(self, name: str) -> str:
        """The end of a program's log, on one line."""
        path = self._log(name)
        if path is None or not path.exists():
            return "see above"
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 2000))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return f"{lines[-1][:400]} (log: {path})" if lines else f"nothing in its log ({path})"

    # -- the supervisor's thread -------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ending.wait(TICK_S):
                for state in self._states:
                    self._look_after_in_spite(state)
                self._rotate()
        finally:
            self._end_all()
            self._is_over.set()

    def _look_after_in_spite(self, state: Incarnation) -> None:
        """A machine out of disk or processes costs a program its turn, never all of them their life."""
        try:
            self._look_after(state)
        except OSError as error:
            state.not_before = time.monotonic() + POOR_DELAY_S
            state.probe_at = state.not_before
            self._complain(f"{state.program.name}: {error}")

    @staticmethod
    def _complain(line: str) -> None:
        # Standard error may be a file on the disk that is full.
        with contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    def _look_after(self, state: Incarnation) -> None:
        now = time.monotonic()
        if state.popen is None:
            needs = state.program.needs
            is_turn = all(one.was_ready for one in self._states if one.program.name == needs)
            if is_turn and now >= state.not_before:
                self._spawn(state)
            return
        status = state.popen.poll()
        if status is not None:
            with self._lock:
                self._note_death(state, status, now)
        elif not state.is_ready and now >= state.probe_at:
            is_ready = state.program.is_ready(self._log(state.program.name), state.log_from)
            with self._lock:
                state.is_ready = is_ready
                state.was_ready = state.was_ready or is_ready
                state.probe_at = now + PROBE_EVERY_S
        elif state.is_ready and now - state.started_at > STEADY_AFTER_S:
            state.deaths_in_row = 0

    def _note_death(self, state: Incarnation, status: int, now: float) -> None:
        state.popen, state.is_ready = None, False
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**state.deaths_in_row)
        state.deaths_in_row += 1
        state.not_before = now + delay
        if state.was_ready:
            name = state.program.name
            self._complain(
                f"{name}: 已结束,{delay:.1f}秒后重启 / ended with {status}, starts again in {delay:.1f} s: "
                f"{self.last_words(name)}"
            )

    def _spawn(self, state: Incarnation) -> None:
        path = self._log(state.program.name)
        argv = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *state.program.argv]
        with contextlib.ExitStack() as stack:
            output: IO[bytes] | None = None
            if path is not None:
                output = stack.enter_context(path.open("ab"))
                path.chmod(0o600)
            popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment, PARENT: str(os.getpid())},
                process_group=0,
            )
        with self._lock:
            state.popen, state.starts = popen, state.starts + 1
            state.started_at = time.monotonic()
            state.probe_at = state.started_at + TICK_S
            state.log_from = 0 if path is None else path.stat().st_size

    def _end_all(self) -> None:
        deadline = time.monotonic() + self.grace_s
        for rank in sorted({state.program.rank for state in self._states}, reverse=True):
            members = [state.popen for state in self._states if state.program.rank == rank and state.popen]
            for popen in members:
                if popen.poll() is None:
                    popen.terminate()
            for popen in members:
                while popen.poll() is None and time.monotonic() < deadline and not self._hurry.is_set():
                    time.sleep(TICK_S / 2)
                if popen.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(popen.pid, signal.SIGKILL)
                popen.wait()

    def _log(self, name: str) -> Path | None:
        return None if self.logs is None else self.logs / f"{name}.log"

    def _rotate(self) -> None:
        """Keep one older log of each; what is written between copy and cut is lost, logs are no evidence."""
        if self.logs is None or time.monotonic() - self._rotated_at < LOG_EVERY_S:
            return
        self._rotated_at = time.monotonic()
        for state in self._states:
            path = self._log(state.program.name)
            if path is not None and path.exists() and path.stat().st_size > LOG_BYTES:
                older = path.with_suffix(".log.1")
                try:
                    shutil.copyfile(path, older)
                except OSError as error:
                    # No room for the older log: the newer one must not fill the disk on top of it.
                    older.unlink(missing_ok=True)
                    self._complain(f"logs: {error}")
                os.truncate(path, 0)
                state.log_from = 0
