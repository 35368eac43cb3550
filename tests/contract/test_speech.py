"""What a detector of speech promises (`redaction.listen.SpeechDetector`).

There is no speech in the repository or its samples: a voice is put together as vowels are, from a buzz with
formants, in syllables. What the network makes of people was measured outside (docs/design/redaction.md).
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from evidence.errors import InvalidInput
from redaction.detectors.speech import SAMPLE_RATE_HZ, Silero, SpeechParameters, spans_of
from tests.support.samples import models_dir
from tests.support.voice import voice

Sound = NDArray[np.float32]


@pytest.fixture(scope="module")
def silero() -> Silero:
    return Silero(models_dir())


@pytest.fixture(scope="module")
def sound() -> Sound:
    """Two seconds of noise, two of a voice, two of noise, with 16 kHz."""
    sound = np.random.default_rng(1).normal(0, 0.002, 6 * SAMPLE_RATE_HZ)
    sound[2 * SAMPLE_RATE_HZ : 4 * SAMPLE_RATE_HZ] += voice(2.0)
    return sound.astype(np.float32)


def test_says_who_it_is(silero: Silero) -> None:
    assert silero.finds == "voice"
    assert len(bytes.fromhex(silero.model_digest)) == 32


def test_a_voice_is_found_where_it_is(silero: Silero, sound: Sound) -> None:
    ((low, high),) = silero.listen([sound])
    assert 1.5 < low / SAMPLE_RATE_HZ < 2.2
    assert 3.8 < high / SAMPLE_RATE_HZ < 4.7


def test_how_the_sound_is_cut_into_blocks_does_not_matter(silero: Silero, sound: Sound) -> None:
    long = np.concatenate([sound] * 4)
    assert silero.listen(np.array_split(long, 97)) == silero.listen([long])


@pytest.mark.parametrize("kind", ["silence", "noise", "tone", "nothing"])
def test_what_is_no_voice_is_none(silero: Silero, kind: str) -> None:
    count = 3 * SAMPLE_RATE_HZ
    sounds = {
        "silence": np.zeros(count),
        "noise": np.random.default_rng(2).normal(0, 0.05, count),
        "tone": 0.3 * np.sin(np.arange(count) * 2 * np.pi * 440 / SAMPLE_RATE_HZ),
        "nothing": np.zeros(0),
    }
    assert silero.listen([sounds[kind].astype(np.float32)]) == []


def test_no_sound_at_all(silero: Silero) -> None:
    assert silero.listen([]) == []


@pytest.mark.parametrize("block", [np.zeros((2, 100), np.float32), np.zeros(100, np.float64)])
def test_what_is_no_sound_is_refused(silero: Silero, block: Sound) -> None:
    with pytest.raises(InvalidInput):
        silero.listen([block])


def test_spans_are_padded_joined_and_end_with_the_sound() -> None:
    likely = np.zeros(100, np.float32)
    likely[[20, 22, 60, 99]] = 0.9
    spans = spans_of(likely, 99 * 512 + 100, SpeechParameters(speech_gap_us=100_000, speech_pad_us=32_000))
    assert spans == [(19 * 512, 24 * 512), (59 * 512, 62 * 512), (98 * 512, 99 * 512 + 100)]
