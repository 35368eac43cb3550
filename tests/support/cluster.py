"""A whole installation as it really runs: separate processes, real sockets, to be used and to be killed.

Tests, torture and benchmarks share it. The programs are those of ``liuhen up`` under its own supervisor:
what dies is started again, and nothing outlives the process that holds the cluster.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from sqlalchemy import func, select, update
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from cli.programs import all_programs
from cli.supervise import Supervisor
from config.load import load_settings
from config.settings import Settings
from evidence.kinds import Role, SourceKind
from ingest import docks, register, roster
from storage.db import agencies
from storage.db.tables import Agency, CustodyPending, Job
from storage.open import NewAgency, Storage, found
from tests.support.samples import models_dir

READY = re.compile(r'"(?:worker|relay)_ready".*"timestamp": "([^"]+)"')
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

IO, QUICK, ASKED, ISOLATED = "worker-io", "worker-quick", "worker-asked", "worker-isolated"
MEDIA, MEDIA2 = "worker-media-1", "worker-media-2"
WORKERS = "workers"
"""Stands for every worker process of the machine."""
PIPELINE = ("broker", "relay", WORKERS, "ingest")
EVERYTHING = (*PIPELINE, "api", "media")


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
        settings: More settings, as variables without the prefix: ``{"WORKER__LEASE_S": "5"}``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str | None = None,
        redis_url: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.logs = folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
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
        self._supervisor: Supervisor | None = None
        self.token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- processes ---------------------------------------------------------------------------

    def start(self, *names: str, timeout_s: float = 120) -> None:
        """Start programs, once for all, and wait until every one is ready."""
        programs = [
            each
            for each in all_programs(self.settings)
            if each.name in names or (WORKERS in names and each.name.startswith("worker-"))
        ]
        self._supervisor = Supervisor(programs, self.variables, logs=self.logs)
        self._supervisor.start()
        self._supervisor.wait_ready(timeout_s)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to the program alone, not to its children; returns its process id."""
        pid = self.pid(name)
        os.kill(pid, number)
        return pid

    def wait_running(self, name: str, since: int, timeout_s: float = 90) -> None:
        """Wait until a program runs again under another process id, past its start."""
        wait_for(
            lambda: self.pids().get(name, since) != since and self.has_begun(name),
            timeout_s,
            f"{name} runs again",
            self.log_tail,
        )

    def pids(self) -> dict[str, int]:
        """Process ids of what runs now."""
        return self._supervisor.pids() if self._supervisor is not None else {}

    def pid(self, name: str) -> int:
        """Process id of the present incarnation.

        Raises:
            ProcessLookupError: It does not run.
        """
        try:
            return self.pids()[name]
        except KeyError as error:
            raise ProcessLookupError(name) from error

    def has_begun(self, name: str) -> bool:
        """Whether the present incarnation is past its start."""
        ports = {"ingest": self.settings.ingest.port, "api": self.settings.api.port,
                 "media": self.settings.media.port}  # fmt: skip
        if name not in self.pids():
            return False
        if name in ports:
            return accepts(ports[name])
        if name == "broker":
            return listens(self.data / "run" / "valkey.sock")
        # An incarnation that was killed while it started said nothing: the word must be this one's.
        said = READY.findall(self.log(name).read_text("utf-8", "replace"))
        try:
            began = psutil.Process(self.pid(name)).create_time()
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False
        return bool(said) and datetime.fromisoformat(said[-1]).timestamp() > began

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
        """Stop everything, in the order of `liuhen up`, and let go of the database."""
        if self._supervisor is not None:
            self._supervisor.stop()
        self.storage.database.dispose()

    def orphans(self) -> list[str]:
        """Processes that belong to the data folder; none of ours runs any more after `close`."""
        mine = {os.getpid(), *self.pids().values()}
        return [
            f"{process.pid} {' '.join(process.info['cmdline'] or [])[:160]}"
            for process in psutil.process_iter(["cmdline", "environ", "cwd", "status"])
            if process.pid not in mine
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

    # -- waiting -----------------------------------------------------------------------------

    def log(self, name: str) -> Path:
        """Where a program writes."""
        return self.logs / f"{name}.log"

    def wait_settled(self, timeout_s: float, *, leaving_out: Collection[str] = ()) -> dict[str, int]:
        """Wait until no job is ready or leased and every leaf has its place; counts of jobs by state.

        Args:
            leaving_out: Kinds of jobs that are called off where nobody has begun them.
        """

        def is_settled() -> bool:
            if leaving_out:
                with self.storage.database.transaction() as session:
                    left_out = Job.kind.in_(leaving_out), Job.state == "ready"
                    session.execute(update(Job).where(*left_out).values(state="cancelled"))
            return self._is_settled()

        wait_for(is_settled, timeout_s, "no job is left", self.describe)
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
        for path in sorted(self.logs.glob("*.log")):
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
                    roles=frozenset({role}), must_change=False, actor="test", now=now,
                )  # fmt: skip
            self.token, _ = docks.issue_token(
                session, agency, dock_no=DOCK_NO, device_no=None, life=None, actor="test", now=now
            )
        return self.token

    def agency(self) -> Agency:
        """The one agency."""
        with self.storage.database.read() as session:
            return agencies.agencies(session)[0]

    def sign_in(self, role: Role = Role.REVIEWER) -> httpx.Client:
        """A client of the API that one of the two people uses; to be closed."""
        asked = {"username": str(role), "password": PASSWORD}
        answer = httpx.post(
            f"{self.settings.api_url}/api/v1/sessions", json=asked, timeout=30, trust_env=False
        )
        headers = {"Authorization": f"Bearer {answer.raise_for_status().json()['token']}"}
        return httpx.Client(base_url=self.settings.api_url, headers=headers, timeout=30, trust_env=False)

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
                    uploader: Any = client.uploader(
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
