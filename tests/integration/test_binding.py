"""Every item is bound, suggested or unbound; numbers have no gaps; nothing is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import select

from evidence.case import normalise_case_no
from evidence.errors import Conflict, InvalidInput
from evidence.ids import new_id
from evidence.kinds import ClaimSource, EnforcementKind
from ingest import binding
from storage.db import agencies, cases, items
from storage.db.tables import Agency, AvNumber, Case, CaseBinding, Claim, CustodyLeaf, Item, StoredObject
from storage.open import Storage

DAY = datetime(2026, 3, 3, 1, 0, tzinfo=UTC)


def agency_of(storage: Storage) -> Agency:
    with storage.database.read() as session:
        return session.scalars(select(Agency)).one()


def make_item(storage: Storage, **facts: object) -> UUID:
    agency = agency_of(storage)
    item_id = new_id()
    with storage.database.transaction() as session:
        stored = StoredObject(
            agency_id=agency.id, sha256=item_id.bytes * 2, size_bytes=1, store_key="k", stored_at=DAY
        )
        session.add(stored)
        session.flush()
        values = {
            "source_kind": "body_cam", "media_kind": "video", "original_name": "a.mp4", "custody": "verified",
            "media": "probed", "binding": "unbound", "redaction": "none", "flags": [],
            "duration_us": 10_000_000, "captured_from": DAY, "captured_to": DAY + timedelta(seconds=10),
        }  # fmt: skip
        session.add(
            Item(
                id=item_id,
                agency_id=agency.id,
                object_id=stored.id,
                identity_key=str(item_id),
                received_at=DAY,
                **(values | facts),
            )
        )
    return item_id


def make_case(storage: Storage, number: str, **facts: object) -> UUID:
    values = {
        "kind": EnforcementKind.PENALTY, "cause": None, "party": None, "handler_id": None,
        "officer_no": None, "opened_at": DAY - timedelta(days=1), "closed_at": None,
    } | facts  # fmt: skip
    with storage.database.transaction() as session:
        case = cases.add_case(
            session,
            agency_of(storage).id,
            case_no=number,
            case_no_key=normalise_case_no(number),
            now=DAY,
            **values,  # type: ignore[arg-type]
        )
        return case.id


def claim_case_no(storage: Storage, item_id: UUID, number: str) -> None:
    with storage.database.transaction() as session:
        session.add(
            Claim(
                agency_id=agency_of(storage).id,
                item_id=item_id,
                field="case_no",
                value=number,
                source=str(ClaimSource.DOCK),
                made_at=DAY,
            )
        )


def settle(storage: Storage, item_id: UUID) -> CaseBinding | None:
    agency = agency_of(storage)
    with storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == item_id)).one()
        return binding.bind_by_claims(session, agency, item, DAY)


def item_of(storage: Storage, item_id: UUID) -> Item:
    with storage.database.read() as session:
        return session.scalars(select(Item).where(Item.id == item_id)).one()


def test_a_named_case_binds_in_any_spelling(storage: Storage) -> None:
    make_case(storage, "渝执罚〔2026〕12号")
    item_id = make_item(storage)
    claim_case_no(storage, item_id, " 渝执罚［２０２６］ １２号")
    assert settle(storage, item_id) is not None
    item = item_of(storage, item_id)
    assert item.binding == "bound"
    assert item.av_record_no == "demo-LX-2026-0001"


@pytest.mark.parametrize(
    ("number", "code"),
    [("没有此案", "case_unknown"), ("\x00", "case_no_invalid"), ("x" * 500, "case_no_invalid")],
)
def test_a_number_that_cannot_be_bound_is_a_flag(storage: Storage, number: str, code: str) -> None:
    item_id = make_item(storage)
    claim_case_no(storage, item_id, number) if number != "\x00" else claim_case_no(
        storage, item_id, "\u202e1"
    )
    assert settle(storage, item_id) is None
    item = item_of(storage, item_id)
    assert item.binding == "unbound"
    assert [flag["code"] for flag in item.flags] == [code]


def test_the_flag_of_an_unknown_case_ends_when_somebody_binds_the_item(storage: Storage) -> None:
    item_id = make_item(storage)
    claim_case_no(storage, item_id, "没有此案")
    settle(storage, item_id)
    case_id = make_case(storage, "没有此案")
    with storage.database.transaction() as session:
        case = session.get_one(Case, case_id)
        agency, item = session.get_one(Agency, case.agency_id), session.get_one(Item, item_id)
        items.flag(item, "truncated", "something else")
        binding.bind(session, agency, item, case, author="person", reason="opened since", now=DAY)
    assert [flag["code"] for flag in item_of(storage, item_id).flags] == ["truncated"]


def test_a_closed_case_is_a_flag(storage: Storage) -> None:
    make_case(storage, "旧案1号", closed_at=DAY - timedelta(hours=1))
    item_id = make_item(storage)
    claim_case_no(storage, item_id, "旧案1号")
    assert settle(storage, item_id) is None
    assert [flag["code"] for flag in item_of(storage, item_id).flags] == ["case_closed"]


def test_the_officers_one_open_case_is_suggested(storage: Storage) -> None:
    case_id = make_case(storage, "甲案", officer_no="123456")
    item_id = make_item(storage, collector="123456")
    made = settle(storage, item_id)
    assert made is not None
    assert (made.case_id, made.state) == (case_id, "suggested")
    item = item_of(storage, item_id)
    assert (item.binding, item.av_record_no) == ("suggested", None)


def test_two_open_cases_suggest_nothing(storage: Storage) -> None:
    make_case(storage, "甲案", officer_no="123456")
    make_case(storage, "乙案", officer_no="123456")
    item_id = make_item(storage, collector="123456")
    assert settle(storage, item_id) is None


def test_who_held_the_device_then_counts_not_who_holds_it_now(storage: Storage) -> None:
    agency = agency_of(storage)
    make_case(storage, "甲案", officer_no="111111")
    with storage.database.transaction() as session:
        device = agencies.add_device(session, agency.id, "CAM1", DAY)
        first = agencies.add_officer(session, agency.id, "111111", "甲", DAY)
        second = agencies.add_officer(session, agency.id, "222222", "乙", DAY)
        agencies.issue_device(session, device, first, DAY - timedelta(days=9))
        agencies.issue_device(session, device, second, DAY + timedelta(days=1))
    made = settle(storage, make_item(storage, device_id=device.id))
    assert made is not None
    assert made.state == "suggested"


def test_a_decision_takes_the_place_of_a_suggestion(storage: Storage) -> None:
    case_id = make_case(storage, "甲案", officer_no="123456")
    item_id = make_item(storage, collector="123456")
    settle(storage, item_id)
    with storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == item_id)).one()
        case = session.scalars(select(Case).where(Case.id == case_id)).one()
        binding.bind(
            session, agency_of(storage), item, case, author=f"account:{new_id()}", reason="确认", now=DAY
        )
    with storage.database.read() as session:
        rows = cases.bindings_of(session, agency_of(storage).id, item_id, in_force=False)
    assert [(row.state, row.ended_at is None) for row in rows] == [("suggested", False), ("bound", True)]
    assert item_of(storage, item_id).av_record_no is not None


def bound(storage: Storage) -> tuple[UUID, CaseBinding]:
    make_case(storage, "甲案")
    item_id = make_item(storage)
    claim_case_no(storage, item_id, "甲案")
    made = settle(storage, item_id)
    assert made is not None
    return item_id, made


def test_unbinding_keeps_the_number_and_the_history(storage: Storage) -> None:
    item_id, made = bound(storage)
    with storage.database.transaction() as session:
        row = session.scalars(select(CaseBinding).where(CaseBinding.id == made.id)).one()
        binding.unbind(session, agency_of(storage), row, author="system", reason="误绑", now=DAY)
    item = item_of(storage, item_id)
    assert (item.binding, item.av_record_no) == ("unbound", "demo-LX-2026-0001")
    with storage.database.transaction() as session, pytest.raises(Conflict):
        row = session.scalars(select(CaseBinding).where(CaseBinding.id == made.id)).one()
        binding.unbind(session, agency_of(storage), row, author="system", reason="再来", now=DAY)


def test_two_cases_in_one_recording_are_two_spans(storage: Storage) -> None:
    item_id, made = bound(storage)
    other = make_case(storage, "乙案")
    with storage.database.transaction() as session:
        row = session.scalars(select(CaseBinding).where(CaseBinding.id == made.id)).one()
        parts = [(made.case_id, 0, 4_000_000), (other, 4_000_000, 10_000_000)]
        rows = binding.split(session, agency_of(storage), row, parts, author="system", reason="两案", now=DAY)
    assert [(row.span_from_us, row.span_to_us) for row in rows] == [(0, 4_000_000), (4_000_000, 10_000_000)]
    assert item_of(storage, item_id).binding == "bound"


@pytest.mark.parametrize(
    "parts", [[(0, 5_000_000), (4_000_000, 9_000_000)], [(0, 1)], [(0, 5_000_000), (5_000_000, 99_000_000)]]
)
def test_spans_that_overlap_or_leave_the_recording_are_refused(
    storage: Storage, parts: list[tuple[int, int]]
) -> None:
    _, made = bound(storage)
    with pytest.raises(InvalidInput), storage.database.transaction() as session:
        row = session.scalars(select(CaseBinding).where(CaseBinding.id == made.id)).one()
        whole = [(made.case_id, start, end) for start, end in parts]
        binding.split(session, agency_of(storage), row, whole, author="system", reason="x", now=DAY)
    with storage.database.read() as session:
        assert len(cases.bindings_of(session, agency_of(storage).id, made.item_id)) == 1


def test_no_reason_no_binding(storage: Storage) -> None:
    item_id, made = bound(storage)
    with pytest.raises(InvalidInput), storage.database.transaction() as session:
        row = session.scalars(select(CaseBinding).where(CaseBinding.id == made.id)).one()
        binding.unbind(session, agency_of(storage), row, author="system", reason="  ", now=DAY)
    assert item_of(storage, item_id).binding == "bound"


def test_twenty_filings_at_once_draw_twenty_numbers_without_a_gap(storage: Storage) -> None:
    make_case(storage, "甲案")
    ids = [make_item(storage) for _ in range(20)]
    for item_id in ids:
        claim_case_no(storage, item_id, "甲案")
    threads = [threading.Thread(target=settle, args=(storage, item_id)) for item_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with storage.database.read() as session:
        assert sorted(session.scalars(select(AvNumber.seq))) == list(range(1, 21))


def test_a_rolled_back_filing_leaves_no_gap(storage: Storage) -> None:
    make_case(storage, "甲案")
    lost, kept = make_item(storage), make_item(storage)
    for item_id in (lost, kept):
        claim_case_no(storage, item_id, "甲案")
    with pytest.raises(RuntimeError), storage.database.transaction() as session:
        item = session.scalars(select(Item).where(Item.id == lost)).one()
        binding.bind_by_claims(session, agency_of(storage), item, DAY)
        raise RuntimeError("power cut")
    settle(storage, kept)
    assert item_of(storage, kept).av_record_no == "demo-LX-2026-0001"


def test_the_three_lists_sum_to_all_and_each_binding_is_in_custody(storage: Storage) -> None:
    make_case(storage, "甲案", officer_no="123456")
    named, suggested, nobody = make_item(storage), make_item(storage, collector="123456"), make_item(storage)
    claim_case_no(storage, named, "甲案")
    for item_id in (named, suggested, nobody):
        settle(storage, item_id)
    with storage.database.read() as session:
        totals = cases.binding_totals(session, agency_of(storage).id)
        actions = list(session.scalars(select(CustodyLeaf.action)))
    assert totals == {"bound": 1, "suggested": 1, "unbound": 1}
    assert actions.count("binding:made") == 1
    assert actions.count("binding:suggested") == 1
    assert actions.count("item:number_drawn") == 1


def test_ending_and_making_bindings_at_once_leaves_what_is_in_force(storage: Storage) -> None:
    """The facet is the sum of the bindings in force, whoever was faster."""
    agency = agency_of(storage)
    first, second = make_case(storage, "甲案"), make_case(storage, "乙案")
    failures: list[BaseException] = []

    def at_once(*acts: Callable[[], None]) -> None:
        gate = threading.Barrier(len(acts))

        def run(act: Callable[[], None]) -> None:
            try:
                gate.wait(10)
                act()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def tie(item_id: UUID, case_id: UUID) -> None:
        with storage.database.transaction() as session:
            item = items.item_by_id(session, agency.id, item_id)
            case = cases.case_by_id(session, agency.id, case_id)
            binding.bind(session, agency, item, case, author="a", reason="r", now=DAY)

    def end(binding_id: UUID) -> None:
        with storage.database.transaction() as session:
            row = cases.binding_by_id(session, agency.id, binding_id)
            binding.unbind(session, agency, row, author="b", reason="r", now=DAY)

    for _ in range(12):
        item_id = make_item(storage)
        tie(item_id, first)
        with storage.database.read() as session:
            (row,) = cases.bindings_of(session, agency.id, item_id)
        at_once(partial(end, row.id), partial(tie, item_id, second))
        assert failures == []
        with storage.database.read() as session:
            assert len(cases.bindings_of(session, agency.id, item_id)) == 1
        assert item_of(storage, item_id).binding == "bound"
        with storage.database.read() as session:
            (left,) = cases.bindings_of(session, agency.id, item_id)
        at_once(partial(end, left.id), partial(tie, item_id, first))
        assert failures == []
        assert item_of(storage, item_id).binding == "bound"


def test_a_binding_is_ended_once_by_two_people_at_once(storage: Storage) -> None:
    agency = agency_of(storage)
    case_id, item_id = make_case(storage, "甲案"), make_item(storage)
    with storage.database.transaction() as session:
        item = items.item_by_id(session, agency.id, item_id)
        case = cases.case_by_id(session, agency.id, case_id)
        made = binding.bind(session, agency, item, case, author="a", reason="r", now=DAY)
    outcomes: list[str] = []
    gate = threading.Barrier(2)

    def end() -> None:
        gate.wait(10)
        try:
            with storage.database.transaction() as session:
                row = cases.binding_by_id(session, agency.id, made.id)
                binding.unbind(session, agency, row, author="b", reason="r", now=DAY)
            outcomes.append("ended")
        except Conflict as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=end) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["binding_ended", "ended"]
    assert item_of(storage, item_id).binding == "unbound"
