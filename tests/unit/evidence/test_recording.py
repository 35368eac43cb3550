"""One press of the button: which files it made, in which order, and what lies between them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import permutations

import pytest

from evidence.recording import (
    Part,
    chains,
    in_order,
    joints,
    missing_numbers,
    resolution_of,
    timecode_us,
)

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
LIMIT = timedelta(seconds=2)
FRAME = Fraction(1, 25)


def part(name: str, start_s: float, length_s: float = 60, **more: object) -> Part[str]:
    given = {"frame": FRAME, **more}
    return Part(name, START + timedelta(seconds=start_s), round(length_s * 1_000_000), **given)  # type: ignore[arg-type]


def names(found: list[list[Part[str]]]) -> list[list[str]]:
    return [[one.id for one in chain] for chain in found]


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_order_of_arrival_makes_no_difference(order: tuple[str, ...]) -> None:
    parts = {"a": part("a", 0), "b": part("b", 60.04), "c": part("c", 119.5)}
    assert names(chains([parts[name] for name in order], LIMIT)) == [["a", "b", "c"]]


@pytest.mark.parametrize(("gap_s", "together"), [(2.0, True), (2.000001, False), (-2.0, True), (-2.1, False)])
def test_the_limit_counts_gap_and_overlap_alike(gap_s: float, together: bool) -> None:
    assert (len(chains([part("a", 0), part("b", 60 + gap_s)], LIMIT)) == 1) is together


def test_streams_of_another_shape_are_recordings_of_their_own() -> None:
    parts = [
        part("a", 0, shape=(1,)),
        part("x", 0, shape=(2,)),
        part("b", 60, shape=(1,)),
        part("y", 60, shape=(2,)),
    ]
    assert names(chains(parts, LIMIT)) == [["a", "b"], ["x", "y"]]


def test_streams_of_one_shape_side_by_side_do_not_become_one() -> None:
    parts = [part("a", 0), part("x", 0), part("b", 60), part("y", 60)]
    assert sorted(map(len, chains(parts, LIMIT))) == [2, 2]


def test_gaps_and_overlaps_are_told_in_microseconds_and_frames() -> None:
    first, second = joints([part("a", 0), part("b", 60.04), part("c", 119.04)])
    assert (first.gap_us, first.gap_frames) == (40_000, 1)
    assert (second.gap_us, second.gap_frames) == (-1_000_000, -25)


def test_a_gap_below_the_clocks_step_is_not_certain() -> None:
    (rough,) = joints([part("a", 0), part("b", 60.5)])
    (fine,) = joints([part("a", 0, resolution_us=1000), part("b", 60.5, resolution_us=1000)])
    assert (rough.resolution_us, rough.is_certain) == (1_000_000, False)
    assert (fine.resolution_us, fine.is_certain) == (1000, True)


def test_time_codes_count_the_frames_that_seconds_cannot() -> None:
    parts = [part("a", 0, timecode="08:00:00:00"), part("b", 60, timecode="08:01:00:03")]
    (found,) = joints(parts)
    assert (found.clock, found.gap_us, found.gap_frames) == ("timecode", 120_000, 3)
    assert (found.resolution_us, found.is_certain) == (40_000, True)


@pytest.mark.parametrize("code", ["08:00:00:00", "09:00:00:00", "nonsense", "08:01:00:25"])
def test_a_time_code_that_does_not_count_is_not_believed(code: str) -> None:
    (found,) = joints([part("a", 0, timecode="08:00:00:00"), part("b", 60, timecode=code)])
    assert (found.clock, found.gap_us) == ("device", 0)


def test_a_time_code_starts_again_at_midnight() -> None:
    parts = [part("a", 0, timecode="23:59:30:00"), part("b", 60, timecode="00:00:30:01")]
    assert joints(parts)[0].gap_us == 40_000


def test_nothing_is_measured_where_each_file_has_the_start_of_all() -> None:
    assert joints([part("a", 0), part("b", 0)]) == []


def test_numbers_order_files_and_the_first_may_have_none() -> None:
    parts = [part("c", 0, sequence_no=2), part("a", 0), part("b", 0, sequence_no=1)]
    assert [one.id for one in in_order(parts, by_number=True)] == ["a", "b", "c"]
    assert [one.id for one in in_order(parts, by_number=False)] == ["a", "b", "c"]
    later = [part("z", 60, sequence_no=1), part("y", 0, sequence_no=9999)]
    assert [one.id for one in in_order(later, by_number=False)] == ["y", "z"]


def test_missing_numbers_are_those_between() -> None:
    assert missing_numbers([5, 2, None, 3]) == [4]
    assert missing_numbers([None]) == missing_numbers([]) == []
    assert len(missing_numbers([1, 999_999])) == 1000


@pytest.mark.parametrize(
    ("text", "step_us"),
    [
        ("2026-03-01T08:00:00.000000Z", 1_000_000),
        ("2026-03-01T08:00:00.120000Z", 10_000),
        ("2026-03-01T08:00:00.123456789Z", 1),
        ("2026-03-01T08:00:00+08:00", 1_000_000),
        ("", 1_000_000),
    ],
)
def test_a_written_time_is_as_exact_as_its_digits(text: str, step_us: int) -> None:
    assert resolution_of(text) == step_us


def test_drop_frame_codes_keep_up_with_the_clock() -> None:
    ntsc = Fraction(1001, 30_000)
    an_hour = timecode_us("01:00:00;00", ntsc)
    assert an_hour is not None
    assert abs(an_hour - 3_600_000_000) < 4000
    assert timecode_us("01:00:00:00", ntsc) == 108_000 * 1_001_000 // 30
    assert timecode_us("00:00:00:30", ntsc) is None
