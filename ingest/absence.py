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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain
from uuid import UUID

from sqlalchemy.orm import Session

from evidence.custody import Action
from evidence.events import Event, Topic
from evidence.kinds import MediaKind
from evidence.recording import MOST_MISSING
from ingest import grouping, policy
from ingest.ledger_health import policies_of
from ingest.ledger_report import Column, Report, Row, counted
from storage.db import agencies, custody, ledger, ledger_reports
from storage.db.custody import Happening
from storage.db.ledger_reports import Footage
from storage.db.ledger_tables import DutyPeriod
from storage.db.tables import Agency, DeviceIssue, Item

KINDS = ("nothing_recorded", "no_recorder", "not_uploaded", "interrupted", "short", "late")
AWAITED = "awaited"
# A device's own numbering is looked at this far back, and a jump larger than this is a new numbering.
LOOK_BACK = timedelta(days=7)
LARGEST_SKIP = 50
MAX_NUMBERS_TOLD = 50
RULES = (policy.UPLOAD_DEADLINE, policy.RECORDING_GAP, policy.SHORT_RECORDING)
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


@dataclass(frozen=True)
class _Rules:
    """The policies recordings and duties are judged by."""

    deadline: policy.History
    gap: policy.History
    short: policy.History


def absence(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """The report over ``[since, until)``: duties that ended in it, recordings made in it.

    Duties come first, by their beginning; then recordings, by theirs; then what was late, by its deadline.
    """
    rules = _Rules(*(policy.History(session, agency, name) for name in RULES))
    figures = dict.fromkeys(("duties", "items", *KINDS, AWAITED, "findings"), 0)
    rows = chain(
        _silent(session, agency, since, until, now, rules, figures),
        _recorded(session, agency, since, until, rules, figures),
        _late(session, agency, since, until),
    )
    return Report(
        "absence", "应录未录与缺传 / absence", since, until, now, figures, COLUMNS,
        _counted(rows, figures), policies_of(session, agency, until, *RULES),
    )  # fmt: skip


def _counted(rows: Iterable[Row], figures: dict[str, int]) -> Iterator[Row]:
    for row in counted(rows, figures, "kind"):
        figures["findings"] += row["kind"] != AWAITED
        yield row


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
) -> Row:
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
    session: Session,
    agency: Agency,
    since: datetime,
    until: datetime,
    now: datetime,
    rules: _Rules,
    figures: dict[str, int],
) -> Iterator[Row]:
    numbers = {row.id: row.device_no for row in agencies.devices(session, agency.id)}
    known = {row.officer_no for row in agencies.officers(session, agency.id)}
    for duties in ledger_reports.duties_ending(session, agency.id, since, until):
        figures["duties"] += len(duties)
        begin = min(duty.duty_from for duty, _ in duties)
        # A recording of a duty may run on after it.
        end = max(duty.duty_to for duty, _ in duties)
        issues = ledger.issues_between(session, agency.id, begin, end)
        footage = chain.from_iterable(ledger_reports.footage_between(session, agency.id, begin, end))
        heard = _heard(duties, footage, issues, known)
        for duty, officer_no in duties:
            if duty.id not in heard:
                yield _silence(agency, duty, officer_no, issues, numbers, now, rules)


def _heard(
    duties: Sequence[tuple[DutyPeriod, str]],
    footage: Iterable[Footage],
    issues: Sequence[DeviceIssue],
    known: set[str],
) -> set[UUID]:
    """Duties of which something was recorded: by the officer files name, else by whoever held the device.

    A recorder that carries a number nobody has speaks for whoever holds it.
    """
    holders: dict[UUID, list[DeviceIssue]] = {}
    for issue in issues:
        holders.setdefault(issue.device_id, []).append(issue)
    by_number: dict[str, list[DutyPeriod]] = {}
    by_officer: dict[UUID, list[DutyPeriod]] = {}
    for duty, officer_no in duties:
        by_number.setdefault(officer_no, []).append(duty)
        by_officer.setdefault(duty.officer_id, []).append(duty)
    heard: set[UUID] = set()
    for one in footage:
        if one.collector in known:
            theirs = by_number.get(one.collector or "", [])
        else:
            theirs = [
                duty
                for issue in (holders.get(one.device_id, []) if one.device_id else [])
                if _was_held(issue, one)
                for duty in by_officer.get(issue.officer_id, [])
            ]
        heard.update(
            duty.id
            for duty in theirs
            if one.captured_from < duty.duty_to and one.captured_to >= duty.duty_from
        )
    return heard


def _was_held(issue: DeviceIssue, one: Footage) -> bool:
    is_begun = issue.issued_at <= one.captured_to
    return is_begun and (issue.returned_at is None or issue.returned_at > one.captured_from)


def _silence(
    agency: Agency,
    duty: DutyPeriod,
    officer_no: str,
    issues: Sequence[DeviceIssue],
    numbers: dict[UUID, str],
    now: datetime,
    rules: _Rules,
) -> Row:
    held = [
        numbers[issue.device_id]
        for issue in issues
        if issue.officer_id == duty.officer_id
        and issue.issued_at < duty.duty_to
        and (issue.returned_at is None or issue.returned_at > duty.duty_from)
    ]
    due = policy.due_at(rules.deadline.at(duty.duty_to), duty.duty_to, agency.time_zone)
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
        officer_no=officer_no,
        device_no=" ".join(sorted(set(held))) or None,
    )


# --- what was recorded ------------------------------------------------------------------------


def _recorded(
    session: Session,
    agency: Agency,
    since: datetime,
    until: datetime,
    rules: _Rules,
    figures: dict[str, int],
) -> Iterator[Row]:
    """Numbers that are missing, short and interrupted recordings; each recording once, where it begins."""
    newest: dict[UUID, Footage] = {}
    for page in ledger_reports.footage_between(session, agency.id, since - LOOK_BACK, until):
        shown = [one for one in page if one.captured_to >= since]
        figures["items"] += len(shown)
        keys = sorted({one.recording_key for one in shown if one.recording_key is not None})
        found = grouping.recordings_of(session, agency.id, keys)
        for one in page:
            yield from _skipped_before(one, newest, since)
            if one.captured_to < since:
                continue
            if one.recording_key is None:
                yield from _short(one, one.duration_us, rules)
            elif one.item_id == _first_shown(found[one.recording_key], since):
                yield from _recording(one, found[one.recording_key], rules)


def _first_shown(found: grouping.Recording, since: datetime) -> UUID | None:
    """The member a recording is told with: the earliest that ends in the period."""
    shown = [
        (row.captured_from, row.id)
        for row in found.members
        if row.captured_from is not None and (row.captured_to or row.captured_from) >= since
    ]
    return min(shown)[1] if shown else None


def _skipped_before(one: Footage, newest: dict[UUID, Footage], since: datetime) -> Iterator[Row]:
    """The gap before a file of a device that numbers its files through, whatever recording they are of."""
    if one.recording_key is not None or one.sequence_no is None or one.device_id is None:
        return
    before = newest.get(one.device_id)
    newest[one.device_id] = one
    if before is None:
        return
    skipped = range((before.sequence_no or 0) + 1, one.sequence_no)
    if 0 < len(skipped) <= LARGEST_SKIP and one.captured_to >= since:
        told = f"缺号 / missing numbers: {_told(skipped)}"
        row = _of(one, "not_uploaded", told)
        yield {**row, "since": before.captured_to, "until": one.captured_from}


def _told(numbers: Sequence[int]) -> str:
    more = f" … ({len(numbers)})" if len(numbers) > MAX_NUMBERS_TOLD else ""
    least = "≥" if len(numbers) >= MOST_MISSING else ""
    return ", ".join(map(str, numbers[:MAX_NUMBERS_TOLD])) + (least + more if more else "")


def _recording(one: Footage, found: grouping.Recording, rules: _Rules) -> Iterator[Row]:
    """Files missing inside of a recording, where it was interrupted, and whether it is short."""
    if found.missing_sequence_nos:
        yield _of(one, "not_uploaded", f"缺号 / missing numbers: {_told(found.missing_sequence_nos)}")
    rule = rules.gap.at(one.captured_from)
    allowed_us = rule.whole("max_gap_ms") * 1000
    least_us = rule.whole("resolution_ms") * 1000
    by_id: dict[UUID, Item] = {member.id: member for member in found.members}
    for joint in found.joints:
        # A time code is exact to the frame; other clocks are believed beyond their step and the policy's.
        doubt_us = joint.resolution_us if joint.clock == "timecode" else max(joint.resolution_us, least_us)
        if joint.gap_us > allowed_us + doubt_us:
            yield {
                **_of(one, "interrupted", f"间断 / gap: {joint.gap_us // 1000} ms"),
                "since": by_id[joint.before].captured_to,
                "until": by_id[joint.after].captured_from,
                "subject_id": str(joint.after),
            }
    lengths = [member.duration_us for member in found.members]
    if not found.missing_sequence_nos and None not in lengths:
        yield from _short(one, sum(length or 0 for length in lengths), rules)


def _short(one: Footage, duration_us: int | None, rules: _Rules) -> Iterator[Row]:
    if duration_us is None or one.media_kind not in MOVING:
        return
    if duration_us < rules.short.at(one.captured_from).whole("min_ms") * 1000:
        yield _of(one, "short", f"时长 / length: {duration_us // 1000} ms")


def _of(one: Footage, kind: str, detail: str) -> Row:
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


def _late(session: Session, agency: Agency, since: datetime, until: datetime) -> Iterator[Row]:
    for one in ledger_reports.late_items(session, agency.id, since, until):
        yield _row(
            "late",
            one.due_at,
            one.received_at,
            one.reason or "未说明原因 / no reason given",
            "item",
            one.item_id,
            officer_no=one.collector,
            device_no=one.device_no,
        )


def lateness(session: Session, agency: Agency, since: datetime, until: datetime, now: datetime) -> Report:
    """Items that were due in the period and came later (4.2)."""
    figures = dict.fromkeys(("late", "without_reason", "officers", "devices"), 0)
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
        "lateness", "逾期上传 / late hand-in", since, until, now, figures, columns,
        _told_late(session, agency, since, until, figures),
        policies_of(session, agency, until, policy.UPLOAD_DEADLINE),
    )  # fmt: skip


def _told_late(
    session: Session, agency: Agency, since: datetime, until: datetime, figures: dict[str, int]
) -> Iterator[Row]:
    officers: set[str] = set()
    devices: set[str] = set()
    for one in ledger_reports.late_items(session, agency.id, since, until):
        officers |= {one.collector} if one.collector else set()
        devices |= {one.device_no} if one.device_no else set()
        figures["late"] += 1
        figures["without_reason"] += one.reason is None
        figures["officers"], figures["devices"] = len(officers), len(devices)
        yield {
            "item_id": str(one.item_id),
            "officer_no": one.collector,
            "device_no": one.device_no,
            "captured_to": one.captured_to,
            "due_at": one.due_at,
            "received_at": one.received_at,
            "late_by_s": one.late_by_us // 1_000_000,
            "reason": one.reason,
            "reason_at": one.reason_at,
        }


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
    report = absence(session, agency, since, until, now)
    for _ in report.rows:
        pass  # Only the figures are told.
    return Daily(day, report, is_new=True)


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
