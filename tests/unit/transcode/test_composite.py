"""Where panes stand, which piece gives which picture, and what stands where there is no footage."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from media.fmp4 import Fragment, FragmentIndex, Track
from transcode.composite import (
    FASTEST,
    LARGEST_PX,
    MOST_PANES,
    Footage,
    Layout,
    boxes_of,
    count_of,
    enough_for,
    heard_of,
    placeholder,
    rate_of,
    shown_of,
)
from transcode.mark import MarkLine

VIDEO = Track(1, "video", 1000, "avc1", 320, 180)
AUDIO = Track(2, "audio", 48_000, "mp4a")


def footage(
    key: str, pane: int, at_us: int, span_us: tuple[int, int], *, rate: int = 25, hole_ms: int = 0
) -> Footage:
    """Four seconds in fragments of one; the second ends early by a hole. The second pane has sound."""
    fragments = tuple(
        Fragment(n, 1, n * 1000, 1000, rate, True, tail_pts=-hole_ms if n == 1 else 0) for n in range(4)
    )
    tracks = (VIDEO, AUDIO) if pane else (VIDEO,)
    return Footage(key, pane, Path(key), FragmentIndex(0, tracks, 0, fragments), at_us, span_us)


@pytest.mark.parametrize("layout", ["side_by_side", "picture_in_picture"])
@pytest.mark.parametrize("count", range(1, MOST_PANES + 1))
def test_panes_are_even_lie_inside_and_insets_and_cells_do_not_meet(layout: Layout, count: int) -> None:
    (width, height), boxes = boxes_of(layout, [(2560, 1440), *[(0, 0)] * (count - 1)])
    assert width <= LARGEST_PX[0] and height <= LARGEST_PX[1]
    assert len(boxes) == count
    for left, top, wide, high in boxes:
        assert not any(edge % 2 for edge in (left, top, wide, high))
        assert 0 <= left <= left + wide <= width and 0 <= top <= top + high <= height
    small = boxes if layout == "side_by_side" else boxes[1:]
    for one, other in combinations(small, 2):
        apart_x = one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0]
        assert apart_x or one[1] + one[3] <= other[1] or other[1] + other[3] <= one[1]
    if layout == "picture_in_picture":
        assert boxes[0] == (0, 0, width, height)


@pytest.mark.parametrize(
    ("sizes", "pane", "wanted"),
    [
        ([(1920, 1080), (640, 360), (1280, 720)], (384, 216), 1),
        ([(1920, 1080), (640, 360), (1280, 720)], (960, 540), 2),
        ([(640, 360), (1920, 1080)], (1920, 1080), 1),
        ([(640, 360), (1280, 720)], (1920, 1080), 1),
        # 4:3 fills a pane of 16:9 by its height alone.
        ([(1440, 1080), (480, 360)], (640, 360), 1),
        ([(0, 0)], (640, 360), 0),
    ],
)
def test_a_pane_is_shown_from_the_smallest_rung_that_is_not_enlarged(
    sizes: list[tuple[int, int]], pane: tuple[int, int], wanted: int
) -> None:
    assert enough_for(sizes, (0, 0, *pane)) == wanted


def test_pictures_of_a_pane_are_of_one_piece_and_stop_at_a_hole() -> None:
    pieces = [
        footage("late", 0, 1_500_000, (0, 4_000_000)),
        footage("early", 0, -200_000, (0, 4_000_000), hole_ms=600),
        footage("other", 1, 0, (500_000, 600_000)),
        footage("before", 1, -5_000_000, (0, 4_000_000)),
    ]
    found = [(each.footage.key, each.first, each.end) for each in shown_of(pieces, 3_000_000, 10)]
    # The hole is from 1.2 to 1.8 s of the window; the late piece begins in it, and keeps what it has begun.
    assert found == [("early", 0, 12), ("other", 5, 6), ("late", 15, 30)]


def test_a_hole_shorter_than_a_blink_is_none() -> None:
    shown = shown_of([footage("a", 0, 0, (0, 4_000_000), hole_ms=90)], 4_000_000, 10)
    assert [(each.first, each.end) for each in shown] == [(0, 40)]


@pytest.mark.parametrize(
    ("rates", "wanted"), [((12, 25), 25), ((24, 20), 24), ((60, 25), FASTEST), ((1,), 1)]
)
def test_the_rate_is_the_fastest_source_s_and_bounded(rates: tuple[int, ...], wanted: int) -> None:
    assert rate_of([footage("a", 0, 0, (0, 4_000_000), rate=rate) for rate in rates]) == wanted


def test_a_clock_s_rounding_moves_no_picture() -> None:
    """Thirds of a second are no whole microseconds; the picture that begins there is shown there."""
    (shown,) = shown_of([footage("a", 0, 333_334, (0, 1_000_000), rate=3)], 1_000_000, 3)
    assert (shown.first, shown.end, count_of(1_000_000, 3), count_of(1_010_000, 3)) == (1, 3, 3, 4)


def test_the_first_source_with_sound_is_heard_unless_another_is_named() -> None:
    pieces = [footage("a", 0, 0, (0, 1)), footage("b", 1, 0, (0, 1)), footage("c", 2, 0, (0, 1))]
    assert [heard_of(pieces, wanted) for wanted in (None, 2, 0)] == [1, 2, None]


def test_without_a_chinese_font_a_placeholder_has_the_latin_name() -> None:
    box = (0, 0, 320, 180)
    chinese = placeholder(MarkLine("二号机", "source 2"), box, None)
    latin = placeholder(MarkLine("source 2", "-"), box, None)
    assert chinese.tobytes() == latin.tobytes()
    assert np.asarray(chinese).max() > 150
    assert np.asarray(placeholder(MarkLine("x" * 400, "x"), box, None))[:, :2].max() == 0
