"""A voice made unrecognisable for good: noise that swells and fades roughly as the talk did.

Raising or lowering a pitch is undone by lowering or raising it, so nothing of that kind is offered. Of each
eighth of a second only four numbers are kept: how loud it was in each of four wide bands, in steps of 6 dB.
Noise that is drawn anew each time, from the operating system's own entropy, is given these levels. Pitch,
formants, consonants and what channel it came from are not in these numbers, at most 160 bits a second, so
nobody can compute them back: what is heard is that somebody speaks, and when. Not what, and not who.

`Likeness` is how the check shows it from the files: neither the waveform nor the fine structure of the
spectrum of what is left follows the source by more than chance does.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from redaction.audio import SampleRange, Samples, replace_sound

CELLS_PER_SECOND = 8
BAND_EDGES_HZ = (100, 500, 1200, 2500, 5000)
STEP_DB = 6.0
LEVEL_LEAST_DB, LEVEL_MOST_DB = -60.0, -12.0

WINDOW_S = 1
LAG_S = 0.1
WAVE_MOST = 0.25
FINE_MOST = 0.3
MOST = 0.8
# Of a quieter source silence is made; anything else that is left is held against it like against any other.
SOURCE_LEAST = 1e-3
# Less than half a step of 16 bits is silence.
SILENCE_MOST = 1.5e-5
FRAMES_PER_SECOND = 100
FINE_BANDS = 24

Wave = NDArray[np.float64]


class Disguise:
    """Makes the noise for one stream, cell after cell."""

    def __init__(self, sample_rate_hz: int) -> None:
        self._rate = sample_rate_hz
        self._levels = np.zeros(len(BAND_EDGES_HZ) - 1)
        self._random = np.random.default_rng()

    def of(self, samples: Samples) -> NDArray[np.float32]:
        """Noise, ``(n,)``, as loud as one cell, ``(channels, n)``, was in each band."""
        count = samples.shape[1]
        frequencies = np.fft.rfftfreq(count, 1 / self._rate)
        # Of each channel: what is in opposite phase on two of them is nothing in their middle.
        power = np.mean(np.abs(np.fft.rfft(samples.astype(np.float64), axis=1)) ** 2, axis=0)
        noise = np.zeros(count)
        levels = np.zeros_like(self._levels)
        way = np.arange(1, count + 1) / count
        for band, (low, high) in enumerate(pairwise(BAND_EDGES_HZ)):
            inside = (frequencies >= low) & (frequencies < high)
            levels[band] = _stepped(np.sqrt(2 * np.sum(power[inside])) / count)
            drawn = np.zeros(power.size, np.complex128)
            drawn[inside] = self._random.normal(size=inside.sum()) + 1j * self._random.normal(
                size=inside.sum()
            )
            carrier = np.fft.irfft(drawn, count)
            loud = np.sqrt(np.mean(carrier**2))
            if loud > 0:
                noise += carrier / loud * (self._levels[band] * (1 - way) + levels[band] * way)
        self._levels = levels
        return np.clip(noise, -1.0, 1.0).astype(np.float32)


def _stepped(level: float) -> float:
    decibels = 20 * np.log10(max(level, 1e-9))
    if decibels < LEVEL_LEAST_DB:
        return 0.0
    return float(10 ** (min(LEVEL_MOST_DB, round(decibels / STEP_DB) * STEP_DB) / 20))


def replaced(
    blocks: Iterable[tuple[int, Samples]], ranges: Sequence[SampleRange], sample_rate_hz: int
) -> Iterator[tuple[int, Samples]]:
    """Sound with all ranges replaced, of whatever kind.

    Args:
        blocks: Number of the first sample and samples ``(channels, n)``, without gaps.
        ranges: What to replace. Where kinds overlap, silence wins over a tone, and a tone over a voice.
        sample_rate_hz: Of the samples.
    """
    if all(span.kind != "voice" for span in ranges):
        for first, samples in blocks:
            yield first, replace_sound(first, samples, ranges, sample_rate_hz)
        return
    disguise = Disguise(sample_rate_hz)
    for first, samples in _cells(blocks, sample_rate_hz // CELLS_PER_SECOND):
        end = first + samples.shape[1]
        is_touched = any(span.kind == "voice" and span.first < end and span.end > first for span in ranges)
        noise = disguise.of(samples) if is_touched else None
        yield first, replace_sound(first, samples, ranges, sample_rate_hz, noise)


def _cells(blocks: Iterable[tuple[int, Samples]], length: int) -> Iterator[tuple[int, Samples]]:
    """The same samples in pieces that begin at multiples of ``length``."""
    held: list[Samples] = []
    begins = 0
    for first, samples in blocks:
        at, end = first, first + samples.shape[1]
        while at < end:
            begins = begins if held else at
            part = samples[:, at - first : at - first + length - at % length]
            held.append(part)
            at += part.shape[1]
            if at % length == 0:
                yield begins, np.concatenate(held, axis=1)
                held = []
    if held:
        yield begins, np.concatenate(held, axis=1)


@dataclass(frozen=True)
class Likeness:
    """How much one stretch of sound follows another, each 0 to 1."""

    wave: float
    """Largest correlation of the waveforms, whichever is up to a tenth of a second late."""
    fine: float
    """Correlation of the spectra over time, once what the disguise keeps (cells and bands) is taken out."""

    share: float = 1.0
    """Of a whole window: in less, chance alone likens more."""

    @property
    def is_too_much(self) -> bool:
        wider = float(self.share**-0.5)
        return self.wave > min(MOST, WAVE_MOST * wider) or self.fine > min(MOST, FINE_MOST * wider)


def likeness(source: Wave, left: Wave, sample_rate_hz: int) -> Likeness:
    """Compare up to ``WINDOW_S`` of one channel with what stands there instead; silence is like nothing."""
    source, left = source - source.mean(), left - left.mean()
    share = min(1.0, source.size / (WINDOW_S * sample_rate_hz))
    power = float(np.sqrt((source**2).sum() * (left**2).sum()))
    is_silent = np.sqrt(np.mean(left**2)) < SILENCE_MOST
    if power == 0 or (is_silent and np.sqrt(np.mean(source**2)) < SOURCE_LEAST):
        return Likeness(0.0, 0.0)
    size = 2 * source.size
    across = np.fft.irfft(np.fft.rfft(source, size) * np.conj(np.fft.rfft(left, size)), size)
    lag = min(int(LAG_S * sample_rate_hz), source.size - 1)
    wave = float(np.abs(np.concatenate([across[: lag + 1], across[-lag:]])).max()) / power
    return Likeness(wave, _alike(_fine(source, sample_rate_hz), _fine(left, sample_rate_hz)), share)


def worst_likeness(source: Wave, left: Wave, sample_rate_hz: int) -> Likeness:
    """Compare each channel of a source, and their middle, with each of what stands there instead.

    Args:
        source: ``(channels, n)``.
        left: ``(channels, n)``; it may have other channels.
        sample_rate_hz: Of both.
    """
    compared = [likeness(one, other, sample_rate_hz) for one in _ways(source) for other in _ways(left)]
    return max(compared, key=lambda one: (one.is_too_much, max(one.wave / WAVE_MOST, one.fine / FINE_MOST)))


def _ways(sound: Wave) -> list[Wave]:
    """The middle of all channels, and each channel that is not the same as one before."""
    ways: list[Wave] = []
    for way in (sound.mean(axis=0), *sound):
        if not any(np.array_equal(way, earlier) for earlier in ways):
            ways.append(way)
    return ways


def _fine(wave: Wave, sample_rate_hz: int) -> Wave:
    """Levels of narrow bands in hundredths of a second, less the mean of each wide band in each cell."""
    length = sample_rate_hz // FRAMES_PER_SECOND
    per_cell = FRAMES_PER_SECOND // CELLS_PER_SECOND
    count = wave.size // length // per_cell * per_cell
    frames = wave[: count * length].reshape(count, length) * np.hanning(length)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    frequencies = np.fft.rfftfreq(length, 1 / sample_rate_hz)
    edges = np.geomspace(BAND_EDGES_HZ[0], min(BAND_EDGES_HZ[-1], sample_rate_hz / 2), FINE_BANDS + 1)
    bands = np.searchsorted(edges, frequencies, side="right") - 1
    # Where both are silent they are alike for no reason: what is far below the mean counts as equal.
    least = 1e-4 * power.mean() + 1e-12 if power.size else 1e-12
    levels: list[Wave] = []
    for low, high in pairwise(BAND_EDGES_HZ):
        inside = [band for band in range(FINE_BANDS) if low <= edges[band] < high and (bands == band).any()]
        if not inside:
            continue
        group = np.log(np.stack([power[:, bands == band].sum(axis=1) for band in inside], axis=1) + least)
        cells = group.reshape(-1, per_cell, group.shape[1])
        # What is left out: how loud the wide band is at each cell, how it changes there, and its usual tilt.
        slope = np.arange(per_cell) - (per_cell - 1) / 2
        rise = (cells.mean(axis=2) * slope).sum(axis=1) / (slope**2).sum()
        cells = cells - cells.mean(axis=(1, 2), keepdims=True) - (rise[:, None] * slope)[:, :, None]
        flat = cells.reshape(group.shape)
        levels.append((flat - flat.mean(axis=0)).ravel())
    return np.concatenate(levels) if levels else np.zeros(1)


def _alike(one: Wave, other: Wave) -> float:
    power = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return abs(float((one * other).sum())) / power if power else 0.0
