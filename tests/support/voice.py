"""A voice that is nobody's: a buzz through the formants of vowels, in syllables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Formants of five vowels: centre and width in Hz (after Peterson and Barney, 1952, rounded).
VOWELS = (
    ((730, 90), (1090, 110), (2440, 170)),
    ((270, 60), (2290, 200), (3010, 300)),
    ((300, 60), (870, 100), (2240, 170)),
    ((530, 70), (1840, 150), (2480, 200)),
    ((570, 80), (840, 100), (2410, 170)),
)
SYLLABLE_S = 0.22


def voice(seconds: float, rate_hz: int = 16_000) -> NDArray[np.float64]:
    """Sound ``(n,)``, about -0.3 to 0.3, that a listener and a network take for somebody speaking."""
    count = round(seconds * rate_hz)
    now = np.arange(count) / rate_hz
    pitch = 120 + 25 * np.sin(2 * np.pi * 1.3 * now)
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    syllable = (now / SYLLABLE_S).astype(int)
    sound = np.zeros(count)
    for number in range(1, 28):
        height = pitch * number
        loud = np.zeros(count)
        for which, vowel in enumerate(VOWELS):
            shape = sum(1 / (1 + ((height - centre) / width) ** 2) for centre, width in vowel)
            loud += np.where(syllable % len(VOWELS) == which, shape, 0.0)
        sound += loud * np.sin(number * phase) / number**0.5
    within = now / SYLLABLE_S - syllable
    sound *= np.clip(np.minimum(within, 1 - within) * 6, 0, 1)
    return 0.3 * sound / np.abs(sound).max()
