"""Where somebody speaks: Silero's voice activity network, and spans from its likelihoods.

The network gives, for every 32 ms of sound at 16 kHz, how likely somebody speaks, from those samples, the
last 4 ms before them, and what it remembers. It knows no words and no speakers. Whispering, speech below
loud music and a voice far away can be missed: nothing here says that what is outside all spans is silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evidence.errors import InvalidInput
from redaction.detectors.network import open_session
from redaction.models import load_model

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 512
CONTEXT_SAMPLES = 64
FRAMES_AT_ONCE = 512
MEMORY = (1, 1, 128)


@dataclass(frozen=True)
class SpeechParameters:
    """How likelihoods become spans; whole numbers, because they are part of the plan."""

    speech_permille: int = 400
    """From this likelihood on somebody speaks."""
    speech_end_permille: int = 250
    """Speech goes on down to this."""
    speech_gap_us: int = 600_000
    """Two spans no further apart than this are one."""
    speech_pad_us: int = 250_000
    """How much earlier a span begins, and how much later it ends."""


class Silero:
    """A `redaction.listen.SpeechDetector`.

    Args:
        models_dir: Where `redaction.models.install_model` put the weights.
        parameters: How likelihoods become spans.
        intra_op_threads: Threads that one call uses.
    """

    family = "speech"
    finds = "voice"

    def __init__(
        self, models_dir: Path, parameters: SpeechParameters | None = None, *, intra_op_threads: int = 1
    ) -> None:
        weights = load_model(models_dir, self.family)
        self.model_digest = weights.sha256
        self._parameters = parameters or SpeechParameters()
        self._session = open_session(weights.content, self.family, intra_op_threads)

    def listen(self, blocks: Iterable[NDArray[np.float32]]) -> list[tuple[int, int]]:
        """Find speech in one stream of sound.

        Args:
            blocks: The sound in order, 16 kHz mono, ``(n,)``, float32, -1 to 1, in blocks of any length.

        Returns:
            Spans in samples from the first, half-open, ascending, apart from one another.

        Raises:
            InvalidInput: A block has another shape or type.
        """
        likely: list[NDArray[np.float32]] = []
        count = 0
        memory, cell = np.zeros(MEMORY, np.float32), np.zeros(MEMORY, np.float32)
        context = np.zeros(CONTEXT_SAMPLES, np.float32)
        for samples in _in_frames(blocks):
            count += len(samples)
            frames = np.zeros((-(-len(samples) // FRAME_SAMPLES), FRAME_SAMPLES), np.float32)
            frames.reshape(-1)[: len(samples)] = samples
            before = np.concatenate([context[None], frames[:-1, -CONTEXT_SAMPLES:]])
            context = frames[-1, -CONTEXT_SAMPLES:]
            seen = np.concatenate([before, frames], axis=1)
            answer, memory, cell = self._session.run(None, {"input": seen, "h": memory, "c": cell})
            likely.append(answer)
        if not likely:
            return []
        return spans_of(np.concatenate(likely), count, self._parameters)


def _in_frames(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same sound in blocks of whole frames; only the last may end within one."""
    whole = FRAME_SAMPLES * FRAMES_AT_ONCE
    waiting: list[NDArray[np.float32]] = []
    length = 0
    for block in blocks:
        if block.ndim != 1 or block.dtype != np.float32:
            raise InvalidInput(f"sound: expected float32 of (n,), found {block.dtype} of {block.shape}")
        waiting.append(block)
        length += len(block)
        while length >= whole:
            together = np.concatenate(waiting)
            yield together[:whole]
            waiting, length = [together[whole:]], length - whole
    if length:
        yield np.concatenate(waiting)


def spans_of(
    likely: NDArray[np.float32], sample_count: int, parameters: SpeechParameters
) -> list[tuple[int, int]]:
    """Spans of samples, half-open, from the likelihood of each frame."""
    start, end = parameters.speech_permille / 1000, parameters.speech_end_permille / 1000
    pad = parameters.speech_pad_us * SAMPLE_RATE_HZ // 1_000_000
    gap = parameters.speech_gap_us * SAMPLE_RATE_HZ // 1_000_000
    spans: list[tuple[int, int]] = []
    speaking = False
    for index, value in enumerate(likely.tolist()):
        speaking = value >= (end if speaking else start)
        if not speaking:
            continue
        low, high = index * FRAME_SAMPLES, (index + 1) * FRAME_SAMPLES
        if spans and low - spans[-1][1] <= gap:
            spans[-1] = (spans[-1][0], high)
        else:
            spans.append((low, high))
    joined: list[tuple[int, int]] = []
    for low, high in ((max(0, low - pad), min(sample_count, high + pad)) for low, high in spans):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined
