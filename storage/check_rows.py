"""Rows held against the custody log: what was changed, dropped, added or swapped behind our back.

`liuhen verify` proves that the log is whole; this compares the rows with what the log says of them.
Each witnessed row must hold what its chain of `rows:written` leaves ends with (storage/db/witness.py);
beside that stand the rules between rows that no single row can break.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from evidence.custody import Action, Leaf, open_payload, parse_leaf
from evidence.errors import CustodyError
from evidence.item import Binding
from storage.db import tables
from storage.db.witness import WITNESSED, row_digest, row_key, table_of
from storage.findings import Finding, finding
from storage.snapshot import rows_of

RECEIVED = frozenset({Action.ITEM_RECEIVED, Action.ITEM_RECEIVED_AGAIN})


def check_rows(session: Session, agency: tables.Agency) -> Iterator[Finding]:
    """Everything wrong with the rows of one agency, read in one snapshot."""
    with closing(_Ledger()) as ledger:
        yield from _read_leaves(session, agency, ledger)
        for model in WITNESSED:
            yield from _compare_table(session, agency.id, model, ledger)
        yield from ledger.left_over()
        yield from _receptions(session, agency.id, ledger)
        yield from _derivatives(session, agency.id, ledger)
    yield from _bindings(session, agency.id)
    yield from _numbers(session, agency.id)


class _Ledger:
    """What the leaves say, in a temporary database that spills to disk by itself."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("BEGIN")
        self._db.execute(
            "CREATE TABLE link (tab TEXT, row TEXT, digest TEXT, n INTEGER, PRIMARY KEY (tab, row, digest)) "
            "WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE fact (action TEXT, id TEXT, facts TEXT, PRIMARY KEY (action, id, facts)) "
            "WITHOUT ROWID"
        )

    def close(self) -> None:
        self._db.close()

    def add_witness(self, table: str, row: str, was: str | None, now: str | None) -> None:
        for digest, step in ((was, -1), (now, 1)):
            self._db.execute(
                "INSERT INTO link VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
                (table, row, digest or "", step),
            )

    def add_fact(self, action: Action, subject: str, facts: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO fact VALUES (?, ?, ?)", (str(action), subject, facts))

    def facts(self, action: Action, subject: str) -> list[str]:
        """What leaves of this action say of a subject; more than one where it was made again."""
        found = self._db.execute(
            "SELECT facts FROM fact WHERE action = ? AND id = ?", (str(action), subject)
        ).fetchall()
        return [row[0] for row in found]

    def take(self, table: str, row: str) -> tuple[list[str], bool]:
        """Last contents of a row by its witnesses, and whether these form one chain."""
        ends = self._db.execute(
            "DELETE FROM link WHERE tab = ? AND row = ? RETURNING digest, n", (table, row)
        ).fetchall()
        last = [digest for digest, count in ends if count > 0]
        # A chain starts at nothing once and ends at one content once; what lies between cancels out.
        starts = {digest: count for digest, count in ends if count < 0}
        return last, len(last) == 1 and starts == {"": -1} and all(count <= 1 for _, count in ends)

    def left_over(self) -> Iterator[Finding]:
        """Rows with a witness that the tables do not have."""
        rows = self._db.execute(
            "SELECT tab, row FROM link WHERE n > 0 AND digest <> '' GROUP BY tab, row ORDER BY tab, row"
        )
        for table, row in rows:
            yield finding("row_dropped", table, row)


def _read_leaves(session: Session, agency: tables.Agency, ledger: _Ledger) -> Iterator[Finding]:
    for row in rows_of(session, table_of(tables.CustodyLeaf), agency.id):
        try:
            leaf = parse_leaf(bytes(row["body"]))
        except CustodyError:
            yield finding("leaf_unreadable", "leaf", row["id"])
            continue
        if wrong := _wrong_columns(leaf, row, agency.code):
            yield finding("leaf_columns", "leaf", row["id"], ", ".join(wrong))
        payload: Any = {}
        if leaf.payload_digest is not None:
            if row["payload"] is None:
                yield finding("payload_gone", "leaf", row["id"])
                continue
            try:
                payload = open_payload(bytes(row["payload"]), bytes.fromhex(leaf.payload_digest))
            except CustodyError:
                yield finding("payload_altered", "leaf", row["id"])
                continue
        if leaf.action is Action.ROWS_WRITTEN:
            for table, key, was, now in payload["rows"]:
                ledger.add_witness(table, key, was, now)
        elif leaf.action in RECEIVED:
            facts = f"{leaf.subject_id} {leaf.facts.get('sha256')} {leaf.facts.get('size_bytes')}"
            ledger.add_fact(Action.ITEM_RECEIVED, f"{leaf.facts.get('reception')} {leaf.leaf_id}", facts)
        elif leaf.action is Action.DERIVATIVE_MADE:
            said = f"{leaf.subject_id} {leaf.facts.get('sha256')} {leaf.facts.get('size_bytes')}"
            ledger.add_fact(leaf.action, f"{leaf.facts.get('derivative')}", said)


def _wrong_columns(leaf: Leaf, row: dict[str, Any], code: str) -> list[str]:
    """Columns for look-up that are not what the leaf itself says."""
    pairs = {
        "id": (row["id"], leaf.leaf_id),
        "agency": (code, leaf.agency),
        "subject_id": (row["subject_id"], leaf.subject_id),
        "action": (row["action"], str(leaf.action)),
        "made_at": (row["made_at"], leaf.made_at),
    }
    return [name for name, (found, said) in pairs.items() if found != said]


def _compare_table(
    session: Session, agency_id: UUID, model: type[tables.Base], ledger: _Ledger
) -> Iterator[Finding]:
    table = table_of(model)
    for row in rows_of(session, table, agency_id):
        key = row_key(table, row)
        last, is_chain = ledger.take(table.name, key)
        if not last:
            yield finding("row_added", table.name, key)
        elif row_digest(table, row) not in last:
            yield finding("row_changed", table.name, key)
        elif not is_chain:
            yield finding("witness_broken", table.name, key)


def _receptions(session: Session, agency_id: UUID, ledger: _Ledger) -> Iterator[Finding]:
    """Each reception has its leaf, and the leaf's digest and size are those of the item's object."""
    reception, item, stored = tables.Reception, tables.Item, tables.StoredObject
    query = (
        select(reception.id, reception.item_id, reception.leaf_id, stored.sha256, stored.size_bytes)
        .outerjoin(item, (item.id == reception.item_id) & (item.agency_id == agency_id))
        .outerjoin(stored, (stored.id == item.object_id) & (stored.agency_id == agency_id))
        .where(reception.agency_id == agency_id)
        .order_by(reception.id)
        .execution_options(yield_per=1000)
    )
    for row in session.execute(query):
        said = ledger.facts(Action.ITEM_RECEIVED, f"{row.id} {row.leaf_id}")
        found = f"{row.item_id} {row.sha256.hex() if row.sha256 else None} {row.size_bytes}"
        if found not in said:
            yield finding("reception_leaf", "reception", row.id, f"log: {said}; rows: {found}")
    orphans = (
        select(item.id)
        .where(item.agency_id == agency_id)
        .where(
            ~select(reception.id)
            .where(reception.item_id == item.id, reception.agency_id == agency_id)
            .exists()
        )
        .order_by(item.id)
    )
    for item_id in session.scalars(orphans):
        yield finding("item_unreceived", "item", item_id)


def _derivatives(session: Session, agency_id: UUID, ledger: _Ledger) -> Iterator[Finding]:
    made = tables.Derivative
    query = select(made.id, made.item_id, made.sha256, made.size_bytes).where(made.agency_id == agency_id)
    for row in session.execute(query.order_by(made.id).execution_options(yield_per=1000)):
        found = f"{row.item_id} {row.sha256.hex()} {row.size_bytes}"
        said = ledger.facts(Action.DERIVATIVE_MADE, str(row.id))
        if found not in said:
            yield finding("derivative_leaf", "derivative", row.id, f"log: {said}; row: {found}")


def _bindings(session: Session, agency_id: UUID) -> Iterator[Finding]:
    """The facet of each item is what its bindings in force come to (invariant 10)."""
    item, binding = tables.Item, tables.CaseBinding
    in_force = (binding.item_id == item.id) & (binding.agency_id == agency_id) & binding.ended_at.is_(None)
    is_bound_row = case((binding.state == str(Binding.BOUND), 1), else_=0)
    query = (
        select(item.id, item.binding, func.max(is_bound_row), func.count(binding.id))
        .outerjoin(binding, in_force)
        .where(item.agency_id == agency_id)
        .group_by(item.id, item.binding)
        .order_by(item.id)
    )
    for item_id, said, is_bound, count in session.execute(query):
        found = Binding.BOUND if is_bound else Binding.SUGGESTED if count else Binding.UNBOUND
        if said != found:
            yield finding("binding_state", "item", item_id, f"{said}, found {found}")


def _numbers(session: Session, agency_id: UUID) -> Iterator[Finding]:
    """Numbers run from one without a gap (R5), and item and register name each other."""
    number, series, item = tables.AvNumber, tables.AvNumberSeries, tables.Item
    counted = {
        (row[0], row[1]): tuple(row[2:])
        for row in session.execute(
            select(number.class_code, number.year, func.count(), func.min(number.seq), func.max(number.seq))
            .where(number.agency_id == agency_id)
            .group_by(number.class_code, number.year)
        )
    }
    last = {
        (row.class_code, row.year): row.last_seq
        for row in session.scalars(select(series).where(series.agency_id == agency_id))
    }
    for key in sorted(counted.keys() | last.keys()):
        count, low, high = counted.get(key, (0, 1, 0))
        if (count, low, high) != (last.get(key, 0), 1, last.get(key, 0)):
            detail = f"{count} numbers from {low} to {high}, last drawn {last.get(key)}"
            yield finding("number_gap", "av_number", f"{key[0]}-{key[1]}", detail)
    query = (
        select(item.id, item.av_record_no, number.item_id)
        .outerjoin(number, (number.number == item.av_record_no) & (number.agency_id == agency_id))
        .where(item.agency_id == agency_id, item.av_record_no.is_not(None))
        .order_by(item.id)
    )
    for item_id, said, owner in session.execute(query):
        if owner != item_id:
            yield finding("number_differs", "item", item_id, f"{said} is of {owner}")
