"""Prove of sound that was coded again that nothing but what is heard was taken over.

A packet of AAC is a row of elements, of which a decoder plays some and drops others: a recorder may keep
its place or its name in fill or data stream elements. Sound that we did not code ourselves is therefore
decoded and coded again. Here both files are in hand, and the renderer is not asked: each packet begins with
what is heard, packets of the source are not found again, and second by second it is as loud as the source.

Source: ISO/IEC 14496-3, 4.4.2.1 for the kinds of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from media.decode import AudioReader
from redaction.audio import unbroken
from redaction.findings import Report

# A single channel, a pair of channels, one of low frequencies; all others say nothing that is heard.
HEARD_ELEMENTS = {0, 1, 3}
# Silence has one coding, and two coders write it alike.
SILENT_PACKET_BYTES = 32
CARRIED_SHARE = 0.5
# Coders cut high sounds off in their own way, so the mean of so many samples is compared.
SAMPLES_JOINED = 4
SILENT_LEVEL = 1e-3
LOUDNESS_MOST = 1.6
# Of a second there must be so much to be compared; so much may be missing at the ends.
SECOND_LEAST = 0.1
PACKETS_A_WORD = 1000


def check_coded_anew(
    source: Path, output: Path, number: int, report: Report, alive: Callable[[], None] = lambda: None
) -> None:
    """Note packets that begin with an element nobody hears, and those taken over from the source.

    A steady sound may be coded alike twice; a stream that was copied is so in all packets.

    Args:
        alive: Heard again and again: hours of sound take minutes.
    """
    known = set()
    with AudioReader(source, number) as original:
        for at, packet in enumerate(original.packets()):
            known.add(sha256(packet.data).digest())
            if at % PACKETS_A_WORD == 0:
                alive()
    carried = count = 0
    with AudioReader(output, number) as reader:
        for at, packet in enumerate(reader.packets()):
            if at % PACKETS_A_WORD == 0:
                alive()
            element = packet.data[0] >> 5
            if element not in HEARD_ELEMENTS:
                report.add("sound_carried", stream=number, pts=packet.pts, element=element)
            if len(packet.data) > SILENT_PACKET_BYTES:
                count += 1
                carried += sha256(packet.data).digest() in known
    if carried > count * CARRIED_SHARE:
        report.add("sound_carried", stream=number, packets=carried)


def check_heard(
    source: Path, output: Path, number: int, report: Report, alive: Callable[[], None] = lambda: None
) -> None:
    """Note each second of sound that was to be kept and is louder or softer than the source's.

    Args:
        alive: Heard again and again.
    """
    with AudioReader(source, number) as original, AudioReader(output, number) as reader:
        if (original.sample_rate_hz, original.channels) != (reader.sample_rate_hz, reader.channels):
            report.add("sound_differs", stream=number, found=[reader.sample_rate_hz, reader.channels])
            return
        before, after = dict(_levels(original, alive)), dict(_levels(reader, alive))
        least = original.channels * original.sample_rate_hz / SAMPLES_JOINED * SECOND_LEAST
    nothing = Loudness(0.0, 0)
    for second in sorted(before.keys() | after.keys()):
        one, other = before.get(second, nothing), after.get(second, nothing)
        if min(one.length, other.length) < least:
            is_alike = abs(one.length - other.length) < least
        else:
            louder = max(other.level, SILENT_LEVEL) / max(one.level, SILENT_LEVEL)
            is_alike = 1 / LOUDNESS_MOST <= louder <= LOUDNESS_MOST
        if not is_alike:
            report.add("sound_differs", stream=number, at_us=second * 1_000_000)


class Loudness(NamedTuple):
    """How loud the low sounds of a second are, over all channels."""

    level: float
    """Root mean square."""
    length: int
    """How many joined samples there are in all channels."""


def _levels(reader: AudioReader, alive: Callable[[], None]) -> Iterator[tuple[int, Loudness]]:
    """Each second of the file's own clock."""
    rate = reader.sample_rate_hz
    blocks = ((block.pts * reader.time_base, block.samples) for block in reader.blocks())
    second, energy, count = 0, 0.0, 0
    for first, samples in unbroken(blocks, rate):
        at, end = first, first + samples.shape[1]
        while at < end:
            if at // rate != second:
                alive()
                yield second, _loudness(energy, count)
                second, energy, count = at // rate, 0.0, 0
            until = min(end, (second + 1) * rate)
            part = _joined(samples[:, at - first : until - first])
            energy, count = energy + float((part**2).sum()), count + part.size
            at = until
    yield second, _loudness(energy, count)


def _loudness(energy: float, count: int) -> Loudness:
    return Loudness(float(np.sqrt(energy / max(1, count))), count)


def _joined(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean of every few samples, ``(channels, n)``, so that only low sounds are left."""
    kept = samples[:, : samples.shape[1] // SAMPLES_JOINED * SAMPLES_JOINED].astype(np.float64)
    joined: NDArray[np.float64] = kept.reshape(samples.shape[0], -1, SAMPLES_JOINED).mean(axis=2)
    return joined
