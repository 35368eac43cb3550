"""The live custody log as an export: what `custody export` writes and `verify` judges."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evidence.custody import (
    ExportCheckpoint,
    ExportHeader,
    ExportLeaf,
    PublicKeyRecord,
    export_lines,
    origin_of,
)
from storage.db import custody, custody_reading
from storage.db.tables import Agency, CustodyPending


def live_lines(session: Session, agency: Agency, *, with_payloads: bool) -> Iterator[str]:
    """The lines of an export of everything that has a place, read in the caller's one snapshot.

    Args:
        with_payloads: Also the salted personal details; without them the log is as provable.
    """
    header = ExportHeader(
        origin=origin_of(agency.code),
        tree_size=custody.tree_size(session, agency.id),
        public_keys=tuple(
            PublicKeyRecord(
                id=key.id,
                name=origin_of(agency.code),
                public_key=key.public_key,
                purpose=key.purpose,
                created_at=key.created_at,
                retired_at=key.retired_at,
            )
            for key in custody_reading.signing_keys(session, agency.id)
        ),
    )
    leaves = (
        ExportLeaf(
            index=leaf.index if leaf.index is not None else 0,
            leaf=leaf.body,
            leaf_hash=leaf.leaf_hash or b"",
            payload=leaf.payload if with_payloads else None,
            leaf_id=leaf.leaf_id,
        )
        for leaf in custody.placed_leaves(session, agency.id)
    )
    checkpoints = (
        ExportCheckpoint(note, tuple(frontier[at : at + 32] for at in range(0, len(frontier), 32)))
        for note, frontier in custody.checkpoints(session, agency.id)
    )
    return export_lines(header, leaves, checkpoints)


def waiting(session: Session, agency: Agency) -> int:
    """Leaves that wait for a place: written, not yet under a checkpoint."""
    count = session.scalar(
        select(func.count()).select_from(CustodyPending).where(CustodyPending.agency_id == agency.id)
    )
    return count or 0
