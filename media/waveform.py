"""Peaks of a rendition's sound: what players draw, as JSON and as a picture.

The JSON is version 2 of the *audiowaveform* data format, which peaks.js reads: ``version``, ``channels``,
``sample_rate``, ``samples_per_pixel``, ``bits`` (8), ``length``, and ``data`` as lowest and highest value of
each pixel in turn, -128 to 127. All channels are drawn as one: lowest and highest of any. Where there is no
sound, both are 0. Memory is that of the pixels, however long the sound is.

Source: github.com/bbc/audiowaveform, doc/DataFormat.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from media.decode import AudioReader, plain
from media.still import sync

PIXELS_PER_S = 50
IMAGE_WIDTH_PX, IMAGE_HEIGHT_PX = 1800, 128
INK, PAPER = 70, 255
# Blocks are looked at some at a time: a coder's are a fiftieth of a second.
RUN_BLOCKS = 64
NEAR_SAMPLES = 2
"""What rounding of times may come to within a run."""


@dataclass
class Peaks:
    """Lowest and highest sample of each pixel; a pixel is so many samples of the stream's own rate."""

    rate_hz: int
    duration: Fraction
    most: int
    """Pixels at most: a long sound gets wider ones."""
    lows: NDArray[np.float32] = field(init=False)
    highs: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        total = max(1, int(self.duration * self.rate_hz))
        self.samples_per_pixel = max(1, self.rate_hz // PIXELS_PER_S, -(-total // self.most))
        self.length = -(-total // self.samples_per_pixel)
        self.lows = np.full(self.length, np.inf, np.float32)
        self.highs = np.full(self.length, -np.inf, np.float32)

    def add(self, begin: int, samples: NDArray[np.float32]) -> None:
        """Note samples ``(channels, samples)``, the first of which is number ``begin`` from media time 0."""
        first, last = max(0, -begin), min(samples.shape[1], self.length * self.samples_per_pixel - begin)
        if first >= last:
            return
        pixels = np.arange(begin + first, begin + last) // self.samples_per_pixel
        starts = np.flatnonzero(np.r_[True, np.diff(pixels) > 0])
        chosen, heard = pixels[starts], samples[:, first:last]
        lows = np.minimum.reduceat(heard.min(axis=0), starts)
        highs = np.maximum.reduceat(heard.max(axis=0), starts)
        self.lows[chosen] = np.minimum(self.lows[chosen], lows)
        self.highs[chosen] = np.maximum(self.highs[chosen], highs)

    def levels(self) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Lowest and highest value of each pixel, 8 bits; 0 where nothing was heard."""
        lows, highs = (np.where(np.isfinite(one), one, 0) * 128 for one in (self.lows, self.highs))
        low, high = (np.clip(np.floor(one), -128, 127).astype(np.int8) for one in (lows, highs))
        return low, high


def write_waveform(
    path: Path,
    destination: Path,
    image: Path,
    *,
    duration: Fraction,
    origin: Fraction,
    most_pixels: int,
    progress: Callable[[float], None],
) -> dict[str, int]:
    """Write the peaks of a rendition's first sound, as JSON and PNG; both are on disk afterwards.

    Args:
        duration: Seconds of the rendition.
        origin: What the file's own clock says at media time 0, in seconds.
        most_pixels: As `Peaks.most`.

    Returns:
        ``sample_rate``, ``samples_per_pixel`` and ``length``.

    Raises:
        MediaError: ``no_streams``, ``not_media``.
    """
    with AudioReader(path) as reader:
        peaks = Peaks(reader.sample_rate_hz, duration, most_pixels)
        for begin, samples in _runs(reader, origin):
            peaks.add(begin, samples)
            progress(min(1.0, begin / (peaks.length * peaks.samples_per_pixel)))
    low, high = peaks.levels()
    shape = {
        "sample_rate": peaks.rate_hz, "samples_per_pixel": peaks.samples_per_pixel, "length": peaks.length
    }  # fmt: skip
    told = {
        "version": 2,
        "channels": 1,
        **shape,
        "bits": 8,
        "data": np.stack([low, high], 1).ravel().tolist(),
    }
    destination.write_text(json.dumps(told, separators=(",", ":")), encoding="ascii")
    sync(destination)
    _draw(low, high).save(image, "PNG")
    sync(image)
    return shape


def _runs(reader: AudioReader, origin: Fraction) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Blocks that follow each other without a gap, some together: number of the first sample, and samples."""
    run: list[NDArray[np.float32]] = []
    begin = end = 0
    per_tick, zero = (plain(each * reader.sample_rate_hz) for each in (reader.time_base, origin))
    for block in reader.blocks():
        at = round(block.pts * per_tick - zero)
        is_other = bool(run) and block.samples.shape[0] != run[0].shape[0]
        if run and (is_other or abs(at - end) > NEAR_SAMPLES or len(run) == RUN_BLOCKS):
            yield begin, np.concatenate(run, axis=1)
            run = []
        if not run:
            begin = end = at
        run.append(block.samples)
        end += block.samples.shape[1]
    if run:
        yield begin, np.concatenate(run, axis=1)


def _draw(low: NDArray[np.int8], high: NDArray[np.int8]) -> Image.Image:
    """The peaks over the whole length: grey, `IMAGE_WIDTH_PX` wide, time from left to right."""
    edges = np.arange(IMAGE_WIDTH_PX) * len(low) // IMAGE_WIDTH_PX
    # A sound shorter than the picture is wide repeats its pixels.
    lows = np.minimum.reduceat(low, edges).astype(int)
    highs = np.maximum.reduceat(high, edges).astype(int)
    levels = 127 - np.arange(IMAGE_HEIGHT_PX)[:, None] * 256 // IMAGE_HEIGHT_PX
    step = 256 // IMAGE_HEIGHT_PX
    is_ink = (levels >= lows - step + 1) & (levels - step < highs) & ((lows != 0) | (highs != 0))
    is_ink |= (levels < step) & (levels >= 0)
    return Image.fromarray(np.where(is_ink, np.uint8(INK), np.uint8(PAPER)))
