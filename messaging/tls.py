"""Our side of TLS, for every listener that speaks it in Python."""

from __future__ import annotations

import ssl

from evidence.errors import Unavailable
from evidence.listening import Listener


def tls_of(listener: Listener) -> ssl.SSLContext | None:
    """A context of TLS 1.2 or newer with the listener's certificate; None where it has none.

    Raises:
        Unavailable: Certificate or key cannot be read (``listener_tls_unreadable``).
    """
    if not listener.tls_cert or not listener.tls_key:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nothing is resumed here. A sender that only writes, as lftp does on a data connection, never reads the
    # tickets, and its close with them unread becomes a reset that takes the last of the footage with it.
    context.num_tickets = 0
    try:
        context.load_cert_chain(listener.tls_cert, listener.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise Unavailable(
            f"{listener.name} listener: expected a certificate and its key, found {type(error).__name__}; "
            f"check {listener.name}.tls_cert and {listener.name}.tls_key",
            code="listener_tls_unreadable",
        ) from error
    return context
