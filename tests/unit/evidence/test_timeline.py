"""A case over wall time: every instant is covered, in a gap, or outside; nothing is counted twice."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from evidence.timeline import US, Piece, Timeline, lay_out

START = datetime(2026, 3, 3, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def piece(number: int, lane: str, start: float, end: float, resolution_us: int = 0) -> Piece[int]:
    return Piece(number, lane, at(start), at(end), resolution_us)


PIECES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 20)), max_size=14).map(
    lambda rows: [piece(n, lane, start, start + length) for n, (lane, start, length) in enumerate(rows)]
)


def seconds(pieces: list[Piece[int]]) -> set[int]:
    """The whole seconds that pieces cover; edges of the examples are whole."""
    return {
        second
        for each in pieces
        for second in range(
            (each.starts_at - START) // timedelta(seconds=1), (each.ends_at - START) // timedelta(seconds=1)
        )
    }


def spanned(starts_at: datetime, ends_at: datetime) -> set[int]:
    return seconds([Piece(0, "", starts_at, ends_at)])


def test_nothing_at_all_is_an_empty_timeline() -> None:
    found: Timeline[int] = lay_out([])
    assert (found.lanes, found.gaps, found.together, found.covered_us) == ((), (), (), 0)
    assert found.starts_at is found.ends_at is None


def test_a_gap_of_one_source_may_be_filled_by_another() -> None:
    found = lay_out([piece(1, "a", 0, 10), piece(2, "a", 15, 20), piece(3, "b", 8, 30)])
    first, second = found.lanes
    (gap,) = first.gaps
    assert (gap.before, gap.after, gap.duration_us) == (1, 2, 5_000_000)
    assert second.gaps == ()
    assert found.gaps == ()
    assert [(each.starts_at, each.ends_at, each.lane_count) for each in found.together] == [
        (at(8), at(10), 2),
        (at(15), at(20), 2),
    ]


def test_a_piece_inside_another_overlaps_by_its_length_and_ends_nothing() -> None:
    found = lay_out([piece(1, "a", 0, 100), piece(2, "a", 20, 30), piece(3, "a", 100, 110)])
    (lane,) = found.lanes
    assert [(each.before, each.after, each.duration_us) for each in lane.overlaps] == [(1, 2, 10_000_000)]
    assert lane.gaps == ()
    assert lane.covered_us == 110_000_000


def test_what_a_clock_that_counts_seconds_could_make_seem_a_gap_is_not_certain() -> None:
    coarse = lay_out([piece(1, "a", 0, 10, 1_000_000), piece(2, "a", 10.9, 20)])
    fine = lay_out([piece(1, "a", 0, 10, 1000), piece(2, "a", 10.9, 20)])
    assert [gap.is_certain for lane in coarse.lanes for gap in lane.gaps] == [False]
    assert [gap.is_certain for lane in fine.lanes for gap in lane.gaps] == [True]


def test_an_instant_has_a_place_and_covers_nothing() -> None:
    found = lay_out([piece(1, "a", 0, 10), piece(2, "a", 12, 12), piece(3, "a", 15, 20)])
    (lane,) = found.lanes
    assert [each.id for each in lane.pieces] == [1, 2, 3]
    assert [(gap.before, gap.after) for gap in lane.gaps] == [(1, 3)]


@given(PIECES)
def test_every_second_of_a_lane_is_covered_or_in_a_gap_and_never_both(pieces: list[Piece[int]]) -> None:
    for lane in lay_out(pieces).lanes:
        own = [each for each in pieces if each.lane == lane.name]
        covered = seconds(own)
        gaps = [spanned(gap.starts_at, gap.ends_at) for gap in lane.gaps]
        assert lane.covered_us == len(covered) * 1_000_000
        assert sum(map(len, gaps)) == len(set().union(*gaps))
        assert not covered & set().union(*gaps)
        assert covered | set().union(*gaps) == (
            set(range(min(covered), max(covered) + 1)) if covered else set()
        )


@given(PIECES)
def test_over_all_lanes_the_same_holds_and_side_by_side_is_counted_by_lane(pieces: list[Piece[int]]) -> None:
    found = lay_out(pieces)
    covered = seconds(pieces)
    assert found.covered_us == len(covered) * 1_000_000
    gaps = set().union(*(spanned(gap.starts_at, gap.ends_at) for gap in found.gaps))
    assert covered | gaps == (set(range(min(covered), max(covered) + 1)) if covered else set())
    assert not covered & gaps
    by_lane = [seconds([each for each in pieces if each.lane == lane]) for lane in "abc"]
    expected = {second: sum(second in lane for lane in by_lane) for second in covered}
    told = {
        second: stretch.lane_count
        for stretch in found.together
        for second in spanned(stretch.starts_at, stretch.ends_at)
    }
    assert told == {second: count for second, count in expected.items() if count > 1}


@given(PIECES, st.randoms(use_true_random=False))
def test_the_order_they_come_in_makes_no_difference(pieces: list[Piece[int]], chance: random.Random) -> None:
    shuffled = list(pieces)
    chance.shuffle(shuffled)
    assert lay_out(shuffled) == lay_out(pieces)


@given(PIECES)
def test_an_overlap_is_time_that_two_pieces_of_the_lane_cover(pieces: list[Piece[int]]) -> None:
    by_id = {each.id: each for each in pieces}
    for lane in lay_out(pieces).lanes:
        doubled = 0
        for overlap in lane.overlaps:
            for name in (overlap.before, overlap.after):
                assert by_id[name].starts_at <= overlap.starts_at < overlap.ends_at <= by_id[name].ends_at
            doubled += overlap.duration_us
        lengths = sum((each.ends_at - each.starts_at) // US for each in lane.pieces)
        assert lengths == lane.covered_us + doubled
