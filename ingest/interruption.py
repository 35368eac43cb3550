"""Continuity reports for people: reading the one in force, and stating why there was a break (R2, L15).

A reason is about one span of a report, by somebody with the right to give it. It stands beside the span for
ever; who knows better adds another one. Nothing here changes a report: that is what a machine measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.continuity import Fault, Span
from evidence.custody import Action
from evidence.errors import InvalidInput, NotFound
from evidence.kinds import GapReason
from storage.db import custody, interruptions, items
from storage.db.custody import Happening
from storage.db.tables import Agency, ContinuityReason, Derivative
from storage.objects.base import ObjectStore

MAX_STATEMENT_CHARS = 500
Key = tuple[Fault, int, int]


@dataclass(frozen=True)
class Explained:
    """A report in force and what people said about its spans."""

    row: Derivative
    facts: Mapping[str, Any]
    """The report as it was written."""
    spans: tuple[Span, ...]
    reasons: Mapping[Key, list[ContinuityReason]]
    """By span, oldest first."""
    others: list[ContinuityReason]
    """About spans that an earlier report listed and this one does not."""


def read_report(session: Session, objects: ObjectStore, agency_id: UUID, item_id: UUID) -> Explained:
    """The continuity report of an item.

    Raises:
        NotFound: There is none, or none yet (``continuity_missing``).
    """
    rows = items.derivatives_of(session, agency_id, item_id, kind="continuity")
    if not rows:
        raise NotFound(
            f"item {item_id}: expected a continuity report, found none; ask again when it was read",
            code="continuity_missing",
        )
    row = max(rows, key=lambda one: one.made_at)
    with objects.open(row.store_key) as file:
        facts: Mapping[str, Any] = json.load(file)
    spans = tuple(Span.from_json(one) for one in facts["spans"])
    reasons: dict[Key, list[ContinuityReason]] = {span.key: [] for span in spans}
    others: list[ContinuityReason] = []
    for said in interruptions.reasons_of(session, agency_id, item_id):
        key = (Fault(said.fault), said.from_us, said.to_us)
        reasons.get(key, others).append(said)
    return Explained(row, facts, spans, reasons, others)


def give_reason(
    session: Session,
    agency: Agency,
    report: Explained,
    key: Key,
    reason: GapReason,
    statement: str,
    *,
    actor: str,
    now: datetime,
) -> ContinuityReason:
    """State why a span of a report is there.

    Raises:
        NotFound: The report has no such span (``span_unknown``).
        InvalidInput: No statement, or one that is not one line (``reason_invalid``).
    """
    said = statement.strip()
    if not said or len(said) > MAX_STATEMENT_CHARS or any(char < " " or char == "\x7f" for char in said):
        raise InvalidInput(
            f"statement: expected one line of 1 to {MAX_STATEMENT_CHARS} characters, found another",
            code="reason_invalid",
        )
    if key not in report.reasons:
        raise NotFound(
            f"span: expected one of the continuity report, found {key[0]} {key[1]}-{key[2]} µs; look there",
            code="span_unknown",
        )
    row = ContinuityReason(
        agency_id=agency.id,
        item_id=report.row.item_id,
        report_sha256=report.row.sha256,
        fault=str(key[0]),
        from_us=key[1],
        to_us=key[2],
        reason=str(reason),
        statement=said,
        author=actor,
        made_at=now,
    )
    session.add(row)
    session.flush()
    facts = {
        "reason": str(reason),
        "fault": str(key[0]),
        "from_us": key[1],
        "to_us": key[2],
        "report_sha256": report.row.sha256.hex(),
    }
    happening = Happening(
        Action.ITEM_INTERRUPTION_REASON, "item", str(report.row.item_id), actor, facts, {"statement": said}
    )
    custody.record(session, agency, happening, now)
    report.reasons[key].append(row)
    return row
