"""The sequencer: gives waiting leaves their places and signs checkpoints (docs/design/custody.md).

It runs in the relay. Two at once do no harm: the primary key of `custody_sequence` lets only one
batch in, and what the other had prepared is rolled back whole.
"""

from __future__ import annotations

import time
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from evidence import merkle
from evidence.custody import (
    NoteSigner,
    checkpoint_body,
    origin_of,
    parse_checkpoint,
    sequence_leaves,
    sign_checkpoint,
)
from evidence.errors import Conflict, CustodyError
from storage.db import custody
from storage.db.tables import Agency, CustodyCheckpoint
from storage.keys import Purpose
from storage.open import Storage

BATCH = 2000
TRIES = 10


def sequence_agency(storage: Storage, agency_id: UUID) -> int:
    """Place every waiting leaf of an agency, batch by batch; the number placed.

    Raises:
        Conflict: Another sequencer was faster; what it placed stands, and a later call goes on.
    """
    placed = 0
    while True:
        try:
            with storage.database.transaction() as session:
                agency = session.get_one(Agency, agency_id)
                count = sequence_once(session, storage, agency, storage.clock.now())
        except IntegrityError as error:
            raise Conflict(
                "custody: expected to be the one sequencer, found another that was faster; try again",
                code="sequencer_busy",
            ) from error
        placed += count
        if count < BATCH:
            return placed


def place_waiting(storage: Storage, agency_id: UUID) -> None:
    """Place every waiting leaf now; a relay that is faster has done it for us.

    Raises:
        Conflict: It was faster again and again.
    """
    for attempt in range(TRIES):
        try:
            sequence_agency(storage, agency_id)
        except Conflict:
            if attempt == TRIES - 1:
                raise
            time.sleep(0.2)
        else:
            return


def sequence_once(session: Session, storage: Storage, agency: Agency, now: datetime) -> int:
    """One batch: places, checkpoint and frontier in one transaction.

    Raises:
        Unavailable: The checkpoint key is missing.
        CustodyError: The newest checkpoint contradicts itself: nothing is signed on top of it.
        IntegrityError: Another sequencer was faster; nothing of this batch is kept.
    """
    leaves = custody.unsequenced(session, agency.id, BATCH)
    if not leaves:
        return 0
    newest = custody.newest_checkpoint(session, agency.id)
    frontier = merkle.Frontier()
    number = 1
    if newest is not None:
        nodes = [newest.frontier[at : at + 32] for at in range(0, len(newest.frontier), 32)]
        frontier = merkle.Frontier.from_nodes(newest.tree_size, nodes)
        if frontier.root() != newest.root:
            raise CustodyError(
                f"checkpoint {newest.tree_size}: expected a frontier of root {newest.root.hex()[:16]}…, "
                "found another; verify the log before anything is signed on top of it",
                code="frontier_altered",
            )
        number = (parse_checkpoint(newest.note).sequence or 0) + 1
    grown = sequence_leaves(frontier, [digest for _, digest in leaves])
    custody.place(session, agency.id, grown.indices.start, leaves)
    origin = origin_of(agency.code)
    body = checkpoint_body(origin, grown.frontier.size, grown.frontier.root(), made_at=now, sequence=number)
    key = storage.keys.signer(Purpose.CHECKPOINT)
    session.add(
        CustodyCheckpoint(
            agency_id=agency.id,
            tree_size=grown.frontier.size,
            root=grown.frontier.root(),
            frontier=b"".join(grown.frontier.nodes()),
            note=sign_checkpoint(body, [NoteSigner(origin, key.public, key.sign)]),
            made_at=now,
        )
    )
    session.flush()
    return len(leaves)
