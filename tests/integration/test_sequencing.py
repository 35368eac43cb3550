"""Placing leaves and signing: only where there is something new, and readable however long the log."""

from __future__ import annotations

from sqlalchemy import func, select

from cli.logbook import live_lines
from cli.verifier import verify_export
from storage.db import agencies, custody
from storage.db.tables import CustodyCheckpoint
from storage.open import Storage
from storage.sequencer import place_waiting
from tests.support.long_log import grow_log


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
