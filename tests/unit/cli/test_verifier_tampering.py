"""The stand-alone verifier: each kind of tampering with a log is named."""

from __future__ import annotations

import json
import random
import tracemalloc
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress

import pytest

from cli.verifier import Finding, UnusableInput, verify_export
from evidence import merkle
from evidence.custody import (
    NoteSigner,
    leaf_bytes,
    sign_checkpoint,
)
from tests.support.exported_log import (
    ORIGIN,
    SIZES,
    Log,
    build,
    change_size,
    covers,
    edit,
    flip,
    kinds,
    make_leaf,
    make_log,
    reindex,
    rewritten,
    seeded_key,
)

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
