"""`liuhen up` and `liuhen demo` as somebody types them: ready, at work, and no process left behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncssh
import psutil
import pytest

from cli.demo_setup import free_ports
from cli.main import main
from media.footage import make_clip
from tests.support.samples import REPOSITORY, models_dir, sample


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LIUHEN_")},
        "LIUHEN_DATA__FREE_FLOOR_BYTES": "0",
        "LIUHEN_REDACTION__MODELS_DIR": str(models_dir()),
        "LIUHEN_WORKER__PROCESSES": "1",
    }


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder; whoever still works on it at the end is ended."""
    yield tmp_path / "data"
    for process in working_on(tmp_path / "data"):
        process.kill()


def working_on(data: Path) -> list[psutil.Process]:
    """Processes that carry the folder in their settings or their command line."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline", "status"]):
        words = [*(process.info["environ"] or {}).values(), *(process.info["cmdline"] or [])]
        is_ours = process.pid != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE
        if is_ours and any(str(data) in word for word in words):
            found.append(process)
    return found


def test_up_founds_serves_refuses_a_second_and_ends_clean(
    data: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    api, ingest, media, sftp, ftp = free_ports(5)
    ports = ["--api-port", str(api), "--ingest-port", str(ingest), "--media-port", str(media)]
    pushed = {"sftp.enabled": True, "sftp.port": sftp, "ftp.enabled": True, "ftp.port": ftp}
    ports += [f"--set=ingest.{name}={value}" for name, value in {**pushed, "ftp.allow_plain": True}.items()]
    assert main(["keys", "host", "--data", str(data)]) == 6, "SFTP is off"
    assert "SFTP 未启用" in capsys.readouterr().err
    assert main(["keys", "host", "--data", str(data), "--set=ingest.sftp.enabled=true"]) == 6, "no key yet"
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "up", "--agency-code", "demo", "--data", str(data), *ports],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        text = "".join(lines)
        assert re.search(r"admin +(\w{5}-){3}\w{5}", text)
        assert f"http://127.0.0.1:{api}/" in text
        shown = asyncio.run(asyncssh.get_server_host_key("127.0.0.1", sftp))
        assert shown is not None
        assert f"sftp://127.0.0.1:{sftp}  {shown.get_fingerprint()}\n" in text
        assert f"ftp://127.0.0.1:{ftp}  无 TLS" in text
        capsys.readouterr()
        assert main(["keys", "host", "--data", str(data), *ports[-5:]]) == 0
        fingerprint, known, _ = capsys.readouterr().out.splitlines()
        assert fingerprint == shown.get_fingerprint()
        trusted = asyncssh.import_known_hosts(f"{known}\n").match("127.0.0.1", "", sftp)[0]
        assert [key.public_data for key in trusted] == [shown.public_data]
        assert main(["up", "--data", str(data)]) == 4
        assert len(working_on(data)) >= 7
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    assert time.monotonic() - started < 30
    assert working_on(data) == []
    assert main(["verify", "--data", str(data)]) == 0
    assert main(["check", "--data", str(data)]) == 0


def test_demo_takes_own_footage_to_a_redacted_clip(
    tmp_path: Path, data: Path, environment: dict[str, str]
) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    make_clip(
        footage / "face.mp4",
        seconds=2,
        fps=10,
        width_px=320,
        height_px=180,
        device_no="0000001",
        officer_no="330101",
        started_at=datetime.now(UTC),
        face=sample("astronaut.png"),
    )
    (footage / "empty.mp4").touch()
    words = ["demo", "--no-keep", "--footage", footage, "--data", data, "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *map(str, words)],
        capture_output=True,
        cwd=REPOSITORY,
        env=environment,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "帧数 / frames 20 (原 source 20)" in done.stdout
    assert "[empty]" in done.stdout
    (clip,) = (tmp_path / "out").iterdir()
    assert clip.name == "face-redacted.mp4"
    assert f"sha256 {hashlib.sha256(clip.read_bytes()).hexdigest()}" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("face.mp4")]
    masks = int(row.split()[-1])
    assert masks >= 1
    assert f"遮盖 / masks: {masks}\n" in done.stdout, "nothing is claimed of what is in a user's own files"
    assert "不含安装 / set-up not included" in done.stdout
    assert working_on(data) == []


def test_a_port_somebody_else_has_is_one_clear_line_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "cli.main",
            "up",
            "--data",
            str(tmp_path / "data"),
            "--api-port",
            str(port),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 6
    assert f"127.0.0.1:{port}" in done.stderr
    assert not (tmp_path / "data" / "liuhen.db").exists()
