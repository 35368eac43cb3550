"""`liuhen check`: rows against the custody log, rows against files, files against digests.

Every finding is listed, not the first one; nothing is mended and nothing deleted. What the custody
log itself suffered is `liuhen verify`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import func, select

from evidence.errors import Unavailable
from storage.check_files import Depth, check_files, check_orphans
from storage.check_rows import check_rows
from storage.db import agencies, tables
from storage.findings import Finding, finding
from storage.keys import Purpose
from storage.open import Storage
from storage.snapshot import snapshot

__all__ = ["Depth", "check", "total_bytes"]


def check(
    storage: Storage, depth: Depth, progress: Callable[[int, str], None] | None = None
) -> Iterator[Finding]:
    """Everything that is wrong with an installation.

    Args:
        depth: `ROWS` (rows, log, files there), `SIZES`, or `DIGESTS` (reads every byte).
        progress: Told bytes looked at and which object, as files are gone through.
    """
    with snapshot(storage.database) as session:
        owners = agencies.agencies(session)
        for agency in owners:
            yield from check_rows(session, agency)
    yield from _check_keys(storage)
    for agency in owners:
        yield from check_files(storage, agency.id, depth, progress)
    yield from check_orphans(storage)


def total_bytes(storage: Storage) -> int:
    """Bytes all rows speak of: the length of the way a deep check goes."""
    with storage.database.read() as session:
        sums = [
            session.scalar(select(func.sum(model.size_bytes)))
            for model in (tables.StoredObject, tables.Derivative)
        ]
    return sum(int(one or 0) for one in sums)


def _check_keys(storage: Storage) -> Iterator[Finding]:
    """The keys in use are those of the register."""
    with storage.database.read() as session:
        rows = {row.id: row for row in session.scalars(select(tables.SigningKey))}
    for purpose in Purpose:
        try:
            current = storage.keys.current(purpose)
            raw = b"" if purpose is Purpose.GRANT else _raw(storage.keys.public(purpose))
        except Unavailable:
            yield finding("key_missing", "key", purpose)
            continue
        row = rows.get(current)
        if row is None or row.public_key != raw:
            yield finding("key_differs", "key", current)
        elif row.retired_at is not None:
            yield finding("key_retired", "key", current)


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()
