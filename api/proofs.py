"""Inclusion and consistency proofs over the live log.

A complete subtree never changes once it is full. Those above `BASE_LEVEL` are remembered, so that the
second proof over a log of a million leaves reads a thousand hashes instead of a million.
"""

from __future__ import annotations

import threading
from uuid import UUID

from sqlalchemy.orm import Session

from evidence import merkle
from evidence.errors import CustodyError
from storage.db import custody

BASE_LEVEL = 10
NODES_KEPT = 1 << 17


class Nodes:
    """The complete subtrees of one agency's tree.

    Args:
        kept: Nodes known from earlier proofs, shared between requests.
    """

    def __init__(self, session: Session, agency_id: UUID, kept: dict[tuple[UUID, int, int], bytes]) -> None:
        self._session = session
        self._agency_id = agency_id
        self._kept = kept

    def __call__(self, level: int, index: int) -> bytes:
        """Root over leaves ``[index << level, (index + 1) << level)``."""
        key = (self._agency_id, level, index)
        with _lock:
            known = self._kept.get(key)
        if known is not None:
            return known
        if level > BASE_LEVEL:
            found = merkle.node_hash(self(level - 1, 2 * index), self(level - 1, 2 * index + 1))
        else:
            found = self._from_leaves(level, index)
        if level >= BASE_LEVEL:
            with _lock:
                if len(self._kept) < NODES_KEPT:
                    self._kept[key] = found
        return found

    def _from_leaves(self, level: int, index: int) -> bytes:
        start, stop = index << level, (index + 1) << level
        layer = custody.leaf_hashes(self._session, self._agency_id, start, stop)
        if len(layer) != stop - start:
            raise CustodyError(
                f"custody: expected {stop - start} leaves from {start}, found {len(layer)}; "
                "run `liuhen verify`",
                code="leaf_hashes_missing",
            )
        while len(layer) > 1:
            layer = [merkle.node_hash(layer[at], layer[at + 1]) for at in range(0, len(layer), 2)]
        return layer[0]


_lock = threading.Lock()
_kept: dict[tuple[UUID, int, int], bytes] = {}


def nodes_of(session: Session, agency_id: UUID) -> Nodes:
    """A reader of the agency's tree in this session."""
    return Nodes(session, agency_id, _kept)
