"""The same position in every source is the same instant, whatever is missing where."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import NotFound
from media.fmp4 import Fragment, FragmentIndex, Track
from tests.support.hls import read_media
from transcode.playlist import Part, Span
from transcode.synchrony import Aligned, align

START = datetime(2026, 3, 3, 8, 0, tzinfo=UTC)
VIDEO = Track(1, "video", 12800, "avc1.64001F", 640, 360)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def part(
    begins_s: float, length_s: int, url: str = "a.mp4", *, keys: int = 1, span: Span | None = None
) -> Part:
    """Footage of one-second fragments, each `keys`-th with a keyframe."""
    fragments = tuple(
        Fragment(1000 + 100 * n, 100, n * 12800, 12800, 25, n % keys == 0, 0, 0, 40 if n % keys == 0 else 0)
        for n in range(length_s)
    )
    return Part(FragmentIndex(1000, (VIDEO,), 0, fragments), url, span, span is not None, at(begins_s))


def heard_on(shown: Part) -> Part:
    """The same, with sound that goes on for 80 ms after its last picture."""
    *others, final = shown.index.fragments
    return replace(shown, index=replace(shown.index, fragments=(*others, final._replace(tail_pts=1024))))


def test_a_list_is_as_long_as_what_is_heard_after_the_last_picture() -> None:
    before, last = (heard_on(part(begins_s, 4, f"{begins_s}.mp4")) for begins_s in (0, 4))
    found = align([before, last], (at(0), at(9)))
    # Of the last file alone: what follows another begins where its pictures end.
    assert [(each.from_us, each.to_us) for each in found.map] == [(0, 4_000_000), (4_000_000, 8_080_000)]
    pieces = read_media(found.playlist()).pieces
    assert sum(piece.duration_us for piece in pieces) == found.shown_us == 8_080_000
    # Where the window ends earlier the list does not reach so far.
    assert align([before, last], (at(0), at(6.5))).shown_us == 7_000_000


def instants(found: Aligned, window: datetime) -> list[tuple[str, int, int]]:
    """For each segment: its file, when the map says it shows, and when its own date says it does."""
    rows, position, dated = [], 0, 0
    for piece in read_media(found.playlist()).pieces:
        if piece.dated_at is not None:
            dated = (piece.dated_at - window) // timedelta(microseconds=1)
        begun = [each for each in found.map if each.position_us <= position]
        place = max(begun, key=lambda each: each.position_us)
        rows.append((piece.url, place.from_us + position - place.position_us, dated))
        dated += piece.duration_us
        position += piece.duration_us
    return rows


def test_a_window_inside_footage_begins_with_the_fragment_that_holds_it() -> None:
    found = align([part(0, 20)], (at(5.25), at(9)))
    assert found.seek_us == 250_000
    pieces = read_media(found.playlist()).pieces
    assert (pieces[0].first, pieces[0].dated_at) == (1500, at(5))
    assert sum(piece.duration_us for piece in pieces) == 4_000_000


def test_the_beginning_goes_back_to_a_keyframe_and_no_further_than_may_be_seen() -> None:
    assert align([part(0, 20, keys=4)], (at(6), at(9))).seek_us == 2_000_000
    limited = align([part(0, 20, keys=4, span=Span(5000, 20_000))], (at(6), at(12)))
    assert limited.seek_us == 0
    assert limited.map[0].from_us == 2_000_000


def test_time_without_footage_stands_in_the_map_and_takes_none_of_the_playlist() -> None:
    found = align([part(30.5, 4, "b.mp4"), part(0, 4)], (at(-3), at(60)))
    assert [(each.from_us, each.to_us, each.position_us) for each in found.map] == [
        (3_000_000, 7_000_000, 0),
        (33_500_000, 37_500_000, 4_000_000),
    ]
    assert found.seek_us == 0
    assert found.shown_us == read_media(found.playlist()).length_us == 8_000_000
    assert [url for url, _, _ in instants(found, at(-3))] == ["a.mp4", "a.mp4", "b.mp4", "b.mp4"]


def test_of_two_that_show_one_instant_the_earlier_keeps_it() -> None:
    found = align([part(6, 10, "late.mp4", keys=2), part(0, 9, "early.mp4")], (at(0), at(20)))
    rows = instants(found, at(0))
    assert [url for url, _, _ in rows] == ["early.mp4"] * 5 + ["late.mp4"] * 3
    assert rows[5][1] == 10_000_000
    assert found.part_numbers == {0, 1}
    inside = align([part(0, 9, "early.mp4"), part(2, 3, "inside.mp4")], (at(0), at(20)))
    assert inside.part_numbers == {0}


def test_files_that_overlap_by_less_than_clocks_say_are_both_shown_whole() -> None:
    found = align([part(0, 4), part(3.99, 4, "b.mp4")], (at(0), at(8)))
    assert [(each.from_us, each.to_us, each.position_us) for each in found.map] == [
        (0, 3_990_000, 0),
        (3_990_000, 7_990_000, 4_000_000),
    ]


def test_a_file_whose_last_moments_the_next_one_shows_too_is_not_in_a_window_that_begins_there() -> None:
    found = align([part(-3.99, 4), part(-0.005, 4, "b.mp4")], (at(0), at(8)))
    assert [(each.from_us, each.to_us, each.position_us) for each in found.map] == [(-5000, 3_995_000, 0)]
    assert found.part_numbers == {1}
    assert {piece.url for piece in read_media(found.playlist()).pieces} == {"b.mp4"}


def test_a_window_without_footage_is_refused_and_what_has_no_start_is_left_out() -> None:
    nowhere = Part(part(0, 4).index, "x.mp4")
    with pytest.raises(NotFound):
        align([part(0, 4), nowhere], (at(100), at(200))).playlist()


@given(
    sources=st.lists(
        st.lists(st.tuples(st.integers(-20_000, 60_000), st.integers(1, 20)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    ),
    begins_ms=st.integers(-5000, 30_000),
    keys=st.integers(1, 4),
)
def test_the_map_and_the_dates_name_one_instant_and_none_twice(
    sources: list[list[tuple[int, int]]], begins_ms: int, keys: int
) -> None:
    window = (at(begins_ms / 1000), at(begins_ms / 1000 + 30))
    for source in sources:
        parts = [
            part(begins / 1000, length, f"{number}.mp4", keys=keys)
            for number, (begins, length) in enumerate(source)
        ]
        found = align(parts, window)
        if not found.map:
            continue
        rows = instants(found, window[0])
        assert all(mapped == dated for _, mapped, dated in rows)
        assert all(one.to_us <= two.from_us for one, two in pairwise(found.map))
        assert found.seek_us >= 0
        length_us = (window[1] - window[0]) // timedelta(microseconds=1)
        assert all(each.from_us < length_us and each.to_us > 0 for each in found.map)
