"""Find speech in the sound of a recording: decode, bring to 16 kHz, and give spans in media time.

Each channel is listened to by itself, and the middle of them all: what is in opposite phase on two channels
is nothing in their middle, and what is faint on each may be clear there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from media.decode import AudioReader, count_streams

RATE_HZ = 16_000
MICROSECONDS = 1_000_000
SPANS_MOST = 2_000
"""Spans of one stream; a plan holds 10 000 of all streams together."""


class SpeechDetector(Protocol):
    """Finds speech in a stream of sound; `tests/contract/test_speech.py` is its contract."""

    family: str
    model_digest: str
    """SHA-256 of the weights that listen, lowercase hex."""

    def listen(self, blocks: Iterable[NDArray[np.float32]]) -> list[tuple[int, int]]:
        """Find speech.

        Args:
            blocks: The sound in order, 16 kHz mono, ``(n,)``, float32, -1 to 1.

        Returns:
            Spans in samples from the first, half-open, ascending, apart from one another.
        """
        ...


def speech_spans(source: Path, origin_s: Fraction, listener: SpeechDetector) -> list[tuple[int, int, int]]:
    """Where somebody speaks in any stream.

    Args:
        source: A rendition.
        origin_s: What its own clock says at media time 0.
        listener: Who listens.

    Returns:
        Number of the stream, and microseconds of media time, half-open.
    """
    spans = []
    for number in range(count_streams(source).get("audio", 0)):
        with AudioReader(source, number) as reader:
            channels = range(reader.channels)
        found: list[tuple[int, int]] = []
        # A reader reads once; of one channel the middle is itself.
        for channel in (None, *(channels if len(channels) > 1 else ())):
            with AudioReader(source, number) as reader:
                sound = _At16k(reader, channel)
                found += listener.listen(sound.blocks())
        found = united(found)
        first_us = int((sound.first_s - origin_s) * MICROSECONDS)
        for low, high in joined(found, SPANS_MOST):
            # Outward to whole microseconds.
            begin = first_us + low * MICROSECONDS // RATE_HZ
            spans.append((number, begin, first_us - (-high * MICROSECONDS // RATE_HZ)))
    return spans


def united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans ascending and apart from one another, that cover what any of those given did."""
    apart: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if apart and low <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], high))
        else:
            apart.append((low, high))
    return apart


def joined(spans: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most so many spans, the shortest pauses muted with what stands around them."""
    if len(spans) <= most:
        return spans
    pauses = np.array([after[0] - before[1] for before, after in pairwise(spans)])
    # Those pauses stay that are among the ``most - 1`` longest.
    kept = np.sort(np.argsort(-pauses, kind="stable")[: most - 1])
    firsts = [0, *(kept + 1).tolist()]
    lasts = [*kept.tolist(), len(spans) - 1]
    return [(spans[first][0], spans[last][1]) for first, last in zip(firsts, lasts, strict=True)]


class _At16k:
    """One channel of a stream, or the middle of all, at 16 kHz.

    Gaps are filled with silence, so that counting samples tells time.

    Args:
        reader: The stream.
        channel: Which channel, from 0; None for the middle.
    """

    def __init__(self, reader: AudioReader, channel: int | None = None) -> None:
        self._reader = reader
        self._channel = channel
        self.first_s = Fraction(0)
        """When the first sample is heard, on the source's own clock; known once blocks are read."""

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        rate = self._reader.sample_rate_hz
        waiting: list[NDArray[np.float32]] = []
        length = 0
        for samples in self._mono():
            waiting.append(samples)
            length += len(samples)
            if length >= rate:
                together = np.concatenate(waiting)
                # Whole seconds, so that a block begins on a sample at both rates.
                whole = length // rate * rate
                yield _resampled(together[:whole], rate)
                waiting, length = [together[whole:]], length - whole
        if length:
            yield _resampled(np.concatenate(waiting), rate)

    def _mono(self) -> Iterator[NDArray[np.float32]]:
        rate = self._reader.sample_rate_hz
        heard: int | None = None
        for block in self._reader.blocks():
            at_s = block.pts * self._reader.time_base
            if heard is None:
                self.first_s, heard = at_s, 0
            gap = round((at_s - self.first_s) * rate) - heard
            while gap > 0:
                silence = min(gap, rate)
                yield np.zeros(silence, np.float32)
                heard, gap = heard + silence, gap - silence
            mono = self._one_of(block.samples)
            # What comes a second time, at a time already heard, is not heard again.
            mono = mono[min(len(mono), max(0, -gap)) :]
            heard += len(mono)
            yield mono

    def _one_of(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is listened to of ``(channels, n)``; a channel that is not there is silent."""
        heard: NDArray[np.float32]
        if self._channel is None:
            heard = samples.mean(axis=0, dtype=np.float32)
        elif self._channel < len(samples):
            heard = samples[self._channel]
        else:
            heard = np.zeros(samples.shape[1], np.float32)
        return heard


def _resampled(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Each sample the mean of the time it stands for: enough for telling speech, not for hearing it."""
    if rate_hz == RATE_HZ:
        return sound
    count = len(sound) * RATE_HZ // rate_hz
    summed = np.concatenate([np.zeros(1), np.cumsum(sound, dtype=np.float64)])
    edges = np.arange(count + 1) * (rate_hz / RATE_HZ)
    means = np.diff(np.interp(edges, np.arange(len(summed)), summed)) * (RATE_HZ / rate_hz)
    at_16k: NDArray[np.float32] = means.astype(np.float32)
    return at_16k
