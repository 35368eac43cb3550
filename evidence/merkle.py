"""The Merkle tree of the custody log (RFC 9162, section 2.1), as pure functions over hashes.

A log of n leaves has one root for each size it ever had. A `Frontier` holds what is needed
to grow the log and know its root, in log2(n) hashes. Proofs are built from complete
subtrees only, which never change once full, so that a database can keep them.

`cli/verifier.py` computes the same tree with other code on purpose: a fault here must not
be able to hide itself from the check. The tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from evidence.errors import InvalidInput

HASH_BYTES = 32

EMPTY_ROOT = sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""``node(level, index)``: root of the complete subtree over leaves [index << level, (index + 1) << level)."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf; its prefix keeps it from ever being the hash of a node."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over its two children."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The compact range of a growing log: the roots of its complete subtrees, largest first.

    A log of ``size`` leaves has one such subtree for every bit set in ``size``.
    """

    __slots__ = ("_nodes", "_size")

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    def append(self, leaf: bytes) -> None:
        """Add the next leaf by its leaf hash."""
        _expect_hash(leaf)
        node, full = leaf, self._size
        while full & 1:
            node = node_hash(self._nodes.pop(), node)
            full >>= 1
        self._nodes.append(node)
        self._size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """The root of the tree at its present size; of the empty tree, the hash of nothing."""
        return _fold(self._nodes)

    def nodes(self) -> list[bytes]:
        """The subtree roots, largest first: with ``size``, all there is to store."""
        return list(self._nodes)

    def copy(self) -> Frontier:
        return Frontier.from_nodes(self._size, self._nodes)

    @classmethod
    def from_nodes(cls, size: int, nodes: Sequence[bytes]) -> Frontier:
        """Read back what `nodes` gave.

        Raises:
            InvalidInput: The number of hashes does not belong to this size.
        """
        if size < 0 or len(nodes) != size.bit_count():
            raise InvalidInput(
                f"frontier of size {size}: expected {max(size, 0).bit_count()} hashes, found {len(nodes)}",
                code="frontier_malformed",
            )
        for node in nodes:
            _expect_hash(node)
        frontier = cls()
        frontier._nodes = list(nodes)
        frontier._size = size
        return frontier

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frontier) and (self._size, self._nodes) == (other._size, other._nodes)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Frontier(size={self._size}, root={self.root().hex()})"


def range_reader(leaf_hashes: Callable[[int, int], Sequence[bytes]]) -> NodeReader:
    """A node reader over leaf hashes alone, for logs whose subtrees are not kept.

    Args:
        leaf_hashes: ``leaf_hashes(start, end)`` gives the hashes of leaves [start, end).

    Returns:
        A reader that fetches 2**level leaf hashes for a node, and remembers nothing.
    """

    def node(level: int, index: int) -> bytes:
        start, end = index << level, (index + 1) << level
        layer = list(leaf_hashes(start, end))
        if len(layer) != end - start:
            raise InvalidInput(
                f"leaf hashes {start} to {end - 1}: expected {end - start}, found {len(layer)}",
                code="leaf_hashes_missing",
            )
        while len(layer) > 1:
            layer = [node_hash(layer[at], layer[at + 1]) for at in range(0, len(layer), 2)]
        return layer[0]

    return node


def root_at(size: int, node: NodeReader) -> bytes:
    """The root the log had at ``size``."""
    return _subtree(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """The audit path of a leaf, from the leaf up (RFC 9162, section 2.1.3.1).

    Raises:
        InvalidInput: The tree of ``size`` has no leaf ``index``.
    """
    if not 0 <= index < size:
        raise InvalidInput(
            f"inclusion proof: expected an index below the tree size {size}, found {index}",
            code="proof_out_of_range",
        )
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    path.reverse()
    return path


def consistency_proof(first: int, second: int, node: NodeReader) -> list[bytes]:
    """Proof that the tree of size ``first`` begins the tree of size ``second`` (section 2.1.4.1).

    Raises:
        InvalidInput: Not ``0 < first <= second``.
    """
    if not 0 < first <= second:
        raise InvalidInput(
            f"consistency proof: expected 0 < first <= second, found {first} and {second}",
            code="proof_out_of_range",
        )
    path: list[bytes] = []
    start, end = 0, second
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(start, middle, node))
            start = middle
    if start:
        # Only when the old tree ends inside the new one does the verifier not know this node itself.
        path.append(_subtree(start, end, node))
    path.reverse()
    return path


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``path`` proves that ``leaf`` (its hash) stands at ``index`` (section 2.1.3.2)."""
    if not 0 <= index < size or not _are_hashes(leaf, *path):
        return False
    at, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = node_hash(sibling, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[bytes]
) -> bool:
    """Whether ``path`` proves that the first tree begins the second (section 2.1.4.2)."""
    if not 0 < first <= second or not _are_hashes(first_root, second_root, *path):
        return False
    if first == second:
        return not path and first_root == second_root
    nodes = list(path)
    if first & (first - 1) == 0:
        nodes.insert(0, first_root)
    if not nodes:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, node)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(width: int) -> int:
    """The largest power of two below ``width``: where RFC 9162 divides a tree."""
    return 1 << (width - 1).bit_length() - 1


def _subtree(start: int, end: int, node: NodeReader) -> bytes:
    """The root over leaves [start, end), where ``start`` is a multiple of the first split."""
    peaks: list[bytes] = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append(node(level, start >> level))
        start += 1 << level
    return _fold(peaks)


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root


def _are_hashes(*values: bytes) -> bool:
    # Two values of other lengths could be joined into the same node as two hashes.
    return all(len(value) == HASH_BYTES for value in values)


def _expect_hash(value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise InvalidInput(f"hash: expected {HASH_BYTES} bytes, found {len(value)}", code="hash_malformed")
