"""Looking at a port before a server takes it."""

from __future__ import annotations

import socket

from evidence.errors import Unavailable
from evidence.listening import Listener


def require_free(listener: Listener) -> None:
    """Refuse a port someone listens on: granian would share it with them without a word.

    Raises:
        Unavailable: Code ``port_in_use``.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.host, listener.port))
        except OSError as error:
            raise Unavailable(
                f"{listener.name} listener {listener.host}:{listener.port}: expected a free port, "
                f"found {error.strerror}",
                code="port_in_use",
            ) from error


def listen(listener: Listener, backlog: int) -> socket.socket:
    """A socket that does not block and takes connections.

    Raises:
        Unavailable: Code ``port_in_use``.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    try:
        door = socket.create_server((listener.host, listener.port), family=family, backlog=backlog)
    except OSError as error:
        raise Unavailable(
            f"{listener.name} listener {listener.host}:{listener.port}: expected a free port, "
            f"found {error.strerror}",
            code="port_in_use",
        ) from error
    door.setblocking(False)
    return door
