"""Putting a backup back: into an empty data folder and an empty database.

It raises the store's generation, so that the disk that was replaced is known as stale, and says so
in the custody log. What a restore could not bring back is for `liuhen check` to name.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.load import FILE_NAME
from evidence.custody import Action
from evidence.errors import Conflict, InvalidInput
from evidence.fixity import compare, hash_file
from storage.backup import (
    KEYS,
    OBJECTS,
    STORE,
    TABLES,
    Manifest,
    Progress,
    copy_keys,
    local_store,
    verify_backup,
)
from storage.db import agencies, custody, migrate
from storage.db.custody import Happening
from storage.db.engine import Database
from storage.dump import load
from storage.objects.base import parse_key
from storage.objects.durable import translated, write_durably
from storage.objects.local import (
    IDENTITY_FILE,
    LocalObjectStore,
    StoreIdentity,
    encode_identity,
    read_identity,
)
from storage.open import Storage


def restore(folder: Path, data: Path, database: Database, progress: Progress | None = None) -> Manifest:
    """Fill an empty data folder and an empty database from a backup.

    A store that already lies in ``data/objects`` is taken as the backup's own, put back by hand;
    otherwise the backup's objects are copied, or an empty store is made for `check` to speak of.
    The caller opens the storage then, and calls `record_restore`.

    Raises:
        Conflict: The data folder or the database is not empty, or another store lies there.
        FixityError: A part, or an object, is not what the manifest or its key says.
        InvalidInput: It was made by another version's tables.
    """
    manifest = verify_backup(folder)
    if manifest.revision != migrate.newest():
        raise InvalidInput(
            f"backup: expected tables of revision {migrate.newest()}, found {manifest.revision}; "
            f"restore with {manifest.program}",
            code="backup_revision",
        )
    _require_empty(data, manifest)
    migrate.upgrade(database)
    with database.read() as session:
        if agencies.agencies(session):
            raise Conflict(
                "database: expected it empty, found an agency; name another", code="database_not_empty"
            )
    with database.engine.begin() as connection:
        load(connection, folder / TABLES)
    with translated(f"data folder {data}"):
        copy_keys(folder / KEYS, data / KEYS)
        _put_store(folder, data / STORE, manifest, progress)
        for name in ("run", "scratch", "uploads"):
            (data / name).mkdir(mode=0o700, exist_ok=True)
    return manifest


def record_restore(storage: Storage, manifest: Manifest, actor: str) -> None:
    """Raise the store's generation and put the restore into every agency's log: file first, then leaf."""
    identity = local_store(storage).raise_generation()
    facts = {
        "generation": identity.generation,
        "manifest_sha256": manifest.sha256,
        "made_at": manifest.made_at,
        "rows": manifest.rows,
    }
    with storage.database.transaction() as session:
        for owner in agencies.agencies(session):
            happening = Happening(Action.RESTORE_DONE, "store", str(identity.store_id), actor, facts)
            custody.record(session, owner, happening, storage.clock.now())


def _require_empty(data: Path, manifest: Manifest) -> None:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = sorted(entry.name for entry in data.iterdir() if entry.name not in {STORE, FILE_NAME})
    if found:
        raise Conflict(
            f"data folder {data}: expected it empty, found {', '.join(found[:5])}", code="data_not_empty"
        )
    store = data / STORE
    if store.exists() and read_identity(store).store_id != manifest.store_id:
        raise Conflict(
            f"object store {store}: expected {manifest.store_id}, found another", code="store_wrong"
        )


def _put_store(folder: Path, root: Path, manifest: Manifest, progress: Progress | None) -> None:
    if root.exists():
        return
    root.mkdir(mode=0o700)
    identity = StoreIdentity(manifest.store_id, manifest.made_at, manifest.generation)
    write_durably(root / IDENTITY_FILE, encode_identity(identity))
    store = LocalObjectStore.attach(root, manifest.store_id)
    if not manifest.with_objects:
        return
    for line in _lines(folder / OBJECTS):
        source = folder / STORE / line["key"]
        if not source.is_file():
            continue  # A withdrawn derivative that was gone already; `check` names what is missing.
        key = parse_key(line["key"])
        staged = store.staging_dir / f"{key.sha256.hex()}.restore"
        _copy_checked(source, staged, key.sha256, line["key"])
        store.adopt(staged, key.sha256, staged.stat().st_size, key.agency, key.namespace)
        if progress is not None:
            progress(int(line["size_bytes"]), line["key"])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _copy_checked(source: Path, target: Path, sha256: bytes, name: str) -> None:
    shutil.copyfile(source, target)
    compare(sha256, hash_file(target).sha256, f"backup object {name}")
