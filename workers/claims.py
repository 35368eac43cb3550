"""Claims that a reading of the bytes adds to an item, each once, however often it is read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from ingest.facts import Statement
from ingest.wording import fit_statement
from storage.db import items
from storage.db.tables import Agency, Claim, Item


def add_claims(
    session: Session, agency: Agency, item: Item, said: Iterable[Statement], now: datetime
) -> None:
    """Add what is said and was not said before, by the same source in the same words."""
    known = {
        (row.field, row.value, row.source, row.clock) for row in items.claims_of(session, agency.id, item.id)
    }
    for statement in map(fit_statement, said):
        key = (statement.field, statement.value, str(statement.source), statement.clock)
        if key in known:
            continue
        known.add(key)
        session.add(
            Claim(
                agency_id=agency.id,
                item_id=item.id,
                field=statement.field,
                value=statement.value,
                source=str(statement.source),
                clock=statement.clock,
                made_at=now,
            )
        )
    session.flush()
