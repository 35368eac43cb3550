"""Positions in telemetry and sentences: read where they are, never believed where they cannot be."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.geography import distance_m, read_point, write_point
from media import gpmf, nmea
from media.gps import MAX_POINTS, Point, Track, claims_of, geojson
from tests.support.telemetry import WALK_STARTED_AT, entry, gga, gps5, gps9, rmc, sentence, walk

STEPS = walk(4)


def test_an_older_cameras_packet_gives_each_place_and_the_time_of_the_first() -> None:
    found = gpmf.positions(gps5(STEPS, WALK_STARTED_AT))
    assert [(round(one.latitude, 6), round(one.longitude, 6), one.altitude_m) for one in found] == [
        (round(step.latitude, 6), round(step.longitude, 6), 12.5) for step in STEPS
    ]
    assert [one.utc for one in found] == [WALK_STARTED_AT, None, None, None]
    assert [one.share for one in found] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_a_newer_cameras_samples_have_each_its_own_time() -> None:
    found = gpmf.positions(gps9(STEPS, WALK_STARTED_AT))
    assert [one.utc.microsecond for one in found if one.utc] == [0, 100_000, 200_000, 300_000]
    assert found[0].utc == WALK_STARTED_AT


@pytest.mark.parametrize("packet", [gps5(STEPS, WALK_STARTED_AT, fix=0), gps9(STEPS, WALK_STARTED_AT, fix=0)])
def test_a_receiver_without_a_fix_gives_no_place(packet: bytes) -> None:
    assert gpmf.positions(packet) == []


def test_scales_of_nothing_divide_nothing() -> None:
    broken = gps5(STEPS, WALK_STARTED_AT).replace(struct.pack(">i", 10_000_000), bytes(4))
    assert gpmf.positions(broken) == []


def test_nesting_without_end_is_cut_off() -> None:
    inner = b""
    for _ in range(200):
        inner = entry("DEVC", "", 1, inner[:60_000])
    assert gpmf.positions(inner) == []


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_any_damage_to_a_packet_is_survived(at: int, noise: bytes) -> None:
    packet = bytearray(gps5(STEPS, WALK_STARTED_AT))
    packet[at : at + len(noise)] = noise
    for found in (gpmf.positions(bytes(packet)), gpmf.positions(bytes(packet)[: at + 1])):
        assert len(found) <= gpmf.MAX_SAMPLES


def test_sentences_are_read_with_time_and_height() -> None:
    text = f"{rmc(STEPS[1], WALK_STARTED_AT)}\r\n{gga(STEPS[1], WALK_STARTED_AT)}\r\n"
    first, second = nmea.sentences(text.encode())
    assert (round(first.latitude, 5), round(first.longitude, 5)) == (30.2501, 120.1602)
    assert (first.utc, second.altitude_m) == (WALK_STARTED_AT, 12.5)


@pytest.mark.parametrize(
    "text",
    [
        rmc(STEPS[0], WALK_STARTED_AT, valid=False),
        rmc(STEPS[0], WALK_STARTED_AT).replace("3015", "3016"),
        sentence("GNRMC,080005.00,A,9960.00000,N,12009.60000,E,0.1,90.0,010326,,,A"),
        sentence("GNRMC,080005.00,A,3015.00000,X,12009.60000,E,0.1,90.0,010326,,,A"),
        sentence("GNGGA,080005.00,3015.00000,N,12009.60000,E,0,09,0.9,12.5,M,7.1,M,,"),
        sentence("GNRMC,080005.00,A"),
        "$GNRMC," * 1000,
        "不是位置",
    ],
)
def test_a_sentence_that_does_not_hold_gives_no_place(text: str) -> None:
    assert nmea.sentences(text.encode()) == []


def test_south_and_west_are_below_zero() -> None:
    said = nmea.sentences(sentence("GPRMC,080005,A,3015.00000,S,12009.60000,W,,,010326,,").encode())
    assert (said[0].latitude, said[0].longitude) == (-30.25, -120.16)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_left(raw: bytes) -> None:
    nmea.sentences(raw)
    gpmf.positions(raw)
    read_point(raw.decode("latin-1"))


def point(number: int) -> Point:
    return Point(Fraction(number, 10), 30 + number / 1e6, 120.0, None, WALK_STARTED_AT, "gpmf")


def test_a_long_walk_is_thinned_and_keeps_its_last_place() -> None:
    track = Track()
    total = 2 * MAX_POINTS + 1001
    for start in range(0, total, 1000):
        track.add([point(number) for number in range(start, min(total, start + 1000))])
    assert track.stride == 2
    assert MAX_POINTS <= len(track.points) < 2 * MAX_POINTS
    assert track.points[1].at - track.points[0].at == track.points[-1].at - track.points[-2].at
    claims = {claim["field"]: claim for claim in claims_of(track, Fraction(0))}
    assert claims["location_last"]["value"] == write_point(30 + (total - 1) / 1e6, 120.0)
    assert claims["gps_started_at"] == {
        "field": "gps_started_at",
        "value": "2026-03-01T08:00:05.000000Z",
        "clock": "gps",
    }


def test_one_place_is_a_point_and_times_count_from_media_time_0() -> None:
    feature = geojson([point(20)], Fraction(1, 2))
    assert feature["geometry"] == {"type": "Point", "coordinates": [120.0, 30.00002]}
    assert feature["properties"] == {
        "media_us": [1_500_000],
        "coordTimes": ["2026-03-01T08:00:05.000000Z"],
        "clock": "gps",
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("+33.1268-117.3273/", (33.1268, -117.3273)),
        ("+30.2500+120.1600+012.5/", (30.25, 120.16)),
        ("-90.0+180.0CRSWGS_84/", (-90.0, 180.0)),
        ("+91.0+000.0/", None),
        ("30.25,120.16", None),
        ("", None),
    ],
)
def test_iso_6709_in_degrees_is_a_place(text: str, place: tuple[float, float] | None) -> None:
    assert read_point(text) == place


def test_a_place_reads_back_as_it_was_written() -> None:
    assert read_point(write_point(-0.000001, 179.999999)) == (-0.000001, 179.999999)
    assert 111_000 < distance_m((0, 0), (1, 0)) < 111_400


def test_a_time_on_no_calendar_is_none() -> None:
    stream = gps5(STEPS, datetime(2026, 3, 1, tzinfo=UTC)).replace(b"260301", b"269901")
    assert gpmf.positions(stream)[0].utc is None
