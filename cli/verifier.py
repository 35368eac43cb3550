"""保管链独立校验器 / Stand-alone verifier of a custody log export.

    python verifier.py EXPORT --checkpoint KEPT_ELSEWHERE --key PUBLIC_KEY
    python verifier.py --proof PROOF --leaf LEAF_ID --key PUBLIC_KEY

This one file needs Python 3.11 and `cryptography`, and nothing of the product whose log it
judges. It therefore has its own Merkle tree beside the one in `evidence/merkle.py`, written
another way on purpose: a fault in the one cannot hide from the other.

What it trusts, in this order: checkpoints kept elsewhere; checkpoints in the export signed
with a key given from outside; nothing else. Hashes the sequencer recorded (``leaf_hash``) and
frontiers beside checkpoints are believed as far as a trusted root confirms them. Where a root
is not what it should be, damage is told apart so:

1. Leaves between two checkpoints are hashed on from the frontier of the first, so that
   damage in one span leaves the verdict on the others.
2. In a damaged span recorded hashes are tried for contents: where they give the root, the
   leaf that differs from its record is the altered or moved one.
3. Then: without one leaf (added), with two exchanged or one carried elsewhere (moved), with
   a leaf of another damaged span (moved); within a fixed budget of work.
4. Else the span is named, with how many leaves it has too many or too few.

Memory: 56 bytes a leaf. Of checkpoints that follow each other and fit, only the ends of each run
are kept, so that their number costs nothing; those that do not fit cost a kilobyte each.
Exit status: 0 clean, 1 findings, 2 input that cannot be used.
The file is longer than a module should be on purpose: it travels alone, and who has to trust its verdict
reads it from the first line to the last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from array import array
from base64 import b64decode
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from io import TextIOWrapper
from itertools import chain, combinations, groupby, pairwise, permutations, product
from pathlib import Path
from typing import Any, Literal, TextIO
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

FORMAT, LEAF_VERSION = "liuhen-custody-export/1", "liuhen-leaf/1"
MAX_LINE_CHARS = 4 * 1024 * 1024
MAX_INDEX = 2**53 - 1
CHUNK = 8_192
"""Leaf hashes taken up at a time."""
WORK_BUDGET = 1_500_000
"""Hashes spent on explaining damage, in all: a few seconds."""

NO_KEY = (
    "注意：未给公钥；导出文件自带的公钥只能证明其自身一致 / "
    "warning: no --key; a key from the export itself proves only that it does not contradict itself"
)
NO_CHECKPOINT = (
    "注意：未给外存检查点；无法发现持私钥者的改写和末尾的删除 / "
    "warning: no --checkpoint; a rewrite by a holder of the private key, or a cut at the end, cannot be seen"
)

Kind = Literal["altered", "removed", "added", "moved", "bad_signature", "inconsistent", "malformed"]
Choice = tuple[bytes, int, bool]
"""A hash a place may have, the line's position, and whether it is the recorded one."""
Claim = tuple[Kind, str, int, int]
"""What to say of which offset, and of which other."""

TEXTS = {
    "unreadable": "第{line}行无法读取 / line {line} is unreadable: {reason}",
    "leaf_unreadable": "第{at}条（第{line}行）无法读取 / {leaf} (line {line}): unreadable: {reason}",
    "no_leaf": "第{at}条不是保管链记录 / {leaf}: not a custody leaf",
    "foreign_leaf": "第{at}条属于另一机构 / {leaf}: of another agency than the log",
    "body_gone": "第{at}条的内容缺失 / {leaf}: the content is gone, only its recorded hash is left",
    "gap": "第{at}条缺失 / {leaf}: missing; its neighbours, up to a checkpoint that fits, cannot be proved",
    "gap_end": "末尾缺第{at}条（或导出早于检查点） / {leaf}: missing at the end, or the export is older",
    "header_size": "文件头称{declared}条，实有{found}条 / header: {declared} leaves, found {found}",
    "line_moved": "第{at}条所在的行不在其位 / {leaf}: its line stands out of order",
    "duplicate": "第{at}条与第{other}条为同一记录 / {leaf}: the same leaf as at index {other}",
    "two_at_index": "第{at}条有多行，此行是添加的 / {leaf}: of the lines with this index, one was added",
    "payload_added": "第{at}条附有不属于它的载荷 / {leaf}: carries a payload that is not its own",
    "payload_altered": "第{at}条的载荷被改动 / {leaf}: the payload was altered",
    "leaf_altered": "第{at}条被改动 / {leaf}: the content was altered; the recorded hash is true",
    "record_altered": "第{at}条的登记散列被改动 / {leaf}: the recorded hash was altered; the content is true",
    "leaf_or_record": "第{at}条与登记散列不符 / {leaf}: content or recorded hash was altered",
    "moved_from": "第{at}条处是第{other}条的内容 / {leaf}: holds the content of index {other}",
    "exchanged": "第{at}条与第{other}条被调换 / {leaf}: exchanged with index {other}",
    "carried": "第{at}条是从第{other}条处移来的 / {leaf}: was carried here from index {other}",
    "belongs": "第{at}条不在其位，原记录在第{other}条 / {leaf}: index {other} belongs here",
    "leaf_added": "第{at}条是添加的 / {leaf}: was added; without it the checkpoint fits",
    "some_added": "第{at}条之间多出{count}条 / {leaf}: {count} added among these",
    "some_removed": "第{at}条之间少了{count}条 / {leaf}: {count} removed among these",
    "span_altered": "第{at}条之中有改动 / {leaf}: altered with its record; checkpoint {size} does not fit",
    "span_rewritten": "第{at}条不合外存检查点{size} / {leaf}: not what kept checkpoint {size} says",
    "unsigned_tail": "第{at}条不在任何有效检查点内 / {leaf}: in no valid checkpoint",
    "nothing_proved": "没有任何有效检查点 / no valid checkpoint: nothing is proved about any leaf",
    "note_unreadable": "{note}: 无法读取 / unreadable",
    "note_foreign": "{note}: 属于另一日志 / of another log",
    "note_signature": "{note}: 不是由可信公钥签署 / not signed with a trusted key",
    "note_order": "{note}: 次序颠倒 / stands out of order",
    "note_missing": "{note}: 其前缺{count}个检查点 / {count} checkpoints before it are missing",
    "note_frontier": "{note}: 所附前沿散列不符 / the frontier beside it does not give its root",
    "two_histories": "{note}: 与同一大小的另一检查点不符 / contradicts another of its size: two histories",
    "proof_size": "证明与检查点大小不符 / proof and checkpoint are of different sizes",
    "proof_leaf": "证明的不是所问的记录 / the proof is about another leaf than the one asked for",
    "proof_root": "证明不通向检查点的根 / the path does not lead to the root of the checkpoint",
    "proof_kept": "{note}: 与外存检查点无一相同 / is none of the checkpoints kept elsewhere",
}


class UnusableInput(Exception):
    """What was handed in cannot be judged at all."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``span`` (first, last) stands for ``index`` where it is no narrower."""

    kind: Kind
    message: str
    index: int | None = None
    leaf_id: str | None = None
    span: tuple[int, int] | None = None


class Findings(list[Finding]):
    def add(
        self, kind: Kind, text: str, start: int | None = None, stop: int | None = None, **facts: Any
    ) -> None:
        """Note what is wrong with leaves [start, stop), with one leaf, or with none in particular."""
        leaf_id = facts.pop("leaf_id", None)
        is_span = start is not None and stop is not None and stop - start > 1
        at = f"{start}–{stop - 1}" if is_span and stop else str(start)
        message = TEXTS[text].format(at=at, leaf=f"leaves {at}" if is_span else f"leaf {at}", **facts)
        span = (start, stop - 1) if is_span and start is not None and stop else None
        self.append(Finding(kind, message, None if is_span else start, None if is_span else leaf_id, span))


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 key. Without a name it vouches for signatures under any name."""

    raw: bytes
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read PEM, or base64 of the 32 bytes."""
        try:
            if "BEGIN PUBLIC KEY" not in text:
                raw = b64decode(text.strip(), validate=True)
                Ed25519PublicKey.from_public_bytes(raw)
                return cls(raw)
            key = load_pem_public_key(text.strip().encode())
            if isinstance(key, Ed25519PublicKey):
                return cls(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        except ValueError as error:
            raise UnusableInput(
                "公钥无法读取 / the public key is unreadable: expected base64 or PEM"
            ) from error
        raise UnusableInput("公钥不是 Ed25519 / the public key is not an Ed25519 key")


@dataclass(frozen=True)
class Note:
    """A checkpoint as read (C2SP tlog-checkpoint in a signed note)."""

    origin: str
    size: int
    root: bytes
    sequence: int | None
    body: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, text: str) -> Note:
        """Read a note; line ends and white space at its end may have suffered on the way."""
        text = text.lstrip("\ufeff").replace("\r\n", "\n").strip() + "\n"
        try:
            body, _, tail = text.rpartition("\n\n")
            origin, size, root, *extensions = body.split("\n")
            text.encode()  # a lone surrogate, which JSON can smuggle in, cannot be signed text
            fields = [line.split(" ") for line in tail.splitlines()]
            signatures = tuple(
                (name, b64decode(blob, validate=True)) for dash, name, blob in fields if dash == "—"
            )
            sequence = next((int(line[9:]) for line in extensions if line.startswith("sequence ")), None)
            note = cls(
                origin, int(size), b64decode(root, validate=True), sequence, f"{body}\n".encode(), signatures
            )
            is_decimal = re.fullmatch(r"0|[1-9][0-9]{0,15}", size)
            if is_decimal and len(note.root) == 32 and origin.startswith("liuhen/"):
                return note
        except ValueError as error:
            raise UnusableInput("检查点无法读取 / the checkpoint is unreadable: not a signed note") from error
        raise UnusableInput("检查点无法读取 / the checkpoint is unreadable: no origin, size or root")

    def is_signed_by(self, keys: Iterable[PublicKey]) -> bool:
        for key, (name, blob) in product(keys, self.signatures):
            key_id = sha256(name.encode() + b"\n\x01" + key.raw).digest()[:4]
            if key.name in (None, name) and blob[:4] == key_id:
                with contextlib.suppress(InvalidSignature, ValueError):
                    Ed25519PublicKey.from_public_bytes(key.raw).verify(blob[4:], self.body)
                    return True
        return False


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A growing RFC 9162 tree as a stack of full subtrees (height, hash)."""

    def __init__(self, stack: Iterable[tuple[int, bytes]] = ()) -> None:
        self.stack = list(stack)

    @classmethod
    def from_frontier(cls, size: int, nodes: Sequence[bytes]) -> Tree:
        """The tree of ``size``; ValueError when so many hashes, or such, do not belong to it."""
        if any(len(node) != 32 for node in nodes):
            raise ValueError("a hash is not 32 bytes")
        return cls(zip([at for at in range(size.bit_length(), -1, -1) if size >> at & 1], nodes, strict=True))

    def grown(self, leaves: Iterable[bytes]) -> Tree:
        stack = list(self.stack)
        for leaf in leaves:
            height, digest = 0, leaf
            while stack and stack[-1][0] == height:
                height, digest = height + 1, _node(stack.pop()[1], digest)
            stack.append((height, digest))
        return Tree(stack)

    def root(self) -> bytes:
        root = self.stack[-1][1] if self.stack else sha256(b"").digest()
        for _, digest in reversed(self.stack[:-1]):
            root = _node(digest, root)
        return root


def root_from_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root an inclusion path leads to (RFC 9162, 2.1.3.1 read backwards); None when it leads nowhere."""
    if not 0 <= index < size or len(path) > 64 or any(len(node) != 32 for node in path):
        return None
    if size == 1 or not path:
        return leaf if size == 1 and not path else None
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        below = root_from_inclusion(index, half, leaf, path[:-1])
        return below and _node(below, path[-1])
    below = root_from_inclusion(index - half, size - half, leaf, path[:-1])
    return below and _node(path[-1], below)


def roots_from_consistency(
    first: int, second: int, path: Sequence[bytes], known: bytes | None
) -> tuple[bytes, bytes] | None:
    """The old and new root a path leads to (2.1.4.1 read backwards), given the old one; None when nowhere."""
    if not 0 < first <= second or len(path) > 65 or any(len(node) != 32 for node in path):
        return None
    if first == second:
        nodes = list(path) if known is None else [known, *path]
        return (nodes[0], nodes[0]) if len(nodes) == 1 else None
    if not path:
        return None
    half, last = 1 << (second - 1).bit_length() - 1, path[-1]
    if first <= half:
        roots = roots_from_consistency(first, half, path[:-1], known)
        return roots and (roots[0], _node(roots[1], last))
    roots = roots_from_consistency(first - half, second - half, path[:-1], None)
    return roots and (_node(last, roots[0]), _node(last, roots[1]))


@dataclass
class Log:
    """An export as read: arrays by position, which is the order of its lines."""

    origin: str
    declared_size: int
    keys: list[PublicKey]
    findings: Findings = field(default_factory=Findings)
    hashes: bytearray = field(default_factory=bytearray)
    ids: bytearray = field(default_factory=bytearray)
    indices: array[int] = field(default_factory=lambda: array("Q"))
    recorded: dict[int, bytes] = field(default_factory=dict)
    """The sequencer's hash, where the content has another one."""
    unreadable: list[tuple[int, int, str]] = field(default_factory=list)
    """Line number, the index that line should have had, and why it cannot be read."""
    is_ordered: bool = True
    """Each line so far stands at its index."""

    @classmethod
    def read(
        cls, lines: Iterable[str], kept: Sequence[Note] = (), keys: Sequence[PublicKey] = ()
    ) -> tuple[Log, Anchors]:
        """Read a whole export; a line that cannot be read is remembered as such.

        Checkpoints are held against the leaves above them as they come, and against those kept elsewhere.
        """
        numbered = enumerate(lines, start=1)
        try:
            header = json.loads(_bounded(next(numbered, (1, ""))[1]))
            named = [
                PublicKey(b64decode(key["public_key_b64"], validate=True), str(key["name"]))
                for key in header["public_keys"]
                if key["purpose"] == "checkpoint"
            ]
            log = cls(str(header["origin"]), _whole(header["tree_size"]), named)
            if header["format"] != FORMAT:
                raise ValueError("another format")
            anchors = Anchors(log, kept, keys)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UnusableInput(
                f"第1行不是保管链导出的文件头 / line 1 is not the header of a {FORMAT}"
            ) from error
        for number, line in numbered:
            try:
                if line.strip():
                    log._read_line(number, json.loads(_bounded(line)), anchors)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                expected = log.indices[-1] + 1 if log.indices else 0
                if log.unreadable and log.unreadable[-1][0] == number - 1:
                    expected = log.unreadable[-1][1] + 1
                log.unreadable.append((number, expected, _clean(error)))
        return log, anchors

    def _read_line(self, number: int, value: Mapping[str, Any], anchors: Anchors) -> None:
        if "checkpoint" in value:
            nodes = value.get("frontier")
            frontier = None if nodes is None else [bytes.fromhex(node) for node in nodes]
            anchors.take(number, str(value["checkpoint"]), frontier)
            return
        index, body, payload = _whole(value["index"]), _decode(value["leaf"]), _decode(value.get("payload"))
        recorded = None if value.get("leaf_hash") is None else bytes.fromhex(value["leaf_hash"])
        digest = recorded if body is None else sha256(b"\x00" + body).digest()
        if digest is None or len(recorded or digest) != 32:
            raise ValueError("neither leaf nor leaf_hash")
        leaf = _read_leaf(body)
        leaf_id = _read_uuid(leaf.get("leaf_id") or value.get("leaf_id"))
        name = str(leaf_id) if leaf_id else None
        if body is None:
            self.findings.add("removed", "body_gone", index, leaf_id=name)
        elif recorded not in (None, digest):
            self.recorded[len(self.indices)] = recorded or b""
        elif leaf.get("version") != LEAF_VERSION or not leaf_id:
            self.findings.add("malformed", "no_leaf", index)
        elif self.origin != f"liuhen/{leaf.get('agency')}":
            self.findings.add("inconsistent", "foreign_leaf", index, leaf_id=name)
        if (
            payload is not None
            and body is not None
            and sha256(payload).hexdigest() != leaf.get("payload_digest")
        ):
            is_known = leaf.get("payload_digest") is not None
            if is_known:
                self.findings.add("altered", "payload_altered", index, leaf_id=name)
            else:
                self.findings.add("added", "payload_added", index, leaf_id=name)
        self.is_ordered = self.is_ordered and index == len(self.indices)
        self.indices.append(index)
        self.hashes += digest
        self.ids += leaf_id.bytes if leaf_id else bytes(16)

    def hash_at(self, position: int) -> bytes:
        return bytes(self.hashes[32 * position : 32 * position + 32])

    def hashes_between(self, start: int, stop: int) -> list[bytes]:
        return [self.hash_at(position) for position in range(start, stop)]

    def id_at(self, position: int) -> str | None:
        raw = bytes(self.ids[16 * position : 16 * position + 16])
        return str(UUID(bytes=raw)) if any(raw) else None


@dataclass
class Anchor:
    """A root to hold the leaves against; ``tree`` when the export knows the frontier that gives it."""

    size: int
    root: bytes
    is_kept: bool
    tree: Tree | None = None


class Anchors:
    """The roots to hold the leaves against, from checkpoints kept elsewhere and those of the export.

    A checkpoint of the export that continues the one before and gives its root takes that one's place: what
    lies between needs no second look. Those stay that do not fit, that begin or end a run, and that stand
    next below one kept elsewhere, so that damage is told as narrowly as if all had stayed.
    """

    def __init__(self, log: Log, kept: Sequence[Note], keys: Sequence[PublicKey]) -> None:
        self.log, self.findings = log, log.findings
        self.keys, self.has_outside_key = (keys, True) if keys else (log.keys, False)
        self.by_size: dict[int, Anchor] = {}
        self.kept_sizes = sorted(note.size for note in kept)
        self.before: tuple[int, int | None] | None = None
        self.grown: tuple[Tree, int] | None = (Tree(), 0)
        self.last_fitting: Anchor | None = None
        for number, note in enumerate(kept, start=1):
            name = f"外存检查点{number} / checkpoint {number} kept elsewhere"
            is_signed = _check_note(self.findings, note, log.origin, self.keys, name)
            if note.origin == log.origin and (is_signed or not self.has_outside_key):
                self._offer(Anchor(note.size, note.root, is_kept=True), name)

    def take(self, line: int, text: str, frontier: list[bytes] | None) -> None:
        """A checkpoint of the export."""
        name = f"第{line}行的检查点 / checkpoint on line {line}"
        try:
            note = Note.parse(text)
        except UnusableInput:
            self.findings.add("malformed", "note_unreadable", note=name)
            return
        missing = 0
        size_before, sequence_before = self.before or (0, None)
        if sequence_before is not None and note.sequence is not None:
            missing = note.sequence - sequence_before - 1
        if note.size < size_before or missing < 0:
            self.findings.add("moved", "note_order", note=name)
        elif missing > 0:
            self.findings.add("removed", "note_missing", count=missing, note=name)
        self.before = (note.size, note.sequence)
        is_signed = _check_note(self.findings, note, self.log.origin, self.keys, name)
        if not is_signed or note.origin != self.log.origin:
            return
        anchor = Anchor(note.size, note.root, is_kept=False)
        if frontier is not None:
            with contextlib.suppress(ValueError):
                tree = Tree.from_frontier(note.size, frontier)
                anchor.tree = tree if tree.root() == note.root else None
            if anchor.tree is None:
                self.findings.add("altered", "note_frontier", note=name)
        self._compact(anchor)
        self._offer(anchor, name)

    def all(self) -> list[Anchor]:
        return [self.by_size[size] for size in sorted(self.by_size) if size]

    def _compact(self, anchor: Anchor) -> None:
        """Let go of the checkpoint before where this one continues it."""
        log, previous, self.last_fitting = self.log, self.last_fitting, None
        if self.grown is None or not log.is_ordered or log.unreadable:
            return
        tree, size = self.grown
        if not size <= anchor.size <= len(log.indices):
            self.grown = None
            return
        for start in range(size, anchor.size, CHUNK):
            tree = tree.grown(log.hashes_between(start, min(start + CHUNK, anchor.size)))
        if tree.root() != anchor.root:
            self.grown = (anchor.tree, anchor.size) if anchor.tree else None
            return
        anchor.tree, self.grown, self.last_fitting = tree, (tree, anchor.size), anchor
        if previous is None or self.by_size.get(previous.size) is not previous:
            return
        if bisect_left(self.kept_sizes, previous.size) == bisect_left(self.kept_sizes, anchor.size):
            del self.by_size[previous.size]

    def _offer(self, anchor: Anchor, name: str) -> None:
        known = self.by_size.setdefault(anchor.size, anchor)
        if known.root != anchor.root or (not anchor.size and anchor.root != Tree().root()):
            self.findings.add("inconsistent", "two_histories", note=name)
        else:
            known.tree = known.tree or anchor.tree


@dataclass
class Damage:
    """Leaves [start, end) that do not give the root they should.

    ``shift``: how many places too high the leaves before stand; ``after``: those behind.
    """

    start: int
    end: int
    anchor: Anchor
    shift: int
    tree: Tree | None
    has_gap: bool
    after: int | None = None
    shown: tuple[int, int] = (0, 0)
    """What is told of it, which may be narrower, or wider."""


class Judge:
    """Holds a log against its anchors and says what is wrong."""

    def __init__(self, log: Log, anchors: Anchors) -> None:
        self.log, self.findings, self.budget = log, log.findings, WORK_BUDGET
        self.size = max(log.indices) + 1 if log.indices else 0
        self.is_ordered = log.is_ordered
        self.order = [] if self.is_ordered else sorted(range(len(log.indices)), key=log.indices.__getitem__)
        self.claimed = [log.indices[position] for position in self.order]
        self.true_contents: set[int] = set()
        self.true_records: set[int] = set()
        self.lost: set[int] = set()
        """Indices whose line is there and unreadable."""
        self.plain: Tree | None = Tree()
        self.plain_size = 0
        self.anchors = anchors.all()
        self.end = max([log.declared_size, *(anchor.size for anchor in self.anchors)])

    def judge(self) -> list[Finding]:
        self._check_gaps()
        self._check_order()
        self._walk()
        self._judge_records()
        self._check_duplicates()
        if self.log.indices and not self.anchors:
            self.findings.add("inconsistent", "nothing_proved")
        last = (MAX_INDEX, 0)
        return sorted(
            dict.fromkeys(self.findings),
            key=lambda one: (one.span or (last if one.index is None else (one.index, 0)), one.kind),
        )

    def _check_gaps(self) -> None:
        gaps, expected = [], 0
        for index in self.claimed:
            if index > expected:
                gaps.append((expected, index))
            expected = index + 1
        for line, index, reason in self.log.unreadable:
            if any(start <= index < stop for start, stop in [*gaps, (self.size, self.end)]):
                self.lost.add(index)
                self.findings.add("malformed", "leaf_unreadable", index, line=line, reason=reason)
            else:
                self.findings.add("malformed", "unreadable", line=line, reason=reason)
        for start, stop in gaps:
            self._add_gap("gap", start, stop)
        if self.log.declared_size < self.size:
            declared = self.log.declared_size
            self.findings.add("inconsistent", "header_size", declared=declared, found=self.size)

    def _add_gap(self, text: str, start: int, stop: int) -> None:
        while start in self.lost:
            start += 1
        if start < stop:
            self.findings.add("removed", text, start, stop)

    def _check_order(self) -> None:
        """Lines out of order are those outside the longest run of indices that only grows."""
        tails: list[tuple[int, int]] = []
        before: list[int] = []
        for position, index in enumerate(() if self.is_ordered else self.log.indices):
            at = bisect_right(tails, (index, len(self.log.indices)))
            tails[at : at + 1] = [(index, position)]
            before.append(tails[at - 1][1] if at else -1)
        in_place, position = set(), tails[-1][1] if tails else -1
        while position >= 0:
            in_place.add(position)
            position = before[position]
        for position in range(len(before)):
            if position not in in_place:
                self._add_at("moved", "line_moved", position)

    def _add_at(self, kind: Kind, text: str, position: int, **facts: Any) -> None:
        self.findings.add(kind, text, self.log.indices[position], leaf_id=self.log.id_at(position), **facts)

    def _positions(self, index: int) -> Sequence[int]:
        if self.is_ordered:
            return (index,) if 0 <= index < self.size else ()
        return self.order[bisect_left(self.claimed, index) : bisect_right(self.claimed, index)]

    def _gather(self, start: int, stop: int) -> tuple[list[bytes], dict[int, list[Choice]]] | None:
        """The hash of each place, and by offset the choice where there is one; None where one is empty."""
        base: list[bytes] = []
        choices: dict[int, list[Choice]] = {}
        if self._is_plain(start, stop):
            return self.log.hashes_between(start, stop), choices
        for index in range(start, stop):
            options: list[Choice] = []
            for position in self._positions(index):
                options.append((self.log.hash_at(position), position, False))
                if position in self.log.recorded:
                    options.append((self.log.recorded[position], position, True))
            if not options:
                return None
            if len(options) > 1:
                choices[len(base)] = options
            base.append(options[0][0])
        return base, choices

    def _is_plain(self, start: int, stop: int) -> bool:
        """Whether each of these places has one line, and that one hash."""
        return self.is_ordered and not self.log.recorded and 0 <= start <= stop <= self.size

    def _walk(self) -> None:
        """Go from anchor to anchor; what does not fit is damage, weighed once a later anchor fits."""
        tree: Tree | None = Tree()
        start, shift, kept_size = 0, 0, 0
        damages: list[Damage] = []
        for anchor in self.anchors:
            fit = None
            if tree is not None:
                is_open = any(damage.after is None for damage in damages)
                steps = sorted(range(-16, 17), key=abs) if is_open else [0]
                fit = next(
                    filter(None, (self._fit(tree, start, anchor, shift + step) for step in steps)), None
                )
                fit = fit or self._explain(tree, start, anchor, shift)
            if fit is None and damages:
                fit = self._fit_plainly(anchor)
            if fit is not None:
                tree, shift = fit
                for damage in damages:
                    damage.after = shift if damage.after is None else damage.after
                kept_size = anchor.size if anchor.is_kept else kept_size
            elif tree is None and damages and damages[-1].after is None:
                damages[-1].end, damages[-1].anchor, tree = anchor.size, anchor, anchor.tree
                damages[-1].shown = damages[-1].shown[0], anchor.size
            else:
                has_gap = self._gather(start + shift, anchor.size + shift) is None
                damage = Damage(start, anchor.size, anchor, shift, tree, has_gap)
                self._narrow(damage, damages, kept_size)
                damages.append(damage)
                tree = anchor.tree
            start = anchor.size
        is_open = any(damage.after is None for damage in damages)
        tail = self.size - start
        if tail > shift and self.anchors and not is_open:
            self.findings.add("added", "unsigned_tail", start + shift, self.size)
        if start > self.size - shift:
            self._add_gap("gap_end", self.size - shift, start if shift else self.end)
        else:
            self._add_gap("gap_end", self.size, self.log.declared_size)
        for damage in damages:
            damage.after = max(tail, shift) if damage.after is None else damage.after
        self._weigh(damages)

    def _narrow(self, damage: Damage, earlier: Sequence[Damage], kept_size: int) -> None:
        """Say which leaves the damage may be in, by the full subtrees that the anchor's frontier vouches for.

        A checkpoint kept elsewhere may so contradict those of the export that came before it:
        then they were made anew over altered leaves, and their word is worth nothing.
        """
        anchor, start = damage.anchor, 0
        damage.shown = damage.start, damage.end
        if damage.shift or (anchor.is_kept and anchor.tree is None):
            damage.shown = kept_size if anchor.is_kept else damage.start, damage.end
            return
        wrong = []
        for height, node in anchor.tree.stack if anchor.tree else ():
            stop = start + (1 << height)
            if stop > kept_size and (anchor.is_kept or self._can_afford(1 << height)):
                wrong += [(start, stop)] if self._root_over(start, stop) != node else []
            start = stop
        here = [span for span in wrong if span[1] > damage.start]
        if here:
            damage.shown = max(damage.start, here[0][0]), min(damage.end, here[-1][1])
        if not anchor.is_kept:
            return
        known = [(other.start, other.end) for other in earlier]
        known += [(index, index + 1) for index in map(self.log.indices.__getitem__, self.log.recorded)]
        for first, last in wrong:
            if last <= damage.start and not any(first < end and begin < last for begin, end in known):
                damage.shown, damage.tree = (first, damage.end), None
                return

    def _root_over(self, start: int, stop: int) -> bytes | None:
        tree = Tree()
        for first in range(start, stop, CHUNK):
            gathered = self._gather(first, min(first + CHUNK, stop))
            if gathered is None:
                return None
            tree = tree.grown(gathered[0])
        return tree.root()

    def _fit(self, tree: Tree, start: int, anchor: Anchor, shift: int) -> tuple[Tree, int] | None:
        if self._is_plain(start + shift, anchor.size + shift):
            for begin in range(start + shift, anchor.size + shift, CHUNK):
                tree = tree.grown(self.log.hashes_between(begin, min(begin + CHUNK, anchor.size + shift)))
            return (tree, shift) if tree.root() == anchor.root else None
        gathered = self._gather(start + shift, anchor.size + shift)
        if gathered is None:
            return None
        base, choices = gathered
        first, last = (tuple(options[at] for options in choices.values()) for at in (0, -1))
        every = product(*choices.values()) if len(choices) <= 12 else iter(())
        for attempt, chosen in enumerate(chain([first, last], every)):
            for offset, option in zip(choices, chosen, strict=True):
                base[offset] = option[0]
            grown = tree.grown(base)
            if grown.root() == anchor.root:
                self._settle(choices, chosen)
                return grown, shift
            if not choices or (attempt and not self._can_afford(len(base))):
                break
        return None

    def _settle(self, choices: Mapping[int, list[Choice]], chosen: Sequence[Choice]) -> None:
        for options, (_, true_position, is_record) in zip(choices.values(), chosen, strict=True):
            (self.true_records if is_record else self.true_contents).add(true_position)
            for position in {position for _, position, _ in options} - {true_position}:
                self._add_at("added", "two_at_index", position)

    def _fit_plainly(self, anchor: Anchor) -> tuple[Tree, int] | None:
        """Whether all leaves from the first give the root, whatever an anchor before said."""
        gathered = self._gather(self.plain_size, anchor.size)
        self.plain = self.plain.grown(gathered[0]) if gathered and self.plain else None
        self.plain_size = anchor.size
        return (self.plain, 0) if self.plain and self.plain.root() == anchor.root else None

    def _can_afford(self, hashes: int) -> bool:
        self.budget -= hashes
        return self.budget >= 0

    def _explain(self, tree: Tree, start: int, anchor: Anchor, shift: int) -> tuple[Tree, int] | None:
        """Look for the one change that makes the leaves from ``start`` give the root."""
        first, count = start + shift, anchor.size - start
        for trial, step, claims in self._guess(first, count):
            if not self._can_afford(count):
                return None
            grown = tree.grown(trial)
            if grown.root() == anchor.root:
                for kind, text, here, there in claims:
                    self._add_at(kind, text, self._positions(first + here)[0], other=first + there)
                return grown, shift + step
        return None

    def _guess(self, first: int, count: int) -> Iterator[tuple[list[bytes], int, list[Claim]]]:
        """Leaves as they would be undone, what that does to the shift, and what to say if it fits."""
        if longer := self._gather(first, first + count + 1):
            for at in range(count + 1):
                yield [*longer[0][:at], *longer[0][at + 1 :]], 1, [("added", "leaf_added", at, at)]
        gathered = self._gather(first, first + count)
        leaves = gathered[0] if gathered else []
        for here, there in combinations(range(len(leaves)), 2):
            trial = leaves.copy()
            trial[here], trial[there] = trial[there], trial[here]
            yield trial, 0, [("moved", "exchanged", here, there), ("moved", "exchanged", there, here)]
        for here, there in permutations(range(len(leaves)), 2):
            trial = leaves.copy()
            trial.insert(there, trial.pop(here))
            yield trial, 0, [("moved", "carried", here, there)]

    def _weigh(self, damages: Sequence[Damage]) -> None:
        """Say of damage that no single change explains what can still be said."""
        whole = [damage for damage in damages if not damage.has_gap]
        for (shift, after), group in groupby(whole, key=lambda damage: (damage.shift, damage.after or 0)):
            spans = list(group)
            if net := after - shift:
                kind: Kind = "added" if net > 0 else "removed"
                first, stop = spans[0].shown[0] + shift, spans[-1].shown[1] + shift
                self.findings.add(kind, f"some_{kind}", first, stop, count=abs(net))
                continue
            for damage in spans:
                if not self._exchange(damage, spans):
                    is_denied = damage.anchor.is_kept and (not damage.anchor.tree or not damage.tree)
                    kind, text = "altered", "span_altered"
                    if is_denied:
                        kind, text = "inconsistent", "span_rewritten"
                    first, stop = damage.shown[0] + shift, damage.shown[1] + shift
                    self.findings.add(kind, text, first, stop, size=damage.anchor.size)

    def _exchange(self, damage: Damage, others: Sequence[Damage]) -> bool:
        """Whether a leaf of another damaged span, put in one place of this one, gives the root."""
        gathered = self._gather(damage.start + damage.shift, damage.end + damage.shift)
        if gathered is None or damage.tree is None:
            return False
        leaves, first = gathered[0], damage.start + damage.shift
        strangers = chain.from_iterable(
            self._positions(index)
            for other in others
            for index in range(
                other.start + other.shift, other.end + other.shift if other is not damage else 0
            )
        )
        for stranger, offset in product(strangers, range(len(leaves))):
            if not self._can_afford(len(leaves)):
                return False
            trial = [*leaves[:offset], self.log.hash_at(stranger), *leaves[offset + 1 :]]
            if damage.tree.grown(trial).root() == damage.anchor.root:
                other_index = self.log.indices[stranger]
                self._add_at("moved", "belongs", self._positions(first + offset)[0], other=other_index)
                return True
        return False

    def _judge_records(self) -> None:
        """Leaves whose content is not what the sequencer recorded."""
        owners = {recorded: self.log.indices[position] for position, recorded in self.log.recorded.items()}
        for position in self.log.recorded:
            other = owners.get(self.log.hash_at(position))
            if position in self.true_contents:
                self._add_at("altered", "record_altered", position)
            elif other is not None:
                self._add_at("moved", "moved_from", position, other=other)
            elif position in self.true_records:
                self._add_at("altered", "leaf_altered", position)
            else:
                self._add_at("altered", "leaf_or_record", position)

    def _check_duplicates(self) -> None:
        """The same leaf id twice, where nothing else explains it."""
        twice = self._low_halves_met_twice()
        if not twice:
            return
        explained = {finding.index for finding in self.findings if finding.kind == "added"}
        explained |= {self.log.indices[position] for position in self.log.recorded}
        seen: dict[bytes, int] = {}
        for position, index in enumerate(self.log.indices):
            leaf_id = bytes(self.log.ids[16 * position : 16 * position + 16])
            is_met = leaf_id[8:] in twice and index not in explained
            if is_met and seen.setdefault(leaf_id, index) != index:
                self._add_at("added", "duplicate", position, other=seen[leaf_id])

    def _low_halves_met_twice(self) -> set[bytes]:
        """Random halves of ids that stand in more than one place; a part of them at a time is in memory."""
        twice: set[bytes] = set()
        with memoryview(self.log.ids).cast("Q") as words:
            for part in range(8):
                halves = sorted(word for word in words[1::2] if word & 7 == part and word)
                met = {one for one, next_one in pairwise(halves) if one == next_one}
                twice |= {one.to_bytes(8, sys.byteorder) for one in met}
        return twice


def verify_export(
    lines: Iterable[str], checkpoints: Sequence[str] = (), keys: Sequence[PublicKey] = ()
) -> list[Finding]:
    """Everything that is wrong with an export, by index; nothing when it is whole.

    Args:
        lines: The export, a line at a time, with or without line ends.
        checkpoints: Texts of checkpoints kept where the log's keeper could not change them.
        keys: Keys of the log known from elsewhere; without any, those the export itself names
            are used, which proves no more than that it does not contradict itself.

    Raises:
        UnusableInput: No export, or an unreadable checkpoint.
    """
    log, anchors = Log.read(lines, [Note.parse(text) for text in checkpoints], keys)
    return Judge(log, anchors).judge()


def verify_proof(
    proof: Mapping[str, Any],
    checkpoints: Sequence[str] = (),
    keys: Sequence[PublicKey] = (),
    leaf_id: str | None = None,
) -> list[Finding]:
    """Everything that is wrong with one inclusion or consistency proof.

    An inclusion proof has ``leaf`` (base64), ``index``, ``tree_size``, ``path`` (hexadecimal)
    and ``checkpoint``; a consistency proof has ``first``, ``second`` and ``path``.

    Raises:
        UnusableInput: Not a proof, or neither key nor checkpoint to hold it against.
    """
    if not keys and not checkpoints:
        raise UnusableInput(
            "需要公钥或外存检查点 / a proof needs a public key or a checkpoint kept elsewhere"
        )
    findings, kept = Findings(), [Note.parse(text) for text in checkpoints]
    try:
        path = [bytes.fromhex(node) for node in proof["path"]]
        notes = [Note.parse(proof[name]) for name in ("first", "second", "checkpoint") if name in proof]
        if "first" in proof:
            old, new = notes[0], notes[1]
            roots = roots_from_consistency(old.size, new.size, path, old.root)
            is_proved = roots == (old.root, new.root) and old.origin == new.origin
        else:
            body, index = _decode(proof["leaf"]) or b"", _whole(proof["index"])
            if _whole(proof["tree_size"]) != notes[0].size:
                findings.add("inconsistent", "proof_size", index)
            digest = sha256(b"\x00" + body).digest()
            is_proved = root_from_inclusion(index, notes[0].size, digest, path) == notes[0].root
            if leaf_id is not None and _read_leaf(body).get("leaf_id") != leaf_id:
                findings.add("inconsistent", "proof_leaf", index)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UnusableInput("证明文件格式不符 / the proof is not of the form expected") from error
    if not is_proved:
        findings.add("inconsistent", "proof_root")
    for number, note in enumerate(notes, start=1):
        name = f"证明的检查点{number} / checkpoint {number} of the proof"
        if keys:
            _check_note(findings, note, note.origin, keys, name)
        same = [other.root for other in kept if (other.origin, other.size) == (note.origin, note.size)]
        if any(root != note.root for root in same):
            findings.add("inconsistent", "two_histories", note=name)
        elif not keys and not same:
            findings.add("inconsistent", "proof_kept", note=name)
    return list(findings)


def _check_note(findings: Findings, note: Note, origin: str, keys: Iterable[PublicKey], name: str) -> bool:
    if note.origin != origin:
        findings.add("inconsistent", "note_foreign", note=name)
    is_signed = note.is_signed_by(keys)
    if not is_signed:
        findings.add("bad_signature", "note_signature", note=name)
    return is_signed


def _bounded(line: str) -> str:
    if len(line) > MAX_LINE_CHARS:
        raise ValueError(f"longer than {MAX_LINE_CHARS} characters")
    return line


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INDEX:
        raise ValueError("expected a whole number")
    return value


def _decode(value: str | None) -> bytes | None:
    return None if value is None else b64decode(value, validate=True)


def _read_leaf(body: bytes | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        leaf = json.loads(body or b"{}")
        return leaf if isinstance(leaf, dict) else {}
    return {}


def _read_uuid(text: object) -> UUID | None:
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return UUID(str(text))
    return None


def _clean(error: Exception) -> str:
    """What an error says, safe for a terminal: it may quote the input."""
    text = f"{type(error).__name__}: {error}"
    return "".join(letter if letter.isprintable() else "?" for letter in text[:100])


def read_lines(file: TextIO) -> Iterator[str]:
    """Lines of bounded length; progress on a terminal. Of a longer line only the beginning comes."""
    shows_progress, number = sys.stderr.isatty(), 0
    while line := file.readline(MAX_LINE_CHARS + 1):
        rest = line
        while len(rest) > MAX_LINE_CHARS and not rest.endswith("\n"):
            rest = file.readline(MAX_LINE_CHARS + 1)
        number += 1
        if shows_progress and number % 50_000 == 0:
            print(f"\r已读{number}行 / {number} lines read", end="", file=sys.stderr, flush=True)
        yield line
    if shows_progress and number >= 50_000:
        print(file=sys.stderr)


def _read_text(path: str) -> str:
    with Path(path).open(encoding="utf-8") as file:
        text = file.read(MAX_LINE_CHARS + 1)
    if len(text) > MAX_LINE_CHARS:
        raise UnusableInput(f"文件过大 / the file is too large: {path}")
    return text


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verifier.py",
        description="校验保管链导出文件或证明 / verify a custody log export or a proof",
        epilog="退出码 / exit status: 0 无问题 clean, 1 有问题 findings, 2 输入不可用 unusable input",
    )
    parser.add_argument(
        "export", nargs="?", metavar="EXPORT", help="导出文件 / export file; - 标准输入 stdin"
    )
    texts = {
        "--checkpoint": ("FILE", "另处保存的检查点，可重复 / a checkpoint kept elsewhere; repeatable"),
        "--key": (
            "KEY",
            "日志公钥：base64 或文件（base64、PEM），可重复 / public key of the log; repeatable",
        ),
    }
    for name, (metavar, text) in texts.items():
        parser.add_argument(name, action="append", default=[], metavar=metavar, help=text)
    parser.add_argument(
        "--proof", metavar="FILE", help="包含或一致性证明 / an inclusion or consistency proof"
    )
    parser.add_argument("--leaf", metavar="ID", help="证明所关的记录 / the leaf the proof must be about")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Verify what the command line names; the exit status says how it went."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser = _arguments()
    options = parser.parse_args(argv)
    if not options.export and not options.proof:
        parser.error("需要导出文件或证明 / an export or a proof is needed")
    if options.leaf and not options.proof:
        parser.error("--leaf 需与 --proof 同用 / --leaf needs --proof")
    findings: list[Finding] = []
    try:
        keys = [PublicKey.parse(_read_text(key) if Path(key).is_file() else key) for key in options.key]
        checkpoints = [_read_text(path) for path in options.checkpoint]
        if options.proof:
            proof = json.loads(_read_text(options.proof))
            findings += verify_proof(proof, checkpoints, keys, options.leaf)
        if options.export:
            for what, text in ((keys, NO_KEY), (checkpoints, NO_CHECKPOINT)):
                if not what:
                    print(text, file=sys.stderr)
            with contextlib.ExitStack() as stack:
                source = sys.stdin.fileno() if options.export == "-" else options.export
                file = stack.enter_context(open(source, encoding="utf-8", errors="replace"))  # noqa: PTH123 -- a descriptor has no Path
                findings += verify_export(read_lines(file), checkpoints, keys)
    except (UnusableInput, OSError, ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, UnusableInput) else _clean(error)
        print(f"无法校验 / cannot verify: {reason}", file=sys.stderr)
        return 2
    for finding in findings:
        about = f" [{finding.leaf_id}]" if finding.leaf_id else ""
        print(f"{finding.kind}: {finding.message}{about}")
    print(
        f"发现{len(findings)}处问题 / {len(findings)} findings"
        if findings
        else "未发现问题 / nothing is wrong"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
