"""Files that a server lists in a manifest and hands out by HTTP ranges.

    {"files": [{"url": "a.mp4", "name": "a.mp4", "size_bytes": 123, "sha256": "…", "modified_at": "…"}]}

Everything comes from the manifest's own origin: other addresses, and redirects to them, are refused, so that
neither our token nor our place in the network can be used by whoever writes the manifest.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import structlog

from evidence.errors import EvidenceError, InvalidInput, NotAuthenticated, NotPermitted, Unavailable
from evidence.filenames import display_name
from evidence.fixity import parse_sha256
from ingest.sources.remote import (
    GONE,
    MAX_FILES,
    UNREADABLE,
    RemoteFile,
    cut,
    is_plain_name,
    unreachable,
)

log = structlog.get_logger(__name__)

MAX_MANIFEST_BYTES = 32 << 20
MAX_REDIRECTS = 5
READ_BYTES = 1 << 20
MAX_URL_CHARS = 4096


@dataclass(frozen=True)
class ManifestAddress:
    """Where the manifest is, and what opens it."""

    name: str
    url: str
    token: str | None = None
    tls_ca: Path | None = None
    timeout_s: float = 30.0


class ManifestFolder:
    """A `RemoteFolder` over HTTP."""

    def __init__(self, address: ManifestAddress) -> None:
        self._address = address
        self._what = f"http source {address.name}"
        self._origin = _origin(httpx.URL(address.url))
        self._client: httpx.Client | None = None

    def files(self) -> list[RemoteFile]:
        entries = self._manifest()
        found: dict[bytes, RemoteFile] = {}
        for number, entry in enumerate(entries):
            try:
                file = self._file(entry)
            except (InvalidInput, NotPermitted) as error:
                log.warning(
                    "source:entry_refused", source=self._address.name, entry=number, detail=error.message
                )
                continue
            found[file.path] = file
        return list(found.values())

    def look(self, file: RemoteFile) -> RemoteFile | None:
        return next((found for found in self.files() if found.path == file.path), None)

    def read(self, file: RemoteFile, offset_bytes: int) -> Generator[bytes, None, None]:
        what = f"file {display_name(file.name)}"
        headers = {"Range": f"bytes={offset_bytes}-"} if offset_bytes else {}
        answer = self._answer(httpx.URL(file.path.decode()), what, headers)
        try:
            if answer.status_code in {404, 410}:
                raise Unavailable(f"{what}: expected it where it was listed, found it gone", code=GONE)
            if answer.status_code not in {200, 206}:
                raise Unavailable(
                    f"{what}: expected it readable, found status {answer.status_code}", code=UNREADABLE
                )
            passed = 0
            if offset_bytes and answer.status_code == 206:
                _require_range(answer, offset_bytes, file, what)
                passed = offset_bytes
            # A server that knows no ranges sends all of it again; what we have is passed over.
            for chunk in answer.iter_raw(READ_BYTES):
                if passed + len(chunk) > offset_bytes:
                    yield chunk[max(0, offset_bytes - passed) :]
                passed += len(chunk)
        except httpx.HTTPError as error:
            raise cut(what, error) from error
        finally:
            answer.close()

    def rename(self, file: RemoteFile, path: bytes) -> bool:  # noqa: ARG002 -- a manifest's names are its server's
        return False

    def remove(self, file: RemoteFile) -> None:
        raise NotPermitted(
            f"file {display_name(file.name)}: a manifest's files are its server's to remove",
            code="source_keeps",
        )

    def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _manifest(self) -> list[Any]:
        answer = self._answer(httpx.URL(self._address.url), self._what, {})
        try:
            if answer.status_code in {401, 403}:
                raise NotAuthenticated(
                    f"{self._what}: expected to be let in, found status {answer.status_code}; "
                    "check the token",
                    code="source_login_refused",
                )
            if answer.status_code != 200:
                raise unreachable(self._what, f"status {answer.status_code}")
            content = bytearray()
            for chunk in answer.iter_raw(READ_BYTES):
                content += chunk
                if len(content) > MAX_MANIFEST_BYTES:
                    raise unreachable(self._what, f"a manifest of more than {MAX_MANIFEST_BYTES} bytes")
        except httpx.HTTPError as error:
            raise unreachable(self._what, error) from error
        finally:
            answer.close()
        try:
            entries = json.loads(content)["files"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise unreachable(self._what, f"no manifest: {type(error).__name__}") from error
        if not isinstance(entries, list) or len(entries) > MAX_FILES:
            raise unreachable(self._what, f"no list of at most {MAX_FILES} files")
        return entries

    def _file(self, entry: Any) -> RemoteFile:
        if not isinstance(entry, dict):
            raise InvalidInput("manifest entry: expected an object, found another value")
        url, name, size = entry.get("url"), entry.get("name"), entry.get("size_bytes")
        if not isinstance(url, str) or not url or len(url) > MAX_URL_CHARS:
            raise InvalidInput("manifest entry: expected a url, found none that can be used")
        # JSON can hold halves of characters; they are told as bytes like any other odd name.
        if not isinstance(name, str) or not is_plain_name(raw := name.encode("utf-8", "surrogatepass")):
            raise InvalidInput("manifest entry: expected a plain file name, found none")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidInput("manifest entry: expected size_bytes, found none")
        try:
            address = httpx.URL(self._address.url).join(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidInput("manifest entry: expected a url, found none that can be read") from error
        self._require_origin(address)
        digest = entry.get("sha256")
        # Each of them alone may tell two files of one address and size apart.
        told = [str(entry.get(key) or "")[:200] for key in ("modified_at", "etag", "sha256")]
        version = "\n".join(told) if any(told) else ""
        return RemoteFile(
            str(address).encode(),
            raw,
            size,
            version=version,
            is_immutable=bool(entry.get("etag")),
            declared_sha256=parse_sha256(digest) if isinstance(digest, str) else None,
        )

    def _answer(self, url: httpx.URL, what: str, headers: dict[str, str]) -> httpx.Response:
        """The answer's head, after redirects within the origin."""
        try:
            client = self._connected()
            for _ in range(MAX_REDIRECTS + 1):
                self._require_origin(url)
                answer = client.send(client.build_request("GET", url, headers=headers), stream=True)
                if not answer.is_redirect:
                    return answer
                answer.close()
                url = url.join(answer.headers.get("location", ""))
        except EvidenceError:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            if _is_of_certificate(error):
                raise NotAuthenticated(
                    f"{self._what}: expected a certificate that can be trusted, found another; set tls_ca",
                    code="source_certificate_refused",
                ) from error
            raise unreachable(what, error) from error
        raise unreachable(what, f"more than {MAX_REDIRECTS} redirects")

    def _require_origin(self, url: httpx.URL) -> None:
        if _origin(url) != self._origin:
            raise NotPermitted(
                f"{self._what}: expected addresses of {self._address.url}, found another origin",
                code="source_origin_refused",
            )

    def _connected(self) -> httpx.Client:
        if self._client is None:
            context = ssl.create_default_context(cafile=self._address.tls_ca)
            token = self._address.token
            self._client = httpx.Client(
                verify=context,
                timeout=self._address.timeout_s,
                follow_redirects=False,
                trust_env=False,
                headers={
                    # Encoded bytes would be other bytes than those that were promised.
                    "Accept-Encoding": "identity",
                    **({"Authorization": f"Bearer {token}"} if token else {}),
                },
            )
        return self._client


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    default = {"https": 443, "http": 80}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def _require_range(answer: httpx.Response, offset_bytes: int, file: RemoteFile, what: str) -> None:
    expected = f"bytes {offset_bytes}-{file.size_bytes - 1}/{file.size_bytes}"
    found = answer.headers.get("content-range", "")
    if found.replace("/*", f"/{file.size_bytes}") != expected:
        raise Unavailable(f"{what}: expected range {expected}, found {found[:80]!r}", code=UNREADABLE)


def _is_of_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
