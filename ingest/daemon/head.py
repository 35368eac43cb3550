"""What the head of a request may be, before anyone asks what it means."""

from __future__ import annotations

import httptools

from evidence.errors import InvalidInput
from ingest.daemon.exchange import Headers
from ingest.tus import protocol

MAX_HEAD_BYTES = 192 << 10
"""A final upload of a thousand parts names them all in one header."""
MAX_HEADERS = 128


def require_few(headers: Headers) -> None:
    """Raises InvalidInput (``head_too_large``) where there is no place for one more header."""
    if len(headers) >= MAX_HEADERS:
        raise InvalidInput(
            f"headers: expected at most {MAX_HEADERS}, found more; send fewer", code="head_too_large"
        )


def require_framing(headers: Headers, version: str) -> None:
    """Refuse what servers in a row could read differently.

    Args:
        headers: All of them.
        version: Of HTTP, as ``1.1``.

    Raises:
        InvalidInput: A body without a sure end, or not exactly one host (``bad_request``; RFC 9112,
            sections 3.2 and 6.1).
    """
    framings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if framings not in ([], [b"chunked"]) or (framings and version == "1.0"):
        raise InvalidInput(
            "Transfer-Encoding: expected chunked or none, found another; send a Content-Length",
            code="bad_request",
        )
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (not hosts and version != "1.0"):
        raise InvalidInput(f"Host: expected one header, found {hosts}", code="bad_request")


def length_of(headers: Headers) -> int | None:
    """How long the body is, where that was said; llhttp has seen that it was said once and in digits."""
    return next((int(value) for name, value in headers if name == b"content-length"), None)


class HeadSize:
    """How large a head has grown, and which of its lines is the longest."""

    def __init__(self) -> None:
        self.size_bytes = 0
        """Of headers that are whole."""
        self._unread_bytes = 0
        self._line = b""

    def add(self, name: bytes, value: bytes) -> None:
        """Count a header that is whole.

        Raises:
            InvalidInput: Too large: ``metadata_too_large`` where that is why, else ``head_too_large``.
        """
        self.size_bytes += len(name) + len(value) + 4
        if self.size_bytes > MAX_HEAD_BYTES:
            raise _too_large(name)

    def grow(self, data: memoryview) -> None:
        """Count bytes that did not end the head.

        Raises:
            InvalidInput: As `add`.
        """
        self._unread_bytes += len(data)
        if self._unread_bytes <= MAX_HEAD_BYTES:
            last = bytes(data).rpartition(b"\n")
            self._line = (last[2] if last[1] else self._line + last[2])[:64]
            return
        longest = max((self._line + bytes(data)).split(b"\n"), key=len)
        raise _too_large(longest.partition(b":")[0])


def _too_large(name: bytes) -> InvalidInput:
    if name.strip().lower() == b"upload-metadata":
        return InvalidInput(
            f"Upload-Metadata: expected at most {protocol.MAX_METADATA_BYTES} bytes, found more than "
            f"{MAX_HEAD_BYTES}; send less",
            code="metadata_too_large",
        )
    return InvalidInput(
        f"headers: expected at most {MAX_HEAD_BYTES} bytes, found more; send less", code="head_too_large"
    )


def path_of(target: bytes) -> bytes:
    """The path of a request target, also where a proxy's absolute form is sent (RFC 9112, section 3.2.2)."""
    if target[:1] in {b"/", b"*"}:
        return target
    try:
        return httptools.parse_url(target).path or b"/"
    except httptools.HttpParserInvalidURLError:
        return target
