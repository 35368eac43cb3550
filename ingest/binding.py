"""Tying items to cases: by the number named, by the officer's one open case, or by a person.

Every item is bound, suggested or on the unbound list; the three sum to all (invariant 10). A binding
has a span, a score, a reason and an author, and is ended, never deleted. The AV record number (R5)
is drawn when an item is first filed into a case, in the same transaction.

The item's row is locked before its bindings are looked at, so that two people at once leave the
state that the bindings in force add up to. What people saw by a binding ends with it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from evidence.case import normalise_case_no
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput
from evidence.item import Binding
from evidence.kinds import ClaimSource
from evidence.session import case_named_by
from ingest.facts import RANK
from ingest.reach import revoke_after_narrowing, revoke_after_unbinding
from storage.db import agencies, cases, custody, items, sessions
from storage.db.custody import Happening
from storage.db.tables import Agency, Case, CaseBinding, Item

PIPELINE = "system"
UNBOUND_BECAUSE = ("case_unknown", "case_no_invalid")
"""Flags that say why nobody but a person could bind an item; they end when one does."""


def bind_by_claims(session: Session, agency: Agency, item: Item, now: datetime) -> CaseBinding | None:
    """Bind a fresh item by what was said of it; None leaves it on the unbound list.

    A named number that cannot be bound becomes a flag of the item, never an error: the rest of the
    shift goes on.
    """
    if cases.bindings_of(session, agency.id, item.id):
        return None
    named = items.claimed(session, agency.id, item.id, "case_no")
    if named:
        case_no = min(named, key=lambda claim: RANK[ClaimSource(claim.source)]).value
        try:
            case = cases.case_by_key(session, agency.id, normalise_case_no(case_no))
        except InvalidInput as error:
            items.flag(item, "case_no_invalid", error.message)
            return None
        if case is None:
            items.flag(
                item,
                "case_unknown",
                "case number: expected a case of the register, found none of that number",
            )
            return None
        if case.closed_at is not None and (item.captured_from or now) > case.closed_at:
            items.flag(item, "case_closed", f"case {case.case_no}: expected open at capture, found closed")
            return None
        author = _named_by(session, agency, item)
        return bind(session, agency, item, case, author=author, reason="case number named", now=now)
    return _suggest(session, agency, item, now)


def _named_by(session: Session, agency: Agency, item: Item) -> str:
    """Who named the case: of a session of a room, whoever said it there, if another than who began it.

    What a person binds gives that person no right (`api.auth.rights`); nor shall naming a case in a session
    that somebody else, or the room's recorder, began.
    """
    for claim in items.claimed(session, agency.id, item.id, "recording"):
        kind, _, rest = claim.value.partition(":")
        if claim.source == ClaimSource.SERVER and kind == "session":
            row = sessions.session_by_id(session, agency.id, UUID(rest.partition(":")[0]))
            named_by = case_named_by(sessions.notes_of(session, agency.id, row.id), row.started_by)
            return PIPELINE if named_by == row.started_by else named_by
    return PIPELINE


def _suggest(session: Session, agency: Agency, item: Item, now: datetime) -> CaseBinding | None:
    if item.captured_from is None:
        return None
    since, until = item.captured_from, item.captured_to or item.captured_from
    officer_nos = [item.collector] if item.collector else []
    if item.device_id is not None and not officer_nos:
        holders = agencies.officers_holding(session, agency.id, item.device_id, since, until)
        officer_nos = [officer.officer_no for officer in holders]
    if len(officer_nos) != 1:
        return None
    found = cases.open_cases_of(session, agency.id, officer_nos, since, until)
    if len(found) != 1:
        return None
    return bind(
        session,
        agency,
        item,
        found[0],
        author=PIPELINE,
        reason="the officer's one open case at that time",
        now=now,
        state=Binding.SUGGESTED,
        score_percent=60,
    )


def bind(
    session: Session,
    agency: Agency,
    item: Item,
    case: Case,
    *,
    author: str,
    reason: str,
    now: datetime,
    state: Binding = Binding.BOUND,
    score_percent: int = 100,
    span_us: tuple[int, int] | None = None,
) -> CaseBinding:
    """Tie an item, or a span of it, to a case.

    Raises:
        InvalidInput: No reason, or a span that is not inside the item.
        Conflict: It is already tied to that case with that span.
    """
    if not reason.strip():
        raise InvalidInput("binding: expected a reason, found none", code="reason_missing")
    _check_span(item, span_us)
    items.item_by_id(session, agency.id, item.id, lock=True)
    for other in cases.bindings_of(session, agency.id, item.id):
        same_span = (other.span_from_us, other.span_to_us) == (span_us or (None, None))
        if other.case_id == case.id and same_span and other.state == state:
            raise Conflict(
                f"item {item.id}: expected not yet tied to {case.case_no}, found it tied",
                code="bound_already",
            )
        if other.state == Binding.SUGGESTED and state is Binding.BOUND and same_span:
            _end(session, agency, other, author=author, reason="decided", now=now)
            if other.case_id != case.id:
                revoke_after_unbinding(session, agency, item.id, other.case_id, author=author, now=now)
    if span_us is not None:
        revoke_after_narrowing(session, agency, item.id, author=author, now=now)
    row = CaseBinding(
        agency_id=agency.id,
        item_id=item.id,
        case_id=case.id,
        state=str(state),
        span_from_us=span_us[0] if span_us else None,
        span_to_us=span_us[1] if span_us else None,
        score_percent=score_percent,
        reason=reason.strip(),
        author=author,
        made_at=now,
    )
    session.add(row)
    session.flush()
    action = Action.BINDING_MADE if state is Binding.BOUND else Action.BINDING_SUGGESTED
    custody.record(
        session,
        agency,
        Happening(
            action,
            "item",
            str(item.id),
            author,
            {
                "binding": str(row.id),
                "case": str(case.id),
                "span_us": list(span_us) if span_us else None,
                "score_percent": score_percent,
            },
            private={"case_no": case.case_no, "reason": reason.strip()},
        ),
        now,
    )
    if state is Binding.BOUND:
        for code in UNBOUND_BECAUSE:
            items.unflag(item, code)
    if state is Binding.BOUND and item.av_record_no is None:
        _draw_number(session, agency, item, case, author, now)
    _refresh(session, item)
    return row


def unbind(
    session: Session, agency: Agency, binding: CaseBinding, *, author: str, reason: str, now: datetime
) -> None:
    """End a binding, with the reason on record, and every grant that hung on it.

    Raises:
        InvalidInput: No reason.
        Conflict: It has ended already.
    """
    if not reason.strip():
        raise InvalidInput("binding: expected a reason, found none", code="reason_missing")
    item = items.item_by_id(session, agency.id, binding.item_id, lock=True)
    binding = cases.binding_by_id(session, agency.id, binding.id, lock=True)
    if binding.ended_at is not None:
        raise Conflict(f"binding {binding.id}: expected in force, found ended", code="binding_ended")
    _end(session, agency, binding, author=author, reason=reason, now=now)
    revoke_after_unbinding(session, agency, item.id, binding.case_id, author=author, now=now)
    _refresh(session, item)


def split(
    session: Session,
    agency: Agency,
    binding: CaseBinding,
    parts: list[tuple[UUID, int, int]],
    *,
    author: str,
    reason: str,
    now: datetime,
) -> list[CaseBinding]:
    """Replace one binding by spans, each of its own case: two cases in one recording are two spans.

    Args:
        parts: (case id, from, to) in microseconds of media time, in any order, not overlapping.

    Raises:
        InvalidInput: Fewer than two parts, overlapping parts, or a part outside the item.
    """
    ordered = sorted(parts, key=lambda part: part[1])
    if len(ordered) < 2:
        raise InvalidInput(f"split: expected at least two spans, found {len(ordered)}", code="split_invalid")
    for before, after in pairwise(ordered):
        if after[1] < before[2]:
            raise InvalidInput(
                f"split: expected spans apart, found {after[1]} before {before[2]} µs", code="split_invalid"
            )
    item = items.item_by_id(session, agency.id, binding.item_id, lock=True)
    unbind(session, agency, binding, author=author, reason=reason, now=now)
    made = [
        bind(
            session,
            agency,
            item,
            cases.case_by_id(session, agency.id, case_id),
            author=author,
            reason=reason,
            now=now,
            span_us=(start, end),
        )
        for case_id, start, end in ordered
    ]
    custody.record(
        session,
        agency,
        Happening(
            Action.BINDING_SPLIT,
            "item",
            str(item.id),
            author,
            {"ended": str(binding.id), "made": [str(row.id) for row in made]},
        ),
        now,
    )
    return made


def _end(
    session: Session, agency: Agency, binding: CaseBinding, *, author: str, reason: str, now: datetime
) -> None:
    binding.ended_at, binding.ended_by, binding.ended_reason = now, author, reason.strip()
    custody.record(
        session,
        agency,
        Happening(
            Action.BINDING_ENDED,
            "item",
            str(binding.item_id),
            author,
            {"binding": str(binding.id), "case": str(binding.case_id)},
            private={"reason": reason.strip()},
        ),
        now,
    )
    session.flush()


def _draw_number(
    session: Session, agency: Agency, item: Item, case: Case, author: str, now: datetime
) -> None:
    zone = ZoneInfo(agency.time_zone)
    number = cases.draw_number(session, agency, item, case, year=now.astimezone(zone).year, now=now)
    custody.record(
        session,
        agency,
        Happening(
            Action.ITEM_NUMBER_DRAWN, "item", str(item.id), author, {"number": number, "case": str(case.id)}
        ),
        now,
    )


def _check_span(item: Item, span_us: tuple[int, int] | None) -> None:
    if span_us is None:
        return
    start, end = span_us
    length = item.duration_us
    if not 0 <= start < end or (
        length is not None and end > length + int(timedelta(seconds=1).total_seconds() * 1e6)
    ):
        raise InvalidInput(
            f"span: expected inside 0 to {length} µs, found {start} to {end}", code="span_invalid"
        )


def _refresh(session: Session, item: Item) -> None:
    states = {row.state for row in cases.bindings_of(session, item.agency_id, item.id)}
    if Binding.BOUND in states:
        item.binding = str(Binding.BOUND)
    elif Binding.SUGGESTED in states:
        item.binding = str(Binding.SUGGESTED)
    else:
        item.binding = str(Binding.UNBOUND)
