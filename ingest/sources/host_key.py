"""The host key of our own SFTP listener: the agency's, or one made in the data folder for loopback."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import asyncssh

from config.settings import SftpSettings
from evidence.errors import Unavailable

EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - only told apart


def path_of(sftp: SftpSettings, data_dir: Path) -> Path:
    """Where the private key is, or will be once the listener has started."""
    return sftp.host_key or data_dir / "pushed" / "ssh_host_ed25519_key"


def read(path: Path) -> asyncssh.SSHKey:
    """The private key.

    Raises:
        Unavailable: There is none yet, or it cannot be read (``listener_key_unreadable``).
    """
    try:
        return asyncssh.read_private_key(str(path))
    except (OSError, asyncssh.KeyImportError) as error:
        raise Unavailable(
            f"ingest.sftp listener: expected a host key without passphrase in {path}, found "
            f"{type(error).__name__}; where ingest.sftp.host_key is not set, the first start makes one",
            code="listener_key_unreadable",
        ) from error


def fingerprint(key: asyncssh.SSHKey) -> str:
    """As `ssh` prints it when it asks whether to go on: ``SHA256:…``."""
    return str(key.get_fingerprint("sha256"))


def known_host(key: asyncssh.SSHKey, host: str, port: int) -> str:
    """The line of a dock's `known_hosts` that lets it connect without asking, by the name docks use."""
    algorithm, public = key.export_public_key().decode("ascii").split()[:2]
    name = socket.gethostname() if host in EVERY_ADDRESS else host
    return f"{name if port == 22 else f'[{name}]:{port}'} {algorithm} {public}"


def make(path: Path) -> None:
    """Make a key: whole or not at all, and never readable to others, not even for a moment."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = asyncssh.generate_private_key("ssh-ed25519")
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_bytes(made.export_private_key())
    with new.open("rb") as written:
        os.fsync(written.fileno())
    new.replace(path)
