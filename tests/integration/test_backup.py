"""A backup put back is the same installation, and says that it was put back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import verifier
from cli.logbook import live_lines
from cli.shell import Desk
from config.settings import Settings
from evidence.errors import Conflict, FixityError, NotFound, Unavailable
from storage.backup import back_up, verify_backup
from storage.check import Depth, check
from storage.db import custody
from storage.db.engine import Database
from storage.objects.local import LocalObjectStore
from storage.open import Storage, open_storage
from storage.restore import record_restore, restore
from storage.sequencer import sequence_agency
from storage.snapshot import snapshot
from tests.support.clocks import SettableClock
from tests.support.databases import fresh_postgres_url
from tests.support.held_shift import desk_of, lite_shift, play_shift
from tests.support.installations import settings_for

ACTOR = "operator:0"


@pytest.fixture
def desk(settings: Settings, storage: Storage, tmp_path: Path) -> Desk:
    return play_shift(settings, storage, tmp_path, count=3)


@pytest.fixture
def lite(tmp_path: Path, clock: SettableClock) -> Iterator[Desk]:
    """For what has nothing to do with the kind of database."""
    yield from lite_shift(tmp_path, clock)


def put_back(folder: Path, into: Settings) -> Desk:
    """Restore as the command does."""
    database = Database(into.database_url)
    manifest = restore(folder, into.data.dir, database)
    database.dispose()
    storage = open_storage(into)
    record_restore(storage, manifest, ACTOR)
    return desk_of(into, storage)


def damage(desk: Desk, kept: list[str]) -> list[object]:
    """Everything `verify` and `check` find."""
    sequence_agency(desk.storage, desk.agency.id)
    with snapshot(desk.storage.database) as session:
        findings = verifier.verify_export(live_lines(session, desk.agency, with_payloads=True), kept)
    return [*findings, *check(desk.storage, Depth.DIGESTS)]


def newest_checkpoint(desk: Desk) -> str:
    with desk.read() as session:
        newest = custody.newest_checkpoint(session, desk.agency.id)
    assert newest is not None
    return newest.note


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_restored_installation_verifies_and_checks(desk: Desk, tmp_path: Path, target: str) -> None:
    kept = newest_checkpoint(desk)
    manifest = back_up(desk.storage, tmp_path / "backup", with_objects=True, actor=ACTOR)
    assert manifest.objects == 6
    url = fresh_postgres_url() if target == "postgresql" else f"sqlite:///{tmp_path}/new/data/liuhen.db"
    restored = put_back(tmp_path / "backup", settings_for_new(tmp_path, url))
    assert damage(restored, [kept]) == []
    restored.storage.database.dispose()


def settings_for_new(folder: Path, url: str) -> Settings:
    (folder / "new").mkdir()
    return settings_for(folder / "new", url)


def test_object_store_put_back_by_hand_is_taken_and_the_old_disk_refused(lite: Desk, tmp_path: Path) -> None:
    back_up(lite.storage, tmp_path / "backup", with_objects=False, actor=ACTOR)
    into = settings_for_new(tmp_path, f"sqlite:///{tmp_path}/new/data/liuhen.db")
    into.data.dir.mkdir()
    shutil.copytree(lite.settings.data.dir / "objects", into.data.dir / "objects")
    restored = put_back(tmp_path / "backup", into)
    assert damage(restored, []) == []
    restored.storage.database.dispose()
    shutil.rmtree(into.data.dir / "objects")
    shutil.copytree(lite.settings.data.dir / "objects", into.data.dir / "objects")
    with pytest.raises(Unavailable, match="old copy"):
        open_storage(into)


def test_objects_that_were_not_copied_are_named(lite: Desk, tmp_path: Path) -> None:
    back_up(lite.storage, tmp_path / "backup", with_objects=False, actor=ACTOR)
    restored = put_back(
        tmp_path / "backup", settings_for_new(tmp_path, f"sqlite:///{tmp_path}/new/data/liuhen.db")
    )
    codes = [found.code for found in check(restored.storage, Depth.ROWS)]
    assert codes == ["file_missing"] * 6
    restored.storage.database.dispose()


@pytest.mark.parametrize("part", ["tables.jsonl.gz", "objects.jsonl.gz", "keys/receipt.current"])
def test_altered_backup_is_refused(lite: Desk, tmp_path: Path, part: str) -> None:
    back_up(lite.storage, tmp_path / "backup", with_objects=False, actor=ACTOR)
    path = tmp_path / "backup" / part
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(FixityError, match=part):
        verify_backup(tmp_path / "backup")


def test_cut_off_backup_is_none(lite: Desk, tmp_path: Path) -> None:
    back_up(lite.storage, tmp_path / "backup", with_objects=False, actor=ACTOR)
    (tmp_path / "backup" / "manifest.json").unlink()
    with pytest.raises(NotFound, match="cut off"):
        verify_backup(tmp_path / "backup")


def test_backup_of_a_flipped_object_fails_and_leaves_no_manifest(lite: Desk, tmp_path: Path) -> None:
    store = lite.storage.objects
    assert isinstance(store, LocalObjectStore)
    path = next(path for path in store.root.rglob("*") if path.is_file() and len(path.name) == 64)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(FixityError):
        back_up(lite.storage, tmp_path / "backup", with_objects=True, actor=ACTOR)
    assert not (tmp_path / "backup" / "manifest.json").exists()


def test_nothing_is_restored_over_something(lite: Desk, tmp_path: Path) -> None:
    back_up(lite.storage, tmp_path / "backup", with_objects=False, actor=ACTOR)
    with pytest.raises(Conflict, match="empty"):
        restore(tmp_path / "backup", lite.settings.data.dir, lite.storage.database)
    with pytest.raises(Conflict, match="empty"):
        restore(tmp_path / "backup", tmp_path / "elsewhere", lite.storage.database)
