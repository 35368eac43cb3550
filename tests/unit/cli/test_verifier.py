"""The stand-alone verifier: a whole log is clean, and what it is given may be hostile."""

from __future__ import annotations

import ast
import json
import random
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cli import verifier
from cli.verifier import PublicKey, Tree, UnusableInput, verify_export, verify_proof
from evidence import merkle
from evidence.custody import (
    NoteSigner,
    checkpoint_body,
    leaf_bytes,
    sign_checkpoint,
)
from evidence.ids import new_id
from tests.support.exported_log import (
    SIZES,
    Line,
    Log,
    build,
    change_size,
    edit,
    kinds,
    make_leaf,
    make_log,
    rewritten,
    seeded_key,
)
from tests.support.syntax import tree_of

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
    tree = tree_of(Path(verifier.__file__))
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
