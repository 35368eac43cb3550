"""The tree against the RFC's own recursive definition and the vectors of certificate-transparency."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import InvalidInput
from evidence.merkle import (
    EMPTY_ROOT,
    Frontier,
    NodeReader,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_reader,
    root_at,
    verify_consistency,
    verify_inclusion,
)

VECTOR_LEAVES = [
    leaf_hash(bytes.fromhex(data))
    for data in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
VECTOR_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = st.integers(1, 70)


def some_leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, as written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*naive_path(index, leaves[:split]), naive_root(leaves[split:])]
    return [*naive_path(index - split, leaves[split:]), naive_root(leaves[:split])]


def naive_subproof(first: int, leaves: list[bytes], is_known: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162, section 2.1.4.1."""
    if first == len(leaves):
        return [] if is_known else [naive_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if first <= split:
        return [*naive_subproof(first, leaves[:split], is_known), naive_root(leaves[split:])]
    return [*naive_subproof(first - split, leaves[split:], False), naive_root(leaves[:split])]


def reader(leaves: list[bytes]) -> NodeReader:
    return range_reader(lambda start, end: leaves[start:end])


def test_empty_tree_is_the_hash_of_nothing() -> None:
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Frontier().root() == root_at(0, reader([])) == EMPTY_ROOT == bytes.fromhex(expected)


def test_roots_are_those_of_certificate_transparency() -> None:
    frontier = Frontier()
    for leaf, root in zip(VECTOR_LEAVES, VECTOR_ROOTS, strict=True):
        frontier.append(leaf)
        assert frontier.root().hex() == root


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (
            0,
            8,
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    ],
)
def test_inclusion_paths_are_those_of_certificate_transparency(
    index: int, size: int, path: list[str]
) -> None:
    proof = inclusion_proof(index, size, reader(VECTOR_LEAVES))
    assert [node.hex() for node in proof] == path
    assert verify_inclusion(index, size, VECTOR_LEAVES[index], proof, bytes.fromhex(VECTOR_ROOTS[size - 1]))


def test_consistency_path_is_that_of_certificate_transparency() -> None:
    proof = consistency_proof(6, 8, reader(VECTOR_LEAVES))
    assert [node.hex() for node in proof] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(SIZES)
def test_frontier_and_reader_give_the_naive_root(size: int) -> None:
    leaves = some_leaves(size)
    frontier = Frontier()
    frontier.extend(leaves)
    assert frontier.root() == root_at(size, reader(leaves)) == naive_root(leaves)


@given(SIZES, st.integers(0, 70))
def test_stored_frontier_grows_on(size: int, more: int) -> None:
    leaves = some_leaves(size + more)
    frontier = Frontier()
    frontier.extend(leaves[:size])
    stored = Frontier.from_nodes(frontier.size, frontier.nodes())
    assert stored == frontier
    stored.extend(leaves[size:])
    assert stored.root() == naive_root(leaves)
    assert frontier.size == size


@given(st.data(), SIZES)
def test_inclusion_proof_is_the_naive_one_and_verifies(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaves = some_leaves(size)
    root, path = naive_root(leaves), inclusion_proof(index, size, reader(leaves))
    assert path == naive_path(index, leaves)
    assert verify_inclusion(index, size, leaves[index], path, root)
    assert not verify_inclusion(index, size, leaf_hash(b"another"), path, root)
    assert not verify_inclusion(index, size, leaves[index], [*path, EMPTY_ROOT], root)
    assert not path or not verify_inclusion(index, size, leaves[index], path[:-1], root)
    for other in {0, index ^ 1, size - 1} - {index}:
        assert not verify_inclusion(other, size, leaves[index], path, root)


@given(st.data(), SIZES)
def test_consistency_proof_is_the_naive_one_and_verifies(data: st.DataObject, second: int) -> None:
    first = data.draw(st.integers(1, second))
    leaves = some_leaves(second)
    old, new = naive_root(leaves[:first]), naive_root(leaves)
    path = consistency_proof(first, second, reader(leaves))
    assert path == naive_subproof(first, leaves, True)
    assert verify_consistency(first, second, old, new, path)
    assert not verify_consistency(first, second, leaf_hash(b"another"), new, path)
    assert not verify_consistency(first, second, old, leaf_hash(b"another"), path)
    assert not verify_consistency(first, second, old, new, [*path, EMPTY_ROOT])
    assert not path or not verify_consistency(first, second, old, new, path[:-1])


def test_proof_nodes_of_other_lengths_are_refused() -> None:
    left, right = some_leaves(2)
    root = node_hash(left, right)
    # 31 and 33 bytes join into the same 64 that were hashed.
    joined = left + right
    assert not verify_inclusion(0, 2, joined[:31], [joined[31:]], root)
    assert not verify_consistency(1, 2, joined[:31], root, [joined[31:]])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3)])
def test_inclusion_outside_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(InvalidInput):
        inclusion_proof(index, size, reader(some_leaves(3)))
    assert not verify_inclusion(index, size, some_leaves(1)[0], [], some_leaves(1)[0])


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3), (-1, 1)])
def test_consistency_outside_the_tree_is_refused(first: int, second: int) -> None:
    with pytest.raises(InvalidInput):
        consistency_proof(first, second, reader(some_leaves(3)))
    assert not verify_consistency(first, second, EMPTY_ROOT, EMPTY_ROOT, [])


def test_frontier_of_wrong_size_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Frontier.from_nodes(3, some_leaves(1))
    with pytest.raises(InvalidInput):
        Frontier.from_nodes(1, [b"short"])
    with pytest.raises(InvalidInput):
        Frontier().append(b"short")


def test_missing_leaf_hashes_are_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        root_at(4, reader(some_leaves(3)))
    assert refused.value.code == "leaf_hashes_missing"
