"""Rows that speak in court are witnessed: what each one holds is bound into the custody log.

Whoever changes a row in the tables below, through a `Database.transaction`, leaves a custody leaf
`rows:written` in the same transaction. Its sealed payload lists for each row the digest of what the
row held before and what it holds now. So `liuhen check` can name each row that was changed, dropped,
added or swapped behind the program's back, in any column, while the leaves that say *why* a row
changed stay free to be about events.

The pairs (before, now) of a row form a chain from nothing to its present content, whatever order the
leaves are in: hosts with unlike clocks may place them out of order. That is why both halves are
there, and why both are read from the database under the row's lock rather than from memory.

Not witnessed: the job queue, leadership, sign-in sessions and the state of streams, which are overwritten at
will, doubtful spans, which are made from plans, and the custody tables, which prove themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Table, event, select, tuple_
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, sessionmaker

from evidence.clock import SystemClock, to_micros
from evidence.custody import Action
from storage.db import clip_tables, custody, ledger_tables, release_tables, room_tables, tables
from storage.db.custody import Happening

WITNESSED: tuple[type[tables.Base], ...] = (
    tables.Agency,
    tables.Officer,
    tables.Account,
    tables.Device,
    tables.DeviceIssue,
    tables.UploadToken,
    tables.StoredObject,
    tables.Item,
    tables.Reception,
    tables.Claim,
    tables.Case,
    tables.CaseBinding,
    tables.AvNumber,
    tables.Derivative,
    tables.RedactionPlanRow,
    tables.ContinuityReason,
    tables.GrantSet,
    tables.Grant,
    clip_tables.ClipSet,
    clip_tables.Clip,
    release_tables.RedactionReview,
    release_tables.Release,
    release_tables.CheckFailure,
    tables.SigningKey,
    ledger_tables.Dock,
    ledger_tables.DeviceReading,
    ledger_tables.DeviceFault,
    ledger_tables.DutyPeriod,
    ledger_tables.PolicyRow,
    ledger_tables.Lateness,
    ledger_tables.Alarm,
    room_tables.RoomSession,
    room_tables.SessionPart,
    room_tables.SessionNote,
    room_tables.SessionMask,
    room_tables.LiveMaskRow,
    room_tables.SecondCopy,
    room_tables.LiveGrant,
    room_tables.PlannedSession,
    room_tables.TriggerKey,
    room_tables.TriggerCall,
)
# Counted up and down by sign-ins; nothing is decided in court by them.
VOLATILE = {"account": frozenset({"failed_logins", "failed_at"})}
MAX_ROWS = 1000
READ_AT_ONCE = 200

_BEFORE = "witness_before"
Touched = tuple[type[tables.Base], tuple[Any, ...]]


class Reading(NamedTuple):
    """Whose row it is and what it holds; both None where there is none."""

    agency_id: UUID | None
    digest: str | None


ABSENT = Reading(None, None)
Before = dict[Touched, Reading]


def attend(sessions: sessionmaker[Session]) -> None:
    """Witness every row written through these sessions."""
    event.listen(sessions, "before_flush", _before_flush)
    event.listen(sessions, "after_flush", _after_flush)
    event.listen(sessions, "before_commit", _before_commit)
    event.listen(sessions, "do_orm_execute", _refuse_bulk)


def table_of(model: type[tables.Base]) -> Table:
    """The table behind a mapped class."""
    found = model.__table__
    assert isinstance(found, Table)  # noqa: S101 - for the type checker
    return found


def row_key(table: Table, row: Mapping[str, Any]) -> str:
    """How a leaf names a row: its primary key without the agency."""
    parts = [row[column.name] for column in table.primary_key if column.name != "agency_id"]
    return "/".join(str(part) for part in parts)


def row_digest(table: Table, row: Mapping[str, Any]) -> str:
    """SHA-256 over every column that is not volatile, the same on every database.

    Nulls are left out, so that a migration that adds a nullable column changes no digest.
    """
    ignored = VOLATILE.get(table.name, frozenset())
    content = {
        column.name: _plain(row[column.name])
        for column in table.columns
        if column.name not in ignored and row[column.name] is not None
    }
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return to_micros(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return value


def _before_flush(session: Session, _context: UOWTransaction, _instances: object) -> None:
    """Note what changed rows held, and lock them, before the change goes out."""
    before: Before = session.info.setdefault(_BEFORE, {})
    changed = [row for row in session.dirty if session.is_modified(row)]
    found = {_touched(row) for row in [*changed, *session.deleted]} - {None} - before.keys()
    before.update(_read(session, filter(None, found)))


def _after_flush(session: Session, _context: UOWTransaction) -> None:
    before: Before = session.info.setdefault(_BEFORE, {})
    for row in session.new:
        touched = _touched(row)
        if touched is not None:
            before.setdefault(touched, ABSENT)


def _before_commit(session: Session) -> None:
    """Write the leaves; what was undone by a savepoint reads as unchanged and is left out."""
    session.flush()
    before: Before = session.info.pop(_BEFORE, {})
    entries: dict[UUID, list[list[str | None]]] = {}
    held = _read(session, before)
    for touched, was in before.items():
        now = held[touched]
        agency_id = now.agency_id or was.agency_id
        if now.digest != was.digest and agency_id is not None:
            model, identity = touched
            entry = [table_of(model).name, _key(model, identity), was.digest, now.digest]
            entries.setdefault(agency_id, []).append(entry)
    for agency_id, rows in entries.items():
        agency = session.get_one(tables.Agency, agency_id)
        for part in _parts(rows):
            happening = Happening(
                Action.ROWS_WRITTEN, "rows", str(agency_id), "system", {"count": len(part)}, {"rows": part}
            )
            custody.record(session, agency, happening, SystemClock().now())
    session.flush()


def _parts(rows: list[list[str | None]]) -> Iterator[list[list[str | None]]]:
    for start in range(0, len(rows), MAX_ROWS):
        yield rows[start : start + MAX_ROWS]


def _touched(row: object) -> Touched | None:
    model = type(row)
    if model not in WITNESSED:
        return None
    assert issubclass(model, tables.Base)  # noqa: S101 - for the type checker
    return model, tuple(getattr(row, column.name) for column in table_of(model).primary_key)


def _key(model: type[tables.Base], identity: tuple[Any, ...]) -> str:
    table = table_of(model)
    return row_key(table, dict(zip((column.name for column in table.primary_key), identity, strict=True)))


def _read(session: Session, wanted: Iterable[Touched]) -> Before:
    """Rows as the database holds them, their locks held; many in one statement.

    In one order everywhere, so that two writers of the same rows wait instead of deadlocking.
    """
    ordered = sorted(wanted, key=lambda one: (one[0].__tablename__, str(one[1])))
    found: Before = dict.fromkeys(ordered, ABSENT)
    for model, group in groupby(ordered, key=lambda one: one[0]):
        identities = [identity for _, identity in group]
        for start in range(0, len(identities), READ_AT_ONCE):
            found |= _read_rows(session, model, identities[start : start + READ_AT_ONCE])
    return found


def _read_rows(session: Session, model: type[tables.Base], identities: list[tuple[Any, ...]]) -> Before:
    table = table_of(model)
    key = tuple(table.primary_key)
    is_one: ColumnElement[bool] = (
        key[0].in_([part for (part,) in identities]) if len(key) == 1 else tuple_(*key).in_(identities)
    )
    # The lock an UPDATE of the row takes: rows that only refer to it may still be written by others.
    query = select(table).where(is_one).order_by(*key).with_for_update(key_share=True)
    owner = "id" if model is tables.Agency else "agency_id"
    return {
        (model, tuple(row[column.name] for column in key)): Reading(row[owner], row_digest(table, dict(row)))
        for row in session.connection().execute(query).mappings()
    }


def _refuse_bulk(state: ORMExecuteState) -> None:
    """A bulk statement would change rows nobody has looked at."""
    mapper = state.bind_mapper
    if (state.is_update or state.is_delete or state.is_insert) and mapper and mapper.class_ in WITNESSED:
        raise TypeError(
            f"{mapper.class_.__name__}: expected a change through mapped objects, found a bulk statement; "
            "its rows would have no witness (storage/db/witness.py)"
        )
