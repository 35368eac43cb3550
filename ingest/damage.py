"""Stored bytes found damaged, and found sound again: what that means for items, alarms and the log.

A receipt said that a camera may be wiped, so damage found later is told by name: which item, of which
device, under which receptions and receipts, and what to do while the card may still hold the bytes. Only
evidence ends it: a re-read of the object past the page cache that matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.item import FIXITY_MISMATCH, Custody
from storage.db import accounts, alarms, custody, items
from storage.db.alarms import NewAlarm
from storage.db.custody import Happening
from storage.db.tables import Agency, Item, StoredObject

DAMAGED = "object_damaged"
MISDECLARED_FLAG = "digest_mismatch"
MAX_NAMED = 20


@dataclass(frozen=True)
class Damage:
    """What a re-read found instead of the bytes.

    Attributes:
        found: The digest found in hex, or one word: `missing`, `unreadable`.
        detail: More of it for people.
    """

    found: str
    detail: str


def note_damage(
    session: Session, agency: Agency, stored: StoredObject, damage: Damage, *, actor: str, now: datetime
) -> list[UUID]:
    """Quarantine every item of the object and raise an alarm for each, in the caller's transaction.

    Returns:
        The items an alarm was raised for now; those under one already are not told twice.
    """
    expected = stored.sha256.hex()
    told = []
    for item in alarms.items_of_object(session, agency.id, stored.id):
        wanted = _alarm(session, agency, item, expected, damage)
        if not alarms.raise_alarm(session, agency, wanted, actor=actor, now=now):
            continue
        told.append(item.id)
        if item.custody != Custody.DISPOSED:
            item.custody = str(Custody.QUARANTINED)
        items.flag(
            item,
            FIXITY_MISMATCH,
            f"object: expected sha256 {expected[:16]}…, found {damage.found[:16]} ({damage.detail}); "
            "upload the file again",
        )
        facts = {"expected_sha256": expected, "found": damage.found[:64]}
        custody.record(
            session, agency, Happening(Action.ITEM_FIXITY_FAILED, "item", str(item.id), actor, facts), now
        )
    return told


def _alarm(session: Session, agency: Agency, item: Item, expected: str, damage: Damage) -> NewAlarm:
    arrived = items.receptions_of(session, agency.id, item.id)
    receipted = [row for row in arrived if row.receipt is not None]
    device = None
    if item.device_id is not None:
        device = accounts.device_by_id(session, agency.id, item.device_id).device_no
    facts: dict[str, Any] = {
        "item": str(item.id),
        "device": device,
        "expected_sha256": expected,
        "found": damage.found[:64],
        "receptions": [str(row.id) for row in arrived[:MAX_NAMED]],
        "receipted": [str(row.id) for row in receipted[:MAX_NAMED]],
        "docks": sorted({row.dock_no for row in arrived if row.dock_no})[:MAX_NAMED],
    }
    message = (
        f"item {item.id} (device {device or 'unknown'}): expected sha256 {expected[:16]}…, "
        f"found {damage.found[:16]} ({damage.detail}); {len(receipted)} of {len(arrived)} receptions have a "
        "receipt: upload the file again while a card still has it, or restore it from a backup"
    )
    return NewAlarm(DAMAGED, "item", str(item.id), message, facts)


def note_sound(
    session: Session,
    agency: Agency,
    stored: StoredObject,
    *,
    actor: str,
    now: datetime,
    kept_aside: Sequence[str] = (),
    evidence: Mapping[str, Any] | None = None,
) -> list[UUID]:
    """The object was read back and matched: end what was raised about it; the items healed.

    Args:
        kept_aside: Names of damaged files the store keeps beside the sound one.
        evidence: What shows it, such as the reception that brought the bytes again.
    """
    healed = []
    for item in alarms.items_of_object(session, agency.id, stored.id):
        alarm = alarms.standing_about(session, agency.id, "item", str(item.id), DAMAGED)
        codes = {flag["code"] for flag in item.flags}
        if alarm is None and FIXITY_MISMATCH not in codes:
            continue
        items.unflag(item, FIXITY_MISMATCH)
        if item.custody == Custody.QUARANTINED and not _was_misdeclared(session, agency, item, codes):
            item.custody = str(Custody.VERIFIED)
        facts = {"kept_aside": list(kept_aside)[:MAX_NAMED], **(evidence or {})}
        reason = "回读一致 / read back past the page cache and matched"
        if alarm is not None:
            alarms.clear(session, agency, alarm, actor=actor, reason=reason, now=now, evidence=facts)
        else:
            # A person cleared the alarm before there was evidence; here it is.
            facts = {"sha256": stored.sha256.hex(), **facts}
            happening = Happening(Action.ITEM_VERIFIED, "item", str(item.id), actor, facts)
            custody.record(session, agency, happening, now)
        healed.append(item.id)
    return healed


def _was_misdeclared(session: Session, agency: Agency, item: Item, codes: set[str]) -> bool:
    """Whether the item was quarantined from the start, because its first sender declared another digest."""
    if MISDECLARED_FLAG not in codes:
        return False
    return not any(row.receipt for row in items.receptions_of(session, agency.id, item.id))
