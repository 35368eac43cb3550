"""Claims that disagree are listed with who said what; claims that agree well enough are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evidence.conflicts import Said, conflicts_among

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def said(field: str, value: str, source: str = "dock") -> Said:
    return Said(field, value, source)


def at(field: str, seconds: float, source: str = "dock") -> Said:
    instant = NOON + timedelta(seconds=seconds)
    return Said(field, instant.isoformat(), source, "device", instant)


def test_two_device_numbers_are_a_conflict_with_both_sources() -> None:
    (found,) = conflicts_among([said("device_no", "7"), said("device_no", "8", "filename")])
    assert found.subject == "device_no"
    assert [(one.value, one.source) for one in found.said] == [("7", "dock"), ("8", "filename")]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (said("device_no", "0000007a"), said("device_no", " 0000007A ")),
        (said("case_no", "渝执〔2026〕1号"), said("case_no", "渝执(2026)1号")),
        (said("sequence_no", "02"), said("sequence_no", "2")),
        (said("key_file", "true"), said("key_file", "1")),
        (said("ext", "mp4"), said("ext", "MP4x")),
        (said("location", "+30.2500+120.1600/"), said("location", "+30.2501+120.1601+012/")),
        (said("location", "somewhere"), said("location", "+30.2501+120.1601/")),
        (at("device_started_at", 0), at("gps_started_at", 2.9)),
        (at("captured_to", 0), at("captured_from", 3600)),
    ],
)
def test_what_means_the_same_is_no_conflict(one: Said, other: Said) -> None:
    assert conflicts_among([one, other]) == []


def test_times_under_several_names_are_compared_as_corrected() -> None:
    claims = [at("device_started_at", 0, "container"), at("gps_started_at", 3.1, "container")]
    (found,) = conflicts_among(claims)
    assert (found.subject, found.spread) == ("started", timedelta(seconds=3.1))
    moved = NOON + timedelta(seconds=3)
    corrected = [Said("device_started_at", claims[0].value, "container", "device", moved), claims[1]]
    assert conflicts_among(corrected) == []


def test_a_time_that_names_no_instant_is_compared_with_nothing() -> None:
    assert conflicts_among([Said("captured_from", "yesterday", "dock"), at("device_started_at", 0)]) == []


def test_places_apart_are_a_conflict_with_their_distance() -> None:
    (found,) = conflicts_among([said("location", "+30.25+120.16/"), said("location", "+30.26+120.16/")])
    assert found.apart_m is not None
    assert 1100 < found.apart_m < 1120
