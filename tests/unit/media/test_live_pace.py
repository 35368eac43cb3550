"""Whether an encode keeps up."""

from __future__ import annotations

from media.live.pace import BEHIND_US, PATIENCE_US, Pace, Verdict

S = 1_000_000


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
