"""What was pushed, as a place to fetch from: the engine of `ingest.sources.pulling` takes it as all else."""

from __future__ import annotations

import os
from collections.abc import Generator
from uuid import UUID

from ingest.sources.dropbox import Dropbox
from ingest.sources.dropbox_shelf import CLOSED, Pushed
from ingest.sources.remote import Origin, RemoteFile

READ_BYTES = 1 << 20


class DropboxFolder:
    """A `RemoteFolder` over a dropbox."""

    def __init__(self, box: Dropbox) -> None:
        self._box = box

    def files(self) -> list[RemoteFile]:
        self._box.drop_empty()
        return [_remote(found) for found in self._box.listed()]

    def look(self, file: RemoteFile) -> RemoteFile | None:
        found = self._box.by_id(file.slot.decode())
        return None if found is None else _remote(found)

    def read(self, file: RemoteFile, offset_bytes: int) -> Generator[bytes, None, None]:
        descriptor = self._box.opened(file.slot.decode())
        try:
            while chunk := os.pread(descriptor, READ_BYTES, offset_bytes):
                offset_bytes += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    def rename(self, file: RemoteFile, path: bytes) -> bool:  # noqa: ARG002 -- ids are its names
        return False

    def remove(self, file: RemoteFile) -> None:
        self._box.free(*_taken(file))

    def keep_name(self, file: RemoteFile) -> None:
        """Remove the bytes alone: they are in custody, without a receipt."""
        self._box.keep_name(*_taken(file))

    def disconnect(self) -> None:
        """Nothing to let go of."""


def _taken(file: RemoteFile) -> tuple[str, int]:
    identity, _, transfers = file.version.partition(":")
    return identity, int(transfers)


def _remote(found: Pushed) -> RemoteFile:
    place = f"{found.agency_id}/{found.dock_no}/".encode()
    return RemoteFile(
        path=place + found.name,
        name=found.name.rpartition(b"/")[2],
        size_bytes=found.size_bytes,
        mtime_ns=found.mtime_s * 10**9,
        version=f"{found.id}:{found.transfers}",
        slot=found.id.encode(),
        proof=found.proof,
        # Bytes come by transfers alone, and each makes it another state.
        is_immutable=True,
        may_settle=found.state == CLOSED,
        origin=Origin(UUID(found.agency_id), found.actor, found.dock_no, found.device_no),
        metadata={"pushed_over": found.protocol, "proof": found.proof or "rest or digest"},
    )
