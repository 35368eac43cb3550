"""On which lines passwords, tokens and footage may pass: the rule alone, without a socket."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from evidence.errors import InvalidInput


@dataclass(frozen=True)
class Listener:
    """Where to listen, and who keeps the line private."""

    name: str
    """The group of settings that describes it."""
    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False

    def require_private(self) -> None:
        """Refuse to pass passwords, tokens and footage over a line others can read.

        Raises:
            InvalidInput: Not on loopback, without TLS or a declared proxy (``listener_not_private``),
                or a certificate without its key (``listener_tls_incomplete``).
        """
        if bool(self.tls_cert) != bool(self.tls_key):
            raise InvalidInput(
                f"{self.name} listener: expected certificate and key, found one of them; set both",
                code="listener_tls_incomplete",
            )
        if not (self.tls_cert or self.behind_proxy or is_loopback(self.host)):
            raise InvalidInput(
                f"{self.name} listener {self.host}: expected TLS or a declared proxy off loopback, found "
                f"neither; set {self.name}.tls_cert and {self.name}.tls_key, or {self.name}.behind_proxy",
                code="listener_not_private",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
