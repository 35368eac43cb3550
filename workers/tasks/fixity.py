"""The io queue: reading stored bytes back, and the receipt that only such a reading earns.

`verify` follows each reception; `reread` comes round for every original (`worker.reread_days`), because
bytes rot on the medium without anybody touching them. Both end an alarm by evidence, or raise one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.canonical import canonical_json
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import EvidenceError, NotFound, Unavailable
from evidence.events import Topic
from evidence.fixity import Digests, hash_stream
from evidence.item import FIXITY_MISMATCH, Custody, move
from ingest.damage import DAMAGED, Damage, note_damage, note_sound
from storage.db import accounts, custody, items
from storage.db.custody import Happening
from storage.db.tables import Agency, Item, Reception, StoredObject
from storage.keys import Purpose
from workers.context import WORKER, JobContext, Outcome

RECEIPT_VERSION = "liuhen-receipt/1"
Told = tuple[Topic, str, str, Mapping[str, Any]]


def verify(context: JobContext) -> Outcome:
    """Read an original past the page cache, compare digests, and sign the receipt (invariant 3).

    A mismatch is an outcome, not a failure: the item is quarantined and the leaf says what was found.
    """
    with context.storage.database.read() as session:
        item = items.item_by_id(session, context.agency.id, context.lease.subject_id)
        stored = items.object_of(session, item)
    found = _read_back(context, stored, sm3=True)
    if isinstance(found, Damage):
        return _failed(context, stored.id, found)
    return _verified(context, found)


def reread(context: JobContext) -> Outcome:
    """Read an original past the page cache again, long after its receipt, and note when it matched."""
    with context.storage.database.read() as session:
        stored = items.object_by_id(session, context.agency.id, context.lease.subject_id)
    found = _read_back(context, stored, sm3=False)
    if isinstance(found, Damage):
        return _failed(context, stored.id, found)
    events: list[Told] = []

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        healed = _sound(context, session, agency, stored, {"job": str(context.lease.job_id)})
        events.extend(_told(healed, "cleared"))
        row = items.object_by_id(session, agency.id, stored.id)
        row.verified_at = now
        facts = {"sha256": found.sha256.hex(), "size_bytes": found.size_bytes}
        custody.record(
            session, agency, Happening(Action.OBJECT_REREAD, "object", str(row.id), WORKER, facts), now
        )

    return Outcome(commit, events)


def _read_back(context: JobContext, stored: StoredObject, *, sm3: bool) -> Digests | Damage:
    """What the medium holds, if it is what the row says; else what was found instead.

    Raises:
        EvidenceError: A sector that cannot be read (``object_unreadable``): it counts as an attempt, and
            past the last one an alarm is raised for it (`workers.quarantine`).
    """
    total = max(1, stored.size_bytes)
    try:
        found = hash_stream(
            context.storage.objects.read_back(stored.store_key),
            sm3=sm3,
            progress=lambda done: context.progress(done / total),
        )
    except NotFound:
        return Damage("missing", "no file")
    except Unavailable as error:
        if error.code != "store_io":
            raise
        # A sector that cannot be read is this object's fault and not the hour's.
        raise EvidenceError(
            f"object: expected readable bytes, found: {error.message}", code="object_unreadable"
        ) from error
    if found.sha256 != stored.sha256 or found.size_bytes != stored.size_bytes:
        return Damage(found.sha256.hex(), f"{found.size_bytes} bytes")
    return found


def _sound(
    context: JobContext, session: Session, agency: Agency, stored: StoredObject, evidence: dict[str, str]
) -> list[UUID]:
    """End the alarms about the object, the store's own names of what it keeps aside in the log."""
    return note_sound(
        session,
        agency,
        stored,
        actor=WORKER,
        now=context.storage.clock.now(),
        kept_aside=context.storage.objects.kept_aside(stored.store_key),
        evidence=evidence,
    )


def _verified(context: JobContext, found: Digests) -> Outcome:
    reception_id = UUID(context.lease.params["reception"])
    sha256 = found.sha256.hex()
    events: list[Told] = [(Topic.ITEM, str(context.lease.subject_id), "verified", {"sha256": sha256})]

    def commit(session: Session, agency: Agency) -> None:
        now = context.storage.clock.now()
        row = items.object_of(session, items.item_by_id(session, agency.id, context.lease.subject_id))
        # First of all, because it locks every item of the object in one order.
        healed = _sound(context, session, agency, row, {"reception": str(reception_id)})
        events.extend(_told(healed, "cleared"))
        item = items.item_by_id(session, agency.id, context.lease.subject_id, lock=True)
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
            **_device_of(session, agency, item),
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

    return Outcome(commit, events)


def _device_of(session: Session, agency: Agency, item: Item) -> dict[str, str]:
    """The device a receipt is about, so that no other card is wiped for it; nothing where none is known."""
    if item.device_id is None:
        return {}
    return {"device_no": accounts.device_by_id(session, agency.id, item.device_id).device_no}


def _failed(context: JobContext, object_id: UUID, damage: Damage) -> Outcome:
    events: list[Told] = []

    def commit(session: Session, agency: Agency) -> None:
        stored = items.object_by_id(session, agency.id, object_id)
        now = context.storage.clock.now()
        told = note_damage(session, agency, stored, damage, actor=WORKER, now=now)
        events.extend(_told(told, "raised"))

    return Outcome(commit, events)


def _told(item_ids: Iterable[UUID], what: str) -> list[Told]:
    """What is told of alarms raised or cleared."""
    state = "quarantined" if what == "raised" else "verified"
    return [
        told
        for item_id in item_ids
        for told in (
            (Topic.ALARM, str(item_id), what, {"code": DAMAGED}),
            (Topic.ITEM, str(item_id), state, {"code": FIXITY_MISMATCH}),
        )
    ]
