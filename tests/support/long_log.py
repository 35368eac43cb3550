"""A custody log as long as years make it, written at once and as true as the sequencer would have."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256

from sqlalchemy import insert

from evidence import merkle
from evidence.custody import (
    Action,
    Leaf,
    NoteSigner,
    checkpoint_body,
    leaf_bytes,
    origin_of,
    parse_checkpoint,
    sign_checkpoint,
)
from evidence.ids import new_id
from storage.db import agencies, custody
from storage.db.tables import CustodyCheckpoint, CustodyLeaf, CustodySequence
from storage.keys import Purpose
from storage.open import Storage
from storage.sequencer import place_waiting

AT_ONCE = 20_000


def grow_log(storage: Storage, leaf_count: int, leaves_per_checkpoint: int) -> None:
    """Add so many leaves with their places, and a signed checkpoint after each few of them."""
    with storage.database.read() as session:
        agency = agencies.agencies(session)[0]
    place_waiting(storage, agency.id)
    with storage.database.read() as session:
        newest = custody.newest_checkpoint(session, agency.id)
    assert newest is not None
    nodes = [newest.frontier[at : at + 32] for at in range(0, len(newest.frontier), 32)]
    tree = merkle.Frontier.from_nodes(newest.tree_size, nodes)
    unsigned = 0
    number, origin = parse_checkpoint(newest.note).sequence or 1, origin_of(agency.code)
    key = storage.keys.signer(Purpose.CHECKPOINT)
    signer = NoteSigner(origin, key.public, key.sign)
    made_at = storage.clock.now()
    for start in range(0, leaf_count, AT_ONCE):
        leaves, places, notes = [], [], []
        for at in range(start, min(start + AT_ONCE, leaf_count)):
            made_at += timedelta(milliseconds=500)
            leaf = Leaf(
                leaf_id=new_id(), agency=agency.code, action=Action.ITEM_VERIFIED, subject_kind="item",
                subject_id=str(new_id()), made_at=made_at, actor="worker",
                facts={"number": at, "sha256": sha256(at.to_bytes(8)).hexdigest()},
            )  # fmt: skip
            body = leaf_bytes(leaf)
            digest = merkle.leaf_hash(body)
            leaves.append(
                {"id": leaf.leaf_id, "agency_id": agency.id, "subject_id": leaf.subject_id,
                 "action": str(leaf.action), "body": body, "payload": None, "made_at": made_at}
            )  # fmt: skip
            places.append(
                {"agency_id": agency.id, "leaf_index": tree.size, "leaf_id": leaf.leaf_id,
                 "leaf_hash": digest}
            )  # fmt: skip
            tree.append(digest)
            unsigned += 1
            if unsigned == leaves_per_checkpoint or at == leaf_count - 1:
                unsigned, number = 0, number + 1
                text = checkpoint_body(origin, tree.size, tree.root(), made_at=made_at, sequence=number)
                notes.append(
                    {"agency_id": agency.id, "tree_size": tree.size, "root": tree.root(),
                     "frontier": b"".join(tree.nodes()), "note": sign_checkpoint(text, [signer]),
                     "made_at": made_at}
                )  # fmt: skip
        with storage.database.transaction() as session:
            session.connection().execute(insert(CustodyLeaf), leaves)
            session.connection().execute(insert(CustodySequence), places)
            if notes:
                session.connection().execute(insert(CustodyCheckpoint), notes)
