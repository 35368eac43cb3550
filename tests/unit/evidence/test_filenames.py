"""Names as claims, and names that were made to deceive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.filenames import MAX_DISPLAY_CHARS, NameClaim, NameProfile, display_name
from evidence.filenames import parse as parse_with
from ingest.naming import shipped


def parse(name: bytes | str) -> list[NameClaim]:
    return parse_with(name, shipped().profiles)


def claims(name: bytes | str) -> dict[str, str]:
    return {claim.field: claim.value for claim in parse(name)}


def test_underscore_name_says_device_officer_time_and_key_mark() -> None:
    assert parse("DSJ_0000001_123456_20240304_091530_IMP.mp4") == [
        NameClaim("name_profile", "underscore_v1"),
        NameClaim("prefix", "DSJ"),
        NameClaim("device_no", "0000001"),
        NameClaim("officer_no", "123456"),
        NameClaim("key_file", "true"),
        NameClaim("ext", "mp4"),
        NameClaim("device_started_at", "2024-03-04T09:15:30+08:00", "device"),
    ]


def test_encrypted_mark_is_read_and_its_absence_is_no_claim() -> None:
    assert claims("DSJ_1_123456_20240304_091530_enc.jpg")["encrypted"] == "true"
    assert claims("DSJ_1_123456_20240304_091530_IMP_enc.jpg")["key_file"] == "true"
    assert "encrypted" not in claims("DSJ_1_123456_20240304_091530.jpg")


def test_impossible_date_is_claimed_as_written() -> None:
    found = claims("DSJ_1_123456_20241340_256199.mp4")
    assert found["device_started_text"] == "20241340_256199"
    assert "device_started_at" not in found


@pytest.mark.parametrize("date", ["19700101", "20991231"])
def test_clock_far_off_is_still_a_claim(date: str) -> None:
    assert claims(f"DSJ_1_123456_{date}_000000.mp4")["device_started_at"].startswith(date[:4])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "movie.mp4",
        "DSJ_1_123456_20240304_091530.mp4\n",
        "x/DSJ_1_123456_20240304_091530.mp4",
        "DSJ_1_123456_20240304_091530.exe",
        "DSJ_1_123456_２０２４0304_091530.mp4",
        b"\xff\xfe\x00",
        "现场录像.mp4",
    ],
)
def test_name_no_profile_knows_makes_no_claim(name: bytes | str) -> None:
    assert parse(name) == []


def test_profile_is_data() -> None:
    profile = NameProfile("room_v1", r"^room(?P<room_no>\d+)-(?P<date>\d{8})(?P<time>\d{6})\.ts$", "UTC")
    found = {claim.field: claim.value for claim in parse_with("room12-20240304091530.ts", (profile,))}
    assert found == {
        "name_profile": "room_v1",
        "room_no": "12",
        "device_started_at": "2024-03-04T09:15:30+00:00",
    }


def test_chinese_names_are_shown_from_utf8_and_from_gbk() -> None:
    assert display_name("城管执法.mp4".encode()) == "城管执法.mp4"
    assert display_name("城管执法.mp4".encode("gbk")) == "城管执法.mp4"
    assert display_name("城管执法.mp4".encode("gbk").decode("utf-8", "surrogateescape")) == "城管执法.mp4"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\r.mp4", "a⟨U+000A⟩b⟨U+000D⟩.mp4"),
        ("gpj.\u202etxt", "gpj.⟨U+202E⟩txt"),
        ("a\u200bb\u2028c\x00", "a⟨U+200B⟩b⟨U+2028⟩c⟨U+0000⟩"),
        (b"\xff\xff\x80", "\\xff\\xff\\x80"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("\ud83d.mp4", "\\ud83d.mp4"),
    ],
)
def test_what_would_deceive_is_made_visible(name: bytes | str, shown: str) -> None:
    assert display_name(name) == shown


def test_long_name_keeps_its_ending() -> None:
    shown = display_name("长" * 400 + ".mp4")
    assert len(shown) == MAX_DISPLAY_CHARS
    assert shown.endswith(".mp4")


@given(st.one_of(st.binary(max_size=600), st.text(max_size=600)))
def test_any_name_is_shown_on_one_printable_line(name: bytes | str) -> None:
    shown = display_name(name)
    assert len(shown) <= MAX_DISPLAY_CHARS
    assert all(character.isprintable() or character == "\u3000" or character.isspace() for character in shown)
    assert "\n" not in shown
    assert len(shown.splitlines()) <= 1
    parse(name)
