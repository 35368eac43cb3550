"""Make the renditions of a recording: one fragmented MP4 per rung, checked before anyone may see it.

A rendition is written to a file of the caller's, synced and indexed; putting it into the object store
and telling the database are the worker's part. It plays while it grows: `make_rendition` reports each
fragment as soon as its clock is settled.

A rendition has the frames and the duration of its source. Where it does not, and the source is known
to be sound, it is an error (``rendition_differs``), upon which the worker has a copy made again as an
encoding; where the source is damaged, the difference is said in the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.growing import GrowingRendition
from media.report import ProbeReport
from media.run import run_ffmpeg
from media.sandbox import Limits
from transcode.ladder import Rung
from transcode.plan import RenditionPlan

DAMAGE_FLAGS = ("truncated", "corrupt", "timestamps_jump")
# What FFmpeg says about a source that it could not read or decode in full.
DAMAGE_WORDS = ("error while decoding", "Error submitting packet to decoder", "Invalid data found", "corrupt",
                "Invalid NAL", "concealing", "Packet mismatch", "partial file")  # fmt: skip
# Failures of a copy that an encoding may not have.
TRIED_AGAIN = {"rendition_differs", "ffmpeg_failed", "fragments_unreadable"}


@dataclass(frozen=True)
class RunOptions:
    """How FFmpeg is run."""

    scratch: Path
    """An existing folder of this job alone."""
    limits: Limits = field(default_factory=Limits)
    ffmpeg: str | None = None
    """Another binary than the packaged one."""


@dataclass(frozen=True)
class RenditionResult:
    """A finished rendition."""

    rung: Rung
    path: Path
    index: FragmentIndex
    size_bytes: int
    findings: tuple[str, ...] = ()
    """How it differs from its source, and that the source is to blame; empty as a rule."""

    @property
    def info(self) -> dict[str, Any]:
        """Facts for the row of the derivative."""
        main = self.index.main
        return {
            "rung": self.rung.name,
            "frame_count": self.index.frame_count,
            "duration_us": int(self.index.duration * 1_000_000),
            "width_px": main.width_px,
            "height_px": main.height_px,
            "codecs": self.index.codecs,
            "bitrate_bps": self.index.bitrate_bps,
            "peak_bitrate_bps": self.index.peak_bitrate_bps,
            "findings": list(self.findings),
        }


def make_rendition(
    source: Path,
    report: ProbeReport,
    plan: RenditionPlan,
    destination: Path,
    *,
    run: RunOptions,
    on_progress: Callable[[float], None] | None = None,
    on_growth: Callable[[FragmentIndex], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> RenditionResult:
    """Make one rendition at ``destination``, which is on disk when this returns.

    Args:
        source: The original.
        report: What probing found in it.
        plan: One of `plan_renditions`.
        destination: A temporary file; whatever is there is replaced, and taken away on failure.
        run: How FFmpeg is run.
        on_progress: Hears 0 to 1.
        on_growth: Hears the index whenever it grew; those bytes do not change any more.
        cancelled: Asked several times a second.

    Raises:
        MediaError: ``ffmpeg_failed``, ``rendition_differs``, ``fragments_unreadable`` or a limit.
        Unavailable: ``disk_full``.
        Conflict: ``cancelled``.
    """
    destination.unlink(missing_ok=True)
    growing = GrowingRendition(destination)

    def look() -> None:
        if growing.advance() and on_growth is not None and growing.index is not None:
            on_growth(growing.index)

    try:
        words = run_ffmpeg(
            plan.command(str(source.resolve()), str(destination.resolve())),
            scratch=run.scratch,
            limits=run.limits,
            binary=run.ffmpeg,
            duration=plan.expected_duration,
            on_progress=on_progress,
            on_tick=look,
            cancelled=cancelled,
        )
        index = growing.finish()
        findings = tuple(differences(plan, index))
        if findings and not is_damaged(report, words):
            raise media_error("rendition_differs", "; ".join(findings), rung=plan.rung.name)
        _sync(destination)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    if on_growth is not None:
        on_growth(index)
    return RenditionResult(plan.rung, destination, index, destination.stat().st_size, findings)


def differences(plan: RenditionPlan, index: FragmentIndex) -> list[str]:
    """Each way in which a rendition is not what its source promised."""
    found = []
    if plan.expected_frames is not None and index.frame_count != plan.expected_frames:
        found.append(f"frames: expected {plan.expected_frames}, found {index.frame_count}")
    if plan.expected_duration is not None and abs(index.duration - plan.expected_duration) > plan.tolerance:
        expected, actual = float(plan.expected_duration), float(index.duration)
        found.append(f"duration_s: expected {expected:.3f}, found {actual:.3f}")
    return found


def is_damaged(report: ProbeReport, words: str = "") -> bool:
    """Whether the source, or FFmpeg's last words about it, admit to damage."""
    return any(report.has_flag(code) for code in DAMAGE_FLAGS) or any(word in words for word in DAMAGE_WORDS)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
