"""Which part of an item an actor may see, and in which variant.

The role decision is `evidence.access`. Here the subject of that decision is read from the rows: who
handles the cases the item is bound to, and who recorded it. Three rules keep people from giving a
right to themselves:

1. A binding counts for a handler only while it is in force, if it is more than a suggestion, and if somebody
   or something else made it. What a handler binds, confirms or splits gives that handler nothing.
2. Who recorded an item is what device, dock, card and file name said, never what was typed later.
3. A binding of a span gives a right to that span; the seconds around it may belong to another case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.access import Act, Actor, Subject, may, require
from evidence.errors import Conflict, InvalidInput, NotFound, NotPermitted
from evidence.item import SHOWABLE, Binding, Custody
from evidence.kinds import ClaimSource, Role
from evidence.live_masks import is_open
from evidence.session import case_named_by
from ingest.facts import Statement, weigh
from ingest.recorder import rights
from storage.db import accounts, agencies, cases, items, ledger, releases, sessions
from storage.db.live_masks import live_masks_in_order
from storage.db.release_tables import Release
from storage.db.room_tables import PlannedSession, RoomSession
from storage.db.tables import Case, CaseBinding, Item

Span = tuple[int, int]
DUTY = frozenset({Role.LEGAL_REVIEWER, Role.ARCHIVIST})


class Asking(Protocol):
    """Who asks, when, and of which rows: an `api.desk.Work`, or an `Asker`."""

    @property
    def session(self) -> Session: ...
    @property
    def agency_id(self) -> UUID: ...
    @property
    def actor(self) -> Actor: ...
    @property
    def now(self) -> datetime: ...
    @property
    def release_roles(self) -> frozenset[Role]: ...


@dataclass(frozen=True)
class Asker:
    """Somebody whose right is asked for again, without a request of theirs.

    Whether a release is needed was decided when they asked: what hangs on one names it, and it is looked at.
    """

    session: Session
    agency_id: UUID
    actor: Actor
    now: datetime
    release_roles: frozenset[Role] = frozenset()


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

    def within(self, asked: Span | None) -> list[Span | None]:
        """Every span to grant of what was asked: apart where two bindings meet, and no second twice.

        Returns:
            Spans, each inside one of those that may be seen; None is the whole item; nothing: none of it.
        """
        if self.spans is None:
            return [asked]
        found: list[Span | None] = []
        reached = asked[0] if asked is not None else 0
        for start, end in self.spans:
            first, last = max(start, reached), end if asked is None else min(end, asked[1])
            if first < last:
                found.append((first, last))
                reached = last
        return found


EVERYTHING = Reach(None)


def redacted_reach(work: Asking, item: Item, case: Case | None) -> Reach:
    """What of the masked rendition may be seen, within a case when one is named.

    Of an item that is tied by spans alone only the spans: what lies between them is of no case. Whoever
    has the right to all of the original sees all of it.

    Raises:
        NotPermitted: The actor sees no footage, or needs a release and there is none (``release_missing``).
        NotFound: The item is not tied to that case.
        Conflict: The item is not verified: nothing of it is shown.
    """
    require(work.actor, Act.SEE_REDACTED)
    require_showable(item)
    release = release_needed(work, item, case)
    if release is not None and release.case_id is not None and case is None:
        case = cases.case_by_id(work.session, work.agency_id, release.case_id)
    if case is not None:
        return Reach.of_bindings(_tied(work, item, case))
    tied = cases.bindings_of(work.session, work.agency_id, item.id)
    if not tied or sees_whole_original(work, item):
        return EVERYTHING
    return Reach.of_bindings(tied)


def release_needed(work: Asking, item: Item, case: Case | None) -> Release | None:
    """The release the actor sees the masked rendition by, within a case when one is named; None: by role.

    Raises:
        NotPermitted: By a release alone, and none is in force for them (``release_missing``).
    """
    if not (work.release_roles and work.actor.roles <= work.release_roles) or sees_original(work, item):
        return None
    found = releases.released_to(
        work.session, work.agency_id, item.id, work.actor.account_id, work.actor.roles, work.now
    )
    for release in found:
        if case is None or release.case_id in {None, case.id}:
            return release
    raise NotPermitted(
        f"item {item.id}: expected a release to you or your role, found none; ask whoever releases",
        code="release_missing",
    )


def is_showable(item: Item) -> bool:
    """Whether masked renditions of the item may be shown: its bytes were read back and are what came in."""
    return Custody(item.custody) in SHOWABLE


def require_showable(item: Item) -> None:
    """Raise unless `is_showable`.

    Raises:
        Conflict: ``item_not_verified``.
    """
    if not is_showable(item):
        raise Conflict(
            f"item {item.id}: expected verified custody, found {item.custody}; wait, or look at its flags",
            code="item_not_verified",
        )


def original_reach(work: Asking, item: Item, case: Case | None = None) -> Reach:
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


def awaiting_reach(work: Asking, item: Item, case: Case | None = None) -> Reach:
    """What of a rendition that waits for approval may be seen: by whoever may give it, to judge it.

    It shows what the version in force hides, so that the right to the whole original is asked for too.

    Raises:
        NotPermitted: The actor approves nothing, or has not the right to all of the original.
        NotFound: The item is not tied to that case.
        Conflict: The item is not verified, or no version of its plan waits (``nothing_awaits_approval``).
    """
    require(work.actor, Act.APPROVE_REDACTION)
    require_whole_original(work, item)
    require_showable(item)
    newest = items.newest_plan(work.session, work.agency_id, item.id, light=True)
    if newest is None or not newest.awaits_approval:
        raise Conflict(
            f"item {item.id}: expected a plan that awaits approval, found none; ask for the redacted variant",
            code="nothing_awaits_approval",
        )
    return EVERYTHING if case is None else Reach.of_bindings(_tied(work, item, case))


def sees_original(work: Asking, item: Item) -> bool:
    """Whether the actor has a right to any part of the original."""
    try:
        original_reach(work, item)
    except NotPermitted:
        return False
    return True


def sees_whole_original(work: Asking, item: Item) -> bool:
    """Whether the actor has a right to all of the original."""
    try:
        return original_reach(work, item).spans is None
    except NotPermitted:
        return False


def require_whole_original(work: Asking, item: Item) -> None:
    """Raise unless the actor has a right to all of the original.

    Raises:
        NotPermitted: To none of it, or to spans of it alone (``span_not_permitted``).
    """
    if original_reach(work, item).spans is not None:
        raise NotPermitted(
            "original: expected a right to all of it, found one to a span; ask legal review",
            code="span_not_permitted",
        )


def own_number(work: Asking) -> str | None:
    """The officer number an officer is held to; empty when there is none; None for other roles."""
    if work.actor.roles & {Role.HANDLER, Role.ARCHIVIST}:
        return None
    if work.actor.officer_id is None:
        return ""
    return ledger.officer_number(work.session, work.agency_id, work.actor.officer_id)


def require_may_explain(work: Asking, item: Item) -> None:
    """Raise unless the actor may say why the item is late or interrupted; an officer, of own items only.

    Raises:
        NotPermitted: ``reason_not_yours``.
    """
    require(work.actor, Act.GIVE_REASON)
    only = own_number(work)
    if only is not None and (not only or item.collector != only):
        raise NotPermitted(
            f"item {item.id}: expected its collector, a handler or the archive, found another",
            code="reason_not_yours",
        )


def has_case(actor: Actor, case: Case) -> bool:
    """Whether the case is the actor's to change: its handler, legal review or the archive."""
    return bool(actor.roles & DUTY) or (Role.HANDLER in actor.roles and case.handler_id == actor.account_id)


def require_case(actor: Actor, case: Case) -> None:
    """Raise unless `has_case`.

    Raises:
        NotPermitted: ``case_not_yours``.
    """
    if not has_case(actor, case):
        raise NotPermitted(
            f"case {case.case_no}: expected its handler, legal review or the archive, found another",
            code="case_not_yours",
        )


class SessionRights(rights.SessionRights):
    """What whoever asks may do with sessions of rooms."""

    def __init__(self, work: Asking, rows: Sequence[RoomSession | PlannedSession]) -> None:
        super().__init__(work.session, work.agency_id, work.actor, rows)


def require_session(work: Asking, row: RoomSession | PlannedSession, act: Act) -> None:
    """Raise unless the actor may read or run the session, or one that is planned.

    Raises:
        NotPermitted: ``session_not_yours``.
    """
    if not SessionRights(work, [row]).has(row, act):
        raise NotPermitted(
            f"session {row.id}: expected one you started, conduct or handle the case of, found another's",
            code="session_not_yours",
        )


def require_live(work: Asking, row: RoomSession) -> None:
    """Raise unless the actor may watch a session while it is recorded: what is shown is original.

    Legal review and the archive by duty; the handler of its case, unless that handler put another's session
    there: who may see the files of it later is decided in the same way.

    Raises:
        NotPermitted: ``session_not_yours``, ``not_permitted``.
    """
    require_session(work, row, Act.READ_SESSIONS)
    handler_ids: frozenset[UUID] = frozenset()
    if row.case_id is not None and (row.started_by == work.actor.label or _named_by_others(work, row)):
        handler_id = cases.case_by_id(work.session, work.agency_id, row.case_id).handler_id
        handler_ids = frozenset({handler_id}) if handler_id is not None else frozenset()
    require(work.actor, Act.SEE_ORIGINAL, Subject(handler_ids=handler_ids))


def require_masked_live(work: Asking, row: RoomSession) -> None:
    """Raise unless the actor may watch what a live mask leaves of a session: reads it, or sees its case.

    Raises:
        NotPermitted: ``not_permitted``, ``session_not_yours``; or none is in force (``live_mask_needed``).
    """
    require(work.actor, Act.WATCH_LIVE)
    # Cases are listed to all who may watch.
    if row.case_id is None:
        require_session(work, row, Act.READ_SESSIONS)
    if not is_open(live_masks_in_order(work.session, work.agency_id, row.id)):
        raise NotPermitted(
            f"session {row.id}: expected a live mask, found none in force; "
            "ask its case's handler, legal review or the archive to set one",
            code="live_mask_needed",
        )


def may_watch_original(work: Asking, row: RoomSession) -> bool:
    """Whether the actor may watch a session live as it is recorded."""
    try:
        require_live(work, row)
    except NotPermitted:
        return False
    return True


def _named_by_others(work: Asking, row: RoomSession) -> bool:
    """Whether somebody else said which case the session is of."""
    notes = sessions.notes_of(work.session, work.agency_id, row.id)
    return case_named_by(notes, row.started_by) != work.actor.label


def actor_of(session: Session, agency_id: UUID, account_id: UUID) -> Actor:
    """The holder of an account, with the roles it has now."""
    return rights.actor_of(session, agency_id, accounts.account_by_id(session, agency_id, account_id))


def require_may_bind(work: Asking, item: Item) -> None:
    """Raise unless the actor may tie the item to one more case.

    Raises:
        NotPermitted: It is bound to a case that is not the actor's (``case_not_yours``).
    """
    tied = cases.bindings_of(work.session, work.agency_id, item.id)
    for case_id in {row.case_id for row in tied if row.state == Binding.BOUND}:
        require_case(work.actor, cases.case_by_id(work.session, work.agency_id, case_id))


def require_may_state(work: Asking, item: Item) -> None:
    """Raise unless the actor may state facts of the item.

    The archive of any; a handler of what is bound to no case of another's; an officer of what machines say
    that officer recorded, and of what is bound nowhere while nobody else is named. Who is named by people
    alone gains no right to see it (rule 2).

    Raises:
        NotPermitted: ``facts_not_yours``.
    """
    require(work.actor, Act.SET_FACTS)
    roles, actor = work.actor.roles, work.actor
    if Role.ARCHIVIST in roles:
        return
    tied = cases.bindings_of(work.session, work.agency_id, item.id)
    bound = {row.case_id for row in tied if row.state == Binding.BOUND}
    known = cases.cases_by_id(work.session, work.agency_id, list(bound))
    if Role.HANDLER in roles and all(has_case(actor, case) for case in known.values()):
        return
    collectors = _collectors(work, item)
    if actor.officer_id is not None and actor.officer_id in collectors:
        return
    is_nobodys = not bound and not collectors and item.collector in {None, own_number(work)}
    if Role.OFFICER in roles and is_nobodys:
        return
    raise NotPermitted(
        f"item {item.id}: expected its collector, the handler of its case or the archive, found another; "
        "ask the archive",
        code="facts_not_yours",
    )


def _tied(work: Asking, item: Item, case: Case) -> list[CaseBinding]:
    rows = [row for row in cases.bindings_of(work.session, work.agency_id, item.id) if row.case_id == case.id]
    if not rows:
        raise NotFound(
            f"item {item.id}: expected one tied to case {case.case_no}, found it is not", code="not_in_case"
        )
    return rows


def _handled_by_actor(work: Asking, item: Item) -> list[CaseBinding]:
    """Bindings in force of cases the actor handles, as far as they count (rule 1)."""
    if Role.HANDLER not in work.actor.roles:
        return []
    counting = [
        row
        for row in cases.bindings_of(work.session, work.agency_id, item.id)
        if row.state == Binding.BOUND and row.author != work.actor.label
    ]
    return [
        row
        for row in counting
        if cases.case_by_id(work.session, work.agency_id, row.case_id).handler_id == work.actor.account_id
    ]


def _collectors(work: Asking, item: Item) -> frozenset[UUID]:
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
