"""The rules of tus as pure decisions: headers in, decision out."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import (
    Conflict,
    EvidenceError,
    FixityError,
    InvalidInput,
    NotAuthenticated,
    NotFound,
    Unavailable,
)
from ingest.tus import protocol
from ingest.tus.checksums import CHECKSUM_ALGORITHMS, Checksum


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def test_header_names_are_read_in_any_case() -> None:
    assert protocol.read_headers([(b"Upload-LENGTH", b" 5 ")]) == {"upload-length": "5"}


@pytest.mark.parametrize("name", [b"Upload-Offset", b"Content-Length", b"Authorization", b"Upload-Metadata"])
def test_steering_header_sent_twice_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        protocol.read_headers([(name, b"1"), (name.lower(), b"2")])
    assert caught.value.code == "duplicate_header"


def test_other_header_sent_twice_is_harmless() -> None:
    assert protocol.read_headers([(b"accept", b"a"), (b"accept", b"b")])["accept"] == "b"


def test_bytes_beyond_ascii_in_a_steering_header_are_refused() -> None:
    with pytest.raises(InvalidInput):
        protocol.read_headers([(b"upload-metadata", "filename 城".encode())])


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.0, 1.0.0"])
def test_other_version_is_answered_with_412_and_ours(version: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        protocol.require_version({} if version is None else {"tus-resumable": version})
    reply = protocol.refusal(caught.value)
    assert (reply.status, reply.headers["Tus-Version"]) == (412, "1.0.0")


@pytest.mark.parametrize("value", [None, "", "-1", "1.5", "0x10", "١", " 5", "9" * 30, "1,2"])
def test_length_that_is_no_number_is_refused(value: str | None) -> None:
    with pytest.raises(InvalidInput):
        protocol.upload_length({} if value is None else {"upload-length": value}, 1 << 40)


def test_length_above_the_limit_is_413() -> None:
    assert protocol.upload_length({"upload-length": "100"}, 100) == 100
    with pytest.raises(InvalidInput) as caught:
        protocol.upload_length({"upload-length": "101"}, 100)
    assert protocol.refusal(caught.value).status == 413


def test_length_may_be_told_later_but_not_twice() -> None:
    assert protocol.upload_length({"upload-defer-length": "1"}, 100) is None
    for headers in ({"upload-defer-length": "0"}, {"upload-defer-length": "1", "upload-length": "5"}):
        with pytest.raises(InvalidInput):
            protocol.upload_length(headers, 100)
    assert protocol.later_length({}) is None
    assert protocol.later_length({"upload-length": "7"}) == 7


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (False, ())),
        ("partial", (True, ())),
        ("final;/uploads/h0.a /uploads/h0.b", (False, ("h0.a", "h0.b"))),
        ("final; https://dock.example/in/uploads/h0.a", (False, ("h0.a",))),
        ("final;http://[::1]:8601/uploads/h0.b  /uploads/h0.a", (False, ("h0.b", "h0.a"))),
    ],
)
def test_concatenation_names_its_parts_in_order(
    header: str | None, expected: tuple[bool, tuple[str, ...]]
) -> None:
    assert protocol.concat({} if header is None else {"upload-concat": header}) == expected


@pytest.mark.parametrize(
    "header",
    ["", "1", "final", "final;", "final; ", "partial;/uploads/a", "final;/other/a", "final;/uploads/a/b",
     "final;ftp://x/uploads/a", "final;" + " ".join(["/uploads/a"] * 1001)],
)  # fmt: skip
def test_concatenation_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        protocol.concat({"upload-concat": header})
    assert caught.value.code == "bad_concat"


def test_final_upload_has_no_length_of_its_own() -> None:
    for name in ("upload-length", "upload-defer-length"):
        with pytest.raises(InvalidInput):
            protocol.concat({"upload-concat": "final;/uploads/a", name: "1"})


def test_offset_elsewhere_is_a_conflict() -> None:
    protocol.upload_offset({"upload-offset": "5"}, 5)
    for offset in ("4", "6"):
        with pytest.raises(Conflict) as caught:
            protocol.upload_offset({"upload-offset": offset}, 5)
        assert protocol.refusal(caught.value).status == 409


def test_body_past_the_end_is_refused_before_it_is_read() -> None:
    protocol.require_within({"content-length": "5"}, 5)
    with pytest.raises(InvalidInput) as caught:
        protocol.require_within({"content-length": "6"}, 5)
    assert protocol.refusal(caught.value).status == 413


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "text/plain"])
def test_other_content_type_is_415(kind: str) -> None:
    protocol.require_octets({"content-type": "application/offset+octet-stream; charset=x"})
    with pytest.raises(InvalidInput) as caught:
        protocol.require_octets({"content-type": kind})
    assert protocol.refusal(caught.value).status == 415


def test_metadata_values_are_the_bytes_that_were_sent() -> None:
    gbk = "城管.mp4".encode("gbk")
    header = f"filename {b64(gbk)},key_file, empty {b64(b'')}"
    assert protocol.parse_metadata(header) == {"filename": gbk, "key_file": b"", "empty": b""}
    assert protocol.parse_metadata("") == {}


@pytest.mark.parametrize(
    "header",
    ["filename ###", "filename YQ", f"a {b64(b'1')},a {b64(b'2')}", ",", "a b c", "é YQ=="],
)
def test_malformed_metadata_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        protocol.parse_metadata(header)
    assert caught.value.code == "bad_metadata"


def test_metadata_of_one_megabyte_is_refused_in_one_short_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        protocol.parse_metadata("filename " + b64(bytes(1 << 20)))
    reply = protocol.refusal(caught.value)
    assert reply.status == 431
    assert len(reply.body) < 300
    assert "8192" in json.loads(reply.body)["detail"]


def test_too_many_metadata_keys_are_refused() -> None:
    protocol.parse_metadata(",".join(f"k{i}" for i in range(64)))
    with pytest.raises(InvalidInput):
        protocol.parse_metadata(",".join(f"k{i}" for i in range(65)))


@pytest.mark.parametrize("algorithm", CHECKSUM_ALGORITHMS)
def test_checksum_of_the_body_is_compared(algorithm: str) -> None:
    expected = hashlib.new(algorithm, b"footage", usedforsecurity=False).digest()
    headers = {"upload-checksum": f"{algorithm} {b64(expected)}"}
    good, bad = Checksum.read(headers), Checksum.read(headers)
    assert good is not None
    assert bad is not None
    good.update(b"foot")
    good.update(b"age")
    good.require_match()
    bad.update(b"footagE")
    with pytest.raises(FixityError) as caught:
        bad.require_match()
    assert protocol.refusal(caught.value).status == 460


@pytest.mark.parametrize("header", ["crc32 AAAA", "sha1", "sha1 ###", ""])
def test_checksum_we_cannot_check_is_refused(header: str) -> None:
    if header == "sha1":
        assert Checksum.read({"upload-checksum": header}) is not None  # An empty digest matches nothing.
        return
    with pytest.raises(InvalidInput):
        Checksum.read({"upload-checksum": header})


def test_digest_fields_of_http_are_compared_all_of_them() -> None:
    body = b"footage"
    right = {name: b64(hashlib.new(name.replace("-", ""), body).digest()) for name in ("sha-256", "sha-512")}
    headers = {
        "repr-digest": f"sha-256=:{right['sha-256']}:, unixsum=:AA==:",
        "content-digest": f"sha-512=:{right['sha-512']}:",
    }
    for sent, is_right in ((body, True), (b"other", False)):
        checksum = Checksum.read_fields(headers)
        assert checksum is not None
        checksum.update(sent)
        if is_right:
            checksum.require_match()
            continue
        with pytest.raises(FixityError):
            checksum.require_match()
    lying = Checksum.read_fields({**headers, "repr-digest": f"sha-256=:{b64(bytes(32))}:"})
    assert lying is not None
    lying.update(body)
    with pytest.raises(FixityError):
        lying.require_match()
    assert Checksum.read_fields({}) is None


@pytest.mark.parametrize(
    "header", ["", "sha-256", "sha-256=AA==", "sha-256=:AA==", "sha-256=:###:", "sha-256=:A:", "md5=:AA==:"]
)
def test_digest_field_we_cannot_check_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput):
        Checksum.read_fields({"repr-digest": header})


def test_options_says_what_is_offered() -> None:
    reply = protocol.options(77)
    assert reply.status == 204
    assert reply.headers["Tus-Max-Size"] == "77"
    assert reply.headers["Tus-Extension"] == (
        "creation,creation-with-upload,creation-defer-length,checksum,concatenation,expiration,termination"
    )
    assert reply.headers["Tus-Checksum-Algorithm"] == "sha256,sha512,sha1,md5"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotAuthenticated("x"), 401),
        (NotFound("x"), 404),
        (NotFound("x", code="upload_expired"), 410),
        (Conflict("x", code="upload_interrupted"), 423),
        (Unavailable("x", code="disk_full"), 507),
        (Unavailable("x"), 503),
        (InvalidInput("x"), 400),
        (EvidenceError("x"), 500),
    ],
)
def test_each_error_has_its_status_and_one_line(error: EvidenceError, status: int) -> None:
    reply = protocol.refusal(error)
    assert reply.status == status
    assert json.loads(reply.body) == {
        "type": "about:blank",
        "status": status,
        "code": error.code,
        "detail": "x",
    }
    assert ("Retry-After" in reply.headers) == (status in {423, 503, 507})


@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=300))
def test_any_metadata_header_is_read_or_refused(header: str) -> None:
    try:
        protocol.parse_metadata(header)
    except InvalidInput as error:
        assert "\n" not in error.message
        assert len(error.message) < 300
