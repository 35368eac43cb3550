"""A custody log as exported, to be judged and to be spoilt."""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cli.verifier import Finding, PublicKey, verify_export
from evidence import merkle
from evidence.custody import (
    Action,
    ExportCheckpoint,
    ExportHeader,
    ExportLeaf,
    Leaf,
    NoteSigner,
    PublicKeyRecord,
    checkpoint_body,
    export_lines,
    leaf_bytes,
    seal_payload,
    sign_checkpoint,
)

ORIGIN = "liuhen/110105-cg"
SIZES = (7, 20, 33, 50, 60)
START = datetime(2026, 3, 1, tzinfo=UTC)
Line = dict[str, Any]


@dataclass
class Log:
    """A log as its keeper has it, to be spoilt: JSON lines as dictionaries."""

    key: Ed25519PrivateKey
    lines: list[Line]

    @property
    def header(self) -> Line:
        return self.lines[0]

    @property
    def leaves(self) -> list[Line]:
        return [line for line in self.lines if "index" in line]

    @property
    def notes(self) -> list[str]:
        return [line["checkpoint"] for line in self.lines if "checkpoint" in line]

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key().public_bytes_raw())

    def text(self) -> list[str]:
        return [json.dumps(line) for line in self.lines]

    def verify(self, kept: Sequence[str] = (), keys: Sequence[PublicKey] | None = None) -> list[Finding]:
        return verify_export(self.text(), kept, [self.public] if keys is None else keys)


def seeded_key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(random.Random(seed).randbytes(32))


def make_leaf(chance: random.Random, number: int, payload: bytes | None) -> Leaf:
    return Leaf(
        leaf_id=UUID(
            int=(1_772_000_000_000 + number) << 80 | 0x7 << 76 | 0b10 << 62 | chance.getrandbits(62)
        ),
        agency="110105-cg",
        action=chance.choice(list(Action)),
        subject_kind="item",
        subject_id=str(UUID(int=chance.getrandbits(128))),
        made_at=START + timedelta(seconds=number),
        actor=chance.choice(["worker", "system", "dock:7"]),
        facts={"digest": chance.randbytes(32).hex(), "size_bytes": chance.randrange(10**9)},
        payload_digest=None if payload is None else sha256(payload).hexdigest(),
    )


def build(key: Ed25519PrivateKey, leaves: Sequence[tuple[bytes, bytes | None]], sizes: Sequence[int]) -> Log:
    """A whole export over these leaf bytes, with a signed checkpoint at each size."""
    public = key.public_key().public_bytes_raw()
    signer = NoteSigner(ORIGIN, public, key.sign)
    frontier, checkpoints = merkle.Frontier(), []
    for index, (body, _) in enumerate(leaves):
        frontier.append(merkle.leaf_hash(body))
        if index + 1 in sizes:
            number = sizes.index(index + 1) + 1
            made_at = START + timedelta(hours=number)
            text = checkpoint_body(ORIGIN, frontier.size, frontier.root(), made_at=made_at, sequence=number)
            checkpoints.append(ExportCheckpoint(sign_checkpoint(text, [signer]), tuple(frontier.nodes())))
    header = ExportHeader(
        ORIGIN, len(leaves), (PublicKeyRecord("k1", ORIGIN, public, "checkpoint", START, None),)
    )
    rows = (
        ExportLeaf(index, body, merkle.leaf_hash(body), payload)
        for index, (body, payload) in enumerate(leaves)
    )
    return Log(key, [json.loads(line) for line in export_lines(header, rows, checkpoints)])


def make_log(seed: int, sizes: Sequence[int] = SIZES) -> Log:
    """A log of one's own to spoil; many begin with the same."""
    log = _log_as_made(seed, sizes)
    return Log(log.key, deepcopy(log.lines))


@lru_cache(maxsize=32)
def _log_as_made(seed: int, sizes: Sequence[int]) -> Log:
    chance = random.Random(seed)
    leaves = []
    for number in range(sizes[-1]):
        payload = (
            seal_payload({"party": f"某{number}"}, chance.randbytes(16)).body if number % 3 == 0 else None
        )
        leaves.append((leaf_bytes(make_leaf(chance, number, payload)), payload))
    return build(seeded_key(seed), leaves, sizes)


def edit(line: Line, change: Callable[[bytes], bytes], *, with_record: bool = False) -> None:
    body = change(b64decode(line["leaf"]))
    line["leaf"] = b64encode(body).decode()
    if with_record:
        line["leaf_hash"] = merkle.leaf_hash(body).hex()


def flip(chance: random.Random) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        at = chance.randrange(len(body))
        return body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]

    return change


def change_size(body: bytes) -> bytes:
    leaf = json.loads(body)
    leaf["facts"]["size_bytes"] += 1
    return json.dumps(leaf, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def reindex(log: Log) -> None:
    for index, line in enumerate(log.leaves):
        line["index"] = index
    log.header["tree_size"] = len(log.leaves)


def covers(finding: Finding, index: int) -> bool:
    return finding.index == index or (
        finding.span is not None and finding.span[0] <= index <= finding.span[1]
    )


def kinds(findings: Sequence[Finding]) -> set[tuple[str, int | None]]:
    return {(finding.kind, finding.index) for finding in findings}


def rewritten(log: Log, chance: random.Random, key: Ed25519PrivateKey) -> int:
    """Change one leaf and make everything else anew around it."""
    at = chance.randrange(60)
    pairs = [
        (b64decode(line["leaf"]), b64decode(line["payload"]) if line["payload"] else None)
        for line in log.leaves
    ]
    pairs[at] = (change_size(pairs[at][0]), pairs[at][1])
    log.lines = build(key, pairs, SIZES).lines
    return at
