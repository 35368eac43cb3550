"""Leaves, sealed payloads, checkpoints, sequencing and the export's two directions."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

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
    is_signed_by,
    leaf_bytes,
    leaf_hash,
    new_salt,
    note_key_id,
    open_payload,
    origin_of,
    parse_checkpoint,
    parse_leaf,
    read_export,
    seal_payload,
    sequence_leaves,
    sign_checkpoint,
)
from evidence.errors import CustodyError, InvalidInput
from evidence.merkle import Frontier

LEAF = Leaf(
    leaf_id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    agency="110105-cg",
    action=Action.ITEM_RECEIVED,
    subject_kind="item",
    subject_id="01890a5d-ac96-774b-bcce-b302099a8058",
    made_at=datetime(2026, 3, 1, 8, 30, 0, 123456, UTC),
    actor="dock:采集站-01",
    facts={"digest": "00" * 32, "size_bytes": 12},
)
ORIGIN = "liuhen/110105-cg"


def key_pair() -> tuple[Ed25519PrivateKey, bytes]:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return private, private.public_key().public_bytes_raw()


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_leaf_bytes_are_pinned() -> None:
    # These bytes are in the logs of every installation: a change here breaks them all.
    assert leaf_bytes(LEAF).decode() == (
        '{"action":"item:received","actor":"dock:采集站-01","agency":"110105-cg",'
        '"facts":{"digest":"' + "00" * 32 + '","size_bytes":12},'
        '"leaf_id":"01890a5d-ac96-774b-bcce-b302099a8057","made_at":"2026-03-01T08:30:00.123456Z",'
        '"payload_digest":null,"subject_id":"01890a5d-ac96-774b-bcce-b302099a8058","subject_kind":"item",'
        '"version":"liuhen-leaf/1"}'
    )
    assert leaf_hash(LEAF) == sha256(b"\x00" + leaf_bytes(LEAF)).digest()


def test_leaf_is_read_back() -> None:
    assert parse_leaf(leaf_bytes(LEAF)) == LEAF


def test_zone_of_the_instant_does_not_change_the_leaf() -> None:
    local = LEAF.made_at.astimezone(timezone(timedelta(hours=8)))
    assert leaf_bytes(replace(LEAF, made_at=local)) == leaf_bytes(LEAF)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "liuhen-leaf/2"},
        {"agency": "two words"},
        {"agency": "a+b"},
        {"action": "item:eaten"},
        {"subject_kind": "Item"},
        {"subject_id": "has space"},
        {"subject_id": ""},
        {"made_at": datetime(2026, 3, 1)},  # noqa: DTZ001 -- the case under test
        {"actor": "account:张三"},
        {"actor": "Zhang San"},
        {"payload_digest": "AB" * 32},
        {"payload_digest": "00"},
    ],
    ids=str,
)
def test_leaf_of_another_form_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        replace(LEAF, **change)  # type: ignore[arg-type]
    assert refused.value.code == "leaf_malformed"


def test_leaf_with_a_float_or_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput):
        leaf_bytes(replace(LEAF, facts={"fps": 29.97}))  # type: ignore[dict-item]
    with pytest.raises(InvalidInput):
        leaf_bytes(replace(LEAF, facts={"text": "x" * 300_000}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        leaf_bytes(LEAF) + b" ",
        leaf_bytes(LEAF).replace(b"item:received", b"item:eaten"),
        leaf_bytes(LEAF).replace(b'"version"', b'"extra":1,"version"'),
        leaf_bytes(LEAF).replace(b".123456Z", b".1234560Z"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_bytes_that_are_no_leaf_are_custody_errors(body: bytes) -> None:
    with pytest.raises(CustodyError):
        parse_leaf(body)


def test_actions_read_subject_and_past() -> None:
    for action in Action:
        subject, colon, verb = action.value.partition(":")
        assert colon and subject.replace("_", "").isalpha() and verb.replace("_", "").isalpha()
        assert action.name == action.value.replace(":", "_").upper()


def test_equal_payloads_have_unlike_digests() -> None:
    payload = {"party": "某某", "plate": "京A00000"}
    first, second = seal_payload(payload, new_salt()), seal_payload(payload, new_salt())
    assert first.digest != second.digest
    assert open_payload(first.body, first.digest) == open_payload(second.body, second.digest) == payload


def test_sealed_payload_is_salt_and_payload_in_canonical_json() -> None:
    sealed = seal_payload({"b": 1, "a": 2}, bytes(16))
    assert sealed.body == b'{"payload":{"a":2,"b":1},"salt":"' + b"00" * 16 + b'"}'
    assert sealed.digest == sha256(sealed.body).digest()


def test_altered_payload_is_not_opened() -> None:
    sealed = seal_payload({"party": "甲"}, new_salt())
    with pytest.raises(CustodyError) as broken:
        open_payload(sealed.body.replace("甲".encode(), "乙".encode()), sealed.digest)
    assert broken.value.code == "payload_altered"
    assert broken.value.facts["expected"] == sealed.digest.hex()


def test_weak_salt_and_oversize_payload_are_refused() -> None:
    with pytest.raises(InvalidInput):
        seal_payload({}, b"short")
    with pytest.raises(InvalidInput):
        seal_payload({"text": "x" * 1_100_000}, new_salt())


def test_body_without_payload_is_a_custody_error() -> None:
    with pytest.raises(CustodyError):
        open_payload(b"[]", sha256(b"[]").digest())


def test_sequencer_gives_the_next_indices_and_leaves_its_input_alone() -> None:
    frontier = Frontier()
    hashes = [merkle.leaf_hash(str(number).encode()) for number in range(5)]
    first = sequence_leaves(frontier, hashes[:3])
    second = sequence_leaves(first.frontier, hashes[3:])
    assert (first.indices, second.indices) == (range(3), range(3, 5))
    assert (frontier.size, first.frontier.size, second.frontier.size) == (0, 3, 5)
    again = sequence_leaves(first.frontier, hashes[3:])
    assert again == second
    assert sequence_leaves(second.frontier, []).indices == range(5, 5)


def test_checkpoint_text_is_pinned() -> None:
    body = checkpoint_body(ORIGIN, 5, bytes(32), made_at=LEAF.made_at, sequence=2)
    assert body == (
        "liuhen/110105-cg\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
        "time 2026-03-01T08:30:00.123456Z\nsequence 2\n"
    )


def test_signature_of_the_c2sp_example_verifies() -> None:
    # The example key and note of golang.org/x/mod/sumdb/note, which C2SP signed-note grew from.
    public = b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
    blob = b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    assert note_key_id("PeterNeumann", public) == blob[:4]
    assert verify(public, text.encode(), blob[4:])


def test_signed_checkpoint_is_read_back_and_verifies() -> None:
    private, public = key_pair()
    body = checkpoint_body(origin_of("110105-cg"), 5, bytes(32), made_at=LEAF.made_at, sequence=2)
    note = sign_checkpoint(body, [NoteSigner(ORIGIN, public, private.sign)])
    assert note.startswith(body + "\n— liuhen/110105-cg ") and note.endswith("\n")
    checkpoint = parse_checkpoint(note)
    assert (checkpoint.origin, checkpoint.tree_size, checkpoint.root) == (ORIGIN, 5, bytes(32))
    assert (checkpoint.made_at, checkpoint.sequence) == (LEAF.made_at, 2)
    assert is_signed_by(checkpoint, ORIGIN, public, verify)
    assert not is_signed_by(checkpoint, "liuhen/other", public, verify)
    assert not is_signed_by(checkpoint, ORIGIN, bytes(32), verify)
    assert not is_signed_by(parse_checkpoint(note.replace("\n5\n", "\n6\n")), ORIGIN, public, verify)


def test_both_keys_of_a_rotation_sign_one_checkpoint() -> None:
    private, public = key_pair()
    other = Ed25519PrivateKey.generate()
    signers = [
        NoteSigner(ORIGIN, public, private.sign),
        NoteSigner(ORIGIN, other.public_key().public_bytes_raw(), other.sign),
    ]
    checkpoint = parse_checkpoint(sign_checkpoint(checkpoint_body(ORIGIN, 0, merkle.EMPTY_ROOT), signers))
    assert (checkpoint.made_at, checkpoint.sequence, checkpoint.extensions) == (None, None, ())
    assert all(is_signed_by(checkpoint, ORIGIN, signer.public_key, verify) for signer in signers)


NOTE = f"{ORIGIN}\n5\n{'A' * 43}=\n\n— {ORIGIN} AAAAAAA=\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        NOTE[:-1],
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\n5\n", "\n05\n"),
        NOTE.replace("\n5\n", "\n-5\n"),
        NOTE.replace("\n5\n", "\n\n"),
        NOTE.replace(ORIGIN, "sumdb.example/log"),
        NOTE.replace("A" * 43 + "=", "AAAA"),
        NOTE.replace("A" * 43 + "=", "***"),
        NOTE.replace("—", "-"),
        NOTE.replace(" AAAAAAA=", ""),
        NOTE.replace(" AAAAAAA=", " AAAAAAA= more"),
        NOTE.replace(" AAAAAAA=", " AAAA"),
        NOTE.replace("=\n\n", "=\ntime yesterday\n\n"),
        NOTE.replace("=\n\n", "=\nsequence many\n\n"),
    ],
)
def test_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    parse_checkpoint(NOTE)
    with pytest.raises(InvalidInput) as refused:
        parse_checkpoint(text)
    assert refused.value.code == "checkpoint_malformed"


@pytest.mark.parametrize(
    ("origin", "size", "root"), [("x/y", 1, bytes(32)), (ORIGIN, -1, bytes(32)), (ORIGIN, 1, b"")]
)
def test_checkpoint_of_nothing_sensible_is_not_made(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(InvalidInput):
        checkpoint_body(origin, size, root)


def test_export_is_read_back() -> None:
    header = ExportHeader(
        ORIGIN,
        2,
        (
            PublicKeyRecord("k1", ORIGIN, bytes(32), "checkpoint", LEAF.made_at, LEAF.made_at),
            PublicKeyRecord("k2", ORIGIN, bytes(32), "receipt", LEAF.made_at),
        ),
    )
    leaves = [
        ExportLeaf(0, leaf_bytes(LEAF), leaf_hash(LEAF), b"payload"),
        ExportLeaf(1, None, bytes(32), None, leaf_id=LEAF.leaf_id),
    ]
    checkpoints = [ExportCheckpoint(NOTE), ExportCheckpoint(NOTE, (bytes(32), bytes(32)))]
    lines = list(export_lines(header, leaves, checkpoints))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert json.loads(lines[0])["format"] == "liuhen-custody-export/1"
    assert json.loads(lines[1])["leaf_hash"] == leaf_hash(LEAF).hex()
    assert list(read_export(lines)) == [header, *leaves, *checkpoints]


@pytest.mark.parametrize(
    "second_line",
    [
        "junk",
        "[]",
        "{}",
        '{"index":0}',
        '{"index":0,"leaf":"*","leaf_hash":"","payload":null}',
        "[" * 100_000,
    ],
    ids=lambda line: line[:12],
)
def test_line_of_another_form_is_named_by_number(second_line: str) -> None:
    good = next(export_lines(ExportHeader(ORIGIN, 0), [], []))
    with pytest.raises(InvalidInput, match="export line 2"):
        list(read_export([good, second_line]))


def test_export_of_another_format_is_refused() -> None:
    with pytest.raises(InvalidInput, match="export line 1"):
        list(read_export(['{"format":"other"}']))
