"""A docking station in a few lines: uploads over tus 1.0, goes on after a lost line, waits for receipts."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx

from evidence.errors import Unavailable

CHUNK_BYTES = 1 << 20
PATIENCE_S = 60.0
PAUSE_S = 0.5
TRY_AGAIN = {409, 423, 429, 500, 502, 503, 504}


class LineLost(Exception):
    """The dock pulls its own plug, for show."""


@dataclass(frozen=True)
class Sent:
    """A file whose every byte was acknowledged."""

    url: str
    sha256: str
    resumes: int


class Dock:
    """A docking station.

    Args:
        ingest_url: Base address of the upload listener.
        token: Its upload token.
    """

    def __init__(self, ingest_url: str, token: str) -> None:
        self._uploads = f"{ingest_url}/uploads/"
        headers = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
        self._client = httpx.Client(headers=headers, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def upload(
        self,
        path: Path,
        metadata: Mapping[str, str],
        *,
        cut_at: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Sent:
        """Send one file to its last byte.

        Args:
            cut_at: Lose the line once, in the middle of a request, at about this byte.
            progress: Told how many bytes the server has acknowledged.

        Raises:
            Unavailable: Refused, or no answer for a minute.
        """
        content = path.read_bytes() if path.stat().st_size <= CHUNK_BYTES else None
        size = path.stat().st_size
        digest = hashlib.sha256(content) if content is not None else _digest(path)
        said = {"filename": path.name, **metadata, "sha256": digest.hexdigest()}
        url = self._create(size, said)
        offset = resumes = 0
        deadline = time.monotonic() + PATIENCE_S
        with path.open("rb") as file:
            while offset < size:
                try:
                    chunk = _read(file, offset)
                    cut = cut_at is not None and resumes == 0 and offset + len(chunk) > cut_at
                    offset = self._patch(url, offset, chunk, cut=cut)
                    deadline = time.monotonic() + PATIENCE_S
                except (httpx.TransportError, LineLost, Unavailable) as error:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"upload {path.name}: expected an answer, found {error}") from error
                    resumes += 1
                    offset = self._ask_offset(url, offset)
                progress(offset)
        return Sent(url, digest.hexdigest(), resumes)

    def receipt(self, url: str) -> dict[str, Any] | None:
        """The signed receipt; None until the stored bytes were read back."""
        answer = self._client.get(f"{url}/receipt")
        if answer.status_code == httpx.codes.OK:
            found: dict[str, Any] = answer.json()
            return found
        return None

    def _create(self, size: int, said: Mapping[str, str]) -> str:
        pairs = (f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in said.items())
        headers = {"Upload-Length": str(size), "Upload-Metadata": ",".join(pairs)}
        answer = self._client.post(self._uploads, headers=headers)
        if answer.status_code != httpx.codes.CREATED:
            raise Unavailable(f"upload: expected 201, found {answer.status_code}: {answer.text[:200]}")
        return urljoin(self._uploads, answer.headers["Location"])

    def _patch(self, url: str, offset: int, chunk: bytes, *, cut: bool) -> int:
        headers = {
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": str(offset),
            "Content-Length": str(len(chunk)),
        }
        if not cut:
            checksum = base64.b64encode(hashlib.sha256(chunk).digest()).decode()
            headers["Upload-Checksum"] = f"sha256 {checksum}"
        answer = self._client.patch(url, headers=headers, content=_torn(chunk) if cut else chunk)
        if answer.status_code in TRY_AGAIN:
            time.sleep(PAUSE_S)
            raise Unavailable(f"found {answer.status_code}")
        if answer.status_code != httpx.codes.NO_CONTENT:
            raise Unavailable(f"upload: expected 204, found {answer.status_code}: {answer.text[:200]}")
        return int(answer.headers["Upload-Offset"])

    def _ask_offset(self, url: str, before: int) -> int:
        try:
            answer = self._client.head(url)
        except httpx.TransportError:
            time.sleep(PAUSE_S)
            return before
        return int(answer.headers.get("Upload-Offset", before))


def _torn(chunk: bytes) -> Iterator[bytes]:
    """Half of what was promised, then nothing."""
    yield chunk[: len(chunk) // 2]
    raise LineLost


def _read(file: Any, offset: int) -> bytes:
    file.seek(offset)
    found: bytes = file.read(CHUNK_BYTES)
    return found


def _digest(path: Path) -> Any:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")
