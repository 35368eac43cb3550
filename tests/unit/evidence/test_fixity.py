"""Digests against published values, and comparison that says what differs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from evidence.errors import FixityError, InvalidInput
from evidence.fixity import StreamingDigest, compare, compare_size, hash_file, parse_sha256

# FIPS 180-4 and GB/T 32905-2016, annex A.1: the digests of "abc".
ABC_SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
ABC_SM3 = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"


def test_digests_match_the_published_values() -> None:
    digest = StreamingDigest(sm3=True)
    digest.update(b"a")
    digest.update(bytearray(b"bc"))
    found = digest.digests()
    assert (found.sha256.hex(), found.size_bytes) == (ABC_SHA256, 3)
    assert found.sm3 is not None
    assert found.sm3.hex() == ABC_SM3


def test_sm3_is_made_only_when_asked_for() -> None:
    assert StreamingDigest().digests().sm3 is None


def test_copy_goes_back_to_where_it_was_taken() -> None:
    digest = StreamingDigest(sm3=True)
    digest.update(b"abc")
    before = digest.copy()
    digest.update(b"def")
    assert before.digests().sha256.hex() == ABC_SHA256
    assert digest.digests().size_bytes == 6


def test_file_is_hashed_by_path_and_by_descriptor_alike(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    file = tmp_path / "footage"
    file.write_bytes(content)
    seen: list[int] = []
    by_path = hash_file(file, progress=seen.append)
    with file.open("rb") as opened:
        opened.seek(77)
        by_descriptor = hash_file(opened.fileno())
        assert opened.tell() == 77
    assert by_path == by_descriptor
    assert by_path.sha256 == hashlib.sha256(content).digest()
    assert seen == [1 << 20, len(content)]


def test_digest_goes_on_in_a_file_from_where_it_stands(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "footage").write_bytes(content)
    digest = StreamingDigest()
    digest.update(content[:1000])
    with (tmp_path / "footage").open("rb") as opened:
        digest.follow(opened.fileno())
    assert digest.digests().sha256 == hashlib.sha256(content).digest()


def test_empty_file_has_a_digest(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert hash_file(tmp_path / "empty").sha256 == hashlib.sha256().digest()


def test_mismatch_carries_its_facts() -> None:
    with pytest.raises(FixityError) as caught:
        compare(b"\x01" * 32, b"\x02" * 32, "item 7")
    assert caught.value.facts["expected"] == "01" * 32
    assert caught.value.facts["found"] == "02" * 32
    assert "\n" not in caught.value.message
    with pytest.raises(FixityError) as caught:
        compare_size(5, 6, "item 7")
    assert caught.value.code == "size_mismatch"


def test_digest_in_either_case_is_read() -> None:
    assert parse_sha256(ABC_SHA256.upper()).hex() == ABC_SHA256


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, ABC_SHA256 + "00", "é" * 64])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_sha256(text)
