"""The supervisor: starts what is asked for, starts again what dies, ends everything, leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cli.programs import says
from cli.supervise import Program, Supervisor
from cli.up import only_one
from evidence.errors import Conflict, Unavailable

STEADY = "import time; print('up', flush=True); time.sleep(600)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(600)
"""
TELLS_ITS_END = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
time.sleep(600)
"""


def program(name: str, code: str, *arguments: str, rank: int = 0, needs: str | None = None) -> Program:
    return Program(name, (sys.executable, "-c", code, *arguments), rank, says(b"up"), needs)


def wait_for(what: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killed_program_starts_again(tmp_path: Path) -> None:
    with Supervisor([program("one", STEADY)], logs=tmp_path / "logs") as supervisor:
        assert supervisor.wait_ready(20)
        first = supervisor.pids()["one"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: supervisor.pids().get("one", first) != first)
        assert supervisor.starts("one") == 2
        last = supervisor.pids()["one"]
    assert not is_alive(last)


def test_program_waits_for_the_one_it_needs(tmp_path: Path) -> None:
    late = "import time; time.sleep(0.7); print('up', flush=True); time.sleep(600)"
    programs = [program("needy", STEADY, needs="late"), program("late", late)]
    with Supervisor(programs, logs=tmp_path / "logs") as supervisor:
        wait_for(lambda: "late" in supervisor.pids())
        assert "needy" not in supervisor.pids()
        assert supervisor.wait_ready(20)


def test_programs_end_in_order_of_rank(tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    programs = [
        program(name, TELLS_ITS_END, str(ends), name, rank=rank)
        for name, rank in (("broker", 0), ("relay", 1), ("listener", 2))
    ]
    with Supervisor(programs, logs=tmp_path / "logs") as supervisor:
        supervisor.wait_ready(20)
    assert ends.read_text().split() == ["listener", "relay", "broker"]


def test_program_deaf_to_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    supervisor = Supervisor([program("deaf", DEAF)], logs=tmp_path / "logs", grace_s=0.5)
    with supervisor:
        supervisor.wait_ready(20)
        pid = supervisor.pids()["deaf"]
    assert not is_alive(pid)


def test_program_that_cannot_start_is_one_clear_error(tmp_path: Path) -> None:
    broken = program("broken", "raise SystemExit('the port is taken')")
    with (
        Supervisor([broken], logs=tmp_path / "logs") as supervisor,
        pytest.raises(Unavailable, match="broken: expected it ready, found it ended: the port is taken"),
    ):
        supervisor.wait_ready(20)


def test_nothing_outlives_a_supervisor_killed_with_9(tmp_path: Path) -> None:
    """Its death takes every program along, and what those have below them that asked for the same."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.integration.test_cli_supervise import DEAF, program\n"
        "from cli.supervise import Supervisor\n"
        "supervisor = Supervisor([program('one', DEAF), program('two', DEAF)], logs=Path(sys.argv[1]))\n"
        "supervisor.start()\n"
        "supervisor.wait_ready(20)\n"
        "print(*supervisor.pids().values(), flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "logs")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_second_supervisor_over_a_data_folder_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(Conflict, match="one running"), only_one(tmp_path):
        pytest.fail("the lock was given twice")
    with only_one(tmp_path):
        pass


def test_log_that_grew_too_long_is_kept_once_and_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.supervise.LOG_BYTES", 1000)
    monkeypatch.setattr("cli.supervise.LOG_EVERY_S", 0.1)
    log, go = tmp_path / "logs" / "chatty.log", tmp_path / "go"
    kept = log.with_suffix(".log.1")
    chatty = (
        "import pathlib, time\n"
        "def wait_for(path):\n"
        "    while not pathlib.Path(path).exists(): time.sleep(0.05)\n"
        "print('up', flush=True)\n"
        f"wait_for({str(go)!r})\n"
        "print('up' * 1000, flush=True)\n"
        f"wait_for({str(kept)!r})\n"
        "time.sleep(1)\n"
        "print('more', flush=True)\n"
        "time.sleep(600)"
    )
    with Supervisor([program("chatty", chatty)], logs=tmp_path / "logs") as supervisor:
        supervisor.wait_ready(20)
        go.touch()
        wait_for(lambda: log.read_bytes() == b"more\n")
    assert kept.read_text().startswith("up")


def test_a_disk_that_is_full_ends_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cli.supervise.LOG_BYTES", 1)
    monkeypatch.setattr("cli.supervise.LOG_EVERY_S", 0.1)
    monkeypatch.setattr("cli.supervise.shutil.copyfile", full)
    with Supervisor([program("one", STEADY)], logs=tmp_path / "logs") as supervisor:
        assert supervisor.wait_ready(20)
        pid = supervisor.pids()["one"]
        log = tmp_path / "logs" / "one.log"
        wait_for(lambda: log.stat().st_size == 0)
        time.sleep(0.5)
        assert supervisor.pids() == {"one": pid}
    assert not (tmp_path / "logs" / "one.log.1").exists()


def test_a_supervisor_that_ends_by_itself_is_an_error_not_a_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    with Supervisor([program("one", STEADY)], logs=tmp_path / "logs") as supervisor:
        assert supervisor.wait_ready(20)
        supervisor.kill()
        with pytest.raises(Unavailable, match="supervisor"):
            supervisor.watch(stop)
