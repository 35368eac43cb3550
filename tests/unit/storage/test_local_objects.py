"""The local store's own hazards: wrong disks, full disks, and what lies around an object."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evidence.errors import Conflict, Unavailable
from evidence.ids import new_id
from storage.objects.durable import write_durably
from storage.objects.local import IDENTITY_FILE, LocalObjectStore, read_identity

MOUNT = shutil.which("mount") or "mount"
UMOUNT = shutil.which("umount") or "umount"
AGENCY = "0190a0000000700080000000000000aa"


def stage(store: LocalObjectStore, content: bytes) -> tuple[Path, bytes, int]:
    staged = store.staging_dir / "incoming"
    staged.write_bytes(content)
    return staged, hashlib.sha256(content).digest(), len(content)


@contextmanager
def small_file_system(mount_point: Path, size_bytes: int) -> Iterator[None]:
    """A tmpfs of that size; the caller has checked that it may mount."""
    mount_point.mkdir(exist_ok=True)
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", mount_point], check=True)
    try:
        yield
    finally:
        subprocess.run([UMOUNT, mount_point], check=True)


def may_mount(tmp_path: Path) -> bool:
    probe = tmp_path / "probe"
    probe.mkdir()
    mounted = subprocess.run([MOUNT, "-t", "tmpfs", "tmpfs", probe], check=False, capture_output=True)
    if mounted.returncode == 0:
        subprocess.run([UMOUNT, probe], check=True)
    return mounted.returncode == 0


def test_attach_finds_the_store_that_was_created(tmp_path: Path) -> None:
    created = LocalObjectStore.create(tmp_path / "objects")
    attached = LocalObjectStore.attach(tmp_path / "objects", created.identity.store_id)
    assert attached.identity == created.identity


def test_empty_mount_point_is_refused(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    with pytest.raises(Unavailable) as caught:
        LocalObjectStore.attach(tmp_path / "objects", new_id())
    assert caught.value.code == "store_missing"


def test_wrong_disk_is_refused(tmp_path: Path) -> None:
    LocalObjectStore.create(tmp_path / "objects")
    with pytest.raises(Unavailable) as caught:
        LocalObjectStore.attach(tmp_path / "objects", new_id())
    assert caught.value.code == "store_wrong"


def test_stale_copy_of_the_disk_is_refused(tmp_path: Path) -> None:
    store = LocalObjectStore.create(tmp_path / "objects")
    shutil.copytree(tmp_path / "objects", tmp_path / "copy")
    current = store.raise_generation().generation
    store_id = store.identity.store_id
    assert LocalObjectStore.attach(tmp_path / "objects", store_id, min_generation=current)
    with pytest.raises(Unavailable) as caught:
        LocalObjectStore.attach(tmp_path / "copy", store_id, min_generation=current)
    assert caught.value.code == "store_stale"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"store_id": "x"}', b"\xff\xfe"])
def test_unreadable_identity_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / IDENTITY_FILE).write_bytes(content)
    with pytest.raises(Unavailable) as caught:
        read_identity(tmp_path)
    assert caught.value.code == "store_unreadable"


def test_store_is_not_created_over_files(tmp_path: Path) -> None:
    (tmp_path / "somebody's footage").touch()
    with pytest.raises(Conflict):
        LocalObjectStore.create(tmp_path)


def test_disk_that_goes_away_while_running_takes_no_more_objects(tmp_path: Path) -> None:
    store = LocalObjectStore.create(tmp_path / "objects")
    staged, digest, size = stage(store, b"footage")
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(staged, elsewhere)
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    (tmp_path / "objects").mkdir()
    with pytest.raises(Unavailable) as caught:
        store.adopt(elsewhere, digest, size, AGENCY)
    assert caught.value.code == "store_missing"
    assert list((tmp_path / "objects").iterdir()) == []


def test_object_is_read_only_and_has_one_name(tmp_path: Path) -> None:
    store = LocalObjectStore.create(tmp_path / "objects")
    stored = store.adopt(*stage(store, b"footage"), AGENCY)
    state = store.path(stored.key).stat()
    assert state.st_mode & 0o777 == 0o444
    assert state.st_nlink == 1


def test_staged_file_on_another_file_system_is_copied(tmp_path: Path) -> None:
    store = LocalObjectStore.create(tmp_path / "objects")
    with other_file_system(tmp_path) as elsewhere:
        staged = elsewhere / "incoming"
        staged.write_bytes(b"footage")
        stored = store.adopt(staged, hashlib.sha256(b"footage").digest(), 7, AGENCY)
        assert not staged.exists()
    assert store.path(stored.key).read_bytes() == b"footage"
    assert list(store.staging_dir.iterdir()) == []


@contextmanager
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    shared_memory = Path("/dev/shm")  # noqa: S108 - a second file system
    if shared_memory.is_dir() and shared_memory.stat().st_dev != tmp_path.stat().st_dev:
        folder = shared_memory / f"liuhen-{new_id().hex}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
    else:
        yield tmp_path


def test_full_disk_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    """On a really full file system where we may mount one, else under a file size limit."""
    content = os.urandom(1 << 20)
    staged = tmp_path / "incoming"
    staged.write_bytes(content)
    digest = hashlib.sha256(content).digest()
    if may_mount(tmp_path):
        with small_file_system(tmp_path / "small", 256 << 10):
            store = LocalObjectStore.create(tmp_path / "small" / "objects")
            with pytest.raises(Unavailable) as caught:
                store.adopt(staged, digest, len(content), AGENCY)
            assert caught.value.code == "disk_full"
            assert list(store.list()) == []
            assert list(store.staging_dir.iterdir()) == []
    else:
        said = subprocess.run(
            [sys.executable, "-c", _WRITE_UNDER_LIMIT, tmp_path],
            check=True,
            capture_output=True,
            text=True,
        )
        assert said.stdout.strip() == "disk_full"
    assert staged.read_bytes() == content


_WRITE_UNDER_LIMIT = """
import resource, sys
from pathlib import Path
from evidence.errors import Unavailable
from storage.objects.durable import translated, write_durably
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with translated("object"):
        write_durably(Path(sys.argv[1]) / "big", bytes(5000))
except Unavailable as error:
    print(error.code)
"""


def test_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_durably(target, b"old")
    with pytest.raises(TypeError):
        write_durably(target, object())  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"


def test_foreign_files_in_the_store_are_listed_for_check_to_find(tmp_path: Path) -> None:
    store = LocalObjectStore.create(tmp_path / "objects")
    stored = store.adopt(*stage(store, b"footage"), AGENCY)
    (tmp_path / "objects" / AGENCY / "o" / "stray").write_bytes(b"??")
    assert dict(store.list()) == {stored.key: 7, f"{AGENCY}/o/stray": 2}
