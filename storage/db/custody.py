"""The custody tables: leaves in the writer's transaction, places and checkpoints by the sequencer.

Procedures, keys and promises: docs/design/custody.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.orm import Session

from evidence.custody import Action, Leaf, leaf_bytes, seal_payload
from evidence.ids import new_id
from evidence.merkle import leaf_hash
from storage.db.tables import Agency, CustodyCheckpoint, CustodyLeaf, CustodyPending, CustodySequence


@dataclass(frozen=True)
class Happening:
    """Something that matters, about to become a leaf.

    Attributes:
        actor: Label of who did it (`account:<id>`, `dock:<no>`, `worker`), never a name.
        facts: Digests, sizes, states; no personal details.
        private: Personal details; kept salted beside the leaf, which holds their digest only.
    """

    action: Action
    subject_kind: str
    subject_id: str
    actor: str
    facts: Mapping[str, Any]
    private: Mapping[str, Any] | None = None


def record(session: Session, agency: Agency, happening: Happening, now: datetime) -> UUID:
    """Write a leaf in the caller's transaction and return its id."""
    (leaf_id,) = record_all(session, agency, [happening], now)
    return leaf_id


def record_all(
    session: Session, agency: Agency, happenings: Sequence[Happening], now: datetime
) -> list[UUID]:
    """Write a leaf for each happening, in their order, and return their ids."""
    rows = [_leaf_row(agency, happening, now) for happening in happenings]
    session.add_all(rows)
    session.flush()
    session.add_all(CustodyPending(agency_id=agency.id, leaf_id=row.id) for row in rows)
    return [row.id for row in rows]


def _leaf_row(agency: Agency, happening: Happening, now: datetime) -> CustodyLeaf:
    payload = seal_payload(happening.private, os.urandom(16)) if happening.private else None
    leaf = Leaf(
        leaf_id=new_id(),
        agency=agency.code,
        action=happening.action,
        subject_kind=happening.subject_kind,
        subject_id=happening.subject_id,
        made_at=now,
        actor=happening.actor,
        facts=happening.facts,
        payload_digest=payload.digest.hex() if payload else None,
    )
    return CustodyLeaf(
        id=leaf.leaf_id,
        agency_id=agency.id,
        subject_id=happening.subject_id,
        action=str(happening.action),
        body=leaf_bytes(leaf),
        payload=payload.body if payload else None,
        made_at=now,
    )


def unsequenced(session: Session, agency_id: UUID, limit: int) -> list[tuple[UUID, bytes]]:
    """Leaves without a place, oldest id first, as (id, leaf hash)."""
    rows = session.execute(
        select(CustodyLeaf.id, CustodyLeaf.body)
        .join(
            CustodyPending,
            (CustodyPending.leaf_id == CustodyLeaf.id) & (CustodyPending.agency_id == CustodyLeaf.agency_id),
        )
        .where(CustodyLeaf.agency_id == agency_id)
        .order_by(CustodyLeaf.id)
        .limit(limit)
    ).all()
    return [(leaf_id, leaf_hash(bytes(body))) for leaf_id, body in rows]


def waiting_leaves(session: Session, agency_id: UUID, actions: Sequence[str]) -> list[UUID]:
    """Leaves of these actions that wait for a place, oldest id first."""
    query = (
        select(CustodyLeaf.id)
        .join(
            CustodyPending,
            (CustodyPending.leaf_id == CustodyLeaf.id) & (CustodyPending.agency_id == CustodyLeaf.agency_id),
        )
        .where(CustodyLeaf.agency_id == agency_id, CustodyLeaf.action.in_(actions))
        .order_by(CustodyLeaf.id)
    )
    return list(session.scalars(query))


def bodies_of(session: Session, agency_id: UUID, leaf_ids: Sequence[UUID]) -> list[tuple[UUID, bytes]]:
    """Leaves by their ids, oldest id first, as (id, body)."""
    if not leaf_ids:
        return []
    query = select(CustodyLeaf.id, CustodyLeaf.body).where(
        CustodyLeaf.agency_id == agency_id, CustodyLeaf.id.in_(leaf_ids)
    )
    return _bodies(session, query.order_by(CustodyLeaf.id))


def leaves_from(
    session: Session, agency_id: UUID, first_index: int, actions: Sequence[str]
) -> list[tuple[UUID, bytes]]:
    """Leaves of these actions that have a place from an index on, in order, as (id, body)."""
    return _bodies(
        session,
        select(CustodyLeaf.id, CustodyLeaf.body)
        .join(
            CustodySequence,
            (CustodySequence.leaf_id == CustodyLeaf.id)
            & (CustodySequence.agency_id == CustodyLeaf.agency_id),
        )
        .where(
            CustodySequence.agency_id == agency_id,
            CustodySequence.leaf_index >= first_index,
            CustodyLeaf.action.in_(actions),
        )
        .order_by(CustodySequence.leaf_index),
    )


def _bodies(session: Session, query: Select[UUID, bytes]) -> list[tuple[UUID, bytes]]:
    return [(leaf_id, bytes(body)) for leaf_id, body in session.execute(query)]


def place(session: Session, agency_id: UUID, first_index: int, leaves: list[tuple[UUID, bytes]]) -> None:
    """Give leaves their indices; the primary key refuses a second sequencer's."""
    session.add_all(
        CustodySequence(agency_id=agency_id, leaf_index=first_index + step, leaf_id=leaf_id, leaf_hash=digest)
        for step, (leaf_id, digest) in enumerate(leaves)
    )
    session.flush()
    placed = [leaf_id for leaf_id, _ in leaves]
    session.execute(
        delete(CustodyPending).where(
            CustodyPending.agency_id == agency_id, CustodyPending.leaf_id.in_(placed)
        )
    )


def lost_places(session: Session, agency_id: UUID) -> list[UUID]:
    """Leaves that have neither a place nor a wait for one: somebody removed either."""
    placed = exists().where(
        CustodySequence.agency_id == CustodyLeaf.agency_id, CustodySequence.leaf_id == CustodyLeaf.id
    )
    pending = exists().where(
        CustodyPending.agency_id == CustodyLeaf.agency_id, CustodyPending.leaf_id == CustodyLeaf.id
    )
    return list(
        session.scalars(select(CustodyLeaf.id).where(CustodyLeaf.agency_id == agency_id, ~placed, ~pending))
    )


def newest_checkpoint(session: Session, agency_id: UUID) -> CustodyCheckpoint | None:
    """The checkpoint of the largest tree."""
    return session.scalars(
        select(CustodyCheckpoint)
        .where(CustodyCheckpoint.agency_id == agency_id)
        .order_by(CustodyCheckpoint.tree_size.desc())
        .limit(1)
    ).first()


def checkpoints(session: Session, agency_id: UUID, batch: int = 500) -> Iterator[tuple[str, bytes]]:
    """Note and frontier of every checkpoint, oldest first, a batch at a time."""
    after = -1
    while rows := checkpoints_after(session, agency_id, after, batch):
        yield from ((note, frontier) for _, note, frontier in rows)
        after = rows[-1][0]


def checkpoints_after(
    session: Session, agency_id: UUID, tree_size: int, limit: int
) -> list[tuple[int, str, bytes]]:
    """Size, note and frontier of the first checkpoints of larger trees."""
    rows = session.execute(
        select(CustodyCheckpoint.tree_size, CustodyCheckpoint.note, CustodyCheckpoint.frontier)
        .where(CustodyCheckpoint.agency_id == agency_id, CustodyCheckpoint.tree_size > tree_size)
        .order_by(CustodyCheckpoint.tree_size)
        .limit(limit)
    ).all()
    return [(size, note, bytes(frontier)) for size, note, frontier in rows]


def tree_size(session: Session, agency_id: UUID) -> int:
    """Number of leaves that have a place."""
    newest = session.scalar(
        select(func.max(CustodySequence.leaf_index)).where(CustodySequence.agency_id == agency_id)
    )
    return 0 if newest is None else newest + 1


def leaf_hashes(session: Session, agency_id: UUID, start: int, stop: int) -> list[bytes]:
    """Hashes of the leaves with index in ``[start, stop)``, in order."""
    return list(
        session.scalars(
            select(CustodySequence.leaf_hash)
            .where(
                CustodySequence.agency_id == agency_id,
                CustodySequence.leaf_index >= start,
                CustodySequence.leaf_index < stop,
            )
            .order_by(CustodySequence.leaf_index)
        )
    )


@dataclass(frozen=True)
class PlacedLeaf:
    """A leaf as the tables hold it; `index` None: not sequenced yet; `body` None: the leaf is gone."""

    index: int | None
    leaf_id: UUID
    leaf_hash: bytes | None
    body: bytes | None
    payload: bytes | None


def placed_leaves(session: Session, agency_id: UUID, batch: int = 500) -> Iterator[PlacedLeaf]:
    """All sequenced leaves by index, a batch at a time. A place whose leaf is gone comes with body None."""
    first = 0
    while True:
        found = placed_from(session, agency_id, first, limit=batch)
        yield from found
        if len(found) < batch:
            return
        first = (found[-1].index or 0) + 1


def placed_from(
    session: Session, agency_id: UUID, first: int, *, stop: int | None = None, limit: int | None = None
) -> list[PlacedLeaf]:
    """The leaves from one index on, up to one that is not meant any more, or so many."""
    query = (
        select(
            CustodySequence.leaf_index,
            CustodySequence.leaf_id,
            CustodySequence.leaf_hash,
            CustodyLeaf.body,
            CustodyLeaf.payload,
        )
        .outerjoin(
            CustodyLeaf,
            (CustodyLeaf.id == CustodySequence.leaf_id)
            & (CustodyLeaf.agency_id == CustodySequence.agency_id),
        )
        .where(CustodySequence.agency_id == agency_id, CustodySequence.leaf_index >= first)
        .order_by(CustodySequence.leaf_index)
    )
    if stop is not None:
        query = query.where(CustodySequence.leaf_index < stop)
    return [
        PlacedLeaf(
            index,
            leaf_id,
            digest,
            None if body is None else bytes(body),
            None if payload is None else bytes(payload),
        )
        for index, leaf_id, digest, body, payload in session.execute(query.limit(limit))
    ]


def leaves_about(session: Session, agency_id: UUID, subject_id: str) -> list[PlacedLeaf]:
    """Leaves about one subject, oldest first, with their place when they have one."""
    rows = session.execute(
        select(CustodyLeaf, CustodySequence.leaf_index, CustodySequence.leaf_hash)
        .outerjoin(
            CustodySequence,
            (CustodySequence.leaf_id == CustodyLeaf.id)
            & (CustodySequence.agency_id == CustodyLeaf.agency_id),
        )
        .where(CustodyLeaf.agency_id == agency_id, CustodyLeaf.subject_id == subject_id)
        .order_by(CustodyLeaf.id)
    ).all()
    return [
        PlacedLeaf(index, leaf.id, digest, bytes(leaf.body), bytes(leaf.payload) if leaf.payload else None)
        for leaf, index, digest in rows
    ]
