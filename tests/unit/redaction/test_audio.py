from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evidence.masks import Reason
from redaction.audio import GUARD_SAMPLES, SampleRange, replace_sound, sample_ranges, unbroken
from redaction.plan import MutedSpan, State

RATE = 48_000
LOUD = np.ones((2, 10_000), dtype=np.float32)


def span(from_us: int, to_us: int) -> MutedSpan:
    return MutedSpan("s", from_us, to_us, None, "silence", "account", "a", Reason.PRIVACY, State.ACCEPTED)


@given(st.integers(0, 10**9), st.integers(1, 10**7), st.sampled_from([8000, 22_050, 44_100, 48_000]))
def test_every_sample_that_a_span_touches_is_replaced(from_us: int, length_us: int, rate: int) -> None:
    (found,) = sample_ranges([span(from_us, from_us + length_us)], rate)
    assert Fraction(found.first, rate) <= Fraction(from_us, 10**6) < Fraction(found.first + 1, rate)
    assert Fraction(found.end - 1, rate) < Fraction(from_us + length_us, 10**6) <= Fraction(found.end, rate)


def test_spans_count_from_the_first_frame_shown() -> None:
    (found,) = sample_ranges([span(1_000_000, 2_000_000)], RATE, Fraction(2, 25))
    assert (found.first, found.end) == (RATE + 3840, 2 * RATE + 3840)


def test_silence_is_zeros_with_a_guard_on_both_sides_and_nothing_else_changes() -> None:
    muted = replace_sound(1000, LOUD, [SampleRange(5000, 6000, "silence")], RATE)
    first, end = 5000 - GUARD_SAMPLES - 1000, 6000 + GUARD_SAMPLES - 1000
    assert not muted[:, first:end].any()
    assert (muted[:, :first] == 1).all()
    assert (muted[:, end:] == 1).all()
    assert (LOUD == 1).all()


def test_tone_stands_in_the_span_and_silence_in_its_guard() -> None:
    muted = replace_sound(0, LOUD, [SampleRange(4000, 6000, "tone")], RATE)
    assert not muted[:, 4000 - GUARD_SAMPLES : 4000].any()
    assert 0.09 < np.abs(muted[:, 4000:6000]).max() <= 0.1


def test_silence_wins_over_a_tone() -> None:
    spans = [SampleRange(4000, 6000, "silence"), SampleRange(3000, 7000, "tone")]
    for order in (spans, spans[::-1]):
        muted = replace_sound(0, LOUD, order, RATE)
        assert not muted[:, 4000:6000].any()
        assert muted[:, 3000:4000].any()


def test_replacing_in_blocks_is_replacing_at_once() -> None:
    ranges = [SampleRange(1500, 5200, "tone"), SampleRange(2000, 2100, "silence")]
    at_once = replace_sound(0, LOUD, ranges, RATE)
    blocks = [replace_sound(at, LOUD[:, at : at + 1024], ranges, RATE) for at in range(0, 10_000, 1024)]
    assert (np.concatenate(blocks, axis=1) == at_once).all()


def test_gap_becomes_silence_and_overlap_is_cut() -> None:
    second = Fraction(1)
    block = np.ones((1, RATE), dtype=np.float32)
    parts = list(unbroken([(Fraction(0), block), (4 * second, block), (Fraction(9, 2), block)], RATE))
    firsts = [first for first, _ in parts]
    lengths = [samples.shape[1] for _, samples in parts]
    assert firsts == [sum(lengths[:number]) for number in range(len(lengths))]
    whole = np.concatenate([samples for _, samples in parts], axis=1)
    assert whole.shape[1] == 5.5 * RATE
    assert not whole[:, RATE : 4 * RATE].any()


def test_rounded_times_are_no_gap() -> None:
    block = np.ones((1, 1024), dtype=np.float32)
    times = [Fraction(round(number * 1024 / 48), 1000) for number in range(500)]
    whole = np.concatenate([samples for _, samples in unbroken([(at, block) for at in times], RATE)], axis=1)
    assert whole.shape[1] == 500 * 1024
