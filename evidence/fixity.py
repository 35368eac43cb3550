"""Digests of bytes: made while they stream past, made again from a file, and compared.

SHA-256 is the digest everything is named by; SM3 (GB/T 32905-2016) stands beside it where a
rule asks for the national algorithm. SM3 costs about six times SHA-256, so it is optional
and belongs on the verifying re-read rather than on the receiving path.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evidence.errors import FixityError, InvalidInput

if TYPE_CHECKING:
    from hashlib import _Hash

    from _typeshed import ReadableBuffer

CHUNK_BYTES = 1 << 20
"""Read size. Below 1 MiB the calls themselves begin to cost more than the hashing."""

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Digests:
    """What a run of bytes came to."""

    sha256: bytes
    size_bytes: int
    sm3: bytes | None = None
    """None when it was not asked for."""


class StreamingDigest:
    """SHA-256, and SM3 when asked, of bytes in the order they are given."""

    def __init__(self, *, sm3: bool = False) -> None:
        self._sha256 = hashlib.sha256()
        self._sm3: _Hash | None = hashlib.new("sm3") if sm3 else None
        self.size_bytes = 0

    def update(self, data: ReadableBuffer) -> None:
        """Take the next bytes; the interpreter lock is free while they are hashed."""
        view = memoryview(data)
        self._sha256.update(view)
        if self._sm3 is not None:
            self._sm3.update(view)
        self.size_bytes += view.nbytes

    def follow(self, descriptor: int) -> None:
        """Take what an open file holds from where this digest stands to the file's end."""
        for chunk in _chunks_of(descriptor, self.size_bytes):
            self.update(chunk)

    def copy(self) -> StreamingDigest:
        """An independent digest of the same bytes so far, for going back to this point."""
        twin = StreamingDigest.__new__(StreamingDigest)
        twin._sha256 = self._sha256.copy()
        twin._sm3 = None if self._sm3 is None else self._sm3.copy()
        twin.size_bytes = self.size_bytes
        return twin

    def digests(self) -> Digests:
        """The digests of everything so far; more may follow."""
        sm3 = None if self._sm3 is None else self._sm3.digest()
        return Digests(self._sha256.digest(), self.size_bytes, sm3)


def hash_stream(
    chunks: Iterable[ReadableBuffer], *, sm3: bool = False, progress: Callable[[int], None] | None = None
) -> Digests:
    """Digest a stream of chunks, such as an object store's read-back.

    Args:
        chunks: The bytes in order.
        sm3: Also make SM3.
        progress: Told the number of bytes done after each chunk.
    """
    digest = StreamingDigest(sm3=sm3)
    for chunk in chunks:
        digest.update(chunk)
        if progress is not None:
            progress(digest.size_bytes)
    return digest.digests()


def hash_file(
    source: Path | int, *, sm3: bool = False, progress: Callable[[int], None] | None = None
) -> Digests:
    """Digest a file from its first byte to its end.

    Args:
        source: A path, or an open descriptor, whose own position is neither used nor moved.
        sm3: Also make SM3.
        progress: Told the number of bytes done after each chunk.
    """
    if isinstance(source, int):
        return hash_stream(_chunks_of(source), sm3=sm3, progress=progress)
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return hash_stream(_chunks_of(descriptor), sm3=sm3, progress=progress)
    finally:
        os.close(descriptor)


def _chunks_of(descriptor: int, position: int = 0) -> Iterable[memoryview]:
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while count := os.preadv(descriptor, [buffer], position):
        yield buffer[:count]
        position += count


def compare(expected: bytes, found: bytes, name: str, *, algorithm: str = "sha256") -> None:
    """Require two digests to be equal.

    Raises:
        FixityError: They differ; its facts are ``name``, ``algorithm``, ``expected`` and
            ``found`` in hex.
    """
    if expected != found:
        raise FixityError(
            f"{name}: expected {algorithm} {expected.hex()}, found {found.hex()}; "
            "keep both copies and report it",
            name=name,
            algorithm=algorithm,
            expected=expected.hex(),
            found=found.hex(),
        )


def compare_size(expected_bytes: int, found_bytes: int, name: str) -> None:
    """Require two sizes to be equal.

    Raises:
        FixityError: They differ; code ``size_mismatch``, facts ``name``, ``expected``, ``found``.
    """
    if expected_bytes != found_bytes:
        raise FixityError(
            f"{name}: expected {expected_bytes} bytes, found {found_bytes}; keep both copies and report it",
            code="size_mismatch",
            name=name,
            expected=expected_bytes,
            found=found_bytes,
        )


def parse_sha256(text: str) -> bytes:
    """The 32 bytes behind a hexadecimal SHA-256, in either case of letters.

    Raises:
        InvalidInput: It is not 64 hexadecimal digits.
    """
    lowered = text.strip().lower()
    if not _SHA256_HEX.fullmatch(lowered):
        raise InvalidInput(
            f"sha256: expected 64 hexadecimal digits, found {len(lowered)} characters", code="bad_digest"
        )
    return bytes.fromhex(lowered)
