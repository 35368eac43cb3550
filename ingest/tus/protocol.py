"""The rules of tus 1.0.0, as far as we keep them: headers in, decisions out, no I/O.

Core, creation with its extensions, checksum, concatenation, expiration and termination. What
differs from other servers, on purpose:

1. Metadata is bounded as a whole, and a header that comes twice is refused, never guessed at.
2. A PATCH with a checksum counts as a whole or not at all, also when it is cut off.
3. Parts are joined once all of them are whole (no concatenation-unfinished), each into one final
   upload only, and its bytes are compared with what arrived.
4. Each refusal is a problem detail (RFC 9457) with one line that says what to do.

Source: https://tus.io/protocols/resumable-upload, version 1.0.0.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime

from evidence.errors import (
    Conflict,
    EvidenceError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Unavailable,
)
from ingest.tus.checksums import CHECKSUM_ALGORITHMS

VERSION = "1.0.0"
EXTENSIONS = (
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "checksum",
    "concatenation",
    "expiration",
    "termination",
)
OFFSET_OCTETS = "application/offset+octet-stream"
MAX_METADATA_BYTES = 8192
"""Of the whole ``Upload-Metadata`` header, still in base64."""
MAX_METADATA_KEYS = 64
MAX_PARTS = 1000
"""Of one final upload."""
RETRY_AFTER_S = 5

_DIGITS = re.compile(r"[0-9]{1,18}")
_METADATA_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_PART = re.compile(r"(?:https?://[^/\s]+)?/(?:[^\s?#]*/)?uploads/([^/\s?#]+)")
_SINGLE = frozenset(
    {
        "authorization",
        "content-digest",
        "content-length",
        "content-type",
        "repr-digest",
        "tus-resumable",
        "upload-checksum",
        "upload-complete",
        "upload-concat",
        "upload-defer-length",
        "upload-draft-interop-version",
        "upload-length",
        "upload-metadata",
        "upload-offset",
        "x-http-method-override",
    }
)


@dataclass(frozen=True)
class Reply:
    """A response as data."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def with_headers(self, more: Mapping[str, str]) -> Reply:
        """The same reply with more headers."""
        return Reply(self.status, {**self.headers, **more}, self.body)


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Request headers by lower-case name; of those nobody here reads twice, the last one counts.

    Raises:
        InvalidInput: A header that steers an upload came twice or is not ASCII.
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = raw_name.decode("latin-1").lower()
        if name in _SINGLE:
            if name in headers:
                raise InvalidInput(f"{name}: expected one header, found two", code="duplicate_header")
            if not raw_value.isascii():
                raise InvalidInput(f"{name}: expected ASCII, found other bytes", code="bad_header")
        headers[name] = raw_value.decode("latin-1").strip()
    return headers


def require_version(headers: Mapping[str, str]) -> None:
    """Each request but OPTIONS says which version it speaks.

    Raises:
        InvalidInput: Code ``tus_version``, answered with 412.
    """
    found = headers.get("tus-resumable")
    if found != VERSION:
        raise InvalidInput(f"Tus-Resumable: expected {VERSION}, found {_shown(found)}", code="tus_version")


def upload_length(headers: Mapping[str, str], max_bytes: int) -> int | None:
    """The size of the file to come; None when it is told later.

    Raises:
        InvalidInput: Missing, no number, said and deferred at once, or larger than is
            taken (``upload_too_large``).
    """
    if "upload-defer-length" in headers:
        if headers["upload-defer-length"] != "1" or "upload-length" in headers:
            raise InvalidInput(
                "Upload-Defer-Length: expected 1 and no Upload-Length beside it, found something else",
                code="bad_header",
            )
        return None
    return require_size(_number(headers, "upload-length"), max_bytes)


def later_length(headers: Mapping[str, str]) -> int | None:
    """The size a PATCH tells, None when it tells none.

    Raises:
        InvalidInput: No number.
    """
    return _number(headers, "upload-length") if "upload-length" in headers else None


def require_size(length_bytes: int, max_bytes: int) -> int:
    """The size, if it is one we take.

    Raises:
        InvalidInput: Code ``upload_too_large``, answered with 413.
    """
    if length_bytes > max_bytes:
        raise InvalidInput(
            f"Upload-Length: expected at most {max_bytes} bytes, found {length_bytes}",
            code="upload_too_large",
        )
    return length_bytes


def concat(headers: Mapping[str, str]) -> tuple[bool, tuple[str, ...]]:
    """What ``Upload-Concat`` asks for: whether the upload is a part, and the parts of a final one.

    Raises:
        InvalidInput: Neither ``partial`` nor ``final;`` with the addresses of 1 to 1000 uploads.
    """
    header = headers.get("upload-concat")
    if header is None:
        return False, ()
    if header == "partial":
        return True, ()
    kind, _, listed = header.partition(";")
    matches = [_PART.fullmatch(address) for address in listed.split()]
    parts = tuple(match[1] for match in matches if match)
    if kind != "final" or not 0 < len(matches) <= MAX_PARTS or len(parts) < len(matches):
        raise InvalidInput(
            f"Upload-Concat: expected partial, or final; and the addresses of 1 to {MAX_PARTS} uploads, "
            f"found {_shown(header)}",
            code="bad_concat",
        )
    if "upload-length" in headers or "upload-defer-length" in headers:
        raise InvalidInput(
            "Upload-Length: expected none for a final upload, found one; it is the sum of its parts",
            code="bad_concat",
        )
    return False, parts


def upload_offset(headers: Mapping[str, str], expected: int) -> None:
    """Check where a PATCH wants to write.

    Raises:
        Conflict: It does not begin where the file ends (``offset_mismatch``).
        InvalidInput: No number.
    """
    offset = _number(headers, "upload-offset")
    if offset != expected:
        raise Conflict(
            f"Upload-Offset: expected {expected}, found {offset}; ask with HEAD and send from there",
            code="offset_mismatch",
        )


def require_within(headers: Mapping[str, str], left_bytes: int) -> None:
    """Refuse a body that announces more than the upload has left, before any of it is read.

    Raises:
        InvalidInput: Code ``body_too_long``, answered with 413.
    """
    announced = content_length(headers)
    if announced is not None and announced > left_bytes:
        raise InvalidInput(
            f"body: expected at most {left_bytes} bytes, found {announced} announced", code="body_too_long"
        )


def content_length(headers: Mapping[str, str]) -> int | None:
    """The announced size of the body; None for a chunked one."""
    return _number(headers, "content-length") if "content-length" in headers else None


def require_octets(headers: Mapping[str, str]) -> None:
    """A PATCH carries ``application/offset+octet-stream``.

    Raises:
        InvalidInput: Code ``content_type``, answered with 415.
    """
    found = headers.get("content-type", "")
    if found.split(";")[0].strip().lower() != OFFSET_OCTETS:
        raise InvalidInput(
            f"Content-Type: expected {OFFSET_OCTETS}, found {_shown(found)}", code="content_type"
        )


def parse_metadata(header: str) -> dict[str, bytes]:
    """The pairs of an ``Upload-Metadata`` header, values as the bytes that were sent.

    Raises:
        InvalidInput: Too long (``metadata_too_large``), or not of the form
            ``key base64[,key base64]…`` with each key once (``bad_metadata``).
    """
    if len(header) > MAX_METADATA_BYTES:
        raise InvalidInput(
            f"Upload-Metadata: expected at most {MAX_METADATA_BYTES} bytes, found {len(header)}; send less",
            code="metadata_too_large",
        )
    pairs: dict[str, bytes] = {}
    for part in header.split(",") if header.strip() else ():
        key, _, encoded = part.strip().partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in pairs or len(pairs) >= MAX_METADATA_KEYS:
            raise InvalidInput(
                f"Upload-Metadata: expected up to {MAX_METADATA_KEYS} keys, each once and without spaces, "
                f"found {_shown(key)}",
                code="bad_metadata",
            )
        try:
            pairs[key] = base64.b64decode(encoded.strip(), validate=True)
        except ValueError as error:
            raise InvalidInput(
                f"Upload-Metadata: expected base64 for {_shown(key)}, found something else",
                code="bad_metadata",
            ) from error
    return pairs


def options(max_bytes: int) -> Reply:
    """What this server can do."""
    return Reply(
        204,
        {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Max-Size": str(max_bytes),
            "Tus-Extension": ",".join(EXTENSIONS),
            "Tus-Checksum-Algorithm": ",".join(CHECKSUM_ALGORITHMS),
        },
    )


def http_date(instant: datetime) -> str:
    """An instant as ``Upload-Expires`` wants it (RFC 9110, section 5.6.7)."""
    return format_datetime(instant, usegmt=True)


_STATUS_BY_CODE = {
    "tus_version": 412,
    "upload_too_large": 413,
    "body_too_long": 413,
    "metadata_too_large": 431,
    "head_too_large": 431,
    "content_type": 415,
    "method_not_allowed": 405,
    "upload_expired": 410,
    "upload_interrupted": 423,
    "upload_busy": 423,
    "too_many_uploads": 429,
    "too_many_open_bytes": 429,
    "checksum_mismatch": 460,
    "disk_full": 507,
}
_STATUS_BY_KIND: tuple[tuple[type[EvidenceError], int], ...] = (
    (InvalidInput, 400),
    (NotAuthenticated, 401),
    (NotPermitted, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)


def refusal(error: EvidenceError) -> Reply:
    """The answer to a request that cannot be carried out.

    423 and 409, 5xx are what tus clients try again; other 4xx they give up on.
    """
    status = _STATUS_BY_CODE.get(error.code) or next(
        (status for kind, status in _STATUS_BY_KIND if isinstance(error, kind)), 500
    )
    problem = {"type": "about:blank", "status": status, "code": error.code, "detail": error.message}
    headers = {"Tus-Resumable": VERSION, "Content-Type": "application/problem+json"}
    if status == 412:
        headers["Tus-Version"] = VERSION
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="upload"'
    if status in {423, 429, 503, 507}:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return Reply(status, headers, json.dumps(problem, ensure_ascii=False).encode())


def _number(headers: Mapping[str, str], name: str) -> int:
    value = headers.get(name, "")
    if not _DIGITS.fullmatch(value):
        raise InvalidInput(
            f"{name.title()}: expected a whole number of bytes, found {_shown(value)}", code="bad_header"
        )
    return int(value)


def _shown(value: str | None) -> str:
    """A value as it may stand in a message: short, quoted, on one line."""
    return "nothing" if not value else ascii(value[:40])
