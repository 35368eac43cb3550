"""Late hand-in: accepted, flagged, reason asked (requirements 4.2: 逾期上传).

A recording is due by the policy `upload_deadline` that was in force when it ended, counted from its end
or from the end of the duty it was made on. It is judged once, by what is known when its times become
known, or when it is known that no probe will tell more; a duty entered afterwards changes no judgement,
it is a reason to give.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput, NotFound
from ingest import policy
from storage.db import agencies, custody, items, ledger_duty
from storage.db.custody import Happening
from storage.db.ledger_tables import DutyPeriod, Lateness
from storage.db.tables import Agency, Item

MAX_REASON_CHARS = 500
FLAG = (
    "late",
    "upload: expected by its deadline, found later; it is kept, give the reason / 逾期上传,请说明原因",
)
# The farthest back a chain of duties without a return is followed.
LONGEST_ABSENCE = timedelta(days=62)


def judge(session: Session, agency: Agency, item: Item, now: datetime) -> Lateness | None:
    """Note an item that came after its deadline; the row if it is new.

    An item without times cannot be judged; it is once they are known. Judging twice is fine.
    """
    ended_at = item.captured_to or item.captured_from
    if ended_at is None or ledger_duty.lateness_of(session, agency.id, item.id) is not None:
        return None
    rule = policy.in_force(session, agency, policy.UPLOAD_DEADLINE, ended_at)
    due = due_of(session, agency, item, rule, ended_at)
    late_by = item.received_at - due
    if late_by <= timedelta(0):
        return None
    row = Lateness(
        agency_id=agency.id,
        item_id=item.id,
        policy_id=rule.policy_id,
        due_at=due,
        late_by_us=late_by // timedelta(microseconds=1),
        noted_at=now,
    )
    session.add(row)
    session.flush()
    items.flag(item, *FLAG)
    facts = {
        "due_at": rfc3339(due),
        "late_by_us": row.late_by_us,
        "policy_version": rule.version,
        "source": rule.source,
    }
    custody.record(session, agency, Happening(Action.ITEM_LATE, "item", str(item.id), "system", facts), now)
    return row


def due_of(session: Session, agency: Agency, item: Item, rule: policy.Rule, ended_at: datetime) -> datetime:
    """When an item is due by a rule.

    Where it is counted from duty or return and no duty is known that the recording was made on, it is
    counted from the end of the recording.
    """
    since = item.captured_from or ended_at
    counted_from = ended_at
    if rule.body["counted_from"] != "captured":
        officers = _officers(session, agency, item, since, ended_at)
        reach = LONGEST_ABSENCE if rule.body["counted_from"] == "return" else timedelta(0)
        duties = ledger_duty.duties_of(session, agency.id, officers, since, ended_at + reach)
        ends = [_return_of(duty, duties, rule) for duty in duties if duty.duty_from <= ended_at]
        counted_from = max([ended_at, *ends])
    return policy.due_at(rule, counted_from, agency.time_zone)


def _officers(session: Session, agency: Agency, item: Item, since: datetime, until: datetime) -> list[UUID]:
    """Who recorded the item: the collector named, else whoever held its device."""
    if item.collector is not None:
        named = agencies.officer_by_no(session, agency.id, item.collector)
        if named is not None:
            return [named.id]
    if item.device_id is None:
        return []
    return [row.id for row in agencies.officers_holding(session, agency.id, item.device_id, since, until)]


def _return_of(duty: DutyPeriod, duties: Sequence[DutyPeriod], rule: policy.Rule) -> datetime:
    """The end of a duty, or of the chain of duties it belongs to when return is what counts."""
    end = duty.duty_to
    if rule.body["counted_from"] != "return":
        return end
    gap = rule.span("continuous_gap_hours")
    for later in duties:
        if later.officer_id == duty.officer_id and duty.duty_from < later.duty_from <= end + gap:
            end = max(end, later.duty_to)
    return end


def give_reason(
    session: Session, agency: Agency, item_id: UUID, reason: str, *, actor: str, now: datetime
) -> Lateness:
    """State why an item was late. It is said once, by name of the account, and stays.

    Raises:
        NotFound: It was not late.
        Conflict: The reason was given.
        InvalidInput: No reason, or one too long.
    """
    said = reason.strip()
    if not said or len(said) > MAX_REASON_CHARS or any(char < " " or char == "\x7f" for char in said):
        raise InvalidInput(
            f"reason: expected one line of 1 to {MAX_REASON_CHARS} characters, found another",
            code="reason_invalid",
        )
    row = ledger_duty.lateness_of(session, agency.id, item_id, lock=True)
    if row is None:
        raise NotFound(f"item {item_id}: expected one noted as late, found none", code="lateness_not_found")
    if row.reason is not None:
        raise Conflict(
            f"item {item_id}: expected a lateness without a reason, found it given", code="lateness_answered"
        )
    row.reason, row.reason_by, row.reason_at = said, actor, now
    happening = Happening(
        Action.ITEM_LATE_REASON, "item", str(item_id), actor, {"lateness": str(row.id)}, {"reason": said}
    )
    custody.record(session, agency, happening, now)
    return row
