"""Make the renditions of a recording: one fragmented MP4 per rung, checked before anyone may see it.

All rungs come out of one FFmpeg command that decodes once. Each is written to a file of the caller's, synced
and indexed; putting it into the object store and telling the database are the worker's part. It plays while
it grows: each fragment is reported as soon as its clock is settled.

A rendition has the frames and the duration of its source. Where it does not, and the source is known
to be sound, it is refused (``rendition_differs``), upon which the worker has a copy made again as an
encoding; where the source is damaged, the difference is said in the result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from evidence.errors import MediaError
from media.errors import media_error
from media.fmp4 import FragmentIndex
from media.growing import GrowingRendition
from media.report import ProbeReport
from media.run import run_ffmpeg
from media.sandbox import Limits
from transcode.encoders import SOFTWARE, Encoder
from transcode.ladder import Rung
from transcode.plan import RenditionPlan, command

DAMAGE_FLAGS = ("truncated", "corrupt", "timestamps_jump")
# What FFmpeg says about a source that it could not read or decode in full.
DAMAGE_WORDS = ("error while decoding", "Error submitting packet to decoder", "Invalid data found", "corrupt",
                "Invalid NAL", "concealing", "Packet mismatch", "partial file")  # fmt: skip
# Failures of a copy that an encoding may not have.
TRIED_AGAIN = {"rendition_differs", "ffmpeg_failed", "fragments_unreadable"}

LIMIT = "segment_limit_s"
"""Beside an index: no segment of the rendition is longer (`RenditionPlan.segment_limit_s`)."""
Growth = Callable[[str, FragmentIndex], None]
"""Hears the name of a rung, and its index, whose bytes do not change any more."""


def growing_file(rung: str) -> str:
    """Name, in the scratch folder of its job, of a rendition that is being made."""
    return f"rendition-{rung}.mp4"


def growing_index(rung: str) -> str:
    """Name of the file beside it that says what of it is settled."""
    return f"growing-{rung}.json"


@dataclass(frozen=True)
class RunOptions:
    """How FFmpeg is run."""

    scratch: Path
    """An existing folder of this job alone."""
    limits: Limits = field(default_factory=Limits)
    ffmpeg: str | None = None
    """Another binary than the packaged one."""
    render_node: str | None = None
    """The graphics processor of VA-API and QSV, where it is not the first."""


@dataclass(frozen=True)
class RenditionResult:
    """A finished rendition."""

    rung: Rung
    path: Path
    index: FragmentIndex
    size_bytes: int
    findings: tuple[str, ...] = ()
    """How it differs from its source, and that the source is to blame; empty as a rule."""
    codec: str = ""
    """What made its picture, or its sound without one, as FFmpeg calls it."""

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
            "encoder": self.codec,
            "bitrate_bps": self.index.bitrate_bps,
            "peak_bitrate_bps": self.index.peak_bitrate_bps,
            "findings": list(self.findings),
        }


@dataclass(frozen=True)
class Encoded:
    """What one run of FFmpeg made."""

    results: tuple[RenditionResult, ...]
    refused: tuple[str, ...] = ()
    """Why a rung is not among the results, one line each; empty as a rule."""


def make_renditions(
    source: Path,
    report: ProbeReport,
    plans: Sequence[RenditionPlan],
    folder: Path,
    *,
    run: RunOptions,
    on_progress: Callable[[float], None] | None = None,
    on_growth: Growth | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Encoded:
    """Make renditions of one source in one go; each is on disk when this returns.

    Args:
        source: The original.
        report: What probing found in it.
        plans: Of `plan_renditions`; a copy is made alone.
        folder: Where they are written, under `growing_file`; nothing of them stays after a failure.
        run: How FFmpeg is run.
        on_progress: Hears 0 to 1.
        on_growth: Hears of each rung whenever it grew.
        cancelled: Asked several times a second.

    Raises:
        MediaError: ``ffmpeg_failed``, ``rendition_differs`` (each rung), ``fragments_unreadable``, a limit.
        Unavailable: ``disk_full``.
        Conflict: ``cancelled``.
    """
    told = on_growth or (lambda _name, _index: None)
    lanes = [_Lane(plan, folder / growing_file(plan.rung.name), told) for plan in plans]
    hardware = next((plan.encoder for plan in plans if plan.is_hardware), SOFTWARE)
    limits = limits_for(hardware, run.limits)
    for lane in lanes:
        lane.clear()

    def execute(some: Sequence[_Lane], **more: Any) -> str:
        def look() -> None:
            for lane in some:
                lane.look()

        words = run_ffmpeg(
            command(
                [lane.plan for lane in some],
                str(source.resolve()),
                [str(lane.path.resolve()) for lane in some],
                render_node=run.render_node,
            ),
            scratch=run.scratch,
            limits=limits,
            binary=run.ffmpeg,
            on_tick=look,
            cancelled=cancelled,
            **more,
        )
        for lane in some:
            lane.end()
        return words

    try:
        words = execute(lanes, duration=plans[0].expected_duration, on_progress=on_progress)
        behind = [lane for lane in lanes if lane.is_behind(lanes[0])]
        for lane in behind:
            lane.begin_again()
        if behind:
            words += execute(behind)
        return _judged(report, lanes, words)
    except BaseException:
        for lane in lanes:
            lane.clear()
        raise


def limits_for(encoder: Encoder, limits: Limits) -> Limits:
    """Drivers of graphics processors reserve address space beyond all measure; allocated memory counts on."""
    return replace(limits, address_space_factor=0) if encoder.is_hardware else limits


def _judged(report: ProbeReport, lanes: Sequence[_Lane], words: str) -> Encoded:
    """Each rung that is its source's equal, or whose source is to blame for the difference."""
    results, refused = [], []
    for lane in lanes:
        index = lane.index
        if index is None:
            # What an encoder wrote of one rung says nothing against the others.
            refused.append(f"{lane.plan.rung.name}: {lane.wrong}")
            lane.clear()
            continue
        findings = tuple(differences(lane.plan, index, lane.growing.stood))
        if findings and not is_damaged(report, words):
            refused += [f"{lane.plan.rung.name}: {finding}" for finding in findings]
            lane.clear()
            continue
        _sync(lane.path)
        size = lane.path.stat().st_size
        plan = lane.plan
        results.append(RenditionResult(plan.rung, lane.path, index, size, findings, plan.codec))
    if not results:
        rungs = [lane.plan.rung.name for lane in lanes]
        raise media_error("rendition_differs", "; ".join(refused), rung=",".join(rungs))
    return Encoded(tuple(results), tuple(refused))


class _Lane:
    """One rung on its way: what is shown of it, and what is written."""

    def __init__(self, plan: RenditionPlan, path: Path, told: Growth) -> None:
        self.plan = plan
        self.path = path
        self.growing = GrowingRendition(path, is_reordered=plan.is_reordered)
        self._told = told
        self.index: FragmentIndex | None = None
        """All that was written, once the encoder has ended; None where that cannot be read."""
        self.wrong = ""

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)

    def look(self) -> None:
        """Tell of what has grown."""
        if self.growing.advance() and self.growing.index is not None:
            self._told(self.plan.rung.name, self.growing.index)

    def end(self) -> None:
        """Read to its end what was written."""
        try:
            self.index = self.growing.finish()
        except MediaError as error:
            self.wrong = error.message
        else:
            self._told(self.plan.rung.name, self.index)

    def is_behind(self, smallest: _Lane) -> bool:
        """Whether pictures are missing that the smallest rung has.

        Where the pictures of a source change their size or kind, FFmpeg sets up its filters anew and drops
        those that were held back for the smallest.
        """
        if self.index is None or smallest.index is None:
            return False
        return bool(smallest.plan.head_start) and self.index.frame_count < smallest.index.frame_count

    def begin_again(self) -> None:
        """Be written once more, beside nothing that is to be waited for."""
        self.clear()
        self.plan = replace(self.plan, head_start=Fraction(0))
        self.index = None
        self.growing = GrowingRendition(self.path, is_reordered=self.plan.is_reordered)


def differences(plan: RenditionPlan, index: FragmentIndex, stood: Fraction = Fraction(0)) -> list[str]:
    """Each way in which a rendition is not what its source promised.

    Args:
        stood: By how many seconds its last picture stands longer, because its sound goes on.
    """
    found: list[str] = []
    if plan.is_piece:
        return found
    if plan.expected_frames is not None and index.frame_count != plan.expected_frames:
        found.append(f"frames: expected {plan.expected_frames}, found {index.frame_count}")
    duration = index.duration - stood
    if plan.expected_duration is not None and abs(duration - plan.expected_duration) > plan.tolerance:
        expected, actual = float(plan.expected_duration), float(duration)
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
