"""Rows held against files: each row has its bytes, and each file has its row.

Rows that name bytes are never changed, so no snapshot is held while files are read. A file without
a row is younger than an hour for good reasons (bytes come before rows), and an orphan after that.
Nothing is ever deleted here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from evidence.errors import EvidenceError, InvalidInput, NotFound
from evidence.fixity import hash_stream
from storage.db import tables
from storage.findings import Finding, finding
from storage.objects.base import Namespace, ObjectStore, object_key, parse_key
from storage.open import Storage

IN_FLIGHT_S = 3600.0
PAGE = 500


class Depth(IntEnum):
    """How deep a check looks; each includes those before."""

    ROWS = 1
    SIZES = 2
    DIGESTS = 3


@dataclass(frozen=True)
class Held:
    """Bytes a row speaks of."""

    kind: str
    id: UUID
    name: str
    sha256: bytes
    size_bytes: int
    store_key: str
    agency_id: UUID
    must_exist: bool = True


def held_bytes(storage: Storage, agency_id: UUID) -> Iterator[Held]:
    """Everything an agency's rows say the store holds, a page at a time."""
    for kind in ("object", "derivative"):
        after: UUID | None = None
        while True:
            with storage.database.read() as session:
                page = _page(session, kind, agency_id, after)
            yield from page
            if len(page) < PAGE:
                break
            after = page[-1].id


def _page(session: Session, kind: str, agency_id: UUID, after: UUID | None) -> list[Held]:
    model: Any = tables.StoredObject if kind == "object" else tables.Derivative
    query = select(model).where(model.agency_id == agency_id).order_by(model.id).limit(PAGE)
    rows = session.scalars(query if after is None else query.where(model.id > after)).all()
    names: dict[UUID, str] = {}
    if kind == "object":
        items = session.execute(
            select(tables.Item.object_id, tables.Item.id).where(
                tables.Item.agency_id == agency_id, tables.Item.object_id.in_([row.id for row in rows])
            )
        )
        for object_id, item_id in items:
            names[object_id] = f"{names[object_id]}, {item_id}" if object_id in names else f"item {item_id}"
    return [
        Held(
            kind,
            row.id,
            names.get(row.id, "no item") if kind == "object" else f"{row.kind} of item {row.item_id}",
            row.sha256,
            row.size_bytes,
            row.store_key,
            agency_id,
            must_exist=kind == "object" or row.withdrawn_at is None,
        )
        for row in rows
    ]


def check_files(
    storage: Storage, agency_id: UUID, depth: Depth, progress: Callable[[int, str], None] | None = None
) -> Iterator[Finding]:
    """Everything wrong with the bytes of one agency's rows.

    Args:
        progress: Told bytes looked at and the object's id, after each one.
    """
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="check") as pool:
        waiting: list[Held] = []

        def judged() -> Iterator[Finding]:
            for held, found in zip(
                waiting, pool.map(lambda one: _judge(storage.objects, one, depth), waiting), strict=True
            ):
                if progress is not None:
                    progress(held.size_bytes, str(held.id))
                yield from found
            waiting.clear()

        for held in held_bytes(storage, agency_id):
            waiting.append(held)
            if len(waiting) >= workers * 4:
                yield from judged()
        yield from judged()


def _judge(objects: ObjectStore, held: Held, depth: Depth) -> list[Finding]:
    namespace = Namespace.ORIGINAL if held.kind == "object" else Namespace.DERIVATIVE
    if held.store_key != object_key(held.agency_id.hex, namespace, held.sha256):
        return [finding("store_key", held.kind, held.id)]
    try:
        size = objects.size(held.store_key)
    except NotFound:
        return [finding("file_missing", held.kind, held.id, held.name)] if held.must_exist else []
    if depth >= Depth.SIZES and size != held.size_bytes:
        detail = f"expected {held.size_bytes} bytes, found {size} ({held.name})"
        return [finding("file_size", held.kind, held.id, detail)]
    if depth < Depth.DIGESTS:
        return []
    try:
        found = hash_stream(objects.read_back(held.store_key)).sha256
    except EvidenceError as error:
        return [finding("file_unreadable", held.kind, held.id, error.message)]
    if found != held.sha256:
        detail = f"expected sha256 {held.sha256.hex()}, found {found.hex()} ({held.name})"
        return [finding("file_digest", held.kind, held.id, detail)]
    return []


def check_orphans(storage: Storage) -> Iterator[Finding]:
    """Files no row speaks of; the listing comes before the look-up, so that no new row is missed."""
    page: list[str] = []
    for key, _ in storage.objects.list():
        page.append(key)
        if len(page) == PAGE:
            yield from _orphans(storage, page)
            page = []
    yield from _orphans(storage, page)


def _orphans(storage: Storage, keys: Sequence[str]) -> Iterator[Finding]:
    wanted: dict[tuple[str, Namespace], dict[bytes, str]] = {}
    for key in keys:
        try:
            parsed = parse_key(key)
        except InvalidInput:
            yield finding("stray_file", "file", key)
            continue
        wanted.setdefault((parsed.agency, parsed.namespace), {})[parsed.sha256] = key
    for (agency, namespace), by_digest in wanted.items():
        model: Any = tables.StoredObject if namespace is Namespace.ORIGINAL else tables.Derivative
        with storage.database.read() as session:
            known = set(
                session.scalars(
                    select(model.sha256).where(model.agency_id == UUID(agency), model.sha256.in_(by_digest))
                )
            )
        for digest in sorted(by_digest.keys() - known):
            if not _is_in_flight(storage.objects, by_digest[digest]):
                yield finding("orphan_file", "file", by_digest[digest])


def _is_in_flight(objects: ObjectStore, key: str) -> bool:
    """Younger than an hour, by its file; a store without files keeps no time here."""
    try:
        path = objects.path(key)
    except NotFound:
        return True  # Gone between listing and look-up: a derivative that was dropped.
    return path is not None and time.time() - path.stat().st_mtime < IN_FLIGHT_S
