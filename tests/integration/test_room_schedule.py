"""Planned sessions, recorders that call, the checklist: done once whatever happens, by whom is on record."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from PIL import PdfParser

from config.rooms import RoomSettings
from evidence.case import normalise_case_no
from evidence.clock import rfc3339
from evidence.errors import EvidenceError
from evidence.kinds import EnforcementKind, GapReason
from evidence.schedule import PlanState
from evidence.session import TriggerAction
from ingest import binding
from ingest.recorder import conduct, schedule, sealing, sessions, sheet, triggers
from storage.db import agencies, alarms, cases, custody, items, planned_sessions
from storage.db import sessions as rows
from storage.db import triggers as keys
from storage.db.room_tables import PlannedSession, RoomSession
from storage.db.tables import Account
from storage.open import Storage
from tests.support.clocks import SettableClock
from tests.support.installations import settings_for
from tests.support.rooms import ROOM, all_in, finished_file, hand_in, read_back, recorded_for_real
from workers.schedule import tell_unkept_plans

BARE = ROOM.model_copy(update={"pre_record_s": 0, "streams": ROOM.streams[:1]})
A, B = (f"account:{UUID(int=number)}" for number in (1, 2))
FACTS = {"case_no": "示执罚〔2026〕17号", "officers": ["330101", "330102"], "party": "李某"}


class Desk:
    """What people and the host do about one room."""

    def __init__(self, storage: Storage, clock: SettableClock) -> None:
        self.storage, self.clock = storage, clock

    def write(self, do: Callable[..., Any], *given: Any, actor: str = "operator:1", **named: Any) -> Any:
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            return do(session, agency, *given, actor=actor, now=self.clock.now(), **named)

    def refused(self, do: Callable[..., Any], *given: Any, **named: Any) -> str:
        with pytest.raises(EvidenceError) as refused:
            self.write(do, *given, **named)
        return refused.value.code

    def plan(self, after_s: float, for_s: float = 3600, **named: Any) -> UUID:
        starts = self.clock.now() + timedelta(seconds=after_s)
        facts = {"facts": {}, "time_zone": "Asia/Shanghai", "ends_itself": False, **named}
        row: PlannedSession = self.write(
            schedule.plan, BARE, starts_at=starts, ends_at=starts + timedelta(seconds=for_s), **facts
        )
        return row.id

    def keep(self, room: RoomSettings = BARE) -> None:
        """As the host that records the room does each second."""
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            for row in planned_sessions.due(session, agency.id, room.room_no, self.clock.now()):
                schedule.keep(session, agency, room, row.id, now=self.clock.now())

    def state(self, plan_id: UUID) -> tuple[PlanState, RoomSession | None]:
        with self.storage.database.read() as session:
            row = session.get_one(PlannedSession, plan_id)
            found = session.get(RoomSession, row.session_id) if row.session_id else None
            return schedule.state_at(row, self.clock.now()), found

    def sessions(self) -> list[RoomSession]:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            return rows.page_of_sessions(session, agency.id, limit=50)

    def standing(self) -> list[str]:
        with self.storage.database.read() as session:
            return [each.code for each in alarms.alarms(session, agencies.agency_by_code(session, "demo").id)]

    def leaves(self, subject_id: UUID) -> list[dict[str, Any]]:
        with self.storage.database.read() as session:
            agency = agencies.agency_by_code(session, "demo")
            found = custody.leaves_about(session, agency.id, str(subject_id))
            return [json.loads(leaf.body or b"{}") for leaf in found]


@pytest.fixture
def desk(storage: Storage, clock: SettableClock) -> Desk:
    """Over each database in turn."""
    return Desk(storage, clock)


@pytest.fixture
def one_desk(sqlite_storage: Storage, clock: SettableClock) -> Desk:
    """Where the database has no part."""
    return Desk(sqlite_storage, clock)


def at_once(*acts: Callable[[], object]) -> list[object]:
    """What acts came to that were begun together: their answer, or the code of the refusal."""
    outcomes: list[object] = []
    together = threading.Barrier(len(acts))

    def act(do: Callable[[], object]) -> None:
        together.wait()
        try:
            outcomes.append(do())
        except EvidenceError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=act, args=(each,)) for each in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_a_plan_becomes_one_session_at_its_time_and_people_are_told_of_its_end(desk: Desk) -> None:
    outcomes = at_once(
        lambda: desk.plan(60, facts={"officers": ["330101"]}, actor=A), lambda: desk.plan(3000)
    )
    (plan_id,) = [each for each in outcomes if isinstance(each, UUID)]
    assert "plan_overlaps" in outcomes
    with desk.storage.database.read() as session:
        row = session.get_one(PlannedSession, plan_id)
        starts, ends, by = row.starts_at, row.ends_at, row.planned_by
    desk.clock.advance((starts - desk.clock.now()).total_seconds() - 1)
    desk.keep()
    assert desk.state(plan_id) == (PlanState.AHEAD, None)
    desk.clock.advance(1.4)
    at_once(desk.keep, desk.keep)
    desk.keep()
    desk.clock.advance(-120)
    desk.keep()
    desk.clock.advance(120)
    desk.keep()
    (row_of,) = desk.sessions()
    state, found = desk.state(plan_id)
    assert (state, found and found.id) == (PlanState.BEGUN, row_of.id)
    assert (row_of.started_by, row_of.planned_until) == (by, ends)
    assert row_of.started_at == starts + timedelta(seconds=0.4)
    begun = [leaf for leaf in desk.leaves(plan_id) if leaf["action"] == "planned_session:begun"]
    assert [(leaf["actor"], leaf["facts"]["late_ms"]) for leaf in begun] == [(f"plan:{plan_id}", 400)]
    (started,) = [leaf for leaf in desk.leaves(row_of.id) if leaf["action"] == "room_session:started"]
    assert started["actor"] == f"plan:{plan_id}"
    assert "case_no" in started["facts"]["missing"]
    assert desk.refused(schedule.withdraw, plan_id) == "plan_begun"
    assert desk.standing() == []

    # Its end ends nothing that it was not told to end.
    desk.clock.advance(3600)
    desk.keep()
    desk.keep()
    assert (desk.standing(), desk.state(plan_id)[0]) == (["plan_overdue"], PlanState.BEGUN)
    with desk.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        (alarm,) = alarms.alarms(session, agency.id)
        alarms.clear(session, agency, alarm, actor=A, reason="知道", now=desk.clock.now())
    desk.keep()
    assert desk.standing() == []
    desk.write(sessions.stop, row_of.id)
    desk.keep()
    assert desk.state(plan_id)[0] is PlanState.OVER


def test_a_session_begun_by_hand_is_the_planned_one_and_gets_what_it_lacks(one_desk: Desk) -> None:
    plan_id = one_desk.plan(600, facts=FACTS, ends_itself=True)
    one_desk.clock.advance(300)
    by_hand: RoomSession = one_desk.write(sessions.start, BARE, facts={"party": "李某某"})
    one_desk.clock.advance(301)
    one_desk.keep()
    (row,) = one_desk.sessions()
    assert (row.id, row.planned_until) == (by_hand.id, row.started_at + timedelta(seconds=3900))
    assert (row.facts["party"], row.facts["case_no"]) == ("李某某", FACTS["case_no"])
    assert row.facts["officers"] == FACTS["officers"]
    (stated,) = [leaf for leaf in one_desk.leaves(row.id) if leaf["action"] == "room_session:facts_set"]
    assert stated["actor"] == row.started_by
    assert one_desk.standing() == []
    # What it did not begin it does not end.
    one_desk.clock.advance(3600)
    one_desk.keep()
    one_desk.keep()
    assert (one_desk.standing(), one_desk.state(plan_id)[0]) == (["plan_overdue"], PlanState.BEGUN)
    one_desk.write(sessions.stop, row.id)
    one_desk.keep()
    assert (one_desk.standing(), one_desk.state(plan_id)[0]) == ([], PlanState.OVER)
    # What it began, it does.
    own_id = one_desk.plan(10, ends_itself=True)
    for after_s in (10, 3600):
        one_desk.clock.advance(after_s)
        one_desk.keep()
    state, own = one_desk.state(own_id)
    assert (state, own and own.ended_by) == (PlanState.OVER, f"plan:{own_id}")


def test_a_plan_lets_go_of_what_ended_before_its_time_and_begins_its_own(one_desk: Desk) -> None:
    plan_id = one_desk.plan(60)
    other: RoomSession = one_desk.write(sessions.start, BARE, facts={})
    one_desk.clock.advance(61)
    one_desk.keep()
    taken = one_desk.state(plan_id)[1]
    assert taken is not None
    assert taken.id == other.id
    one_desk.clock.advance(60)
    one_desk.write(sessions.stop, other.id)
    one_desk.clock.advance(1)
    one_desk.keep()
    state, own = one_desk.state(plan_id)
    assert own is not None
    assert (state, own.id != other.id, own.ended_at) == (PlanState.BEGUN, True, None)
    (first,) = [row for row in one_desk.sessions() if row.id == other.id]
    assert first.planned_until is None
    told = [leaf["action"].partition(":")[2] for leaf in one_desk.leaves(plan_id)]
    assert told == ["made", "begun", "released", "begun", "raised"]
    one_desk.write(sessions.stop, own.id)
    one_desk.keep()
    assert one_desk.state(plan_id)[0] is PlanState.OVER


def test_what_a_plan_took_and_nobody_saw_end_early_is_missed(one_desk: Desk) -> None:
    for early_s, state in ((5, PlanState.OVER), (6, PlanState.MISSED)):
        plan_id = one_desk.plan(1, 60)
        taken: RoomSession = one_desk.write(sessions.start, BARE, facts={})
        one_desk.clock.advance(1)
        one_desk.keep()
        one_desk.clock.advance(60 - early_s)
        one_desk.write(sessions.stop, taken.id)
        one_desk.clock.advance(90)
        one_desk.keep()
        assert one_desk.state(plan_id)[0] is state
    assert one_desk.standing() == ["plan_missed"]


def test_a_plan_takes_only_what_whoever_planned_may_run(one_desk: Desk) -> None:
    with one_desk.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        planner = Account(
            id=UUID(A.partition(":")[2]), agency_id=agency.id, username="planner", display_name="预定人",
            password_hash="-", roles=["officer"], failed_logins=0, created_at=one_desk.clock.now(),
        )  # fmt: skip
        session.add(planner)
    plan_id = one_desk.plan(60, actor=A, ends_itself=True, facts={"officers": ["999999"]})
    other: RoomSession = one_desk.write(sessions.start, BARE, facts={}, actor=B)
    key_id = key_of(one_desk)
    one_desk.clock.advance(61)
    one_desk.keep()
    assert (one_desk.standing(), one_desk.state(plan_id)) == (["plan_waits"], (PlanState.WAITING, None))
    (row,) = one_desk.sessions()
    assert (row.facts["officers"], row.planned_until) == ([], None)
    one_desk.write(sessions.stop, other.id, actor=B)
    # What the room's recorder began is nobody's; and nothing is that of an account that was ended.
    begun = ask(one_desk, key_id, "start").session_id
    for disabled_at, found in ((one_desk.clock.now(), None), (None, begun)):
        with one_desk.storage.database.transaction() as session:
            session.get_one(Account, planner.id).disabled_at = disabled_at
        one_desk.keep()
        now_its = one_desk.state(plan_id)[1]
        assert (now_its and now_its.id) == found
    assert one_desk.standing() == []


def test_a_plan_does_not_become_a_session_that_ends_at_that_moment(desk: Desk) -> None:
    plan_id = desk.plan(1)
    ending: RoomSession = desk.write(sessions.start, BARE, facts={})
    desk.clock.advance(1)
    keeping = threading.Thread(target=desk.keep)
    with desk.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        sessions.stop(session, agency, ending.id, actor=B, now=desk.clock.now())
        session.flush()
        keeping.start()
        # It has seen that the session runs, and waits for its row.
        keeping.join(0.3)
        assert keeping.is_alive()
    keeping.join()
    state, found = desk.state(plan_id)
    assert found is not None
    assert (state, found.id != ending.id, found.ended_at) == (PlanState.BEGUN, True, None)


def test_a_plan_waits_for_the_session_of_another_case_and_is_told_of(one_desk: Desk) -> None:
    other: RoomSession = one_desk.write(sessions.start, BARE, facts={"case_no": "示执罚〔2026〕9号"})
    plan_id = one_desk.plan(60, facts=FACTS)
    next_id = one_desk.plan(3660)
    one_desk.clock.advance(60)
    one_desk.keep()
    one_desk.keep()
    assert (one_desk.standing(), one_desk.state(plan_id)) == (["plan_waits"], (PlanState.WAITING, None))
    one_desk.clock.advance(30)
    assert tell_unkept_plans(one_desk.storage) == 0
    one_desk.write(sessions.stop, other.id)
    one_desk.keep()
    state, found = one_desk.state(plan_id)
    assert (state, one_desk.standing()) == (PlanState.BEGUN, ["plan_late"])
    # Nor is what runs of one plan the next one's, though it says no case.
    assert found is not None
    one_desk.clock.advance(3600)
    one_desk.keep()
    assert one_desk.state(next_id) == (PlanState.WAITING, None)
    one_desk.write(schedule.withdraw, next_id)
    one_desk.write(schedule.withdraw, next_id)
    assert one_desk.state(next_id)[0] is PlanState.WITHDRAWN
    assert "plan_waits" not in one_desk.standing()
    # What was withdrawn is in nobody's way.
    one_desk.plan(3600)


def test_a_host_that_was_down_begins_late_with_what_the_room_kept_and_says_so(one_desk: Desk) -> None:
    plan_id = one_desk.plan(60)
    starts = one_desk.clock.now() + timedelta(seconds=60)
    one_desk.clock.advance(60 + 29)
    assert tell_unkept_plans(one_desk.storage) == 0
    one_desk.clock.advance(271)
    assert [tell_unkept_plans(one_desk.storage) for _ in range(2)] == [1, 0]
    assert one_desk.standing() == ["plan_unkept"]
    one_desk.keep(ROOM)
    (row,) = one_desk.sessions()
    assert (row.started_at, row.requested_at) == (starts, one_desk.clock.now())
    assert one_desk.standing() == ["plan_late"]
    (begun,) = [leaf for leaf in one_desk.leaves(plan_id) if leaf["action"] == "planned_session:begun"]
    assert begun["facts"]["late_ms"] == 300_000
    one_desk.write(sessions.stop, row.id)
    made = sheet_of(one_desk, row.id)
    assert (made["plan"]["late_ms"], made["plan"]["starts_at"]) == (300_000, rfc3339(starts))


def test_a_plan_that_no_host_kept_until_its_end_is_missed_and_told_of_once(one_desk: Desk) -> None:
    plan_id = one_desk.plan(60)
    told = []
    for after_s in (90, 3569, 1, 60):
        one_desk.clock.advance(after_s)
        told.append((tell_unkept_plans(one_desk.storage), one_desk.standing()))
    assert told == [(1, ["plan_unkept"]), (0, ["plan_unkept"]), (1, ["plan_missed"]), (0, ["plan_missed"])]
    one_desk.keep()
    assert (one_desk.standing(), one_desk.state(plan_id)[0]) == (["plan_missed"], PlanState.MISSED)
    with one_desk.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        (alarm,) = alarms.alarms(session, agency.id)
        alarms.clear(session, agency, alarm, actor=A, reason="知道", now=one_desk.clock.now())
    assert (tell_unkept_plans(one_desk.storage), one_desk.standing()) == (0, [])


def test_a_plan_that_was_missed_is_told_of_once_and_is_due_again_where_the_clock_was_wrong(
    one_desk: Desk,
) -> None:
    plan_id = one_desk.plan(60)
    one_desk.clock.advance(90_000)
    one_desk.keep()
    one_desk.keep()
    assert (one_desk.standing(), one_desk.state(plan_id)) == (["plan_missed"], (PlanState.MISSED, None))
    one_desk.clock.advance(61 - 90_000)
    one_desk.keep()
    assert one_desk.state(plan_id)[0] is PlanState.BEGUN
    assert len(one_desk.sessions()) == 1


def test_the_host_that_records_a_room_keeps_its_plans(
    one_desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = one_desk.plan(5)
    # One that an older version left as nobody can read it costs the others nothing.
    with one_desk.storage.database.transaction() as session:
        row = session.get_one(PlannedSession, plan_id)
        broken = PlannedSession(
            agency_id=row.agency_id, room_no=row.room_no, starts_at=row.starts_at - timedelta(seconds=1),
            ends_at=row.ends_at, time_zone=row.time_zone, ends_itself=False, facts={"officers": 5},
            planned_by=A, planned_at=row.planned_at, leaf_id=row.leaf_id,
        )  # fmt: skip
        session.add(broken)
    room = BARE.model_copy(update={"streams": []})
    (tmp_path / "host").mkdir()
    settings = settings_for(
        tmp_path / "host", one_desk.storage.database.url, recorder__rooms=[room.model_dump()]
    )
    monkeypatch.setattr("ingest.daemon.rooms.LOOK_EVERY_S", 3600.0)
    with recorded_for_real(settings, one_desk.storage, tmp_path) as held:
        (watched,) = held._rooms
        held.look(watched)
        assert one_desk.sessions() == []
        one_desk.clock.advance(5)
        watched.asked_at_s = float("-inf")
        held.look(watched)
        (row,) = one_desk.sessions()
        assert (one_desk.state(plan_id)[0], watched.lasting) == (PlanState.BEGUN, frozenset({row.id}))


# -- recorders that call ------------------------------------------------------------------------


def key_of(desk: Desk) -> UUID:
    key, row = desk.write(triggers.issue, BARE, "询问室录像机")
    with desk.storage.database.read() as session:
        assert keys.key_of(session, key).id == row.id
    assert key.startswith(keys.PREFIX)
    return UUID(str(row.id))


def ask(desk: Desk, key_id: UUID, action: str, **named: Any) -> triggers.Called:
    with desk.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        return triggers.call(
            session, agency, BARE, key_id, TriggerAction(action), now=desk.clock.now(), **named
        )


def test_a_recorder_starts_pauses_marks_and_ends_and_it_is_on_record_that_it_did(one_desk: Desk) -> None:
    key_id = key_of(one_desk)
    for action in ("stop", "pause", "resume", "mark"):
        assert ask(one_desk, key_id, action) == triggers.Called(None, False)
    begun = ask(one_desk, key_id, "start")
    assert begun.changed
    assert begun.session_id is not None
    same = triggers.Called(begun.session_id, False)
    assert [ask(one_desk, key_id, action) for action in ("start", "resume")] == [same, same]
    one_desk.clock.advance(10)
    assert ask(one_desk, key_id, "pause", reason=GapReason.SECRET_OR_PRIVACY, text="涉密").changed
    assert ask(one_desk, key_id, "pause") == same
    assert ask(one_desk, key_id, "resume").changed
    assert ask(one_desk, key_id, "mark").changed
    assert ask(one_desk, key_id, "stop").changed
    told = [(leaf["action"].partition(":")[2], leaf["actor"]) for leaf in one_desk.leaves(begun.session_id)]
    assert told == [
        (what, f"trigger:{key_id}") for what in ("started", "paused", "resumed", "marked", "ended")
    ]
    made = sheet_of(one_desk, begun.session_id)
    assert made["started_by"] == "录像机 recorder 询问室录像机"
    assert [each["text"] for each in made["notes"]] == ["涉密", "", triggers.SAID]


def test_a_call_that_is_repeated_late_begins_nothing_and_two_at_once_are_one(desk: Desk) -> None:
    key_id = key_of(desk)
    outcomes = at_once(*[lambda: ask(desk, key_id, "start", call_key="press-1")] * 2)
    assert outcomes[0] == outcomes[1]
    (row,) = desk.sessions()
    ask(desk, key_id, "stop")
    assert ask(desk, key_id, "start", call_key="press-1") == triggers.Called(row.id, True)
    assert [each.state for each in desk.sessions()] == ["ended"]
    with pytest.raises(EvidenceError) as refused:
        ask(desk, key_id, "stop", call_key="press-1")
    assert refused.value.code == "trigger_key_used"
    desk.write(triggers.revoke, key_id)
    # One that was let in before its key was revoked, and one that is repeated.
    for call_key in (None, "press-1"):
        with pytest.raises(EvidenceError) as refused:
            ask(desk, key_id, "start", call_key=call_key)
        assert refused.value.code == "trigger_unknown"
    assert [each.state for each in desk.sessions()] == ["ended"]
    desk.write(triggers.revoke, key_id)
    assert [leaf["action"] for leaf in desk.leaves(key_id)] == ["trigger:issued", "trigger:revoked"]


def test_who_names_a_case_in_a_session_that_a_recorder_began_binds_it_and_nobody_else(
    one_desk: Desk, tmp_path: Path
) -> None:
    key_id = key_of(one_desk)
    with one_desk.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        cases.add_case(
            session, agency.id, case_no=FACTS["case_no"], case_no_key=normalise_case_no(FACTS["case_no"]),
            kind=EnforcementKind.PENALTY, cause=None, party=None, handler_id=None, officer_no=None,
            opened_at=one_desk.clock.now(), closed_at=None, now=one_desk.clock.now(),
        )  # fmt: skip

    def bound_by(session_id: UUID, number: int) -> str | None:
        zero = one_desk.clock.now()
        one_desk.clock.advance(10)
        file = finished_file(one_desk.storage, tmp_path, zero, one_desk.clock.now(), number=number)
        item_id = hand_in(one_desk.storage, session_id, file)
        with one_desk.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            item = items.item_by_id(session, agency.id, item_id, lock=True)
            made = binding.bind_by_claims(session, agency, item, one_desk.clock.now())
            return None if made is None else made.author

    begun = ask(one_desk, key_id, "start").session_id
    assert begun is not None
    assert bound_by(begun, 0) is None
    one_desk.write(sessions.state_facts, begun, {"case_no": FACTS["case_no"]}, actor=A)
    assert bound_by(begun, 1) == A
    ask(one_desk, key_id, "stop")
    own: RoomSession = one_desk.write(sessions.start, BARE, facts={"case_no": FACTS["case_no"]}, actor=A)
    assert bound_by(own.id, 2) == binding.PIPELINE


# -- what must be said and seen -----------------------------------------------------------------


def sheet_of(desk: Desk, session_id: UUID) -> dict[str, Any]:
    with desk.storage.database.read() as session:
        agency = agencies.agency_by_code(session, "demo")
        return sheet.end_sheet(session, agency, session_id, desk.storage.keys, desk.clock.now())


def test_what_was_shown_stands_on_the_sheet_with_its_place_and_what_was_not_with_its_reason(
    one_desk: Desk, tmp_path: Path
) -> None:
    row: RoomSession = one_desk.write(sessions.start, BARE, facts=FACTS)
    zero, key = one_desk.clock.now(), UUID(int=7)
    assert one_desk.refused(conduct.note_shown, row.id, "weather") == "point_unknown"
    one_desk.clock.advance(30)
    first = one_desk.write(conduct.note_shown, row.id, "certificates_shown", text="两人均出示", key=key)
    one_desk.clock.advance(5)
    again = one_desk.write(conduct.note_shown, row.id, "certificates_shown", text="两人均出示", key=key)
    assert again.id == first.id
    said = {"text": "两人均出示", "key": key}
    timed = one_desk.write(
        conduct.note_shown, row.id, "certificates_shown", at=zero + timedelta(seconds=30), **said
    )
    assert timed.id == first.id
    for point, at in (("grounds_told", None), ("certificates_shown", zero)):
        assert one_desk.refused(conduct.note_shown, row.id, point, at=at, **said) == "note_key_used"
    one_desk.write(conduct.note_shown, row.id, "grounds_told")
    one_desk.clock.advance(25)
    one_desk.write(sessions.stop, row.id)
    assert one_desk.refused(conduct.note_shown, row.id, "rights_told") == "point_time"
    early, late = zero - timedelta(seconds=1), zero + timedelta(seconds=61)
    for at in (early, late):
        assert one_desk.refused(conduct.note_shown, row.id, "rights_told", at=at) == "point_time"
    # Looked up in the recording afterwards; and one that was ticked by mistake.
    one_desk.write(conduct.note_shown, row.id, "rights_told", at=zero + timedelta(seconds=50))
    one_desk.write(conduct.note_not_shown, row.id, "grounds_told", "事由见通知书")
    file = finished_file(one_desk.storage, tmp_path, zero, zero + timedelta(seconds=45), why="salvaged")
    item_id = hand_in(one_desk.storage, row.id, file)

    made = sheet_of(one_desk, row.id)
    told = {each["code"]: each for each in made["checklist"]}
    shown = told["certificates_shown"]
    assert (shown["is_shown"], shown["at"], shown["offset_ms"], shown["text"]) == (
        True, rfc3339(zero + timedelta(seconds=30)), 30_000, "两人均出示",
    )  # fmt: skip
    assert shown["places"] == [
        {"stream": "main", "sequence_no": 1, "item_id": str(item_id), "offset_ms": 30_000}
    ]
    assert (told["rights_told"]["is_shown"], told["rights_told"]["places"]) == (True, [])
    assert (told["grounds_told"]["is_shown"], told["grounds_told"]["text"]) == (False, "事由见通知书")
    assert (told["recusal_asked"]["is_shown"], told["recusal_asked"]["by"]) == (False, None)
    assert len(PdfParser.PdfParser(buf=sheet.as_pages(made, "Asia/Shanghai", zero)).pages) == 2
    lines = [line.text for line in sheet._of_checklist(made["checklist"], str, is_complete=True)]
    assert "□ 告知申请回避的权利并询问是否申请 told of recusal, and asked whether it is wanted" in lines
    assert "→ 未录入 not shown: 未说明 nobody said why" in lines
    assert any("main 1 +30.0 s" in line for line in lines)
    assert any("该时刻无录像" in line for line in lines)

    read_back(one_desk.storage, item_id)
    all_in(one_desk.storage, row.id)
    one_desk.write(sealing.seal, row.id, one_desk.storage.keys)
    assert one_desk.refused(conduct.note_not_shown, row.id, "recusal_asked", "x") == "session_state"
    assert one_desk.refused(conduct.note_shown, row.id, "recusal_asked", at=zero) == "session_state"
    # Sent again after a lost answer it is the first, also then.
    sent = one_desk.write(conduct.note_shown, row.id, "certificates_shown", text="两人均出示", key=key)
    assert sent.id == first.id
    noted = [
        leaf["facts"] for leaf in one_desk.leaves(row.id) if leaf["action"] == "room_session:point_noted"
    ]
    assert [(each["point"], each["shown"]) for each in noted] == [
        ("certificates_shown", True), ("grounds_told", True), ("rights_told", True), ("grounds_told", False),
    ]  # fmt: skip
