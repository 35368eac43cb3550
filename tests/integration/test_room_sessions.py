"""Sessions of rooms, from the start to the seal: what is on record, who was first, and what is never lost."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from PIL import PdfParser
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from evidence.breaks import Cause
from evidence.canonical import canonical_json
from evidence.errors import Conflict, EvidenceError, InvalidInput, NotFound
from evidence.kinds import EnforcementKind, GapReason
from evidence.masks import Hides, Reason
from ingest import roster
from ingest.recorder import handover, masks, registry, sealing, sessions, sheet
from storage.check_rows import check_rows
from storage.db import agencies, cases, custody, items
from storage.db import sessions as rows
from storage.db.room_tables import RoomSession, SessionMask
from storage.db.tables import Agency
from storage.db.witness import table_of
from storage.keys import Purpose, verify_signature
from storage.open import Storage
from tests.support.clocks import SettableClock
from tests.support.rooms import ROOM, all_in, finished_file, hand_in, read_back

FACTS = {"case_no": "示执罚〔2026〕17号", "officers": ["330101", "330102"], "party": "李某"}


class Room:
    """One room, its sessions and who works there."""

    def __init__(self, storage: Storage, clock: SettableClock, folder: Path) -> None:
        self.storage, self.clock, self.folder = storage, clock, folder

    def write(self, do: Callable[..., Any], *given: Any, **named: Any) -> Any:
        with self.storage.database.transaction() as session:
            agency = agencies.agency_by_code(session, "demo")
            return do(session, agency, *given, actor="operator:1", now=self.clock.now(), **named)

    def hold(self, do: Callable[..., None], session_id: UUID, name: str) -> None:
        """As the daemon of a host does."""
        with self.storage.database.transaction() as session:
            do(session, agencies.agency_by_code(session, "demo"), session_id, name, self.clock.now())

    def read(self, do: Callable[[Session, Agency], Any]) -> Any:
        with self.storage.database.read() as session:
            return do(session, agencies.agency_by_code(session, "demo"))

    def start(self, **named: Any) -> UUID:
        row: RoomSession = self.write(sessions.start, ROOM, facts=named.pop("facts", {}), **named)
        return row.id

    def refused(self, do: Callable[..., Any], *given: Any, **named: Any) -> str:
        with pytest.raises(EvidenceError) as refused:
            self.write(do, *given, **named)
        return refused.value.code

    def file(self, session_id: UUID, from_s: float, to_s: float, **named: Any) -> UUID:
        """A file of the session, in seconds of its start."""
        zero = self.told(session_id).row.started_at
        found = finished_file(
            self.storage,
            self.folder,
            zero + timedelta(seconds=from_s),
            zero + timedelta(seconds=to_s),
            **named,
        )
        return hand_in(self.storage, session_id, found)

    def told(self, session_id: UUID) -> sessions.Told:
        found: sessions.Told = self.read(
            lambda session, agency: sessions.tell(
                session, agency.id, rows.session_by_id(session, agency.id, session_id)
            )
        )
        return found

    def leaves(self, session_id: UUID) -> list[dict[str, Any]]:
        found = self.read(lambda session, agency: custody.leaves_about(session, agency.id, str(session_id)))
        return [json.loads(leaf.body or b"{}") for leaf in found]

    def over(self, from_at: datetime, to_at: datetime) -> list[UUID]:
        found = self.read(
            lambda session, agency: rows.sessions_over(session, agency.id, ROOM.room_no, from_at, to_at)
        )
        return [row.id for row in found]


@pytest.fixture
def room(storage: Storage, clock: SettableClock, tmp_path: Path) -> Room:
    """Over each database in turn."""
    return Room(storage, clock, tmp_path / "runs")


@pytest.fixture
def one_room(sqlite_storage: Storage, clock: SettableClock, tmp_path: Path) -> Room:
    """Where the database has no part."""
    return Room(sqlite_storage, clock, tmp_path / "runs")


def add_case(room: Room, number: str) -> UUID:
    with room.storage.database.transaction() as session:
        agency = agencies.agency_by_code(session, "demo")
        return cases.add_case(
            session, agency.id, case_no=number, case_no_key=number.replace("〔", "(").replace("〕", ")"),
            kind=EnforcementKind.PENALTY, cause=None, party=None, handler_id=None, officer_no=None,
            opened_at=room.clock.now(), closed_at=None, now=room.clock.now(),
        ).id  # fmt: skip


def test_a_session_from_start_to_seal(room: Room) -> None:
    case_id = add_case(room, FACTS["case_no"])
    session_id = room.start(facts=FACTS)
    zero = room.clock.now()
    with pytest.raises(Conflict, match="end it first"):
        the_sheet_holds(room, session_id, [])
    room.clock.advance(20)
    room.write(sessions.pause, session_id, GapReason.SECRET_OR_PRIVACY, "  进入涉密内容  ")
    assert room.refused(sessions.pause, session_id, GapReason.OTHER, "x") == "session_paused"
    room.clock.advance(10)
    room.write(sessions.resume, session_id)
    assert room.refused(sessions.resume, session_id) == "session_not_paused"
    room.clock.advance(10)
    room.write(sessions.mark, session_id, "出示证件")
    room.clock.advance(20)
    room.write(sessions.stop, session_id)
    assert room.refused(sessions.stop, session_id) == "session_state"
    assert room.refused(sealing.seal, session_id, room.storage.keys) == "session_empty"

    loss = {"kind": "turn", "turn": "loss", "stream": 0, "run": 0, "media_us": 5_000_000, "by_us": 2_000_000,
            "monotonic_us": 0}  # fmt: skip
    items_in = [
        room.file(session_id, 0, 20, why="ended", ended="stopped", turns=(loss,)),
        room.file(session_id, 30, 60.2, run="r2", why="ended", ended="stopped"),
        room.file(session_id, 0, 60.2, stream="room", why="ended", ended="stopped"),
    ]
    all_in(room.storage, session_id)
    told = room.told(session_id)
    assert (told.row.state, told.row.case_id, told.row.paused_since) == ("ended", case_id, None)
    assert told.facts.missing() == ["object_of_proof"]
    assert told.facts.place == ROOM.place
    plain = [(each.stream, each.cause, each.from_us, each.length_ms) for each in told.breaks]
    micros = told.row.started_at.timestamp() * 1e6
    assert plain == [
        ("main", Cause.LINE_LOSS, micros + 5e6, 2000),
        ("main", Cause.PAUSED, micros + 20e6, 10_000),
        # Recorded all the same; none of the session's.
        ("room", Cause.PAUSED, micros + 20e6, 10_000),
    ]
    assert [note.text for note in told.breaks[1].reasons] == ["进入涉密内容"]
    assert [(each.stream, each.sequence_no) for each in told.parts] == [("main", 1), ("main", 2), ("room", 1)]

    at = {"stream": "main", "from_at": zero + timedelta(seconds=5), "to_at": zero + timedelta(seconds=7)}
    assert room.refused(
        sessions.give_reason, session_id, **(at | {"stream": "room"}), reason=GapReason.OTHER, text="x"
    ) == "break_unknown"  # fmt: skip
    room.write(sessions.give_reason, session_id, **at, reason=GapReason.DEVICE_FAULT, text="网线松动")
    assert all(each.is_explained for each in room.told(session_id).breaks)

    # Only what was read back is sealed.
    assert room.refused(sealing.seal, session_id, room.storage.keys) == "session_not_verified"
    for item_id in items_in:
        read_back(room.storage, item_id)
    row: RoomSession = room.write(sealing.seal, session_id, room.storage.keys)
    manifest = json.loads(row.manifest or "")
    body = {name: value for name, value in manifest.items() if name not in {"key", "signature"}}
    key = room.storage.keys.public(Purpose.RECEIPT).public_bytes_raw()
    assert verify_signature(key, canonical_json(body), b64decode(manifest["signature"]))
    assert [each["item"] for each in body["files"]] == [str(item_id) for item_id in items_in]
    the_sheet_holds(room, session_id, manifest["files"])
    assert room.refused(sealing.seal, session_id, room.storage.keys) == "session_state"
    assert room.refused(sessions.state_facts, session_id, {"party": "某"}) == "session_state"

    # One that was found later is kept, and said to be.
    room.clock.advance(1)
    room.file(session_id, 60.2, 61, run="r2", number=1, why="salvaged")
    told = room.told(session_id)
    late = room.read(lambda session, agency: sealing.files_of(session, agency.id, told))
    assert [each["after_seal"] for each in late] == [False, False, True, False]
    assert [leaf["action"] for leaf in room.leaves(session_id)] == [
        f"room_session:{what}"
        for what in ("started", "paused", "resumed", "marked", "ended", "part_noted", "part_noted",
                     "part_noted", "handed_over", "reason_given", "sealed", "part_noted")
    ]  # fmt: skip
    assert "李某" not in json.dumps(room.leaves(session_id), ensure_ascii=False)


def the_sheet_holds(room: Room, session_id: UUID, files: list[dict[str, Any]]) -> None:
    """The end sheet says what the session is, and is signed; as pages it has room to sign."""
    made = room.read(
        lambda session, agency: sheet.end_sheet(
            session, agency, session_id, room.storage.keys, room.clock.now()
        )
    )
    body = {name: value for name, value in made.items() if name not in {"key", "signature"}}
    key = room.storage.keys.public(Purpose.RECEIPT).public_bytes_raw()
    assert verify_signature(key, canonical_json(body), b64decode(made["signature"]))
    assert [each["sha256"] for each in made["files"]] == [each["sha256"] for each in files]
    assert [(each["stream"], each["missing_ms"]) for each in made["streams"]] == [
        ("main", 12_000),
        ("room", 10_000),
    ]
    assert [each["reasons"][0]["statement"] for each in made["breaks"]] == [
        "网线松动", "进入涉密内容", "进入涉密内容",
    ]  # fmt: skip
    (hidden,) = made["masks"]
    assert (hidden["reason"], hidden["hides"], hidden["statement"]) == ("paused", "both", "进入涉密内容")
    assert [(each["before_ms"], each["after_ms"]) for each in made["files"]] == [(0, 0), (0, 200), (0, 200)]
    assert made["missing_facts"] == ["object_of_proof"]
    pages = sheet.as_pages(made, "Asia/Shanghai", room.clock.now())
    assert sheet.as_pages(made, "Asia/Shanghai", room.clock.now()) == pages
    assert len(PdfParser.PdfParser(buf=pages).pages) == 2


def test_of_two_who_start_a_room_at_once_one_is_told_of_the_other(room: Room) -> None:
    outcomes: list[str] = []
    both = threading.Barrier(2)

    def press() -> None:
        both.wait()
        try:
            room.start()
            outcomes.append("started")
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["session_open", "started"]
    a_mask_has_a_witness_and_keeps_its_end(room)


def a_mask_has_a_witness_and_keeps_its_end(room: Room) -> None:
    (session_id,) = room.over(room.clock.now(), room.clock.now() + timedelta(seconds=1))
    mask_id = room.write(masks.mask, session_id, Hides.BOTH, Reason.MINOR, "未成年人入场").id
    room.clock.advance(9)
    room.write(masks.end, session_id, mask_id)
    shorter = update(table_of(SessionMask)).values(to_at=room.clock.now() - timedelta(seconds=5))
    with (
        pytest.raises(DBAPIError, match="append-only"),
        room.storage.database.engine.begin() as connection,
    ):
        connection.execute(shorter)
    with room.storage.database.engine.begin() as connection:
        # Somebody with root.
        on = "" if room.storage.database.is_sqlite else " ON session_mask"
        connection.execute(text(f"DROP TRIGGER session_mask_ended{on}"))
        connection.execute(shorter)
    found = room.read(lambda session, agency: list(check_rows(session, agency)))
    assert [(wrong.kind, wrong.id) for wrong in found] == [("session_mask", str(mask_id))]


def test_a_forgotten_start_is_claimed_with_its_true_time_but_not_out_of_another_session(
    one_room: Room,
) -> None:
    first = one_room.start()
    one_room.clock.advance(600)
    one_room.write(sessions.stop, first)
    ended = one_room.clock.now()
    one_room.clock.advance(600)
    now = one_room.clock.now()
    for started_at, code in (
        (now - timedelta(seconds=3601), "session_start"),
        (now + timedelta(seconds=1), "session_start"),
        (ended - timedelta(seconds=1), "session_overlaps"),
    ):
        assert one_room.refused(sessions.start, ROOM, facts={}, started_at=started_at) == code
    second = one_room.start(started_at=ended)
    row = one_room.told(second).row
    assert (row.started_at, row.requested_at) == (ended, now)
    (leaf,) = one_room.leaves(second)
    assert leaf["facts"]["claimed"] is True
    assert leaf["facts"]["missing"] == ["case_no", "officers", "party", "object_of_proof"]
    # Which sessions a file is of.
    before, after = ended - timedelta(seconds=5), ended + timedelta(seconds=5)
    assert one_room.over(before, after) == [first, second]
    assert one_room.over(before, ended) == [first]
    assert one_room.over(after, now + timedelta(days=1)) == [second]
    assert [row.id for row in one_room.read(lambda s, a: rows.open_sessions(s, a.id, ROOM.room_no))] == [
        second
    ]
    assert one_room.read(lambda s, a: rows.open_sessions(s, a.id, "R-2")) == []
    # Of another agency there is none.
    assert one_room.read(lambda s, _: rows.sessions_over(s, first, ROOM.room_no, before, after)) == []


def test_the_same_file_twice_is_one_part_and_says_the_same_of_itself(one_room: Room) -> None:
    session_id = one_room.start(facts=FACTS)
    zero = one_room.clock.now()
    made = finished_file(one_room.storage, one_room.folder, zero, zero + timedelta(seconds=9))
    claims = one_room.read(
        lambda s, a: sessions.claims_of(s, a, rows.session_by_id(s, a.id, session_id), made)
    )
    item_id = hand_in(one_room.storage, session_id, made)
    assert hand_in(one_room.storage, session_id, made) == item_id
    assert len(one_room.told(session_id).parts) == 1
    again = one_room.read(
        lambda s, a: sessions.claims_of(s, a, rows.session_by_id(s, a.id, session_id), made)
    )
    assert again == claims
    item = one_room.read(lambda s, a: items.item_by_id(s, a.id, item_id))
    assert (item.source_kind, item.sequence_no, item.collector) == ("interview_room", 1, "330101")
    assert (item.captured_from, item.captured_to) == (zero, zero + timedelta(seconds=9))
    assert item.captured_place == ROOM.place
    assert str(item.recording_key).endswith(f":session:{session_id}:main")
    assert [each.value for each in claims if each.field == "officer_no"] == ["330101", "330102"]


def test_facts_that_come_late_reach_the_files_that_were_there_before(one_room: Room) -> None:
    session_id = one_room.start()
    item_id = one_room.file(session_id, 0, 9)
    add_case(one_room, FACTS["case_no"])
    one_room.write(sessions.stop, session_id)
    one_room.write(sessions.state_facts, session_id, {**FACTS, "object_of_proof": "是否知情"})
    item = one_room.read(lambda s, a: items.item_by_id(s, a.id, item_id))
    assert (item.collector, item.object_of_proof, item.binding) == ("330101", "是否知情", "bound")
    told = one_room.told(session_id)
    assert told.facts.missing() == []
    (note,) = told.notes
    assert json.loads(note.text) == {**FACTS, "object_of_proof": "是否知情"}
    # Said once more, nothing of the items changes.
    one_room.write(sessions.state_facts, session_id, {"object_of_proof": "另一事项"})
    assert one_room.read(lambda s, a: items.item_by_id(s, a.id, item_id)).object_of_proof == "是否知情"
    for changes, code in (({}, "session_fact"), ({"weather": "x"}, "session_fact")):
        assert one_room.refused(sessions.state_facts, session_id, changes) == code


def test_a_number_the_register_does_not_have_is_kept_as_stated_ties_nothing_and_is_said(
    one_room: Room,
) -> None:
    session_id = one_room.start(facts={"case_no": "无此案号", "officers": ["330101", "999999"]})
    told = one_room.told(session_id)
    assert (told.row.case_id, told.facts.case_no) == (None, "无此案号")

    def unknown() -> list[str]:
        found: list[str] = one_room.read(lambda s, a: registry.unregistered(s, a, told.row).names())
        return found

    assert unknown() == ["case_no", "officer 330101", "officer 999999"]
    one_room.write(roster.register_officer, "330101", "王", certificate_no=None)
    assert unknown() == ["case_no", "officer 999999"]
    one_room.write(sessions.stop, session_id)
    made = one_room.read(
        lambda s, a: sheet.end_sheet(s, a, session_id, one_room.storage.keys, one_room.clock.now())
    )
    assert made["unregistered"] == {"case_no": True, "officers": ["999999"]}
    drawn = [each.text for each in sheet._lines(made, ZoneInfo("UTC")) if "not registered here" in each.text]
    assert [line.split(":")[0] for line in drawn] == ["案件编号 Case", "办案人员 Officers"]


def test_a_marker_that_is_sent_twice_is_one(room: Room) -> None:
    session_id, key = room.start(), uuid4()
    first = room.write(sessions.mark, session_id, "出示证件", key=key)
    room.clock.advance(5)
    assert room.write(sessions.mark, session_id, " 出示证件 ", key=key).id == first.id
    for other in (None, uuid4()):
        room.write(sessions.mark, session_id, "出示证件", key=other)
    assert room.refused(sessions.mark, session_id, "另一件事", key=key) == "note_key_used"
    room.write(sessions.stop, session_id)
    # The answer was lost, and the session ended meanwhile.
    assert room.write(sessions.mark, session_id, "出示证件", key=key).id == first.id
    assert room.refused(sessions.mark, session_id, "出示证件", key=uuid4()) == "session_state"
    assert len(room.told(session_id).notes) == 3


def test_a_file_that_is_not_in_yet_keeps_a_session_from_its_seal_until_somebody_says_why(
    one_room: Room,
) -> None:
    session_id = one_room.start()
    zero = one_room.clock.now()
    one_room.clock.advance(60)
    one_room.write(sessions.stop, session_id)
    read_back(one_room.storage, one_room.file(session_id, 0, 30, why="length"))
    read_back(one_room.storage, one_room.file(session_id, 0, 60, why="ended", stream="room"))
    # Though nothing more is said to be anywhere.
    all_in(one_room.storage, session_id)
    assert one_room.refused(sealing.seal, session_id, one_room.storage.keys) == "session_outstanding"
    # The host's clock was set back: what is said now is about what is known all the same.
    one_room.clock.advance(-3600)
    one_room.write(
        sessions.give_reason, session_id, stream="main", from_at=zero + timedelta(seconds=30),
        to_at=zero + timedelta(seconds=60), reason=GapReason.DEVICE_FAULT, text="磁盘损坏,无法恢复",
    )  # fmt: skip
    row: RoomSession = one_room.write(sealing.seal, session_id, one_room.storage.keys)
    assert row.state == "sealed"


def test_while_a_host_may_still_have_files_their_gaps_are_outstanding(one_room: Room) -> None:
    session_id = one_room.start()
    zero = one_room.clock.now()
    for name in ("one", "two", "two"):
        one_room.hold(handover.begin_to_hold, session_id, name)
    one_room.clock.advance(59)
    read_back(one_room.storage, one_room.file(session_id, 0, 10, why="length"))
    read_back(one_room.storage, one_room.file(session_id, 12, 30, why="salvaged", number=1))
    read_back(one_room.storage, one_room.file(session_id, 0, 60, why="ended", ended="stopped", stream="room"))
    assert one_room.told(session_id).row.held_by == ["one", "two"]
    # Of two seconds in the middle, while it lasts: no reason for what is missing at its end.
    one_room.write(
        sessions.give_reason, session_id, stream="main", from_at=zero, to_at=zero + timedelta(hours=1),
        reason=GapReason.POWER_LOST, text="断电",
    )  # fmt: skip
    one_room.clock.advance(1)
    one_room.write(sessions.stop, session_id)
    one_room.hold(handover.hold_no_more, session_id, "one")
    told = one_room.told(session_id)
    assert [(each.stream, each.cause, each.length_ms, each.is_explained) for each in told.breaks] == [
        ("main", Cause.OUTSTANDING, 2_000, False), ("main", Cause.OUTSTANDING, 30_000, False),
        ("room", Cause.OUTSTANDING, 0, False),
    ]  # fmt: skip
    assert one_room.refused(sealing.seal, session_id, one_room.storage.keys) == "session_outstanding"
    # Whoever does not wait says why, of each stream.
    ends = {"from_at": zero + timedelta(seconds=11), "to_at": zero + timedelta(seconds=61)}
    for stream in ("main", "room"):
        one_room.write(
            sessions.give_reason, session_id, stream=stream, **ends, reason=GapReason.DEVICE_FAULT, text="毁"
        )
    assert all(each.is_explained for each in one_room.told(session_id).breaks)
    one_room.hold(handover.hold_no_more, session_id, "two")
    told = one_room.told(session_id)
    assert [(each.cause, [said.text for said in each.reasons]) for each in told.breaks] == [
        (Cause.NOT_ON_RECORD, ["断电", "毁"]), (Cause.PROCESS_DIED, ["毁"]),
    ]  # fmt: skip
    row: RoomSession = one_room.write(sealing.seal, session_id, one_room.storage.keys)
    assert json.loads(row.manifest or "")["complete_at"] is not None
    assert [leaf["facts"].get("held_by") for leaf in one_room.leaves(session_id)] == [
        None, ["one"], ["one", "two"], None, None, None, None, None, ["two"], None, None, [], None,
    ]  # fmt: skip


def test_a_clock_that_was_set_back_makes_no_session_of_negative_length(one_room: Room) -> None:
    session_id = one_room.start()
    one_room.clock.advance(-30)
    row: RoomSession = one_room.write(sessions.stop, session_id)
    assert row.ended_at == row.started_at


def test_a_room_belongs_to_the_agency_the_settings_name(one_room: Room) -> None:
    other = ROOM.model_copy(update={"room_no": "R-9", "agency": "elsewhere"})
    found = one_room.read(lambda s, a: registry.rooms_of(s, a, [ROOM, other]))
    assert [each.room_no for each in found] == ["R-1"]
    with pytest.raises(NotFound) as refused:
        one_room.read(lambda s, a: registry.room_of(s, a, [ROOM, other], "R-9"))
    assert refused.value.code == "room_not_found"
    with pytest.raises(NotFound):
        one_room.read(lambda s, a: rows.session_by_id(s, a.id, a.id))
    with pytest.raises(InvalidInput):
        one_room.start(facts={"party": "两\n行"})
