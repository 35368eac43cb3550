"""The configuration: one TOML file; the token apart from it, in a file or the environment.

Every fault is told at once, with the name of the setting. Nothing secret has a default, and
the token is never a value in the configuration, so that the file can be shown to anyone.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, tzinfo
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from liuhen_dock.errors import ConfigError
from liuhen_dock.mounts import Slot
from liuhen_dock.pace import Hours
from liuhen_dock.profiles import Profile, chosen, load_profiles
from liuhen_dock.receipts import KEY_BYTES, parse_key

TOKEN_VARIABLE = "LIUHEN_DOCK_TOKEN"  # noqa: S105 - the name of a variable
CONFIG_VARIABLE = "LIUHEN_DOCK_CONFIG"
DEFAULT_PORT = 8484
DEFAULT_PROFILES = ("underscore_v1", "zfy_dump")


def default_path() -> Path:
    """Where the configuration is looked for when nobody says."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "liuhen-dock" / "dock.toml"
    return Path("/etc/liuhen-dock/dock.toml")


@dataclass(frozen=True)
class Config:
    """Everything the agent is told."""

    path: Path
    server_url: str
    """Base address of the upload listener, without a slash at its end."""
    token_file: Path | None
    receipt_keys: tuple[Ed25519PublicKey, ...]
    state_dir: Path
    profiles: tuple[Profile, ...]
    all_profiles: Mapping[str, Profile]
    mount_roots: tuple[Path, ...]
    slots: tuple[Slot, ...] = ()
    hours: tuple[Hours, ...] = ()
    ca_file: Path | None = None
    other_hosts: tuple[str, ...] = ()
    """Further hosts the server may place an upload on; the token goes to no other."""
    zone: tzinfo | None = None
    """Of the hours and of what people see; None is the machine's."""
    free_after_receipt: bool = False
    set_clock: bool = True
    poll_s: float = 2.0
    max_cameras: int = 25
    parallel_pieces: int = 4
    request_bytes: int = 8 << 20
    timeout_s: float = 30.0
    page_port: int = DEFAULT_PORT
    """0 turns the page off."""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment, for the token."""


def load_config(path: Path, environment: Mapping[str, str], *, needs_token: bool = False) -> Config:
    """Read the configuration.

    Args:
        needs_token: Also require a token that can be used, as whoever speaks to the server does.

    Raises:
        ConfigError: One line per fault.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: expected the configuration, found no file; write it there or name it with --config",
            code="config_missing",
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", code="config_missing") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected TOML in UTF-8: {error}") from error
    reader = _Reader(raw, path.parent.absolute())
    config = _build(reader, path, environment)
    if needs_token:
        try:
            read_token(config)
        except ConfigError as error:
            reader.faults.append(error.message)
    reader.finish(path)
    return config


def read_token(config: Config) -> str:
    """The upload token, from the environment or its file.

    Raises:
        ConfigError: Missing, readable by others, or no token.
    """
    token = config.variables.get(TOKEN_VARIABLE, "").strip()
    if not token:
        if config.token_file is None:
            raise ConfigError(
                f"token: expected server.token_file or {TOKEN_VARIABLE}, found neither", code="token_missing"
            )
        try:
            mode = config.token_file.stat().st_mode
            token = config.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"token {config.token_file}: {error}", code="token_missing") from error
        if sys.platform != "win32" and mode & 0o077:
            raise ConfigError(
                f"token {config.token_file}: expected mode 0600, found {mode & 0o777:04o}; "
                f"chmod 600 {config.token_file}",
                code="token_open",
            )
    if not re.fullmatch(r"[\x21-\x7e]{8,512}", token):
        raise ConfigError("token: expected one line of printable ASCII, found something else",
                          code="token_missing")  # fmt: skip
    return token


class _Reader:
    """Takes settings out of the tables one by one; what is left over is a fault, too."""

    def __init__(self, raw: Mapping[str, Any], folder: Path) -> None:
        self._raw = {name: dict(value) if isinstance(value, dict) else value for name, value in raw.items()}
        self.folder = folder
        self.faults: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        value = self._take(name, str)
        return default if value is None else str(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._take(name, bool)
        return default if value is None else bool(value)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """A number within bounds."""
        value = self._take(name, (int, float))
        if value is None:
            return default
        if isinstance(value, bool) or not least <= value <= most:
            self.fault(name, f"expected a number from {least:g} to {most:g}, found {value!r}")
            return default
        return float(value)

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts."""
        value = self._take(name, list)
        if value is None:
            return default
        if not all(isinstance(each, str) for each in value):
            self.fault(name, "expected a list of texts")
            return default
        return tuple(value)

    def file(self, name: str) -> Path | None:
        """A path, from the folder of the configuration."""
        text = self.text(name)
        return self.folder / text if text else None

    def rows(self, name: str) -> list[tuple[str, _Reader]]:
        """A list of tables."""
        rows = self._raw.pop(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.fault(name, f"expected [[{name}]]")
            return []
        return [
            (f"{name} {number}", self._row(row, f"{name} {number}")) for number, row in enumerate(rows, 1)
        ]

    def _row(self, row: Mapping[str, Any], name: str) -> _Reader:
        reader = _Reader({name: row}, self.folder)
        reader.faults = self.faults
        return reader

    def fault(self, name: str, what: str) -> None:
        """Note what is wrong."""
        self.faults.append(f"{name}: {what}")

    def leftovers(self) -> None:
        """Note what nobody asked for."""
        for table, value in self._raw.items():
            names = [f"{table}.{name}" for name in value] if isinstance(value, dict) else [table]
            for name in names:
                self.fault(name, "is unknown")

    def finish(self, path: Path) -> None:
        """Raise if anything is wrong."""
        self.leftovers()
        if self.faults:
            raise ConfigError("\n".join(f"{path}: {fault}" for fault in self.faults))

    def _take(self, name: str, kind: type | tuple[type, ...]) -> Any:
        table, _, setting = name.rpartition(".")
        values = self._raw.get(table, {})
        if not isinstance(values, dict):
            return None
        value = values.pop(setting, None)
        if value is None or isinstance(value, kind):
            return value
        words = {str: "a text", bool: "true or false", list: "a list", (int, float): "a number"}
        self.fault(name, f"expected {words[kind]}, found {value!r}")
        return None


def _build(reader: _Reader, path: Path, environment: Mapping[str, str]) -> Config:
    url = _server_url(reader)
    keys = _receipt_keys(reader)
    profiles, every = _profiles(reader)
    state = reader.file("dock.state_dir")
    if state is None:
        reader.fault("dock.state_dir", "expected a folder for journal and receipts, found none")
    return Config(
        path=path,
        server_url=url,
        token_file=reader.file("server.token_file"),
        receipt_keys=keys,
        ca_file=_ca_file(reader),
        other_hosts=_other_hosts(reader),
        state_dir=state or Path(),
        zone=_zone(reader),
        free_after_receipt=reader.flag("dock.free_after_receipt", False),
        set_clock=reader.flag("dock.set_clock", True),
        profiles=profiles,
        all_profiles=every,
        mount_roots=tuple(
            reader.folder / root
            for root in reader.texts("watch.mount_roots", ("/media", "/run/media", "/mnt"))
        ),
        slots=_slots(reader, every),
        poll_s=reader.number("watch.poll_s", 2.0, 0.05, 60),
        max_cameras=int(reader.number("upload.max_cameras", 25, 1, 200)),
        parallel_pieces=int(reader.number("upload.parallel_pieces", 4, 1, 64)),
        request_bytes=int(reader.number("upload.request_mib", 8, 1, 1024)) << 20,
        timeout_s=reader.number("upload.timeout_s", 30, 1, 600),
        hours=_hours(reader),
        page_port=int(reader.number("page.port", DEFAULT_PORT, 0, 65535)),
        variables=environment,
    )


def _server_url(reader: _Reader) -> str:
    url = reader.text("server.url").rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        reader.fault("server.url", f"expected https://host[:port], found {url!r}")
        return url
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        reader.fault("server.url", f"expected https://host[:port], found {url!r}")
    elif parts.scheme == "http" and not _is_loopback(parts.hostname):
        reader.fault(
            "server.url", "expected https: a token would travel in the open; http is for 127.0.0.1 alone"
        )
    return url


def _other_hosts(reader: _Reader) -> tuple[str, ...]:
    hosts = reader.texts("server.other_hosts")
    for host in hosts:
        if not re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?", host):
            reader.fault("server.other_hosts", f"expected https://host[:port], found {host!r}")
    return hosts


def _ca_file(reader: _Reader) -> Path | None:
    path = reader.file("server.ca_file")
    if path is not None:
        try:
            ssl.create_default_context(cafile=str(path))
        except OSError as error:
            reader.fault("server.ca_file", f"expected certificates in PEM, found: {error.strerror or error}")
    return path


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _receipt_keys(reader: _Reader) -> tuple[Ed25519PublicKey, ...]:
    given = reader.texts("server.receipt_keys")
    if not given:
        reader.fault(
            "server.receipt_keys",
            "expected the public key receipts are signed with: `liuhen keys export receipt`",
        )
    keys = []
    for each in given:
        try:
            keys.append(
                parse_key(each if _is_base64_key(each) else (reader.folder / each).read_text("utf-8"))
            )
        except (OSError, UnicodeDecodeError) as error:
            reader.fault("server.receipt_keys", f"{each}: {error}")
        except ConfigError as error:
            reader.fault("server.receipt_keys", error.message)
    return tuple(keys)


def _is_base64_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) in KEY_BYTES
    except ValueError:
        return False


def _profiles(reader: _Reader) -> tuple[tuple[Profile, ...], dict[str, Profile]]:
    folder, names = reader.file("watch.profiles_dir"), reader.texts("watch.profiles", DEFAULT_PROFILES)
    try:
        every = load_profiles(folder)
    except ConfigError as error:
        # Which of the names are known cannot be said without them.
        reader.fault("watch.profiles_dir", error.message)
        return (), {}
    try:
        return tuple(chosen(every, names)), every
    except ConfigError as error:
        reader.fault("watch.profiles", error.message)
        return (), every


def _zone(reader: _Reader) -> tzinfo | None:
    name = reader.text("dock.timezone")
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        reader.fault("dock.timezone", f"expected a name such as Asia/Shanghai, found {name!r}")
        return None


def _slots(reader: _Reader, profiles: Mapping[str, Profile]) -> tuple[Slot, ...]:
    found = []
    for name, row in reader.rows("slot"):
        folder = row.file(f"{name}.folder")
        profile = row.text(f"{name}.profile") or None
        device_no = row.text(f"{name}.device_no") or None
        row.leftovers()
        if folder is None:
            reader.fault(f"{name}.folder", "expected a path, found none")
        elif profile is not None and profiles and profile not in profiles:
            reader.fault(
                f"{name}.profile", f"expected one of {', '.join(sorted(profiles))}, found {profile!r}"
            )
        else:
            found.append(Slot(folder, profile, device_no))
    return tuple(found)


def _hours(reader: _Reader) -> tuple[Hours, ...]:
    found = []
    for name, row in reader.rows("rate"):
        text = row.text(f"{name}.hours")
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]|24):([0-5]\d)", text)
        mbit = row.number(f"{name}.limit_mbit_s", -1, 0, 100_000)
        row.leftovers()
        if match is None:
            reader.fault(f"{name}.hours", f"expected HH:MM-HH:MM, found {text!r}")
        elif mbit < 0:
            reader.fault(f"{name}.limit_mbit_s", "expected megabits a second, 0 for a pause")
        else:
            since, until = time(int(match[1]), int(match[2])), time(int(match[3]) % 24, int(match[4]))
            # A limit too small to measure is still no pause.
            found.append(Hours(since, until, max(1, round(mbit * 125_000)) if mbit else 0))
    return tuple(found)
