"""What should be there and is not (R14): silence on duty, missing files, short, interrupted and late ones.

The kinds of rows:

- ``nothing_recorded``: an officer who held a recorder was on duty, the hand-in deadline of that duty is past,
  and nothing of theirs from that time is here. Before the deadline it is ``awaited``, which is no finding.
- ``no_recorder``: on duty, nothing recorded, and nothing in the officer's hands to record with.
- ``not_uploaded``: numbers are missing between files of one recording, or of one device that numbers its
  files through.
- ``interrupted``: between two files of one recording more is missing than the policy `recording_gap` allows
  and the clocks it is told by can explain (`ingest.grouping`).
- ``short``: a recording shorter than the policy `short_recording` says.
- ``late``: handed in after its deadline (`ingest.lateness`).

Each row names the rows of the database it stands for; a report writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby, pairwise
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.events import Event, Topic
from evidence.kinds import MediaKind
from evidence.recording import MOST_MISSING
from ingest import grouping, policy
from ingest.ledger_health import policies_of
from ingest.ledger_report import Column, Report, Value
from storage.db import agencies, custody, items, ledger, ledger_duty, ledger_reports
from storage.db.custody import Happening
from storage.db.ledger_reports import Footage
from storage.db.ledger_tables import DutyPeriod
from storage.db.tables import Agency, DeviceIssue, Item, Officer

KINDS = ("nothing_recorded", "no_recorder", "not_uploaded", "interrupted", "short", "late")
AWAITED = "awaited"
# A device's own numbering is looked at this far back, and a jump larger than this is a new numbering.
LOOK_BACK = timedelta(days=7)
LARGEST_SKIP = 50
MAX_NUMBERS_TOLD = 50
MOVING = frozenset({MediaKind.VIDEO, MediaKind.AUDIO})
COLUMNS = (
    Column("kind", "情况", "kind"),
    Column("officer_no", "人员编号", "officer"),
    Column("device_no", "设备编号", "device"),
    Column("since", "起", "from"),
    Column("until", "止", "to"),
    Column("detail", "说明", "detail"),
    Column("subject", "对象", "subject"),
    Column("subject_id", "对象编号", "subject id"),
)


def absence(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """The report over ``[since, until)``: duties that ended in it, recordings made in it."""
    footage = ledger_reports.footage_between(session, agency.id, since - LOOK_BACK, until)
    shown = [one for one in footage if one.captured_to >= since]
    rows = [
        *_silent(session, agency, since, until, now),
        *_skipped_by_devices(footage, since),
        *_recordings(session, agency, shown),
        *_late(session, agency, since, until),
    ]
    rows.sort(key=lambda row: (str(row["since"]), str(row["kind"]), str(row["subject_id"])))
    counted = Counter(str(row["kind"]) for row in rows)
    figures = {
        "duties": len(ledger_duty.duties_ending(session, agency.id, since, until)),
        "items": len(shown),
        **{kind: counted[kind] for kind in (*KINDS, AWAITED)},
        "findings": sum(counted[kind] for kind in KINDS),
    }
    names = (policy.UPLOAD_DEADLINE, policy.RECORDING_GAP, policy.SHORT_RECORDING)
    return Report(
        "absence", "应录未录与缺传 / absence", since, until, now, figures, COLUMNS, rows,
        policies_of(session, agency, until, *names),
    )  # fmt: skip


def _row(
    kind: str,
    since: datetime,
    until: datetime,
    detail: str,
    subject: str,
    subject_id: object,
    *,
    officer_no: str | None = None,
    device_no: str | None = None,
) -> dict[str, Value]:
    return {
        "kind": kind,
        "officer_no": officer_no,
        "device_no": device_no,
        "since": since,
        "until": until,
        "detail": detail,
        "subject": subject,
        "subject_id": str(subject_id),
    }


# --- on duty, and silent ----------------------------------------------------------------------


def _silent(
    session: Session, agency: Agency, since: datetime, until: datetime, now: datetime
) -> list[dict[str, Value]]:
    duties = ledger_duty.duties_ending(session, agency.id, since, until)
    if not duties:
        return []
    begin = min(duty.duty_from for duty, _ in duties)
    # A recording of a duty may run on after it.
    footage = ledger_reports.footage_between(session, agency.id, begin, until)
    issues = ledger.issues_between(session, agency.id, begin, until)
    numbers = {row.id: row.device_no for row in agencies.devices(session, agency.id)}
    known = {row.officer_no for row in agencies.officers(session, agency.id)}
    heard = _heard(footage, issues, known)
    rows = []
    for duty, officer in duties:
        spans = [*heard.get(officer.officer_no, []), *heard.get(str(officer.id), [])]
        if any(start < duty.duty_to and end >= duty.duty_from for start, end in spans):
            continue
        rows.append(_silence(session, agency, duty, officer, issues, numbers, now))
    return rows


def _heard(
    footage: Iterable[Footage], issues: Sequence[DeviceIssue], known: set[str]
) -> dict[str, list[tuple[datetime, datetime]]]:
    """When something was recorded: by the number of the officer files name, else by the id of the holder.

    A recorder that carries a number nobody has speaks for whoever holds it.
    """
    holders: dict[UUID, list[DeviceIssue]] = {}
    for issue in issues:
        holders.setdefault(issue.device_id, []).append(issue)
    heard: dict[str, list[tuple[datetime, datetime]]] = {}
    for one in footage:
        span = (one.captured_from, one.captured_to)
        if one.collector in known:
            heard.setdefault(one.collector, []).append(span)
            continue
        for issue in holders.get(one.device_id, []) if one.device_id else []:
            if issue.issued_at <= span[1] and (issue.returned_at is None or issue.returned_at > span[0]):
                heard.setdefault(str(issue.officer_id), []).append(span)
    return heard


def _silence(
    session: Session,
    agency: Agency,
    duty: DutyPeriod,
    officer: Officer,
    issues: Sequence[DeviceIssue],
    numbers: dict[UUID, str],
    now: datetime,
) -> dict[str, Value]:
    held = [
        numbers[issue.device_id]
        for issue in issues
        if issue.officer_id == officer.id
        and issue.issued_at < duty.duty_to
        and (issue.returned_at is None or issue.returned_at > duty.duty_from)
    ]
    rule = policy.in_force(session, agency, policy.UPLOAD_DEADLINE, duty.duty_to)
    due = policy.due_at(rule, duty.duty_to, agency.time_zone)
    if not held:
        kind, detail = "no_recorder", "执勤期间未领用记录仪 / on duty without a recorder"
    elif due > now:
        kind, detail = AWAITED, "上传期限未到 / the deadline is still to come"
    else:
        kind, detail = "nothing_recorded", "执勤期间无任何记录 / on duty, nothing recorded came in"
    return _row(
        kind,
        duty.duty_from,
        duty.duty_to,
        detail,
        "duty",
        duty.id,
        officer_no=officer.officer_no,
        device_no=" ".join(sorted(set(held))) or None,
    )


# --- numbers that are missing -----------------------------------------------------------------


def _skipped_by_devices(footage: Iterable[Footage], since: datetime) -> list[dict[str, Value]]:
    """Gaps in the numbering of devices that number their files through, whatever recording they are of."""
    numbered = [one for one in footage if one.recording_key is None and one.sequence_no is not None]
    rows = []
    for _, group in groupby(numbered, key=lambda one: one.device_id):
        listed = [one for one in group if one.device_id is not None]
        for before, after in pairwise(listed):
            skipped = range((before.sequence_no or 0) + 1, after.sequence_no or 0)
            if 0 < len(skipped) <= LARGEST_SKIP and after.captured_to >= since:
                rows.append(
                    _row(
                        "not_uploaded",
                        before.captured_to,
                        after.captured_from,
                        f"缺号 / missing numbers: {_told(skipped)}",
                        "item",
                        after.item_id,
                        officer_no=after.collector,
                        device_no=after.device_no,
                    )
                )
    return rows


def _told(numbers: Sequence[int]) -> str:
    more = f" … ({len(numbers)})" if len(numbers) > MAX_NUMBERS_TOLD else ""
    least = "≥" if len(numbers) >= MOST_MISSING else ""
    return ", ".join(map(str, numbers[:MAX_NUMBERS_TOLD])) + (least + more if more else "")


# --- recordings -------------------------------------------------------------------------------


def _recordings(session: Session, agency: Agency, footage: Sequence[Footage]) -> list[dict[str, Value]]:
    """Short ones, interrupted ones, and files missing inside of them; each recording once."""
    rows: list[dict[str, Value]] = []
    seen: set[str] = set()
    for one in footage:
        if one.recording_key is None:
            rows += _short(session, agency, one, one.duration_us)
        elif one.recording_key not in seen:
            seen.add(one.recording_key)
            rows += _recording(session, agency, one)
    return rows


def _recording(session: Session, agency: Agency, one: Footage) -> list[dict[str, Value]]:
    found = grouping.recording_of(session, items.item_by_id(session, agency.id, one.item_id))
    rows: list[dict[str, Value]] = []
    if found.missing_sequence_nos:
        rows.append(_of(one, "not_uploaded", f"缺号 / missing numbers: {_told(found.missing_sequence_nos)}"))
    rule = policy.in_force(session, agency, policy.RECORDING_GAP, one.captured_from)
    allowed_us = rule.whole("max_gap_ms") * 1000
    least_us = rule.whole("resolution_ms") * 1000
    by_id: dict[UUID, Item] = {member.id: member for member in found.members}
    for joint in found.joints:
        # A time code is exact to the frame; other clocks are believed beyond their step and the policy's.
        doubt_us = joint.resolution_us if joint.clock == "timecode" else max(joint.resolution_us, least_us)
        if joint.gap_us > allowed_us + doubt_us:
            gap = f"间断 / gap: {joint.gap_us // 1000} ms"
            ended, begun = by_id[joint.before].captured_to, by_id[joint.after].captured_from
            rows.append(
                {
                    **_of(one, "interrupted", gap),
                    "since": ended,
                    "until": begun,
                    "subject_id": str(joint.after),
                }
            )
    lengths = [member.duration_us for member in found.members]
    if not found.missing_sequence_nos and None not in lengths:
        rows += _short(session, agency, one, sum(length or 0 for length in lengths))
    return rows


def _short(session: Session, agency: Agency, one: Footage, duration_us: int | None) -> list[dict[str, Value]]:
    if duration_us is None or one.media_kind not in MOVING:
        return []
    rule = policy.in_force(session, agency, policy.SHORT_RECORDING, one.captured_from)
    if duration_us >= rule.whole("min_ms") * 1000:
        return []
    return [_of(one, "short", f"时长 / length: {duration_us // 1000} ms")]


def _of(one: Footage, kind: str, detail: str) -> dict[str, Value]:
    return _row(
        kind,
        one.captured_from,
        one.captured_to,
        detail,
        "item",
        one.item_id,
        officer_no=one.collector,
        device_no=one.device_no,
    )


# --- late -------------------------------------------------------------------------------------


def _late(session: Session, agency: Agency, since: datetime, until: datetime) -> list[dict[str, Value]]:
    return [
        _row(
            "late",
            row.due_at,
            item.received_at,
            row.reason or "未说明原因 / no reason given",
            "item",
            item.id,
            officer_no=item.collector,
            device_no=device_no,
        )
        for row, item, device_no in ledger_duty.late_items(session, agency.id, since, until)
    ]


def lateness(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """Items that were due in the period and came later (4.2)."""
    rows: list[dict[str, Value]] = [
        {
            "item_id": str(item.id),
            "officer_no": item.collector,
            "device_no": device_no,
            "captured_to": item.captured_to,
            "due_at": row.due_at,
            "received_at": item.received_at,
            "late_by_s": row.late_by_us // 1_000_000,
            "reason": row.reason,
            "reason_at": row.reason_at,
        }
        for row, item, device_no in ledger_duty.late_items(session, agency.id, since, until)
    ]
    figures = {
        "late": len(rows),
        "without_reason": sum(row["reason"] is None for row in rows),
        "officers": len({row["officer_no"] for row in rows if row["officer_no"]}),
        "devices": len({row["device_no"] for row in rows if row["device_no"]}),
    }
    columns = (
        Column("item_id", "音像记录", "item"),
        Column("officer_no", "人员编号", "officer"),
        Column("device_no", "设备编号", "device"),
        Column("captured_to", "录制结束", "recorded until"),
        Column("due_at", "上传期限", "due"),
        Column("received_at", "上传时间", "received"),
        Column("late_by_s", "逾期秒数", "late by s"),
        Column("reason", "原因", "reason"),
        Column("reason_at", "说明时间", "reason given"),
    )
    return Report(
        "lateness", "逾期上传 / late hand-in", since, until, now, figures, columns, rows,
        policies_of(session, agency, until, policy.UPLOAD_DEADLINE),
    )  # fmt: skip


# --- every day --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Daily:
    """What the check of a day found."""

    day: date
    report: Report
    is_new: bool
    """Whether this is the first time it is told of the day."""

    @property
    def counts(self) -> dict[str, int]:
        """Findings by kind, without those there are none of."""
        return {kind: self.report.figures[kind] for kind in KINDS if self.report.figures[kind]}

    def event(self, agency: Agency, now: datetime) -> Event | None:
        """News to publish after the commit; None when there is nothing new to tell."""
        if not self.is_new or not self.counts:
            return None
        facts = {"day": self.day.isoformat(), **self.counts}
        return Event(Topic.REPORT, agency.code, self.day.isoformat(), "found", now, facts)


def daily(session: Session, agency: Agency, day: date, now: datetime) -> Daily:
    """Check one day of the agency's zone; a leaf says what was found, once for a day.

    Run it for a day whose hand-in deadline is past, such as the day before yesterday, and again later if
    it was missed: nothing is written twice.
    """
    return note(session, agency, look(session, agency, day, now), now)


def look(session: Session, agency: Agency, day: date, now: datetime) -> Daily:
    """The reading half of `daily`, which may take a while and holds up nobody who writes."""
    since = policy.start_of_day(day, agency.time_zone)
    until = policy.start_of_day(day + timedelta(days=1), agency.time_zone)
    return Daily(day, absence(session, agency, since, until, now), is_new=True)


def note(session: Session, agency: Agency, found: Daily, now: datetime) -> Daily:
    """The writing half of `daily`: the leaf, unless it is there."""
    subject = found.day.isoformat()
    if not found.counts:
        return found
    told = [leaf for leaf in custody.leaves_about(session, agency.id, subject) if leaf.body]
    if any(f'"{Action.REPORT_FOUND}"'.encode() in (leaf.body or b"") for leaf in told):
        return Daily(found.day, found.report, is_new=False)
    happening = Happening(Action.REPORT_FOUND, "day", subject, "system", dict(found.counts))
    custody.record(session, agency, happening, now)
    return found
