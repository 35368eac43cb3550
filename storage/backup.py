"""Backups: database, keys and object list as of one instant, and the objects themselves when asked.

A backup is a folder. Its manifest, written last, names every part with its SHA-256, so that a folder
without one is no backup, and one that was altered is refused. Procedures: docs/design/storage.md.
Putting one back is in `storage.restore`.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

from evidence.canonical import canonical_json
from evidence.clock import rfc3339
from evidence.custody import Action
from evidence.errors import Conflict, FixityError, InvalidInput, NotFound
from evidence.fixity import StreamingDigest, compare, hash_file
from storage.check_files import Held, held_bytes
from storage.db import agencies, custody, migrate
from storage.db.custody import Happening
from storage.dump import dump
from storage.objects.durable import fsync_directory, translated, write_durably
from storage.objects.local import LocalObjectStore, read_identity
from storage.open import Storage
from storage.snapshot import snapshot

FORMAT = "liuhen-backup/1"
MANIFEST = "manifest.json"
TABLES = "tables.jsonl.gz"
OBJECTS = "objects.jsonl.gz"
KEYS = "keys"
STORE = "objects"
MAX_MANIFEST_BYTES = 4 << 20

Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself."""

    made_at: str
    program: str
    revision: str
    store_id: UUID
    generation: int
    rows: int
    objects: int
    object_bytes: int
    with_objects: bool
    parts: dict[str, tuple[str, int]]
    """File name to SHA-256 and size."""
    sha256: str
    """Of the manifest itself."""


def back_up(
    storage: Storage, folder: Path, *, with_objects: bool, actor: str, progress: Progress | None = None
) -> Manifest:
    """Write a backup into a new or empty folder.

    Raises:
        Conflict: There is something in the folder already.
        FixityError: An object to be copied is not what its row says; there is no manifest then.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Conflict(f"backup folder {folder}: expected it empty, found files", code="backup_not_empty")
    with translated(f"backup {folder}"), snapshot(storage.database) as session:
        owners = agencies.agencies(session)
        rows = dump(session, folder / TABLES)
    identity = read_identity(local_store(storage).root)
    with translated(f"backup {folder}"):
        count, total = _list_objects(storage, [owner.id for owner in owners], folder / OBJECTS)
        copy_keys(storage.keys.folder, folder / KEYS)
        if with_objects:
            for held in _all_held(storage, [owner.id for owner in owners]):
                _copy_object(storage, held, folder / STORE)
                if progress is not None:
                    progress(held.size_bytes, held.name)
        parts = {name: digest_of(folder / name) for name in _part_names(folder)}
        body = {
            "format": FORMAT,
            "made_at": rfc3339(storage.clock.now()),
            "program": f"liuhen {version('liuhen')}",
            "revision": migrate.newest(),
            "store_id": str(identity.store_id),
            "generation": identity.generation,
            "rows": rows,
            "objects": count,
            "object_bytes": total,
            "with_objects": with_objects,
            "parts": {name: {"sha256": digest, "size_bytes": size} for name, (digest, size) in parts.items()},
        }
        write_durably(folder / MANIFEST, canonical_json(body) + b"\n")
        fsync_directory(folder.parent)
    manifest = read_manifest(folder)
    with storage.database.transaction() as session:
        for owner in agencies.agencies(session):
            facts = {
                "manifest_sha256": manifest.sha256,
                "rows": rows,
                "objects": count,
                "copied": with_objects,
            }
            happening = Happening(Action.BACKUP_MADE, "store", str(identity.store_id), actor, facts)
            custody.record(session, owner, happening, storage.clock.now())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """A backup's manifest, its parts unverified.

    Raises:
        NotFound: There is none: no backup, or one that was cut off.
        InvalidInput: It is not of the form expected.
    """
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        raise NotFound(f"backup {folder}: expected {MANIFEST}, found none; it was cut off or is no backup",
                       code="backup_missing") from error  # fmt: skip
    try:
        read: dict[str, Any] = json.loads(raw)
        if read["format"] != FORMAT:
            raise ValueError(read["format"])
        return Manifest(
            made_at=str(read["made_at"]),
            program=str(read["program"]),
            revision=str(read["revision"]),
            store_id=UUID(read["store_id"]),
            generation=int(read["generation"]),
            rows=int(read["rows"]),
            objects=int(read["objects"]),
            object_bytes=int(read["object_bytes"]),
            with_objects=bool(read["with_objects"]),
            parts={
                _plain_name(name): (str(part["sha256"]), int(part["size_bytes"]))
                for name, part in read["parts"].items()
            },
            sha256=digest_of(path)[0],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"backup {folder}: expected a manifest of {FORMAT}, found another form",
                           code="backup_malformed") from error  # fmt: skip


def verify_backup(folder: Path) -> Manifest:
    """The manifest, once every part has the digest it names.

    Raises:
        FixityError: A part is missing or altered; the message names all of them.
    """
    manifest = read_manifest(folder)
    wrong = [
        name
        for name, expected in sorted(manifest.parts.items())
        if not (folder / name).is_file() or digest_of(folder / name) != expected
    ]
    if wrong:
        raise FixityError(
            f"backup {folder}: expected every part as its manifest says, found altered or missing: "
            f"{', '.join(wrong)}",
            code="backup_altered",
            parts=wrong,
        )
    return manifest


def _list_objects(storage: Storage, owners: list[UUID], path: Path) -> tuple[int, int]:
    count = total = 0
    with path.open("xb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as file:
        for held in _all_held(storage, owners):
            line = {
                "key": held.store_key,
                "kind": held.kind,
                "size_bytes": held.size_bytes,
                "sha256": held.sha256.hex(),
            }
            file.write(canonical_json(line) + b"\n")
            count, total = count + 1, total + held.size_bytes
    return count, total


def _all_held(storage: Storage, owners: list[UUID]) -> Iterator[Held]:
    for owner in owners:
        yield from held_bytes(storage, owner)


def _copy_object(storage: Storage, held: Held, root: Path) -> None:
    if not storage.objects.exists(held.store_key):
        if held.must_exist:
            raise FixityError(
                f"{held.kind} {held.id}: expected its file, found none ({held.name}); run `liuhen check`",
                code="file_missing",
            )
        return
    target = root / held.store_key
    if target.exists():
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = StreamingDigest()
    with target.open("xb") as sink:
        for chunk in storage.objects.read_back(held.store_key):
            digest.update(chunk)
            sink.write(chunk)
        sink.flush()
        os.fsync(sink.fileno())
    compare(held.sha256, digest.digests().sha256, f"{held.kind} {held.id}")


def copy_keys(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            handle = os.open(target / path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as sink:
                sink.write(path.read_bytes())
                sink.flush()
                os.fsync(sink.fileno())
    fsync_directory(target)


def _part_names(folder: Path) -> list[str]:
    keys = sorted(f"{KEYS}/{path.name}" for path in (folder / KEYS).iterdir())
    return [TABLES, OBJECTS, *keys]


def _plain_name(name: str) -> str:
    """A part lies in the backup and nowhere else."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) > 2:
        raise ValueError(name)
    return name


def digest_of(path: Path) -> tuple[str, int]:
    found = hash_file(path)
    return found.sha256.hex(), found.size_bytes


def local_store(storage: Storage) -> LocalObjectStore:
    if not isinstance(storage.objects, LocalObjectStore):
        raise Conflict("backup: expected a local object store, found another kind", code="store_kind")
    return storage.objects
