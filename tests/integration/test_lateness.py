"""Deadlines by policy, silence on duty, missing numbers: what should be there and is not (4.2, R14)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from config.settings import Settings
from evidence.clock import rfc3339
from evidence.errors import Conflict, InvalidInput, MediaError, NotFound
from evidence.events import Event
from ingest import absence, duty, lateness, policy
from ingest.ledger_report import Column, Report, as_csv, as_xlsx
from storage.db import items, ledger_duty
from storage.db.ledger_tables import Lateness, PolicyRow
from storage.db.tables import Job
from storage.open import Storage
from tests.support import media as footage
from tests.support.clocks import SettableClock
from tests.support.house import ACTOR, DAY, Drawn, House
from tests.support.pipeline import Pipeline, Silence
from workers.context import JobContext, Outcome
from workers.quarantine import settle_quarantined
from workers.relay import Relay
from workers.runner import Runner
from workers.tasks import TASKS

HOUR = timedelta(hours=1)
# 2026-03-03 10:00 in the agency's zone; the clock of the tests says 2026-03-04 09:00.
SHOT = datetime(2026, 3, 3, 2, 0, tzinfo=UTC)


class Shift(House):
    """A house that takes recordings in."""

    def __init__(self, storage: Storage, clock: SettableClock, settings: Settings, folder: Path) -> None:
        super().__init__(storage, clock)
        self.pipeline = Pipeline(storage, settings)
        self._folder, self._numbers = folder, count()

    def bring(self, ended: datetime = SHOT, length_s: float = 60, **said: str) -> UUID:
        """A recording that ended then comes in now."""
        path = self._folder / "recording.mp4"
        path.write_bytes(f"recording {next(self._numbers)}".encode())
        said = {
            "device_no": "CAM1",
            "captured_from": rfc3339(ended - timedelta(seconds=length_s)),
            "captured_to": rfc3339(ended),
            **said,
        }
        item_id = self.pipeline.take(path, **said).item_id
        with self.write() as (session, agency):
            item = items.item_by_id(session, agency.id, item_id)
            item.duration_us, item.media_kind = round(length_s * 1e6), "video"
        return item_id

    def judge(self, item_id: UUID) -> Lateness | None:
        with self.write() as (session, agency):
            item = items.item_by_id(session, agency.id, item_id, lock=True)
            return lateness.judge(session, agency, item, self.clock.now())

    def rule(self, preset: str, since: datetime | None = None, **changed: Any) -> PolicyRow:
        found = policy.preset(preset)
        now = self.clock.now()
        with self.write() as (session, agency):
            return policy.set_policy(
                session, agency, found.policy, {**found.body, **changed}, source="本局规定第九条",
                applies_from=since or now, actor=ACTOR, now=now,
            )  # fmt: skip

    def on_duty(self, officer: str, begin: datetime, end: datetime) -> UUID:
        with self.write() as (session, agency):
            row = duty.enter_duty(session, agency, officer, begin, end, actor=ACTOR, now=self.clock.now())
            return row.id

    def rows(self, since: datetime, until: datetime) -> list[tuple[Any, ...]]:
        report = self.absence(since, until)
        return [(row["kind"], row["officer_no"], row["device_no"]) for row in report.rows]

    def absence(self, since: datetime, until: datetime) -> Drawn:
        with self.read() as (session, agency):
            return Drawn(*absence.absence(session, agency, since, until, self.clock.now()).drawn())


@pytest.fixture
def shift(storage: Storage, clock: SettableClock, settings: Settings, tmp_path: Path) -> Shift:
    return Shift(storage, clock, settings, tmp_path)


@pytest.fixture
def small(sqlite_storage: Storage, clock: SettableClock, tmp_path: Path) -> Shift:
    """The same on SQLite alone, where arithmetic is what is tested."""
    from tests.support.installations import settings_for

    settings = settings_for(tmp_path, sqlite_storage.database.url)
    return Shift(sqlite_storage, clock, settings, tmp_path)


# --- policies ---------------------------------------------------------------------------------


def test_an_event_is_judged_by_the_version_in_force_when_it_happened(shift: Shift) -> None:
    shift.rule("same_day", datetime(2026, 1, 1, tzinfo=UTC))
    second = shift.rule("within_24h", shift.clock.now() + DAY)
    with shift.read() as (session, agency):
        found = [
            policy.in_force(session, agency, policy.UPLOAD_DEADLINE, at).version
            for at in (datetime(2025, 12, 31, tzinfo=UTC), SHOT, second.applies_from)
        ]
        before = policy.in_force(session, agency, policy.UPLOAD_DEADLINE, datetime(2025, 1, 1, tzinfo=UTC))
    assert found == [None, 1, 2]
    assert (before.mark, before.policy_id) == ("secondary", None)
    assert shift.leaves(second.id) == ["policy:set"]


def test_only_a_first_version_begins_in_the_past_and_none_without_a_source(shift: Shift) -> None:
    shift.rule("same_day", datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInput) as backdated:
        shift.rule("within_24h", shift.clock.now() - HOUR)
    assert backdated.value.code == "policy_backdated"
    with pytest.raises(InvalidInput), shift.write() as (session, agency):
        policy.set_policy(
            session, agency, policy.CLOCK, policy.preset("clock").body, source=" ",
            applies_from=shift.clock.now(), actor=ACTOR, now=shift.clock.now(),
        )  # fmt: skip


def test_no_version_is_edited_or_dropped(shift: Shift) -> None:
    row = shift.rule("same_day")
    for change in ("UPDATE policy SET applies_from = 0", "DELETE FROM policy"):
        with pytest.raises(DBAPIError, match="append-only"), shift.storage.database.engine.begin() as direct:
            direct.execute(text(change))
    with pytest.raises(DBAPIError, match="append-only"), shift.write() as (session, _):
        session.get_one(PolicyRow, row.id).source = "another"


def test_two_who_set_a_policy_at_once_make_two_versions(shift: Shift) -> None:
    start = threading.Barrier(2)

    def set_one() -> None:
        start.wait()
        shift.rule("same_day")

    threads = [threading.Thread(target=set_one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with shift.read() as (session, agency):
        found = ledger_duty.policy_versions(session, agency.id, policy.UPLOAD_DEADLINE)
    assert [row.version for row in found] == [1, 2]


# --- lateness ---------------------------------------------------------------------------------


def test_a_late_item_is_kept_flagged_and_asked_a_reason_for_once(shift: Shift) -> None:
    shift.rule("same_day", datetime(2026, 1, 1, tzinfo=UTC))
    item_id = shift.bring()
    row = shift.judge(item_id)
    assert row is not None
    # The day ended at 2026-03-04 00:00 in Shanghai; it came at 09:00.
    assert (row.due_at, row.late_by_us) == (datetime(2026, 3, 3, 16, tzinfo=UTC), 9 * 3600 * 10**6)
    assert shift.judge(item_id) is None, "judging twice is fine"
    assert "late" in shift.pipeline.flags(item_id)
    with shift.write() as (session, agency):
        lateness.give_reason(session, agency, item_id, "山区无信号", actor=ACTOR, now=shift.clock.now())
    with pytest.raises(Conflict), shift.write() as (session, agency):
        lateness.give_reason(session, agency, item_id, "again", actor=ACTOR, now=shift.clock.now())
    assert [leaf for leaf in shift.leaves(item_id) if "late" in leaf] == ["item:late", "item:late_reason"]
    with shift.read() as (session, agency):
        report, _ = absence.lateness(session, agency, SHOT, shift.clock.now(), shift.clock.now()).drawn()
    assert report.figures == {"late": 1, "without_reason": 0, "officers": 0, "devices": 1}


def test_what_came_in_time_is_not_late_and_cannot_be_answered_for(small: Shift) -> None:
    small.rule("same_day", datetime(2026, 1, 1, tzinfo=UTC))
    in_time = small.bring(small.clock.now() - HOUR)
    assert small.judge(in_time) is None
    with pytest.raises(NotFound), small.write() as (session, agency):
        lateness.give_reason(session, agency, in_time, "why", actor=ACTOR, now=small.clock.now())
    with pytest.raises(InvalidInput), small.write() as (session, agency):
        lateness.give_reason(session, agency, in_time, " \n", actor=ACTOR, now=small.clock.now())


def test_the_default_counts_from_the_end_of_duty_where_one_is_known(small: Shift) -> None:
    ended = small.clock.now() - 26 * HOUR
    assert small.judge(small.bring(ended)) is not None
    small.issue("CAM1", "P1", ended - 5 * DAY)
    small.on_duty("P1", ended - 4 * HOUR, ended + 3 * HOUR)
    assert small.judge(small.bring(ended)) is None, "the holder's duty ended 23 hours ago"
    assert small.judge(small.bring(ended, officer_no="P1")) is None
    assert small.judge(small.bring(ended, officer_no="P2")) is not None, (
        "another officer's duty is not theirs"
    )


def test_after_return_follows_a_chain_of_duties_to_its_end(small: Shift) -> None:
    small.rule("after_return", datetime(2026, 1, 1, tzinfo=UTC))
    small.issue("CAM1", "P1", small.clock.now() - 20 * DAY)
    ended = small.clock.now() - 4 * DAY
    for day in range(4):
        begin = ended - HOUR + day * DAY
        small.on_duty("P1", begin, begin + 14 * HOUR)
    assert small.judge(small.bring(ended)) is None, "ten hours between duties: still away"
    item_id = small.bring(ended)
    with small.read() as (session, agency):
        item = items.item_by_id(session, agency.id, item_id)
        rule = policy.in_force(session, agency, policy.UPLOAD_DEADLINE, ended)
        due = lateness.due_of(session, agency, item, rule, ended)
    assert due == ended - HOUR + 3 * DAY + 14 * HOUR + DAY


def test_a_clock_that_stepped_back_makes_nothing_late(small: Shift) -> None:
    small.clock.advance(-7 * 86400)
    assert small.judge(small.bring(SHOT)) is None


def test_an_item_without_times_is_not_judged(small: Shift, tmp_path: Path) -> None:
    path = tmp_path / "no times.bin"
    path.write_bytes(b"nothing said")
    assert small.judge(small.pipeline.take(path, device_no="CAM1").item_id) is None


def test_a_worker_judges_where_the_probe_tells_the_end(small: Shift, tmp_path: Path) -> None:
    path = tmp_path / "real.mp4"
    footage.make_plain(path, seconds=2, keyframe_every=25, seed=5)
    accepted = small.pipeline.take(path, device_no="CAM1", captured_from="2026-03-01T02:00:00Z")
    small.pipeline.work(only={"probe"})
    with small.read() as (session, agency):
        row = ledger_duty.lateness_of(session, agency.id, accepted.item_id)
    assert row is not None
    assert row.due_at == datetime(2026, 3, 2, 2, 0, 2, tzinfo=UTC)


class Heard(Silence):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def late(self) -> list[str]:
        return [event.subject_id for event in self.events if event.what == "late"]


def _unreadable(_context: JobContext) -> Outcome:
    raise MediaError("the reader crashed", code="reader_crashed")


SAID_LATE = {"captured_from": "2026-03-01T02:00:00Z", "captured_to": "2026-03-01T02:10:00Z"}


def _brought(shift: Shift, folder: Path, name: str, **said: str) -> UUID:
    path = folder / name
    path.write_bytes(f"nobody reads {name}".encode())
    return shift.pipeline.take(path, device_no="CAM1", **said).item_id


@pytest.mark.parametrize("fails_in", ["the reader", "its workers"])
def test_a_file_no_probe_can_read_is_judged_by_what_was_said_of_it(
    shift: Shift, tmp_path: Path, fails_in: str
) -> None:
    late = _brought(shift, tmp_path, "late.mp4", **SAID_LATE)
    in_time = _brought(shift, tmp_path, "in time.mp4", captured_from=rfc3339(shift.clock.now() - HOUR))
    untimed, heard = _brought(shift, tmp_path, "untimed.mp4"), Heard()
    if fails_in == "the reader":
        tasks = {**TASKS, "probe": _unreadable}
        worker = shift.pipeline.settings.worker.model_copy(update={"max_attempts": 1})
        settings = shift.pipeline.settings.model_copy(update={"worker": worker})
        runner = Runner(shift.storage, settings, tasks, ("quick",), heard, heard)  # type: ignore[arg-type]
        while runner.look():
            pass
    else:
        with shift.storage.database.transaction() as session:
            for job in session.scalars(select(Job).where(Job.kind == "probe")):
                job.state, job.deaths, job.lease_until = "leased", 99, shift.clock.now()
        shift.clock.advance(60)
        Relay(shift.storage, shift.pipeline.settings, heard, heard).sweep()  # type: ignore[arg-type]
    with shift.read() as (session, agency):
        states = session.scalars(select(Job.state).where(Job.kind == "probe"))
        assert list(states) == ["quarantined"] * 3
        row = ledger_duty.lateness_of(session, agency.id, late)
        assert ledger_duty.lateness_of(session, agency.id, in_time) is None
        assert ledger_duty.lateness_of(session, agency.id, untimed) is None, "nothing is known of it"
    assert row is not None
    assert row.due_at == datetime(2026, 3, 2, 2, 10, tzinfo=UTC)
    assert "late" in shift.pipeline.flags(late)
    assert "item:late" in shift.leaves(late)
    assert heard.late() == [str(late)]


def test_what_was_said_after_the_first_arrival_counts_where_no_probe_can_read(
    small: Shift, tmp_path: Path
) -> None:
    item_id = _brought(small, tmp_path, "twice.mp4")
    assert _brought(small, tmp_path, "twice.mp4", **SAID_LATE) == item_id
    with small.storage.database.transaction() as session:
        job = session.scalars(select(Job).where(Job.kind == "probe")).one()
        assert settle_quarantined(session, job.id, "worker_died", small.clock.now())
    with small.storage.database.transaction() as session:
        assert not settle_quarantined(session, job.id, "worker_died", small.clock.now()), "judged once"


# --- absence ----------------------------------------------------------------------------------


def test_silence_on_duty_is_told_from_a_deadline_still_to_come_and_from_empty_hands(shift: Shift) -> None:
    now = shift.clock.now()
    shift.issue("CAM1", "P1", now - 20 * DAY)
    heard = now - 5 * DAY
    shift.on_duty("P1", heard, heard + 8 * HOUR)
    shift.bring(heard + HOUR)
    shift.on_duty("P1", now - 4 * DAY, now - 4 * DAY + 8 * HOUR)
    shift.on_duty("P1", now - 10 * HOUR, now - 2 * HOUR)
    shift.on_duty("P2", now - 4 * DAY, now - 4 * DAY + 8 * HOUR)
    report = shift.absence(now - 7 * DAY, now)
    assert [(row["kind"], row["officer_no"], row["device_no"]) for row in report.rows] == [
        ("nothing_recorded", "P1", "CAM1"),
        ("no_recorder", "P2", None),
        ("awaited", "P1", "CAM1"),
    ]
    assert report.figures["duties"] == 4
    assert report.figures["findings"] == 2
    for kind in (*absence.KINDS, absence.AWAITED):
        assert report.figures[kind] == sum(row["kind"] == kind for row in report.rows)


def test_a_recorder_that_carries_a_number_nobody_has_speaks_for_its_holder(small: Shift) -> None:
    now = small.clock.now()
    small.issue("CAM1", "P1", now - 20 * DAY)
    small.on_duty("P1", now - 4 * DAY, now - 4 * DAY + 8 * HOUR)
    small.bring(now - 4 * DAY + HOUR, officer_no="000000")
    assert small.rows(now - 7 * DAY, now) == []
    small.on_duty("P1", now - 3 * DAY, now - 3 * DAY + 8 * HOUR)
    small.bring(now - 3 * DAY + HOUR, officer_no="P2")
    assert small.rows(now - 7 * DAY, now) == [("nothing_recorded", "P1", "CAM1")]


def test_a_duty_withdrawn_is_no_duty(small: Shift) -> None:
    now = small.clock.now()
    entered = small.on_duty("P1", now - 4 * DAY, now - 3 * DAY)
    with small.write() as (session, agency):
        duty.withdraw_duty(session, agency, entered, actor=ACTOR, now=now)
    assert small.rows(now - 7 * DAY, now) == []
    assert small.on_duty("P1", now - 4 * DAY, now - 2 * DAY) == entered, "it may be entered anew"


def test_missing_numbers_short_and_interrupted_recordings_are_named(small: Shift) -> None:
    small.rule("same_day", datetime(2026, 1, 1, tzinfo=UTC), due="hours_after", hours=24 * 30)
    start = small.clock.now() - 2 * DAY
    # One recording of four files of a minute: the third is missing, five seconds before the last.
    for number, offset in ((1, 0), (2, 60), (4, 185)):
        small.bring(start + timedelta(seconds=offset), recording="R1", sequence_no=str(number))
    small.bring(start + HOUR, length_s=3)
    small.bring(start + 2 * HOUR, length_s=30, sequence_no="12")
    small.bring(start + 3 * HOUR, length_s=30, sequence_no="15")
    report = small.absence(start - DAY, small.clock.now())
    found = [(row["kind"], row["detail"]) for row in report.rows]
    assert ("not_uploaded", "缺号 / missing numbers: 3") in found
    assert ("not_uploaded", "缺号 / missing numbers: 13, 14") in found
    assert ("interrupted", "间断 / gap: 65000 ms") in found
    assert ("short", "时长 / length: 3000 ms") in found
    assert len(found) == 4


def test_files_of_one_recording_that_touch_are_whole(small: Shift) -> None:
    start = small.clock.now() - HOUR
    for number in range(3):
        ended = start + timedelta(seconds=60 * number)
        small.bring(ended, recording="R1", sequence_no=str(number))
    assert small.rows(start - DAY, small.clock.now()) == []


def test_a_day_is_the_agencys_and_is_told_once(shift: Shift) -> None:
    # 2026-03-02 00:30 in Shanghai is still 1 March in UTC.
    begin = datetime(2026, 3, 1, 14, 0, tzinfo=UTC)
    shift.on_duty("P1", begin, begin + timedelta(hours=2, minutes=30))

    def check(day: date) -> absence.Daily:
        with shift.write() as (session, agency):
            return absence.daily(session, agency, day, shift.clock.now())

    now = shift.clock.now()
    assert check(date(2026, 3, 1)).counts == {}
    found = check(date(2026, 3, 2))
    assert found.counts == {"no_recorder": 1}
    with shift.read() as (_, agency):
        news = found.event(agency, now)
        assert news is not None
        assert (news.what, news.facts["no_recorder"]) == ("found", 1)
        assert check(date(2026, 3, 2)).event(agency, now) is None
    assert shift.leaves("2026-03-02") == ["report:found"]


def written(write: Callable[[Report, str, IO[bytes]], None], report: Report, zone: str) -> bytes:
    out = BytesIO()
    write(report, zone, out)
    return out.getvalue()


@pytest.mark.parametrize("text", ["=1+1", " =1+1", "\n=1+1", "＝1+1", "＋1", "－1", "＠SUM(1)", "\u3000=1"])
def test_no_text_of_a_csv_begins_a_formula(text: str) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    report = Report("r", "r", at, at, at, {}, (Column("a", "a", "a"),), [{"a": text}])
    assert f"'{text}" in written(as_csv, report, "UTC").decode("utf-8-sig")


def test_a_report_is_a_table_no_spreadsheet_runs(small: Shift) -> None:
    from openpyxl import load_workbook

    small.rule("same_day", datetime(2026, 1, 1, tzinfo=UTC))
    item_id = small.bring()
    small.judge(item_id)
    with small.write() as (session, agency):
        lateness.give_reason(session, agency, item_id, "=1+1", actor=ACTOR, now=small.clock.now())
    with small.read() as (session, agency):
        report, _ = absence.lateness(session, agency, SHOT, small.clock.now(), small.clock.now()).drawn()
    text = written(as_csv, report, "Asia/Shanghai").decode("utf-8-sig")
    assert ",'=1+1," in text
    assert "2026-03-04 00:00:00" in text
    path = small.pipeline.storage.scratch / "late.xlsx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(written(as_xlsx, report, "Asia/Shanghai"))
    cells = [cell for row in load_workbook(path)["lateness"].iter_rows() for cell in row]
    assert all(cell.data_type != "f" for cell in cells)
    assert "=1+1" in [cell.value for cell in cells]
