"""Where speech is found in the sound of a rendition, whatever its channels."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from redaction.detectors.speech import Silero
from redaction.listen import speech_spans, united
from tests.integration.redaction_footage import make_sound
from tests.support.samples import models_dir
from tests.support.voice import voice

RATE_HZ = 16_000


@pytest.mark.parametrize("right", [1.0, -1.0, 0.0])
def test_voice_is_heard_whatever_its_phase_and_channel(tmp_path: Path, right: float) -> None:
    left = np.concatenate([np.zeros(RATE_HZ), voice(2.0, RATE_HZ)])
    both = np.stack([left, right * left], axis=1)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((2, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((both * 32767).astype("<i2").tobytes())
    make_sound(tmp_path / "a.mp4", f"amovie={tmp_path / 'a.wav'}", seconds=3)
    ((number, low_us, high_us),) = speech_spans(tmp_path / "a.mp4", Fraction(0), Silero(models_dir()))
    assert number == 0
    assert 400_000 < low_us < 1_200_000
    assert 2_800_000 < high_us < 3_300_000


def test_spans_of_several_channels_are_apart_and_cover_all() -> None:
    assert united([(5, 9), (20, 30), (8, 12), (12, 14), (22, 25)]) == [(5, 14), (20, 30)]
