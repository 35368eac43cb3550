"""Where bytes lie: the protocol every object store keeps, and the form of its keys.

A store never interprets what it holds. It promises that an object, once `adopt` has
returned, survives a power cut, and that an original is never written twice. See
``docs/design/storage.md``.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Protocol

from evidence.errors import InvalidInput, NotPermitted


class Namespace(StrEnum):
    """What kind of bytes a key names."""

    ORIGINAL = "o"
    DERIVATIVE = "d"


@dataclass(frozen=True)
class StoredObject:
    """Bytes the store now holds."""

    key: str
    size_bytes: int
    reused: bool = False
    """True when equal bytes were already there and the staged copy was dropped."""


@dataclass(frozen=True)
class DisposalOrder:
    """The authority to remove one original: an executed disposition, or a finding of `check`."""

    key: str
    authority: str
    """The id of the disposition or of the custody leaf that records it."""


class ObjectStore(Protocol):
    """Bytes by digest, write-once, apart for each agency."""

    @property
    def staging_dir(self) -> Path:
        """Where to prepare a file for `adopt`; on the store's own disk where it has one."""
        ...

    def adopt(
        self,
        staged: Path,
        sha256: bytes,
        size: int,
        agency: str,
        namespace: Namespace = Namespace.ORIGINAL,
    ) -> StoredObject:
        """Take over a finished file, unless equal bytes are there already.

        After a return the object is durable and ``staged`` is gone. After an exception
        ``staged`` is untouched. Damaged bytes under the key are kept aside, never dropped,
        and the sound ones take their place. When ``staged`` is missing but the object is there, an
        earlier call was cut off after its last step, and this one succeeds.

        Args:
            staged: A closed, complete regular file.
            sha256: The digest that was made while its bytes arrived.
            size: Its size in bytes.
            agency: The agency's id, 32 lowercase hexadecimal digits.
            namespace: Original or derivative.

        Raises:
            FixityError: ``staged`` has another size, or is itself not these bytes.
            NotFound: Neither ``staged`` nor the object is there.
            Unavailable: No space (``disk_full``), or the store itself is gone.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """The object for reading, or NotFound."""
        ...

    def path(self, key: str) -> Path | None:
        """Its file, where objects are local files: for FFmpeg and byte ranges. NotFound if absent."""
        ...

    def size(self, key: str) -> int:
        """Its size in bytes, or NotFound."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the store holds it."""
        ...

    def delete(self, key: str, *, order: DisposalOrder | None = None) -> None:
        """Remove a derivative, or an original by an order that names it. Absent is fine.

        Raises:
            NotPermitted: An original without its order.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Keys that begin with ``prefix``, with sizes, in key order."""
        ...

    def read_back(self, key: str, chunk_bytes: int = 1 << 20, at: int = 0) -> Iterator[memoryview]:
        """What the medium holds from ``at`` on, read past the page cache where that can be done.

        Each view is good until the next one is asked for. NotFound if absent.
        """
        ...

    def kept_aside(self, key: str) -> builtins.list[str]:
        """Names of damaged files that lay under the key before sound bytes came again."""
        ...

    def reserve(self, size: int) -> None:
        """Require room for ``size`` more bytes above the floor.

        Raises:
            Unavailable: Code ``disk_full``, facts ``free_bytes``, ``floor_bytes``, ``wanted_bytes``.
        """
        ...

    def free_bytes(self) -> int:
        """Bytes the store could still take, the floor not subtracted."""
        ...


_AGENCY = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"([0-9a-f]{32})/([od])/([0-9a-f]{2})/([0-9a-f]{2})/([0-9a-f]{64})")


def object_key(agency: str, namespace: Namespace, sha256: bytes) -> str:
    """The key of an object: ``<agency>/o/ab/cd/abcd…``; nothing a sender wrote is part of it.

    Raises:
        InvalidInput: The agency or the digest is not of the form asked for.
    """
    if not _AGENCY.fullmatch(agency):
        raise InvalidInput("agency: expected 32 hexadecimal digits of its id", code="bad_object_key")
    if len(sha256) != 32:
        raise InvalidInput(f"sha256: expected 32 bytes, found {len(sha256)}", code="bad_object_key")
    digest = sha256.hex()
    return f"{agency}/{namespace.value}/{digest[:2]}/{digest[2:4]}/{digest}"


@dataclass(frozen=True)
class ObjectKey:
    """A key taken apart."""

    agency: str
    namespace: Namespace
    sha256: bytes


def parse_key(key: str) -> ObjectKey:
    """Take a key apart; what is no key never comes near a path.

    Raises:
        InvalidInput: It is not a key.
    """
    match = _KEY.fullmatch(key)
    if match is None or (match[3], match[4]) != (match[5][:2], match[5][2:4]):
        raise InvalidInput("object key: expected <agency>/<o|d>/ab/cd/<sha256>", code="bad_object_key")
    return ObjectKey(match[1], Namespace(match[2]), bytes.fromhex(match[5]))


def require_deletable(key: str, order: DisposalOrder | None) -> None:
    """Let a derivative go; let an original go only by an order that names it.

    Raises:
        NotPermitted: An original without its order.
    """
    if parse_key(key).namespace is Namespace.DERIVATIVE:
        return
    if order is None or order.key != key or not order.authority:
        raise NotPermitted(
            f"object {key}: an original is removed only by a disposal order that names it",
            code="original_is_write_once",
            key=key,
        )
