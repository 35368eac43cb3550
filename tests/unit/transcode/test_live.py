"""What a list tells of a file that grows: never what may still change, nothing outside what may be shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.fmp4 import Fragment, FragmentIndex, Track
from tests.support.hls import read_media
from transcode.live import LIMIT_S, Window, live_runs, older_than_updates
from transcode.playlist import Segment, Stretch, write

ALL = [Window(0, None)]
TRACK = Track(1, "video", 1000, "avc1.64001F")


def index_of(steps: list[tuple[int, bool]], *, tail: dict[int, int] | None = None) -> FragmentIndex:
    """Fragments of so many milliseconds, each beginning with a keyframe or not, 100 bytes each."""
    fragments, start = [], 0
    for number, (length, is_key) in enumerate(steps):
        after = (tail or {}).get(number, 0)
        fragments.append(Fragment(50 + 100 * number, 100, start, length, 10, is_key, 0, after))
        start += length
    return FragmentIndex(50, (TRACK,), 0, tuple(fragments))


def groups(gop: int, count: int) -> list[tuple[int, bool]]:
    return [(400, number % gop == 0) for number in range(count)]


def segments(index: FragmentIndex, windows: list[Window] = ALL, *, is_whole: bool = False) -> list[Segment]:
    return [each for run in live_runs(index, windows, is_whole=is_whole) for each in run.segments]


def test_a_segment_begins_with_a_keyframe_where_one_comes_soon() -> None:
    found = segments(index_of(groups(5, 21)))
    assert [(each.start_pts, each.duration_pts, each.is_independent) for each in found] == [
        (0, 2000, True), (2000, 2000, True), (4000, 2000, True), (6000, 2000, True),
    ]  # fmt: skip


def test_far_keyframes_keep_nobody_waiting() -> None:
    found = segments(index_of(groups(25, 60)), is_whole=True)
    assert max(each.duration_pts for each in found) <= LIMIT_S * 1000
    assert {each.start_pts for each in found if each.is_independent} == {0, 10_000, 20_000}


@given(st.lists(st.tuples(st.integers(40, 900), st.booleans()), min_size=2, max_size=40), st.integers(1, 39))
def test_what_was_told_stays_as_it_was_told(steps: list[tuple[int, bool]], cut: int) -> None:
    steps[0] = (steps[0][0], True)
    whole = index_of(steps)
    # How long the last fragment is shown is a guess until another stands behind it.
    known = whole.fragments[: min(cut, len(steps))]
    guessed = (*known[:-1], known[-1]._replace(duration_pts=40))
    earlier = segments(replace(whole, fragments=guessed))
    assert segments(whole)[: len(earlier)] == earlier
    told = segments(whole, is_whole=True)
    assert sum(each.size_bytes for each in told) == 100 * len(steps)


def test_nothing_outside_the_windows_is_told() -> None:
    windows = [Window(1_000_000, 4_500_000), Window(9_000_000, None)]
    found = segments(index_of(groups(5, 40)), windows, is_whole=True)
    assert (found[0].start_pts, found[-1].end_pts) == (2000, 16_000)
    assert [each.end_pts for each in found if each.end_pts < 9000][-1] == 4400
    assert min(each.start_pts for each in found if each.start_pts > 4400) == 10_000
    # The end of a stretch is told once it is known that nothing more of it comes.
    assert segments(index_of(groups(5, 11)), windows[:1])[-1].end_pts == 4000
    assert segments(index_of(groups(5, 12)), windows[:1])[-1].end_pts == 4400


def test_a_loss_is_no_footage() -> None:
    steps = [(400, True), (5400, False), (400, True), (400, False), (400, True)]
    runs = live_runs(index_of(steps, tail={1: -5000}), ALL, is_whole=True)
    assert [(run.segments[0].start_pts, run.segments[-1].end_pts) for run in runs] == [(0, 800), (5800, 7000)]


@pytest.mark.parametrize("lengths", [(40, 3, 40), (90,), (12, 12), (3,), (60, 1)])
def test_an_update_leaves_out_what_is_old_and_joins_what_was_told(lengths: tuple[int, ...]) -> None:
    stretches = [
        Stretch(f"https://x/{number}", 50, run, datetime(2026, 3, 1, number, tzinfo=UTC), is_copied=True)
        for number, length in enumerate(lengths)
        for run in live_runs(index_of(groups(5, 5 * length)), ALL, is_whole=True)
    ]
    given: dict[str, Any] = {"limit_s": LIMIT_S, "is_open": True}
    full = read_media(write(stretches, **given, skipped=0))
    update = read_media(write(stretches, **given, skipped=older_than_updates(stretches)))
    known = full.pieces[update.skipped :]
    assert (len(full.pieces), update.skipped) == (sum(lengths), max(0, sum(lengths) - 12))
    assert [replace(each, dated_at=None) for each in update.pieces] == [
        replace(each, dated_at=None) for each in known
    ]
    # The first says its date anew, as far into its file as it lies.
    into = timedelta(microseconds=sum(each.duration_us for each in full.pieces[: update.skipped]))
    if len(lengths) == 1:
        assert update.pieces[0].dated_at == datetime(2026, 3, 1, tzinfo=UTC) + into
