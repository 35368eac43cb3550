"""What a person hid of a session: more than was asked for, never less."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.errors import InvalidInput
from evidence.masks import (
    MARGIN_US,
    Hides,
    Lasted,
    Mask,
    Reason,
    check_stretch,
    media_span,
    outside,
    outside_span,
    slack_us,
    without,
)

S = 1_000_000
M = MARGIN_US


def mask(from_s: float, to_s: float | None) -> Mask:
    to_us = None if to_s is None else int(to_s * S)
    return Mask("m", int(from_s * S), to_us, Hides.BOTH, Reason.MINOR, "account:x")


def test_what_is_masked_is_taken_out_of_what_may_be_watched_with_a_margin() -> None:
    assert without([(0, None)], []) == [(0, None)]
    assert without([(0, None)], [mask(10, 20)]) == [(0, 10 * S - M), (20 * S + M, None)]
    assert without([(0, None)], [mask(10, None)]) == [(0, 10 * S - M)]
    # Over a pause, from before the beginning, and one over the other.
    assert without([(0, 30 * S), (40 * S, 60 * S)], [mask(20, 50)]) == [(0, 20 * S - M), (50 * S + M, 60 * S)]
    assert without([(5 * S, 9 * S)], [mask(0, 100)]) == []
    moved = without([(0, None)], [mask(10, 20)], early_us=3 * S, late_us=2 * S)
    assert moved == [(0, 7 * S - M), (22 * S + M, None)]
    assert without([(0, 100 * S)], [mask(10, 30), mask(20, 40)]) == [(0, 10 * S - M), (40 * S + M, 100 * S)]


def test_a_mask_lies_in_a_file_wherever_it_may_lie() -> None:
    """Wall time 100 s to 160 s; what is shown of it lasts as long, or less where the source stood still."""
    file = (100 * S, 160 * S)
    assert media_span(mask(120, 130), *file, 60 * S) == (20 * S - M, 30 * S + M)
    # Ten seconds are missing somewhere, before or behind it.
    assert media_span(mask(120, 130), *file, 50 * S) == (10 * S - M, 30 * S + M)
    # A source whose clock runs fast.
    assert media_span(mask(120, 130), *file, 61 * S) == (20 * S - M, 31 * S + M)
    assert media_span(mask(50, 105), *file, 60 * S) == (0, 5 * S + M)
    assert media_span(mask(150, None), *file, 60 * S) == (50 * S - M, 60 * S)
    assert media_span(mask(150, 161), *file, 40 * S) == (30 * S - M, 40 * S)
    assert media_span(mask(162, None), *file, 60 * S) is None
    assert media_span(mask(90, 98), *file, 60 * S) is None
    # Its source stood still for up to nine seconds that were not told before it ended.
    assert media_span(mask(163, None), *file, 60 * S, 9 * S) == (54 * S - M, 60 * S)
    assert media_span(mask(120, 130), *file, 60 * S, 9 * S) == (11 * S - M, 30 * S + M)
    assert media_span(mask(171, None), *file, 60 * S, 9 * S) is None


def test_how_much_earlier_a_moment_may_lie_is_told_in_whole_seconds() -> None:
    """What is left out is less than the margin, so that what little changes changes nothing."""
    file = (100 * S, 160 * S)
    assert [slack_us(*file, 60 * S, each) for each in (0, S // 2 - 1, S // 2, 9 * S)] == [0, 0, S, 9 * S]
    assert [slack_us(*file, media, 2 * S) for media in (61 * S, 55 * S)] == [2 * S, 7 * S]


def test_a_stretch_to_hide_lies_in_its_session() -> None:
    began = datetime(2026, 3, 1, tzinfo=UTC)
    now = began + timedelta(minutes=10)
    early, later = began - timedelta(seconds=1), now + timedelta(seconds=1)
    assert check_stretch(None, None, began, None, now) == (now, None)
    assert check_stretch(began, now, began, None, now) == (began, now)
    # Of one that is over a mask without an end lasts until that.
    assert check_stretch(began, None, began, now, later) == (began, now)
    for wrong in ((early, None), (later, None), (now, began), (began, later), (began, began)):
        with pytest.raises(InvalidInput):
            check_stretch(*wrong, began, None, now)
    # From now on, of one that is over; by a clock set back since, too.
    for at in (later, now, began):
        with pytest.raises(InvalidInput):
            check_stretch(None, None, began, now, at)


def test_a_clock_that_was_set_widens_a_mask_by_as_much() -> None:
    """Set back by 60 s after the file began, pressed at its 100 s, ended at its 200 s."""
    stepped = replace(mask(40, 140), slack_us=60 * S)
    assert media_span(stepped, 0, 300 * S, 300 * S) == (0, 200 * S + M)
    assert media_span(replace(mask(290, 310), slack_us=60 * S), 0, 240 * S, 240 * S) == (230 * S - M, 240 * S)
    assert without([(0, 300 * S)], [stepped]) == [(200 * S + M, 300 * S)]


def test_what_of_a_file_is_of_no_session_is_what_lies_around_all_of_them() -> None:
    def lasted(name: str, from_s: float, to_s: float | None, slack_s: int = 0) -> Lasted:
        return Lasted(name, int(from_s * S), None if to_s is None else int(to_s * S), slack_s * S)

    file = (100 * S, 200 * S)
    assert outside(*file, [lasted("a", 190, None)]) == [("before:a", 100 * S, 190 * S)]
    assert outside(*file, [lasted("a", 50, 120)]) == [("after:a", 120 * S + M, 200 * S)]
    assert outside(*file, [lasted("a", 50, 199.5)]) == []
    both = [lasted("b", 150, 160), lasted("a", 50, 120)]
    between = [("before:b", 120 * S + M, 150 * S), ("after:b", 160 * S + M, 200 * S)]
    assert outside(*file, both) == between
    # Another of the room's sessions that the file has nothing of says nothing of it.
    assert outside(*file, [*both, lasted("c", 300, None)]) == between
    # By a clock that was set it may be of the session nevertheless; and so may a file that shares no moment.
    assert outside(*file, [lasted("a", 150, None, slack_s=20)]) == [("before:a", 100 * S, 130 * S)]
    assert outside(*file, [lasted("a", 300, None, slack_s=150)]) == []
    assert outside(*file, [lasted("a", 10, 20)]) == []


def test_what_is_of_no_session_is_hidden_wherever_it_may_lie() -> None:
    file = (100 * S, 200 * S)
    assert outside_span(100 * S, 190 * S, *file, 100 * S) == (0, 90 * S)
    assert outside_span(190 * S, 200 * S, *file, 95 * S) == (85 * S, 95 * S)
    # Five seconds are missing somewhere: all of what may be before the start.
    assert outside_span(100 * S, 190 * S, *file, 95 * S) == (0, 90 * S)
