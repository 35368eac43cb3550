"""What somebody with root can do to an installation: each way by seed, and what must be named for it.

It works on a stopped SQLite installation, past every trigger, key and constraint.
"""
# ruff: noqa: S608 - these statements attack a database on purpose; names come from its own schema.

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Table, UniqueConstraint

from cli import verifier
from cli.logbook import live_lines
from cli.shell import Desk
from evidence.merkle import leaf_hash
from storage.check import Depth, check
from storage.db import custody
from storage.db.witness import VOLATILE, WITNESSED, table_of
from storage.snapshot import snapshot


@dataclass(frozen=True)
class Harm:
    """What was done, and which names a finding must bear, all of them."""

    what: str
    names: frozenset[str]


def tamper(data: Path, seed: int) -> Harm:
    """Do one harmful thing to the installation in that data folder."""
    rng = random.Random(seed)
    with closing(sqlite3.connect(data / "liuhen.db", isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA foreign_keys=OFF")
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        return WAYS[seed % len(WAYS)](rng, db, data)


def judge(desk: Desk, kept: str) -> set[str]:
    """Everything `verify` and `check` name: row ids, file keys, leaf ids and indices."""
    with snapshot(desk.storage.database) as session:
        lines = live_lines(session, desk.agency, with_payloads=True)
        findings = verifier.verify_export(lines, [kept])
        lost = custody.lost_places(session, desk.agency.id)
    named: set[str] = {f"leaf {leaf_id}" for leaf_id in lost}
    for found in findings:
        first, last = found.span or (found.index, found.index)
        if first is not None and last is not None:
            named |= {f"index {index}" for index in range(first, last + 1)}
        if found.leaf_id:
            named.add(f"leaf {found.leaf_id}")
        if found.index is None and found.span is None:
            named.add("log")
    for wrong in check(desk.storage, Depth.DIGESTS):
        named.add(f"{wrong.kind} {wrong.id}")
    return named


# --- Files ------------------------------------------------------------------------------


def _flip(rng: random.Random, db: sqlite3.Connection, data: Path) -> Harm:
    kind, path = _file(rng, db, data)
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.chmod(0o600)
    path.write_bytes(content)
    return Harm(f"flipped a bit of byte {at}", frozenset({kind}))


def _cut(rng: random.Random, db: sqlite3.Connection, data: Path) -> Harm:
    kind, path = _file(rng, db, data)
    path.chmod(0o600)
    os.truncate(path, rng.randrange(path.stat().st_size))
    return Harm("cut a file short", frozenset({kind}))


def _remove(rng: random.Random, db: sqlite3.Connection, data: Path) -> Harm:
    kind, path = _file(rng, db, data)
    path.unlink()
    return Harm("removed a file", frozenset({kind}))


def _exchange(rng: random.Random, db: sqlite3.Connection, data: Path) -> Harm:
    table = rng.choice(["object", "derivative"])
    one, other = rng.sample(db.execute(f"SELECT id, store_key FROM {table}").fetchall(), 2)
    paths = [data / "objects" / row["store_key"] for row in (one, other)]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.chmod(0o600)
        path.write_bytes(content)
    return Harm("exchanged two files", frozenset(f"{table} {UUID(bytes=row['id'])}" for row in (one, other)))


def _file(rng: random.Random, db: sqlite3.Connection, data: Path) -> tuple[str, Path]:
    table = rng.choice(["object", "derivative"])
    row = rng.choice(db.execute(f"SELECT id, store_key FROM {table}").fetchall())
    return f"{table} {UUID(bytes=row['id'])}", data / "objects" / row["store_key"]


# --- Rows -------------------------------------------------------------------------------


def _change_row(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    table, row = _row(rng, db)
    keys = {column.name for column in table.primary_key} | VOLATILE.get(table.name, frozenset())
    column = rng.choice([name for name in row if name not in keys and name != "agency_id"])
    value = _other(rng, row[column], json=str(table.columns[column].type) == "TEXT" and _is_json(row[column]))
    _update(db, table, row, {column: value})
    return Harm(f"changed {table.name}.{column}", frozenset({_name(table, row)}))


def _drop_row(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    table, row = _row(rng, db, but=frozenset({"agency"}))
    where, values = _where(table, row)
    db.execute(f'DELETE FROM "{table.name}" WHERE {where}', values)
    return Harm(f"dropped a row of {table.name}", frozenset({_name(table, row)}))


def _add_row(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    """A copy of a row under a new key, its unique columns made free."""
    table, row = _row(rng, db, but=frozenset({"agency"}))
    fresh = dict(row)
    for column in table.primary_key:
        if column.name != "agency_id":
            fresh[column.name] = _fresh(rng, row[column.name])
    unique = {
        column.name
        for one in table.constraints
        if isinstance(one, UniqueConstraint)
        for column in one.columns
        if column.name not in {"agency_id", "item_id", "object_id", "device_id", "kind"}
    }
    for name in unique:
        fresh[name] = _other(rng, row[name])
    marks = ", ".join("?" for _ in fresh)
    columns = ", ".join(f'"{name}"' for name in fresh)
    db.execute(f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})', list(fresh.values()))
    return Harm(f"added a row to {table.name}", frozenset({_name(table, fresh)}))


def _swap_rows(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    """Two rows exchange everything but their keys."""
    while True:
        table, one = _row(rng, db, but=frozenset({"agency"}))
        keys = {column.name for column in table.primary_key} | {"agency_id"}
        others = [
            row
            for row in _rows(db, table)
            if any(
                row[name] != one[name]
                for name in one
                if name not in keys | VOLATILE.get(table.name, frozenset())
            )
        ]
        if others:
            break
    other = rng.choice(others)
    contents = [{name: row[name] for name in row if name not in keys} for row in (one, other)]
    names = frozenset(_name(table, row) for row in (one, other))
    _rewrite_bare(db, table.name)
    _update(db, table, one, contents[1])
    _update(db, table, other, contents[0])
    return Harm(f"swapped two rows of {table.name}", names)


# --- Leaves -----------------------------------------------------------------------------


def _change_leaf(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    row = rng.choice(db.execute("SELECT rowid, id, body FROM custody_leaf").fetchall())
    body = json.loads(row["body"])
    body["actor"] = "operator:4711" if rng.random() < 0.5 else "system:other"
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    db.execute("UPDATE custody_leaf SET body = ? WHERE rowid = ?", (text, row["rowid"]))
    return Harm("changed a leaf", frozenset({_place(db, row["id"])}))


def _change_payload(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    rows = db.execute("SELECT rowid, id, payload FROM custody_leaf WHERE payload IS NOT NULL").fetchall()
    row = rng.choice(rows)
    payload = None if rng.random() < 0.3 else bytes(row["payload"]).replace(b'"payload"', b'"payl0ad"')
    db.execute("UPDATE custody_leaf SET payload = ? WHERE rowid = ?", (payload, row["rowid"]))
    return Harm("changed or dropped a payload", frozenset({f"leaf {UUID(bytes=row['id'])}"}))


def _drop_leaf(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    row = rng.choice(db.execute("SELECT rowid, id FROM custody_leaf").fetchall())
    name = _place(db, row["id"])
    db.execute("DELETE FROM custody_leaf WHERE rowid = ?", (row["rowid"],))
    if rng.random() < 0.5:
        db.execute("DELETE FROM custody_sequence WHERE leaf_id = ?", (row["id"],))
    return Harm("dropped a leaf", frozenset({name}))


def _add_leaf(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    """A leaf slipped in at the end of the tree, or without any place."""
    row = rng.choice(db.execute("SELECT * FROM custody_leaf").fetchall())
    body = json.loads(row["body"])
    leaf_id = UUID(int=UUID(bytes=row["id"]).int ^ rng.getrandbits(60) | 1 << 61)
    body["leaf_id"] = str(leaf_id)
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    values = dict(row) | {"id": leaf_id.bytes, "body": text}
    marks = ", ".join("?" for _ in values)
    db.execute(f"INSERT INTO custody_leaf ({', '.join(values)}) VALUES ({marks})", list(values.values()))
    if rng.random() < 0.5:
        return Harm("added a leaf without a place", frozenset({f"leaf {leaf_id}"}))
    size = db.execute("SELECT max(leaf_index) + 1 FROM custody_sequence").fetchone()[0]
    db.execute(
        "INSERT INTO custody_sequence (agency_id, leaf_index, leaf_id, leaf_hash) VALUES (?, ?, ?, ?)",
        (row["agency_id"], size, leaf_id.bytes, leaf_hash(text)),
    )
    return Harm("added a leaf at the end", frozenset({f"index {size}"}))


def _swap_leaves(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    """Two leaves exchange their places, with or without their recorded hashes."""
    one, other = rng.sample(db.execute("SELECT rowid, * FROM custody_sequence").fetchall(), 2)
    _rewrite_bare(db, "custody_sequence")
    columns = ["leaf_id", "leaf_hash"] if rng.random() < 0.5 else ["leaf_id"]
    for row, source in ((one, other), (other, one)):
        sets = ", ".join(f"{name} = ?" for name in columns)
        db.execute(
            f"UPDATE custody_sequence SET {sets} WHERE leaf_index = ?",
            [*(source[name] for name in columns), row["leaf_index"]],
        )
    return Harm("swapped two leaves", frozenset(f"index {row['leaf_index']}" for row in (one, other)))


def _forge_checkpoint(rng: random.Random, db: sqlite3.Connection, _data: Path) -> Harm:
    row = rng.choice(db.execute("SELECT * FROM custody_checkpoint").fetchall())
    if rng.random() < 0.5:
        db.execute("UPDATE custody_checkpoint SET note = replace(note, 'time 2', 'time 1')")
    else:
        db.execute(
            "UPDATE custody_checkpoint SET root = ?, note = replace(note, '—', '–') WHERE tree_size = ?",
            (bytes(32), row["tree_size"]),
        )
    return Harm("forged a checkpoint", frozenset({"log"}))


# --- Helpers ----------------------------------------------------------------------------


def _row(
    rng: random.Random, db: sqlite3.Connection, but: frozenset[str] = frozenset()
) -> tuple[Table, dict[str, object]]:
    tables = [table_of(model) for model in WITNESSED]
    while True:
        table = rng.choice([one for one in tables if one.name not in but])
        rows = _rows(db, table)
        if rows:
            return table, rng.choice(rows)


def _rows(db: sqlite3.Connection, table: Table) -> list[dict[str, object]]:
    return [dict(row) for row in db.execute(f'SELECT * FROM "{table.name}"').fetchall()]


def _name(table: Table, row: dict[str, object]) -> str:
    parts = []
    for column in table.primary_key:
        value = row[column.name]
        if column.name != "agency_id":
            parts.append(str(UUID(bytes=value)) if isinstance(value, bytes) else str(value))
    return f"{table.name} {'/'.join(parts)}"


def _where(table: Table, row: dict[str, object]) -> tuple[str, list[object]]:
    names = [column.name for column in table.primary_key]
    return " AND ".join(f'"{name}" = ?' for name in names), [row[name] for name in names]


def _update(db: sqlite3.Connection, table: Table, row: dict[str, object], values: dict[str, object]) -> None:
    where, keys = _where(table, row)
    sets = ", ".join(f'"{name}" = ?' for name in values)
    db.execute(f'UPDATE "{table.name}" SET {sets} WHERE {where}', [*values.values(), *keys])


def _is_json(value: object) -> bool:
    return isinstance(value, str) and value[:1] in "[{"


def _other(rng: random.Random, value: object, *, json: bool = False) -> object:
    """Another value a column of that kind could hold."""
    if json:
        return '{"forged":true}' if str(value).startswith("{") else '["forged"]'
    if isinstance(value, bytes):
        return bytes(rng.randrange(256) for _ in range(len(value) or 4))
    if isinstance(value, int):
        return value + rng.randrange(1, 1000) if value not in (0, 1) else 1 - value
    return f"{value or ''}{rng.choice('甲乙丙abc123')}" if isinstance(value, str) else rng.randrange(1, 10**6)


def _fresh(rng: random.Random, value: object) -> object:
    if isinstance(value, bytes):
        return value[:8] + bytes(rng.randrange(256) for _ in range(8))
    return _other(rng, value)


def _place(db: sqlite3.Connection, leaf_id: bytes) -> str:
    row = db.execute("SELECT leaf_index FROM custody_sequence WHERE leaf_id = ?", (leaf_id,)).fetchone()
    return f"index {row['leaf_index']}"


def _rewrite_bare(db: sqlite3.Connection, name: str) -> None:
    """Write a table again without its constraints, for what these would refuse half-way."""
    db.execute(f'CREATE TABLE bare AS SELECT * FROM "{name}"')
    db.execute(f'DROP TABLE "{name}"')
    db.execute(f'ALTER TABLE bare RENAME TO "{name}"')


WAYS: tuple[Callable[[random.Random, sqlite3.Connection, Path], Harm], ...] = (
    _flip,
    _change_row,
    _drop_row,
    _add_row,
    _swap_rows,
    _change_leaf,
    _drop_leaf,
    _add_leaf,
    _swap_leaves,
    _change_payload,
    _cut,
    _remove,
    _exchange,
    _forge_checkpoint,
)
