"""The stand-alone verifier: a whole log is clean, and each kind of tampering is named."""

from __future__ import annotations

import ast
import json
import random
import shutil
import subprocess
import sys
import tracemalloc
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cli import verifier
from cli.verifier import Finding, PublicKey, Tree, UnusableInput, verify_export, verify_proof
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
from evidence.ids import new_id

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


# --- The seeded tamper test -----------------------------------------------------------
#
# Each tamper spoils a log and says what must be found: a set of (kind, index), or a check.

Expected = set[tuple[str, int | None]] | Callable[[list[Finding]], bool]


def flip_byte_in_leaf(log: Log, chance: random.Random) -> Expected:
    line = chance.choice([line for line in log.leaves if line["payload"] is None])
    edit(line, flip(chance))
    return {("altered", line["index"])}


def change_field(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    edit(line, change_size)
    return {("altered", line["index"])}


def change_field_and_record(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    edit(line, change_size, with_record=True)
    return lambda found: len(found) == 1 and found[0].kind == "altered" and covers(found[0], line["index"])


def change_two_fields_and_records(log: Log, chance: random.Random) -> Expected:
    first, second = chance.sample([line for line in log.leaves if line["index"] < 33], 2)
    third = chance.choice([line for line in log.leaves if line["index"] >= 33])
    for line in (first, second, third):
        edit(line, change_size, with_record=True)
    return lambda found: all(
        any(one.kind == "altered" and covers(one, line["index"]) for one in found)
        for line in (first, second, third)
    )


def change_record_only(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    line["leaf_hash"] = chance.randbytes(32).hex()
    return {("altered", line["index"])}


def change_one_leaf_and_another_record(log: Log, chance: random.Random) -> Expected:
    leaf, record = chance.sample(log.leaves, 2)
    edit(leaf, change_size)
    record["leaf_hash"] = chance.randbytes(32).hex()
    return {("altered", leaf["index"]), ("altered", record["index"])}


def drop_leaf(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    log.lines.remove(line)
    return {("removed", line["index"])}


def drop_leaf_and_renumber(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    index = line["index"]
    log.lines.remove(line)
    reindex(log)
    last = index >= SIZES[-2]
    return lambda found: (
        [one.kind for one in found] == ["removed"]
        and (covers(found[0], index) or (last and found[0].index == 59))
    )


def lose_leaf_row(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    line["leaf_id"] = json.loads(b64decode(line["leaf"]))["leaf_id"]
    line["leaf"] = line["payload"] = None
    return lambda found: kinds(found) == {("removed", line["index"])} and found[0].leaf_id == line["leaf_id"]


def add_leaf(log: Log, chance: random.Random) -> Expected:
    index = chance.randrange(60)
    body = leaf_bytes(make_leaf(chance, 1000, None))
    added = {
        "index": 0,
        "leaf": b64encode(body).decode(),
        "leaf_hash": merkle.leaf_hash(body).hex(),
        "payload": None,
    }
    log.lines.insert(1 + index, added)
    reindex(log)
    return {("added", index)}


def add_leaf_at_the_end(log: Log, chance: random.Random) -> Expected:
    body = leaf_bytes(make_leaf(chance, 1000, None))
    record = merkle.leaf_hash(body).hex()
    log.lines.insert(
        61, {"index": 60, "leaf": b64encode(body).decode(), "leaf_hash": record, "payload": None}
    )
    log.header["tree_size"] = 61
    return {("added", 60)}


def repeat_leaf(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    log.lines.insert(1 + chance.randrange(60), dict(line))
    reindex(log)
    return lambda found: (
        {one.kind for one in found} == {"added"}
        and any(one.leaf_id == json.loads(b64decode(line["leaf"]))["leaf_id"] for one in found)
    )


def add_line_with_taken_index(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    body = leaf_bytes(make_leaf(chance, 1000, None))
    other = {
        "index": line["index"],
        "leaf": b64encode(body).decode(),
        "leaf_hash": merkle.leaf_hash(body).hex(),
        "payload": None,
    }
    log.lines.insert(log.lines.index(line) + chance.randrange(2), other)
    leaf_id = json.loads(body)["leaf_id"]
    return lambda found: kinds(found) == {("added", line["index"])} and found[0].leaf_id == leaf_id


def swap_lines(log: Log, chance: random.Random) -> Expected:
    first, second = sorted(chance.sample(range(60), 2))
    lines = log.lines
    lines[1 + first], lines[1 + second] = lines[1 + second], lines[1 + first]
    return lambda found: (
        {one.kind for one in found} == {"moved"} and {one.index for one in found} & {first, second} != set()
    )


def swap_contents(log: Log, chance: random.Random) -> Expected:
    first, second = chance.sample(log.leaves, 2)
    for name in ("leaf", "payload"):
        first[name], second[name] = second[name], first[name]
    return {("moved", first["index"]), ("moved", second["index"])}


def swap_contents_and_records(log: Log, chance: random.Random) -> Expected:
    first, second = chance.sample(log.leaves, 2)
    for name in ("leaf", "payload", "leaf_hash"):
        first[name], second[name] = second[name], first[name]
    return {("moved", first["index"]), ("moved", second["index"])}


def carry_leaf_elsewhere(log: Log, chance: random.Random) -> Expected:
    span = chance.choice([(8, 20), (21, 33), (34, 50)])
    here, there = sorted(chance.sample(range(*span), 2))
    log.lines.insert(1 + there, log.lines.pop(1 + here))
    reindex(log)
    expected = {there} if there - here > 1 else {here, there}
    return lambda found: {one.kind for one in found} == {"moved"} and {one.index for one in found} >= expected


def alter_payload(log: Log, chance: random.Random) -> Expected:
    line = chance.choice([line for line in log.leaves if line["payload"]])
    line["payload"] = b64encode(flip(chance)(b64decode(line["payload"]))).decode()
    return {("altered", line["index"])}


def add_payload(log: Log, chance: random.Random) -> Expected:
    line = chance.choice([line for line in log.leaves if not line["payload"]])
    line["payload"] = b64encode(b"{}").decode()
    return {("added", line["index"])}


def truncate_tail(log: Log, chance: random.Random) -> Expected:
    size = chance.randrange(60)
    log.lines = [log.lines[0], *log.leaves[:size], *log.lines[61:]]
    log.header["tree_size"] = size
    return lambda found: (
        len(found) == 1
        and found[0].kind == "removed"
        and (found[0].span == (size, 59) or found[0].index == size == 59)
    )


def truncate_tail_and_its_checkpoints(log: Log, chance: random.Random) -> Expected:
    size = chance.choice(SIZES[:-1])
    log.lines = [log.lines[0], *log.leaves[:size], *log.lines[61 : 62 + SIZES.index(size)]]
    log.header["tree_size"] = size
    return lambda found: [(one.kind, one.span) for one in found] == [("removed", (size, 59))]


def forge_checkpoint(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.lines[61:])
    origin, size, _, *rest = line["checkpoint"].split("\n")
    line["checkpoint"] = "\n".join([origin, size, b64encode(chance.randbytes(32)).decode(), *rest])
    del line["frontier"]
    return {("bad_signature", None)}


def sign_checkpoint_with_another_key(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.lines[61:])
    thief = seeded_key(chance.randrange(10**6))
    body = line["checkpoint"].rpartition("\n\n")[0] + "\n"
    line["checkpoint"] = sign_checkpoint(
        body, [NoteSigner(ORIGIN, thief.public_key().public_bytes_raw(), thief.sign)]
    )
    return {("bad_signature", None)}


def drop_checkpoint(log: Log, chance: random.Random) -> Expected:
    del log.lines[chance.choice([62, 63, 64])]
    return {("removed", None)}


def alter_frontier(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.lines[61:])
    line["frontier"][chance.randrange(len(line["frontier"]))] = chance.randbytes(32).hex()
    return {("altered", None)}


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


def rewrite_with_another_key(log: Log, chance: random.Random) -> Expected:
    at = rewritten(log, chance, seeded_key(chance.randrange(10**6)))
    return lambda found: (
        sum(one.kind == "bad_signature" for one in found) == len(SIZES)
        and any(one.kind == "inconsistent" and covers(one, at) for one in found)
    )


def rewrite_with_the_stolen_key(log: Log, chance: random.Random) -> Expected:
    at = rewritten(log, chance, log.key)
    return lambda found: (
        {one.kind for one in found} == {"inconsistent"}
        and any("two histories" in one.message for one in found)
        and any(covers(one, at) for one in found)
    )


def junk_line(log: Log, chance: random.Random) -> Expected:
    line = chance.choice(log.leaves)
    line["leaf"] = "*not base64*"
    return {("malformed", line["index"])}


TAMPERS = [
    flip_byte_in_leaf,
    change_field,
    change_field_and_record,
    change_two_fields_and_records,
    change_record_only,
    change_one_leaf_and_another_record,
    drop_leaf,
    drop_leaf_and_renumber,
    lose_leaf_row,
    add_leaf,
    add_leaf_at_the_end,
    repeat_leaf,
    add_line_with_taken_index,
    swap_lines,
    swap_contents,
    swap_contents_and_records,
    carry_leaf_elsewhere,
    alter_payload,
    add_payload,
    truncate_tail,
    truncate_tail_and_its_checkpoints,
    forge_checkpoint,
    sign_checkpoint_with_another_key,
    drop_checkpoint,
    alter_frontier,
    rewrite_with_another_key,
    rewrite_with_the_stolen_key,
    junk_line,
]


def test_checkpoints_that_fit_take_no_memory() -> None:
    """Four thousand of them; kept as they are, each would take four kilobytes."""
    sizes = range(1, 4001)
    text = make_log(3, sizes).text()
    tracemalloc.start()
    try:
        assert verify_export(text) == []
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3_000_000


def test_damage_among_many_checkpoints_is_as_narrow_as_between_two() -> None:
    log = make_log(5, range(1, 301))
    edit(log.leaves[150], lambda body: body.replace(b"item", b"itel"), with_record=True)
    assert [(found.kind, found.index) for found in log.verify()] == [("altered", 150)]
    kept = log.notes[99]
    assert [(found.kind, found.index) for found in log.verify([kept])] == [("altered", 150)]


def test_a_checkpoint_kept_elsewhere_denies_a_log_made_anew_among_many() -> None:
    log, other = make_log(6, range(1, 101)), make_log(7, range(1, 101))
    theirs = build(log.key, [(b64decode(line["leaf"]), None) for line in other.leaves], range(1, 101))
    found = theirs.verify([log.notes[59]])
    assert ("inconsistent", "two histories") in [(one.kind, one.message[-13:]) for one in found]


@pytest.mark.parametrize("tamper", TAMPERS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_named(tamper: Callable[[Log, random.Random], Expected]) -> None:
    for seed in range(12):
        log = make_log(seed)
        kept = [log.notes[-1]]
        expected = tamper(log, random.Random(seed))
        found = log.verify(kept)
        told = f"seed {seed}: {found}"
        if callable(expected):
            assert expected(found), told
        else:
            assert kinds(found) == expected, f"expected {expected}, {told}"


@pytest.mark.parametrize(
    "tamper",
    [
        tamper
        for tamper in TAMPERS
        if not tamper.__name__.startswith(("drop_leaf_and", "truncate", "rewrite"))
    ],
    ids=lambda tamper: tamper.__name__,
)
def test_tampering_is_found_without_records_frontiers_or_kept_checkpoints(
    tamper: Callable[[Log, random.Random], Expected],
) -> None:
    for seed in range(4):
        log = make_log(seed)
        tamper(log, random.Random(seed))
        for line in log.lines:
            line.pop("frontier", None)
            if line.get("leaf", "") is not None:
                line.pop("leaf_hash", None)
        if tamper.__name__ not in ("change_record_only", "alter_frontier"):
            assert log.verify(), f"seed {seed}"


def test_several_tamperings_at_once_never_pass() -> None:
    for seed in range(60):
        chance = random.Random(seed)
        log = make_log(seed % 5)
        kept = [log.notes[-1]]
        first, *others = chance.sample(TAMPERS[: TAMPERS.index(truncate_tail)], 3)
        first(log, chance)
        for tamper in others:
            # A second change may find nothing of the sort left to spoil.
            with suppress(ValueError, IndexError, TypeError):
                tamper(log, chance)
        if seed % 2:
            for line in log.lines:
                line.pop("frontier", None)
        assert log.verify(kept), f"seed {seed}"


def test_text_of_an_export_spoilt_at_random_is_judged_or_refused() -> None:
    log = make_log(1)
    text, kept = "\n".join(log.text()), [log.notes[-1]]
    for seed in range(150):
        chance, letters = random.Random(seed), list(text)
        for _ in range(chance.choice([1, 2, 20])):
            at = chance.randrange(len(letters))
            letters[at] = chance.choice(
                ["", "\n", '"', "{", "[", "\\", "0", "\ud800", chr(chance.randrange(32, 500))]
            )
        with suppress(UnusableInput):
            found = verify_export("".join(letters).split("\n"), kept, [log.public])
            assert all(finding.message.isprintable() for finding in found)


# --- What is whole is clean -----------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1,), (2,), (1, 2, 3), (64,), (5, 8, 13), tuple(range(1, 41))])
def test_whole_export_is_clean(sizes: tuple[int, ...]) -> None:
    log = make_log(1, sizes)
    assert log.verify(log.notes) == []
    assert log.verify(keys=[]) == []


def test_empty_log_is_clean() -> None:
    assert build(seeded_key(1), [], []).verify() == []


def test_withheld_payloads_are_clean() -> None:
    log = make_log(2)
    for line in log.leaves:
        line["payload"] = None
    assert log.verify(log.notes) == []


def test_one_checkpoint_at_the_end_is_enough() -> None:
    log = make_log(3, (200,))
    assert log.verify(log.notes) == []
    edit(log.leaves[150], change_size)
    assert kinds(log.verify(log.notes)) == {("altered", 150)}


def test_keys_of_a_rotation_are_all_needed() -> None:
    old = make_log(4)
    log = build(seeded_key(99), [(b64decode(line["leaf"]), None) for line in old.leaves], SIZES)
    log.lines[61:63] = old.lines[61:63]
    assert verify_export(log.text(), [old.notes[1]], [old.public, log.public]) == []
    assert kinds(verify_export(log.text(), [], [log.public])) == {("bad_signature", None)}


# --- What is trusted ------------------------------------------------------------------


def test_key_of_the_export_itself_proves_only_consistency() -> None:
    log = make_log(5)
    kept = log.notes[-1]
    rewritten(log, random.Random(5), seeded_key(77))
    assert log.verify(keys=[]) == []
    assert {finding.kind for finding in log.verify([kept], keys=[])} >= {"bad_signature", "inconsistent"}


def test_key_for_receipts_does_not_vouch_for_checkpoints() -> None:
    log = make_log(5)
    log.header["public_keys"][0]["purpose"] = "receipt"
    assert "bad_signature" in {finding.kind for finding in log.verify(keys=[])}


def test_kept_checkpoint_that_the_given_key_did_not_sign_is_not_believed() -> None:
    log, other = make_log(6), make_log(7)
    assert kinds(log.verify([other.notes[-1]])) == {("bad_signature", None)}


def test_kept_checkpoint_of_another_log_is_named() -> None:
    log = make_log(6)
    signer = NoteSigner("liuhen/other", log.public.raw, log.key.sign)
    other = sign_checkpoint(checkpoint_body("liuhen/other", 60, bytes(32)), [signer])
    assert kinds(log.verify([other])) == {("inconsistent", None)}


def test_leaf_of_another_agency_is_named() -> None:
    chance = random.Random(8)
    leaf = replace(make_leaf(chance, 0, None), agency="320500-hb")
    log = build(seeded_key(8), [(leaf_bytes(leaf), None)], [1])
    assert kinds(log.verify()) == {("inconsistent", 0)}


def test_signed_bytes_that_are_no_leaf_are_named() -> None:
    log = build(seeded_key(8), [(b"junk", None), (b"[]", None)], [2])
    assert kinds(log.verify()) == {("malformed", 0), ("malformed", 1)}


def test_leaves_without_any_checkpoint_prove_nothing() -> None:
    log = make_log(9)
    del log.lines[61:]
    assert kinds(log.verify()) == {("inconsistent", None)}


def test_export_older_than_the_kept_checkpoint_says_so() -> None:
    log = make_log(10)
    kept = log.notes[-1]
    del log.lines[62:], log.lines[8:61]
    log.header["tree_size"] = 7
    (finding,) = log.verify([kept])
    assert (finding.kind, finding.span) == ("removed", (7, 59))
    assert "older" in finding.message


def test_all_damage_is_listed() -> None:
    log = make_log(11)
    leaves = log.leaves
    edit(leaves[3], change_size)
    leaves[9]["payload"] = b64encode(b"{}").decode()
    edit(leaves[25], change_size, with_record=True)
    log.lines.remove(leaves[40])
    edit(leaves[55], change_size)
    found = log.verify(log.notes)
    assert kinds(found) == {
        ("altered", 3),
        ("altered", 9),
        ("altered", None),
        ("removed", 40),
        ("altered", 55),
    }
    assert [finding.span for finding in found if finding.span] == [(20, 31)]


def test_header_that_understates_the_log_is_named() -> None:
    log = make_log(12)
    log.header["tree_size"] = 50
    assert kinds(log.verify()) == {("inconsistent", None)}


# --- Hostile input --------------------------------------------------------------------


@pytest.mark.parametrize(
    "first_line",
    ["", "junk", "[]", "3", "{}", '{"format":"other"}', "[" * 100_000, "x" * (verifier.MAX_LINE_CHARS + 1)],
    ids=lambda line: line[:10],
)
def test_text_that_is_no_export_is_unusable(first_line: str) -> None:
    with pytest.raises(UnusableInput):
        verify_export([first_line] if first_line else [])


@pytest.mark.parametrize(
    "line",
    [
        "junk",
        "null",
        "[]",
        "7",
        "{}",
        "[" * 100_000,
        '{"index":-1,"leaf":""}',
        '{"index":1e400,"leaf":""}',
        '{"index":99999999999999999999,"leaf":""}',
        '{"index":' + "9" * 5000 + "}",
        '{"index":true,"leaf":""}',
        '{"index":60,"leaf":7}',
        '{"index":60,"leaf":null}',
        '{"index":60,"leaf":"","leaf_hash":"00"}',
        '{"index":60,"leaf":"","leaf_hash":"zz"}',
        '{"checkpoint":7}',
        '{"checkpoint":"\\ud800\\n1\\nAA==\\n\\n\\u2014 \\ud800 AAAAAAAA\\n"}',
        '{"checkpoint":"x","frontier":[7]}',
        '{"checkpoint":"x","frontier":7}',
        "\x1b[2J\x00",
        "x" * (verifier.MAX_LINE_CHARS + 1),
    ],
    ids=lambda line: line[:40].encode("unicode_escape").decode(),
)
def test_hostile_line_is_one_printable_finding(line: str) -> None:
    log = make_log(13)
    (finding,) = verify_export([*log.text(), line], log.notes, [log.public])
    assert finding.kind == "malformed"
    assert finding.message.isprintable()


def test_huge_index_costs_nothing() -> None:
    log = make_log(14)
    log.leaves[-1]["index"] = verifier.MAX_INDEX
    found = log.verify()
    assert ("removed", None) in kinds(found) or ("removed", 59) in kinds(found)


def test_checkpoint_survives_mail() -> None:
    log = make_log(15)
    mangled = "\ufeff" + log.notes[-1].replace("\n", "\r\n") + "\r\n  \r\n"
    assert log.verify([mangled]) == []


@pytest.mark.parametrize("text", ["", "junk", "liuhen/x\n5\nAAAA\n\n— a AAAA\n", "a\n\nb\n"])
def test_unreadable_kept_checkpoint_is_unusable(text: str) -> None:
    with pytest.raises(UnusableInput):
        make_log(15).verify([text])


@pytest.mark.parametrize(
    "text", ["", "junk", "AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_unreadable_key_is_unusable(text: str) -> None:
    with pytest.raises(UnusableInput):
        PublicKey.parse(text)


# --- The two trees --------------------------------------------------------------------


@given(st.integers(0, 70), st.integers(0, 70))
def test_both_trees_agree(size: int, more: int) -> None:
    leaves = [merkle.leaf_hash(str(number).encode()) for number in range(size + more)]
    frontier = merkle.Frontier()
    frontier.extend(leaves[:size])
    tree = Tree().grown(leaves[:size])
    assert tree.root() == frontier.root()
    assert [node for _, node in tree.stack] == frontier.nodes()
    frontier.extend(leaves[size:])
    assert (
        Tree.from_frontier(size, [node for _, node in tree.stack]).grown(leaves[size:]).root()
        == frontier.root()
    )


@given(st.data(), st.integers(1, 70))
def test_both_trees_agree_on_proofs(data: st.DataObject, size: int) -> None:
    leaves = [merkle.leaf_hash(str(number).encode()) for number in range(size)]
    node = merkle.range_reader(lambda start, end: leaves[start:end])
    index, first = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    root, old = merkle.root_at(size, node), merkle.root_at(first, node)
    path = merkle.inclusion_proof(index, size, node)
    assert verifier.root_from_inclusion(index, size, leaves[index], path) == root
    assert verifier.root_from_inclusion(index, size, leaves[index], [*path, root]) != root
    assert verifier.root_from_inclusion(index, size, leaves[index] + b"x", path[:-1]) != root
    path = merkle.consistency_proof(first, size, node)
    assert verifier.roots_from_consistency(first, size, path, old) == (old, root)
    assert verifier.roots_from_consistency(first, size, [*path, root], old) != (old, root)
    wrong = merkle.leaf_hash(b"another")
    assert verifier.roots_from_consistency(first, size, path, wrong) != (wrong, root)


# --- Proofs ---------------------------------------------------------------------------


def inclusion(log: Log, index: int, number: int) -> Line:
    leaves = [bytes.fromhex(line["leaf_hash"]) for line in log.leaves]
    node = merkle.range_reader(lambda start, end: leaves[start:end])
    path = [step.hex() for step in merkle.inclusion_proof(index, SIZES[number], node)]
    leaf = log.leaves[index]["leaf"]
    return {
        "leaf": leaf,
        "index": index,
        "tree_size": SIZES[number],
        "path": path,
        "checkpoint": log.notes[number],
    }


def consistency(log: Log, first: int, second: int) -> Line:
    leaves = [bytes.fromhex(line["leaf_hash"]) for line in log.leaves]
    node = merkle.range_reader(lambda start, end: leaves[start:end])
    path = [step.hex() for step in merkle.consistency_proof(SIZES[first], SIZES[second], node)]
    return {"first": log.notes[first], "second": log.notes[second], "path": path}


def test_inclusion_proof_stands_alone() -> None:
    log = make_log(20)
    proof = inclusion(log, 17, 3)
    leaf_id = json.loads(b64decode(proof["leaf"]))["leaf_id"]
    assert verify_proof(proof, [], [log.public], leaf_id) == []
    assert verify_proof(proof, [log.notes[3]], []) == []
    assert kinds(verify_proof(proof, [log.notes[2]], [])) == {("inconsistent", None)}
    assert kinds(verify_proof(proof, [], [log.public], str(new_id()))) == {("inconsistent", 17)}
    assert kinds(verify_proof(proof, [], [PublicKey(bytes(32))])) == {("bad_signature", None)}
    with pytest.raises(UnusableInput):
        verify_proof(proof)


@pytest.mark.parametrize(
    "change", [{"index": 16}, {"tree_size": 49}, {"path": []}, {"leaf": "AAAA"}], ids=str
)
def test_spoilt_inclusion_proof_is_found(change: Line) -> None:
    log = make_log(21)
    assert verify_proof({**inclusion(log, 17, 3), **change}, [], [log.public])


def test_consistency_proof_stands_alone() -> None:
    log, other = make_log(22), make_log(22, (7, 20, 33, 50, 61))
    proof = consistency(log, 1, 4)
    assert verify_proof(proof, [], [log.public]) == []
    assert verify_proof(proof, [log.notes[1], log.notes[4]], []) == []
    assert kinds(verify_proof({**proof, "first": log.notes[0]}, [], [log.public])) == {("inconsistent", None)}
    assert verify_proof({**proof, "path": proof["path"][1:]}, [], [log.public])
    rewritten(other, random.Random(1), other.key)
    assert verify_proof(proof, [other.notes[4]], [log.public])


@pytest.mark.parametrize(
    "proof", [{}, [], 7, {"path": 7}, {"path": [], "first": "x"}, {"path": ["zz"]}], ids=str
)
def test_text_that_is_no_proof_is_unusable(proof: Any) -> None:
    with pytest.raises(UnusableInput):
        verify_proof(proof, [], [PublicKey(bytes(32))])


# --- The command ----------------------------------------------------------------------


def write_case(folder: Path, log: Log) -> None:
    (folder / "export.jsonl").write_text("\n".join(log.text()) + "\n", encoding="utf-8")
    (folder / "kept.txt").write_text(log.notes[-1], encoding="utf-8")
    pem = log.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pem").write_bytes(pem)


def test_file_runs_alone(tmp_path: Path) -> None:
    log = make_log(30)
    write_case(tmp_path, log)
    (tmp_path / "proof.json").write_text(json.dumps(inclusion(log, 5, 2)))
    shutil.copy(verifier.__file__, tmp_path / "verifier.py")
    # -I: no project on the path, no user site, no environment.
    command = [sys.executable, "-I", "-W", "error", "verifier.py"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: PLW1510 -- the status is what is tested
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
        )

    clean = run("export.jsonl", "--checkpoint", "kept.txt", "--key", "key.pem", "--proof", "proof.json")
    assert (clean.returncode, clean.stderr) == (0, "")
    assert "nothing is wrong" in clean.stdout and "未发现问题" in clean.stdout
    edit(log.leaves[12], change_size)
    write_case(tmp_path, log)
    spoilt = run("export.jsonl", "--checkpoint", "kept.txt", "--key", b64encode(log.public.raw).decode())
    assert spoilt.returncode == 1
    assert spoilt.stdout.startswith("altered: 第12条被改动 / leaf 12: the content was altered")


def test_only_the_standard_library_and_cryptography_are_imported() -> None:
    tree = ast.parse(Path(verifier.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported}
    assert roots - set(sys.stdlib_module_names) == {"cryptography"}


def test_missing_key_and_checkpoint_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path, make_log(31))
    assert verifier.main([str(tmp_path / "export.jsonl")]) == 0
    told = capsys.readouterr().err
    assert "warning: no --key" in told and "warning: no --checkpoint" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["missing.jsonl"],
        ["."],
        ["kept.txt"],
        ["export.jsonl", "--key", "junk"],
        ["export.jsonl", "--checkpoint", "export.jsonl"],
        ["export.jsonl", "--checkpoint", "missing.txt"],
        ["--proof", "kept.txt", "--key", "key.pem"],
        ["--proof", "raw.bin", "--key", "key.pem"],
        ["--proof", "deep.json", "--key", "key.pem"],
        ["raw.bin"],
    ],
    ids=" ".join,
)
def test_unusable_input_is_one_line_and_status_two(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_case(tmp_path, make_log(32))
    (tmp_path / "raw.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    monkeypatch.chdir(tmp_path)
    assert verifier.main(arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("无法校验 / cannot verify: ")


@pytest.mark.parametrize("arguments", [[], ["export.jsonl", "--leaf", "x"]])
def test_incomplete_command_is_status_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        verifier.main(arguments)
    assert left.value.code == 2


def test_endless_line_is_read_in_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = make_log(33)
    path = tmp_path / "export.jsonl"
    long = "x" * (3 * verifier.MAX_LINE_CHARS)
    path.write_text("\n".join([*log.text()[:61], long, *log.text()[61:]]), encoding="utf-8")
    assert verifier.main([str(path), "--key", b64encode(log.public.raw).decode()]) == 1
    assert "line 62 is unreadable: ValueError: longer than" in capsys.readouterr().out
