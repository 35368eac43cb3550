"""Our side of TLS, for every listener of the daemon."""

from __future__ import annotations

import ssl
from pathlib import Path

from evidence.errors import Unavailable


def server_tls(listener: str, cert: Path, key: Path) -> ssl.SSLContext:
    """A context of TLS 1.2 or newer.

    Args:
        listener: The group of settings that names the files, for the message.
        cert: The certificate and those above it, PEM.
        key: Its private key, PEM.

    Raises:
        Unavailable: Certificate or key cannot be read (``listener_tls_unreadable``).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nothing is resumed here. A sender that only writes, as lftp does on a data connection, never reads the
    # tickets, and its close with them unread becomes a reset that takes the last of the footage with it.
    context.num_tickets = 0
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(
            f"{listener} listener: expected a certificate and its key, found {type(error).__name__}; "
            f"check {listener}.tls_cert and {listener}.tls_key",
            code="listener_tls_unreadable",
        ) from error
    return context
