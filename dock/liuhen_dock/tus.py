"""The client's side of tus 1.0, one connection per camera, and what each answer means to us.

The token goes to the configured server alone: an upload placed on another host is refused
unless the configuration names that host.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx

from liuhen_dock import __version__
from liuhen_dock.config import Config
from liuhen_dock.errors import BadReceipt, DockError, NotAllowed, Refused, TryAgain, UploadGone
from liuhen_dock.receipts import MAX_BYTES

OCTETS = "application/offset+octet-stream"
MAX_RETRY_AFTER_S = 3600.0
OFFSET_MOVED = 409
_READ_HEADERS = ("Location", "Upload-Offset", "Liuhen-Item", "Liuhen-Digest", "Retry-After")


@dataclass(frozen=True)
class Told:
    """What the server says of an upload."""

    offset_bytes: int
    """On its disk, by its own word."""
    item: str = ""
    sha256: str = ""
    """Of what the server holds; with `item`, once the upload is whole and an item."""


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Trust for all connections, made once because it is slow; None over plain loopback."""
    if config.server_url.startswith("http://"):
        return None
    return ssl.create_default_context(cafile=None if config.ca_file is None else str(config.ca_file))


class TusClient:
    """One connection to the upload listener."""

    def __init__(self, config: Config, token: str, tls: ssl.SSLContext | None) -> None:
        self._base = f"{config.server_url}/uploads/"
        self._hosts = {_origin(self._base), *(_origin(host) for host in config.other_hosts)}
        self._client = httpx.Client(
            headers={
                "Authorization": f"Bearer {token}",
                "Tus-Resumable": "1.0.0",
                "User-Agent": f"liuhen-dock/{__version__}",
                "Accept-Encoding": "identity",
            },
            timeout=config.timeout_s,
            verify=tls if tls is not None else False,
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def create(self, length_bytes: int, metadata: Sequence[tuple[str, bytes]]) -> str:
        """A new upload; its address."""
        pairs = ",".join(f"{key} {base64.b64encode(value).decode('ascii')}" for key, value in metadata)
        answer = self._ask("POST", self._base, {"Upload-Length": str(length_bytes), "Upload-Metadata": pairs})
        if answer.status_code != httpx.codes.CREATED or "Location" not in answer.headers:
            raise _meaning(answer, is_upload=False)
        return self.require_ours(urljoin(self._base, answer.headers["Location"]))

    def require_ours(self, location: str) -> str:
        """Require an upload's address to be one the token may go to.

        Raises:
            Refused: Code ``foreign_location``.
        """
        if _origin(location) not in self._hosts:
            raise Refused(
                f"upload: expected it on {', '.join(sorted(self._hosts))}, found {_origin(location)}; "
                "name the host in server.other_hosts if it is yours",
                code="foreign_location",
            )
        return location

    def head(self, location: str) -> Told:
        """How far an upload is."""
        answer = self._ask("HEAD", location, {})
        if answer.status_code not in {httpx.codes.OK, httpx.codes.NO_CONTENT}:
            raise _meaning(answer, is_upload=True)
        return _told(answer)

    def patch(self, location: str, offset: int, length: int, body: Iterator[bytes]) -> Told | None:
        """Send bytes from an offset; None when the server stands elsewhere and must be asked."""
        headers = {
            "Upload-Offset": str(offset),
            "Content-Type": OCTETS,
            # With its length said, a body that ends early is a lost connection and never a short file.
            "Content-Length": str(length),
        }
        answer = self._ask("PATCH", location, headers, body)
        if answer.status_code == OFFSET_MOVED:
            return None
        if answer.status_code not in {httpx.codes.NO_CONTENT, httpx.codes.OK}:
            raise _meaning(answer, is_upload=True)
        return _told(answer)

    def terminate(self, location: str) -> None:
        """Take an upload back. Whether the server still had it makes no difference."""
        self._ask("DELETE", location, {})

    def receipt(self, location: str) -> bytes | None:
        """The signed receipt as it came; None as long as there is none."""
        answer = self._ask("GET", f"{location}/receipt", {})
        if answer.status_code == httpx.codes.ACCEPTED:
            return None
        if answer.status_code != httpx.codes.OK:
            raise _meaning(answer, is_upload=True)
        return answer.content

    def receptions(self, sha256: str) -> list[dict[str, Any]]:
        """What the server knows of these bytes from this dock, by its word alone (``GET /receipts/…``)."""
        answer = self._ask("GET", f"{self._base.removesuffix('/uploads/')}/receipts/{sha256}", {})
        if answer.status_code != httpx.codes.OK:
            raise _meaning(answer, is_upload=True)
        try:
            found = answer.json()["receptions"]
            return [dict(one) for one in found]
        except (ValueError, KeyError, TypeError) as error:
            raise TryAgain("server: expected receptions, found something else",
                           code="server_unreadable") from error  # fmt: skip

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: Iterator[bytes] | None = None
    ) -> httpx.Response:
        request = self._client.build_request(method, url, headers=dict(headers), content=body)
        try:
            answer = self._client.send(request, stream=True)
            try:
                content = bytearray()
                for part in answer.iter_raw(16 << 10):
                    content += part
                    if len(content) > MAX_BYTES:
                        raise BadReceipt(f"answer: expected at most {MAX_BYTES} bytes, found more")
            finally:
                answer.close()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise TryAgain(f"server: expected an answer, found {type(error).__name__}: {error}") from error
        kept = {name: answer.headers[name] for name in _READ_HEADERS if name in answer.headers}
        return httpx.Response(answer.status_code, headers=kept, content=bytes(content))


def _told(answer: httpx.Response) -> Told:
    try:
        offset = int(answer.headers["Upload-Offset"])
    except (KeyError, ValueError) as error:
        raise TryAgain("server: expected Upload-Offset, found none", code="server_unreadable") from error
    digest = answer.headers.get("Liuhen-Digest", "").partition("sha-256=")[2].strip().lower()
    return Told(offset, answer.headers.get("Liuhen-Item", ""), digest)


def _meaning(answer: httpx.Response, *, is_upload: bool) -> DockError:
    """What a refusal means: try again, make anew, leave this file, or stop."""
    status = answer.status_code
    said = f"server: expected success, found {status}{_detail(answer)}"
    if status in {401, 403}:
        return NotAllowed(said)
    if is_upload and status in {404, 410}:
        return UploadGone(said)
    if status == 507:
        return TryAgain(said, code="server_full", after_s=retry_after(answer))
    if status in {408, 409, 423, 425, 429, 460} or status >= 500:
        return TryAgain(said, code="server_busy", after_s=retry_after(answer))
    if status == 413:
        return Refused(said, code="file_too_large")
    return Refused(said)


def _detail(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return f" {ascii(problem['code'])[:60]}: {ascii(problem['detail'])[:300]}"
    except (ValueError, KeyError, TypeError):
        return ""


def retry_after(answer: httpx.Response, now: datetime | None = None) -> float | None:
    """Seconds the server asks to wait, from either form of ``Retry-After`` (RFC 9110, 10.2.3)."""
    value = answer.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = (
            float(value)
            if value.isdigit()
            else (parsedate_to_datetime(value) - (now or datetime.now(UTC))).total_seconds()
        )
    except (ValueError, TypeError):
        return None
    return min(MAX_RETRY_AFTER_S, max(0.0, seconds))


def _origin(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}:{port}"
