"""A child that meets hostile bytes cannot hang, leak, linger or look around."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evidence.errors import Conflict, InvalidInput, MediaError
from media import sandbox
from media.sandbox import Limits

HERE = "tests.unit.media.entries:"
QUICK = Limits(cpu_s=10, memory_bytes=1 << 30, wall_s=20, stall_s=10, file_size_bytes=1 << 20)


def call(name: str, scratch: Path, limits: Limits = QUICK, **request: object) -> dict[str, object]:
    return sandbox.call(HERE + name, request, limits=limits, scratch=scratch)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that its new parent has not reaped yet is dead.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition: object, timeout_s: float = 10.0) -> bool:
    assert callable(condition)
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_result_and_progress_come_back(tmp_path: Path) -> None:
    heard: list[float] = []
    result = sandbox.call(
        HERE + "echo", {"name": "执法.mp4"}, limits=QUICK, on_progress=heard.append, scratch=tmp_path
    )
    assert result["got"] == {"name": "执法.mp4"}
    assert heard == [0.5]
    assert result["nice"] == min(19, os.nice(0) + 10)


def test_work_somebody_waits_for_does_not_step_back(tmp_path: Path) -> None:
    assert call("echo", tmp_path, replace(QUICK, niceness=0))["nice"] == os.nice(0)


def test_secrets_of_the_parent_are_not_in_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIUHEN_SIGNING_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment = call("echo", tmp_path)["environment"]
    assert isinstance(environment, dict)
    assert "secret" not in environment.values()
    assert environment["HOME"] == str(tmp_path)


def test_a_result_of_many_megabytes_arrives_whole(tmp_path: Path) -> None:
    text = call("large", tmp_path, characters=8_000_000)["text"]
    assert isinstance(text, str)
    assert len(text) == 8_000_000


def test_segmentation_fault_is_a_crashed_decoder(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        call("segfault", tmp_path)
    assert caught.value.code == "decoder_crashed"
    assert caught.value.returncode == -signal.SIGSEGV


def test_unexpected_exception_is_a_crashed_decoder_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="a bug of ours") as caught:
        call("bug", tmp_path)
    assert caught.value.code == "decoder_crashed"
    assert "ZeroDivisionError" in str(caught.value.stderr_tail)


def test_deliberate_errors_keep_kind_code_and_facts(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as refused:
        call("refuse", tmp_path)
    assert (refused.value.code, refused.value.stream) == ("encrypted", 1)
    with pytest.raises(InvalidInput) as invalid:
        call("refuse_input", tmp_path)
    assert invalid.value.code == "span_empty"


def test_child_without_progress_is_killed_as_hung(tmp_path: Path) -> None:
    limits = Limits(cpu_s=10, memory_bytes=1 << 30, wall_s=20, stall_s=1.0, file_size_bytes=1 << 20)
    with pytest.raises(MediaError) as caught:
        call("sleep", tmp_path, limits, pid_file=str(tmp_path / "pid"))
    assert caught.value.code == "decoder_hung"
    assert not alive(int((tmp_path / "pid").read_text()))


def test_progress_does_not_save_a_child_from_its_wall_limit(tmp_path: Path) -> None:
    limits = Limits(cpu_s=10, memory_bytes=1 << 30, wall_s=1.0, stall_s=5, file_size_bytes=1 << 20)
    with pytest.raises(MediaError) as caught:
        call("keep_talking", tmp_path, limits)
    assert caught.value.code == "decoder_over_time"


def test_cpu_limit_is_told_from_a_crash(tmp_path: Path) -> None:
    limits = Limits(cpu_s=1, memory_bytes=1 << 30, wall_s=20, stall_s=20, file_size_bytes=1 << 20)
    with pytest.raises(MediaError) as caught:
        call("spin", tmp_path, limits)
    assert caught.value.code == "decoder_over_time"


def test_memory_limit_holds(tmp_path: Path) -> None:
    with pytest.raises(MediaError) as caught:
        call("eat_memory", tmp_path)
    assert caught.value.code == "decoder_over_memory"


def test_decoders_and_detectors_load_inside_the_limits(tmp_path: Path) -> None:
    assert call("import_the_heavy", tmp_path)["product"] == 1024.0


def test_file_size_limit_holds(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        call("eat_disk", tmp_path)
    assert (tmp_path / "big").stat().st_size <= QUICK.file_size_bytes


def test_cancelled_child_is_dead_when_the_call_returns(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(Conflict) as caught:
        sandbox.call(
            HERE + "sleep",
            {"pid_file": str(pid_file)},
            limits=QUICK,
            cancelled=lambda: pid_file.exists() and pid_file.read_text() != "",
            scratch=tmp_path,
        )
    assert caught.value.code == "cancelled"
    assert not alive(int(pid_file.read_text()))


def test_grandchildren_die_with_the_child(tmp_path: Path) -> None:
    grandchild = call("leave_a_grandchild", tmp_path, pid_file=str(tmp_path / "pid"))["grandchild"]
    assert isinstance(grandchild, int)
    assert wait_for(lambda: not alive(grandchild))


@pytest.mark.parametrize("entry", ["sleep", "supervise_sleep"])
def test_nothing_outlives_a_parent_that_is_killed(tmp_path: Path, entry: str) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "from pathlib import Path; from media import sandbox\n"
        f"sandbox.call({HERE + entry!r}, {{'pid_file': {str(pid_file)!r}}}, limits=sandbox.Limits(),"
        f" scratch=Path({str(tmp_path)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert wait_for(lambda: not alive(pid))


def test_child_of_a_parent_already_gone_does_not_start(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", str(sandbox.CHILD), "call", "1", QUICK.for_child(), HERE + "echo"]
    ended = subprocess.run(argv, input=b"{}", capture_output=True, check=False)
    assert ended.returncode == 120
    assert ended.stdout == b""
