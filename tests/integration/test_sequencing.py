"""Placing leaves and signing: only where there is something new, and readable however long the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select

from cli.logbook import live_lines
from cli.verifier import verify_export
from evidence.custody import Action, Leaf, leaf_bytes
from evidence.events import Event, Topic
from evidence.ids import new_id
from ingest import binding
from storage.db import agencies, cases, custody, items
from storage.db.custody import Happening
from storage.db.tables import CaseBinding, CustodyCheckpoint, CustodyLeaf, CustodyPending
from storage.open import Storage
from storage.sequencer import place_waiting
from tests.integration.test_binding import DAY, make_case, make_item
from tests.support.installations import AGENCY, settings_for
from tests.support.long_log import grow_log
from workers.bindings import BindingNews
from workers.relay import Relay


def checkpoint_count(storage: Storage) -> int:
    with storage.database.read() as session:
        return session.scalar(select(func.count()).select_from(CustodyCheckpoint)) or 0


def test_without_new_leaves_nothing_is_signed(storage: Storage) -> None:
    with storage.database.read() as session:
        agency = agencies.agencies(session)[0]
    for _ in range(3):
        place_waiting(storage, agency.id)
    assert checkpoint_count(storage) == 1


def test_a_log_is_read_a_batch_at_a_time_and_whole(storage: Storage) -> None:
    grow_log(storage, 1200, 2)
    with storage.database.read() as session:
        agency = agencies.agencies(session)[0]
        size = custody.tree_size(session, agency.id)
        lines = list(live_lines(session, agency, with_payloads=True))
        assert verify_export(lines) == []
        # Batches smaller than the log change nothing.
        few = list(custody.placed_leaves(session, agency.id, batch=7))
        notes = list(custody.checkpoints(session, agency.id, batch=7))
    assert [leaf.index for leaf in few] == list(range(size))
    assert len(lines) == 1 + size + len(notes)
    assert len(notes) == checkpoint_count(storage) == 601


class Heard:
    """Keeps what is told, as (item, word, case)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def publish(self, event: Event) -> None:
        assert (event.topic, event.agency) == (Topic.ITEM, AGENCY.code)
        about = event.facts.get("case") or event.facts["release"]
        self.events.append((event.subject_id, event.what, about))

    def announce_all(self, due: object) -> int:
        return len(list(due))  # type: ignore[call-overload]

    def take(self) -> list[tuple[str, str, str]]:
        found, self.events = self.events, []
        return found


def test_every_binding_is_told_once_whoever_places_its_leaf(storage: Storage) -> None:
    heard = Heard()
    news = BindingNews(storage, heard)  # type: ignore[arg-type]
    item_id = make_item(storage)
    case_a, case_b = make_case(storage, "示罚字〔2026〕1号"), make_case(storage, "示罚字〔2026〕2号")
    with storage.database.read() as session:
        agency = agencies.agencies(session)[0]
    news.round()

    def bound(case_id: UUID) -> CaseBinding:
        with storage.database.transaction() as session:
            item = items.item_by_id(session, agency.id, item_id, lock=True)
            case = cases.case_by_id(session, agency.id, case_id)
            return binding.bind(session, agency, item, case, author="a", reason="r", now=DAY)

    row = bound(case_a)
    assert news.round() == 1
    assert heard.take() == [(str(item_id), "bound", str(case_a))]
    # It was told while it waited; that it has a place now is no news.
    place_waiting(storage, agency.id)
    assert news.round() == 0
    with storage.database.transaction() as session:
        binding.unbind(session, agency, row, author="a", reason="r", now=DAY)
    bound(case_b)
    # Placed before the relay looked, as by a command that exports the log.
    place_waiting(storage, agency.id)
    assert news.round() == 2
    assert heard.take() == [(str(item_id), "unbound", str(case_a)), (str(item_id), "bound", str(case_b))]
    assert news.round() == 0


def test_a_release_is_told_when_it_is_given_and_when_it_is_taken_back(sqlite_storage: Storage) -> None:
    heard = Heard()
    news = BindingNews(sqlite_storage, heard)  # type: ignore[arg-type]
    item_id, release_id = str(make_item(sqlite_storage)), str(new_id())
    news.round()
    for action, what in ((Action.RELEASE_GIVEN, "released"), (Action.RELEASE_REVOKED, "release_revoked")):
        with sqlite_storage.database.transaction() as session:
            agency = agencies.agencies(session)[0]
            facts = {"release": release_id, "plan": 1, "case": None}
            custody.record(session, agency, Happening(action, "item", item_id, "system", facts), DAY)
        assert news.round() == 1
        assert heard.take() == [(item_id, what, release_id)]


def test_an_altered_leaf_keeps_no_other_from_being_told(storage: Storage, tmp_path: Path) -> None:
    heard = Heard()
    settings = settings_for(tmp_path, "sqlite://")
    relay = Relay(storage, settings, heard, heard)  # type: ignore[arg-type]
    item_id, case_id = make_item(storage), make_case(storage, "示罚字〔2026〕1号")
    relay.round()
    with storage.database.transaction() as session:
        agency = agencies.agencies(session)[0]
        leaf = Leaf(
            leaf_id=new_id(), agency=agency.code, action=Action.BINDING_MADE, subject_kind="item",
            subject_id=str(item_id), made_at=DAY, actor="worker",
        )  # fmt: skip
        others = replace(leaf, agency="SX-000", facts={"case": str(case_id)})
        for body in (b"{}", leaf_bytes(leaf), leaf_bytes(others)):
            altered = CustodyLeaf(
                id=new_id(),
                agency_id=agency.id,
                subject_id="x",
                action="binding:made",
                body=body,
                made_at=DAY,
            )
            session.add(altered)
            session.flush()
            session.add(CustodyPending(agency_id=agency.id, leaf_id=altered.id))
        item = items.item_by_id(session, agency.id, item_id, lock=True)
        case = cases.case_by_id(session, agency.id, case_id)
        binding.bind(session, agency, item, case, author="a", reason="r", now=DAY)
    relay.round()
    assert heard.take() == [(str(item_id), "bound", str(case_id))]
