"""The io queue: reading stored bytes back, and the receipt that only such a reading earns."""

from __future__ import annotations

import base64
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.canonical import canonical_json
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import EvidenceError, Unavailable
from evidence.events import Topic
from evidence.fixity import Digests, hash_stream
from evidence.item import Custody, move
from storage.db import custody, items
from storage.db.custody import Happening
from storage.db.tables import Agency, Reception
from storage.keys import Purpose
from workers.context import WORKER, JobContext, Outcome

RECEIPT_VERSION = "liuhen-receipt/1"


def verify(context: JobContext) -> Outcome:
    """Read an original past the page cache, compare digests, and sign the receipt (invariant 3).

    A mismatch is an outcome, not a failure: the item is quarantined and the leaf says what was found.
    """
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    total = max(1, stored.size_bytes)
    try:
        found = hash_stream(
            context.storage.objects.read_back(stored.store_key),
            sm3=True,
            progress=lambda done: context.progress(done / total),
        )
    except Unavailable as error:
        if error.code != "store_io":
            raise
        # A sector that cannot be read is this object's fault and not the hour's: it counts as an attempt.
        raise EvidenceError(
            f"object: expected readable bytes, found: {error.message}", code="object_unreadable"
        ) from error
    if found.sha256 != stored.sha256 or found.size_bytes != stored.size_bytes:
        return _failed(context, found.sha256.hex(), f"{found.size_bytes} bytes")
    return _verified(context, found)


def _verified(context: JobContext, found: Digests) -> Outcome:
    reception_id = UUID(context.lease.params["reception"])

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
        row = items.object_of(session, item)
        row.sm3, row.verified_at = found.sm3, now
        if item.custody == Custody.RECEIVED:
            item.custody = str(move(Custody.RECEIVED, Custody.VERIFIED))
        digests = {"sha256": found.sha256.hex(), "sm3": found.sm3.hex() if found.sm3 else None}
        leaf = custody.record(
            session,
            agency,
            Happening(
                Action.ITEM_VERIFIED,
                "item",
                str(item.id),
                WORKER,
                {**digests, "size_bytes": found.size_bytes, "reception": str(reception_id)},
            ),
            now,
        )
        if item.custody == Custody.QUARANTINED or not context.lease.params.get("receipt", True):
            # Sound bytes that are not those the sender declared: kept, but no card is wiped for them.
            return
        reception = session.scalars(
            select(Reception).where(Reception.agency_id == agency.id, Reception.id == reception_id)
        ).one()
        body = {
            "version": RECEIPT_VERSION,
            "agency": agency.code,
            "item": str(item.id),
            "reception": str(reception.id),
            **digests,
            "size_bytes": found.size_bytes,
            "received_at": rfc3339(reception.received_at),
            "verified_at": rfc3339(now),
            "custody_leaf": str(reception.leaf_id),
            "verified_leaf": str(leaf),
            "may_erase": True,
        }
        message = canonical_json(body)
        key_id, signature = context.storage.keys.sign(Purpose.RECEIPT, message)
        receipt = {**body, "key": key_id, "signature": base64.b64encode(signature).decode("ascii")}
        reception.receipt = canonical_json(receipt).decode()
        facts = {"reception": str(reception.id), "key": key_id, "sha256": found.sha256.hex()}
        custody.record(
            session, agency, Happening(Action.RECEIPT_ISSUED, "item", str(item.id), WORKER, facts), now
        )

    subject = str(context.lease.subject_id)
    return Outcome(commit, [(Topic.ITEM, subject, "verified", {"sha256": found.sha256.hex()})])


def _failed(context: JobContext, found: str, detail: str) -> Outcome:
    expected = context.lease.input_digest.hex()

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
        item.custody = str(Custody.QUARANTINED)
        items.flag(
            item,
            "fixity_mismatch",
            f"object: expected sha256 {expected[:16]}…, found {found[:16]} ({detail}); upload the file again",
        )
        facts = {"expected_sha256": expected, "found": found[:64]}
        custody.record(
            session, agency, Happening(Action.ITEM_FIXITY_FAILED, "item", str(item.id), WORKER, facts), now
        )

    subject = str(context.lease.subject_id)
    return Outcome(commit, [(Topic.ITEM, subject, "quarantined", {"code": "fixity_mismatch"})])
