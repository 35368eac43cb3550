from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from redaction.audio import GUARD_SAMPLES, SampleRange
from redaction.voice import CELLS_PER_SECOND, Disguise, likeness, replaced, worst_likeness

RATE = 16_000


def talk(seed: int, seconds: int = 3) -> NDArray[np.float32]:
    """Something like a voice: harmonics of a pitch that wanders, in syllables, with breath."""
    random = np.random.default_rng(seed)
    time = np.arange(RATE * seconds) / RATE
    pitch = (110 + 60 * seed) * (1 + 0.1 * np.sin(4.4 * time) + 0.05 * np.sin(19 * time))
    turns = 2 * np.pi * np.cumsum(pitch) / RATE
    tones = sum(np.sin(k * turns) / k * (1 + 0.8 * np.sin((3 + 2 * k) * time + k)) for k in range(1, 16))
    syllables = np.interp(time, np.arange(0, seconds + 0.2, 0.1), random.uniform(0, 1, 10 * seconds + 2) ** 2)
    return (0.1 * syllables * (tones + 0.3 * random.normal(size=time.size))).astype(np.float32)


def disguised(voice: NDArray[np.float32], *ranges: SampleRange) -> NDArray[np.float32]:
    both = np.stack([voice, voice])
    blocks = ((at, both[:, at : at + 1024]) for at in range(0, voice.size, 1024))
    parts = list(replaced(blocks, ranges, RATE))
    assert all(one[0] + one[1].shape[1] == two[0] for one, two in pairwise(parts))
    return np.concatenate([part for _, part in parts], axis=1)


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_left_of_a_voice_is_not_like_it_and_as_loud(seed: int) -> None:
    voice = talk(seed)
    made = disguised(voice, SampleRange(0, voice.size, "voice"))
    assert (made[0] == made[1]).all()
    for at in range(0, voice.size, RATE):
        source, left = (each[at : at + RATE].astype(np.float64) for each in (voice, made[0]))
        assert not likeness(source, left, RATE).is_too_much
        assert 0.2 < np.sqrt((left**2).mean() / (source**2).mean()) < 5
        assert likeness(source, left + 0.5 * source, RATE).is_too_much
        assert likeness(source, np.roll(source, 500), RATE).is_too_much


def test_noise_is_drawn_anew_and_holds_only_levels() -> None:
    cell = talk(1)[None, : RATE // CELLS_PER_SECOND]
    first, again = Disguise(RATE).of(cell), Disguise(RATE).of(cell)
    assert abs(np.corrcoef(first, again)[0, 1]) < 0.5
    # A cell that is turned around in time has the same levels: more than levels is not looked at.
    powers = [
        float(np.mean([np.square(Disguise(RATE).of(each)).mean() for _ in range(20)]))
        for each in (cell, cell[:, ::-1])
    ]
    assert powers[0] == pytest.approx(powers[1], rel=0.3)


def test_outside_of_the_span_nothing_changes_and_silence_wins() -> None:
    voice = talk(1)
    made = disguised(voice, SampleRange(8000, 30_000, "voice"), SampleRange(16_000, 17_000, "silence"))[0]
    assert (made[: 8000 - GUARD_SAMPLES] == voice[: 8000 - GUARD_SAMPLES]).all()
    assert (made[30_000 + GUARD_SAMPLES :] == voice[30_000 + GUARD_SAMPLES :]).all()
    assert not made[8000 - GUARD_SAMPLES : 8000].any()
    assert not made[16_000 - GUARD_SAMPLES : 17_000 + GUARD_SAMPLES].any()
    assert made[20_000:28_000].any()


def test_silence_stays_silence() -> None:
    nothing = np.zeros(RATE, np.float32)
    assert not disguised(nothing, SampleRange(0, RATE, "voice")).any()


def test_voice_in_opposite_phase_is_disguised_and_found_where_it_was_kept() -> None:
    voice = talk(1)[:RATE]
    both = np.stack([voice, -voice]).astype(np.float64)
    noise = Disguise(RATE).of(both[:, : RATE // CELLS_PER_SECOND].astype(np.float32))
    assert noise.any()
    made = np.stack([disguised(voice, SampleRange(0, voice.size, "voice"))[0]] * 2).astype(np.float64)
    assert not worst_likeness(both, made, RATE).is_too_much
    assert worst_likeness(both, both, RATE).is_too_much
    # One channel alone is enough, and so is what only the middle of two tells.
    assert worst_likeness(both, np.stack([made[0], both[0]]), RATE).is_too_much
    hum = np.random.default_rng(3).normal(size=RATE)
    hidden = np.stack([both[0] + hum, both[0] - hum])
    assert worst_likeness(hidden, made + both[0], RATE).is_too_much


def test_very_quiet_voice_that_was_kept_is_found_and_silence_in_its_place_is_none() -> None:
    quiet = talk(2)[:RATE].astype(np.float64)
    quiet *= 3e-4 / np.sqrt(np.mean(quiet**2))
    assert likeness(quiet, quiet, RATE).is_too_much
    assert not likeness(quiet, np.zeros(RATE), RATE).is_too_much
    assert not likeness(quiet, np.random.default_rng(1).normal(0, 1e-3, RATE), RATE).is_too_much
    assert not likeness(quiet, 0.01 * quiet, RATE).is_too_much
