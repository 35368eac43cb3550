"""The API and the media listener as processes: one clear line when they may not start, quiet at the end."""

from __future__ import annotations

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

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
    assert "make a new one with `liuhen init --agency-code CODE`" in done.stderr
    assert "Traceback" not in done.stderr


def answer(url: str, process: subprocess.Popen[str], verify: ssl.SSLContext | bool = True) -> int:
    """The status of the first answer."""
    for _ in range(300):
        assert process.poll() is None
        try:
            return httpx.get(url, trust_env=False, verify=verify).status_code
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(url)


@contextmanager
def serving(
    module: str, environment: dict[str, str], heard: list[str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The program, until SIGTERM; it ends by itself and, unless it is `heard`, without a word too many."""
    command = [sys.executable, "-m", module]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        _, words = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    if heard is None:
        assert "Traceback" not in words
    else:
        heard.append(words)
    assert "panicked" not in words


@pytest.mark.parametrize(
    ("module", "group", "place"),
    [("api.app", "API", "api/v1/playlists/{}/index.m3u8"), ("api.listener", "MEDIA", "m/{}/rung.mp4")],
)
def test_it_serves_tells_no_address_when_it_crashes_and_stops_when_told(
    tmp_path: Path, module: str, group: str, place: str
) -> None:
    environment = variables(tmp_path)
    keys = found(load_settings(environment), AGENCY).keys
    # What the last process encoded for live view, decoded originals, is cleared away by the API alone.
    old = tmp_path / "data" / "scratch" / "live" / "agency" / "R-1" / "main" / f"{1:032x}"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    # So is what it was killed over while somebody looked at a plan.
    looked_at = tmp_path / "data" / "scratch" / "previews" / "1-old" / "piece"
    looked_at.parent.mkdir(parents=True)
    looked_at.write_bytes(b"footage in clear")
    # Signed here, for a use nobody knows: what no request should bring.
    claim = b"?" + bytes(32) + (1 << 52).to_bytes(8, "big")
    key_id, tag = keys.mac(claim)
    signed = claim + bytes.fromhex(key_id.removeprefix("grant-")) + tag
    token = base64.urlsafe_b64encode(signed).rstrip(b"=").decode("ascii")
    base = f"http://127.0.0.1:{environment[f'LIUHEN_{group}__PORT']}"
    heard: list[str] = []
    with serving(module, environment, heard) as process:
        assert answer(f"{base}/readyz", process) == 200
        assert answer(f"{base}/{place.format(token)}", process) == 500
        deadline = time.monotonic() + 20
        while old.exists() == (group == "API"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert looked_at.exists() == (group != "API")
    assert "Traceback" in heard[0]
    assert token[:40] not in heard[0]
    assert token[-43:] not in heard[0]
    # One line each, none of them of a request: there is no log of accesses.
    said = [json.loads(line)["event"] for line in heard[0].splitlines()]
    assert sum("crashed" in event for event in said) == 1
    assert len(said) == 2 + said.count("previews_cleared")


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    cert_path.write_bytes(made.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert_path, key_path


@pytest.mark.parametrize(("module", "group"), [("api.app", "API"), ("api.listener", "MEDIA")])
def test_with_a_certificate_it_serves_every_address_of_the_machine(
    tmp_path: Path, module: str, group: str
) -> None:
    cert_path, key_path = certificate(tmp_path)
    more = {"HOST": "0.0.0.0", "TLS_CERT": str(cert_path), "TLS_KEY": str(key_path)}  # noqa: S104
    environment = variables(tmp_path, **{f"LIUHEN_{group}__{name}": value for name, value in more.items()})
    found(load_settings(environment), AGENCY)
    trusted = ssl.create_default_context(cafile=str(cert_path))
    url = f"https://127.0.0.1:{environment[f'LIUHEN_{group}__PORT']}/readyz"
    with serving(module, environment) as process:
        assert answer(url, process, verify=trusted) == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"), trust_env=False)
