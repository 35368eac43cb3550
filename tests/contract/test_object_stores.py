"""One suite over every object store: what they promise must not depend on where bytes lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from evidence.errors import FixityError, InvalidInput, NotFound, NotPermitted, Unavailable
from evidence.fixity import hash_stream
from storage.objects.base import DisposalOrder, Namespace, ObjectStore, object_key, parse_key
from storage.objects.local import LocalObjectStore
from storage.objects.memory import MemoryObjectStore

AGENCY = "0190a0000000700080000000000000aa"
OTHER_AGENCY = "0190a0000000700080000000000000bb"
FOOTAGE = bytes(range(256)) * 1000

MakeStore = Callable[[int], ObjectStore]


def _local(tmp_path: Path, floor_bytes: int) -> ObjectStore:
    return LocalObjectStore.create(tmp_path / "objects", floor_bytes=floor_bytes)


def _memory(tmp_path: Path, floor_bytes: int) -> ObjectStore:
    staging = tmp_path / "staging"
    staging.mkdir()
    return MemoryObjectStore(staging, capacity_bytes=1 << 24, floor_bytes=floor_bytes)


@pytest.fixture(params=[_local, _memory], ids=["local", "memory"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    return lambda floor_bytes: request.param(tmp_path, floor_bytes)


@pytest.fixture
def store(make_store: MakeStore) -> ObjectStore:
    return make_store(0)


def stage(store: ObjectStore, content: bytes, name: str = "incoming") -> tuple[Path, bytes, int]:
    staged = store.staging_dir / name
    staged.write_bytes(content)
    return staged, hashlib.sha256(content).digest(), len(content)


def test_adopted_file_reads_back_unchanged(store: ObjectStore) -> None:
    staged, digest, size = stage(store, FOOTAGE)
    stored = store.adopt(staged, digest, size, AGENCY)
    assert not staged.exists()
    assert (stored.size_bytes, stored.reused) == (size, False)
    assert stored.key == object_key(AGENCY, Namespace.ORIGINAL, digest)
    with store.open(stored.key) as reader:
        assert reader.read() == FOOTAGE
    assert store.size(stored.key) == size
    assert store.exists(stored.key)


def test_read_back_yields_the_bytes_in_order(store: ObjectStore) -> None:
    for content in (b"", b"x", FOOTAGE, bytes(1 << 16), bytes((1 << 16) * 3)):
        staged, digest, size = stage(store, content)
        stored = store.adopt(staged, digest, size, AGENCY)
        digests = hash_stream(store.read_back(stored.key, 1 << 16))
        assert (digests.sha256, digests.size_bytes) == (digest, size)
        for at in (0, 5, 1 << 16, size):
            assert b"".join(map(bytes, store.read_back(stored.key, 1 << 16, at))) == content[at:]


def test_same_bytes_twice_are_one_object(store: ObjectStore) -> None:
    first = store.adopt(*stage(store, FOOTAGE), AGENCY)
    again, digest, size = stage(store, FOOTAGE, "again")
    second = store.adopt(again, digest, size, AGENCY)
    assert second.reused
    assert second.key == first.key
    assert not again.exists()
    assert list(store.list()) == [(first.key, size)]


def test_agencies_and_namespaces_do_not_share_objects(store: ObjectStore) -> None:
    keys = [
        store.adopt(*stage(store, FOOTAGE), AGENCY).key,
        store.adopt(*stage(store, FOOTAGE), OTHER_AGENCY).key,
        store.adopt(*stage(store, FOOTAGE), AGENCY, Namespace.DERIVATIVE).key,
    ]
    assert len(set(keys)) == 3
    assert [key for key, _ in store.list(f"{AGENCY}/o/")] == keys[:1]
    assert [key for key, _ in store.list(f"{AGENCY}/")] == sorted([keys[0], keys[2]])


def test_adopt_repeated_after_its_last_step_succeeds(store: ObjectStore) -> None:
    staged, digest, size = stage(store, FOOTAGE)
    first = store.adopt(staged, digest, size, AGENCY)
    assert store.adopt(staged, digest, size, AGENCY).key == first.key


def test_adopt_of_nothing_says_the_sender_must_send_again(store: ObjectStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.adopt(store.staging_dir / "absent", bytes(32), 5, AGENCY)
    assert caught.value.code == "staged_file_missing"


def test_staged_file_of_another_size_is_refused_and_kept(store: ObjectStore) -> None:
    staged, digest, size = stage(store, FOOTAGE)
    with pytest.raises(FixityError) as caught:
        store.adopt(staged, digest, size + 1, AGENCY)
    assert caught.value.facts["found"] == size
    assert staged.read_bytes() == FOOTAGE


def test_symlink_is_never_adopted(store: ObjectStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(FOOTAGE)
    link = store.staging_dir / "link"
    link.symlink_to(outside)
    with pytest.raises((FixityError, Unavailable)):
        store.adopt(link, hashlib.sha256(FOOTAGE).digest(), len(FOOTAGE), AGENCY)
    assert outside.read_bytes() == FOOTAGE


def test_sound_bytes_take_the_place_of_damaged_ones_which_are_kept_aside(store: ObjectStore) -> None:
    stored = store.adopt(*stage(store, FOOTAGE), AGENCY)
    assert store.kept_aside(stored.key) == []
    for count, damaged in enumerate((FOOTAGE[:-1] + b"\x00", FOOTAGE[:-1]), start=1):
        _damage(store, stored.key, damaged)
        again, digest, size = stage(store, FOOTAGE, "again")
        healed = store.adopt(again, digest, size, AGENCY)
        assert (healed.key, healed.reused, again.exists()) == (stored.key, False, False)
        assert hash_stream(store.read_back(stored.key)).sha256 == digest
        assert len(store.kept_aside(stored.key)) == count
    assert list(store.list()) == [(stored.key, len(FOOTAGE))]


def test_bytes_that_are_not_those_of_the_digest_never_replace_damaged_ones(store: ObjectStore) -> None:
    stored = store.adopt(*stage(store, FOOTAGE), AGENCY)
    damaged, lying = FOOTAGE[:-1] + b"\x00", FOOTAGE[:-1] + b"\x01"
    _damage(store, stored.key, damaged)
    again, _, size = stage(store, lying, "again")
    with pytest.raises(FixityError):
        store.adopt(again, hashlib.sha256(FOOTAGE).digest(), size, AGENCY)
    assert again.read_bytes() == lying
    with store.open(stored.key) as reader:
        assert reader.read() == damaged


def test_flipped_bit_is_found_on_read_back(store: ObjectStore) -> None:
    staged, digest, size = stage(store, FOOTAGE)
    stored = store.adopt(staged, digest, size, AGENCY)
    _damage(store, stored.key, FOOTAGE[:100] + bytes([FOOTAGE[100] ^ 1]) + FOOTAGE[101:])
    assert hash_stream(store.read_back(stored.key)).sha256 != digest


def test_original_is_not_deleted_without_an_order_that_names_it(store: ObjectStore) -> None:
    original = store.adopt(*stage(store, FOOTAGE), AGENCY)
    other_key = object_key(AGENCY, Namespace.ORIGINAL, bytes(32))
    for order in (None, DisposalOrder(other_key, "disposition-1"), DisposalOrder(original.key, "")):
        with pytest.raises(NotPermitted):
            store.delete(original.key, order=order)
    store.delete(original.key, order=DisposalOrder(original.key, "disposition-1"))
    assert not store.exists(original.key)


def test_derivative_is_deleted_freely_and_deleting_it_again_is_fine(store: ObjectStore) -> None:
    derivative = store.adopt(*stage(store, FOOTAGE), AGENCY, Namespace.DERIVATIVE)
    store.delete(derivative.key)
    store.delete(derivative.key)
    assert list(store.list()) == []


def test_absent_object_is_not_found(store: ObjectStore) -> None:
    key = object_key(AGENCY, Namespace.ORIGINAL, bytes(32))
    assert not store.exists(key)
    for ask in (store.open, store.size, store.path, lambda k: list(store.read_back(k))):
        with pytest.raises(NotFound):
            ask(key)


@pytest.mark.parametrize(
    "key", ["", "../../etc/passwd", f"{AGENCY}/o/../../x", "store.json", f"{AGENCY}/o/aa/bb/{'0' * 64}"]
)
def test_what_is_no_key_never_becomes_a_path(store: ObjectStore, key: str) -> None:
    for ask in (store.open, store.size, store.path, store.exists, store.delete):
        with pytest.raises(InvalidInput):
            ask(key)


@pytest.mark.parametrize("agency", ["", "..", "城管局", AGENCY.upper(), AGENCY + "\n"])
def test_agency_that_is_no_id_never_becomes_a_path(store: ObjectStore, agency: str) -> None:
    staged, digest, size = stage(store, FOOTAGE)
    with pytest.raises(InvalidInput):
        store.adopt(staged, digest, size, agency)


def test_key_is_taken_apart_as_it_was_made() -> None:
    digest = hashlib.sha256(FOOTAGE).digest()
    parts = parse_key(object_key(AGENCY, Namespace.DERIVATIVE, digest))
    assert (parts.agency, parts.namespace, parts.sha256) == (AGENCY, Namespace.DERIVATIVE, digest)


def test_free_space_floor_refuses_before_anything_is_written(make_store: MakeStore) -> None:
    store = make_store(1 << 60)
    with pytest.raises(Unavailable) as caught:
        store.reserve(1)
    assert caught.value.code == "disk_full"
    assert caught.value.facts["floor_bytes"] == 1 << 60


def test_reserve_within_free_space_passes(store: ObjectStore) -> None:
    store.reserve(min(1000, store.free_bytes()))


def _damage(store: ObjectStore, key: str, content: bytes) -> None:
    if isinstance(store, MemoryObjectStore):
        store.damage(key, content)
        return
    path = store.path(key)
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(content)
