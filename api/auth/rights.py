"""Which part of an item an actor may see, and in which variant.

The role decision is `evidence.access`. Here the subject of that decision is read from the rows: who
handles the cases the item is bound to, and who recorded it. Three rules keep people from giving a
right to themselves:

1. A binding counts for a handler only if somebody or something else also tied the item to that case.
2. Who recorded an item is what device, dock, card and file name said, never what was typed later.
3. A binding of a span gives a right to that span; the seconds around it may belong to another case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from api.desk import Work
from evidence.access import Act, Subject, may, require
from evidence.errors import InvalidInput, NotFound, NotPermitted
from evidence.item import Binding
from evidence.kinds import ClaimSource, Role
from ingest.facts import Statement, weigh
from storage.db import agencies, cases, items
from storage.db.tables import Case, CaseBinding, Item

Span = tuple[int, int]


@dataclass(frozen=True)
class Reach:
    """How much of an item somebody may see."""

    spans: tuple[Span, ...] | None
    """Microseconds of media time; None is all of it."""

    @classmethod
    def of_bindings(cls, bindings: Sequence[CaseBinding]) -> Reach:
        """What bindings cover together: all of it as soon as one has no span."""
        spans = []
        for row in bindings:
            if row.span_from_us is None or row.span_to_us is None:
                return EVERYTHING
            spans.append((row.span_from_us, row.span_to_us))
        return cls(tuple(sorted(set(spans))))

    def choose(self, asked: Span | None) -> Span | None:
        """The span to grant; None grants the whole item.

        Raises:
            InvalidInput: Nothing was asked and there is more than one span to choose from.
            NotPermitted: What was asked is not inside what may be seen.
        """
        if self.spans is None:
            return asked
        listed = [f"{start}-{end}" for start, end in self.spans]
        if asked is None:
            if len(self.spans) == 1:
                return self.spans[0]
            raise InvalidInput(
                f"span: expected one of {', '.join(listed)} µs, found none; say which",
                code="span_needed",
                spans=listed,
            )
        if any(start <= asked[0] and asked[1] <= end for start, end in self.spans):
            return asked
        raise NotPermitted(
            f"span: expected inside {', '.join(listed)} µs, found {asked[0]}-{asked[1]}",
            code="span_not_permitted",
            spans=listed,
        )


EVERYTHING = Reach(None)


def redacted_reach(work: Work, item: Item, case: Case | None) -> Reach:
    """What of the masked rendition may be seen, within a case when one is named.

    Raises:
        NotPermitted: The actor sees no footage.
        NotFound: The item is not tied to that case.
    """
    require(work.actor, Act.SEE_REDACTED)
    if case is None:
        return EVERYTHING
    return Reach.of_bindings(_tied(work, item, case))


def original_reach(work: Work, item: Item, case: Case | None = None) -> Reach:
    """What of the original may be seen, within a case when one is named.

    Raises:
        NotPermitted: The actor has no right to any of it.
        NotFound: The item is not tied to that case.
    """
    tied = _tied(work, item, case) if case is not None else None
    handled = _handled_by_actor(work, item)
    subject = Subject(
        handler_ids=frozenset({work.actor.account_id}) if handled else frozenset(),
        collector_officer_ids=_collectors(work, item),
    )
    require(work.actor, Act.SEE_ORIGINAL, subject)
    by_duty = may(work.actor, Act.SEE_ORIGINAL)
    collected = Role.OFFICER in work.actor.roles and work.actor.officer_id in subject.collector_officer_ids
    if by_duty or collected:
        return EVERYTHING if tied is None else Reach.of_bindings(tied)
    if case is not None:
        handled = [row for row in handled if row.case_id == case.id]
        if not handled:
            raise NotPermitted(
                f"{Act.SEE_ORIGINAL}: expected a case you handle, found another", code="not_permitted"
            )
    return Reach.of_bindings(handled)


def sees_original(work: Work, item: Item) -> bool:
    """Whether the actor has a right to any part of the original."""
    try:
        original_reach(work, item)
    except NotPermitted:
        return False
    return True


def _tied(work: Work, item: Item, case: Case) -> list[CaseBinding]:
    rows = [row for row in cases.bindings_of(work.session, work.agency_id, item.id) if row.case_id == case.id]
    if not rows:
        raise NotFound(
            f"item {item.id}: expected one tied to case {case.case_no}, found it is not", code="not_in_case"
        )
    return rows


def _handled_by_actor(work: Work, item: Item) -> list[CaseBinding]:
    """Bindings in force of cases the actor handles, as far as they count (rule 1)."""
    if Role.HANDLER not in work.actor.roles:
        return []
    ever = cases.bindings_of(work.session, work.agency_id, item.id, in_force=False)
    confirmed = {row.case_id for row in ever if row.author != work.actor.label}
    counting = [
        row
        for row in ever
        if row.ended_at is None and row.state == Binding.BOUND and row.case_id in confirmed
    ]
    return [
        row
        for row in counting
        if cases.case_by_id(work.session, work.agency_id, row.case_id).handler_id == work.actor.account_id
    ]


def _collectors(work: Work, item: Item) -> frozenset[UUID]:
    """Officers who recorded the item, by what machines said (rule 2)."""
    if Role.OFFICER not in work.actor.roles:
        return frozenset()
    said = [
        Statement(claim.field, claim.value, ClaimSource(claim.source), claim.clock)
        for claim in items.claims_of(work.session, work.agency_id, item.id)
        if claim.source != ClaimSource.PERSON
    ]
    told = weigh(said, work.now)
    found: set[UUID] = set()
    if told.officer_no is not None:
        officer = agencies.officer_by_no(work.session, work.agency_id, told.officer_no)
        found |= {officer.id} if officer is not None else set()
    if item.device_id is not None and told.captured_from is not None:
        until = told.captured_to or told.captured_from
        holders = agencies.officers_holding(
            work.session, work.agency_id, item.device_id, told.captured_from, until
        )
        found |= {officer.id for officer in holders}
    return frozenset(found)
