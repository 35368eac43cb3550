"""Rows, log and files held against each other, on both databases."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from cli.shell import Desk
from config.settings import Settings
from evidence.custody import Action, parse_leaf
from storage.check import Depth, check
from storage.db import agencies, items
from storage.db.tables import Account, AvNumberSeries, CustodyLeaf, Device, Item, StoredObject
from storage.objects.base import Namespace, object_key
from storage.open import Storage
from tests.support.clocks import SettableClock
from tests.support.held_shift import lite_shift, play_shift


@pytest.fixture
def desk(settings: Settings, storage: Storage, tmp_path: Path) -> Desk:
    return play_shift(settings, storage, tmp_path, count=3)


@pytest.fixture
def lite(tmp_path: Path, clock: SettableClock) -> Iterator[Desk]:
    """For what has nothing to do with the kind of database."""
    yield from lite_shift(tmp_path, clock)


def found(desk: Desk, depth: Depth = Depth.DIGESTS) -> set[tuple[str, str]]:
    return {(one.code, f"{one.kind} {one.id}") for one in check(desk.storage, depth)}


def one_object(desk: Desk) -> StoredObject:
    with desk.read() as session:
        return session.scalars(select(StoredObject)).first() or pytest.fail("no object")


def test_sound_installation_has_no_findings(desk: Desk) -> None:
    assert found(desk) == set()


def test_flipped_bit_is_found_only_by_reading(lite: Desk) -> None:
    row = one_object(lite)
    path = lite.storage.objects.path(row.store_key)
    assert path is not None
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    assert found(lite, Depth.SIZES) == set()
    assert found(lite, Depth.DIGESTS) == {("file_digest", f"object {row.id}")}


def test_missing_and_short_files_are_found(lite: Desk) -> None:
    with lite.read() as session:
        gone, short = session.scalars(select(StoredObject).limit(2)).all()
    for row, size in ((gone, None), (short, 10)):
        path = lite.storage.objects.path(row.store_key)
        assert path is not None
        path.chmod(0o600)
        if size is None:
            path.unlink()
        else:
            os.truncate(path, size)
    assert found(lite, Depth.ROWS) == {("file_missing", f"object {gone.id}")}
    assert found(lite, Depth.SIZES) == {
        ("file_missing", f"object {gone.id}"),
        ("file_size", f"object {short.id}"),
    }


def test_file_without_row_is_listed_once_it_is_old_and_never_deleted(lite: Desk) -> None:
    staged = lite.storage.objects.staging_dir / "orphan"
    staged.write_bytes(b"nobody speaks of me")
    digest = b"\x01" * 32
    key = object_key(lite.agency.id.hex, Namespace.ORIGINAL, digest)
    lite.storage.objects.adopt(staged, digest, 19, lite.agency.id.hex)
    assert found(lite, Depth.ROWS) == set()
    path = lite.storage.objects.path(key)
    assert path is not None
    os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert found(lite, Depth.ROWS) == {("orphan_file", f"file {key}")}
    assert path.exists()


def test_row_changed_past_the_program_is_named(desk: Desk) -> None:
    with desk.read() as session:
        item = session.scalars(select(Item)).first()
    assert item is not None
    with desk.storage.database.engine.begin() as connection:
        connection.execute(update(Item).where(Item.id == item.id).values(captured_place="别处"))
    assert found(desk, Depth.ROWS) == {("row_changed", f"item {item.id}")}


def test_row_put_back_to_an_earlier_state_is_named(lite: Desk) -> None:
    with lite.read() as session:
        item = session.scalars(select(Item).where(Item.custody == "verified")).first()
    assert item is not None
    with lite.storage.database.engine.begin() as connection:
        connection.execute(update(Item).where(Item.id == item.id).values(custody="received"))
    assert ("row_changed", f"item {item.id}") in found(lite, Depth.ROWS)


def test_change_and_change_back_through_the_program_is_sound(desk: Desk) -> None:
    for place in ("甲", "乙", "甲", None, "甲"):
        with desk.write() as (session, agency):
            for item in items.page_of_items(session, agency.id, items.ItemFilter(), after=None, limit=9):
                item.captured_place = place
    assert found(desk, Depth.ROWS) == set()


def test_rolled_back_change_leaves_no_witness(desk: Desk) -> None:
    with pytest.raises(KeyError), desk.write() as (session, agency):
        agencies.add_device(session, agency.id, "D9", desk.now())
        session.flush()
        raise KeyError
    with desk.write() as (session, agency):
        with pytest.raises(KeyError), session.begin_nested():
            agencies.add_device(session, agency.id, "D8", desk.now())
            session.flush()
            raise KeyError
        agencies.add_device(session, agency.id, "D7", desk.now())
    with desk.read() as session:
        newest = session.scalars(select(CustodyLeaf).order_by(CustodyLeaf.id.desc()).limit(1)).one()
        leaf = parse_leaf(newest.body)
    assert leaf.action is Action.ROWS_WRITTEN
    assert leaf.facts == {"count": 1}
    assert found(desk, Depth.ROWS) == set()


def test_row_deleted_through_the_program_is_sound(desk: Desk) -> None:
    with desk.write() as (session, agency):
        row = agencies.add_device(session, agency.id, "D7", desk.now())
    with desk.write() as (session, agency):
        session.delete(session.get_one(Device, row.id))
    assert found(desk, Depth.ROWS) == set()


def test_counting_wrong_passwords_is_not_witnessed(lite: Desk) -> None:
    with lite.read() as session:
        before = len(session.scalars(select(CustodyLeaf.id)).all())
    with lite.write() as (session, agency):
        account = session.scalars(select(Account).where(Account.agency_id == agency.id)).first()
        assert account is not None
        account.failed_logins, account.failed_at = 3, lite.now()
    with lite.read() as session:
        assert len(session.scalars(select(CustodyLeaf.id)).all()) == before
    assert found(lite, Depth.ROWS) == set()


def test_bulk_change_is_refused(lite: Desk) -> None:
    with pytest.raises(TypeError, match="no witness"), lite.write() as (session, _):
        session.execute(update(Item).values(held=True))


def test_gap_in_numbers_and_wrong_facet_are_found(desk: Desk) -> None:
    with desk.storage.database.engine.begin() as connection:
        connection.execute(update(AvNumberSeries).values(last_seq=AvNumberSeries.last_seq + 1))
        connection.execute(update(Item).values(binding="unbound"))
    codes = {code for code, _ in found(desk, Depth.ROWS)}
    assert codes == {"number_gap", "binding_state", "row_changed"}


def test_altered_look_up_column_and_dropped_payload_are_found(desk: Desk) -> None:
    with desk.read() as session:
        leaf = session.scalars(
            select(CustodyLeaf).where(CustodyLeaf.action == str(Action.BINDING_MADE)).limit(1)
        ).one()
    is_sqlite = desk.storage.database.is_sqlite
    with desk.storage.database.engine.begin() as connection:
        if is_sqlite:
            connection.execute(text("DROP TRIGGER custody_leaf_no_update"))
        else:
            connection.execute(text("ALTER TABLE custody_leaf DISABLE TRIGGER USER"))
        connection.execute(
            update(CustodyLeaf).where(CustodyLeaf.id == leaf.id).values(action="item:verified", payload=None)
        )
    assert found(desk, Depth.ROWS) == {
        ("leaf_columns", f"leaf {leaf.id}"),
        ("payload_gone", f"leaf {leaf.id}"),
    }


def test_lost_private_key_is_found(lite: Desk) -> None:
    (lite.storage.keys.folder / "receipt.current").unlink()
    assert found(lite, Depth.ROWS) == {("key_missing", "key receipt")}


def test_writers_at_work_leave_nothing_to_find(desk: Desk) -> None:
    """Two writers on the same rows, each with columns the other does not know of; a check in between."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(column: str) -> None:
        count = 0
        try:
            while not stop.is_set():
                count += 1
                with desk.write() as (session, agency):
                    for item in items.page_of_items(
                        session, agency.id, items.ItemFilter(), after=None, limit=9
                    ):
                        setattr(item, column, f"{column} {count}")
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("captured_place", "object_of_proof")]
    for writer in writers:
        writer.start()
    during = [found(desk, Depth.ROWS) for _ in range(3)]
    stop.set()
    for writer in writers:
        writer.join()
    assert failures == []
    assert during == [set(), set(), set()]
    assert found(desk, Depth.ROWS) == set()
