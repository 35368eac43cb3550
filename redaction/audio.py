"""Sound that is taken out: spans of samples replaced, exactly, before anything is encoded again.

Nothing is attenuated: what was said is overwritten with zeros, or with a tone that depends on nothing in
the source. An AAC frame covers 2048 samples and shares them with its neighbours, so a span is widened by
that much on both sides: every coded frame that reaches into the span is then made of zeros alone, and the
span decodes to silence to the last bit instead of to the echo of what stands beside it.

Pure: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redaction.plan import MutedSpan

MICROSECONDS = 1_000_000
# One AAC window: two frames of 1024 samples.
GUARD_SAMPLES = 2048
TONE_HZ = 1000
TONE_LEVEL = 0.1
# Coded times are rounded to the stream's time base; less than this is no gap.
SLACK_S = Fraction(1, 50)

Samples = NDArray[np.float32]


class SampleRange(NamedTuple):
    """Samples to replace, half-open, counted from zero of the file's own clock."""

    first: int
    end: int
    kind: str


def sample_ranges(
    spans: Iterable[MutedSpan], sample_rate_hz: int, origin: Fraction = Fraction(0)
) -> list[SampleRange]:
    """The samples that spans name: every sample any part of which a span touches.

    Args:
        spans: Their times count from the first frame shown.
        sample_rate_hz: Of the sound.
        origin: Seconds on the file's own clock when that frame is shown.
    """
    return [
        SampleRange(
            floor((origin + Fraction(span.from_us, MICROSECONDS)) * sample_rate_hz),
            ceil((origin + Fraction(span.to_us, MICROSECONDS)) * sample_rate_hz),
            span.kind,
        )
        for span in spans
    ]


def replace_sound(
    first: int,
    samples: Samples,
    ranges: Sequence[SampleRange],
    sample_rate_hz: int,
    noise: NDArray[np.float32] | None = None,
) -> Samples:
    """Samples with all ranges and their guards overwritten.

    Args:
        first: Number of the first sample, counted from zero of the file's own clock.
        samples: ``(channels, n)``, float32.
        ranges: What to replace. Where kinds overlap, silence wins over a tone, and a tone over a voice.
        sample_rate_hz: Of the samples.
        noise: ``(n,)``, what stands for a voice in these samples (`redaction.voice`); silence without it.

    Returns:
        New samples of the same shape; the ones given are untouched.
    """
    replaced = samples.copy()
    end = first + samples.shape[1]

    def fill(kinds: set[str], guard: int, made: NDArray[np.float32] | None) -> None:
        for span in ranges:
            low, high = max(first, span.first - guard), min(end, span.end + guard)
            if span.kind in kinds and low < high:
                filled = fill_of(span.kind, low, high, sample_rate_hz) if guard == 0 else 0.0
                replaced[:, low - first : high - first] = (
                    filled if made is None else made[low - first : high - first]
                )

    fill({"voice"}, GUARD_SAMPLES, None)
    fill({"voice"}, 0, noise)
    # Also over a voice: what stands beside exact silence would be heard in it.
    fill({"silence", "tone"}, GUARD_SAMPLES, None)
    fill({"tone"}, 0, None)
    fill({"silence"}, 0, None)
    return replaced


def fill_of(kind: str, first: int, end: int, sample_rate_hz: int) -> Samples:
    """What stands in place of muted sound: zeros, or a tone whose phase is that of the file's clock."""
    if kind != "tone":
        return np.zeros(end - first, dtype=np.float32)
    turns = np.arange(first, end, dtype=np.float64) * TONE_HZ / sample_rate_hz
    return (TONE_LEVEL * np.sin(2 * np.pi * turns)).astype(np.float32)


def unbroken(
    blocks: Iterable[tuple[Fraction, Samples]], sample_rate_hz: int
) -> Iterator[tuple[int, Samples]]:
    """Blocks of sound without gaps or overlaps, so that counting samples is telling time.

    A gap in the source is filled with silence and an overlap is cut, each more than 20 ms; otherwise
    sound encoded again would slide against the picture.

    Args:
        blocks: Time of the first sample in seconds, and samples ``(channels, n)``.
        sample_rate_hz: Of the samples.

    Yields:
        Number of the first sample, counted from zero of the file's own clock, and samples.
    """
    slack = int(SLACK_S * sample_rate_hz)
    expected: int | None = None
    for at, samples in blocks:
        start = round(at * sample_rate_hz)
        if expected is None:
            expected = start
        while start - expected > slack:
            # In pieces of a second: a recorder that was off for an hour must not cost an hour of memory.
            length = min(start - expected, sample_rate_hz)
            yield expected, np.zeros((samples.shape[0], length), dtype=np.float32)
            expected += length
        overlap = expected - start if expected - start > slack else 0
        kept = samples[:, overlap:]
        if kept.shape[1]:
            yield expected, kept
            expected += kept.shape[1]
