"""Whether an encode keeps up."""

from __future__ import annotations

from media.live.pace import (
    BEHIND_US,
    CLIMB_MOST_US,
    CLIMB_US,
    PATIENCE_US,
    SPARE_US,
    Pace,
    Verdict,
)
from media.live.shown_file import rungs_beside

S = 1_000_000
EASY, BUSY, SWAMPED = "easy", "busy", "swamped"


class Host:
    """A host on which pictures of a second each are encoded, with as much time to spare as it has."""

    def __init__(self, pace: Pace) -> None:
        self.pace, self.now_us, self.media_us = pace, 100 * S, 7 * S
        pace.begin(self.now_us, self.media_us)
        self.encode(1)

    def encode(self, seconds: int, how: str = EASY, source_px: int = 1080) -> list[tuple[int, Verdict, int]]:
        """What was changed: after how many seconds, how, and to which rung; a host is swamped until then."""
        changed: list[tuple[int, Verdict, int]] = []
        for second in range(1, seconds + 1):
            self.media_us += S
            self.now_us += 2 * S if how == SWAMPED else S
            verdict = self.pace.judge(
                self.now_us, self.media_us, *rungs_beside(source_px, self.pace.rung), is_caught_up=how == EASY
            )
            if verdict is not Verdict.KEEP:
                changed.append((second, verdict, self.pace.rung))
                if how == SWAMPED:
                    break
        return changed


def test_an_encode_that_falls_behind_gets_smaller_and_then_leaves_out() -> None:
    pace = Pace()
    pace.begin(100 * S, 7 * S)
    assert pace.judge(100 * S, 5 * S, [1, 2], is_caught_up=False) is Verdict.KEEP
    assert pace.judge(100 * S + PATIENCE_US, 7 * S + PATIENCE_US, [1, 2], is_caught_up=False) is Verdict.KEEP
    late, shown = 110 * S, 17 * S - BEHIND_US - 1
    assert pace.behind_us(late, shown) == BEHIND_US + 1
    assert (pace.judge(late, shown, [1, 2], is_caught_up=False), pace.rung) == (Verdict.LOWER, 1)
    # It is given time, and then judged again.
    assert pace.judge(late + PATIENCE_US - 1, shown, [2], is_caught_up=False) is Verdict.KEEP
    assert (pace.judge(late + PATIENCE_US, shown, [2], is_caught_up=False), pace.rung) == (Verdict.LOWER, 2)
    assert (pace.judge(late + 2 * PATIENCE_US, shown, [], is_caught_up=False), pace.rung) == (Verdict.SKIP, 2)


def test_a_source_that_was_silent_is_not_an_encode_that_is_slow() -> None:
    pace = Pace()
    pace.begin(100 * S, 0)
    # A minute without a picture; the first one after it is all there is.
    assert pace.judge(160 * S, S, [1], is_caught_up=True) is Verdict.KEEP
    assert pace.judge(161 * S, 2 * S, [1], is_caught_up=False) is Verdict.KEEP
    assert pace.behind_us(161 * S, 2 * S) == 0


def test_a_picture_becomes_larger_again_once_there_was_time_to_spare_for_a_while() -> None:
    host = Host(Pace(rung=2))
    climb = CLIMB_US // S
    # From rung to rung, each after a minute of its own; never larger than the source is.
    assert host.encode(3 * climb + 60) == [(climb, Verdict.RAISE, 1), (2 * climb, Verdict.RAISE, 0)]
    assert Host(Pace(rung=2)).encode(3 * climb, source_px=400) == [(climb, Verdict.RAISE, 0)]


def test_an_encode_that_only_just_keeps_up_is_asked_for_no_more() -> None:
    host = Host(Pace(rung=1))
    assert host.encode(4 * CLIMB_US // S, BUSY) == []
    # A minute that was broken into is none.
    assert host.encode(CLIMB_US // S - 10) == []
    assert host.encode(1 + SPARE_US // S, BUSY) == [] and host.encode(CLIMB_US // S - 10) == []
    assert host.encode(20) == [(10, Verdict.RAISE, 0)]


def test_where_a_larger_picture_was_too_much_it_is_tried_ever_later() -> None:
    host, waited = Host(Pace(rung=1)), []
    for _ in range(8):
        ((seconds, verdict, rung),) = host.encode(host.pace.climb_us // S)
        assert (verdict, rung) == (Verdict.RAISE, 0)
        waited.append(seconds)
        ((seconds, verdict, rung),) = host.encode(30, SWAMPED)
        assert (verdict, rung) == (Verdict.LOWER, 1) and seconds < 6
    minute, most = CLIMB_US // S, CLIMB_MOST_US // S
    assert waited == [min(minute * 2**number, most) for number in range(8)]
    # One that lasts as long as was waited for it makes the next wait a minute again.
    assert host.encode(2 * most) == [(most, Verdict.RAISE, 0)]
    assert host.pace.climb_us == CLIMB_US


def test_time_in_which_nothing_came_says_nothing_of_what_the_host_has_to_spare() -> None:
    pace = Pace(rung=1)
    pace.begin(0, 0)
    for hour in range(1, 50):
        moment_us = hour * 3600 * S
        assert pace.judge(moment_us, moment_us, [2], 0, is_caught_up=True) is Verdict.KEEP


def test_the_clock_of_the_next_file_says_nothing_of_how_far_behind_an_encode_is() -> None:
    pace = Pace()
    pace.begin(100 * S, 300 * S)
    assert pace.judge(110 * S, 310 * S - BEHIND_US // 2, [1], is_caught_up=False) is Verdict.KEEP
    pace.follow(0)
    assert pace.behind_us(110 * S, 0) == BEHIND_US // 2
    assert pace.judge(111 * S, 1 * S, [1], is_caught_up=False) is Verdict.KEEP
    assert pace.judge(113 * S, 1 * S, [1], is_caught_up=False) is Verdict.LOWER


def test_rungs_are_those_that_change_what_is_seen() -> None:
    assert rungs_beside(1080, 0) == ([1, 2], None)
    assert rungs_beside(1080, 2) == ([], 1)
    assert rungs_beside(400, 0) == ([2], None)
    assert rungs_beside(400, 2) == ([], 0)
    assert rungs_beside(300, 0) == ([], None)
