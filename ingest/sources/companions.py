"""What lies beside a recording at a fetched place, read: a digest, and a sidecar or its folder's table.

What was read is told apart by path and bytes, since a listing does not say which bytes a file has. Only what
was read in those very bytes, and used, may go from a place with its recording (`ingest.sources.freeing`). A
marker says by being there that its recording is whole, and is not read.

What cannot be understood is kept byte for byte with the reception, in base64: it is small, a person can read
it there, and it may go like the rest.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from config.profiles import SidecarFields
from evidence.errors import InvalidInput
from ingest.sources.remote import RemoteFile, RemoteFolder
from ingest.sources.settling import MAX_DIGEST_BYTES, Listing, parse_digest_file
from ingest.sources.sidecar import MAX_SIDECAR_BYTES, Sidecar, is_table, most_bytes, sidecar_from

UNREAD_DIGEST, UNREAD_SIDECAR = "digest_unread_base64", "sidecar_unread_base64"


@dataclass(frozen=True)
class Said:
    """What was read beside one recording."""

    declared_sha256: bytes | None = None
    """By the digest beside it."""
    digest_error: InvalidInput | None = None
    """Why that could not be read."""
    sidecar: Sidecar = field(default_factory=Sidecar)
    used: frozenset[str] = frozenset()
    """What of it speaks of this recording's name alone and was read whole: each by its path and bytes."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Bytes of those of them that could not be understood, in base64, as they stand in the metadata."""

    @property
    def findings(self) -> tuple[tuple[str, str], ...]:
        """What was wrong with it: code and line."""
        of_digest = (
            () if self.digest_error is None else (("declared_digest_unreadable", self.digest_error.message),)
        )
        return (*of_digest, *self.sidecar.findings)


def arrival_key(file_key: str, used: Iterable[str]) -> str:
    """The key of an arrival: of this state of a file, with just this said of it."""
    said = sorted(used)
    return f"{file_key}:{hashlib.sha256(' '.join(said).encode()).hexdigest()[:32]}" if said else file_key


class Companions:
    """Reads what lies beside the recordings of one place."""

    def __init__(self, remote: RemoteFolder, fields: SidecarFields | None) -> None:
        self._remote = remote
        self._fields = fields
        self._table: tuple[RemoteFile, bytes] | None = None

    def begin(self) -> None:
        """Note a new listing: tables are fetched anew."""
        self._table = None

    def read(self, file: RemoteFile, listing: Listing) -> Said:
        """What is said of a recording now.

        Raises:
            Unavailable: As `RemoteFolder.read`.
        """
        digest, beside = listing.digest_of(file), listing.sidecar_of(file)
        declared, digest_error, sidecar = None, None, Sidecar()
        used, unread = set(), {}
        if digest is not None:
            content = self._small(digest, MAX_DIGEST_BYTES)
            try:
                declared = parse_digest_file(content)
            except InvalidInput as error:
                digest_error = error
                unread[UNREAD_DIGEST] = base64.b64encode(content).decode()
            if len(content) <= MAX_DIGEST_BYTES:
                used.add(_mark(digest, content))
        if beside is not None:
            content = self._sidecar(beside)
            sidecar = sidecar_from(beside.name, content, file.name, self._fields)
            # Else it speaks of others too, and stays; or it is longer than the place says.
            if beside in listing.words_of(file) and len(content) <= MAX_SIDECAR_BYTES:
                used.add(_mark(beside, content))
                if not sidecar.is_readable:
                    unread[UNREAD_SIDECAR] = base64.b64encode(content).decode()
        return Said(declared, digest_error, sidecar, frozenset(used), unread)

    def _sidecar(self, beside: RemoteFile) -> bytes:
        """The bytes of a sidecar; a folder's table is fetched once a look and not for each of its files."""
        if self._table is not None and self._table[0] == beside:
            return self._table[1]
        content = self._small(beside, most_bytes(beside.name))
        if is_table(beside.name):
            self._table = beside, content
        return content

    def _small(self, file: RemoteFile, at_most_bytes: int) -> bytes:
        """What a small file holds; of a larger one a byte more than it may have."""
        content = bytearray()
        with contextlib.closing(self._remote.read(file, 0)) as chunks:
            for chunk in chunks:
                content += chunk
                if len(content) > at_most_bytes:
                    break
        return bytes(content[: at_most_bytes + 1])


def _mark(beside: RemoteFile, content: bytes) -> str:
    return hashlib.sha256(b"%d:%b%b" % (len(beside.path), beside.path, content)).hexdigest()[:32]
