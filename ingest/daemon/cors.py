"""Letting pages of named origins upload from a browser (CORS); off unless origins are set.

1. An origin is on the list or gets nothing; there is no wildcard.
2. No credentials of the browser are asked for: a token is sent by the page, in its own header.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ingest.tus.protocol import Reply

METHODS = "POST, HEAD, PATCH, DELETE, PUT, GET, OPTIONS"
ACCEPTED = (
    "authorization, content-digest, content-type, repr-digest, tus-resumable, upload-checksum, "
    "upload-complete, upload-concat, upload-defer-length, upload-draft-interop-version, upload-length, "
    "upload-metadata, upload-offset, x-http-method-override, x-request-id, x-requested-with"
)
EXPOSED = (
    "liuhen-digest, liuhen-item, liuhen-may-erase, location, retry-after, tus-checksum-algorithm, "
    "tus-extension, tus-max-size, tus-resumable, tus-version, upload-complete, upload-concat, "
    "upload-defer-length, upload-draft-interop-version, upload-expires, upload-length, upload-limit, "
    "upload-metadata, upload-offset"
)
MAX_AGE_S = 600


class Origins:
    """The origins whose pages may upload."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def applied(self, reply: Reply, headers: Iterable[tuple[bytes, bytes]]) -> Reply:
        """The reply as the page of an allowed origin may read it; for any other the reply itself."""
        if not self._allowed:
            return reply
        reply = reply.with_headers({"Vary": "Origin"})
        asked = {name.lower(): value.decode("latin-1") for name, value in headers}
        origin = asked.get(b"origin")
        if origin not in self._allowed or origin is None:
            return reply
        return reply.with_headers({"Access-Control-Allow-Origin": origin, **self._granted(asked)})

    @staticmethod
    def _granted(asked: Mapping[bytes, str]) -> dict[str, str]:
        if b"access-control-request-method" not in asked:
            return {"Access-Control-Expose-Headers": EXPOSED}
        return {
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": ACCEPTED,
            "Access-Control-Max-Age": str(MAX_AGE_S),
        }
