"""File-name profiles and sidecar fields as data: what is shipped holds, what would do harm is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import SettingsError
from config.patterns import check_pattern
from config.profiles import NameProfileData, load_name_profiles, load_sidecar_fields
from config.settings import IngestSettings
from evidence.filenames import MAX_NAME_CHARS, NameProfile, parse
from ingest.facts import FIELDS
from ingest.naming import Vocabulary, shipped

SHIPPED = load_name_profiles()
OWN = """
[[profile]]
name = "room_v1"
source = "our own interview rooms"
standing = "confirmed"
pattern = '^room(?P<device_no>[0-9]+)-(?P<date>[0-9]{8})(?P<time>[0-9]{6})(?P<star>[*])?[.]ts$'
timezone = "Asia/Urumqi"
flags = { star = "key_file" }
examples = [{ name = "room12-20240304091530*.ts" }]
"""


def profile(**changes: object) -> dict[str, object]:
    plain = {
        "name": "x",
        "source": "a test",
        "standing": "derived",
        "pattern": "^(?P<device_no>[0-9]{4})$",
        "examples": [{"name": "0123"}],
    }
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("name", "claims"),
    [(example.name, example.claims) for one in SHIPPED for example in one.examples],
)
def test_each_shipped_example_is_read_as_it_says(name: str, claims: dict[str, str]) -> None:
    assert {claim.field: claim.value for claim in parse(name, shipped().profiles)} == claims


@pytest.mark.parametrize("one", SHIPPED, ids=lambda one: one.name)
def test_names_a_profile_must_not_know_are_left_alone(one: NameProfileData) -> None:
    alone = NameProfile(one.name, one.pattern, one.timezone, dict(one.flags), ignore_case=one.ignore_case)
    assert one.not_examples
    assert [name for name in one.not_examples if parse(name, (alone,))] == []


def test_no_shipped_profile_is_said_to_be_of_the_standard() -> None:
    assert {one.standing for one in SHIPPED} == {"secondary", "derived"}


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?P<device_no>(?:[0-9]+)+)$",
        r"^(?P<device_no>[0-9]*)[0-9]*x$",
        r"^(?P<device_no>[a-z]+)[a-z0-9]+$",
        r"^(?P<device_no>[a-z]+)(?:_x)?[a-z]$",
        r"^(?:a?){40}b$",
        r"^(?P<device_no>\w+)$",
        r"^(?P<device_no>.+)$",
        r"^(a)\1$",
        r"^(?=a)a$",
        r"^a|b$",
        r"(?P<device_no>a)",
        r"^[^a]$",
        r"^a{1,300}$",
        "^" + "(?:a|b|c|d)" * 7 + "$",
        "^" + "a" * 500 + "$",
        "^(?:(?:(?:(?:(?:a)))))$",
        r"^(?P<device_no>[0-9$",
        r"^a)$",
    ],
)
def test_a_pattern_that_could_be_slow_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        check_pattern(pattern)


@given(
    st.lists(
        st.sampled_from(
            ["[a-z]+", "[0-9]{1,9}", "_", "-", r"\.", "x", r"\d*", "(?:_a)?", "(?:b|cd)", "[A-Z]?"]
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(["a", "0", "_", "aA", "x_", "a0", "_a"]),
)
def test_what_is_accepted_is_quick_on_the_worst_of_names(parts: list[str], filling: str) -> None:
    pattern = f"^{''.join(parts)}$"
    try:
        check_pattern(pattern)
    except ValueError:
        return
    hostile = (filling * MAX_NAME_CHARS)[: MAX_NAME_CHARS - 1] + "!"
    started = time.perf_counter()
    parse(hostile, (NameProfile("x", pattern),))
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pattern": "^(?P<colour>[a-z]{3})$", "examples": [{"name": "red"}]}, "groups"),
        ({"pattern": "^(?P<date>[0-9]{8})$", "examples": [{"name": "20240304"}]}, "date and time together"),
        ({"examples": [{"name": "none"}]}, "expected a match"),
        ({"not_examples": ["0123"]}, "expected no match"),
        ({"timezone": "Mars/Base"}, "IANA zone"),
        ({"timezone": "../../etc/passwd"}, "IANA zone"),
        ({"flags": {"star": "key_file"}}, "groups of the pattern"),
        ({"standing": "certain"}, "standing"),
    ],
)
def test_a_profile_that_says_nonsense_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        NameProfileData.model_validate(profile(**changes))


def test_an_agencys_profiles_come_first_and_replace_by_name(tmp_path: Path) -> None:
    own = tmp_path / "names.toml"
    own.write_text(
        OWN + OWN.replace("room_v1", "underscore_v1").replace("^room", "^hall").replace('"room12', '"hall12')
    )
    vocabulary = Vocabulary.of(IngestSettings(name_profiles=own))
    said = {claim.field: claim.value for claim in vocabulary.said_by_name("room12-20240304091530*.ts")}
    assert said == {
        "name_profile": "room_v1",
        "device_no": "12",
        "key_file": "true",
        "device_started_at": "2024-03-04T09:15:30+06:00",
    }
    assert vocabulary.said_by_name("DSJ_0000001_123456_20240304_091530.mp4") == []
    assert vocabulary.said_by_name("GX020123.MP4")


@pytest.mark.parametrize("text", ["[[profile]\n", "colour = 1\n", OWN + OWN, "\udcff"])
def test_a_file_that_cannot_be_used_is_named_with_its_setting(tmp_path: Path, text: str) -> None:
    own = tmp_path / "names.toml"
    own.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=r"ingest\.name_profiles"):
        load_name_profiles(own)
    with pytest.raises(SettingsError, match="readable TOML"):
        load_name_profiles(tmp_path / "absent.toml")


def test_every_sidecar_field_is_one_that_claims_know() -> None:
    assert set(load_sidecar_fields().fields) - {"sha256", "zfy_info"} <= FIELDS


def test_an_agencys_sidecar_names_stand_before_the_shipped(tmp_path: Path) -> None:
    own = tmp_path / "fields.toml"
    own.write_text('timezone = "Asia/Shanghai"\n[fields]\ndevice_no = ["CamID"]\n')
    fields = load_sidecar_fields(own)
    assert fields.fields["device_no"][:2] == ["CamID", "device_no"]
    assert fields.timezone == "Asia/Shanghai"
    own.write_text('[fields]\ncolour = ["x"]\n')
    with pytest.raises(SettingsError, match="colour"):
        load_sidecar_fields(own)
