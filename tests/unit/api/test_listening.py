"""Neither listener passes passwords or footage over a line that others can read."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from evidence.errors import InvalidInput, Unavailable
from evidence.listening import Listener, is_loopback
from messaging.sockets import require_free


def listener(host: str, **more: object) -> Listener:
    given = {"tls_cert": None, "tls_key": None, "behind_proxy": False, **more}
    return Listener("api", host, 8600, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])  # noqa: S104 - never bound
def test_off_loopback_needs_tls_or_a_declared_proxy(host: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        listener(host).require_private()
    assert refused.value.code == "listener_not_private"
    assert "\n" not in refused.value.message
    assert "api.behind_proxy" in refused.value.message
    listener(host, behind_proxy=True).require_private()
    listener(host, tls_cert=Path("cert.pem"), tls_key=Path("key.pem")).require_private()


def test_a_certificate_without_its_key_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        listener("127.0.0.1", tls_cert=Path("cert.pem")).require_private()
    assert refused.value.code == "listener_tls_incomplete"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    assert is_loopback(host)
    listener(host).require_private()


def test_a_port_somebody_listens_on_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as refused:
            require_free(Listener("media", "127.0.0.1", port))
    assert refused.value.code == "port_in_use"
