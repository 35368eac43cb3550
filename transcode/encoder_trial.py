"""Find out which encoder a machine has, by having each make a few seconds of pictures.

That FFmpeg lists an encoder says nothing of the processor, its driver or what it can do. So each is run as a
rung would be, in the same kind of child, and what it wrote is read: every picture, in High, with a keyframe
where one was forced and nowhere else. What fails is not used, and its reason is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from evidence.errors import EvidenceError
from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.growing import GrowingRendition
from media.run import run_ffmpeg
from transcode.encoders import HARDWARE, SOFTWARE, Encoder
from transcode.ladder import Rung
from transcode.plan import KEYFRAME_EVERY_S, trial_command
from transcode.segment import RunOptions, limits_for

AUTO = "auto"
RUNG = Rung("trial", width_px=640, height_px=360, crf=26, max_kbps=1000, preset="veryfast")
SECONDS, FPS = 5, 5
WALL_S = 30.0
"""A driver that answers later is as good as none."""
UNUSED = "has not been used for any stream"
"""FFmpeg remarks this of options for sound where there is none."""


@dataclass(frozen=True)
class Choice:
    """The encoder a machine has for what the settings want."""

    encoder: Encoder
    refused: Mapping[str, str]
    """Why those that were tried before it are not used, by name."""


def choose_encoder(wanted: str, run: RunOptions, *, cancelled: Callable[[], bool] | None = None) -> Choice:
    """The encoder that is wanted, where this machine has it; x264 where it has not.

    Args:
        wanted: As the setting ``encoding.encoder`` has it.
        run: How FFmpeg is run; the pictures of a trial are in its scratch folder for the while.
        cancelled: Asked several times a second; what is on trial then is refused.
    """
    refused: dict[str, str] = {}
    for encoder in HARDWARE:
        if wanted in {AUTO, encoder.name}:
            try:
                try_encoder(encoder, run, cancelled=cancelled)
            except EvidenceError as error:
                refused[encoder.name] = reason_of(error)
            else:
                return Choice(encoder, refused)
    return Choice(SOFTWARE, refused)


def try_encoder(encoder: Encoder, run: RunOptions, *, cancelled: Callable[[], bool] | None = None) -> None:
    """Have an encoder make a rung of drawn pictures.

    Raises:
        MediaError: ``ffmpeg_failed`` or a limit; ``rendition_differs`` with all that is not as it was told.
        Conflict: ``cancelled``.
    """
    path = run.scratch / f"trial-{encoder.name}.mp4"
    limits = replace(limits_for(encoder, run.limits), wall_s=WALL_S, stall_s=WALL_S)
    try:
        run_ffmpeg(
            trial_command(encoder, RUNG, SECONDS, str(path.resolve()), render_node=run.render_node),
            scratch=run.scratch,
            limits=limits,
            binary=run.ffmpeg,
            cancelled=cancelled,
        )
        found = findings(GrowingRendition(path).finish())
    finally:
        path.unlink(missing_ok=True)
    if found:
        raise media_error("rendition_differs", "; ".join(found))


def findings(index: FragmentIndex) -> list[str]:
    """All that a trial did otherwise than it was told."""
    found = []
    if index.frame_count != SECONDS * FPS:
        found.append(f"frames: expected {SECONDS * FPS}, found {index.frame_count}")
    if not index.codecs.startswith("avc1.64"):
        found.append(f"coding: expected avc1.64…, found {index.codecs}")
    if (index.main.width_px, index.main.height_px) != (RUNG.width_px, RUNG.height_px):
        found.append(f"size: expected 640x360, found {index.main.width_px}x{index.main.height_px}")
    starts = [float(Fraction(part.start_pts, index.timescale)) for part in index.fragments]
    forced = [float(second) for second in range(0, SECONDS, KEYFRAME_EVERY_S)]
    if starts != forced or not all(part.starts_with_keyframe for part in index.fragments):
        found.append(f"keyframes_s: expected {forced}, found {starts}")
    return found


def reason_of(error: EvidenceError) -> str:
    """One line: what FFmpeg complained of first, which is the cause of the rest."""
    lines = str(error.facts.get("stderr_tail") or "").splitlines()
    said = [line for line in lines if UNUSED not in line][:2] or [error.message]
    # Who speaks stands before it, with an address in memory.
    return "; ".join(re.sub(r"^\[[^]]*] ", "", line) for line in said)[:300]
