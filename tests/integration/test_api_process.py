"""The API and the media listener as processes: one clear line when they may not start, quiet at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from config.load import load_settings
from storage.open import found
from tests.support.installations import AGENCY
from tests.support.scene import free_port


def variables(folder: Path, **more: str) -> dict[str, str]:
    (folder / "empty.toml").touch()
    given = {"LIUHEN_CONFIG": str(folder / "empty.toml"), "LIUHEN_DATA__DIR": str(folder / "data"),
             "LIUHEN_DATA__FREE_FLOOR_BYTES": "0", "LIUHEN_API__PORT": str(free_port()),
             "LIUHEN_MEDIA__PORT": str(free_port()), **more}  # fmt: skip
    return {**os.environ, **given}


def run(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "cli.main", command]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["api", "media"])
def test_off_loopback_without_tls_it_does_not_start(tmp_path: Path, command: str) -> None:
    environment = variables(tmp_path, LIUHEN_API__HOST="0.0.0.0", LIUHEN_MEDIA__HOST="0.0.0.0")  # noqa: S104
    found(load_settings(environment), AGENCY)
    done = run(command, environment)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "expected TLS or a declared proxy off loopback" in line


def test_without_an_installation_it_says_so(tmp_path: Path) -> None:
    done = run("api", variables(tmp_path))
    assert done.returncode == 6
    assert "run `liuhen init`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("module", "group"), [("api.app", "API"), ("api.listener", "MEDIA")])
def test_it_serves_and_stops_when_told(tmp_path: Path, module: str, group: str) -> None:
    environment = variables(tmp_path)
    found(load_settings(environment), AGENCY)
    url = f"http://127.0.0.1:{environment[f'LIUHEN_{group}__PORT']}/readyz"
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(300):
            try:
                assert httpx.get(url, trust_env=False).status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, words = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "Traceback" not in words
    assert "panicked" not in words
