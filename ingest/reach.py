"""What people see by a binding ends with the binding, whoever ends it and from where."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from storage.db import custody, grants
from storage.db.custody import Happening
from storage.db.tables import Agency

# Variants that hang on the right to the original (`api.issuing.REVEALING`).
REVEALING = frozenset({"original", "awaiting"})


def revoke_after_unbinding(
    session: Session, agency: Agency, item_id: UUID, case_id: UUID, *, author: str, now: datetime
) -> None:
    """End the grants that may hang on a binding that ended; the caller holds the item's lock.

    Those are grants within the case, of originals, which handlers have by bindings, and of the item
    without a case, which may now be wider than the spans that are left.
    """
    for grant in grants.grants_of_item(session, agency.id, item_id, now):
        if grant.case_id in {case_id, None} or grant.variant in REVEALING:
            _revoke(session, agency, grant.id, item_id, author, now, "binding_ended")


def revoke_after_narrowing(
    session: Session, agency: Agency, item_id: UUID, *, author: str, now: datetime
) -> None:
    """End masked grants of the item without a case, now that spans limit what they may show."""
    for grant in grants.grants_of_item(session, agency.id, item_id, now):
        if grant.case_id is None and grant.variant not in REVEALING:
            _revoke(session, agency, grant.id, item_id, author, now, "span_bound")


def _revoke(
    session: Session, agency: Agency, grant_id: UUID, item_id: UUID, author: str, now: datetime, why: str
) -> None:
    grants.grant_by_id(session, agency.id, grant_id).revoked_at = now
    facts = {"grant": str(grant_id), "why": why}
    custody.record(session, agency, Happening(Action.GRANT_REVOKED, "item", str(item_id), author, facts), now)
    session.flush()
