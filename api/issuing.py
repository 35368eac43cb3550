"""Handing out and taking back rights to bytes; each is custody, once.

A grant is a row. Its leaf is written with it; what is fetched under it (a playlist, a still, a whole
original) leaves one leaf at the first time, none per range and none per refresh.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth.rights import (
    Asking,
    Span,
    awaiting_reach,
    original_reach,
    redacted_reach,
    release_needed,
)
from api.desk import Work
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import InvalidInput
from evidence.kinds import RetrievalPurpose
from storage.db import cases, custody, grants, items
from storage.db.custody import Happening
from storage.db.grants import Seat
from storage.db.release_tables import Release
from storage.db.tables import Agency, Case, Grant, Item


class Variant(StrEnum):
    """What a grant shows."""

    REDACTED = "redacted"
    ORIGINAL = "original"
    AWAITING = "awaiting"
    """The checked rendition of a plan that reveals, for whoever may approve it, before anybody else."""


# What shows more than everybody with the right to masked footage may see.
REVEALING = frozenset({Variant.ORIGINAL, Variant.AWAITING})
REACHES = {
    Variant.REDACTED: redacted_reach,
    Variant.ORIGINAL: original_reach,
    Variant.AWAITING: awaiting_reach,
}


def check_span(item: Item, span: Span | None) -> Span | None:
    """A span that lies in the item, as far as its length is known.

    Raises:
        InvalidInput: It begins after the end.
    """
    if span is not None and item.duration_us is not None and span[0] >= item.duration_us:
        raise InvalidInput(
            f"span: expected inside 0 to {item.duration_us} µs, found {span[0]} to {span[1]}",
            code="span_invalid",
        )
    return span


def permitted_span(
    work: Asking, item: Item, variant: Variant, case: Case | None, asked: Span | None
) -> Span | None:
    """The span the actor may have; None is the whole item.

    Raises:
        NotPermitted: No right to this variant, or not to this span.
        InvalidInput: There is more than one span to choose from, or it is outside the item.
        Conflict: A masked rendition of an item that is not verified.
    """
    return REACHES[variant](work, item, case).choose(check_span(item, asked))


def require_reason(variant: Variant, reason: str | None) -> None:
    """Originals, and what was not approved yet, are shown for a purpose and a reason (R24).

    Raises:
        InvalidInput: One of them without a reason.
    """
    if variant in REVEALING and not reason:
        raise InvalidInput(
            f"{variant}: expected a reason beside the purpose, found none; say why", code="reason_missing"
        )


def issue_grant(
    work: Work,
    item: Item,
    variant: Variant,
    *,
    purpose: RetrievalPurpose,
    reason: str | None,
    case: Case | None,
    asked: Span | None,
) -> Grant:
    """A grant for the actor, with its custody leaf; the caller holds the item's lock.

    Raises:
        NotPermitted, InvalidInput, NotFound: As `permitted_span` and `require_reason`.
    """
    require_reason(variant, reason)
    # Before the right is looked at: no grant may outlive what it hangs on (`revoke_after_handover`).
    cases.hold_cases_of_item(work.session, work.agency_id, item.id)
    span = permitted_span(work, item, variant, case, asked)
    asked_for = [Seated(item.id, span)]
    (grant,) = write_grants(work, variant, asked_for, purpose=purpose, reason=reason, case=case)
    return grant


@dataclass(frozen=True)
class Seated:
    """A grant that is to be written, and its seat where it is one of a set."""

    item_id: UUID
    span: Span | None
    seat: Seat | None = None
    told: dict[str, Any] | None = None
    """What is told of it with the grant, and stays (`api.telling`)."""


def write_grants(
    work: Work,
    variant: Variant,
    wanted: Sequence[Seated],
    *,
    purpose: RetrievalPurpose,
    reason: str | None,
    case: Case | None,
) -> list[Grant]:
    """The rows and the leaves of grants whose right was looked at in this transaction."""
    expires_at = work.now + timedelta(seconds=work.settings.media.grant_s)
    hangs_on = _releases(work, variant, wanted, case)
    rows = [
        grants.new_grant(
            work.agency_id,
            account_id=work.actor.account_id,
            item_id=each.item_id,
            case_id=case.id if case is not None else None,
            variant=str(variant),
            span_us=each.span,
            purpose=str(purpose),
            reason=reason,
            now=work.now,
            expires_at=expires_at,
            seat=each.seat,
        )
        for each in wanted
    ]
    for row, each in zip(rows, wanted, strict=True):
        row.told = each.told
        release = hangs_on.get(each.item_id)
        if release is not None:
            row.release_id = release.id
            row.expires_at = min(row.expires_at, release.expires_at or row.expires_at)
    work.session.add_all(rows)
    work.session.flush()
    private = {"reason": reason} if reason else None
    happenings = [
        Happening(Action.GRANT_ISSUED, "item", str(row.item_id), work.actor.label, _facts(row), private)
        for row in rows
    ]
    custody.record_all(work.session, work.agency, happenings, work.now)
    return rows


def _releases(
    work: Work, variant: Variant, wanted: Sequence[Seated], case: Case | None
) -> dict[UUID, Release]:
    """By item, the release that the actor sees it by; those that are seen by role are left out."""
    if variant is not Variant.REDACTED or not work.release_roles:
        return {}
    found = items.items_by_id(work.session, work.agency_id, [each.item_id for each in wanted])
    needed = {item_id: release_needed(work, item, case) for item_id, item in found.items()}
    return {item_id: release for item_id, release in needed.items() if release is not None}


def _facts(grant: Grant) -> dict[str, Any]:
    span_us = None if grant.span_from_us is None else [grant.span_from_us, grant.span_to_us]
    facts = {
        "grant": str(grant.id),
        "variant": grant.variant,
        "purpose": grant.purpose,
        "case": str(grant.case_id) if grant.case_id else None,
        "span_us": span_us,
        "expires_at": rfc3339(grant.expires_at),
    }
    if grant.release_id is not None:
        facts["release"] = str(grant.release_id)
    return facts if grant.set_id is None else {**facts, "set": str(grant.set_id)}


def revoke_grant(work: Work, grant: Grant, why: str) -> None:
    """End a grant at once; ending it twice is fine."""
    if grant.revoked_at is not None:
        return
    grant.revoked_at = work.now
    work.record(Action.GRANT_REVOKED, "item", grant.item_id, {"grant": str(grant.id), "why": why})


def revoke_after_handover(work: Work, case_id: UUID, handler_id: UUID) -> None:
    """End what the handler of a case sees of its originals when the case goes to another.

    The caller holds the case, so that nothing is issued because of its handler meanwhile.
    """
    for grant in grants.grants_of_handler(work.session, work.agency_id, case_id, handler_id, work.now):
        revoke_grant(work, grant, "handed_over")


class Once:
    """Remembers what has been noted, so that a player's refresh costs no look into the log."""

    def __init__(self, most: int = 4096) -> None:
        self._seen: OrderedDict[tuple[UUID, Action], None] = OrderedDict()
        self._most = most
        self._lock = threading.Lock()

    def is_noted(self, grant_id: UUID, action: Action) -> bool:
        with self._lock:
            return (grant_id, action) in self._seen

    def remember(self, grant_id: UUID, action: Action) -> None:
        with self._lock:
            self._seen[grant_id, action] = None
            while len(self._seen) > self._most:
                self._seen.popitem(last=False)


def note_issued(
    session: Session, agency: Agency, grant: Grant, action: Action, facts: Mapping[str, Any], now: datetime
) -> bool:
    """Leave the one leaf that says something was fetched under a grant; False when it is there already.

    The caller holds the grant's row lock, so that two first requests leave one leaf.
    """
    grant_id, noted = str(grant.id), grant.noted or []
    if action in noted:
        return False
    grant.noted = [*noted, str(action)]
    happening = Happening(
        action,
        "item",
        str(grant.item_id),
        f"account:{grant.account_id}",
        {"grant": grant_id, "variant": grant.variant, **facts},
    )
    custody.record(session, agency, happening, now)
    return True
